"""The EXIF block of an output file: what is allowed out, and the writer of its TIFF structure.

Works by allow-list: a field goes out when its tag is listed and its value looks as the tag promises. The block is built
from scratch, so that gaps, further directories (the embedded thumbnail's) and bytes that no field claims stay behind.
General EXIF libraries are not used: they drop or refuse the recorders' private tags 40055 and 40056.
"""

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final, Literal

from anonymise.metadata.embedded import Embedded
from anonymise.metadata.gps import HEMISPHERE_TAGS, hemisphere
from anonymise.metadata.recorderxml import redact_text, redact_xml
from anonymise.metadata.tags import ORIENTATION, TEXT_TYPES, TYPE_BYTES, UNDEFINED, ExifFields, Field, characters
from anonymise.metadata.xmltext import MalformedXmlError, decode_xml

__all__ = ["MAX_BLOCK_BYTES", "OutputMetadata", "clean_exif", "contains_picture", "is_text"]

OutputMetadata = Literal["redacted", "none", "all"]
"""What of the metadata goes out; no choice lets an embedded picture out."""

MAX_BLOCK_BYTES = 65535 - 2 - len(b"Exif\0\0")
"""Longest EXIF block that fits into a JPEG marker segment."""

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_RECORDER_XML = (40055, 40056)

_CHARACTER_TYPES = TEXT_TYPES | {1, UNDEFINED}
"""Types in which writers put texts, rightly or wrongly; the record reads all of them."""

_MAX_NUMBER_BYTES = 64  # the longest listed value, ReferenceBlackWhite, has 48
_MAX_ALL_BYTES = 4096  # of a value in mode "all"; a recognisable picture needs more than most texts

_NAME = r".{0,64}"  # makers and models; EXIF says ASCII, some cameras write Latin-1 or UTF-8
_TIME = r"[0-9 :.,+/TZ-]{0,40}"
_LETTER = r"[A-Za-z0-9 ]{0,2}"
_GPS_NUMBERS = r"[0-9 :.,+/\u2212-]{0,60}"

# Numbers of the tables are those of EXIF 3.0 (CIPA DC-008-2023), sections 4.6.4 to 4.6.7.
_NUMBERS: Final[Mapping[str, frozenset[int]]] = MappingProxyType(
    {
        # orientation, resolution; white point, primaries, YCbCr coefficients and positioning, reference black and white
        "ifd0": frozenset({ORIENTATION, 0x011A, 0x011B, 0x0128, 0x013E, 0x013F, 0x0211, 0x0213, 0x0214}),
        "exif": frozenset(
            {
                *(0x829A, 0x829D, 0x8822, 0x8827, 0x8830, 0x8831, 0x8832, 0x8833, 0x8834, 0x8835),  # exposure, ISO
                *range(0x9201, 0x920B),  # shutter, aperture, brightness, bias, distance, metering, light, flash, focal
                *(0x9102, 0x9214, 0xA001, 0xA002, 0xA003, 0xA214, 0xA215, 0xA217, 0xA500),  # colour space, size, gamma
                *(0xA20B, 0xA20E, 0xA20F, 0xA210),  # flash energy, focal plane resolution
                *range(0x9400, 0x9406),  # temperature, humidity, pressure, depth, acceleration, elevation angle
                *range(0xA401, 0xA40B),  # custom rendered to sharpness
                *(0xA40C, 0xA432, 0xA460),  # subject distance range, lens specification, composite
            }
        ),
        "gps": frozenset({0, 2, 4, 5, 6, 7, 11, 13, 15, 17, 20, 22, 24, 26, 30, 31}),
    }
)
_TEXTS: Final[Mapping[str, Mapping[int, str]]] = MappingProxyType(
    {
        "ifd0": {0x010F: _NAME, 0x0110: _NAME, 0x0132: _TIME},
        "exif": {
            **dict.fromkeys((0x9003, 0x9004, 0x9010, 0x9011, 0x9012, 0x9290, 0x9291, 0x9292), _TIME),
            **dict.fromkeys((0xA433, 0xA434), _NAME),  # the lens
        },
        "gps": {
            **dict.fromkeys((1, 3, 9, 10, 12, 14, 16, 19, 21, 23, 25), _LETTER),
            **dict.fromkeys((2, 4, 6, 7, 13, 17), _GPS_NUMBERS),  # which should be rationals
            5: r"[0-3]",
            18: _NAME,
            29: _TIME,
        },
    }
)
_FIXED_BYTES: Final[Mapping[str, Mapping[int, int]]] = MappingProxyType(
    # EXIF and FlashPix version, component order, file source, scene type; GPS version, altitude reference:
    # tag → length of the UNDEFINED value
    {"ifd0": {}, "exif": {0x9000: 4, 0xA000: 4, 0x9101: 4, 0xA300: 1, 0xA301: 1}, "gps": {0: 4, 5: 1}}
)

