"""What windows and perspective views find in 360° images: ``python -m benchmarks.panorama [--shared FOLDER]``.

Street pictures with per-pixel labels make three sets of equirectangular images of 8192×4096 pixels:

- mosaic: ``images/pano`` of the shared pictures, frames side by side without projection, cut by the seam;
- horizon: six frames around the horizon as a camera with a field of view of 60° would have taken them;
- nadir: one such frame straight below.

Without the shared pictures, drawn scenes take the place of the frames, and the boxes of their objects that of labels;
there is no mosaic then. Printed is the share of the pixels of each class that the masks cover (recall), the share of
the background that they cover as well (over-blur), and seconds an image without reading and drawing.
"""

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from anonymise import config
from anonymise.core.detections import Detections, Instance, RgbImage, Size
from anonymise.core.wraparound import grown_around, split_at_seam
from anonymise.detection.merging import MergeOptions
from anonymise.detection.tiles import WindowOptions, windows
from anonymise.detection.views import ViewOptions, detect_around, views
from anonymise.models import Masker, load_masker
from benchmarks.shared import SHARED
from samples.scene import BICYCLE, PERSON, draw_scene

_SIZE = Size(8192, 4096)
_FRAME = Size(480, 360)
_FOV = math.radians(60)
_CLASSES = {8: "car", 9: "pedestrian", 10: "bicyclist"}
_BACKGROUND = 3
_MARGIN = 1

Labels = NDArray[np.uint8]
"""8 car, 9 pedestrian, 10 bicyclist, 11 not known, everything below 8 is background: uint8 (height, width)."""


class Picture(NamedTuple):
    """An image and what is in it."""

    image: RgbImage
    labels: Labels


class Method(NamedTuple):
    """A row of the table."""

    name: str
    windows: WindowOptions
    views: ViewOptions


def methods() -> Iterator[Method]:
    """What is compared: windows in one to three scales, and views with one to three fields of view."""
    scales = ((4096 / 1536, 4.0), (4096 / 768, 8.0), (4096 / 439, 14.0))
    for n in (1, 2, 3):
        yield Method(f"windows, {n} scales", _window_options(scales[:n]), _view_options(()))
    for fov in ((90.0,), (60.0, 40.0), (90.0, 55.0, 32.0)):
        yield Method(f"views, {', '.join(f'{f:.0f}°' for f in fov)}", _window_options(()), _view_options(fov))


def _window_options(scales: Sequence[tuple[float, float]]) -> WindowOptions:
    return WindowOptions.model_validate(
        {
            "use_cutouts": bool(scales),
            "cutout_dim_downscale": scales or ((1.0, 1.0),),
            "cutout_step_factor": (800, 800),
            "cutout_overlap": 0.25,
            "cutout_band": None,
            "enlarged_regions_n": 1,
            "mirror_image": False,
        }
    )


def _view_options(fov: tuple[float, ...]) -> ViewOptions:
    return ViewOptions(view_fov=fov, view_overlap=0.2, view_side=300)


def _frames(shared: Path) -> list[Picture]:
    """Street pictures of 480×360 pixels."""
    files = sorted(shared.glob("images/street/images/*"))
    if not files:
        return [_drawn(seed) for seed in range(14)]
    labels = {file.stem.removesuffix("_labels"): file for file in shared.glob("images/street/labels/*.png")}
    return [Picture(_read(file), _read_labels(labels[file.stem])) for file in files]


def _drawn(seed: int) -> Picture:
    scene = draw_scene(seed, _FRAME, cars=3, people=3, cyclists=1)
    labels = np.full((_FRAME.height, _FRAME.width), _BACKGROUND, np.uint8)
    for drawn in scene.objects:
        labels[drawn.box.slices] = {PERSON: 9, BICYCLE: 10}.get(drawn.label, 8)
    return Picture(scene.image, labels)


def _read(file: Path) -> RgbImage:
    image: RgbImage = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
    return image


def _read_labels(file: Path) -> Labels:
    labels = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    if labels is None:
        raise SystemExit(f"{file} cannot be read")
    return np.asarray(labels, np.uint8)


