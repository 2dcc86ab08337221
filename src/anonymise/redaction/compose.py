"""Puts what replaces the objects into the image, and cuts previews."""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from anonymise.core.detections import Box, Detections, Mask, RgbImage, Size
from anonymise.core.errors import DrawError
from anonymise.core.wraparound import Frame, join_seam
from anonymise.redaction.appearance import Appearance
from anonymise.redaction.fills import Scene, fill
from anonymise.redaction.regions import Region, partition

__all__ = ["Center", "Drawn", "Layer", "draw", "preview"]


class Layer(NamedTuple):
    """Objects and how they are drawn."""

    detections: Detections
    appearance: Appearance


class Center(NamedTuple):
    """A point of an image in 0 to 1, in the order of the configuration."""

    height: float
    width: float


@dataclass(frozen=True, slots=True)
class Drawn:
    """An anonymised image.

    Attributes:
        image: uint8 (height, width, 3); the input itself where there was nothing to hide.
        changed: bool (height, width), the pixels that were drawn; all others are those of the input.
    """

    image: RgbImage
    changed: Mask


def draw(
    image: RgbImage,
    detections: Detections,
    appearance: Appearance,
    *,
    static: Layer | None = None,
    wraps: bool = False,
    in_place: bool = False,
) -> Drawn:
    """Hides what was found in an image.

    Every pixel in a mask is replaced, and none outside; with ``feather`` the masks are grown by the feather's width
    first. The same input gives the same output, in whatever order the instances come.

    Args:
        image: uint8 (height, width, 3); not modified, unless asked for.
        detections: what to hide.
        appearance: how to hide it.
        static: areas to hide in every image, which come over everything else.
        wraps: whether the left edge continues the right one, as in 360° images. The halves of an object at this seam
            are then drawn as one.
        in_place: draw on ``image`` itself, which saves the memory of a copy; with a feather it is copied all the same.

    Raises:
        DrawError: the image is not 8-bit RGB, or the detections are those of an image of another size.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise DrawError(f"cannot draw on {image.dtype} {image.shape}: expected 8-bit pixels with three channels")
    size = Size(image.shape[1], image.shape[0])
    frame = Frame(size, wraps)
    layers = [Layer(detections, appearance)] if static is None else [static, Layer(detections, appearance)]
    for layer in layers:
        _check_size(layer.detections, size)
    hidden = np.zeros((size.height, size.width), np.bool_)
    to_draw = [(join_seam(d.instances, frame), a) for d, a in layers if a.draw_mask]
    regions = list(partition(to_draw, frame, hidden))
    if not regions:
        return Drawn(image, hidden)
    scene = Scene(image, hidden, frame)
    feathers = any(region.appearance.feather for region in regions)
    # Without a feather, fills look at the pixels of their own region and at those that nobody hides.
    out = image if in_place and not feathers else image.copy()
    changed = hidden.copy() if feathers else hidden
    for region in regions:
        content = fill(region, scene)
        _put(out, region, content, frame)
        if region.appearance.feather:
            _feather(out, changed, region, content, scene)
    return Drawn(out, changed)


def _check_size(detections: Detections, size: Size) -> None:
    if detections.size != size:
        raise DrawError(
            f"the detections are those of an image of {detections.size.width}×{detections.size.height} pixels, "
            f"but the image has {size.width}×{size.height}"
        )
    whole = Box(0, 0, size.width, size.height)
    for instance in detections.instances:
        if whole.intersection(instance.box) != instance.box:
            raise DrawError(f"an object at {instance.box} is outside of its image of {size.width}×{size.height} pixels")


def _put(out: RgbImage, region: Region, content: RgbImage, frame: Frame) -> None:
    """Replaces the pixels of a region."""
    for index, columns in frame.pieces(region.box):
        mask = np.ascontiguousarray(region.mask[:, columns])
        # Unlike np.copyto, OpenCV copies under a mask without a pass per channel: forty times as fast.
        cv2.copyTo(np.ascontiguousarray(content[:, columns]), mask.view(np.uint8), out[index])


def _feather(out: RgbImage, changed: Mask, region: Region, content: RgbImage, scene: Scene) -> None:
    """Blends the surroundings of a region into it, within the feather's width outside its mask.

    The inside stays as it is drawn, and so do other objects.
    """
    width_px = max(1, round(region.appearance.feather * region.span))
    around = scene.frame.grown(region.box, width_px)
    dx, dy = scene.frame.offset(region.box, around)
    below, beside = around.height - dy - region.box.height, around.width - dx - region.box.width
    outside = cv2.copyMakeBorder((~region.mask).astype(np.uint8), dy, below, dx, beside, cv2.BORDER_CONSTANT, value=1)
    distance = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_3)
    band = (distance > 0) & (distance < width_px + 1) & ~scene.frame.read(scene.hidden, around)
    extended = cv2.copyMakeBorder(np.ascontiguousarray(content), dy, below, dx, beside, cv2.BORDER_REPLICATE)
    for index, columns in scene.frame.pieces(around):
        rows_columns = np.nonzero(band[:, columns])
        share = (1 - distance[:, columns][rows_columns] / (width_px + 1))[:, np.newaxis]
        target = out[index]
        blended = target[rows_columns] * (1 - share) + extended[:, columns][rows_columns] * share
        target[rows_columns] = np.round(blended)
        changed[index] |= band[:, columns]


def preview(image: RgbImage, dim: Size, center: Center) -> RgbImage:
    """A part of an image, not scaled.

    Args:
        image: the anonymised image.
        dim: width and height of the preview (key ``preview_dim``); the preview is smaller where the image is.
        center: middle of the preview (key ``preview_center``); the preview is moved to be inside the image.
    """
    height, width = image.shape[:2]
    (rows, columns) = (
        _interval(length, wanted, at)
        for length, wanted, at in ((height, dim[1], center[0]), (width, dim[0], center[1]))
    )
    return image[rows, columns].copy()


def _interval(length: int, wanted: int, center: float) -> slice:
    extent = min(wanted, length)
    start = min(max(round(center * length - extent / 2), 0), length - extent)
    return slice(start, start + extent)
