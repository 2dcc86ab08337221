"""Thresholds of candidates for ``config/lite_config.yml``, chosen on half of annotated frames, reported on the other.

    python -m benchmarks.tuning [NAME ...] [--tiles N] [--at PERSON VEHICLE] [--swap] [--shared FOLDER]

The frames are those of the shared measuring pictures (``images/street``, ANONYMISE_SHARED). They come from three
drives, partly a third of a second apart, so the halves are made of whole stretches of road: neighbours look alike. For
each candidate the thresholds of people and vehicles are the highest, by their sum and in steps of 0.02, with which the
wanted recall is reached on the tuning half; if none does, those that come closest. (Those that hide the least
background there are lower: what rare large false alarms would hide on other roads, few frames do not show.) With
``--tiles 2`` two by two frames are put together, as one image in which everything is smaller.
"""

import argparse
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anonymise import config, images
from anonymise.config import Config
from anonymise.core.detections import Mask, RgbImage
from anonymise.detection.processor import ImageProcessor
from anonymise.evaluation.finders import Memory
from anonymise.models import load_masker
from benchmarks.shared import SHARED

_TUNING_HALF = (
    ("0001TP", "0001TP_999999"),
    ("0016E5_00600", "0016E5_02400"),
    ("0016E5_04620", "0016E5_05820"),
    ("0016E5_07959", "0016E5_08049"),
)
"""First and last name of each stretch."""

_BACKGROUND_BELOW = 8
_CLASSES = {"car": 8, "pedestrian": 9, "bicyclist": 10}
_WANTED = np.array([0.985, 0.955, 0.98])
_MAX_OVER_BLUR = 0.055
_STEPS = tuple(round(0.02 * n, 2) for n in range(6, 21))
_NEVER = 2.0
_ROUNDS = 3
_MAX_PIXELS = 10_000_000

_WINDOWS = ("use_cutouts=True", "cutout_overlap=0.25")
_LITE = ("model_type=Lite", "outline=box")
_CANDIDATES: dict[str, tuple[str, ...]] = {
    "Lite, 3 scales": (*_LITE, *_WINDOWS, "cutout_dim_downscale=[[1.75, 1.75], [2.5, 2.5]]"),
    "Lite, 3 scales, rounded": ("model_type=Lite", *_WINDOWS, "cutout_dim_downscale=[[1.75, 1.75], [2.5, 2.5]]"),
    "Nano 1": ("input_scales=[1]",),
    "Nano 1.5": ("input_scales=[1.5]",),
    "Nano 1, windows": ("input_scales=[1]", *_WINDOWS, "cutout_dim_downscale=[1.75, 1.75]"),
    "Nano 1, 1.3": ("input_scales=[1, 1.3]",),
    "Nano 1, 1.5": ("input_scales=[1, 1.5]",),
    "Nano 1, 1.4": ("input_scales=[1, 1.4]",),
    "Nano 1, 1.5, boxes": ("input_scales=[1, 1.5]", "outline=box"),
    "Nano 1, 1.5, exponent 4": ("input_scales=[1, 1.5]", "outline_exponent=4.0"),
    "Nano 1, 1.5, no margin": ("input_scales=[1, 1.5]", "mask_dilation_pixels=0"),
    "Nano 1, 1.5, margin 2": ("input_scales=[1, 1.5]", "mask_dilation_pixels=2"),
    "Nano 1, 1.5, nms": ("input_scales=[1, 1.5]", "merging_method=nms"),
    "Nano 1, 1.5, wbf": ("input_scales=[1, 1.5]", "merging_method=wbf"),
    "Nano 1, 1.5, mirrored": ("input_scales=[1, 1.5]", "mirror_image=True"),
    "Lite, Nano 1.5": ("model_type=[Lite, Nano]", "input_scales=[1.5]"),
}
"""Name → changes to ``config/lite_config.yml``."""

_REFERENCE = "Lite, 3 scales"
"""Times are given as shares of its time."""

_CANDIDATES_FOR_TILES: dict[str, tuple[str, ...]] = {
    "Lite, 3 scales": _CANDIDATES["Lite, 3 scales"],
    "Nano 1, windows": _CANDIDATES["Nano 1, windows"],
    **{
        f"Nano {scales}": (f"input_scales=[{scales}]",)
        for scales in ("1, 1.5", "1, 2.2", "1, 3", "1.5, 3", "1, 1.5, 3")
    },
}
"""The same for larger images."""


class Frame(NamedTuple):
    """An image and the number of the class of each of its pixels; whether it is of the tuning half."""

    image: RgbImage
    labels: NDArray[np.uint8]
    is_tuned_on: bool


