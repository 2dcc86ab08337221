"""The marker segments of a JPEG file (ITU-T T.81, annex B): the one walk over them."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from anonymise.core.errors import UnreadableImage

__all__ = [
    "APP0",
    "APP1",
    "APP2",
    "APP14",
    "COM",
    "EOI",
    "SOI",
    "SOS",
    "Segment",
    "all_segments",
    "assemble",
    "end_of_scan",
    "head",
    "is_metadata",
    "next_segment",
    "packed",
]

APP0, APP1, APP2, APP14, _APP15, COM = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF, 0xFE
SOI, EOI, SOS = 0xD8, 0xD9, 0xDA
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})

_AFTER_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # a marker that is no stuffed byte and no restart


@dataclass(frozen=True, slots=True)
class Segment:
    """A marker segment: its code (0xE1 is APP1) and what follows the length."""

    marker: int
    payload: bytes


def head(data: bytes) -> Iterator[tuple[Segment, int]]:
    """All marker segments of a JPEG file before its first scan, each with the position at which it ends.

    Decoders take what says how the picture is shown from these segments and from no others. Stray bytes between
    segments are skipped, as libjpeg does.

    Yields:
        The segments in the file's order; the last one is the header of the first scan.

    Raises:
        UnreadableImage: the file is no JPEG, or has no scan.
    """
    if not data.startswith(b"\xff\xd8"):
        raise UnreadableImage("no JPEG file: it does not start with FF D8")
    position = 2
    while True:
        marker, payload, position = next_segment(data, position)
        if marker == EOI:
            raise UnreadableImage("a JPEG file without a picture")
        yield Segment(marker, payload), position
        if marker == SOS:
            return


def assemble(picture: bytes, segments: list[Segment]) -> bytes:
    """A JPEG file of a stream as in ``JpegFile.picture`` and the segments that go before it."""
    return b"".join((b"\xff\xd8", *(packed(s.marker, s.payload) for s in segments), picture[2:]))


def all_segments(data: bytes) -> Iterator[tuple[Segment, int]]:
    """All marker segments of a JPEG file, each with the position at which it ends.

    They end with the end marker, or where no segment follows: whether something is missing then, the scans so far tell.

    Raises:
        UnreadableImage: the file is no JPEG, or has no scan.
    """
    position = 2
    for segment, position in head(data):
        yield segment, position
    while True:
        try:
            marker, payload, position = next_segment(data, end_of_scan(data, position))
        except UnreadableImage:
            return
        yield Segment(marker, payload), position


def end_of_scan(data: bytes, position: int) -> int:
    """Where the coded data end that start at ``position``, or were to start there."""
    match = _AFTER_SCAN.search(data, position)
    if match is not None:
        return match.start()
    return len(data) - data.endswith(b"\xff")  # half of a marker


def is_metadata(marker: int) -> bool:
    """Whether a segment of this marker holds metadata: APPn and COM."""
    return APP0 <= marker <= _APP15 or marker == COM


def next_segment(data: bytes, position: int) -> tuple[int, bytes, int]:
    """Marker, payload and end of the next segment at or after ``position``; stray bytes before it are skipped.

    Raises:
        UnreadableImage: the file ends before it.
    """
    while True:
        position = data.find(b"\xff", position)
        if position < 0 or position + 1 >= len(data):
            raise UnreadableImage("truncated: the file ends within its headers or has no end marker")
        marker = data[position + 1]
        position += 1
        if marker in (0x00, 0xFF):
            continue
        position += 1
        if marker == EOI:
            return marker, b"", position
        if marker not in _STANDALONE:
            break
        if marker == SOI:
            raise UnreadableImage("damaged: a second start marker within the picture")
    if position + 2 > len(data):
        raise UnreadableImage("truncated: the file ends within its headers")
    length = int.from_bytes(data[position : position + 2], "big")
    if length < 2 or position + length > len(data):
        raise UnreadableImage("truncated: the file ends within its headers")
    return marker, data[position + 2 : position + length], position + length


def packed(marker: int, payload: bytes) -> bytes:
    """A marker segment as bytes."""
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload
