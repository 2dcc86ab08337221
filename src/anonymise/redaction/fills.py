"""What an object is replaced with, and why that cannot be undone.

Blur and mosaic do not filter the picture, as a filter of known kernel has an inverse. They measure and redraw:

1. The object is divided into at most `MAX_CELLS` × `MAX_CELLS` cells, and the mean of the object's own pixels is taken
   of each. Nothing finer, nothing of the surroundings and nothing of a neighbour goes any further.
2. The cells' pattern is scaled to a fixed contrast, drowned in noise at the fixed ratio `NOISE_RATIO`, and quantised.
   By the capacity of a Gaussian channel a cell then tells at most ½·log2(1 + 1 / `NOISE_RATIO`²) = 0.04 bits.
3. The cells are drawn as blocks, or as a smooth surface through them that looks like a blur.

``docs/appearance.md`` gives the reasons for the numbers and what an attacker gets in measurements.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from anonymise.core.detections import Box, Mask, RgbImage, Size
from anonymise.core.wraparound import Frame
from anonymise.redaction.appearance import Appearance, Kind
from anonymise.redaction.regions import Region, any_within

__all__ = ["MAX_CELLS", "MIN_CELL_PX", "NOISE_RATIO", "Scene", "cells_across", "fill"]

MAX_CELLS = 3
"""Cells along the longest side of an object."""

MIN_CELL_PX = 3.0
"""Smallest side of a cell, for the smallest objects."""

NOISE_RATIO = 4.0
"""Standard deviation of the noise over that of the pattern of an object's cells."""

_CONTRAST = 10.0
"""Standard deviation of a drawn pattern, in grey levels."""

_PATTERN_STEP = 0.5
"""Quantisation of the pattern, in its standard deviations."""

_LEVEL_STEP = 64.0
"""Quantisation of an object's mean brightness, in grey levels: dark, medium, bright."""

_SATURATION_STEP = 32.0
_HUE_STEP = math.pi / 4
"""Quantisation of an object's mean colour, in levels and radians."""

_MIN_DEVIATION = 4.0
"""Grey levels; a pattern weaker than this is not amplified, so that an even surface stays even but for the noise."""

_SPARSE = 0.25
"""A cell's mean is drawn towards the object's as if this share of the cell had it: a few pixels do not show alone."""

_LUMA = np.array([0.299, 0.587, 0.114])
"""ITU-R BT.601."""

_NEUTRAL_LEVEL = 128.0

_SEED_SAMPLES = 128
"""The seed hashes at most this many rows and columns of an object."""

_INPAINT_SIDE = 48
"""Inpainting works on at most this many pixels a side: its cost grows with area times radius squared."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What the fills may look at.

    Attributes:
        image: uint8 (height, width, 3), the original.
        hidden: bool (height, width), all pixels of all objects.
        frame: frame of the image.
    """

    image: RgbImage
    hidden: Mask
    frame: Frame


def fill(region: Region, scene: Scene) -> RgbImage:
    """What replaces an object: uint8 (box.height, box.width, 3), defined in the whole box of the region."""
    return _FILLS[region.appearance.kind](region, scene)


def cells_across(box: Box, blur: int | None, image_width: int) -> tuple[int, int]:
    """Number of cells along the width and the height of an object.

    The side of a cell is the largest of: the longest side / `MAX_CELLS`; `MIN_CELL_PX`; and for ``blur`` n the width of
    the box filter with the standard deviation of the Gaussian kernel that n/1000 of the image width stands for. A box
    filter of width w has σ = w / √12; OpenCV gives a kernel of k pixels σ = 0.3·((k − 1)/2 − 1) + 0.8
    (documentation of getGaussianKernel).
    """
    side = max(max(box.width, box.height) / MAX_CELLS, MIN_CELL_PX)
    if blur is not None:
        sigma = 0.3 * ((blur / 1000 * image_width - 1) / 2 - 1) + 0.8
        side = max(side, sigma * math.sqrt(12))
    # The tolerance keeps 3 cells across 3·side where the division is not exact.
    across, down = (min(MAX_CELLS, max(1, int(length / side + 1e-9))) for length in (box.width, box.height))
    return across, down