def main() -> None:
    """Prints a line for each candidate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    named = {**_CANDIDATES, **_CANDIDATES_FOR_TILES}
    parser.add_argument("names", nargs="*", choices=[[], *named], metavar="NAME", help="; ".join(named))
    parser.add_argument("--tiles", type=int, default=1, help="put so many frames together in each direction")
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder with the shared pictures")
    parser.add_argument(
        "--at", type=float, nargs=2, choices=_STEPS, metavar=("PERSON", "VEHICLE"), help="these thresholds"
    )
    parser.add_argument("--swap", action="store_true", help="tune on the other half")
    arguments = parser.parse_args()
    frames = list(_tiled(_frames(arguments.shared, swap=arguments.swap), arguments.tiles))
    if not frames:
        print(f"There are no measuring pictures in {arguments.shared / 'images' / 'street'} (--shared): nothing to do.")
        return
    print(f"{sum(frame.is_tuned_on for frame in frames)} images to tune on, {len(frames)} in all")
    print("covered: car, pedestrian, bicyclist; over-blur. * reaches what is wanted")
    print(f"{'':26}{'ms':>6}{'time':>6}  person vehicle  {'tuning half':28}{'other half':28}all")
    names = arguments.names or list(_CANDIDATES if arguments.tiles == 1 else _CANDIDATES_FOR_TILES)
    settings = {
        name: config.load([Path("lite_config.yml")], named[name]) for name in dict.fromkeys((_REFERENCE, *names))
    }
    seconds = _seconds(settings, frames)
    for name in settings:
        shares = _shares_by_threshold(settings[name], frames)
        person, vehicle = map(_STEPS.index, arguments.at) if arguments.at else _best(shares)
        halves = "".join(f"{_text(half):28}" for half in shares[person, vehicle])
        print(
            f"{name:26}{seconds[name] * 1000:>6.1f}{seconds[name] / seconds[_REFERENCE]:>6.2f}"
            f"{_STEPS[person]:>8}{_STEPS[vehicle]:>8}  {halves}".rstrip(),
            flush=True,
        )


def _best(shares: NDArray[np.float64]) -> tuple[int, int]:
    """Where in the shares by threshold the thresholds are that the tuning half suggests."""
    tuned = shares[:, :, 0]
    short = np.maximum(0, _WANTED - tuned[..., :3]).sum(axis=2)
    sums = np.add.outer(_STEPS, _STEPS).round(2)
    # What is missed counts first.
    order = np.lexsort((tuned[..., 3].ravel(), -sums.ravel(), short.ravel()))
    person, vehicle = divmod(int(order[0]), len(_STEPS))
    return person, vehicle


def _text(shares: NDArray[np.float64]) -> str:
    reached = (shares[:3] >= _WANTED).all() and shares[3] <= _MAX_OVER_BLUR
    return " ".join(f"{share:.3f}" for share in shares) + (" *" if reached else "")


def _frames(shared: Path, *, swap: bool) -> Iterator[Frame]:
    for file in sorted((shared / "images" / "street" / "images").glob("*.jpg")):
        (labels,) = (shared / "images" / "street" / "labels").glob(f"{file.stem}*.png")
        yield Frame(
            _pixels(file),
            _pixels(labels)[..., 0],
            any(first <= file.stem <= last for first, last in _TUNING_HALF) is not swap,
        )


def _pixels(file: Path) -> RgbImage:
    return images.decode(file.read_bytes(), max_pixels=_MAX_PIXELS).pixels


def _tiled(frames: Iterator[Frame], n: int) -> Iterator[Frame]:
    """Frames of one half put together, n in each direction; those that are left over stay away."""
    every = list(frames)
    for half in (True, False):
        own = [frame for frame in every if frame.is_tuned_on is half]
        for first in range(0, len(own) - n * n + 1, n * n):
            rows = [own[first + n * row : first + n * (row + 1)] for row in range(n)]
            yield Frame(
                np.vstack([np.hstack([frame.image for frame in row]) for row in rows]),
                np.vstack([np.hstack([frame.labels for frame in row]) for row in rows]),
                half,
            )


def _seconds(settings: Mapping[str, Config], frames: Sequence[Frame]) -> dict[str, float]:
    """Of each candidate for an image. They take turns, as computers are faster at one time than at another."""
    processors = {
        name: ImageProcessor(load_masker(one.model, progress=False), one.detection) for name, one in settings.items()
    }
    best = dict.fromkeys(settings, float("inf"))
    for _ in range(_ROUNDS):
        for name, processor in processors.items():
            started = time.perf_counter()
            for frame in frames:
                processor.detect(frame.image)
            best[name] = min(best[name], (time.perf_counter() - started) / len(frames))
    return best


def _shares_by_threshold(settings: Config, frames: Sequence[Frame]) -> NDArray[np.float64]:
    """(thresholds of people, thresholds of vehicles, halves, 4): covered shares of the classes, and over-blur.

    The halves are the tuning half, the other one, and all frames.
    """
    masker = load_masker(settings.model.model_copy(update={"score_threshold": _STEPS[0]}), progress=False)
    n = len(_STEPS)
    covered, total = np.zeros((n, n, 2, 12), np.int64), np.zeros((2, 12), np.int64)
    for frame in frames:
        half = 0 if frame.is_tuned_on else 1
        total[half] += np.bincount(frame.labels.ravel(), minlength=12)
        memory = Memory(masker, takes_pictures=settings.windows.mirror_image)

        def hidden(thresholds: dict[str, float], image: RgbImage = frame.image, memory: Memory = memory) -> Mask:
            options = settings.model.model_copy(update={"score_threshold": thresholds})
            memory.options = options
            return ImageProcessor(memory, replace(settings, model=options).detection).detect(image).union()

        # Whatever joins people and vehicles hides both in full, so each can be looked at alone.
        people = [hidden({"default": _NEVER, "person": threshold}) for threshold in _STEPS]
        vehicles = [hidden({"default": threshold, "person": _NEVER}) for threshold in _STEPS]
        for person, vehicle in itertools.product(range(n), repeat=2):
            both = people[person] | vehicles[vehicle]
            covered[person, vehicle, half] += np.bincount(frame.labels[both], minlength=12)
    return np.stack([_shares(covered, total, halves) for halves in ([0], [1], [0, 1])], axis=2)


def _shares(covered: NDArray[np.int64], total: NDArray[np.int64], halves: list[int]) -> NDArray[np.float64]:
    hidden, there = covered[:, :, halves].sum(axis=2), total[halves].sum(axis=0)
    numbers = list(_CLASSES.values())
    over_blur = hidden[..., :_BACKGROUND_BELOW].sum(axis=-1) / there[:_BACKGROUND_BELOW].sum()
    return np.concatenate([hidden[..., numbers] / there[numbers], over_blur[..., np.newaxis]], axis=-1)


if __name__ == "__main__":
    main()