_GPS_MEANING: Final[Mapping[int, tuple[int, ...]]] = MappingProxyType(
    {1: (2,), 3: (4,), 5: (6,), 9: (2, 4), 12: (13,), 14: (15,), 16: (17,), 19: (20,), 21: (22,), 23: (24,), 25: (26,)}
)
"""Reference or status → the values whose sign, unit or worth it tells: without it, they would say something else."""

_OPAQUE = frozenset(
    {
        *(_EXIF_IFD, _GPS_IFD, 0xA005, 0x014A, 0x0190),  # other directories
        *(0x0111, 0x0117, 0x0144, 0x0145, 0x015B, 0x0201, 0x0202),  # where TIFF keeps pictures
        *(0x02BC, 0x83BB, 0x8649, 0x8773, 0x927C, 0xC4A5, 0xC634),  # XMP, IPTC, Photoshop, ICC, MakerNote, private data
    }
)
_CODED_TEXTS = frozenset({0x9286, 27, 28})  # UserComment and the GPS texts: UNDEFINED, 8 bytes name the character code
_XP_TEXTS = frozenset(range(0x9C9B, 0x9CA0))  # UTF-16LE in BYTE

_PICTURE: Final = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|RIFF....WEBP|jP  \r\n\x87\n|ftyp(?:hei|mif|avi)", re.DOTALL
)
_BASE64_PICTURE: Final = re.compile(rb"/9j/[A-Za-z0-9+/]{40}|iVBORw0KGgo|R0lGOD[dl]h|UklGR[A-Za-z0-9+/]{20}")
_HEX_PICTURE: Final = re.compile(rb"ffd8ff[0-9a-f]{40}|89504e470d0a1a0a", re.IGNORECASE)


def contains_picture(data: bytes) -> bool:
    """Whether the start of a picture file stands anywhere in ``data``, as it is, in base64 or in hexadecimal."""
    if _PICTURE.search(data):
        return True
    dense = data.translate(None, b"\0 \t\r\n")
    return bool(_BASE64_PICTURE.search(dense) or _HEX_PICTURE.search(dense))


