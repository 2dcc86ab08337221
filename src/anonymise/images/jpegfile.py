"""The structure of a JPEG file: its frame, its tables, its coded picture (ITU-T T.81, annex B)."""

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from anonymise.core.errors import UnreadableImage
from anonymise.images import dct
from anonymise.images.jpegsegments import (
    APP0,
    APP14,
    EOI,
    SOS,
    Segment,
    all_segments,
    end_of_scan,
    head,
    is_metadata,
    next_segment,
    packed,
)

__all__ = ["Component", "Frame", "JpegFile", "parse", "read_frame", "with_component_ids"]

_DQT, _DHT, _DRI, _DAC = 0xDB, 0xC4, 0xDD, 0xCC
_TABLES = frozenset({_DQT, _DHT, _DAC, _DRI})
_BASELINE, _EXTENDED = 0xC0, 0xC1
_PROGRESSIVE = frozenset({0xC2, 0xCA})
_FRAMES = frozenset({_BASELINE, _EXTENDED, 0xC9}) | _PROGRESSIVE  # C9 and CA are the arithmetic coded ones
_ALL_FRAMES = frozenset(range(0xC0, 0xD0)) - {_DHT, 0xC8, _DAC}

_RESTART: Final = re.compile(rb"\xff[\xd0-\xd7]")

# Fixed tables must code all 162 pairs of run and size (T.81, F.1.2.2.1); tables made for one picture have fewer.
_ALL_AC_SYMBOLS = 162

_DIAGONALS = sorted(((y, x) for y in range(8) for x in range(8)), key=lambda at: (sum(at), at[1 - sum(at) % 2]))
_ZIGZAG: Final = np.argsort([8 * y + x for y, x in _DIAGONALS])
"""Place in the zigzag of each coefficient in row order (T.81, figure A.6)."""

_MAX_SCANS = 100
"""Each scan passes over all blocks of the picture, however few bytes it has. Encoders write about ten; libvips has the
same limit."""


@dataclass(frozen=True, slots=True)
class Component:
    """One component as the frame header lists it: its sampling factors, and where its quantisation table stands."""

    identifier: int
    h: int
    v: int
    slot: int


