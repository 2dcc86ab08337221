"""The structure of a PNG file: its chunks (W3C PNG, third edition, section 5)."""

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from anonymise.core.errors import UnreadableImage

__all__ = ["SIGNATURE", "Chunk", "Header", "assemble", "chunks", "inflated", "keyword", "parse", "read_header", "text"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_SAMPLES: Final[Mapping[int, int]] = MappingProxyType({0: 1, 2: 3, 3: 4, 4: 4, 6: 4})
"""Samples of a decoded pixel for each colour type: a palette may have alpha, and grey with alpha becomes colour."""


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

    @property
    def bytes_per_pixel(self) -> int:
        """Bytes that a decoded pixel takes."""
        return _SAMPLES[self.colour_type] * max(1, self.depth // 8)


def chunks(data: bytes) -> Iterator[Chunk]:
    """The chunks of a PNG file down to IEND; what follows is left out.

    Raises:
        UnreadableImage: it is no PNG, truncated, or a checksum is wrong.
    """
    if not data.startswith(SIGNATURE):
        raise UnreadableImage("no PNG file: it does not start with the PNG signature")
    position = len(SIGNATURE)
    kind = b""
    while kind != b"IEND":
        if position + 12 > len(data):
            raise UnreadableImage("truncated: the file ends before its IEND chunk")
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 8 + length
        if end + 4 > len(data):
            raise UnreadableImage("truncated: the file ends within a chunk")
        if zlib.crc32(memoryview(data)[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise UnreadableImage("damaged: a chunk of the PNG file has a wrong checksum")
        kind = data[position + 4 : position + 8]
        yield Chunk(kind, data[position + 8 : end])
        position = end + 4


def parse(data: bytes) -> tuple[Chunk, ...]:
    """All chunks from IHDR to IEND.

    A file that ends early is accepted if its picture is whole; then there is no IEND among the chunks.

    Raises:
        UnreadableImage: it is no PNG, truncated, without a picture, or a checksum is wrong.
    """
    found: list[Chunk] = []
    try:
        found.extend(chunks(data))  # what comes before an error is kept
    except UnreadableImage:
        position = len(SIGNATURE) + sum(12 + len(chunk.payload) for chunk in found)
        cut = Chunk(data[position + 4 : position + 8], data[position + 8 :])
        if cut.kind == b"IDAT":
            found.append(cut)
        if not found or not _has_whole_picture(found):
            raise
    if found[0].kind != b"IHDR" or all(chunk.kind != b"IDAT" for chunk in found):
        raise UnreadableImage("a PNG file without a picture")
    return tuple(found)


def _has_whole_picture(found: Sequence[Chunk]) -> bool:
    """Whether the compressed data of the picture come to their end, and not far beyond the picture's size."""
    header = read_header(assemble(found[:1]))
    left = 2 * (header.width * header.bytes_per_pixel + 1) * header.height + (1 << 10)  # with room for interlacing
    inflater = zlib.decompressobj()
    try:
        for chunk in found:
            rest = chunk.payload if chunk.kind == b"IDAT" else b""
            while rest and not inflater.eof and left > 0:
                left -= len(inflater.decompress(rest, 1 << 20))
                rest = inflater.unconsumed_tail
    except zlib.error:
        return False
    return inflater.eof


def read_header(data: bytes) -> Header:
    """The size and kind of the picture, without a look at the rest of the file.

    Raises:
        UnreadableImage: there is no valid IHDR chunk at the start.
    """
    if not data.startswith(SIGNATURE) or len(data) < 33:
        raise UnreadableImage("truncated: the PNG file ends within its header")
    if data[12:16] == b"CgBI":
        raise UnreadableImage("a CgBI file, Apple's variant of PNG for its apps, which is no PNG; convert it first")
    width, height, depth, colour_type = struct.unpack_from(">IIBB", data, 16)
    if data[12:16] != b"IHDR" or colour_type not in _SAMPLES or not (0 < width < 1 << 31 and 0 < height < 1 << 31):
        raise UnreadableImage("a damaged PNG header")
    return Header(width, height, depth, colour_type)


def assemble(chunks: Iterable[Chunk]) -> bytes:
    """A PNG file of these chunks."""
    out = [SIGNATURE]
    for chunk in chunks:
        body = chunk.kind + chunk.payload
        out += [struct.pack(">I", len(chunk.payload)), body, struct.pack(">I", zlib.crc32(body))]
    return b"".join(out)


def keyword(chunk: Chunk) -> bytes:
    """The keyword of a text chunk; nothing for other chunks."""
    return chunk.payload.partition(b"\0")[0] if chunk.kind in (b"tEXt", b"zTXt", b"iTXt") else b""


def text(chunk: Chunk, max_bytes: int) -> bytes | None:
    """The text of a tEXt, zTXt or iTXt chunk (PNG, section 11.3.3); None where it is damaged or too long.

    Args:
        chunk: a text chunk.
        max_bytes: the longest text that is decompressed.
    """
    rest = chunk.payload.partition(b"\0")[2]
    is_compressed = chunk.kind == b"zTXt"
    if chunk.kind == b"iTXt":
        # Compression flag and method, then language and translated keyword, each with a NUL behind it.
        parts = rest[2:].split(b"\0", 2)
        if len(parts) != 3:
            return None
        is_compressed, rest = rest[0] == 1, parts[2]
    elif is_compressed:
        rest = rest[1:]
    if is_compressed:
        return inflated(rest, max_bytes)
    return rest if len(rest) <= max_bytes else None


def inflated(data: bytes, max_bytes: int) -> bytes | None:
    """Decompressed data; None where they are damaged or longer than ``max_bytes``, which takes no more memory."""
    inflater = zlib.decompressobj()
    try:
        out = inflater.decompress(data, max_bytes + 1)
    except zlib.error:
        return None
    return out if inflater.eof and len(out) <= max_bytes else None
