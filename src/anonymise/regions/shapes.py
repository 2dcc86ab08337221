"""Four corners in another system's frame → a shape in the stored pixels of a picture."""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from anonymise.core.detections import Size
from anonymise.corrections.shapes import Point, box_around

__all__ = ["shape_of", "turned_back"]

_STEP_PIXELS = 0.5
"""Longest piece of an outline that is taken as straight after it is turned; near a pole, 2 pixels cut corners."""

_STRAIGHT_PIXELS = 0.03
"""How far from a line points may lie that it stands for."""


def shape_of(
    corners: Sequence[Point],
    frame: Size,
    size: Size,
    *,
    wraps: bool,
    is_polygon: bool = False,
    angles: tuple[float, float] | None = None,
) -> tuple[dict[str, Any], str]:
    """The shape of a region.

    Args:
        corners: in pixels of the frame; four go round from the left top one, or turn back where they are a rectangle
            that is turned.
        frame: size of the frame.
        size: of the picture, as it is stored.
        wraps: whether the left and the right edge of the picture meet.
        is_polygon: whether the shape is the convex hull of the corners; else the smallest box around them.
        angles: roll and pitch in degrees of the picture, where the frame is the panorama turned upright by them; None
            where the frame is the picture.

    Returns:
        The shape as `corrections.shapes.canonical` takes it, and what the operator should know of it.

    Raises:
        ValueError: nothing of the region is in the picture, or the picture cannot be turned; the text before the colon
            is the kind of error.
    """
    points = [(x * size.width / frame.width, y * size.height / frame.height) for x, y in corners]
    note = ""
    if wraps:
        points, note = _around(points, size.width)
    if angles is not None:
        if not wraps or size.width != 2 * size.height:
            raise ValueError("not turned back: that needs a whole panorama of 2:1, by the key projection too")
        outline = _hull(points) if is_polygon else _rectangle(points)
        points = _closed(turned_back(_sampled(outline), size, *angles), size)
        is_polygon = True
    elif is_polygon:
        points = _hull(points)
    if is_polygon and len(set(points)) < 3:
        is_polygon = False  # a line: it is hidden by the box around it
    box = box_around(points)
    if box.top >= size.height or box.bottom <= 0:
        raise ValueError(f"outside the picture: rows {box.top} to {box.bottom} of {size.height}")
    if not wraps and (box.left >= size.width or box.right <= 0):
        raise ValueError(f"outside the picture: columns {box.left} to {box.right} of {size.width}")
    if is_polygon:
        turns = box.left // size.width * size.width if wraps else 0
        return {"polygon": [[x - turns, y] for x, y in points]}, note
    top, bottom = max(0, box.top), min(size.height, box.bottom)
    if wraps:
        left, width = box.left % size.width, min(box.width, size.width)
    else:
        left, width = max(0, box.left), min(size.width, box.right) - max(0, box.left)
        if width < box.width and size.width == 2 * size.height:
            note = "cut off at the edge, as the configuration does not say that this is a panorama (key projection)"
    return {"box": [left, top, width, bottom - top]}, note


def turned_back(points: Sequence[Point], size: Size, roll: float, pitch: float) -> list[Point]:
    """Points of the panorama that was turned upright, in the panorama as it is stored.

    Amsterdam's panorama pipeline samples the stored sphere at Rx(roll)·Ry(pitch)·v for each direction v of the upright
    one, x ahead, y to the right, z up (its get_rotation_matrix, with heading 0).

    Args:
        points: (x, y) in pixels of a whole sphere of this size.
        size: of the panorama.
        roll: in degrees.
        pitch: in degrees.
    """
    x, y = np.array(points, np.float64).T
    phi, theta = (x / size.width - 0.5) * 2 * math.pi, y / size.height * math.pi
    upright = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])
    ahead, right, up = _turn(0, math.radians(roll)) @ _turn(1, math.radians(pitch)) @ upright
    columns = (np.arctan2(right, ahead) / (2 * math.pi) + 0.5) * size.width
    rows = np.arccos(np.clip(up, -1, 1)) / math.pi * size.height
    return [(float(column), float(row)) for column, row in zip(columns, rows, strict=True)]


def _turn(axis: int, angle: float) -> NDArray[np.float64]:
    sin, cos = math.sin(angle), math.cos(angle)
    if axis == 0:
        return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])


def _around(points: list[Point], width: int) -> tuple[list[Point], str]:
    """The points without jumps at the seam, and what is odd about them."""
    if len(points) == 4:
        lefts, rights = (points[0][0], points[3][0]), (points[1][0], points[2][0])
        if min(rights) - max(lefts) > width / 2:
            # As wide as it says, or two sides of the seam that changed places: hiding too much can be repaired.
            rows = [y for _, y in points]
            return _rectangle([(0, min(rows)), (width, max(rows))]), "wider than half the picture: hidden all around"
    xs = [x for x, _ in points]
    is_wide = len(points) == 4 and max(xs) - min(xs) > width / 2
    note = "corners on both sides of the seam: the shorter way round is taken" if is_wide else ""
    return _unwrapped(points, width), note


def _closed(outline: Sequence[Point], size: Size) -> list[Point]:
    """An outline on the sphere as a polygon without jumps and without needless points.

    One around a pole goes along the edge of the picture there.
    """
    points = _unwrapped([*outline, outline[0]], size.width)
    around = points[-1][0] - points[0][0]
    if abs(around) > size.width / 2:
        pole = size.height if sum(y for _, y in outline) > len(outline) * size.height / 2 else 0
        points += [(points[-1][0], pole), (points[0][0], pole)]
    simple = cv2.approxPolyDP(np.array(points, np.float32), _STRAIGHT_PIXELS, closed=True)[:, 0]
    return [(float(x), float(y)) for x, y in simple]


def _unwrapped(points: Sequence[Point], width: int) -> list[Point]:
    """The points without jumps: each at most half the width from the one before."""
    placed = [points[0]]
    for x, y in points[1:]:
        placed.append((x + width * round((placed[-1][0] - x) / width), y))
    return placed


def _hull(points: Sequence[Point]) -> list[Point]:
    hull = cv2.convexHull(np.array(points, np.float32))[:, 0]
    return [(float(x), float(y)) for x, y in hull]


def _rectangle(points: Sequence[Point]) -> list[Point]:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _sampled(outline: Sequence[Point]) -> list[Point]:
    sampled = []
    for (x0, y0), (x1, y1) in zip(outline, (*outline[1:], outline[0]), strict=True):
        n = max(1, math.ceil(math.hypot(x1 - x0, y1 - y0) / _STEP_PIXELS))
        sampled += [(x0 + (x1 - x0) * k / n, y0 + (y1 - y0) * k / n) for k in range(n)]
    return sampled
