"""What the standard GPS directory of EXIF says: numbers → decimal texts.

Tags and units: EXIF 2.32 (CIPA DC-008-2019), 4.6.6. Cameras and tools that edit EXIF also write decimal degrees, signs
and words. What can be understood in one way only is understood; everything else is left out, and ``notes`` says so.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from math import floor
from types import MappingProxyType

from anonymise.metadata.metadata import parse_date
from anonymise.metadata.tags import Field

__all__ = ["HEMISPHERE_TAGS", "heading", "hemisphere", "position", "speed_m_s", "time"]

_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE, _ALTITUDE_REF, _ALTITUDE = 1, 2, 3, 4, 5, 6
_TIME_STAMP, _STATUS, _SPEED_REF, _SPEED, _IMG_DIRECTION, _DATE_STAMP = 7, 9, 12, 13, 17, 29

HEMISPHERE_TAGS = frozenset({_LATITUDE_REF, _LONGITUDE_REF})

_HEMISPHERES: Mapping[int, Mapping[str, int]] = MappingProxyType(
    {
        _LATITUDE_REF: {"N": 1, "NORTH": 1, "NORD": 1, "+": 1, "S": -1, "SOUTH": -1, "SØR": -1, "-": -1},
        _LONGITUDE_REF: {"E": 1, "EAST": 1, "ØST": 1, "+": 1, "W": -1, "WEST": -1, "VEST": -1, "-": -1},
    }
)
"""Reference tag → its values in capital letters → the sign of the angle."""

_LONGEST_HEMISPHERE = 32

_M_S_PER_UNIT: Mapping[str, Fraction] = MappingProxyType(
    {"K": Fraction(1000, 3600), "M": Fraction("1609.344") / 3600, "N": Fraction(1852, 3600)}
)
"""GPSSpeedRef → meters per second in one km/h, mile per hour, knot."""

_ABOVE, _BELOW = frozenset({0, 2}), frozenset({1, 3})
"""GPSAltitudeRef: above and below the ellipsoid (0, 1) or the sea (2, 3), EXIF 3.0 (CIPA DC-008-2023), 4.6.7."""

_DAY_SECONDS = 86_400

_LOWEST_M, _HIGHEST_M = -12_000, 100_000
"""No place on Earth and nothing that flies over a road is outside; writers put 4294967295 for "not known"."""

Directory = Mapping[int, Field]
"""Tag number → field of the GPS directory."""


def hemisphere(ref_tag: int, text: str) -> int | None:
    """1 for north and east, -1 for south and west, None where the text names no hemisphere of this tag's axis.

    Args:
        ref_tag: GPSLatitudeRef or GPSLongitudeRef, one of ``HEMISPHERE_TAGS``.
        text: what it says: a letter, a word or a sign, the sign possibly with the angle again.
    """
    if len(text) > _LONGEST_HEMISPHERE:
        return None
    word = text.strip().upper().replace("\u2212", "-")
    if word[:1] in ("+", "-") and word[1:].replace(".", "").replace(",", "").isdecimal():
        word = word[0]
    return _HEMISPHERES[ref_tag].get(word)


def position(gps: Directory, notes: list[str]) -> tuple[str | None, str | None, str | None]:
    """Longitude and latitude in decimal degrees, altitude in meters; each None where it is not known."""
    longitude = _angle(gps, _LONGITUDE, _LONGITUDE_REF, "longitude", 180, notes)
    latitude = _angle(gps, _LATITUDE, _LATITUDE_REF, "latitude", 90, notes)
    if longitude is None or latitude is None:
        if (_LONGITUDE in gps) != (_LATITUDE in gps):
            notes.append("GPS: the position is left out, there is only one of longitude and latitude")
        return None, None, None
    status = gps[_STATUS].text().upper() if _STATUS in gps else ""
    if status.startswith("V"):
        notes.append("GPS: the position is left out, it was written without a fix (status V)")
        return None, None, None
    if longitude == latitude == 0 and not status.startswith("A"):
        notes.append("GPS: the position is left out, it is 0, 0 and nothing says that there was a fix")
        return None, None, None
    altitude = _altitude(gps, notes)
    return _decimal(longitude), _decimal(latitude), None if altitude is None else _decimal(altitude)


def heading(gps: Directory, notes: list[str]) -> str | None:
    """Direction of the image in degrees, 0 to 360."""
    direction = _first(gps, _IMG_DIRECTION, "direction", notes)
    if direction is not None and not 0 <= direction <= 360:
        notes.append("GPS: the direction is left out, it is not between 0 and 360 degrees")
        return None
    return None if direction is None else _decimal(direction)


def speed_m_s(gps: Directory, notes: list[str], *, from_recorder: bool) -> Fraction | None:
    """Speed in meters per second.

    Args:
        gps: the GPS directory.
        notes: takes the reason where a speed is left out.
        from_recorder: whether a recorder of the road administration wrote it: these write m/s under ``K``.
    """
    speed = _first(gps, _SPEED, "speed", notes)
    if speed is None:
        return None
    ref = gps[_SPEED_REF].text().upper() if _SPEED_REF in gps else "K"
    if ref not in _M_S_PER_UNIT or speed < 0:
        notes.append("GPS: the speed is left out, it is negative or its unit is not known")
        return None
    return speed if ref == "K" and from_recorder else speed * _M_S_PER_UNIT[ref]


def time(gps: Directory, notes: list[str]) -> str | None:
    """GPSDateStamp and GPSTimeStamp as ``YYYY-MM-DDTHH:MM:SS[.ffffff]Z``: satellites tell UTC."""
    if _DATE_STAMP not in gps and _TIME_STAMP not in gps:
        return None
    date = parse_date(gps[_DATE_STAMP].text()) if _DATE_STAMP in gps else None
    parts = gps[_TIME_STAMP].numbers() if _TIME_STAMP in gps else None
    if date is None or parts is None or len(parts) != 3:
        notes.append("GPS: there is no whole date with time")
        return None
    known = [part for part in parts if part is not None and part >= 0]
    of_day = sum((part * unit for part, unit in zip(known, (3600, 60, 1), strict=False)), Fraction())
    if len(known) < len(parts) or of_day > _DAY_SECONDS:
        notes.append("GPS: the time is left out, a day has no such time")
        return None
    midnight = datetime(date.year, date.month, date.day, tzinfo=timezone.utc)
    try:
        moment = midnight + timedelta(microseconds=floor(of_day * 1_000_000))
    except OverflowError:
        return None
    text = moment.replace(tzinfo=None).isoformat()
    return (text.rstrip("0") if moment.microsecond else text) + "Z"


def _angle(gps: Directory, tag: int, ref_tag: int, name: str, most: int, notes: list[str]) -> Fraction | None:
    """Degrees, minutes and seconds as decimal degrees; without its reference or a sign the hemisphere is unknown."""
    if tag not in gps:
        return None
    parts = list(gps[tag].numbers() or ())
    while len(parts) > 1 and parts[-1] is None:  # 0/0: seconds, or minutes and seconds, that nobody knows
        parts.pop()
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts) or len(parts) > 3:
        notes.append(f"GPS: the {name} cannot be read")
        return None
    angle = sum((abs(part) / 60**power for power, part in enumerate(known)), Fraction())
    negative = any(part < 0 for part in known)
    ref = gps[ref_tag].text() if ref_tag in gps else ""
    sign = -1 if negative and not ref else hemisphere(ref_tag, ref)
    if sign is None:
        notes.append(f"GPS: the {name} is left out, its hemisphere is not known")
    elif negative and sign > 0:
        notes.append(f"GPS: the {name} is left out, its sign and its hemisphere contradict each other")
    elif angle > most:
        notes.append(f"GPS: the {name} is left out, it is more than {most} degrees")
    else:
        return sign * angle
    return None


def _altitude(gps: Directory, notes: list[str]) -> Fraction | None:
    altitude = _first(gps, _ALTITUDE, "altitude", notes)
    if altitude is None:
        return None
    ref = gps[_ALTITUDE_REF].small_integer() if _ALTITUDE_REF in gps else 0
    if ref not in _ABOVE | _BELOW:
        notes.append("GPS: the altitude is left out, its reference is not known")
    elif not _LOWEST_M <= altitude <= _HIGHEST_M:
        notes.append("GPS: the altitude is left out, it is no place on Earth")
    else:
        return -abs(altitude) if ref in _BELOW else altitude
    return None


def _first(gps: Directory, tag: int, name: str, notes: list[str]) -> Fraction | None:
    if tag not in gps:
        return None
    values = gps[tag].numbers()
    if not values:
        notes.append(f"GPS: the {name} cannot be read")
        return None
    return values[0]


def _decimal(number: Fraction) -> str:
    """A fraction as a decimal number without exponent, to the precision of a double."""
    return f"{Decimal(repr(number.numerator / number.denominator)):f}"
