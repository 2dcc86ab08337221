"""Metadata blocks → Metadata: everything that an image's EXIF, XMP, name and path tell about the road.

``SOURCES`` is the one table that says where each value is looked for, in order of trust. All recorders and eras share
it: the forced reading of images before 2022 (``ImageSource.older``) only puts the rows of ImageProperties first.

Texts are kept as the source wrote them, to the digit; typed values are properties of ``Metadata``. What cannot be
read is unknown (None) and named in ``Metadata.problems``; bad bytes never raise.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timezone
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from math import isfinite

from anonymise.exif import gps, roadname
from anonymise.exif.embedded import Embedded
from anonymise.exif.gpano import read_gpano
from anonymise.exif.metadata import TIME, ImageSource, Metadata, Origin, parse_time
from anonymise.exif.recorderxml import (
    MalformedXmlError,
    decode_xml,
    flatten,
    parse_xml,
    redact_text,
    scrub,
    scrub_text,
)
from anonymise.exif.tags import ExifFields, Field

__all__ = ["SOURCES", "ImageSource", "Metadata", "Origin", "Row", "Source", "read_metadata"]

_IMAGE_PROPERTIES = 40055
_REFLINK_INFO = 40056
_MODEL = 272
_XP_TITLE = 40091
_DATE_TIME_ORIGINAL = 36867

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_COUNTY = re.compile(r"0*([1-9]\d{0,3})", re.ASCII)
_HP = re.compile(r"(?:hp)?0*(\d+)", re.ASCII | re.IGNORECASE)
_LANE = re.compile(r"[Ff]?0*(\d+[^\W\d_]*)")


@dataclass(frozen=True, slots=True)
class _Evidence:
    """All that one image says, before anyone decides what to believe.

    Attributes:
        source: what is known of the file.
        properties: texts of ImageProperties by their paths.
        reflink: texts of ReflinkInfo or AdditionalInfoNorway2 by their paths.
        fields: of the EXIF block.
        gpano: properties from the XMP packet.
    """

    source: ImageSource
    properties: Mapping[str, str]
    reflink: Mapping[str, str]
    fields: ExifFields
    gpano: Mapping[str, str]


_Texts = tuple[str | None, ...]
_Reader = Callable[[_Evidence], str | _Texts | None]


@dataclass(frozen=True, slots=True)
class Source:
    """One place where values may be found.

    Attributes:
        origin: what kind of place.
        read: evidence → the text, or as many texts as the row has fields; None where there is nothing usable.
    """

    origin: Origin
    read: _Reader


@dataclass(frozen=True, slots=True)
class Row:
    """Fields of ``Metadata`` that are filled together, and where from, in order of trust."""

    fields: tuple[str, ...]
    sources: tuple[Source, ...]


def read_metadata(blocks: Embedded, source: ImageSource) -> Metadata:
    """Interpret an image's metadata.

    Args:
        blocks: the metadata blocks of the image file. Without any, the result is what the name and path tell.
        source: what is known besides.
    """
    fields = blocks.fields
    problems = [*blocks.problems, *fields.problems]
    properties, properties_xml, names = _read_recorder_xml(fields.ifd0, _IMAGE_PROPERTIES, problems)
    reflink, reflink_xml, more_names = _read_recorder_xml(fields.ifd0, _REFLINK_INFO, problems)
    names |= more_names
    evidence = _Evidence(source, properties, reflink, fields, _read_gpano(blocks, problems))

    values: dict[str, str] = {}
    origins: dict[str, Origin] = {}
    for row in SOURCES:
        for candidate in _in_order(row.sources, older=source.older):
            texts = candidate.read(evidence)
            if texts is None:
                continue
            pairs = zip(row.fields, (texts,) if isinstance(texts, str) else texts, strict=True)
            found = {name: text for name, text in pairs if text is not None}
            values |= found
            origins |= dict.fromkeys(found, candidate.origin)
            break
    for name in _FREE_TEXTS & values.keys():
        values[name] = scrub(values[name], names)
    return Metadata(
        source=source,
        has_exif=bool(fields),
        origins=origins,
        problems=tuple(problems),
        image_properties=properties_xml and scrub_text(properties_xml, names),
        reflink_info=reflink_xml and scrub_text(reflink_xml, names),
        **values,
    )


def _in_order(sources: tuple[Source, ...], *, older: bool) -> Iterator[Source]:
    """The sources in order of trust; for the older reading those of ImageProperties come first."""
    if not older:
        return iter(sources)
    return iter(sorted(sources, key=lambda source: source.origin is not Origin.IMAGE_PROPERTIES))


def _read_recorder_xml(
    ifd0: Mapping[int, Field], tag: int, problems: list[str]
) -> tuple[Mapping[str, str], str | None, frozenset[str]]:
    """Texts by path, the redacted document and the names that stood in it, of one of the recorder's tags."""
    if tag not in ifd0:
        return {}, None, frozenset()
    try:
        text = decode_xml(ifd0[tag].data).text
        root = parse_xml(text)
        redacted, names = redact_text(text)
    except MalformedXmlError as error:
        problems.append(f"the XML in tag {tag} is left out: {error}")
        return {}, None, frozenset()
    return flatten(root), redacted, names


