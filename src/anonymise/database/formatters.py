"""Record → the text that a column's value is made of, and that text → a value of the column's kind.

A table file names a formatter for each column. Most are simply keys of the record; some take a part of a value.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Context, Decimal, InvalidOperation
from types import MappingProxyType

from anonymise.core.errors import RecordError
from anonymise.database.geometry import without_height
from anonymise.metadata.record import KEYS, Record

__all__ = [
    "FORMATTERS",
    "JSON_FORMATTERS",
    "POINT_FORMATTERS",
    "RECORD_KEY",
    "Formatter",
    "as_json",
    "as_number",
    "as_text",
    "as_time",
]

Formatter = Callable[[Record], object]
"""What a column takes from a record: a text, an object (for JSON), or None."""

_DECIMAL_COMMA = re.compile(r",(?=[0-9])")
_NUMBER = re.compile(r"[+-]?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[T ]([0-9]{2})[:.]([0-9]{2})(?:[:.]([0-9]{2})(?:[.,]([0-9]+))?)?)?"
    r"(?:Z|[+-][0-9]{2}:?[0-9]{2})?"
)

_ORACLE_NUMBER = Context(prec=38)
"""Oracle's NUMBER has 38 digits and magnitudes below 1e126 (SQL Language Reference, "NUMBER Data Type")."""
_GREATEST_EXPONENT = 125


def _key(name: str) -> Formatter:
    return lambda record: record.get(name)


def _first(*names: str) -> Formatter:
    """The first of several keys that has a value."""
    return lambda record: next((value for value in map(record.get, names) if value not in (None, "")), None)


def _flat(name: str) -> Formatter:
    def read(record: Record) -> object:
        value = record.get(name)
        return without_height(value) if isinstance(value, str) else value

    return read


def _height(name: str) -> Formatter:
    def read(record: Record) -> object:
        value = record.get(name)
        if not isinstance(value, str):
            return value
        coordinates = value.partition("(")[2].partition(")")[0].split()
        return coordinates[2] if len(coordinates) == 3 else None

    return read


def _year(record: Record) -> object:
    value = record.get("exif_tid")
    return value[:4] if isinstance(value, str) else value


def _whole(record: Record) -> object:
    return record


FORMATTERS: Mapping[str, Formatter] = MappingProxyType(
    {
        **{key: _key(key) for key in KEYS},
        # Names that earlier records had, where a table file or a record still uses them.
        "exif_reflinkid": _first("exif_reflinkid", "veglenkeid"),
        "exif_reflinkposisjon": _first("exif_reflinkposisjon", "veglenkepos"),
        "exif_gpsposisjon_2d": _flat("exif_gpsposisjon"),
        "exif_gpsposisjon_hoyde": _height("exif_gpsposisjon"),
        "senterlinjeposisjon_2d": _flat("senterlinjeposisjon"),
        "senterlinjeposisjon_hoyde": _height("senterlinjeposisjon"),
        "exif_tid_aar": _year,
        "hele_posten": _whole,
    }
)
"""Name in a table file → what it takes from a record."""

POINT_FORMATTERS = frozenset(
    {"exif_gpsposisjon", "exif_gpsposisjon_2d", "senterlinjeposisjon", "senterlinjeposisjon_2d"}
)
"""Formatters whose text is a point."""

JSON_FORMATTERS = frozenset({"hele_posten", "detekterte_objekter"})
"""Formatters that give an object."""


def as_text(value: object) -> str | None:
    """A text that every database takes; None for NaN, None and blank texts.

    Raises:
        RecordError: it has characters that a database refuses.
    """
    if value is None:
        return None
    text = as_json(value) if isinstance(value, dict) else str(value)
    if text is None or text.strip().lower() in {"", "nan"}:
        return None
    _check_characters(text)
    return text


def as_json(value: object) -> str | None:
    """JSON text of an object; a text that is not empty stays as a JSON string.

    Raises:
        RecordError: it has characters that a database refuses.
    """
    if value is None or value in ("", {}):
        return None
    # PostgreSQL refuses NUL in JSON even where it is escaped.
    for part in value.values() if isinstance(value, dict) else (value,):
        if isinstance(part, str):
            _check_characters(part)
    text = json.dumps(value, ensure_ascii=False)
    _check_characters(text)
    return text


def as_number(value: object) -> Decimal | None:
    """A decimal number, also from a text with a decimal comma; None for NaN, None and blank texts.

    Raises:
        RecordError: it is no number, or none that Oracle can hold.
    """
    text = as_text(value)
    if text is None:
        return None
    text = _DECIMAL_COMMA.sub(".", text.strip())
    if not _NUMBER.fullmatch(text):
        raise RecordError(f"{text[:40]!r} is no number")
    try:
        number = _ORACLE_NUMBER.create_decimal(text)
    except InvalidOperation:
        raise RecordError(f"{text[:40]!r} is no number") from None
    if number and number.adjusted() > _GREATEST_EXPONENT:
        raise RecordError(f"{text[:40]!r} is too large for a number column")
    return number


def as_time(value: object) -> datetime | None:
    """Date and time as the camera's clock showed them, to the microsecond; None for None and blank texts.

    A time zone is left out: most cameras write none, and the times of one column must mean the same. The text with its
    zone stays in the record.

    Raises:
        RecordError: it is no time.
    """
    text = as_text(value)
    if text is None:
        return None
    found = _TIME.fullmatch(text.strip())
    try:
        if found is None:
            raise ValueError
        year, month, day, hour, minute, second = (part or "00" for part in found.groups()[:6])
        microsecond = (found[7] or "").ljust(6, "0")[:6]
        return datetime.fromisoformat(f"{year}-{month}-{day}T{hour}:{minute}:{second}.{microsecond}")
    except ValueError:
        raise RecordError(f"{text[:40]!r} is no time of the form 2020-06-02T09:42:46") from None


def _check_characters(text: str) -> None:
    if "\0" in text:
        raise RecordError("the text has a NUL character, which databases refuse")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise RecordError("the text has half a character (a lone surrogate), which databases refuse") from None


RECORD_KEY: Mapping[str, str | None] = MappingProxyType(
    {
        "exif_gpsposisjon_2d": "exif_gpsposisjon",
        "exif_gpsposisjon_hoyde": "exif_gpsposisjon",
        "senterlinjeposisjon_2d": "senterlinjeposisjon",
        "senterlinjeposisjon_hoyde": "senterlinjeposisjon",
        "exif_tid_aar": "exif_tid",
        "hele_posten": None,
    }
)
"""Formatters that have another name than the record key that they read; None for the whole record."""
