"""Networks with the signature of TensorFlow's Object Detection API, whatever runs them."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anonymise.core.detections import RgbImage
from anonymise.core.errors import ModelError
from anonymise.models.network import Found

__all__ = ["InstanceNetwork", "check_signature"]

_REQUIRED = frozenset({"detection_boxes", "detection_scores", "detection_classes", "num_detections"})


class InstanceNetwork:
    """A model of the Object Detection API, with or without masks, one image at a time.

    Args:
        run: uint8 (1, height, width, 3) → the outputs by name: ``detection_boxes`` [ymin, xmin, ymax, xmax] in 0–1,
            ``detection_scores``, ``detection_classes``, ``num_detections``, and for instance models
            ``detection_masks`` (1, detections, mask height, mask width), probabilities relative to the box.
    """

    def __init__(self, run: Callable[[NDArray[np.uint8]], Mapping[str, NDArray[Any]]]) -> None:
        self._run = run

    def __call__(self, images: Iterable[RgbImage]) -> Iterator[tuple[Found, ...]]:
        """What is in each of the images."""
        return ((self._one(image),) for image in images)

    def _one(self, image: RgbImage) -> Found:
        raw = self._run(image[np.newaxis])
        n = int(raw["num_detections"][0])
        masks = raw.get("detection_masks")
        return Found(
            boxes=raw["detection_boxes"][0, :n],
            scores=raw["detection_scores"][0, :n],
            labels=raw["detection_classes"][0, :n].astype(np.int64),
            masks=None if masks is None else masks[0, :n],
        )


def check_signature(folder: Path, inputs: Collection[str], outputs: Collection[str]) -> None:
    """Makes sure that a SavedModel can be run as an `InstanceNetwork`.

    Raises:
        ModelError: it takes more than one input, or lacks an output.
    """
    if len(inputs) != 1 or not set(outputs) >= _REQUIRED:
        raise ModelError(
            f"The SavedModel {folder} does not have the Object Detection API's signature: it takes {sorted(inputs)} "
            f"and gives {sorted(outputs)}; needed are one image batch and {sorted(_REQUIRED)}."
        )