def _read_gpano(blocks: Embedded, problems: list[str]) -> Mapping[str, str]:
    for packet in blocks.xmp[:1]:
        try:
            return read_gpano(packet)
        except MalformedXmlError as error:
            problems.append(f"the XMP packet is left out: {error}")
    return {}


# Texts: what a source wrote → what the record says, None where it says nothing.


def _as_written(text: str) -> str | None:
    return text


def _number(text: str) -> str | None:
    """A finite decimal number as it was written, with a point whatever the recorder's locale."""
    candidate = text.strip().replace(",", ".")
    return candidate if _NUMBER.fullmatch(candidate) and isfinite(float(candidate)) else None


def _two_decimals(text: str) -> str | None:
    number = _number(text)
    return None if number is None else _round(Decimal(number))


def _round(number: Decimal) -> str | None:
    try:
        rounded = number.quantize(Decimal("0.01"), ROUND_HALF_UP)
    except InvalidOperation:  # more digits than any speed or distance has
        return None
    return f"{abs(rounded) if rounded == 0 else rounded:f}"


def _county(text: str) -> str | None:
    found = _COUNTY.fullmatch(text)
    return found[1] if found else None


def _hp(text: str) -> str | None:
    found = _HP.fullmatch(text)
    return found[1] if found else None


def _lane(text: str) -> str | None:
    found = _LANE.fullmatch(text)
    return found[1] if found else None


def _stored_folder(path: str) -> str | None:
    return "/".join(roadname.split_path(path)[0]) or None


def _stored_name(path: str) -> str | None:
    return roadname.split_path(path)[1] or None


def _time(text: str) -> str | None:
    """A time as ISO 8601, its digits as they were written; some recorders write ``.`` or ``:`` between all of them."""
    found = TIME.fullmatch(text)
    if not found or parse_time(text) is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    return f"{year}-{month}-{day}T{hour}:{minute}:{second}{'.' + fraction if fraction else ''}{zone or ''}"


# Readers: evidence → text. Each makes one kind of row entry.


def _properties(path: str, convert: Callable[[str], str | _Texts | None] = _as_written) -> Source:
    return Source(Origin.IMAGE_PROPERTIES, lambda e: convert(e.properties[path]) if path in e.properties else None)


def _reflink(path: str, convert: Callable[[str], str | _Texts | None] = _as_written) -> Source:
    return Source(Origin.REFLINK_INFO, lambda e: convert(e.reflink[path]) if path in e.reflink else None)


def _gpano(name: str, convert: Callable[[str], str | None] = _as_written) -> Source:
    return Source(Origin.GPANO, lambda e: convert(e.gpano[name]) if name in e.gpano else None)


def _own_name(convert: Callable[[str], str | _Texts | None]) -> Source:
    return Source(Origin.NAME, lambda e: convert(e.source.name.rpartition(".")[0] or e.source.name))