@dataclass(frozen=True, slots=True)
class _Cells:
    """Averages of an object.

    Attributes:
        rows, columns: edges of the cells in pixels of the box, one more than there are cells.
        pattern: float (down, across), brightness of the cells around ``mean``, in grey levels.
        weights: float (down, across), share of the object's pixels in each cell.
        mean: RGB of the whole object.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    pattern: NDArray[np.float64]
    weights: NDArray[np.float64]
    mean: NDArray[np.float64]


def _measure(pixels: RgbImage, mask: Mask, across: int, down: int) -> _Cells:
    height, width = mask.shape
    rows = np.round(np.linspace(0, height, down + 1)).astype(np.intp)
    columns = np.round(np.linspace(0, width, across + 1)).astype(np.intp)
    inside = np.ascontiguousarray(mask).view(np.uint8)
    means = np.zeros((down, across, 3))
    counts = np.zeros((down, across))
    for j in range(down):
        for i in range(across):
            cell = slice(rows[j], rows[j + 1]), slice(columns[i], columns[i + 1])
            counts[j, i] = cv2.countNonZero(inside[cell])
            means[j, i] = cv2.mean(pixels[cell], inside[cell])[:3]
    weights = counts / counts.sum()
    mean = np.tensordot(weights, means, axes=2)
    areas = np.outer(np.diff(rows), np.diff(columns))
    pattern = (means @ _LUMA - mean @ _LUMA) * counts / (counts + _SPARSE * areas)
    return _Cells(rows, columns, pattern, weights, mean)


def _noise(region: Region, pixels: RgbImage) -> np.random.Generator:
    """Noise that is the same for the same object, and that nobody can repeat who has not got its pixels."""
    step = max(1, math.ceil(region.span / _SEED_SAMPLES))
    box = region.box
    sample = pixels[::step, ::step] * region.mask[::step, ::step, np.newaxis]
    digest = hashlib.blake2b(sample.tobytes(), digest_size=16)
    digest.update(repr((box.left, box.top, box.right, box.bottom)).encode())
    return np.random.default_rng(int.from_bytes(digest.digest(), "little"))


def _concealed(cells: _Cells, noise: np.random.Generator) -> NDArray[np.float64]:
    """The pattern of the cells in grey levels around 0, scaled, in noise, and quantised."""
    deviation = math.sqrt(float(np.sum(cells.weights * cells.pattern**2)))
    # Clipped, as a cell of few pixels weighs little in the deviation and would stand out of the noise.
    pattern = np.clip(cells.pattern / max(deviation, _MIN_DEVIATION), -2, 2)
    pattern = (pattern + NOISE_RATIO * noise.standard_normal(pattern.shape)) / math.hypot(1.0, NOISE_RATIO)
    pattern -= np.sum(cells.weights * pattern)
    quantised: NDArray[np.float64] = np.round(np.clip(pattern, -2, 2) / _PATTERN_STEP) * (_PATTERN_STEP * _CONTRAST)
    return quantised


def _base_color(mean: NDArray[np.float64], appearance: Appearance, noise: np.random.Generator) -> NDArray[np.float64]:
    """Brightness and colour of a whole object, RGB."""
    if appearance.gray_blur and appearance.normalized_gray_blur:
        return np.full(3, _NEUTRAL_LEVEL)
    luma = float(mean @ _LUMA)
    level = _LEVEL_STEP * round(luma / _LEVEL_STEP + noise.uniform(-0.5, 0.5))
    level = min(max(level, _LEVEL_STEP), 256 - _LEVEL_STEP)
    if appearance.gray_blur:
        return np.full(3, level)
    red, blue = mean[0] - luma, mean[2] - luma
    saturation = _SATURATION_STEP * round(math.hypot(red, blue) / _SATURATION_STEP)
    hue = _HUE_STEP * round(math.atan2(red, blue) / _HUE_STEP)
    red, blue = saturation * math.sin(hue), saturation * math.cos(hue)
    green = -(_LUMA[0] * red + _LUMA[2] * blue) / _LUMA[1]
    return level + np.array([red, green, blue])


def _redrawn(region: Region, scene: Scene) -> tuple[_Cells, NDArray[np.float64], NDArray[np.float64]]:
    """The cells of an object, their concealed pattern, and its base colour."""
    pixels = scene.frame.read(scene.image, region.box)
    across, down = cells_across(region.box, region.appearance.blur, scene.frame.size.width)
    cells = _measure(pixels, region.mask, across, down)
    noise = _noise(region, pixels)
    base = _base_color(cells.mean, region.appearance, noise)
    return cells, _concealed(cells, noise), base


def _tinted(pattern: NDArray[np.float32], base: NDArray[np.float64]) -> RgbImage:
    """A pattern of grey levels around 0 in the given colour, uint8 RGB."""
    gray = cv2.convertScaleAbs(pattern, alpha=1, beta=_NEUTRAL_LEVEL)
    levels = np.arange(256)[:, np.newaxis] - _NEUTRAL_LEVEL + base
    table = np.clip(np.round(levels), 0, 255).astype(np.uint8)[np.newaxis]
    return cv2.LUT(cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB), table)  # type: ignore[no-any-return]


def _blur(region: Region, scene: Scene) -> RgbImage:
    _, pattern, base = _redrawn(region, scene)
    size = region.box.width, region.box.height
    return _tinted(cv2.resize(pattern.astype(np.float32), size, interpolation=cv2.INTER_CUBIC), base)


def _mosaic(region: Region, scene: Scene) -> RgbImage:
    cells, pattern, base = _redrawn(region, scene)
    blocks = pattern.astype(np.float32).repeat(np.diff(cells.rows), axis=0).repeat(np.diff(cells.columns), axis=1)
    return _tinted(blocks, base)


def _flat(region: Region, color: NDArray[np.float64]) -> RgbImage:
    shape = (region.box.height, region.box.width, 3)
    return np.broadcast_to(np.round(np.clip(color, 0, 255)).astype(np.uint8), shape)


def _solid(region: Region, scene: Scene) -> RgbImage:
    pixels = scene.frame.read(scene.image, region.box)
    cells = _measure(pixels, region.mask, 1, 1)
    return _flat(region, _base_color(cells.mean, region.appearance, _noise(region, pixels)))


def _color(region: Region, _scene: Scene) -> RgbImage:
    return _flat(region, np.array(region.appearance.color_of(region.label), np.float64))


def _inpaint(region: Region, scene: Scene) -> RgbImage:
    """Continues the surroundings into the object; nothing but its outline survives.

    A. Telea, "An image inpainting technique based on the fast marching method", J. Graphics Tools 9 (2004). Large
    objects are continued at a lower resolution. No hidden pixel of any object feeds it; where nothing else is near, the
    object becomes neutral grey.
    """
    radius = region.appearance.inpaint_radius
    around = scene.frame.grown(region.box, max(radius, region.span // 4))
    unknown = np.ascontiguousarray(scene.frame.read(scene.hidden, around)).view(np.uint8)
    if unknown.all():
        return _flat(region, np.full(3, _NEUTRAL_LEVEL))
    known = cv2.copyTo(np.ascontiguousarray(scene.frame.read(scene.image, around)), 1 - unknown)
    factor = max(1, math.ceil(max(around.width, around.height) / _INPAINT_SIDE))
    small_size = Size(math.ceil(around.width / factor), math.ceil(around.height / factor))
    small_unknown = any_within(unknown, small_size)
    if small_unknown.all():
        visible = np.array(cv2.mean(known, 1 - unknown)[:3])
        return _flat(region, visible)
    small = cv2.resize(known, small_size, interpolation=cv2.INTER_AREA)
    small_radius = max(2, round(radius / factor))
    # In pictures of one row or column OpenCV 5 reads beyond the edge, so that the result varies: add a rim.
    rimmed, rimmed_unknown = (
        cv2.copyMakeBorder(each, 2, 2, 2, 2, cv2.BORDER_REPLICATE) for each in (small, small_unknown.astype(np.uint8))
    )
    continued = cv2.inpaint(rimmed, rimmed_unknown, small_radius, cv2.INPAINT_TELEA)[2:-2, 2:-2]
    full = cv2.resize(continued, (around.width, around.height), interpolation=cv2.INTER_LINEAR)
    dx, dy = scene.frame.offset(region.box, around)
    return full[dy : dy + region.box.height, dx : dx + region.box.width]  # type: ignore[no-any-return]


_FILLS: Mapping[Kind, Callable[[Region, Scene], RgbImage]] = MappingProxyType(
    {"blur": _blur, "mosaic": _mosaic, "solid": _solid, "color": _color, "inpaint": _inpaint}
)
