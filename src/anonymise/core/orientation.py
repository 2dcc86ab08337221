"""EXIF orientation: pixels and detections as a file stores them, and as viewers show them."""

from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from anonymise.core.detections import Box, Detections, Instance, Size

__all__ = [
    "detections_to_stored",
    "detections_to_upright",
    "points_to_stored",
    "to_stored",
    "to_upright",
    "upright_size",
]

_Scalar = TypeVar("_Scalar", bound=np.generic)

# What makes the stored picture upright, for each EXIF orientation (EXIF 3.0, section 4.6.5.1): rows and columns are
# exchanged first, then the rows or the columns are reversed. Then the orientation that undoes it.
_TRANSPOSED = frozenset({5, 6, 7, 8})
_UPSIDE_DOWN = frozenset({3, 4, 7, 8})
_MIRRORED = frozenset({2, 3, 6, 7})
_UNDONE_BY = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}


def to_upright(pixels: NDArray[_Scalar], orientation: int) -> NDArray[_Scalar]:
    """The picture or mask as it is shown, from the way it is stored.

    Args:
        pixels: (height, width, ...) in stored orientation.
        orientation: EXIF orientation, 1 to 8.
    """
    return np.ascontiguousarray(_turned(pixels, orientation))


def to_stored(pixels: NDArray[_Scalar], orientation: int) -> NDArray[_Scalar]:
    """The picture or mask as it is stored, from the way it is shown; the inverse of ``to_upright``."""
    return np.ascontiguousarray(_turned(pixels, _UNDONE_BY[orientation]))


def upright_size(stored: Size, orientation: int) -> Size:
    """The size of the picture as it is shown, from that as it is stored."""
    return Size(stored.height, stored.width) if orientation in _TRANSPOSED else stored


def detections_to_stored(detections: Detections, orientation: int) -> Detections:
    """What was found in the upright picture, in the coordinates of the stored one.

    Args:
        detections: detections of the upright picture.
        orientation: EXIF orientation of the file, 1 to 8.
    """
    if orientation == 1:
        return detections
    stored = upright_size(detections.size, orientation)
    instances, doubtful = (
        tuple(_instance_to_stored(instance, stored, orientation) for instance in some)
        for some in (detections.instances, detections.doubtful)
    )
    return replace(detections, size=stored, instances=instances, doubtful=doubtful)


def detections_to_upright(detections: Detections, orientation: int) -> Detections:
    """What was found in the stored picture, in the coordinates of the upright one; `detections_to_stored` undone."""
    return detections_to_stored(detections, _UNDONE_BY[orientation])


def points_to_stored(points: NDArray[np.float64], upright: Size, orientation: int) -> NDArray[np.float64]:
    """Points of the picture as it is shown, in the coordinates of the stored one.

    Args:
        points: (n, 2), column and row; pixel 0 covers 0 to 1.
        upright: size of the picture as it is shown.
        orientation: EXIF orientation of the file, 1 to 8.
    """
    undo, stored = _UNDONE_BY[orientation], upright_size(upright, orientation)
    x, y = points.T[::-1] if undo in _TRANSPOSED else points.T
    y = stored.height - y if undo in _UPSIDE_DOWN else y
    return np.column_stack([stored.width - x if undo in _MIRRORED else x, y])


def _turned(pixels: NDArray[_Scalar], orientation: int) -> NDArray[_Scalar]:
    """A view of the stored picture as it is shown."""
    turned = pixels.swapaxes(0, 1) if orientation in _TRANSPOSED else pixels
    if orientation in _UPSIDE_DOWN:
        turned = turned[::-1]
    if orientation in _MIRRORED:
        turned = turned[:, ::-1]
    return turned


def _instance_to_stored(instance: Instance, stored: Size, orientation: int) -> Instance:
    undo = _UNDONE_BY[orientation]
    box = instance.box
    left, top, right, bottom = box.left, box.top, box.right, box.bottom
    if undo in _TRANSPOSED:
        left, top, right, bottom = top, left, bottom, right
    if undo in _UPSIDE_DOWN:
        top, bottom = stored.height - bottom, stored.height - top
    if undo in _MIRRORED:
        left, right = stored.width - right, stored.width - left
    return replace(instance, box=Box(left, top, right, bottom), mask=_turned(instance.mask, undo))
