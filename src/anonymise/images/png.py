"""The structure of a PNG file: its chunks (W3C PNG, third edition, section 5)."""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from anonymise.errors import UnreadableImage

__all__ = ["SIGNATURE", "Chunk", "Header", "assemble", "parse", "read_header"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk: its four-letter kind and what it holds."""

    kind: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """The IHDR chunk, as far as it is asked for.

    Attributes:
        width: in pixels.
        height: in pixels.
        depth: bits of a sample.
        colour_type: 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGB with alpha.
    """

    width: int
    height: int
    depth: int
    colour_type: int


def parse(data: bytes) -> tuple[Chunk, ...]:
    """All chunks from IHDR to IEND; what follows is left out.

    Raises:
        UnreadableImage: it is no PNG, truncated, or a checksum is wrong.
    """
    if not data.startswith(SIGNATURE):
        raise UnreadableImage("no PNG file: it does not start with the PNG signature")
    chunks: list[Chunk] = []
    position = len(SIGNATURE)
    while not chunks or chunks[-1].kind != b"IEND":
        if position + 12 > len(data):
            raise UnreadableImage("truncated: the file ends before its IEND chunk")
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 8 + length
        if end + 4 > len(data):
            raise UnreadableImage("truncated: the file ends within a chunk")
        if zlib.crc32(memoryview(data)[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise UnreadableImage("damaged: a chunk of the PNG file has a wrong checksum")
        chunks.append(Chunk(data[position + 4 : position + 8], data[position + 8 : end]))
        position = end + 4
    if chunks[0].kind != b"IHDR" or all(chunk.kind != b"IDAT" for chunk in chunks):
        raise UnreadableImage("a PNG file without a picture")
    return tuple(chunks)


def read_header(data: bytes) -> Header:
    """The size and kind of the picture, without a look at the rest of the file.

    Raises:
        UnreadableImage: there is no valid IHDR chunk at the start.
    """
    if not data.startswith(SIGNATURE) or data[12:16] != b"IHDR" or len(data) < 33:
        raise UnreadableImage("truncated: the PNG file ends within its header")
    width, height, depth, colour_type = struct.unpack_from(">IIBB", data, 16)
    if not (0 < width < 1 << 31 and 0 < height < 1 << 31):
        raise UnreadableImage("a damaged PNG header")
    return Header(width, height, depth, colour_type)


def assemble(chunks: Iterable[Chunk]) -> bytes:
    """A PNG file of these chunks."""
    out = [SIGNATURE]
    for chunk in chunks:
        body = chunk.kind + chunk.payload
        out += [struct.pack(">I", len(chunk.payload)), body, struct.pack(">I", zlib.crc32(body))]
    return b"".join(out)
