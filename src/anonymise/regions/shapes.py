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

_Points = NDArray[np.float64]

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
    points = np.array(corners, float) * (size.width / frame.width, size.height / frame.height)
    note = ""
    if wraps:
        points, note = _around(points, size.width)
    if is_polygon:
        points = _hull(points)
    if angles is not None:
        if not wraps or size.width != 2 * size.height:
            raise ValueError("not turned back: that needs a whole panorama of 2:1, by the key projection too")
        points = _closed(turned_back(_sampled(points if is_polygon else _rectangle(points)), size, *angles), size)
    box = box_around(points.tolist())
    if box.top >= size.height or box.bottom <= 0:
        raise ValueError(f"outside the picture: rows {box.top} to {box.bottom} of {size.height}")
    if not wraps and (box.left >= size.width or box.right <= 0):
        raise ValueError(f"outside the picture: columns {box.left} to {box.right} of {size.width}")
    turns = box.left // size.width * size.width if wraps else 0
    # What is only a line is hidden by the box around it.
    if (is_polygon or angles is not None) and len(np.unique(points, axis=0)) > 2:
        return {"polygon": (points - (turns, 0)).tolist()}, note
    top, bottom = max(0, box.top), min(size.height, box.bottom)
    if wraps:
        left, width = box.left - turns, min(box.width, size.width)
    else:
        left, width = max(0, box.left), min(size.width, box.right) - max(0, box.left)
        if width < box.width and size.width == 2 * size.height:
            note = "cut off at the edge, as the configuration does not say that this is a panorama (key projection)"
    return {"box": [left, top, width, bottom - top]}, note


def turned_back(points: _Points, size: Size, roll: float, pitch: float) -> _Points:
    """Points (n, 2) of the panorama that was turned upright, in the panorama as it is stored.

    Amsterdam's panorama pipeline samples the stored sphere at Rx(roll)·Ry(pitch)·v for each direction v of the upright
    one, x ahead, y to the right, z up (its get_rotation_matrix, with heading 0).

    Args:
        points: columns and rows in pixels of a whole sphere of this size.
        size: of the panorama.
        roll: in degrees.
        pitch: in degrees.
    """
    x, y = points.T
    phi, theta = (x / size.width - 0.5) * 2 * math.pi, y / size.height * math.pi
    upright = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])
    ahead, right, up = _turn(0, math.radians(roll)) @ _turn(1, math.radians(pitch)) @ upright
    columns = (np.arctan2(right, ahead) / (2 * math.pi) + 0.5) * size.width
    return np.column_stack([columns, np.arccos(np.clip(up, -1, 1)) / math.pi * size.height])


def _turn(axis: int, angle: float) -> _Points:
    sin, cos = math.sin(angle), math.cos(angle)
    if axis == 0:
        return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])


def _around(corners: _Points, width: int) -> tuple[_Points, str]:
    """Four corners without jumps at the seam, and what is odd about them."""
    xs, ys = corners.T
    if xs[[1, 2]].min() - xs[[0, 3]].max() > width / 2:
        # As wide as it says, or two sides of the seam that changed places: hiding too much can be repaired.
        around = _rectangle(np.array([(0, ys.min()), (width, ys.max())]))
        return around, "wider than half the picture: hidden all around"
    is_wide = np.ptp(xs) > width / 2
    note = "corners on both sides of the seam: the shorter way round is taken" if is_wide else ""
    return np.column_stack([np.unwrap(xs, period=width), ys]), note


def _closed(outline: _Points, size: Size) -> _Points:
    """An outline on the sphere as a polygon without jumps and without needless points.

    One around a pole goes along the edge of the picture there.
    """
    xs, ys = np.concatenate([outline, outline[:1]]).T
    xs = np.unwrap(xs, period=size.width)
    if abs(xs[-1] - xs[0]) > size.width / 2:
        pole = size.height if ys.mean() > size.height / 2 else 0
        xs, ys = np.append(xs, [xs[-1], xs[0]]), np.append(ys, [pole, pole])
    points = np.column_stack([xs, ys]).astype(np.float32)
    return np.asarray(cv2.approxPolyDP(points, _STRAIGHT_PIXELS, closed=True)[:, 0], float)


def _hull(points: _Points) -> _Points:
    return np.asarray(cv2.convexHull(points.astype(np.float32))[:, 0], float)


def _rectangle(points: _Points) -> _Points:
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def _sampled(outline: _Points) -> _Points:
    steps = np.roll(outline, -1, axis=0) - outline
    counts = np.maximum(1, np.ceil(np.hypot(*steps.T) / _STEP_PIXELS)).astype(int)
    parts = zip(outline, steps, counts, strict=True)
    return np.concatenate([start + np.outer(np.arange(n) / n, step) for start, step, n in parts])
