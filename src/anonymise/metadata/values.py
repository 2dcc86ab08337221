"""Conversions: text that a source wrote → text of the record, None where it says nothing.

Texts are kept as the source wrote them, to the digit.
"""

import re
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from math import isfinite

from anonymise.metadata.metadata import iso_time

__all__ = ["WHOLE_VALUES", "county", "number", "rounded", "two_decimals", "xmp_number"]

# No two neighbouring parts of a pattern can take the same character, so that no text makes them try again and again.
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_LONGEST_NUMBER = 64
_COUNTY = re.compile(r"0*([1-9]\d{0,3})", re.ASCII)
_RATIONAL = re.compile(r"([+-]?\d{1,20})/(\d{1,20})", re.ASCII)


def number(text: str) -> str | None:
    """A finite decimal number as it was written, with a point whatever the recorder's locale."""
    candidate = text.strip().replace(",", ".")
    if len(candidate) > _LONGEST_NUMBER or not _NUMBER.fullmatch(candidate):
        return None
    return candidate if isfinite(float(candidate)) else None


def xmp_number(text: str) -> str | None:
    """A number as `number` takes it, or a fraction such as ``125/10``, which XMP has from EXIF."""
    found = _RATIONAL.fullmatch(text.strip())
    if not found:
        return number(text)
    return number(repr(int(found[1]) / int(found[2]))) if int(found[2]) else None


def two_decimals(text: str) -> str | None:
    """A number as `number` takes it, rounded to two decimals."""
    found = number(text)
    return None if found is None else rounded(Decimal(found))


def rounded(value: Decimal) -> str | None:
    """A number with two decimals, halves away from zero; None where it has more digits than any speed or distance."""
    try:
        short = value.quantize(Decimal("0.01"), ROUND_HALF_UP)
    except InvalidOperation:
        return None
    return f"{abs(short) if short == 0 else short:f}"


def county(text: str) -> str | None:
    """The number of a county or municipality, without leading zeros."""
    found = _COUNTY.fullmatch(text)
    return found[1] if found else None


WHOLE_VALUES = frozenset({number, xmp_number, two_decimals, county, iso_time})
"""Conversions that take the whole value: where one of them gives nothing, what the source says is lost."""
