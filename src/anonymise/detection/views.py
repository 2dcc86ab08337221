"""Perspective views of equirectangular images, as a camera in the middle of the sphere would take them.

A view is a gnomonic projection (Snyder 1987, Map Projections: A Working Manual, chapter 22): straight edges stay
straight, and objects at the poles look as they do anywhere else. What is found in a view comes back to the
equirectangular image as masks, in crops; boxes are as `core.wraparound` has them. The image may be a part of a panorama
(`projection`): views then look only where it is.

Directions are in radians: yaw to the right of the middle of the image, pitch upwards.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from anonymise.core.detections import Box, Instance, Mask, RgbImage, Size
from anonymise.core.projection import Projection, panorama
from anonymise.core.wraparound import Frame, placed
from anonymise.detection.merging import MergeOptions, merge, merge_around
from anonymise.detection.tiles import CloseUp, TakeCloseUp, WindowOptions, windows

__all__ = ["Reconsider", "View", "ViewOptions", "close_up", "detect_around", "render", "to_sphere", "views"]

_Points = NDArray[np.float64]

_SUBPIXEL_BITS = 4
"""Precision of the corners of polygons that OpenCV fills."""

_POINTS_PER_PIXEL = 2
"""On the outline of an object in a view. It must follow the meridians, which are dense near the poles."""

_AT_EDGE = 0.02
"""An object that is no farther from an edge of the picture than this fraction of its box's side is cut by it, most
likely."""

_Detect = Callable[[Iterable[RgbImage]], Iterator[tuple[tuple[Instance, ...], ...]]]

_Outline = Callable[[Instance, bool], Instance]


Reconsider = Callable[[Sequence[Sequence[Instance]], TakeCloseUp], Sequence[Sequence[Instance]]]
"""Gives what is to be hidden of what several passes found, after close-ups of it."""

_CLOSE_UP_FOV = (math.radians(1), math.radians(100))
"""The narrowest and the widest close-up."""

_CLOSE_UP_SIDE = (64, 1024)
"""The smallest and the largest close-up in pixels."""


class ViewOptions(BaseModel):
    """Keys of the configuration about the perspective views of 360° images."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    view_fov: tuple[Annotated[float, Field(ge=10, le=120)], ...]
    """360° images: fields of view, in degrees, of the perspective views that cover the sphere; [] has no views."""

    view_overlap: float = Field(ge=0.1, le=0.8)
    """Overlap of neighbouring views as a fraction of the view."""

    view_side: int = Field(ge=32, le=4096)
    """Width and height of a view in pixels."""


@dataclass(frozen=True, slots=True)
class View:
    """A square perspective view.

    Attributes:
        yaw: of its middle.
        pitch: of its middle.
        fov: its field of view, from edge to edge through the middle.
    """

    yaw: float
    pitch: float
    fov: float

    @property
    def extent(self) -> float:
        """Half the side of the view on a plane at distance 1."""
        return math.tan(self.fov / 2)


def views(fov: float, overlap: float) -> tuple[View, ...]:
    """Views that cover the whole sphere, both poles in the middle of one, row by row from the top.

    Args:
        fov: field of view of each, in radians.
        overlap: of neighbours, as a share of the view, at least 0.1: straight edges leave gaps between curved rows.
    """
    n_rows = math.ceil(math.pi / ((1 - overlap) * fov)) + 1
    step = math.pi / (n_rows - 1)
    found: list[View] = []
    for row in range(n_rows):
        pitch = math.pi / 2 - step * row
        if row in (0, n_rows - 1):
            found.append(View(0.0, pitch, fov))
            continue
        # The row covers the sphere half-way to its neighbours; the view over a pole also does what is near its edge.
        nearest, farthest = max(0.0, abs(pitch) - step / 2), min(abs(pitch) + step / 2, (math.pi - fov) / 2)
        reach = min(
            (1 - overlap) * _half_width(abs(pitch), nearest, fov), _half_width(abs(pitch), max(nearest, farthest), fov)
        )
        n = math.ceil(math.pi / reach)
        found += (View(2 * math.pi * column / n, pitch, fov) for column in range(n))
    return tuple(found)


def _half_width(pitch: float, latitude: float, fov: float) -> float:
    """How far a view reaches to either side along a parallel, in radians of longitude."""
    longitudes = np.linspace(0, math.pi, 1801)
    view = View(0.0, pitch, fov)
    right, up, ahead = _from_sphere(longitudes, np.full_like(longitudes, latitude), view)
    reach = view.extent * ahead
    outside = (ahead <= 0) | (abs(right) > reach) | (abs(up) > reach)
    return float(longitudes[max(1, int(outside.argmax()) - 1)])