def _model(evidence: _Evidence) -> str | None:
    model = evidence.fields.ifd0.get(_MODEL)
    return (model.text() or None) if model else None


def _title(evidence: _Evidence) -> str | None:
    title = evidence.fields.ifd0.get(_XP_TITLE)
    return (title.utf16_text() or None) if title else None


def _date_time_original(evidence: _Evidence) -> str | None:
    tag = evidence.fields.exif.get(_DATE_TIME_ORIGINAL) or evidence.fields.ifd0.get(_DATE_TIME_ORIGINAL)
    return _time(tag.text()) if tag else None


def _file_time(evidence: _Evidence) -> str | None:
    modified = evidence.source.modified
    if modified is None:
        return None
    if modified.tzinfo is not None:
        modified = modified.astimezone(timezone.utc).replace(tzinfo=None)
    # File systems keep different fractions of a second: a copied image must not change its id.
    return modified.isoformat(timespec="seconds")


def _xml_position(origin: Origin, prefix: str, longitude: str, latitude: str, altitude: str) -> Source:
    def read(evidence: _Evidence) -> _Texts | None:
        values = evidence.properties if origin is Origin.IMAGE_PROPERTIES else evidence.reflink
        lon, lat, alt = (_number(values.get(prefix + name, "")) for name in (longitude, latitude, altitude))
        return _position(lon, lat, alt)

    return Source(origin, read)


def _position(lon: str | None, lat: str | None, alt: str | None) -> _Texts | None:
    """A position on Earth; the altitude may be unknown."""
    if lon is None or lat is None or abs(float(lon)) > 180 or abs(float(lat)) > 90:
        return None
    return lon, lat, alt


def _gps_position(evidence: _Evidence) -> _Texts | None:
    return _position(*gps.position(evidence.fields.gps))


def _gps_speed(evidence: _Evidence) -> str | None:
    from_recorder = not evidence.fields.ifd0.keys().isdisjoint({_IMAGE_PROPERTIES, _REFLINK_INFO})
    speed = gps.speed_m_s(evidence.fields.gps, from_recorder=from_recorder)
    return None if speed is None else _round(Decimal(speed.numerator) / Decimal(speed.denominator))


def _own_road(evidence: _Evidence) -> _Texts | None:
    places = (evidence.source.name, *reversed(evidence.source.folders))
    return next((road for road in map(roadname.road, places) if road), None)


def _baseline(evidence: _Evidence) -> str | None:
    names = ("BaseLinePosition", "BaseLineTickInterval", "BaseLineTickOffset", "TiltPoint", "Tilt")
    values = [evidence.properties.get(name) for name in names]
    # All five or none: a reader splits them by position.
    return None if None in values else ";".join(map(str, values))


def _own(read: _Reader) -> Source:
    return Source(Origin.NAME, read)


def _exif(read: _Reader) -> Source:
    return Source(Origin.EXIF, read)


def _gnss(name: str) -> Source:
    return _reflink(f"GnssInfo/{name}", _number)


def _each_path(convert: Callable[[str], str | _Texts | None]) -> tuple[Source, Source]:
    """The path under which the recorder stored the image, in its two places."""
    return _properties("ImageName", convert), _reflink("ImageInfo/StorageFile", convert)


_FREE_TEXTS = frozenset({"title", "camera", "folder", "section_name"})
"""Fields in which a driver's name or a car's id may stand; the others have a fixed form or name the file itself."""

