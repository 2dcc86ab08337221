"""Where EXIF blocks and XMP packets stand in a JPEG or PNG file: the one finder for decoding, record and output.

Viewers do not agree on the odd cases. What counts here:

- JPEG: segments before the first scan, also those after the frame header (libjpeg, and so browsers, Pillow and most
  others). What stands between scans is seen by nobody. Stray bytes before a segment are skipped, as libjpeg skips them.
- EXIF in several APP1 segments: a segment that does not begin with a TIFF header goes on with the one before it
  (Pillow, ExifTool). Browsers read the first one only, where the orientation is in any case.
- PNG: the eXIf chunk, before or behind the picture; then the hexadecimal "Raw profile type exif" and "APP1" that
  ImageMagick writes as text, compressed or not (Pillow, ExifTool, ImageMagick; browsers read eXIf only).
- What `Embedded` says about the orientation.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple, TypeVar

from anonymise.core.errors import UnreadableImage
from anonymise.images import jpegsegments, png
from anonymise.metadata import Embedded

__all__ = ["embedded", "of_chunks", "of_segments"]

_Item = TypeVar("_Item")

_EXIF, _XMP = b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0"
_EXIF_PREFIX_BYTES = 6  # the last one should be 0, and is not always
_TIFF_HEADERS = (b"II*\0", b"MM\0*")
_PNG_XMP = b"XML:com.adobe.xmp"

_MAX_BLOCKS: Final = 16
"""Files have one or two of each kind; thousands would cost minutes."""

_MAX_TEXT_BYTES: Final = 4 << 20
"""Longest text of a PNG that is looked into: more than a megabyte in hexadecimal."""

_RAW_PROFILE: Final = re.compile(rb"\s{0,9}[^\n]{0,80}\n\s{0,9}(\d{1,8})\s([0-9A-Fa-f\s]*)")
"""A name, the number of bytes, the bytes in hexadecimal; a line each."""


class _Block(NamedTuple):
    """One piece of metadata: its kind and its bytes without prefix; a fault has a text that says what is wrong."""

    kind: Literal["exif", "more exif", "xmp", "fault"]
    data: bytes


def embedded(data: bytes) -> Embedded:
    """The metadata blocks of an image file. Of a damaged file, those before the damage; of other bytes, none."""
    if data.startswith(png.SIGNATURE):
        return of_chunks(_as_far_as_possible(png.chunks(data)))
    segments = (segment for segment, _ in jpegsegments.head(data))
    return of_segments(_as_far_as_possible(segments))


def of_segments(segments: Iterable[jpegsegments.Segment]) -> Embedded:
    """The metadata blocks of a JPEG file, whose segments before the first scan these are."""
    return _gathered(
        block for segment in segments if segment.marker == jpegsegments.APP1 for block in _app1(segment.payload)
    )


def of_chunks(chunks: Iterable[png.Chunk]) -> Embedded:
    """The metadata blocks of a PNG file, whose chunks these are."""
    own: list[_Block] = []
    from_texts: list[_Block] = []
    for chunk in chunks:
        if chunk.kind == b"eXIf":
            own += _app1(chunk.payload) if chunk.payload.startswith(_EXIF) else [_Block("exif", chunk.payload)]
        elif len(from_texts) < 2 * _MAX_BLOCKS:
            from_texts += _text_blocks(chunk)
    return _gathered((*own, *from_texts))


def _as_far_as_possible(items: Iterator[_Item]) -> Iterator[_Item]:
    try:
        yield from items
    except UnreadableImage:
        return


def _app1(payload: bytes) -> Iterator[_Block]:
    if payload.startswith(_EXIF):
        body = payload[_EXIF_PREFIX_BYTES:]
        yield _Block("exif" if body.startswith(_TIFF_HEADERS) else "more exif", body)
    elif payload.startswith(_XMP):
        yield _Block("xmp", payload[len(_XMP) :])


def _text_blocks(chunk: png.Chunk) -> Iterator[_Block]:
    """The metadata in a text chunk of a PNG."""
    keyword = png.keyword(chunk)
    name = keyword.decode("latin-1")
    if keyword != _PNG_XMP and name not in {f"Raw profile type {kind}" for kind in ("exif", "APP1", "app1", "xmp")}:
        return
    text = png.text(chunk, _MAX_TEXT_BYTES)
    if text is None:
        yield _Block("fault", f"{name} is left out: damaged, or longer than {_MAX_TEXT_BYTES >> 20} MiB".encode())
        return
    if keyword == _PNG_XMP:
        yield _Block("xmp", text)
        return
    found = _RAW_PROFILE.match(text)
    digits = b"".join(found[2].split()) if found else b""
    if not found or len(digits) % 2 or not digits:
        yield _Block("fault", f"{name} is left out: it is not hexadecimal".encode())
        return
    profile = bytes.fromhex(digits.decode("ascii"))[: int(found[1])]
    if profile.startswith((_EXIF, _XMP)):
        yield from _app1(profile)
    else:
        yield _Block("xmp" if name.endswith("xmp") else "exif", profile)


def _gathered(blocks: Iterable[_Block]) -> Embedded:
    exif: list[list[bytes]] = []
    xmp: list[bytes] = []
    problems: list[str] = []
    n_skipped = 0
    for block in blocks:
        if block.kind == "fault":
            problems.append(block.data.decode("latin-1"))
        elif block.kind == "more exif" and exif and len(exif[-1]) < _MAX_BLOCKS:
            exif[-1].append(block.data)
        elif block.kind == "xmp" and len(xmp) < _MAX_BLOCKS:
            xmp.append(block.data)
        elif block.kind != "xmp" and len(exif) < _MAX_BLOCKS:
            exif.append([block.data])
        else:
            n_skipped += 1
    if n_skipped:
        problems.append(f"more than {_MAX_BLOCKS} blocks of EXIF or XMP: {n_skipped} of them are left out")
    return Embedded(tuple(b"".join(parts) for parts in exif), tuple(xmp), tuple(problems))