def _from_sphere(longitude: _Points, latitude: _Points, view: View) -> tuple[_Points, _Points, _Points]:
    """Points of the sphere as (right, up, ahead) of the view's camera; on its picture at right / ahead, up / ahead."""
    x = np.cos(latitude) * np.sin(longitude - view.yaw)
    y = np.sin(latitude)
    z = np.cos(latitude) * np.cos(longitude - view.yaw)
    sin, cos = math.sin(view.pitch), math.cos(view.pitch)
    return x, y * cos - z * sin, z * cos + y * sin


def _on_sphere(right: _Points, up: _Points, view: View) -> tuple[_Points, _Points]:
    """(longitude, latitude) of points on a view's plane at distance 1; the longitude is relative to its yaw."""
    sin, cos = math.sin(view.pitch), math.cos(view.pitch)
    height, depth = up * cos + sin, cos - up * sin
    return np.arctan2(right, depth), np.arctan2(height, np.hypot(right, depth))


def render(levels: Sequence[RgbImage], view: View, side: int, projection: Projection | None = None) -> RgbImage:
    """The picture of a view: uint8 (side, side, 3).

    Beyond the edges of a part of a panorama the pixels at the edge go on: an object that is cut there is found better
    than in front of black or grey, and the network sees less that is not there.

    Args:
        levels: the equirectangular image, and the same image halved again and again, as `_halved` gives them.
        view: where to look.
        side: of the picture in pixels.
        projection: of the image; None is the whole sphere.
    """
    full = Size(levels[0].shape[1], levels[0].shape[0])
    if projection is None:
        projection = _whole_sphere(full)
    # So that one to two pixels of the image are one of the view, in its middle.
    ratio = (2 * view.extent / side) / (2 * math.pi / _sphere(projection)[0])
    image = levels[min(len(levels) - 1, max(0, math.floor(math.log2(ratio))))]
    size = Size(image.shape[1], image.shape[0])
    scaled = projection.scaled(full, size)
    width = _sphere(scaled)[0]
    x, y = _table(scaled, size.height, view.pitch, view.fov, side)
    x = x + view.yaw / (2 * math.pi) * width
    x = np.where(x >= width, x - width, x)
    if not scaled.wraps:
        # Those left of the image, by less than a pixel, are its first column.
        x = np.where(x > width - 1, 0, np.minimum(x, size.width - 1)).astype(np.float32)
    picture: RgbImage = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return picture


def _sphere(projection: Projection) -> tuple[float, float]:
    assert projection.sphere is not None  # planar images have no views
    return projection.sphere


def _is_whole(projection: Projection, size: Size) -> bool:
    return projection.wraps and _sphere(projection)[1] == size.height


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
    width, full_height = _sphere(projection)
    x = ((longitude / (2 * math.pi) + 0.5) * width - 0.5 - projection.left) % width
    # Beyond the last row is the first one for OpenCV, but the other side of the pole on a sphere, which looks alike.
    y = np.clip((0.5 - latitude / math.pi) * full_height - 0.5 - projection.top, 0, height - 1)
    return x.astype(np.float32), y.astype(np.float32)


def _rays(view: View, side: int) -> tuple[_Points, _Points]:
    """(longitude, latitude) of each pixel of a view, (side, side); the longitude is relative to its yaw."""
    plane = ((np.arange(side) + 0.5) / side * 2 - 1) * view.extent
    return _on_sphere(*np.meshgrid(plane, -plane), view)


@functools.lru_cache(maxsize=512)
def _outside(projection: Projection, size: Size, view: View, side: int) -> Mask | None:
    """Which pixels of a view see nothing of the image: bool (side, side); None where all see it."""
    width, height = _sphere(projection)
    if _is_whole(projection, size):
        return None
    longitude, latitude = _rays(view, side)
    row = (0.5 - latitude / math.pi) * height - projection.top
    outside = (row < 0) | (row > size.height)
    if not projection.wraps:
        column = ((longitude + view.yaw) / (2 * math.pi) + 0.5) * width - projection.left
        outside |= column % width > size.width
    outside.setflags(write=False)
    return outside if outside.any() else None


