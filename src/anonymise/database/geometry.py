"""Points: from the record's text to shapely, and from shapely to what each database takes.

A point carries its coordinate system with it, as shapely's SRID.
"""

import re
import struct
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import shapely
from shapely import Point

from anonymise.core.errors import RecordError

__all__ = [
    "GeometryType",
    "from_geopackage",
    "geopackage_bounds",
    "parse_point",
    "to_ewkb_hex",
    "to_geopackage",
    "to_sdo_geometry",
    "without_height",
]

_EWKT = re.compile(r"\s*srid\s*=\s*([0-9]{1,6})\s*;\s*(POINT\b.*)", re.IGNORECASE | re.DOTALL)
_Z = re.compile(r"(POINT)\s*Z\b", re.IGNORECASE)

_GEOPACKAGE_HEADER = struct.Struct("<2sBBi")
_ENVELOPE_DOUBLES = (0, 4, 6, 6, 8)
"""Number of doubles in the envelope, by the header's envelope code."""
_LITTLE_ENDIAN, _EMPTY, _EXTENDED = 0x01, 0x10, 0x20


class GeometryType(Protocol):
    """What ``oracledb.Connection.gettype`` gives."""

    def newobject(self, value: Any = None) -> Any:
        """A new object of the type, all its attributes NULL."""


def parse_point(text: str) -> Point:
    """The point that a text such as ``srid=4326;POINT Z( 6.56 61.21 48.8 )`` names.

    Raises:
        RecordError: the text is no such point.
    """
    found = _EWKT.fullmatch(text)
    try:
        with np.errstate(over="ignore"):  # a number too large for a double becomes infinite
            point = shapely.from_wkt(found[2]) if found else None
    except shapely.errors.ShapelyError:
        point = None
    # shapely makes no error of "nan" and infinite numbers.
    if found is None or not isinstance(point, Point) or point.is_empty or not shapely.is_valid(point):
        raise RecordError(f"{text[:80]!r} is no point of the form srid=4326;POINT Z( 6.56 61.21 48.8 )")
    return shapely.set_srid(point, int(found[1]))


def without_height(text: str) -> str:
    """The text of a point without its third coordinate, the digits of the others untouched."""
    head, opening, rest = text.partition("(")
    coordinates, closing, tail = rest.partition(")")
    if len(coordinates.split()) != 3:
        return text
    kept = coordinates.rstrip()
    after = coordinates[len(kept) :]
    kept = kept.rsplit(None, 1)[0]
    return _Z.sub(r"\1", head) + opening + kept + after + closing + tail


def to_ewkb_hex(point: Point) -> str:
    """PostGIS's extended WKB with the SRID, as the text that a geometry column takes."""
    text: str = shapely.to_wkb(point, hex=True, include_srid=True, flavor="extended")
    return text


def to_geopackage(point: Point) -> bytes:
    """The blob of a GeoPackage: header, no envelope (it would only repeat the point), ISO WKB.

    Source: OGC 12-128r17 (GeoPackage 1.3), clause 2.1.3.
    """
    header = _GEOPACKAGE_HEADER.pack(b"GP", 0, _LITTLE_ENDIAN, shapely.get_srid(point))
    wkb: bytes = shapely.to_wkb(point, flavor="iso", byte_order=1)
    return header + wkb


def from_geopackage(blob: bytes) -> shapely.Geometry:
    """The geometry in a GeoPackage's blob, with its SRID.

    Raises:
        ValueError: it is no such blob.
    """
    if len(blob) < _GEOPACKAGE_HEADER.size or blob[:2] != b"GP":
        raise ValueError("no geometry of a GeoPackage")
    flags = blob[3]
    envelope = flags >> 1 & 0x07
    if flags & _EXTENDED or envelope >= len(_ENVELOPE_DOUBLES):
        raise ValueError("a geometry of an unknown kind")
    srid = int.from_bytes(blob[4:8], "little" if flags & _LITTLE_ENDIAN else "big", signed=True)
    try:
        geometry = shapely.from_wkb(blob[_GEOPACKAGE_HEADER.size + 8 * _ENVELOPE_DOUBLES[envelope] :])
    except shapely.errors.ShapelyError as error:
        raise ValueError("a damaged geometry") from error
    return shapely.set_srid(geometry, srid)


def geopackage_bounds(blob: bytes | None) -> tuple[float, float, float, float] | None:
    """Least x, least y, greatest x, greatest y of a blob's geometry; None where it is NULL or empty.

    Raises:
        ValueError: it is no geometry of a GeoPackage.
    """
    if blob is None:
        return None
    geometry = from_geopackage(blob)
    if shapely.is_empty(geometry):
        return None
    left, bottom, right, top = map(float, shapely.bounds(geometry))
    return left, bottom, right, top


def to_sdo_geometry(point: Point, type_of: Callable[[str], GeometryType]) -> Any:
    """Oracle's SDO_GEOMETRY of a point: SDO_GTYPE 2001 or 3001, SDO_SRID and SDO_POINT.

    Args:
        point: with two or three coordinates.
        type_of: gives Oracle's object types by name.
    """
    geometry = type_of("MDSYS.SDO_GEOMETRY").newobject()
    geometry.SDO_GTYPE = 3001 if point.has_z else 2001
    geometry.SDO_SRID = int(shapely.get_srid(point))
    geometry.SDO_POINT = type_of("MDSYS.SDO_POINT_TYPE").newobject()
    geometry.SDO_POINT.X = point.x
    geometry.SDO_POINT.Y = point.y
    if point.has_z:
        geometry.SDO_POINT.Z = point.z
    return geometry
