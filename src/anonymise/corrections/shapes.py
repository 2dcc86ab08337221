"""Shapes of corrections ↔ objects in a picture.

A shape is JSON: ``{"box": [left, top, width, height]}``, ``{"polygon": [[x, y], …]}`` or ``{"rle": {"size": [height,
width], "counts": …}}``, in stored pixels of a frame. Pixel 0 covers the coordinates 0 to 1. In a 360° picture a shape
may go on beyond the right edge, or begin before the left one; the part outside is at the other edge.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from anonymise.core import runlengths
from anonymise.core.detections import Box, Detections, Instance, Mask, Size, full_mask
from anonymise.core.wraparound import placed

__all__ = ["Point", "box_around", "canonical", "object_of", "polygon_text"]

Point = tuple[float, float]
"""Column and row."""

_MAX_POINTS = 100_000
_SUBPIXEL_BITS = 4
_FARTHEST = 1e6
"""Columns and rows far outside of a picture are a mistake, and OpenCV draws them somewhere else."""


def canonical(shape: object, frame: Size) -> str:
    """The shape as JSON text; equal shapes give equal texts.

    Args:
        shape: as parsed from JSON.
        frame: size of the picture that it is in.

    Raises:
        ValueError: it is no shape, has no area, or lies outside the frame.
    """
    if min(frame) < 1:
        raise ValueError(f"a picture of {frame.width}×{frame.height} pixels is not possible")
    if not isinstance(shape, Mapping) or len(shape) != 1:
        raise ValueError("a shape is one of box, polygon and rle")
    kind, value = next(iter(shape.items()))
    if kind == "box":
        left, top, width, height = numbers = _numbers(value, 4)
        if not (0 <= left < frame.width and width > 0 and height > 0 and left + width <= left + frame.width):
            raise ValueError(f"the box {value} has no area in a picture of {frame.width}×{frame.height} pixels")
        if top < 0 or top + height > frame.height:
            raise ValueError(f"the box {value} reaches beyond a picture of {frame.width}×{frame.height} pixels")
        return json.dumps({"box": numbers})
    if kind == "polygon":
        if not isinstance(value, Sequence) or not 3 <= len(value) <= _MAX_POINTS:
            raise ValueError("a polygon has at least 3 corners")
        points = [tuple(_numbers(point, 2)) for point in value]
        xs, ys = [x for x, _ in points], [y for _, y in points]
        if min(xs) < -frame.width or max(xs) > 2 * frame.width or min(ys) >= frame.height or max(ys) <= 0:
            raise ValueError(f"the polygon lies outside a picture of {frame.width}×{frame.height} pixels")
        if len(set(points)) < 3 or max(xs) - min(xs) > 2 * frame.width:
            raise ValueError("the polygon has no area")
        return polygon_text(points)
    if kind == "rle" and isinstance(value, Mapping):
        if value.get("size") != [frame.height, frame.width]:
            raise ValueError("the run lengths are of a picture of another size")
        runlengths.check_size(frame)
        runlengths.decode(value.get("counts"), frame)
        return json.dumps({"rle": {"size": [frame.height, frame.width], "counts": value["counts"]}})
    raise ValueError("a shape is one of box, polygon and rle")


def polygon_text(points: Sequence[Sequence[float]]) -> str:
    """A polygon as JSON text, to the thousandth of a pixel."""
    return json.dumps({"polygon": [[_tidy(x), _tidy(y)] for x, y in points]})


def _tidy(number: float) -> float | int:
    rounded = round(number, 3)
    return int(rounded) if rounded == int(rounded) else rounded


def _numbers(values: Any, count: int) -> list[float | int]:
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != count:
        raise ValueError(f"{values!r} is no list of {count} numbers")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _FARTHEST:
            raise ValueError(f"{str(value)[:40]} is no number of pixels")
    return [_tidy(value) for value in values]


def object_of(shape: str, frame: Size, size: Size, label: int, source: str, *, wraps: bool) -> Instance | None:
    """A shape as an object of a picture; None where nothing of it is in the picture.

    Args:
        shape: JSON text, as `canonical` gives it.
        frame: size of the picture that the shape is in.
        size: size of this picture; the shape is scaled to it.
        label: class of the object.
        source: says so.
        wraps: whether the left and right edge of the picture meet. The box may then go on beyond the right edge, as in
            `wraparound`.
    """
    kind, value = next(iter(json.loads(shape).items()))
    x, y = size.width / frame.width, size.height / frame.height
    if kind == "box":
        left, top, width, height = value
        box = box_around([(left * x, top * y), ((left + width) * x, (top + height) * y)])
        mask = full_mask(box)
    elif kind == "polygon":
        points = np.array(value, float) * (x, y)
        box = box_around(points.tolist())
        box = Box(box.left, max(0, box.top), box.right, max(1, min(size.height, box.bottom)))
        mask = _polygon(points - (box.left, box.top), Size(box.width, box.height))
    else:
        box, mask = runlengths.decode(value["counts"], frame)
        if size != frame:
            whole = Detections(frame, (Instance(label, 1.0, box, mask),)).union().astype(np.float32)
            mask = cv2.resize(whole, tuple(size), interpolation=cv2.INTER_LINEAR) > 0
            box = Box(0, 0, *size)
    instance = Instance(label, 1.0, box, mask, source=source)
    if wraps:
        instance = placed(instance, size.width)
    return _clipped(instance, Box(0, 0, 2 * size.width if wraps else size.width, size.height))


def _polygon(points: NDArray[np.float64], size: Size) -> Mask:
    """A polygon with everything within its outline, also what that goes around twice."""
    drawn, outline = (np.zeros((size.height + 2, size.width + 2), np.uint8) for _ in range(2))
    # OpenCV counts from the centres of pixels, and fills the outline too; there is a pixel around it for that.
    fixed = np.rint((points + 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillPoly(drawn, [fixed], (1,), shift=_SUBPIXEL_BITS)
    cv2.polylines(outline, [fixed], isClosed=True, color=(1,), shift=_SUBPIXEL_BITS)
    around, _ = cv2.findContours(outline, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    within = cv2.drawContours(np.zeros_like(outline), around, -1, (1,), cv2.FILLED)
    mask: Mask = (drawn | (within & ~outline)).astype(bool)[1:-1, 1:-1]
    return mask


def box_around(points: Sequence[Sequence[float]]) -> Box:
    """The smallest box of whole pixels around points; at least one pixel."""
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    # A product such as 100·(8192/8000) is off by the last bit, which must not add a pixel.
    left, top = (math.floor(round(min(values), 6)) for values in (xs, ys))
    right, bottom = (math.ceil(round(max(values), 6)) for values in (xs, ys))
    return Box(left, top, max(right, left + 1), max(bottom, top + 1))


def _clipped(instance: Instance, frame: Box) -> Instance | None:
    common = instance.box.intersection(frame)
    if common is None:
        return None
    mask = instance.mask[common.within(instance.box).slices]
    if not mask.any():
        return None
    kept = full_mask(common) if instance.fills_box else mask
    return Instance(instance.label, instance.score, common, kept, source=instance.source)