SOURCES: tuple[Row, ...] = (
    Row(
        ("time",),
        (_properties("@Date", _time), _exif(_date_time_original), Source(Origin.FILE, _file_time)),
    ),
    Row(("camera",), (_exif(_model),)),
    Row(("title",), (_exif(_title),)),
    Row(
        ("speed",),
        (_reflink("GnssInfo/Speed", _two_decimals), _properties("Speed", _two_decimals), _exif(_gps_speed)),
    ),
    Row(
        ("heading",),
        (
            _gnss("Heading"),
            _properties("Heading", _number),
            _exif(lambda e: gps.heading(e.fields.gps)),
            _gpano("PoseHeadingDegrees", _number),
        ),
    ),
    Row(
        ("longitude", "latitude", "altitude"),
        (
            _xml_position(Origin.REFLINK_INFO, "GnssInfo/", "Longitude", "Latitude", "Altitude"),
            _xml_position(Origin.IMAGE_PROPERTIES, "GeoTag/", "dLongitude", "dLatitude", "dAltitude"),
            _exif(_gps_position),
        ),
    ),
    Row(("geoidal_separation",), (_gnss("GeoidalSeparation"),)),
    Row(("roll",), (_gnss("Roll"), _gpano("PoseRollDegrees", _number))),
    Row(("pitch",), (_gnss("Pitch"), _gpano("PosePitchDegrees", _number))),
    Row(("north_rms_error",), (_gnss("NorthRmsError"),)),
    Row(("east_rms_error",), (_gnss("EastRmsError"),)),
    Row(("down_rms_error",), (_gnss("DownRmsError"),)),
    Row(("roll_rms_error",), (_gnss("RollRmsError"),)),
    Row(("pitch_rms_error",), (_gnss("PitchRmsError"),)),
    Row(("heading_rms_error",), (_gnss("HeadingRmsError"),)),
    Row(("projection",), (_gpano("ProjectionType"),)),
    Row(("section_name",), (_properties("VegComValues/VCArea"),)),
    Row(
        ("county",),
        (
            _reflink("ImageInfo/fylke", _county),
            _properties("VegComValues/VCCountyNo", _county),
            _own(lambda e: roadname.county(e.source.folders)),
        ),
    ),
    Row(
        ("road_category", "road_status", "road_number"),
        (
            _properties("VegComValues/VCRoad", roadname.road),
            _reflink("RoadInfo/RoadIdent", roadname.road),
            _own(_own_road),
        ),
    ),
    Row(("road_type",), (_reflink("ImageInfo/roadtype"),)),
    Row(("road_ident",), (_reflink("RoadInfo/RoadIdent"),)),
    Row(("hp",), (_properties("VegComValues/VCHP", _hp), _own_name(roadname.hp))),
    Row(
        ("strekning", "delstrekning"),
        (
            _reflink("RoadInfo/RoadIdent", roadname.strekning),
            _properties("VegComValues/VCHP", roadname.strekning),
            _own_name(roadname.strekning),
        ),
    ),
    Row(
        ("ankerpunkt", "kryssdel", "sideanleggsdel"),
        (*_each_path(lambda path: roadname.junction(roadname.split_path(path)[1])), _own_name(roadname.junction)),
    ),
    Row(
        ("meter",),
        (
            _reflink("ImageInfo/meter", _two_decimals),
            _properties("VegComValues/VCMeter", _two_decimals),
            _own_name(roadname.meter),
        ),
    ),
    Row(
        ("lane",),
        (
            _properties("VegComValues/VCLaneName", _lane),
            *_each_path(lambda path: roadname.lane(roadname.split_path(path)[1])),
            _properties("VegComValues/VCLane", _lane),
            _own_name(roadname.lane),
        ),
    ),
    Row(("folder",), (*_each_path(_stored_folder), _own(lambda e: "/".join(e.source.folders) or None))),
    Row(("file_name",), (*_each_path(_stored_name), _own(lambda e: e.source.name or None))),
    Row(
        ("strekning_folders",),
        (
            *_each_path(lambda path: roadname.reference_folders(roadname.split_path(path)[0])),
            _own(lambda e: roadname.reference_folders(e.source.folders)),
        ),
    ),
    Row(("baseline",), (Source(Origin.IMAGE_PROPERTIES, _baseline),)),
    Row(("reflink_id",), (_reflink("RoadInfo/ReflinkId", _number), _reflink("ReflinkId", _number))),
    Row(("reflink_position",), (_reflink("RoadInfo/ReflinkPosition", _number), _reflink("ReflinkPosition", _number))),
)
"""Where each value is looked for, most trusted first. The first source that has something usable wins."""
