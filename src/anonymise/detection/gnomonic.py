"""Gnomonic projection: perspective views of the sphere, and what is found in them back on it.

Straight edges stay straight, and objects at the poles look as they do anywhere else (Snyder 1987, Map Projections: A
Working Manual, chapter 22). Directions are in radians: yaw to the right of the middle of the image, pitch upwards.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from anonymise.core.detections import Box, Instance, Mask, RgbImage, Size
from anonymise.core.projection import Projection
from anonymise.core.wraparound import placed

__all__ = [
    "View",
    "from_sphere",
    "halved",
    "is_whole",
    "on_sphere",
    "render",
    "sphere_of",
    "to_sphere",
    "unrolled",
    "unseen",
]

_Points = NDArray[np.float64]

_SUBPIXEL_BITS = 4
"""Precision of the corners of polygons that OpenCV fills."""

_POINTS_PER_PIXEL = 2
"""On the outline of an object in a view. It must follow the meridians, which are dense near the poles."""


@dataclass(frozen=True, slots=True)
class View:
    """A square perspective view.

    Attributes:
        yaw: yaw of its middle.
        pitch: pitch of its middle.
        fov: its field of view, from edge to edge through the middle.
    """

    yaw: float
    pitch: float
    fov: float

    @property
    def extent(self) -> float:
        """Half the side of the view on a plane at distance 1."""
        return math.tan(self.fov / 2)


def from_sphere(longitude: _Points, latitude: _Points, view: View) -> tuple[_Points, _Points, _Points]:
    """Points of the sphere as (right, up, ahead) of the view's camera; on its picture at right / ahead, up / ahead."""
    x = np.cos(latitude) * np.sin(longitude - view.yaw)
    y = np.sin(latitude)
    z = np.cos(latitude) * np.cos(longitude - view.yaw)
    sin, cos = math.sin(view.pitch), math.cos(view.pitch)
    return x, y * cos - z * sin, z * cos + y * sin


def on_sphere(right: _Points, up: _Points, view: View) -> tuple[_Points, _Points]:
    """(longitude, latitude) of points on a view's plane at distance 1; the longitude is relative to its yaw."""
    sin, cos = math.sin(view.pitch), math.cos(view.pitch)
    height, depth = up * cos + sin, cos - up * sin
    return np.arctan2(right, depth), np.arctan2(height, np.hypot(right, depth))


def render(levels: Sequence[RgbImage], view: View, side: int, projection: Projection | None = None) -> RgbImage:
    """The picture of a view: uint8 (side, side, 3).

    Beyond the edges of a part of a panorama the pixels at the edge go on: an object that is cut there is found better
    than in front of black or grey, and the network sees less that is not there.

    Args:
        levels: the equirectangular image, and the same image halved again and again, as `halved` gives them.
        view: where to look.
        side: side of the picture in pixels.
        projection: projection of the image; None is the whole sphere.
    """
    full = Size(levels[0].shape[1], levels[0].shape[0])
    if projection is None:
        projection = _whole_sphere(full)
    # So that one to two pixels of the image are one of the view, in its middle.
    ratio = (2 * view.extent / side) / (2 * math.pi / sphere_of(projection)[0])
    image = levels[min(len(levels) - 1, max(0, math.floor(math.log2(ratio))))]
    size = Size(image.shape[1], image.shape[0])
    scaled = projection.scaled(full, size)
    width = sphere_of(scaled)[0]
    x, y = _table(scaled, size.height, view.pitch, view.fov, side)
    x = x + view.yaw / (2 * math.pi) * width
    x = np.where(x >= width, x - width, x)
    if not scaled.wraps:
        # Those left of the image, by less than a pixel, are its first column.
        x = np.where(x > width - 1, 0, np.minimum(x, size.width - 1)).astype(np.float32)
    picture: RgbImage = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return picture


def sphere_of(projection: Projection) -> tuple[float, float]:
    """Width and height of the whole sphere that an image is a part of, in pixels of the image."""
    assert projection.sphere is not None  # planar images have no views
    return projection.sphere


