"""Which pixels belong to which object: static masks and overlaps."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from anonymise.core.detections import Box, Detections, Instance, Mask, Size, full_mask
from anonymise.core.errors import DrawError
from anonymise.core.wraparound import Frame
from anonymise.redaction.appearance import Appearance

__all__ = ["Region", "any_within", "partition", "static_mask"]


@dataclass(frozen=True, slots=True)
class Region:
    """The pixels that one object owns.

    Attributes:
        label: class id.
        box: box of the object, in its `Frame`.
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
        frame: frame of the image.
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


def static_mask(keep: NDArray[np.uint8], size: Size, *, resize: bool) -> Detections:
    """The regions of a mask file that is applied to every image of a run.

    Each connected area becomes an object with class id 0, so that strengths scale with it.

    Args:
        keep: uint8 (height, width) as read from the file: 0 hides, everything else is kept.
        size: size of the images of the run.
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
