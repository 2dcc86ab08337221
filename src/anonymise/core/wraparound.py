"""Objects in 360° images, whose left and right edges meet: merging, growing, and cutting them into what is in frame.

Here an object that crosses the seam is one instance whose box goes on beyond the right edge: ``0 <= box.left < width``
and ``box.right`` is at most ``box.left + width``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from anonymise.core.detections import Box, Instance, Size

__all__ = ["grown_around", "placed", "split_at_seam"]


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