def clean_exif(
    found: Embedded, mode: OutputMetadata, thumbnail: bytes | None, max_bytes: int | None = None
) -> tuple[bytes | None, list[str]]:
    """Builds the EXIF block of the output.

    Args:
        found: the metadata of the original. The orientation goes out as it was understood, wherever it stood, so that
            the output is shown as the model saw the picture.
        mode: what goes out. ``redacted`` keeps time, position, camera, orientation, resolution and the recorder's XML
            without its driver, car and comments; ``none`` keeps the orientation; ``all`` keeps all texts and numbers.
        thumbnail: a JPEG of the anonymised picture that becomes the embedded thumbnail.
        max_bytes: longest block that the file can hold, more than some hundreds; None where there is no such bound.

    Returns:
        The new block, None where nothing is left to say, and what the log should know.
    """
    source = found.fields
    notes = [*found.problems, *(f"EXIF: {problem}" for problem in source.problems)]
    order = next((field.order for field in source.ifd0.values()), "<")
    ifd0, exif, gps = (
        {tag: field for tag, field in _ended(name, fields) if _allowed(name, tag, field, mode)}
        for name, fields in (("ifd0", source.ifd0), ("exif", source.exif), ("gps", source.gps))
    )
    for reference in source.gps.keys() - gps.keys():
        for value in _GPS_MEANING.get(reference, ()):
            gps.pop(value, None)
    if mode != "none":
        for name, fields, kept in (("ifd0", source.ifd0, ifd0), ("exif", source.exif, exif), ("gps", source.gps, gps)):
            lost = [str(tag) for tag in sorted(fields.keys() - kept.keys()) if _is_listed(name, tag)]
            if lost:
                notes.append(f"EXIF: {name} tags {', '.join(lost)} are left out, they do not look as they should")
    if found.orientation != 1 or ORIENTATION in ifd0:
        ifd0[ORIENTATION] = Field(3, struct.pack(order + "H", found.orientation), order)
    if mode != "none":
        ifd0 |= _recorder_xml(source, mode, notes)
    if not (ifd0 or exif or gps or thumbnail):
        return None, notes
    written = _tiff(order, ifd0, exif, gps, thumbnail)
    if len(written) > MAX_BLOCK_BYTES and thumbnail is not None:
        notes.append("EXIF: no room for a thumbnail")
        written = _tiff(order, ifd0, exif, gps, None)
    while max_bytes is not None and len(written) > max_bytes:
        # The longest value goes, so that the orientation never does: the model saw the picture by it.
        fields, tag = max(
            ((fields, tag) for fields in (ifd0, exif, gps) for tag in fields), key=lambda at: len(at[0][at[1]].data)
        )
        del fields[tag]
        notes.append(f"EXIF: tag {tag} is left out, there is no room for it")
        if not (ifd0 or exif or gps):
            return None, notes
        written = _tiff(order, ifd0, exif, gps, None)
    return written, notes


def _ended(directory: str, fields: Mapping[int, Field]) -> Iterator[tuple[int, Field]]:
    """The fields, listed texts only up to their first NUL: behind it, some cameras leave what was in their memory."""
    for tag, field in fields.items():
        text, _, rest = field.data.partition(b"\0")
        is_text = field.kind in _CHARACTER_TYPES and tag in _TEXTS[directory] and tag not in _FIXED_BYTES[directory]
        yield tag, replace(field, data=text + b"\0") if is_text and rest.strip(b"\0") else field


def _allowed(directory: str, tag: int, field: Field, mode: OutputMetadata) -> bool:
    if mode == "none":
        return directory == "ifd0" and tag == ORIENTATION and len(field.data) <= _MAX_NUMBER_BYTES
    if tag in _RECORDER_XML and directory == "ifd0":
        return False  # they have a way of their own
    if field.kind not in TEXT_TYPES and field.kind != UNDEFINED and tag in _NUMBERS[directory]:
        return len(field.data) <= _MAX_NUMBER_BYTES
    if field.kind in _CHARACTER_TYPES and tag in _TEXTS[directory] and _looks_like(directory, tag, field):
        return True
    if field.kind == UNDEFINED and tag in _FIXED_BYTES[directory]:
        return len(field.data) == _FIXED_BYTES[directory][tag]
    return mode == "all" and tag not in _OPAQUE and _harmless(tag, field)


def _is_listed(directory: str, tag: int) -> bool:
    return any(tag in table[directory] for table in (_NUMBERS, _TEXTS, _FIXED_BYTES))


def _looks_like(directory: str, tag: int, field: Field) -> bool:
    """Whether a value is the text that its tag promises."""
    text = characters(field.data.rstrip(b"\0"))
    if directory == "gps" and tag in HEMISPHERE_TAGS and hemisphere(tag, text):
        return True
    form = _TEXTS[directory][tag]
    return text.isprintable() and bool(re.fullmatch(form, text)) and not contains_picture(field.data)


