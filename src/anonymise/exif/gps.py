"""What the standard GPS directory of EXIF says: rationals → decimal texts.

Tags and units: EXIF 2.32 (CIPA DC-008-2019), 4.6.6.
"""

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType

from anonymise.exif.tags import Field

__all__ = ["heading", "position", "speed_m_s"]

_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE, _ALTITUDE_REF, _ALTITUDE = 1, 2, 3, 4, 5, 6
_SPEED_REF, _SPEED, _IMG_DIRECTION = 12, 13, 17

_M_S_PER_UNIT: Mapping[str, Fraction] = MappingProxyType(
    {"K": Fraction(1000, 3600), "M": Fraction("1609.344") / 3600, "N": Fraction(1852, 3600)}
)
"""GPSSpeedRef → meters per second in one km/h, mile per hour, knot."""

Directory = Mapping[int, Field]
"""Tag number → field of the GPS directory."""


def position(gps: Directory) -> tuple[str | None, str | None, str | None]:
    """Longitude and latitude in decimal degrees, altitude in meters; each None where it is not known."""
    altitude = _first(gps, _ALTITUDE)
    below_sea = _ALTITUDE_REF in gps and gps[_ALTITUDE_REF].integer() == 1
    return (
        _angle(gps, _LONGITUDE, _LONGITUDE_REF, "EW"),
        _angle(gps, _LATITUDE, _LATITUDE_REF, "NS"),
        None if altitude is None else _decimal(-altitude if below_sea else altitude),
    )


def heading(gps: Directory) -> str | None:
    """Direction of the image in degrees."""
    direction = _first(gps, _IMG_DIRECTION)
    return None if direction is None else _decimal(direction)


def speed_m_s(gps: Directory, *, from_recorder: bool) -> Fraction | None:
    """Speed in meters per second.

    Args:
        gps: the GPS directory.
        from_recorder: whether a recorder of the road administration wrote it: these write m/s under ``K``.
    """
    speed = _first(gps, _SPEED)
    ref = gps[_SPEED_REF].text().upper() if _SPEED_REF in gps else "K"
    if speed is None or ref not in _M_S_PER_UNIT:
        return None
    return speed if ref == "K" and from_recorder else speed * _M_S_PER_UNIT[ref]


def _angle(gps: Directory, tag: int, ref_tag: int, signs: str) -> str | None:
    """Degrees, minutes and seconds as decimal degrees; without its reference, the hemisphere is unknown."""
    parts = gps[tag].rationals() if tag in gps else None
    ref = gps[ref_tag].text().upper() if ref_tag in gps else ""
    if not parts or len(parts) > 3 or ref not in set(signs):
        return None
    angle = sum((part / 60**power for power, part in enumerate(parts)), Fraction())
    return _decimal(-angle if ref == signs[1] else angle)


def _first(gps: Directory, tag: int) -> Fraction | None:
    values = gps[tag].rationals() if tag in gps else None
    return values[0] if values else None


def _decimal(number: Fraction) -> str:
    """A fraction as a decimal number without exponent, to the precision of a double."""
    return f"{Decimal(repr(number.numerator / number.denominator)):f}"
