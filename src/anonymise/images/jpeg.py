"""Replaces regions of a JPEG; the rest of it stays lossless.

A JPEG picture is made of 8×8 blocks of quantised DCT coefficients, for each component at its own sampling. Only the
blocks that a changed pixel touches are computed again, from the changed picture and with the file's own quantisation
tables; all others keep their coefficients bit for bit. "T.81" in the comments is ITU-T T.81, the JPEG standard.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from anonymise.core.detections import Mask, RgbImage
from anonymise.images import dct
from anonymise.images.jpegfile import JpegFile, with_component_ids

__all__ = ["replace_regions"]

# A coded picture may grow by this much before a slower, denser coding is tried. The bound of a file's size is 5 %, and
# little else in it can grow.
_TOLERATED_GROWTH = 1.048

# Row u of the 8-point DCT-II: a(u)/2 · cos((2x + 1)uπ/16), a(0) = 1/√2, else 1 (T.81, A.3.3).
_DCT: Final[NDArray[np.float32]] = (
    np.cos(np.outer(np.arange(8), 2 * np.arange(8) + 1) * np.pi / 16) / 2 * np.array([[0.5**0.5]] + [[1]] * 7)
).astype(np.float32)
_BLOCKS_AT_ONCE = 4096  # keeps the working set within the cache


def replace_regions(file: JpegFile, image: RgbImage, changed: Mask) -> bytes:
    """Re-encodes the blocks that a changed pixel touches and keeps all others bit for bit.

    A block of a subsampled component covers more than 8×8 pixels; it counts as touched when any of them is changed, so
    no sample that was averaged from a changed pixel stays. Pixels of untouched blocks decode as before, but for those
    within one chroma sample of a touched chroma block, where decoders that smooth the chroma mix the two; what they mix
    in there is the changed picture. The drawing of a grey JPEG comes out grey.

    Args:
        file: the original; ``why_not_lossless()`` must be None.
        image: the picture with its changed pixels, in the file's size.
        changed: which pixels of it were changed.

    Returns:
        A stream as in ``JpegFile.picture``: sequential, or progressive where a progressive file would grow otherwise.
        Restart markers are left out.

    Raises:
        dct.CodecError: libjpeg refuses the file.
        StorageError: there is no room for its coefficients.
    """
    frame = file.frame
    grids = frame.grids()
    # The tables that stand in the file at its end need not be those of a component that came early.
    planes = [
        replace(plane, table=table) for plane, table in zip(dct.read(file.picture, grids), file.tables, strict=True)
    ]
    for (h, v), group in groupby(enumerate(frame.components), key=lambda item: (item[1].h, item[1].v)):
        numbers = [number for number, _ in group]
        for rows, columns, samples in _blocks(image, changed, 8 * frame.max_v // v, 8 * frame.max_h // h, file.is_rgb):
            for number in numbers:
                plane = planes[number]
                plane.blocks[rows, columns] = _quantised(samples[..., number], plane.table)
    if len(grids) == 1:  # the factors of a single component mean nothing (T.81, A.2.2), and 2×2 would pad the picture
        grids = (dct.BlockGrid(grids[0].rows, grids[0].columns, 1, 1),)
    best = b""
    for coding in _codings(file):
        stream = dct.write(planes, grids, frame.width, frame.height, coding)
        if not best or len(stream) < len(best):
            best = stream
        if len(best) <= _TOLERATED_GROWTH * len(file.picture):
            break
    return with_component_ids(best, frame)


def _touched(changed: Mask, height: int, width: int) -> Mask:
    """For each cell of ``height`` × ``width`` pixels (multiples of 8), whether any is changed; bool (rows, columns)."""
    # A byte of eight pixels at a time: many times faster than a reduction over the axes of a full frame.
    octets = _cells(np.packbits(changed, axis=1), height, width // 8)
    touched: Mask = np.bitwise_or.reduce(np.bitwise_or.reduce(octets, axis=1), axis=2).astype(bool)
    return touched


def _cells(array: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Cut into cells, with zeros beyond the edges: (rows, height, columns, width)."""
    rows, columns = -(-array.shape[0] // height), -(-array.shape[1] // width)
    missing = (0, rows * height - array.shape[0]), (0, columns * width - array.shape[1])
    padded = np.pad(array, missing) if any(after for _, after in missing) else array
    return padded.reshape(rows, height, columns, width)


def _blocks(
    image: RgbImage, changed: Mask, height: int, width: int, rgb: bool
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint8]]]:
    """The blocks of ``height`` × ``width`` pixels (multiples of 8) that a changed pixel touches, some at a time.

    Yields:
        Their rows and columns, and their samples: uint8 (blocks, 8, 8, 3), either R, G, B or Y, Cb, Cr.
    """
    touched = _touched(changed, height, width)
    n_rows = max(1, _BLOCKS_AT_ONCE // touched.shape[1])
    for start in range(0, touched.shape[0], n_rows):
        some = touched[start : start + n_rows]
        if some.any():
            rows, columns = np.nonzero(some)
            gathered = [
                _row_of_blocks(image, start + row, np.flatnonzero(in_row), height, width, rgb)
                for row, in_row in enumerate(some)
                if in_row.any()
            ]
            yield rows + start, columns, np.concatenate(gathered)


def _row_of_blocks(
    image: RgbImage, row: int, columns: NDArray[np.intp], height: int, width: int, rgb: bool
) -> NDArray[np.uint8]:
    """The samples of some blocks of one row; uint8 (blocks, 8, 8, 3).

    Beyond the edge of the image the last pixel is repeated, as encoders do.
    """
    strip = image[row * height : (row + 1) * height]
    below, beside = height - strip.shape[0], -strip.shape[1] % width
    if below or beside:
        strip = cv2.copyMakeBorder(strip, 0, below, 0, beside, cv2.BORDER_REPLICATE)
    pixels = strip.reshape(height, -1, width, 3)[:, columns].reshape(height, -1, 3)
    if not rgb:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb)  # its weights are JFIF's (BT.601, full range)
    # Whole factors, so that blocks do not mix; rounded to 8 bits, as encoders do.
    samples: NDArray[np.uint8] = cv2.resize(pixels, (8 * columns.size, 8), interpolation=cv2.INTER_AREA)
    blocks = samples.reshape(8, columns.size, 8, 3).transpose(1, 0, 2, 3)
    return blocks if rgb else blocks[..., [0, 2, 1]]


def _quantised(samples: NDArray[np.uint8], table: NDArray[np.uint16]) -> NDArray[np.int16]:
    """Coefficients of blocks (blocks, 8, 8): transformed (T.81, A.3.3) and quantised; int16 (blocks, 64)."""
    # A stack of small products, since a large one wakes the threads of BLAS, which takes longer than the product.
    coefficients = (_DCT @ (samples.astype(np.float32) - 128) @ _DCT.T).reshape(-1, 64)
    # 8-bit samples need 11 bits for the DC and 10 for the AC coefficients (T.81, F.1.2); rounding may step over.
    return np.clip(np.rint(coefficients / np.maximum(table, 1)), -1023, 1023).astype(np.int16)


def _codings(file: JpegFile) -> tuple[dct.Coding, ...]:
    if file.frame.progressive:
        return dct.Coding.OPTIMISED, dct.Coding.PROGRESSIVE
    return (dct.Coding.STANDARD, dct.Coding.OPTIMISED) if file.fixed_codes else (dct.Coding.OPTIMISED,)