def _harmless(tag: int, field: Field) -> bool:
    """Whether the value is a text or a few numbers, and no picture."""
    if len(field.data) > _MAX_ALL_BYTES or contains_picture(field.data):
        return False
    if field.kind in TEXT_TYPES:
        return is_text(field.data)
    if tag in _XP_TEXTS:
        return is_text(field.data.decode("utf-16-le", "replace").encode())
    if field.kind == UNDEFINED:
        return tag in _CODED_TEXTS and is_text(field.data[8:].replace(b"\0", b""))
    return len(field.data) <= _MAX_NUMBER_BYTES


def is_text(data: bytes) -> bool:
    """Whether there are no control characters but blanks, and NULs at the end only."""
    return not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", data.rstrip(b"\0"))


def _recorder_xml(source: ExifFields, mode: OutputMetadata, notes: list[str]) -> dict[int, Field]:
    found = {tag: source.ifd0[tag] for tag in _RECORDER_XML if tag in source.ifd0}
    names: set[str] = set()
    for field in found.values():
        try:
            names |= redact_text(decode_xml(field.data).text)[1]
        except MalformedXmlError:
            continue  # redact_xml says so below
    kept = {}
    for tag, field in found.items():
        data = field.data if mode == "all" else redact_xml(field.data, names)
        if not data:
            notes.append(f"EXIF: tag {tag} is left out, its XML cannot be read")
        elif contains_picture(data):
            notes.append(f"EXIF: tag {tag} is left out, it holds a picture")
        else:
            kept[tag] = Field(field.kind, data, field.order)
    return kept


def _tiff(
    order: str, ifd0: Mapping[int, Field], exif: Mapping[int, Field], gps: Mapping[int, Field], thumbnail: bytes | None
) -> bytes:
    """A TIFF structure of these directories, in this byte order."""

    def long(value: int) -> Field:
        return Field(4, struct.pack(order + "I", value), order)

    main = dict(ifd0)
    main |= {tag: long(0) for tag, fields in ((_EXIF_IFD, exif), (_GPS_IFD, gps)) if fields}
    exif_at = 8 + _directory_bytes(main)
    gps_at = exif_at + (_directory_bytes(exif) if exif else 0)
    thumbnail_at = gps_at + (_directory_bytes(gps) if gps else 0)
    main |= {tag: long(at) for tag, at in ((_EXIF_IFD, exif_at), (_GPS_IFD, gps_at)) if tag in main}
    out = [b"II*\0" if order == "<" else b"MM\0*", struct.pack(order + "I", 8)]
    out.append(_directory(order, 8, main, thumbnail_at if thumbnail is not None else 0))
    out += [_directory(order, at, fields, 0) for at, fields in ((exif_at, exif), (gps_at, gps)) if fields]
    if thumbnail is not None:
        # Compression 6 is JPEG; then where it is and how long (TIFF 6.0, section 22).
        last = {0x0103: Field(3, struct.pack(order + "H", 6), order), 0x0201: long(0), 0x0202: long(len(thumbnail))}
        last[0x0201] = long(thumbnail_at + _directory_bytes(last))
        out += [_directory(order, thumbnail_at, last, 0), thumbnail]
    return b"".join(out)


def _directory_bytes(fields: Mapping[int, Field]) -> int:
    return 6 + 12 * len(fields) + sum(len(f.data) + len(f.data) % 2 for f in fields.values() if len(f.data) > 4)


def _directory(order: str, at: int, fields: Mapping[int, Field], following: int) -> bytes:
    """One directory with its values behind it; ``following`` is the offset of the next one, 0 for none."""
    entries = [struct.pack(order + "H", len(fields))]
    values: list[bytes] = []
    values_at = at + 6 + 12 * len(fields)
    for tag, field in sorted(fields.items()):
        head = struct.pack(order + "HHI", tag, field.kind, len(field.data) // TYPE_BYTES[field.kind])
        if len(field.data) <= 4:
            entries.append(head + field.data.ljust(4, b"\0"))
            continue
        entries.append(head + struct.pack(order + "I", values_at))
        values.append(field.data + b"\0" * (len(field.data) % 2))
        values_at += len(values[-1])
    return b"".join((*entries, struct.pack(order + "I", following), *values))
