"""DCT coefficients of a JPEG stream, read and written as they are: no inverse transform, no rounding.

The work is done by libjpeg-turbo and mozjpeg, as the wheels of jpeglib carry them. Of jpeglib only these compiled
libraries are used, through ctypes: its own Python layer decodes the whole picture to learn its size, reads the file a
second time to write it, keeps the library's version in a global, and leaves a copy of the original in the temporary
folder when a call fails. The functions used here keep no state, so they can be called from several threads. They want
paths of files: those are in memory (``transient``).
"""

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path

import numpy as np
from jpeglib._bind import CJpegLib
from numpy.typing import NDArray

from anonymise.core.transient import RawFile, raw_file

__all__ = ["BlockGrid", "CodecError", "Coding", "Plane", "read", "write"]

_OPTIMIZE_CODING = CJpegLib.MASKS["OPTIMIZE_CODING"]
_COLOUR_SPACE = {1: 1, 3: 3}  # components → JCS_GRAYSCALE, JCS_YCbCr; jpeglib writes no fourth component


class CodecError(Exception):
    """libjpeg refuses what it is given."""


class Coding(Enum):
    """How coefficients are packed into bits; the picture is the same."""

    STANDARD = "standard"
    """Sequential, with the Huffman tables of the JPEG standard's annex K: one pass."""
    OPTIMISED = "optimised"
    """Sequential, with Huffman tables made for this picture: two passes."""
    PROGRESSIVE = "progressive"
    """Progressive, with the scans that mozjpeg finds smallest: about ten times the time."""


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """Where the blocks of one component lie.

    Attributes:
        rows: number of rows of blocks.
        columns: number of columns of blocks.
        h: horizontal sampling factor.
        v: vertical sampling factor.
    """

    rows: int
    columns: int
    h: int
    v: int


@dataclass(frozen=True, slots=True)
class Plane:
    """One component of a JPEG.

    Attributes:
        blocks: quantised coefficients, int16 (rows, columns, 64), each block in rows of rising horizontal frequency.
        table: quantisation steps, uint16 (64,), in the same order.
    """

    blocks: NDArray[np.int16]
    table: NDArray[np.uint16]


def read(stream: bytes, grids: Sequence[BlockGrid]) -> tuple[Plane, ...]:
    """The coefficients of all components.

    Args:
        stream: a complete JPEG without APPn and COM segments, of 1 or 3 components, 8 bit, Huffman coded.
        grids: what its frame header says, one for each component.

    Raises:
        CodecError: libjpeg refuses the stream.
        StorageError: there is no room for it.
    """
    blocks = [np.zeros((grid.rows, grid.columns, 64), np.int16) for grid in grids]
    tables = np.zeros((4, 64), np.uint16)
    table_of = np.zeros(4, np.int16)
    with raw_file(stream) as source:
        planes = [_pointer(b) for b in blocks] + [None] * (4 - len(blocks))
        library, path = _library("turbo210"), _c_path(source.path)
        # read_jpeg_dct closes an uninitialised file, and so crashes, where the header is bad; the reader of markers is
        # safe there, and leaves its globals alone as long as the stream has no APPn segments.
        done = library.read_jpeg_markers(path, ctypes.create_string_buffer(1)) and library.read_jpeg_dct(
            path, *planes, _pointer(tables), _pointer(table_of)
        )
    if not done:
        raise CodecError("libjpeg cannot read the coefficients")
    return tuple(Plane(b, tables[table_of[i]].copy()) for i, b in enumerate(blocks))


def write(planes: Sequence[Plane], grids: Sequence[BlockGrid], width: int, height: int, coding: Coding) -> bytes:
    """A JPEG stream of these coefficients; its markers are libjpeg's own, its component ids are 0, 1, 2.

    Args:
        planes: the components.
        grids: their blocks; ``grids[i]`` belongs to ``planes[i]``.
        width: width of the picture in pixels.
        height: height of the picture in pixels.
        coding: how the bits are packed.

    Raises:
        CodecError: libjpeg refuses the coefficients.
        StorageError: there is no room for the stream.
        ValueError: the number of components is neither 1 nor 3.
    """
    if len(planes) not in _COLOUR_SPACE:
        raise ValueError(f"{len(planes)} components")
    with raw_file() as target:
        if coding is not Coding.PROGRESSIVE:
            return _written(None, target, planes, grids, (height, width), optimise=coding is Coding.OPTIMISED)
        # mozjpeg takes its coding parameters from a source file only.
        with raw_file() as source:
            _written(None, source, planes, grids, (height, width), optimise=False)
            return _written(source, target, planes, grids, (height, width), optimise=True)


def _written(
    source: RawFile | None,
    target: RawFile,
    planes: Sequence[Plane],
    grids: Sequence[BlockGrid],
    shape: tuple[int, int],
    optimise: bool,
) -> bytes:
    # Equal tables share a slot, and slots are numbered as they appear: jpeglib mixes up slots and components otherwise.
    slots: list[bytes] = []
    slot_of = np.full(4, -1, np.int16)
    for i, plane in enumerate(planes):
        key = plane.table.astype(np.uint16).tobytes()
        if key not in slots:
            slots.append(key)
        slot_of[i] = slots.index(key)
    tables = np.frombuffer(b"".join(slots), np.uint16).reshape(-1, 64)
    blocks = [np.ascontiguousarray(plane.blocks, np.int16) for plane in planes]
    pointers = [_pointer(b) for b in blocks] + [None] * (4 - len(blocks))
    done = _library("turbo210" if source is None else "mozjpeg403").write_jpeg_dct(
        None if source is None else _c_path(source.path),
        _c_path(target.path),
        *pointers,
        (ctypes.c_int * 2)(*shape),
        _pointer(np.array([(g.rows, g.columns) for g in grids], np.int32)),
        _pointer(np.array([(g.v, g.h) for g in grids], np.int32)),
        ctypes.c_int(_COLOUR_SPACE[len(planes)]),
        ctypes.c_int(len(planes)),
        _pointer(np.ascontiguousarray(tables)),
        ctypes.c_short(-1),  # quality: the tables say it
        _pointer(slot_of),
        ctypes.c_int(0),  # no markers
        None,
        None,
        None,
        ctypes.c_uint(_OPTIMIZE_CODING),
        ctypes.c_uint(_OPTIMIZE_CODING if optimise else 0),
    )
    stream = target.read()
    if not done or not stream.endswith(b"\xff\xd9"):
        # libjpeg does not say whether it dislikes the coefficients or the disk is full.
        target.check_room(sum(b.size for b in blocks))
        raise CodecError("libjpeg cannot write the coefficients")
    return stream


@cache
def _library(version: str) -> ctypes.CDLL:
    library: ctypes.CDLL = CJpegLib._bind_lib(version=version)
    return library


def _pointer(array: NDArray[np.generic]) -> ctypes.c_void_p:
    # data_as keeps the array alive as long as the pointer.
    return array.ctypes.data_as(ctypes.c_void_p)


def _c_path(path: Path) -> bytes:
    """The path as C's ``fopen`` wants it.

    Raises:
        CodecError: it cannot be said in the code page of this Windows.
    """
    try:
        return str(path).encode("mbcs") if os.name == "nt" else os.fsencode(path)
    except UnicodeEncodeError as error:
        raise CodecError(f"the folder {path.parent} has a name that libjpeg cannot open") from error
