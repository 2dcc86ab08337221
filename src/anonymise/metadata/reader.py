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

from anonymise.metadata import gps, roadname
from anonymise.metadata.embedded import Embedded
from anonymise.metadata.gpano import read_gpano
from anonymise.metadata.metadata import ImageSource, Metadata, Origin, iso_time
from anonymise.metadata.recorderxml import (
    MalformedXmlError,
    decode_xml,
    flatten,
    parse_xml,
    redact_text,
    scrub,
    scrub_text,
)
from anonymise.metadata.tags import ExifFields, Field

__all__ = ["SOURCES", "ImageSource", "Metadata", "Origin", "Row", "Source", "read_metadata"]

_IMAGE_PROPERTIES = 40055
_REFLINK_INFO = 40056
_MODEL = 272
_XP_TITLE = 40091

_TIMES = ((36867, 37521, 36881), (36868, 37522, 36882), (306, 37520, 36880))
"""Original, digitized and last change: the tags of the time, of its fraction and of its zone (EXIF 3.0, 4.6.6.6)."""

# No two neighbouring parts of a pattern can take the same character, so that no text makes them try again and again.
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_LONGEST_NUMBER = 64
_RATIONAL = re.compile(r"([+-]?\d{1,20})/(\d{1,20})", re.ASCII)
_TIME_LENGTH = len("2021-05-04T10:11:12")
_COUNTY = re.compile(r"0*([1-9]\d{0,3})", re.ASCII)
_HP = re.compile(r"(?:hp)?(\d+)", re.ASCII | re.IGNORECASE)
_LANE = re.compile(r"[Ff]?([0-9]+)([^\W\d_]*)")
_SUBSECONDS = re.compile(r"\d{1,9}", re.ASCII)
_OFFSET = re.compile(r"Z|[+-]\d{1,2}:?\d\d", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Evidence:
    """All that one image says, before anyone decides what to believe.

    Attributes:
        source: what is known of the file.
        properties: texts of ImageProperties by their paths.
        reflink: texts of ReflinkInfo or AdditionalInfoNorway2 by their paths.
        fields: of the EXIF block.
        gpano: properties from the XMP packet.
        notes: takes what a reader finds and cannot use, one line each; never quotes the image's texts.
    """

    source: ImageSource
    properties: Mapping[str, str]
    reflink: Mapping[str, str]
    fields: ExifFields
    gpano: Mapping[str, str]
    notes: list[str]


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
    gpano = read_gpano(blocks.xmp, problems)
    evidence = _Evidence(source, properties, reflink, fields, gpano, problems)

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
        problems=tuple(dict.fromkeys(problems)),
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


# Texts: what a source wrote → what the record says, None where it says nothing.


def _as_written(text: str) -> str | None:
    return text


def _number(text: str) -> str | None:
    """A finite decimal number as it was written, with a point whatever the recorder's locale."""
    candidate = text.strip().replace(",", ".")
    if len(candidate) > _LONGEST_NUMBER or not _NUMBER.fullmatch(candidate):
        return None
    return candidate if isfinite(float(candidate)) else None


def _xmp_number(text: str) -> str | None:
    """A number as ``_number`` takes it, or a fraction such as ``125/10``, which XMP has from EXIF."""
    found = _RATIONAL.fullmatch(text.strip())
    if not found:
        return _number(text)
    return _number(repr(int(found[1]) / int(found[2]))) if int(found[2]) else None


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
    return roadname.plain_number(found[1]) if found else None


def _lane(text: str) -> str | None:
    found = _LANE.fullmatch(text)
    return roadname.plain_number(found[1]) + found[2] if found else None


def _stored_folder(path: str) -> str | None:
    return "/".join(roadname.split_path(path)[0]) or None


def _stored_name(path: str) -> str | None:
    return roadname.split_path(path)[1] or None


_WHOLE_VALUES = frozenset({_number, _xmp_number, _two_decimals, _county, iso_time})
"""Conversions that take the whole value: where one of them gives nothing, what the source says is lost."""


# Readers: evidence → text. Each makes one kind of row entry.


def _converted(
    evidence: _Evidence, where: str, text: str | None, convert: Callable[[str], str | _Texts | None]
) -> str | _Texts | None:
    """What a source says, converted; a value that ought to be usable and is not is noted."""
    if text is None:
        return None
    value = convert(text)
    if value is None and convert in _WHOLE_VALUES:
        evidence.notes.append(f"{where} is left out, it cannot be read")
    return value


def _properties(path: str, convert: Callable[[str], str | _Texts | None] = _as_written) -> Source:
    where = f"{path} of ImageProperties"
    return Source(Origin.IMAGE_PROPERTIES, lambda e: _converted(e, where, e.properties.get(path), convert))


def _reflink(path: str, convert: Callable[[str], str | _Texts | None] = _as_written) -> Source:
    where = f"{path} of ReflinkInfo"
    return Source(Origin.REFLINK_INFO, lambda e: _converted(e, where, e.reflink.get(path), convert))


def _gpano(name: str, convert: Callable[[str], str | None] = _as_written) -> Source:
    return Source(Origin.GPANO, lambda e: _converted(e, f"XMP: GPano {name}", e.gpano.get(name), convert))


def _own_name(convert: Callable[[str], str | _Texts | None]) -> Source:
    return Source(Origin.NAME, lambda e: convert(e.source.name.rpartition(".")[0] or e.source.name))


def _model(evidence: _Evidence) -> str | None:
    model = evidence.fields.ifd0.get(_MODEL)
    return (model.text() or None) if model else None


def _title(evidence: _Evidence) -> str | None:
    title = evidence.fields.ifd0.get(_XP_TITLE)
    return (title.utf16_text() or None) if title else None


def _camera_time(time: int, subseconds: int, offset: int) -> Source:
    """A time of the EXIF block with its fraction and its zone, which have tags of their own."""

    def read(evidence: _Evidence) -> str | None:
        def text(tag: int) -> str:
            field = evidence.fields.exif.get(tag) or evidence.fields.ifd0.get(tag)
            return field.text() if field else ""

        written = text(time)
        if not any(digit in written for digit in "123456789"):  # blanks or zeros: not known
            return None
        value = iso_time(written)
        if value is None:
            evidence.notes.append(f"EXIF: the time in tag {time} is left out, it cannot be read")
            return None
        seconds, rest = value[:_TIME_LENGTH], value[_TIME_LENGTH:]
        if not rest.startswith("."):
            rest = _matching(evidence, _SUBSECONDS, subseconds, text(subseconds), ".") + rest
        zoned = seconds + rest + _matching(evidence, _OFFSET, offset, text(offset))
        return value if rest.endswith("Z") or "+" in rest or "-" in rest else iso_time(zoned) or seconds + rest

    return _exif(read)


def _matching(evidence: _Evidence, pattern: re.Pattern[str], tag: int, text: str, before: str = "") -> str:
    """The text of a tag with what goes before it; nothing where it is blank or, with a note, where it does not fit."""
    if pattern.fullmatch(text):
        return before + text
    if text.replace(":", "").strip():
        evidence.notes.append(f"EXIF: tag {tag} is left out, it cannot be read")
    return ""


def _gps_time(evidence: _Evidence) -> str | None:
    return gps.time(evidence.fields.gps, evidence.notes)


def _file_time(evidence: _Evidence) -> str | None:
    modified = evidence.source.modified
    if modified is None:
        return None
    evidence.notes.append("the image says nowhere when it was taken: the date of its file stands for it")
    if modified.tzinfo is not None:
        modified = modified.astimezone(timezone.utc).replace(tzinfo=None)
    # File systems keep different fractions of a second.
    return modified.isoformat(timespec="seconds")


def _xml_position(origin: Origin, prefix: str, longitude: str, latitude: str, altitude: str) -> Source:
    def read(evidence: _Evidence) -> _Texts | None:
        of, values = (
            ("ImageProperties", evidence.properties)
            if origin is Origin.IMAGE_PROPERTIES
            else ("ReflinkInfo", evidence.reflink)
        )
        texts = [values.get(prefix + name) for name in (longitude, latitude, altitude)]
        lon, lat, alt = (None if text is None else _number(text) for text in texts)
        place = f"{prefix.rstrip('/')} of {of}"
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


def _gps_position(evidence: _Evidence) -> _Texts | None:
    lon, lat, alt = gps.position(evidence.fields.gps, evidence.notes)
    return None if lon is None or lat is None else (lon, lat, alt)


def _gps_speed(evidence: _Evidence) -> str | None:
    from_recorder = not evidence.fields.ifd0.keys().isdisjoint({_IMAGE_PROPERTIES, _REFLINK_INFO})
    speed = gps.speed_m_s(evidence.fields.gps, evidence.notes, from_recorder=from_recorder)
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
        (
            _properties("@Date", iso_time),
            *(_camera_time(*tags) for tags in _TIMES),
            _exif(_gps_time),
            _own_name(roadname.time),
            Source(Origin.FILE, _file_time),
        ),
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
            _exif(lambda e: gps.heading(e.fields.gps, e.notes)),
            _gpano("PoseHeadingDegrees", _xmp_number),
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
    Row(("roll",), (_gnss("Roll"), _gpano("PoseRollDegrees", _xmp_number))),
    Row(("pitch",), (_gnss("Pitch"), _gpano("PosePitchDegrees", _xmp_number))),
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
