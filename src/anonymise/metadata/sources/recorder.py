"""The recorder of the Norwegian Public Road Administration: XML in the EXIF tags 40055 and 40056.

ImageProperties (40055) is that of all eras; ReflinkInfo or AdditionalInfoNorway2 (40056) came later.
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal

from anonymise.metadata import gps, roadname
from anonymise.metadata.embedded import Embedded
from anonymise.metadata.evidence import (
    JUNCTION,
    POSITION,
    ROAD,
    STREKNING,
    Evidence,
    Fields,
    Reading,
    Source,
    Texts,
    Vendor,
    found_at,
)
from anonymise.metadata.metadata import Origin, iso_time
from anonymise.metadata.recorderxml import redact_text
from anonymise.metadata.sources.camera import EXIF
from anonymise.metadata.tags import ExifFields
from anonymise.metadata.values import county, number, rounded, two_decimals
from anonymise.metadata.xmltext import MalformedXmlError, decode_xml, flatten, parse_xml

__all__ = ["IMAGE_PROPERTIES", "REFLINK_INFO", "VENDOR"]

IMAGE_PROPERTIES = Origin("ImageProperties", is_exif=True)
REFLINK_INFO = Origin("ReflinkInfo", is_exif=True)

_TAGS: Mapping[Origin, tuple[int, str]] = {
    IMAGE_PROPERTIES: (40055, "image_properties"),
    REFLINK_INFO: (40056, "reflink_info"),
}
"""Origin → its EXIF tag and the field of `Metadata` that holds the redacted document."""

_HP = re.compile(r"(?:hp)?(\d+)", re.ASCII | re.IGNORECASE)
_LANE = re.compile(r"[Ff]?([0-9]+)([^\W\d_]*)")

_Convert = Callable[[str], str | Texts | None]


def _read(_: Embedded, fields: ExifFields, notes: list[str]) -> Reading:
    """The texts of both documents, the redacted documents, and the names that they hold."""
    texts: dict[Origin, Mapping[str, str]] = {}
    documents: dict[str, str] = {}
    names: frozenset[str] = frozenset()
    for origin, (tag, field) in _TAGS.items():
        if tag not in fields.ifd0:
            continue
        try:
            text = decode_xml(fields.ifd0[tag].data).text
            root = parse_xml(text)
            documents[field], names_here = redact_text(text)
        except MalformedXmlError as error:
            notes.append(f"the XML in tag {tag} is left out: {error}")
            continue
        texts[origin] = flatten(root)
        names |= names_here
    return Reading(texts, documents, names)


def _as_written(text: str) -> str:
    return text


def _properties(path: str, convert: _Convert = _as_written) -> Source:
    return found_at(IMAGE_PROPERTIES, path, convert)


def _reflink(path: str, convert: _Convert = _as_written) -> Source:
    return found_at(REFLINK_INFO, path, convert)


def _gnss(name: str) -> Source:
    return _reflink(f"GnssInfo/{name}", number)


def _each_path(convert: _Convert) -> tuple[Source, Source]:
    """The path under which the recorder stored the image, in its two places."""
    return _properties("ImageName", convert), _reflink("ImageInfo/StorageFile", convert)


def _position(origin: Origin, prefix: str, longitude: str, latitude: str, altitude: str) -> Source:
    def read(evidence: Evidence) -> Texts | None:
        values = evidence.texts.get(origin, {})
        texts = [values.get(prefix + name) for name in (longitude, latitude, altitude)]
        lon, lat, alt = (None if text is None else number(text) for text in texts)
        place = f"{prefix.rstrip('/')} of {origin.name}"
        if texts[0] is None or texts[1] is None:
            return None
        if lon is None or lat is None or abs(float(lon)) > 180 or abs(float(lat)) > 90:
            evidence.notes.append(f"the position in {place} is left out, it is no place on Earth")
            return None
        if float(lon) == float(lat) == 0:
            evidence.notes.append(f"the position in {place} is left out, it is 0, 0: there was no fix")
            return None
        if alt is None and texts[2] is not None:
            evidence.notes.append(f"the altitude in {place} is left out, it cannot be read")
        return lon, lat, alt

    return Source(origin, read)


def _gps_speed(evidence: Evidence) -> str | None:
    """The speed of the GPS directory: under ``K``, for km/h, these recorders write m/s."""
    if evidence.fields.ifd0.keys().isdisjoint(tag for tag, _ in _TAGS.values()):
        return None
    speed = gps.speed_m_s(evidence.fields.gps, evidence.notes, from_recorder=True)
    return None if speed is None else rounded(Decimal(speed.numerator) / Decimal(speed.denominator))


def _hp(text: str) -> str | None:
    found = _HP.fullmatch(text)
    return roadname.plain_number(found[1]) if found else None


def _lane(text: str) -> str | None:
    found = _LANE.fullmatch(text)
    return roadname.plain_number(found[1]) + found[2] if found else None


def _stored_folder(path: str) -> str | None:
    return "/".join(roadname.split_path(path)[0]) or None


def _stored_name(path: str) -> str | None:
    return roadname.split_path(path)[1] or None


def _baseline(evidence: Evidence) -> str | None:
    names = ("BaseLinePosition", "BaseLineTickInterval", "BaseLineTickOffset", "TiltPoint", "Tilt")
    values = [evidence.texts.get(IMAGE_PROPERTIES, {}).get(name) for name in names]
    # All five or none: a reader splits them by position.
    return None if None in values else ";".join(map(str, values))


_SOURCES: Mapping[Fields, tuple[Source, ...]] = {
    ("time",): (_properties("@Date", iso_time),),
    ("speed",): (
        _reflink("GnssInfo/Speed", two_decimals),
        _properties("Speed", two_decimals),
        Source(EXIF, _gps_speed),
    ),
    ("heading",): (_gnss("Heading"), _properties("Heading", number)),
    POSITION: (
        _position(REFLINK_INFO, "GnssInfo/", "Longitude", "Latitude", "Altitude"),
        _position(IMAGE_PROPERTIES, "GeoTag/", "dLongitude", "dLatitude", "dAltitude"),
    ),
    ("geoidal_separation",): (_gnss("GeoidalSeparation"),),
    ("roll",): (_gnss("Roll"),),
    ("pitch",): (_gnss("Pitch"),),
    ("north_rms_error",): (_gnss("NorthRmsError"),),
    ("east_rms_error",): (_gnss("EastRmsError"),),
    ("down_rms_error",): (_gnss("DownRmsError"),),
    ("roll_rms_error",): (_gnss("RollRmsError"),),
    ("pitch_rms_error",): (_gnss("PitchRmsError"),),
    ("heading_rms_error",): (_gnss("HeadingRmsError"),),
    ("section_name",): (_properties("VegComValues/VCArea"),),
    ("county",): (_reflink("ImageInfo/fylke", county), _properties("VegComValues/VCCountyNo", county)),
    ROAD: (_properties("VegComValues/VCRoad", roadname.road), _reflink("RoadInfo/RoadIdent", roadname.road)),
    ("road_type",): (_reflink("ImageInfo/roadtype"),),
    ("road_ident",): (_reflink("RoadInfo/RoadIdent"),),
    ("hp",): (_properties("VegComValues/VCHP", _hp),),
    STREKNING: (
        _reflink("RoadInfo/RoadIdent", roadname.strekning),
        _properties("VegComValues/VCHP", roadname.strekning),
    ),
    JUNCTION: _each_path(lambda path: roadname.junction(roadname.split_path(path)[1])),
    ("meter",): (_reflink("ImageInfo/meter", two_decimals), _properties("VegComValues/VCMeter", two_decimals)),
    ("lane",): (
        _properties("VegComValues/VCLaneName", _lane),
        *_each_path(lambda path: roadname.lane(roadname.split_path(path)[1])),
        _properties("VegComValues/VCLane", _lane),
    ),
    ("folder",): _each_path(_stored_folder),
    ("file_name",): _each_path(_stored_name),
    ("strekning_folders",): _each_path(lambda path: roadname.reference_folders(roadname.split_path(path)[0])),
    ("baseline",): (Source(IMAGE_PROPERTIES, _baseline),),
    ("reflink_id",): (_reflink("RoadInfo/ReflinkId", number), _reflink("ReflinkId", number)),
    ("reflink_position",): (_reflink("RoadInfo/ReflinkPosition", number), _reflink("ReflinkPosition", number)),
}

VENDOR = Vendor(_SOURCES, _read)