@dataclass(frozen=True, slots=True)
class Frame:
    """The frame header.

    Attributes:
        marker: the SOF marker, which names the process.
        precision: bits of a sample.
        width: in pixels.
        height: in pixels.
        components: in the file's order.
    """

    marker: int
    precision: int
    width: int
    height: int
    components: tuple[Component, ...]

    @property
    def progressive(self) -> bool:
        """Whether the picture comes in scans of rising precision."""
        return self.marker in _PROGRESSIVE

    @property
    def max_h(self) -> int:
        """The largest horizontal sampling factor."""
        return max(c.h for c in self.components)

    @property
    def max_v(self) -> int:
        """The largest vertical sampling factor."""
        return max(c.v for c in self.components)

    def grids(self) -> tuple[dct.BlockGrid, ...]:
        """The blocks of each component (T.81, A.1.1 and A.2)."""
        return tuple(
            dct.BlockGrid(
                rows=-(-self.height * c.v // (8 * self.max_v)),
                columns=-(-self.width * c.h // (8 * self.max_h)),
                h=c.h,
                v=c.v,
            )
            for c in self.components
        )


@dataclass(frozen=True, slots=True)
class JpegFile:
    """A JPEG file in two parts.

    Attributes:
        frame: its header.
        segments: the APPn and COM segments before the first scan, in the file's order.
        picture: a complete JPEG stream of everything else, which is all that is needed to decode the samples. What
            follows the end marker and what no marker announces is not in it.
        tables: quantisation steps of each component, uint16 (64,), in rows of rising horizontal frequency.
        fixed_codes: whether its Huffman tables are such as a one-pass encoder uses.
        has_end: whether its end marker is there.
    """

    frame: Frame
    segments: tuple[Segment, ...]
    picture: bytes
    tables: tuple[NDArray[np.uint16], ...]
    fixed_codes: bool
    has_end: bool

    @property
    def is_rgb(self) -> bool:
        """Whether the three components are red, green and blue; the rule is libjpeg's."""
        if len(self.frame.components) != 3 or any(
            s.marker == APP0 and s.payload.startswith(b"JFIF\0") and len(s.payload) >= 14 for s in self.segments
        ):
            return False
        for s in self.segments:
            if s.marker == APP14 and s.payload.startswith(b"Adobe") and len(s.payload) >= 12:
                return s.payload[11] == 0
        return bytes(c.identifier for c in self.frame.components) == b"RGB"

    def colour_segments(self) -> list[Segment]:
        """The segments by which a decoder learns the colour space: JFIF's and Adobe's."""
        return [
            s
            for s in self.segments
            if (s.marker == APP0 and s.payload.startswith(b"JFIF\0"))
            or (s.marker == APP14 and s.payload.startswith(b"Adobe"))
        ]

    def with_filler(self, filler: bytes) -> bytes:
        """The picture with bytes behind its data, and the same bytes in each of the restart intervals that may follow.

        Args:
            filler: no more than some kilobytes, without markers.
        """
        data = self.picture[:-2]
        restarts = _RESTART.findall(data, data.rfind(b"\xff\xda"))
        following = (restarts[-1][1] - 0xD0 + 1) if restarts else 0
        intervals = (bytes((0xFF, 0xD0 + (following + n) % 8)) + filler for n in range(8))
        return b"".join((data, filler, *intervals, b"\xff\xd9"))

    def why_not_lossless(self) -> str | None:
        """What keeps regions of this file from being replaced without loss, None where nothing does."""
        frame = self.frame
        if len(frame.components) not in (1, 3):
            return f"{len(frame.components)} colour components (CMYK)"
        if any(frame.max_h % c.h or frame.max_v % c.v for c in frame.components):
            return "chroma sampling by a broken factor"
        return None


def parse(data: bytes) -> JpegFile:
    """Takes a JPEG file apart, down to its end marker.

    A file that has no end marker, or has something else in its place, is accepted if no scan is missing. Whether the
    last scan is whole can only be seen when it is decoded.

    Raises:
        UnreadableImage: it is truncated, or no JPEG that can be decoded.
    """
    frame: Frame | None = None
    segments: list[Segment] = []
    picture = [b"\xff\xd8"]
    tables: dict[int, NDArray[np.uint16]] = {}  # by slot, as they are at this point of the file
    table_of: dict[int, NDArray[np.uint16]] = {}  # by component: it keeps the table that is there in its first scan
    ac_tables: list[int] = []
    scans: list[bytes] = []
    has_end = False
    for segment, position in all_segments(data):
        marker, payload = segment.marker, segment.payload
        if marker == EOI:
            has_end = True
            break
        if is_metadata(marker):
            if not scans:
                segments.append(segment)
            continue
        if frame is not None and not _is_part(segment, frame) and _all_coefficients(scans, frame):
            break  # something that follows the picture, which has no end marker
        if marker in _ALL_FRAMES:
            frame = _frame(segment, frame)
        elif marker == _DQT:
            tables |= _quantisation_tables(payload)
        elif marker == _DHT:
            ac_tables += _ac_table_sizes(payload)
        elif marker not in _TABLES and marker != SOS:
            continue  # DNL, reserved and unknown segments say nothing about the samples that libjpeg decodes
        picture.append(packed(marker, payload))
        if marker == SOS:
            if frame is None:
                raise UnreadableImage("a JPEG scan without a frame header")
            if not _is_scan_header(payload):
                raise UnreadableImage("a damaged JPEG scan header")
            scans.append(payload)
            in_scan = payload[1 : 1 + 2 * payload[0] : 2]
            slots = {c.identifier: c.slot for c in frame.components if c.identifier in in_scan}
            table_of = {i: tables[slot] for i, slot in slots.items() if slot in tables} | table_of
            if len(scans) > _MAX_SCANS:
                raise UnreadableImage(f"more than {_MAX_SCANS} scans, which would take minutes to decode")
            picture.append(data[position : end_of_scan(data, position)])
    if frame is None or not scans:
        raise UnreadableImage("a JPEG file without a picture")
    if not _all_coefficients(scans, frame):
        raise UnreadableImage("truncated: scans of the picture are missing")
    if any(c.identifier not in table_of for c in frame.components):
        raise UnreadableImage("damaged: a quantisation table is missing")
    picture.append(b"\xff\xd9")
    return JpegFile(
        frame=frame,
        segments=tuple(segments),
        picture=b"".join(picture),
        tables=tuple(table_of[c.identifier] for c in frame.components),
        fixed_codes=bool(ac_tables) and min(ac_tables) >= _ALL_AC_SYMBOLS,
        has_end=has_end,
    )


def read_frame(data: bytes) -> Frame:
    """The frame header, without a look at the coded picture.

    Raises:
        UnreadableImage: there is no frame header that can be decoded, or no scan.
    """
    frame: Frame | None = None
    for segment, _ in head(data):
        if segment.marker in _ALL_FRAMES:
            frame = _frame(segment, frame)
    if frame is None:
        raise UnreadableImage("a JPEG file without a frame header")
    return frame


def with_component_ids(stream: bytes, frame: Frame) -> bytes:
    """The stream with the original's component ids in its headers: decoders may take the colour space from them."""
    identifiers = [c.identifier for c in frame.components]
    out = [b"\xff\xd8"]
    position = 2
    while True:
        marker, payload, end = next_segment(stream, position)
        body = bytearray(payload)
        if marker == EOI:
            out.append(b"\xff\xd9")
            return b"".join(out)
        if marker in _ALL_FRAMES:
            body[6::3] = bytes(identifiers)
        elif marker == SOS:
            count = body[0]
            body[1 : 1 + 2 * count : 2] = bytes(identifiers[i] for i in body[1 : 1 + 2 * count : 2])
        position = end
        if is_metadata(marker):
            continue
        out.append(packed(marker, bytes(body)))
        if marker == SOS:
            position = end_of_scan(stream, end)  # libjpeg ends every file that it writes
            out.append(stream[end:position])


def _is_part(segment: Segment, frame: Frame) -> bool:
    """Whether a segment can be part of the picture although no scan is missing any more."""
    if segment.marker != SOS:
        return segment.marker in _TABLES
    if not frame.progressive:  # each component has one scan (T.81, clause 4.10)
        return False
    header, known = segment.payload, {c.identifier for c in frame.components}
    return _is_scan_header(header) and known.issuperset(header[1 : 1 + 2 * header[0] : 2])


def _frame(segment: Segment, earlier: Frame | None) -> Frame:
    marker, payload = segment.marker, segment.payload
    if earlier is not None or marker not in _FRAMES:
        raise UnreadableImage(f"a JPEG process that is not supported (marker FF {marker:02X})")
    if len(payload) < 6 or len(payload) != 6 + 3 * payload[5]:
        raise UnreadableImage("a damaged JPEG frame header")
    precision, height, width, count = struct.unpack_from(">BHHB", payload)
    if precision != 8:
        raise UnreadableImage(f"a JPEG of {precision} bit per sample; only 8 bit can be decoded")
    if width == 0 or height == 0:
        raise UnreadableImage("a JPEG frame header without a size")
    components = tuple(
        Component(payload[i], payload[i + 1] >> 4, payload[i + 1] & 15, payload[i + 2])
        for i in range(6, 6 + 3 * count, 3)
    )
    if count not in (1, 3, 4) or any(not (1 <= c.h <= 4 and 1 <= c.v <= 4) for c in components):
        raise UnreadableImage("a damaged JPEG frame header")
    return Frame(marker, precision, width, height, components)


def _quantisation_tables(payload: bytes) -> Mapping[int, NDArray[np.uint16]]:
    """The whole tables of a DQT segment by their slots, out of the zigzag (T.81, B.2.4.1)."""
    found: dict[int, NDArray[np.uint16]] = {}
    position = 0
    while position < len(payload):
        size = 2 if payload[position] >> 4 else 1
        steps = payload[position + 1 : position + 1 + 64 * size]
        if len(steps) == 64 * size:
            found[payload[position] & 15] = np.frombuffer(steps, ">u2" if size == 2 else "u1").astype(np.uint16)[
                _ZIGZAG
            ]
        position += 1 + 64 * size
    return found


def _ac_table_sizes(payload: bytes) -> Iterator[int]:
    position = 0
    while position + 17 <= len(payload):
        count = sum(payload[position + 1 : position + 17])
        if payload[position] >> 4:
            yield count
        position += 17 + count


def _is_scan_header(header: bytes) -> bool:
    return bool(header) and len(header) == 4 + 2 * header[0]


def _all_coefficients(scans: Sequence[bytes], frame: Frame) -> bool:
    """Whether the scans bring every bit of every coefficient of every component (T.81, annex G).

    Args:
        scans: the payloads of the SOS segments in the file's order.
        frame: the header.
    """
    missing: dict[int, NDArray[np.int8]] = {}  # component → bits still missing of each of its 64 coefficients
    for header in scans:
        first, last, low = (header[-3], header[-2], header[-1] & 15) if frame.progressive else (0, 63, 0)
        for identifier in header[1 : 1 + 2 * header[0] : 2]:
            missing.setdefault(identifier, np.full(64, 16, np.int8))[first : last + 1] = low
    return all(c.identifier in missing and not missing[c.identifier].any() for c in frame.components)
