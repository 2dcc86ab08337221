"""Images whose left and right edges meet, as those of a 360° image do: objects across this seam, and their pixels.

Here an object that crosses the seam is one instance whose box goes on beyond the right edge: ``0 <= box.left < width``
and ``box.right`` is at most ``box.left + width``. In `Detections` it is two instances, the second of which `continues`
the first.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from anonymise.core.detections import Box, Instance, Size, united

__all__ = ["Frame", "grown_around", "join_seam", "placed", "split_at_seam", "wholes"]

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


def placed(instance: Instance, width: int) -> Instance:
    """The same object where it belongs: its left edge inside the image, at most once around."""
    box = instance.box
    if box.width <= width:
        turns = box.left // width
        return instance.moved(-turns * width, 0) if turns else instance
    mask = np.zeros((box.height, width), np.bool_)
    done = 0
    while done < box.width:
        column = (box.left + done) % width
        n = min(width - column, box.width - done)
        mask[:, column : column + n] |= instance.mask[:, done : done + n]
        done += n
    return replace(instance, box=Box(0, box.top, width, box.bottom), mask=mask)


def grown_around(instance: Instance, grow: Callable[[Instance, Size], Instance], size: Size) -> Instance:
    """The object made larger, also across the seam.

    Args:
        instance: with a box as this module has them.
        grow: makes an object larger within an image of some size, by less than the image's width to each side.
        size: size of the image.
    """
    turn = instance.moved(size.width, 0)
    return placed(grow(turn, Size(4 * size.width, size.height)), size.width)


def split_at_seam(instances: Sequence[Instance], width: int) -> tuple[Instance, ...]:
    """The same objects in frame; one that crosses the seam becomes two, which `join_seam` joins again."""
    return tuple(part for instance in instances for part in _parts(instance, width))


def _parts(instance: Instance, width: int) -> Iterator[Instance]:
    box = instance.box
    if box.right <= width:
        yield instance
        return
    cut = width - box.left
    halves = (
        (Box(box.left, box.top, width, box.bottom), instance.mask[:, :cut]),
        (Box(0, box.top, box.right - width, box.bottom), instance.mask[:, cut:]),
    )
    continues = False
    for half, mask in halves:
        if mask.any():
            yield replace(instance, box=half, mask=mask, continues=continues)
            continues = True


def wholes(instances: Iterable[Instance]) -> Iterator[tuple[Instance, ...]]:
    """Each object as one or two instances: the second, which `continues` the first, is the rest at the other edge."""
    parts: tuple[Instance, ...] = ()
    for instance in instances:
        if parts and not instance.continues:
            yield parts
            parts = ()
        parts += (instance,)
    if parts:
        yield parts


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
    box, mask = united([(part.box, part.mask) for part in (right_edge, beyond)])
    larger = max(right_edge, left_edge, key=lambda i: (i.area(), -i.label))
    return Instance(larger.label, larger.score, box, mask)