def _sphere(frames: Sequence[Picture], directions: Sequence[tuple[float, float]]) -> Picture:
    """An equirectangular image with a frame in each direction (yaw, pitch), in radians, and sky and ground between."""
    image = np.empty((_SIZE.height, _SIZE.width, 3), np.uint8)
    image[: _SIZE.height // 2], image[_SIZE.height // 2 :] = (120, 150, 180), (90, 90, 90)
    labels = np.full((_SIZE.height, _SIZE.width), _BACKGROUND, np.uint8)
    longitude = ((np.arange(_SIZE.width, dtype=np.float32) + 0.5) / _SIZE.width - 0.5) * 2 * math.pi
    latitude = (0.5 - (np.arange(_SIZE.height, dtype=np.float32) + 0.5) / _SIZE.height) * math.pi
    scale = _FRAME.width / 2 / math.tan(_FOV / 2)
    for frame, (yaw, pitch) in zip(frames, directions, strict=True):
        sin, cos = math.sin(pitch), math.cos(pitch)
        for rows in np.array_split(np.arange(_SIZE.height), 16):
            up, level = np.sin(latitude[rows, np.newaxis]), np.cos(latitude[rows, np.newaxis])
            forward = level * np.cos(longitude - yaw)
            ahead = forward * cos + up * sin
            with np.errstate(divide="ignore", invalid="ignore"):
                x = level * np.sin(longitude - yaw) / ahead * scale + _FRAME.width / 2 - 0.5
                y = (forward * sin - up * cos) / ahead * scale + _FRAME.height / 2 - 0.5
            inside = (ahead > 0) & (abs(x - _FRAME.width / 2) < _FRAME.width / 2)
            inside &= abs(y - _FRAME.height / 2) < _FRAME.height / 2
            part = slice(rows[0], rows[-1] + 1)
            at = np.where(inside, x, 0).astype(np.float32), np.where(inside, y, 0).astype(np.float32)
            colours = cv2.remap(frame.image, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            classes = cv2.remap(frame.labels, *at, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
            image[part][inside], labels[part][inside] = colours[inside], classes[inside]
    return Picture(image, labels)


def _sets(shared: Path) -> Iterator[tuple[str, Iterator[Picture]]]:
    """The name of each set, and its pictures, made one at a time."""
    mosaics = sorted(shared.glob("images/pano/*.jpg"))
    if mosaics:
        labels = [file.with_name(f"{file.stem}_labels.png") for file in mosaics]
        yield "mosaic", (Picture(_read(a), _read_labels(b)) for a, b in zip(mosaics, labels, strict=True))
    frames = _frames(shared)
    around = [(math.radians(180 + 60 * n), math.radians(-5)) for n in range(6)]
    every = max(1, len(frames) // 14)
    yield "horizon", (_sphere(frames[start : start + 6 * every : every], around) for start in range(0, 4, 2))
    yield "nadir", (_sphere([frame], [(0.3, -math.pi / 2)]) for frame in frames[:: 2 * every])


def _with_margin(instance: Instance, size: Size) -> Instance:
    return instance.dilated(_MARGIN, size)


def _score(
    pictures: Iterator[Picture], masker: Masker, chosen: Sequence[Method], merging: MergeOptions
) -> Iterator[str]:
    """A line for each method."""
    covered = np.zeros((len(chosen), 12), np.int64)
    total = np.zeros(12, np.int64)
    seconds = np.zeros(len(chosen))
    n = 0
    for picture in pictures:
        n += 1
        total += np.bincount(picture.labels.ravel(), minlength=12)
        for row, method in enumerate(chosen):
            started = time.perf_counter()
            found = detect_around(picture.image, masker.detect, method.windows, method.views, merging)
            seconds[row] += time.perf_counter() - started
            grown = [grown_around(instance, _with_margin, _SIZE) for instance in found]
            hidden = Detections(_SIZE, split_at_seam(grown, _SIZE.width)).union()
            covered[row] += np.bincount(picture.labels[hidden], minlength=12)
    for row, method in enumerate(chosen):
        recall = "".join(
            f"{covered[row, number] / total[number]:>12.3f}" if total[number] else f"{'-':>12}" for number in _CLASSES
        )
        over_blur = covered[row, :8].sum() / total[:8].sum()
        n_looks = len(windows(_SIZE, method.windows, wraps=True)) + sum(
            len(views(math.radians(fov), method.views.view_overlap)) for fov in method.views.view_fov
        )
        yield f"{method.name:22}{recall}{over_blur:>12.3f}{n_looks:>8}{seconds[row] / n:>8.2f}"


def main() -> None:
    """Prints a table for each set."""
    parser = argparse.ArgumentParser(description="Compares windows and perspective views on 360° images.")
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder with the shared pictures")
    parser.add_argument("--runtime", choices=("auto", "tensorflow", "openvino"), default="auto")
    arguments = parser.parse_args()
    options = config.load([Path("360_lite_config.yml")], [f"runtime={arguments.runtime}"])
    masker = load_masker(options.model, progress=False)
    chosen = list(methods())
    for name, pictures in _sets(arguments.shared):
        titles = "".join(f"{title:>12}" for title in (*_CLASSES.values(), "over-blur"))
        print(f"{name:22}{titles}{'looks':>8}{'s':>8}")
        for line in _score(pictures, masker, chosen, options.merging):
            print(line)
        print()


if __name__ == "__main__":
    main()
