"""Run-length encoded masks in COCO's format, decoded from files that nobody has checked.

A mask is the lengths of runs of background and object in turn, column by column, beginning with background: a list of
numbers, or COCO's compressed text of them (``rleToString`` in cocoapi's maskApi.c). pycocotools decodes such texts in C
without looking: one that is cut short gives a smaller mask, a malformed one ends the process.
"""

import numpy as np
from numpy.typing import NDArray

from anonymise.core.detections import Box, Mask, Size, full_mask

__all__ = ["check_size", "decode", "mask_within"]

_MAX_PIXELS = 2**32 - 1
"""Of an image: COCO's code counts pixels with 32 bits."""

_LONGEST_NUMBER = 8
"""Characters of a number in the compressed text, of 5 bits each: enough for 32 bits and a sign."""

_Runs = NDArray[np.int64]


def check_size(size: Size) -> None:
    """Checks that an image can have this size.

    Raises:
        ValueError: a side is not positive, or there are too many pixels for COCO's format.
    """
    if min(size) < 1 or size.width * size.height > _MAX_PIXELS:
        raise ValueError(f"an image of {size.width}×{size.height} pixels is not possible")


def decode(counts: object, size: Size) -> tuple[Box, Mask]:
    """The mask as a crop in the smallest box around it. It takes memory for the crop, not for the image.

    Args:
        counts: the run lengths: a list of whole numbers, or a compressed text.
        size: size of the image, for which `check_size` was called.

    Raises:
        ValueError: these are no run lengths, they are of another number of pixels than the image has, or the mask
            covers no pixel.
    """
    if isinstance(counts, str | bytes):
        runs = _from_text(counts, size)
    elif isinstance(counts, list):
        runs = _from_list(counts, size)
    else:
        raise ValueError("run lengths are a text or a list of whole numbers")
    n_pixels = int(runs.sum())
    if n_pixels != size.width * size.height:
        raise ValueError(
            f"the run lengths are of {n_pixels} pixels, the image of {size.width}×{size.height} has "
            f"{size.width * size.height}"
        )
    ends = runs.cumsum()
    begins, lengths = ends[0::2][: len(runs) // 2], runs[1::2]
    begins, lengths = begins[lengths > 0], lengths[lengths > 0]
    if not len(lengths):
        raise ValueError("the mask covers no pixel")
    return _cropped(begins, lengths, size)


def mask_within(counts: object, size: Size, box: Box) -> Mask:
    """The mask as a crop in a given box, which may be larger than the mask.

    Args:
        counts: as in `decode`.
        size: as in `decode`.
        box: inside the image.

    Raises:
        ValueError: as in `decode`, or the mask reaches beyond the box.
    """
    smallest, mask = decode(counts, size)
    if smallest == box:
        return mask
    if box.intersection(smallest) != smallest:
        raise ValueError(f"the mask reaches beyond its box: it fills {smallest}, the box is {box}")
    larger = np.zeros((box.height, box.width), np.bool_)
    larger[smallest.within(box).slices] = mask
    return larger


def _from_list(counts: list[object], size: Size) -> _Runs:
    try:
        values = np.array(counts)
    except (ValueError, OverflowError) as error:
        raise ValueError("the run lengths are no list of whole numbers") from error
    if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
        raise ValueError("the run lengths are no list of whole numbers")
    return _checked(values, size)


def _from_text(counts: str | bytes, size: Size) -> _Runs:
    # What is not ASCII becomes several bytes of 128 and more.
    data = counts.encode("utf-8", "surrogatepass") if isinstance(counts, str) else counts
    values = np.frombuffer(data, np.uint8).astype(np.int64) - 48
    if values.size and not 0 <= values.min() <= values.max() < 64:
        raise ValueError("the run lengths have characters that do not occur in COCO's compressed texts")
    # Five bits of each character belong to the number, the lowest first; the sixth says that the number goes on.
    is_last = values < 32
    last = np.flatnonzero(is_last)
    if values.size and not is_last[-1]:
        raise ValueError("the run lengths end in the middle of a number")
    first = np.concatenate([[0], last[:-1] + 1]).astype(np.int64) if len(last) else last
    if len(last) and (last - first).max() >= _LONGEST_NUMBER:
        raise ValueError("the run lengths have a number that is too large")
    place = np.arange(values.size) - np.repeat(first, last - first + 1)
    numbers = np.add.reduceat((values & 31) << (5 * place), first) if len(first) else values
    # The fifth bit of a number's last character is its sign.
    numbers -= np.where(values[last] & 16, 1 << (5 * (last - first + 1)), 0)
    if len(numbers) and abs(numbers).max() > size.width * size.height:
        raise ValueError("the run lengths have a number that is larger than the image")
    # From the fourth on they are differences from the length two before.
    numbers[1::2] = numbers[1::2].cumsum()
    numbers[2::2] = numbers[2::2].cumsum()
    return _checked(numbers, size)


def _checked(runs: NDArray[np.integer], size: Size) -> _Runs:
    if runs.size and not 0 <= runs.min() <= runs.max() <= size.width * size.height:
        raise ValueError("the run lengths have a number that is negative or larger than the image")
    return runs.astype(np.int64)


def _cropped(begins: _Runs, lengths: _Runs, size: Size) -> tuple[Box, Mask]:
    """The mask of runs of pixels, counted column by column, in the smallest box around it."""
    last = begins + lengths - 1
    left, right = int(begins[0] // size.height), int(last[-1] // size.height) + 1
    top, bottom = int((begins % size.height).min()), int((last % size.height).max()) + 1
    if (begins // size.height != last // size.height).any():
        # A run that goes on in the next column has the lowest and the uppermost row.
        top, bottom = 0, size.height
    box = Box(left, top, right, bottom)
    if int(lengths.sum()) == box.area:
        return box, full_mask(box)
    column, row = np.divmod(begins, size.height)
    begins = (column - left) * box.height + row - top
    edges = np.stack([begins, begins + lengths], axis=1).ravel()
    runs = np.diff(edges, prepend=0, append=box.area)
    is_object = np.arange(len(runs)) % 2 == 1
    return box, np.ascontiguousarray(np.repeat(is_object, runs).reshape(box.width, box.height).T)