def _halved(image: RgbImage, n: int) -> list[RgbImage]:
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
        side: of the picture in pixels.
        size: of the equirectangular image.
        projection: of the image; None is the whole sphere.

    Returns:
        The object, if any of it is in the image. In a part of a panorama it can be at both edges, and is two then.
    """
    if projection is None:
        projection = _whole_sphere(size)
    polygons = [_unrolled(outline, view, side, projection) for outline in _outlines(instance)]
    points = np.concatenate(polygons)
    top, bottom = max(0, math.floor(points[:, 1].min())), min(size.height, math.ceil(points[:, 1].max()))
    if _is_whole(projection, size):
        bottom = max(bottom, top + 1)
    elif top >= bottom:
        return ()
    if projection.wraps:
        left, right = math.floor(points[:, 0].min()), math.ceil(points[:, 0].max())
        whole = _filled(instance, polygons, Box(left, top, max(right, left + 1), bottom))
        return (placed(whole, size.width),) if whole.mask.any() else ()
    found = []
    turn = _sphere(projection)[0]
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


def _unrolled(outline: _Points, view: View, side: int, projection: Projection) -> _Points:
    """An outline in a picture as a polygon in the equirectangular image, which may go on beyond its edges."""
    longitude, latitude = _directions(outline, view, side)
    if _is_around_a_pole(longitude):
        # A convex outline, which a view's picture keeps convex, meets each meridian once.
        hull = cv2.convexHull(outline.astype(np.float32)).reshape(-1, 2).astype(np.float64)
        longitude, latitude = _directions(hull, view, side)
        pole = math.copysign(math.pi / 2, view.pitch)
        closing = longitude[0] + math.copysign(2 * math.pi, longitude[-1] - longitude[0])
        longitude = np.concatenate([longitude, (closing, closing, longitude[0])])
        latitude = np.concatenate([latitude, (latitude[0], pole, pole)])
    width, height = _sphere(projection)
    columns = ((longitude + view.yaw) / (2 * math.pi) + 0.5) * width - projection.left
    return np.column_stack([columns, (0.5 - latitude / math.pi) * height - projection.top])


def _directions(outline: _Points, view: View, side: int) -> tuple[_Points, _Points]:
    """Longitudes, without jumps, and latitudes along a closed line in a picture."""
    plane = (_dense(outline) / side * 2 - 1) * view.extent
    longitude, latitude = _on_sphere(plane[:, 0], -plane[:, 1], view)
    return np.unwrap(longitude), latitude


def _is_around_a_pole(longitude: _Points) -> bool:
    """Whether a closed line, whose points are less than half a turn apart, ends a turn from where it began."""
    return bool(abs(longitude[-1] - longitude[0]) > math.pi)


def detect_around(
    image: RgbImage,
    detect: _Detect,
    window_options: WindowOptions,
    view_options: ViewOptions,
    merge_options: MergeOptions,
    projection: Projection | None = None,
    outline: _Outline = lambda instance, _: instance,
    reconsider: Reconsider | None = None,
    *,
    whole: bool = False,
) -> tuple[Instance, ...]:
    """All objects in an equirectangular image: those of its windows and of its views, merged across the seam.

    Without views and overlapping windows the full image is looked at. Where it is a part of a panorama whose edges do
    not meet, it is always looked at, and through views that are moved to its edges as well.

    Args:
        image: the whole sphere, or a part of it.
        detect: finds the objects in pictures, in their own coordinates: one tuple of instances for each pass.
        window_options: which windows of the image are looked at.
        view_options: which views.
        merge_options: as in `merging.merge`.
        projection: of the image; None is by its shape, as in `projection.panorama`.
        outline: gives an object in a picture its outline, and is told whether an edge of the image cuts the object.
        reconsider: chooses what is merged.
        whole: whether the full image is looked at in any case.

    Returns:
        Instances as `core.wraparound` has them; `split_at_seam` cuts them into what is in frame. Where the edges of the
        image do not meet, none crosses them.
    """
    size = Size(image.shape[1], image.shape[0])
    around = panorama(size, {})[0] if projection is None else projection
    side = view_options.view_side
    boxes = windows(size, window_options, wraps=around.wraps)
    cameras = [v for fov in view_options.view_fov for v in views(math.radians(fov), view_options.view_overlap)]
    cameras = [v for v in cameras if (outside := _outside(around, size, v, side)) is None or not outside.all()]
    if not around.wraps:
        cameras = list(dict.fromkeys((*cameras, *(_moved_inside(v, around, size) for v in cameras))))
    if whole or not around.wraps or not (window_options.use_cutouts or cameras):
        boxes = tuple(dict.fromkeys((Box(0, 0, size.width, size.height), *boxes)))
    levels = _halved(image, 6 if cameras or reconsider else 0)

    def back(look: Box | View, found: Instance) -> tuple[Instance, ...]:
        instance = outline(found, _is_cut(found, look, around, size, side))
        if isinstance(look, View):
            return to_sphere(instance, look, side, size, around)
        moved = instance.moved(look.left, look.top)
        return (placed(moved, size.width) if around.wraps else moved,)

    frame = Frame(size, around.wraps)
    # Pictures are made while the model is busy with those before.
    looks: tuple[Box | View, ...] = (*boxes, *cameras)
    found = detect(render(levels, k, side, around) if isinstance(k, View) else frame.read(image, k) for k in looks)
    passes = [
        [part for instance in one for part in back(look, instance)]
        for look, passes_of_look in zip(looks, found, strict=True)
        for one in passes_of_look
    ]
    if reconsider is not None:

        def take(instance: Instance, factor: float) -> CloseUp:
            return close_up(levels, around, instance, factor, lambda found: outline(found, False))

        passes = [[*one] for one in reconsider(passes, take)]
    if around.wraps:
        return merge_around([[], *passes], merge_options, size.width)
    return merge([[], *passes], merge_options)


def _moved_inside(view: View, projection: Projection, size: Size) -> View:
    """The same view turned so that no edge of a part of a panorama is in the middle of its picture.

    Objects that an edge cuts are found better where they are at an edge of the picture, too.
    """
    width, height = _sphere(projection)
    upper, lower = (math.pi * (0.5 - row / height) for row in (projection.top, projection.top + size.height))
    left, right = (2 * math.pi * (column / width - 0.5) for column in (projection.left, projection.left + size.width))
    middle = (left + right) / 2
    yaw = middle + (view.yaw - middle + math.pi) % (2 * math.pi) - math.pi
    return View(_clamped(yaw, left, right, view.fov), _clamped(view.pitch, lower, upper, view.fov), view.fov)


def _clamped(middle: float, low: float, high: float, extent: float) -> float:
    """The middle of something that is moved inside an interval, or to its middle where it is too large."""
    # Rounded, so that views in the same direction are one.
    inside = (low + high) / 2 if high - low < extent else min(max(middle, low + extent / 2), high - extent / 2)
    return round(inside, 6)


def _is_cut(instance: Instance, look: Box | View, projection: Projection, size: Size, side: int) -> bool:
    """Whether an object, in the pixels of its picture, goes on beyond an edge of a part of a panorama."""
    if _is_whole(projection, size):
        return False
    box = instance.box
    reach = math.ceil(_AT_EDGE * max(box.width, box.height)) + 1
    if isinstance(look, View):
        outside = _outside(projection, size, look, side)
        return outside is not None and bool(outside[box.grown(reach, Size(side, side)).slices].any())
    box = box.moved(look.left, look.top)
    is_cut = box.top < reach or size.height - box.bottom < reach
    return is_cut or (not projection.wraps and (box.left < reach or size.width - box.right < reach))


def close_up(
    levels: Sequence[RgbImage],
    projection: Projection,
    instance: Instance,
    factor: float,
    outline: Callable[[Instance], Instance] = lambda instance: instance,
) -> CloseUp:
    """The close-up of an object in an equirectangular image: a view of its own.

    Args:
        levels: as in `render`.
        projection: of the image.
        instance: with a box as `core.wraparound` has them.
        factor: side of the close-up, as a multiple of the object's longer side.
        outline: gives an object in the close-up its outline.
    """
    size = Size(levels[0].shape[1], levels[0].shape[0])
    width, height = _sphere(projection)
    box = instance.box
    yaw = (((box.left + box.right) / 2 + projection.left) / width - 0.5) * 2 * math.pi
    pitch = (0.5 - ((box.top + box.bottom) / 2 + projection.top) / height) * math.pi
    extent = box.width / width * 2 * math.pi * math.cos(pitch), box.height / height * math.pi
    fov = min(max(_CLOSE_UP_FOV[0], factor * max(extent)), _CLOSE_UP_FOV[1])
    side = min(max(_CLOSE_UP_SIDE[0], math.ceil(fov / (2 * math.pi) * width)), _CLOSE_UP_SIDE[1])
    view = View(yaw, pitch, fov)
    # As if the picture were part of the sphere; it is about that in its middle.
    across, down = (max(1.0, angle / fov * side) / 2 for angle in extent)
    place = Box(
        math.floor(side / 2 - across),
        math.floor(side / 2 - down),
        math.ceil(side / 2 + across),
        math.ceil(side / 2 + down),
    )
    return CloseUp(
        render(levels, view, side, projection),
        place,
        lambda found: to_sphere(outline(found), view, side, size, projection),
    )