def is_whole(projection: Projection, size: Size) -> bool:
    """Whether an image is the whole sphere."""
    return projection.wraps and sphere_of(projection)[1] == size.height


def _whole_sphere(size: Size) -> Projection:
    return Projection((float(size.width), float(size.height)), wraps=True)


@functools.lru_cache(maxsize=64)
def _table(
    projection: Projection, height: int, pitch: float, fov: float, side: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The column and the row in an image of each pixel of a view with yaw 0, for `cv2.remap`.

    Views in other directions are the same columns further to the right. Columns are below the width of the sphere.
    """
    view = View(0.0, pitch, fov)
    longitude, latitude = _rays(view, side)
    width, full_height = sphere_of(projection)
    x = ((longitude / (2 * math.pi) + 0.5) * width - 0.5 - projection.left) % width
    # Beyond the last row is the first one for OpenCV, but the other side of the pole on a sphere, which looks alike.
    y = np.clip((0.5 - latitude / math.pi) * full_height - 0.5 - projection.top, 0, height - 1)
    return x.astype(np.float32), y.astype(np.float32)


def _rays(view: View, side: int) -> tuple[_Points, _Points]:
    """(longitude, latitude) of each pixel of a view, (side, side); the longitude is relative to its yaw."""
    plane = ((np.arange(side) + 0.5) / side * 2 - 1) * view.extent
    return on_sphere(*np.meshgrid(plane, -plane), view)


@functools.lru_cache(maxsize=512)
def unseen(projection: Projection, size: Size, view: View, side: int) -> Mask | None:
    """Which pixels of a view see nothing of the image: bool (side, side); None where all see it."""
    width, height = sphere_of(projection)
    if is_whole(projection, size):
        return None
    longitude, latitude = _rays(view, side)
    row = (0.5 - latitude / math.pi) * height - projection.top
    outside = (row < 0) | (row > size.height)
    if not projection.wraps:
        column = ((longitude + view.yaw) / (2 * math.pi) + 0.5) * width - projection.left
        outside |= column % width > size.width
    outside.setflags(write=False)
    return outside if outside.any() else None


def halved(image: RgbImage, n: int) -> list[RgbImage]:
    """The image, and ``n`` times the one before at half its size."""
    levels = [image]
    for _ in range(n):
        height, width = levels[-1].shape[:2]
        if min(height, width) < 2:
            break
        levels.append(cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    return levels


def to_sphere(
    instance: Instance, view: View, side: int, size: Size, projection: Projection | None = None
) -> tuple[Instance, ...]:
    """An object that was found in a view's picture, in the equirectangular image.

    The mask is the outline projected back, filled, in a crop; an object over a pole gets one as wide as the image.

    Args:
        instance: in the pixels of the view's picture.
        view: whose picture it is.
        side: side of the picture in pixels.
        size: size of the equirectangular image.
        projection: projection of the image; None is the whole sphere.

    Returns:
        The object, if any of it is in the image. In a part of a panorama it can be at both edges, and is two then.
    """
    if projection is None:
        projection = _whole_sphere(size)
    polygons = [unrolled(outline, view, side, projection) for outline in _outlines(instance)]
    points = np.concatenate(polygons)
    top, bottom = max(0, math.floor(points[:, 1].min())), min(size.height, math.ceil(points[:, 1].max()))
    if is_whole(projection, size):
        bottom = max(bottom, top + 1)
    elif top >= bottom:
        return ()
    if projection.wraps:
        left, right = math.floor(points[:, 0].min()), math.ceil(points[:, 0].max())
        whole = _filled(instance, polygons, Box(left, top, max(right, left + 1), bottom))
        return (placed(whole, size.width),) if whole.mask.any() else ()
    found = []
    turn = sphere_of(projection)[0]
    first, last = -points[:, 0].max() / turn, (size.width - points[:, 0].min()) / turn
    for number in range(math.floor(first), math.ceil(last) + 1):
        moved = [polygon + np.array((number * turn, 0)) for polygon in polygons]
        left = max(0, math.floor(points[:, 0].min() + number * turn))
        right = min(size.width, math.ceil(points[:, 0].max() + number * turn))
        if left < right and (part := _filled(instance, moved, Box(left, top, right, bottom))).mask.any():
            found.append(part)
    return tuple(found)


def _filled(instance: Instance, polygons: Sequence[_Points], box: Box) -> Instance:
    """The object with filled polygons for a mask, as far as they are inside a box."""
    mask = np.zeros((box.height, box.width), np.uint8)
    for polygon in polygons:
        # Pixel centres are whole numbers for OpenCV, and half ones here.
        corners = np.rint((polygon - (box.left + 0.5, box.top + 0.5)) * 2**_SUBPIXEL_BITS).astype(np.int32)
        cv2.fillPoly(mask, [corners], 1, shift=_SUBPIXEL_BITS)
    return Instance(instance.label, instance.score, box, mask.astype(bool))


def _outlines(instance: Instance) -> Iterator[_Points]:
    """Closed lines around an object in its picture, as points (n, 2); holes are not left out."""
    box = instance.box
    if instance.fills_box:
        # Off the borders of pixels, where a pole may lie.
        left, top, right, bottom = box.left - 0.25, box.top - 0.25, box.right + 0.25, box.bottom + 0.25
        yield np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        return
    # OpenCV gives the centres of the outermost pixels; those of a mask that is one pixel larger surround it.
    padded = cv2.dilate(np.pad(instance.mask.astype(np.uint8), 2), np.ones((3, 3), np.uint8))
    contours, _ = cv2.findContours(padded, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    for contour in contours:
        yield contour.reshape(-1, 2) + np.array([(box.left - 1.49, box.top - 1.49)])


def _dense(outline: _Points) -> _Points:
    """The same closed line with points that are close to each other."""
    edges = zip(outline, np.roll(outline, -1, axis=0), strict=True)
    return np.concatenate(
        [
            np.linspace(first, second, math.ceil(_POINTS_PER_PIXEL * abs(second - first).max()) + 1, endpoint=False)
            for first, second in edges
        ]
    )


def unrolled(outline: _Points, view: View, side: int, projection: Projection) -> _Points:
    """An outline in a picture as a polygon in the equirectangular image, which may go on beyond its edges.

    One that surrounds a pole is as wide as the sphere, and closed along the pole.

    Args:
        outline: corners (n, 2) in the view's picture, column and row.
        view: whose picture it is.
        side: of the picture in pixels. Twice as many points are made for an edge as it has pixels.
        projection: of the equirectangular image.
    """
    longitude, latitude = _directions(outline, view, side)
    if _is_around_a_pole(longitude):
        # A convex outline, which a view's picture keeps convex, meets each meridian once.
        hull = cv2.convexHull(outline.astype(np.float32)).reshape(-1, 2).astype(np.float64)
        longitude, latitude = _directions(hull, view, side)
        pole = math.copysign(math.pi / 2, view.pitch)
        closing = longitude[0] + math.copysign(2 * math.pi, longitude[-1] - longitude[0])
        longitude = np.concatenate([longitude, (closing, closing, longitude[0])])
        latitude = np.concatenate([latitude, (latitude[0], pole, pole)])
    width, height = sphere_of(projection)
    columns = ((longitude + view.yaw) / (2 * math.pi) + 0.5) * width - projection.left
    return np.column_stack([columns, (0.5 - latitude / math.pi) * height - projection.top])


def _directions(outline: _Points, view: View, side: int) -> tuple[_Points, _Points]:
    """Longitudes, without jumps, and latitudes along a closed line in a picture."""
    plane = (_dense(outline) / side * 2 - 1) * view.extent
    longitude, latitude = on_sphere(plane[:, 0], -plane[:, 1], view)
    return np.unwrap(longitude), latitude


def _is_around_a_pole(longitude: _Points) -> bool:
    """Whether a closed line, whose points are less than half a turn apart, ends a turn from where it began."""
    return bool(abs(longitude[-1] - longitude[0]) > math.pi)
