"""The perspective views in which a model looks at a 360° image, and what is found in them on the image again.

`gnomonic` has the projection. What is found comes back as masks, in crops; boxes are as `core.wraparound` has them. The
image may be a part of a panorama (`core.projection`): views then look only where it is. Angles are in radians.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from anonymise.core.detections import Box, Instance, RgbImage, Size
from anonymise.core.projection import Projection, panorama
from anonymise.core.section import Section
from anonymise.core.wraparound import Frame, placed
from anonymise.detection.gnomonic import View, from_sphere, halved, is_whole, render, sphere_of, to_sphere, unseen
from anonymise.detection.merging import MergeOptions, merge, merge_around
from anonymise.detection.tiles import CloseUp, TakeCloseUp, WindowOptions, windows

__all__ = ["Reconsider", "ViewOptions", "close_up", "detect_around", "views"]


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


class ViewOptions(Section):
    """Keys of the configuration about the perspective views of 360° images."""

    view_fov: tuple[Annotated[float, Field(ge=10, le=120)], ...]
    """360° images: fields of view, in degrees, of the perspective views that cover the sphere; [] has no views."""

    view_overlap: float = Field(ge=0.1, le=0.8)
    """Overlap of neighbouring views as a fraction of the view."""

    view_side: int = Field(ge=32, le=4096)
    """Width and height of a view in pixels."""


def views(fov: float, overlap: float) -> tuple[View, ...]:
    """Views that cover the whole sphere, both poles in the middle of one, row by row from the top.

    Args:
        fov: field of view of each, in radians.
        overlap: overlap of neighbours as a fraction of the view, at least 0.1: straight edges leave gaps between curved
            rows.
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
    right, up, ahead = from_sphere(longitudes, np.full_like(longitudes, latitude), view)
    reach = view.extent * ahead
    outside = (ahead <= 0) | (abs(right) > reach) | (abs(up) > reach)
    return float(longitudes[max(1, int(outside.argmax()) - 1)])


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
        projection: projection of the image; None is by its shape, as in `projection.panorama`.
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
    cameras = [v for v in cameras if (outside := unseen(around, size, v, side)) is None or not outside.all()]
    if not around.wraps:
        cameras = list(dict.fromkeys((*cameras, *(_moved_inside(v, around, size) for v in cameras))))
    if whole or not around.wraps or not (window_options.use_cutouts or cameras):
        boxes = tuple(dict.fromkeys((Box(0, 0, size.width, size.height), *boxes)))
    levels = halved(image, 6 if cameras or reconsider else 0)

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
    width, height = sphere_of(projection)
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
    if is_whole(projection, size):
        return False
    box = instance.box
    reach = math.ceil(_AT_EDGE * max(box.width, box.height)) + 1
    if isinstance(look, View):
        outside = unseen(projection, size, look, side)
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
        projection: projection of the image.
        instance: with a box as `core.wraparound` has them.
        factor: side of the close-up, as a multiple of the object's longer side.
        outline: gives an object in the close-up its outline.
    """
    size = Size(levels[0].shape[1], levels[0].shape[0])
    width, height = sphere_of(projection)
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
