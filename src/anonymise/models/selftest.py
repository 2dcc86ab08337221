"""What a network must find before it is trusted with images: a car and a person in a small drawn picture.

Checksums tell that weights are those that were fetched. This tells that they, the entry in the catalog and the runtime
work together: a network that finds nothing would publish everybody, and the run would look like any other.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from anonymise.core.classes import label_of
from anonymise.core.detections import RgbImage, Size
from anonymise.core.errors import ModelError
from anonymise.models.catalog import DetectorModel
from anonymise.models.detector import Run
from anonymise.models.fitting import fit_of, fitted
from anonymise.models.network import Found, Network

__all__ = ["BOXES", "MIN_SCORE", "PICTURE", "check", "check_numbers", "check_saved_model"]

PICTURE = Path(__file__).with_name("selftest.jpg")
"""``samples.scene.draw_scene(7, Size(240, 240), cars=1, people=1)``"""

BOXES = {"car": (126, 18, 149, 88), "person": (122, 220, 162, 234)}
"""Where they are in the picture: [top, left, bottom, right] in pixels."""

MIN_SCORE = 0.3
"""Half of what Nano and Lite give on either runtime (0.65 to 0.90)."""

_MIN_IOU = 0.5


def check(
    network: Callable[[Iterable[RgbImage]], Iterator[tuple[Found, ...]]], known: Sequence[str], folder: Path
) -> None:
    """Shows the picture to a network.

    Args:
        network: finds the classes of ``known`` from a score of `MIN_SCORE` on.
        known: names of the classes that it is known to find in the picture: car, person, or both.
        folder: folder of the model, for the message.

    Raises:
        ModelError: it does not find them where they are.
    """
    picture = _picture()
    height, width = picture.shape[:2]
    looks = next(network([picture]))
    missing = [
        name
        for name in known
        if not any(
            _overlap(box * (height, width, height, width), np.array(BOXES[name])) >= _MIN_IOU
            for found in looks
            for box in found.boxes[(found.labels == label_of(name)) & (found.scores >= MIN_SCORE)]
        )
    ]
    if missing:
        raise ModelError(
            f"The model in {folder} does not find the {' and the '.join(missing)} in a picture in which it is known to "
            "find them, so it would miss them in images: its files, its entry in the catalog or its runtime are not as "
            "they should be. Ways on: fetch it again, choose another runtime (key runtime), or choose another model."
        )


def check_numbers(run: Run, model: DetectorModel, folder: Path) -> None:
    """Shows the picture to a detector, and looks at what its network gives before thresholds drop what is no number.

    Args:
        run: the network.
        model: its entry in the catalog.
        folder: folder of the model, for the message.

    Raises:
        ModelError: an output has numbers that are NaN or infinite.
    """
    picture = _picture()
    fit = fit_of(Size(picture.shape[1], picture.shape[0]), model.input, 1.0)
    _check_finite(next(iter(run(iter([fitted(picture, fit, model.input.padding)])))), folder)


def check_saved_model(network: Network, folder: Path) -> None:
    """Shows the picture to a SavedModel, of which nobody knows what it finds there.

    Raises:
        ModelError: its outputs do not fit together, or have numbers that are NaN or infinite.
    """
    try:
        looks = next(iter(network([_picture()])))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ModelError(f"The outputs of the model in {folder} do not fit together: {error}") from error
    for found in looks:
        _check_finite([found.boxes, found.scores, *([] if found.masks is None else [found.masks])], folder)


def _check_finite(arrays: Iterable[NDArray[np.floating]], folder: Path) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise ModelError(
            f"The model in {folder} gives numbers that are none (NaN or infinite), so it would miss what it should "
            "find: its files are damaged, or its runtime is. Ways on: fetch it again, choose another runtime (key "
            "runtime), or choose another model."
        )


def _picture() -> RgbImage:
    bgr = cv2.imdecode(np.frombuffer(PICTURE.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    picture: RgbImage = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return picture


def _overlap(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Intersection over union of two boxes [top, left, bottom, right]."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    return common / float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - common)
