"""Which pixels belong to which object: static masks, overlaps, and the seam of 360° images."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from anonymise.core.detections import Box, Detections, Instance, Mask, Size, full_mask
from anonymise.core.errors import DrawError
from anonymise.redaction.appearance import Appearance

__all__ = ["Frame", "Region", "any_within", "join_seam", "partition", "static_mask"]

_Array = TypeVar("_Array", bound=NDArray[np.generic])


@dataclass(frozen=True, slots=True)
class Frame:
    """The image as a plane that may continue beyond its right edge, at its left.

    Boxes in it have ``0 <= left < size.width``; where the frame wraps, ``right`` may be up to ``left + size.width``.
    """

    size: Size
    wraps: bool = False

    def grown(self, box: Box, pixels: int) -> Box:
        """``box`` with ``pixels`` more on each side, as far as there are any."""
        top, bottom = max(0, box.top - pixels), min(self.size.height, box.bottom + pixels)
        left, right = box.left - pixels, box.right + pixels
        if not self.wraps:
            return Box(max(0, left), top, min(self.size.width, right), bottom)
        if right - left > self.size.width:
            spare = (self.size.width - box.width) // 2
            left, right = box.left - spare, box.right + spare
        grown = Box(left, top, right, bottom)
        return grown.moved(self.size.width, 0) if left < 0 else grown

    def offset(self, inner: Box, outer: Box) -> tuple[int, int]:
        """How far (right, down) ``inner`` begins inside ``outer``, which contains it."""
        dx = inner.left - outer.left
        return (dx + self.size.width if dx < 0 else dx), inner.top - outer.top

    def pieces(self, box: Box) -> Iterator[tuple[tuple[slice, slice], slice]]:
        """The parts of ``box``: index in a full-frame array, and columns in an array of the box."""
        inside = min(box.right, self.size.width)
        yield (slice(box.top, box.bottom), slice(box.left, inside)), slice(0, inside - box.left)
        if box.right > inside:
            yield (slice(box.top, box.bottom), slice(0, box.right - inside)), slice(inside - box.left, box.width)

    def read(self, array: _Array, box: Box) -> _Array:
        """The part of a full-frame array inside ``box``; a view wherever that is possible."""
        parts = [array[index] for index, _ in self.pieces(box)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Region:
    """The pixels that one object owns.

    Attributes:
        label: class id.
        box: of the object, in its `Frame`.
        mask: bool (box.height, box.width), the pixels of the object that no coarser object covers.
        appearance: how it is drawn.
    """

    label: int
    box: Box
    mask: Mask
    appearance: Appearance

    @property
    def span(self) -> int:
        """The longest side of the object in pixels, by which strengths scale."""
        return max(self.box.width, self.box.height)


def partition(layers: Iterable[tuple[Sequence[Instance], Appearance]], frame: Frame, hidden: Mask) -> Iterator[Region]:
    """Gives every masked pixel to one object.

    Within a layer a pixel belongs to the largest of the objects that cover it: what is drawn there is then coarse
    enough for all of them. Each pixel feeds one fill only, so that two fills cannot be played off against each other.
    The result does not depend on the order of the instances.

    Args:
        layers: instances and how they are drawn; an earlier layer comes before a later one.
        frame: of the image.
        hidden: full-frame mask of the image, all False; what is covered is set while the regions are taken.
    """
    for instances, appearance in layers:
        for instance in sorted(instances, key=_coarse_first):
            covered = frame.read(hidden, instance.box)
            mask = instance.mask & ~covered if covered.any() else instance.mask
            for index, columns in frame.pieces(instance.box):
                hidden[index] |= instance.mask[:, columns]
            if mask.any():
                yield Region(instance.label, instance.box, mask, appearance)


def _coarse_first(instance: Instance) -> tuple[int, Box, int, bytes]:
    box = instance.box
    mask = b"" if instance.fills_box else np.packbits(instance.mask).tobytes()
    return -max(box.width, box.height), box, instance.label, mask


class _Pair(NamedTuple):
    shared_rows: int
    right_edge: int
    left_edge: int


def join_seam(instances: Sequence[Instance], frame: Frame) -> tuple[Instance, ...]:
    """Makes one instance of the two halves of an object that crosses the left/right edge of a 360° image.

    Two halves belong together when their masks share rows at the edge; where several could, those that share most. The
    joined box extends beyond the right edge, as `Frame` allows.
    """
    if not frame.wraps:
        return tuple(instances)
    width = frame.size.width
    at_right = [n for n, i in enumerate(instances) if i.box.right == width and i.box.left > 0]
    at_left = [n for n, i in enumerate(instances) if i.box.left == 0 and i.box.right < width]
    pairs: list[_Pair] = []
    for first, second in itertools.product(at_right, at_left):
        rows = _shared_rows(instances[first], instances[second])
        if rows and instances[first].box.width + instances[second].box.width <= width:
            pairs.append(_Pair(rows, first, second))
    joined: list[Instance] = []
    done: set[int] = set()
    for pair in sorted(pairs, key=lambda p: (-p.shared_rows, instances[p.right_edge].box, instances[p.left_edge].box)):
        if not done & {pair.right_edge, pair.left_edge}:
            done |= {pair.right_edge, pair.left_edge}
            joined.append(_joined(instances[pair.right_edge], instances[pair.left_edge], width))
    return (*(i for n, i in enumerate(instances) if n not in done), *joined)


def _shared_rows(right_edge: Instance, left_edge: Instance) -> int:
    top = max(right_edge.box.top, left_edge.box.top)
    bottom = min(right_edge.box.bottom, left_edge.box.bottom)
    if top >= bottom:
        return 0
    first = right_edge.mask[top - right_edge.box.top : bottom - right_edge.box.top, -1]
    second = left_edge.mask[top - left_edge.box.top : bottom - left_edge.box.top, 0]
    return int(np.count_nonzero(first & second))


def _joined(right_edge: Instance, left_edge: Instance, width: int) -> Instance:
    beyond = left_edge.moved(width, 0)
    box = right_edge.box.hull(beyond.box)
    mask = np.zeros((box.height, box.width), np.bool_)
    for part in (right_edge, beyond):
        mask[part.box.within(box).slices] |= part.mask
    larger = max(right_edge, left_edge, key=lambda i: (i.area(), -i.label))
    return Instance(larger.label, larger.score, box, mask)


def static_mask(keep: NDArray[np.uint8], size: Size, *, resize: bool) -> Detections:
    """The regions of a mask file that is applied to every image of a run.

    Each connected area becomes an object with class id 0, so that strengths scale with it.

    Args:
        keep: uint8 (height, width) as read from the file: 0 hides, everything else is kept.
        size: of the images of the run.
        resize: whether a mask of another size is scaled to theirs. A pixel is then hidden when any part of it is.

    Raises:
        DrawError: the mask is no single-channel image, or has another size and ``resize`` is off.
    """
    if keep.ndim != 2 or keep.dtype != np.uint8:
        raise DrawError(f"static_mask: expected 8-bit pixels of one channel, got {keep.dtype} {keep.shape}")
    hide = (keep == 0).astype(np.uint8)
    height, width = hide.shape
    if (width, height) != size:
        if not resize:
            raise DrawError(
                f"static_mask: the mask has {width}×{height} pixels, the image {size.width}×{size.height}; "
                "give a mask of the same size or set static_mask_resize: true"
            )
        hide = any_within(hide, size).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(hide, connectivity=8)
    instances: list[Instance] = []
    for number in range(1, count):
        left, top, box_width, box_height = (int(value) for value in stats[number, : cv2.CC_STAT_AREA])
        box = Box(left, top, left + box_width, top + box_height)
        mask = labels[box.slices] == number
        instances.append(Instance(0, 1.0, box, full_mask(box) if mask.all() else mask))
    return Detections(size, tuple(instances))


def any_within(mask: NDArray[np.uint8], size: Size) -> Mask:
    """Scales a mask to ``size``; a pixel is set when any part of it, however small, is set in ``mask`` (0 or 1)."""
    sums = cv2.integral(mask)
    height, width = mask.shape
    bottoms, rights = np.arange(1, size.height + 1) * height, np.arange(1, size.width + 1) * width
    y0, y1 = (bottoms - height) // size.height, -(-bottoms // size.height)
    x0, x1 = (rights - width) // size.width, -(-rights // size.width)
    counts = sums[np.ix_(y1, x1)] - sums[np.ix_(y0, x1)] - sums[np.ix_(y1, x0)] + sums[np.ix_(y0, x0)]
    return np.asarray(counts > 0)
