"""EXIF block → fields.

Reads the TIFF structure of the block. General EXIF libraries drop or refuse the recorders' private tags 40055 and
40056; here every field of the three directories that matter is kept as bytes, and only what is asked for is decoded.

Nothing here raises for bad bytes: what cannot be read is left out and named in ``problems``.
"""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import isinf, isnan
from types import MappingProxyType
from typing import Any

import numpy as np

__all__ = ["ORIENTATION", "TEXT_TYPES", "TYPE_BYTES", "UNDEFINED", "ExifFields", "Field", "characters", "read_fields"]

ORIENTATION = 0x0112
_EXIF_IFD = 34665
_GPS_IFD = 34853

TYPE_BYTES: Mapping[int, int] = MappingProxyType(
    {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}
)
"""Bytes of one value of each field type: TIFF 6.0, page 15; 13 (IFD) TIFF technical note 1; 129 (UTF-8) EXIF 3.0."""

TEXT_TYPES = frozenset({2, 129})
"""ASCII and UTF-8."""

UNDEFINED = 7

_INTEGER_CODES: Mapping[int, str] = MappingProxyType({1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I"})
_RATIONAL_CODES: Mapping[int, str] = MappingProxyType({5: "I", 10: "i"})
_FLOAT_CODES: Mapping[int, str] = MappingProxyType({11: "f", 12: "d"})

_MAX_NUMBERS = 64
"""Of a field that are decoded; no field that is asked for has more than four."""

_TEXT_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(?:[.,][0-9]{0,20}|/[0-9]{1,20})?")


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
        return characters(self.data.split(b"\0", 1)[0]).strip()

    def utf16_text(self) -> str:
        """The value as UTF-16LE text up to the first NUL, as Windows writes its XP tags."""
        return self.data.decode("utf-16-le", "replace").split("\0", 1)[0].strip()

    def integer(self) -> int | None:
        """The first value of an integer field; None for other types."""
        code = _INTEGER_CODES.get(self.kind)
        if code is None or len(self.data) < TYPE_BYTES[self.kind]:
            return None
        return int(struct.unpack_from(self.order + code, self.data)[0])

    def small_integer(self) -> int | None:
        """The first value of an integer field, or the only byte or digit of a field of another one-byte type."""
        if self.kind not in TEXT_TYPES and self.kind != UNDEFINED:
            return self.integer()
        value = self.data.rstrip(b"\0") or b"\0"
        if len(value) > 1:
            return None
        return value[0] - ord("0") if value.isdigit() else value[0]

    def numbers(self) -> tuple[Fraction | None, ...] | None:
        """All values of a numeric field, also of numbers that are written as text; None for other fields.

        A value is None where it is not known: 0/0 or NaN. A field with an infinite value gives None.
        """
        if self.kind in TEXT_TYPES:
            words = self.text().replace("\u2212", "-").split()
            if not all(map(_TEXT_NUMBER.fullmatch, words)):
                return None
            pairs = [word.replace(",", ".").partition("/") for word in words]
            values: list[tuple[Fraction, Fraction]] = [(Fraction(a), Fraction(b or 1)) for a, _, b in pairs]
        elif self.kind in _RATIONAL_CODES:
            parts = self._unpacked(_RATIONAL_CODES[self.kind], 2)
            values = [(Fraction(a), Fraction(b)) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        elif self.kind in _INTEGER_CODES:
            values = [(Fraction(a), Fraction(1)) for a in self._unpacked(_INTEGER_CODES[self.kind], 1)]
        elif self.kind in _FLOAT_CODES:
            floats = self._unpacked(_FLOAT_CODES[self.kind], 1)
            if any(map(isinf, floats)):
                return None
            # As short as the writer had it: 63.41 as a float is 63.409999847412109375.
            short = np.float32 if self.kind == 11 else float
            values = [(Fraction(), Fraction()) if isnan(a) else (Fraction(str(short(a))), Fraction(1)) for a in floats]
        else:
            return None
        if not values or any(a and not b for a, b in values):
            return None
        return tuple(a / b if b else None for a, b in values)

    def _unpacked(self, code: str, per_value: int) -> tuple[Any, ...]:
        size = TYPE_BYTES[self.kind]
        count = min(len(self.data) // size, _MAX_NUMBERS)
        return struct.unpack(f"{self.order}{count * per_value}{code}", self.data[: count * size])


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


def characters(raw: bytes) -> str:
    """The text of a field that EXIF wants in ASCII: most cameras mean UTF-8, the others Latin-1."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def read_fields(block: bytes) -> ExifFields:
    """All fields of an EXIF block; directories and values that lie outside the block are left out and named.

    Args:
        block: the TIFF structure, from its byte-order mark on.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 8:
        return ExifFields(problems=("EXIF block without a TIFF header",))
    reader = _DirectoryReader(block, order)
    ifd0 = reader.read(struct.unpack_from(order + "I", block, 4)[0], "IFD0")
    exif = reader.follow(ifd0.get(_EXIF_IFD), "EXIF directory")
    gps = reader.follow(ifd0.get(_GPS_IFD) or exif.get(_GPS_IFD), "GPS directory")
    return ExifFields(ifd0, exif, gps, tuple(reader.problems))


class _DirectoryReader:
    """Reads the directories of one EXIF block, and notes what it leaves out.

    The values together are no longer than the block, or a small file would fill the memory: fields may share their
    bytes.

    Attributes:
        problems: what was left out, one line each.
    """

    def __init__(self, block: bytes, order: str) -> None:
        self._block = block
        self._order = order
        self._budget = len(block)
        self.problems: list[str] = []

    def follow(self, pointer: Field | None, name: str) -> dict[int, Field]:
        """The directory that a field points at; empty where there is none."""
        if pointer is None:
            return {}
        offset = pointer.integer()
        return self.read(-1 if offset is None else offset, name)

    def read(self, offset: int, name: str) -> dict[int, Field]:
        """The directory at an offset: tag number → the first field of this tag that can be read."""
        block, order = self._block, self._order
        if not 8 <= offset <= len(block) - 2:
            self.problems.append(f"{name} lies outside the EXIF block")
            return {}
        count = struct.unpack_from(order + "H", block, offset)[0]
        room = (len(block) - offset - 2) // 12
        if count > room:
            self.problems.append(f"{name} is cut off after {room} of {count} fields")
        fields: dict[int, Field] = {}
        outside, strange, too_much = [], [], []
        for at in range(offset + 2, offset + 2 + 12 * min(count, room), 12):
            tag, kind, values = struct.unpack_from(order + "HHI", block, at)
            if kind not in TYPE_BYTES:
                strange.append(tag)
                continue
            length = values * TYPE_BYTES[kind]
            start = at + 8 if length <= 4 else struct.unpack_from(order + "I", block, at + 8)[0]
            if start + length > len(block):
                outside.append(tag)
            elif length > self._budget:
                too_much.append(tag)
            elif tag not in fields:
                self._budget -= length
                fields[tag] = Field(kind, block[start : start + length], order)
        for tags, problem in (
            (outside, "lies outside the EXIF block"),
            (strange, "has a type that is not known"),
            (too_much, "is left out, the values together are longer than the block"),
        ):
            if tags:
                more = f" (and {len(tags) - 1} more)" if len(tags) > 1 else ""
                self.problems.append(f"tag {tags[0]}{more} of {name} {problem}")
        return fields
