"""EXIF block → fields.

Reads the TIFF structure of the block. General EXIF libraries drop or refuse the recorders' private tags 40055 and
40056; here every field of the three directories that matter is kept as bytes, and only what is asked for is decoded.

Nothing here raises for bad bytes: what cannot be read is left out and named in ``problems``.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType

__all__ = ["ORIENTATION", "ExifFields", "Field", "read_fields"]

ORIENTATION = 0x0112
_EXIF_IFD = 34665
_GPS_IFD = 34853

_TYPE_BYTES: Mapping[int, int] = MappingProxyType({1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8})
"""Bytes of one value of each TIFF field type (TIFF 6.0, page 15)."""

_INTEGER_CODES: Mapping[int, str] = MappingProxyType({1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"})
_RATIONAL_CODES: Mapping[int, str] = MappingProxyType({5: "I", 10: "i"})


@dataclass(frozen=True, slots=True)
class Field:
    """One TIFF field, undecoded.

    Attributes:
        kind: TIFF field type.
        data: the value's bytes.
        order: ``<`` or ``>``, the byte order of the block it comes from.
    """

    kind: int
    data: bytes
    order: str

    def text(self) -> str:
        """The value as text up to the first NUL, stripped; bytes that are no UTF-8 are read as Latin-1."""
        raw = self.data.split(b"\0", 1)[0]
        try:
            return raw.decode("utf-8").strip()
        except UnicodeDecodeError:
            return raw.decode("latin-1").strip()

    def utf16_text(self) -> str:
        """The value as UTF-16LE text up to the first NUL, as Windows writes its XP tags."""
        return self.data.decode("utf-16-le", "replace").split("\0", 1)[0].strip()

    def integer(self) -> int | None:
        """The first value of an integer field; None for other types."""
        code = _INTEGER_CODES.get(self.kind)
        if code is None or len(self.data) < _TYPE_BYTES[self.kind]:
            return None
        return int(struct.unpack_from(self.order + code, self.data)[0])

    def rationals(self) -> tuple[Fraction, ...] | None:
        """All values of a rational field; None for other types and where a denominator is zero."""
        code = _RATIONAL_CODES.get(self.kind)
        if code is None:
            return None
        numbers = struct.unpack(f"{self.order}{len(self.data) // 8 * 2}{code}", self.data[: len(self.data) // 8 * 8])
        if not numbers or 0 in numbers[1::2]:
            return None
        return tuple(Fraction(a, b) for a, b in zip(numbers[::2], numbers[1::2], strict=True))


@dataclass(frozen=True, slots=True)
class ExifFields:
    """The three directories of an EXIF block: tag number → field.

    Attributes:
        ifd0: the main image's directory.
        exif: the EXIF directory.
        gps: the GPS directory.
        problems: what could not be read, one line each.
    """

    ifd0: Mapping[int, Field] = field(default_factory=dict)
    exif: Mapping[int, Field] = field(default_factory=dict)
    gps: Mapping[int, Field] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ifd0 or self.exif or self.gps)


def read_fields(block: bytes) -> ExifFields:
    """All fields of an EXIF block; directories and values that lie outside the block are left out and named.

    Args:
        block: the TIFF structure, from its byte-order mark on.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 8:
        return ExifFields(problems=("EXIF block without a TIFF header",))
    problems: list[str] = []
    ifd0 = _read_directory(block, struct.unpack_from(order + "I", block, 4)[0], order, "IFD0", problems)
    sub: dict[int, dict[int, Field]] = {}
    for tag, name in ((_EXIF_IFD, "EXIF directory"), (_GPS_IFD, "GPS directory")):
        offset = ifd0[tag].integer() if tag in ifd0 else None
        sub[tag] = {} if offset is None else _read_directory(block, offset, order, name, problems)
    return ExifFields(ifd0, sub[_EXIF_IFD], sub[_GPS_IFD], tuple(problems))


def _read_directory(block: bytes, offset: int, order: str, name: str, problems: list[str]) -> dict[int, Field]:
    if not 8 <= offset <= len(block) - 2:
        problems.append(f"{name} lies outside the EXIF block")
        return {}
    count = struct.unpack_from(order + "H", block, offset)[0]
    room = (len(block) - offset - 2) // 12
    if count > room:
        problems.append(f"{name} is cut off after {room} of {count} fields")
    fields: dict[int, Field] = {}
    for number in range(min(count, room)):
        at = offset + 2 + 12 * number
        tag, kind, values = struct.unpack_from(order + "HHI", block, at)
        if kind not in _TYPE_BYTES:
            continue
        length = values * _TYPE_BYTES[kind]
        start = at + 8 if length <= 4 else struct.unpack_from(order + "I", block, at + 8)[0]
        if start + length > len(block):
            problems.append(f"tag {tag} of {name} lies outside the EXIF block")
        else:
            fields.setdefault(tag, Field(kind, block[start : start + length], order))
    return fields
