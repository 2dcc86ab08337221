"""Objects in 360° images, whose left and right edges meet: merging, growing, and cutting them into what is in frame.

Here an object that crosses the seam is one instance whose box goes on beyond the right edge: ``0 <= box.left < width``
and ``box.right`` is at most ``box.left + width``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from anonymise.core.detections import Box, Instance, Size
from anonymise.detection.merging import MergeOptions, may_join, merge

__all__ = ["grown_around", "merge_around", "placed", "split_at_seam"]


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


def merge_around(passes: Sequence[Sequence[Instance]], options: MergeOptions, width: int) -> tuple[Instance, ...]:
    """As `merging.merge`, for an image whose left and right edges meet.

    Objects that reach the seam are laid out beside each other on both sides of it, with all that they could be joined
    with, and merged there; the others stay as they are. A row of objects that overlap all the way around the image is
    cut somewhere.

    Args:
        passes: detections with boxes as this module has them; the first is the pass over the full image.
        options: as in `merging.merge`.
        width: of the image.
    """
    found = [(number, instance) for number, instances in enumerate(passes) for instance in instances]
    group_of: dict[int, int] = {}
    turns = [0] * len(found)
    boxes = np.array([(i.box.left, i.box.top, i.box.right, i.box.bottom) for _, i in found]).reshape(-1, 4)
    for start in np.flatnonzero(boxes[:, 2] >= width).tolist():
        if start in group_of:
            continue
        group_of[start] = start
        waiting = [start]
        while waiting:
            index = waiting.pop()
            laid_out = found[index][1].moved(turns[index] * width, 0)
            for other, turn in _touching(laid_out, boxes, width):
                if other not in group_of and may_join(laid_out, found[other][1].moved(turn * width, 0), options):
                    group_of[other], turns[other] = start, turn
                    waiting.append(other)
    merged: list[Instance] = []
    for group in (None, *sorted(set(group_of.values()))):
        laid_out_passes: list[list[Instance]] = [[] for _ in passes]
        for index, (number, instance) in enumerate(found):
            if group_of.get(index) == group:
                laid_out_passes[number].append(instance.moved(turns[index] * width, 0))
        merged += (placed(instance, width) for instance in merge(laid_out_passes, options))
    return tuple(sorted(merged, key=lambda i: (i.box, i.label, -i.score)))


def _touching(instance: Instance, boxes: NDArray[np.int64], width: int) -> Iterator[tuple[int, int]]:
    """(index, turns around the image) of all boxes that have a pixel or an edge in common with an instance's box."""
    box = instance.box
    in_rows = (boxes[:, 1] <= box.bottom) & (boxes[:, 3] >= box.top)
    home = box.left // width
    for turn in (home - 1, home, home + 1):
        in_columns = (boxes[:, 0] + turn * width <= box.right) & (boxes[:, 2] + turn * width >= box.left)
        for index in np.flatnonzero(in_rows & in_columns).tolist():
            yield index, turn


def grown_around(instance: Instance, grow: Callable[[Instance, Size], Instance], size: Size) -> Instance:
    """The object made larger, also across the seam.

    Args:
        instance: with a box as this module has them.
        grow: makes an object larger within an image of some size, by less than the image's width to each side.
        size: of the image.
    """
    turn = instance.moved(size.width, 0)
    return placed(grow(turn, Size(4 * size.width, size.height)), size.width)


def split_at_seam(instances: Sequence[Instance], width: int) -> tuple[Instance, ...]:
    """The same objects in frame; one that crosses the seam becomes two, which `draw.draw` joins again for drawing."""
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
