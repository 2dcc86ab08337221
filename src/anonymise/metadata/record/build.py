r"""Metadata and detections ↔ the JSON record of an image; owns its key names.

The record's format is described in docs/record.md and, for programs, in record.schema.json next to this module.
Values are strings or null, as the downstream readers expect, and ``detekterte_objekter`` an object.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from string import Formatter
from types import MappingProxyType

from pydantic import Field, field_validator

from anonymise.core.errors import RecordError
from anonymise.core.section import Section
from anonymise.metadata import roadname
from anonymise.metadata.metadata import Metadata
from anonymise.metadata.record.text import KEYS, Record, dumps, flip_wkt, loads
from anonymise.metadata.sidecar import PositionSidecar
from anonymise.metadata.sources.path import FILE

__all__ = [
    "KEYS",
    "Record",
    "RecordOptions",
    "build_record",
    "check_not_null",
    "configured_values",
    "dumps",
    "flip_wkt",
    "loads",
    "read_sidecar",
    "version_text",
]

_FOLDER_FIELDS = (
    "aar",
    "maaned",
    "dag",
    "fylke",
    "vegkat",
    "vegstat",
    "vegnr",
    "hp",
    "meter",
    "feltkode",
    "strekningreferanse",
    "relative_input_dir",
)
"""What ``exif_mappenavn`` may name in braces."""

_YEAR = re.compile(r"(?:19|20)[0-9]{2}")
_IMAGE_TYPE_FOLDERS = frozenset({"planar", "dekke", "360"})

_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half a character: how Python carries bytes of a file name that are no text."""


class RecordOptions(Section):
    """Keys of the configuration about the record."""

    data_eier: str | None
    """Owner of the data; goes into the record."""

    fylkesnummer: int | None = Field(ge=1, le=9999)
    """County or municipality number for images that name none, or for all images with `force_fylke`."""

    force_fylke: bool
    """Use `fylkesnummer` for images that name another county, too. Needs `fylkesnummer`."""

    image_type: str = Field(min_length=1, max_length=8)
    """Kind of the images, usually `Planar` or `360`; goes into the record and the image's id. "360" also makes the
    projection equirectangular where `projection` is `auto`.
    """

    exif_mappenavn: str = Field(min_length=1)
    """Pattern of the record's `mappenavn`. Fields: aar, maaned, dag, fylke, vegkat, vegstat, vegnr, hp, meter,
    feltkode, strekningreferanse, relative_input_dir.
    """

    exif_top_dir: str
    """Folder below which `relative_input_dir` begins."""

    remove_imagetype_filepath: bool
    """Leave a planar, dekke or 360 folder that follows the year out of `mappenavn`."""

    flip_wkt: bool
    """Swap longitude and latitude when a record is read for the database."""

    application_version: str
    """Version of the application in the record's `versjon`: `P<application_version>_K<day of the configuration's
    change>`.
    """

    table_name: str | None
    """Database table whose NOT NULL columns a record must fill; null checks nothing."""

    position_sidecar: str | None
    """GPX track (.gpx) or table (.csv: latitude, longitude, altitude, and time or file_name) with positions for the
    records of images that have none of their own. A relative path begins at the folder of the file it stands in.
    """

    position_sidecar_clock_offset_seconds: float = Field(allow_inf_nan=False)
    """Seconds that the camera's clock is ahead of UTC, or of the zone that an image's time names: 7200 for a camera
    without zone on Norwegian summer time.
    """

    table_primary_key: str | None
    """Column or record key that must have a value where `table_name` is set; null is the table's own."""

    @field_validator("exif_mappenavn")
    @classmethod
    def _only_known_fields(cls, pattern: str) -> str:
        try:
            parts = list(Formatter().parse(pattern))
        except ValueError as error:
            raise ValueError(f"{pattern!r} is no pattern: {error}") from None
        for _, name, form, conversion in parts:
            if name is not None and name not in _FOLDER_FIELDS:
                known = ", ".join(_FOLDER_FIELDS)
                raise ValueError(f"unknown field {{{name}}} in {pattern!r}; known are {known}")
            if form or conversion:
                raise ValueError(f"the field {{{name}}} in {pattern!r} must stand without format: write {{{name}}}")
        return pattern


def build_record(
    metadata: Metadata,
    *,
    detections: Mapping[str, int] | None,
    preview_name: str | None,
    version: str | None,
    options: RecordOptions,
) -> Record:
    """The record of one image, with all of ``KEYS`` in their order.

    Args:
        metadata: what the image tells.
        detections: class name (`labels.LABELS`) → number of objects; None where no detection was run.
        preview_name: file name of the preview; None where none is written.
        version: see ``version_text``.
        options: what the configuration says.
    """
    values: Record = {key: read(metadata) for key, read in _FROM_METADATA.items()}
    values["exif_dataeier"] = options.data_eier or None
    values["exif_imagetype"] = options.image_type
    values["exif_fylke"] = _county(metadata, options)
    values["exif_filnavn_preview"] = preview_name
    values["bildeid"] = _image_id(metadata, options)
    values["versjon"] = version
    values["mappenavn"] = _folder_name(metadata, options)
    record = {key: _encodable(value) for key, value in ((key, values.get(key)) for key in KEYS)}
    if detections is not None:
        record["detekterte_objekter"] = {name: str(count) for name, count in detections.items()}
    return record


def version_text(application_version: str, config_changed: date) -> str:
    """``versjon``: the program's version and the day of the configuration file's last change."""
    return f"P{application_version}_K{config_changed:%Y%m%d}"


def configured_values(options: RecordOptions, config_changed: date) -> dict[str, tuple[str, str]]:
    """Record key → its value, and the key of the configuration that alone gives it."""
    return {
        "exif_dataeier": (options.data_eier or "", "data_eier"),
        "exif_imagetype": (options.image_type, "image_type"),
        "versjon": (version_text(options.application_version, config_changed), "application_version"),
    }


def check_not_null(record: Mapping[str, object], required_keys: Collection[str], primary_key: str | None) -> None:
    """Check that a record fills all that the database insists on.

    Args:
        record: as ``build_record`` or ``loads`` give it.
        required_keys: record keys of the NOT NULL columns.
        primary_key: record key of the primary key, or None.

    Raises:
        RecordError: values are missing; the message names their keys.
    """
    keys = [*required_keys, *([primary_key] if primary_key and primary_key not in required_keys else [])]
    missing = [key for key in keys if record.get(key) in (None, "", {})]
    if missing:
        raise RecordError(f"the database needs {', '.join(missing)}, but the image and its path do not say")


def read_sidecar(options: RecordOptions) -> PositionSidecar | None:
    """The position sidecar that the configuration names; None where it names none.

    Raises:
        UsageError: the file cannot be read.
    """
    if options.position_sidecar is None:
        return None
    return PositionSidecar.read(Path(options.position_sidecar), options.position_sidecar_clock_offset_seconds)


def _same(field: str) -> Callable[[Metadata], str | None]:
    def read(metadata: Metadata) -> str | None:
        value: str | None = getattr(metadata, field)
        return value

    return read


def _date(metadata: Metadata) -> str | None:
    return metadata.time[:10] if metadata.time else None


def _position(metadata: Metadata) -> str | None:
    if metadata.longitude is None or metadata.latitude is None:
        return None
    if metadata.altitude is None:
        return f"srid=4326;POINT( {metadata.longitude} {metadata.latitude} )"
    return f"srid=4326;POINT Z( {metadata.longitude} {metadata.latitude} {metadata.altitude} )"


def _height_above_sea(metadata: Metadata) -> str | None:
    height = metadata.alt_above_sea_m
    return None if height is None else f"{Decimal(repr(height)):f}"


def _road_type(metadata: Metadata) -> str:
    return metadata.road_type or "Ukjent"


def _reference(metadata: Metadata) -> str | None:
    if metadata.strekning is None:
        return metadata.strekning_folders
    return f"S{metadata.strekning}/D{metadata.delstrekning}"


def _road_ident(metadata: Metadata) -> str | None:
    if metadata.road_ident:
        return metadata.road_ident
    if metadata.road_category is None or metadata.meter_m is None:
        return None
    road = f"{metadata.road_category}{metadata.road_status}{metadata.road_number}"
    meter = int(metadata.meter_m)
    if metadata.strekning is not None:
        places = (("M", metadata.ankerpunkt), ("KD", metadata.kryssdel), ("AD", metadata.sideanleggsdel))
        beside = "".join(f" {code}{number}" for code, number in places if number is not None)
        return f"{road} S{metadata.strekning}D{metadata.delstrekning}{beside} m{meter}"
    if metadata.hp is not None and metadata.lane is not None:
        return f"{road} {metadata.hp} {meter} {metadata.lane}"
    return None


def _quality(metadata: Metadata) -> str:
    """``2`` everything that places the image came out of the EXIF, ``1`` not everything, ``0`` there is no EXIF."""
    if not metadata.has_exif:
        return "0"
    needed = ("time", "latitude", "county", "road_number", "meter", "lane")
    from_exif = {name for name, origin in metadata.origins.items() if origin.is_exif}
    complete = from_exif.issuperset(needed) and bool(from_exif & {"strekning", "hp"})
    return "2" if complete else "1"


_FROM_METADATA: Mapping[str, Callable[[Metadata], str | None]] = MappingProxyType(
    {
        "exif_tid": _same("time"),
        "exif_dato": _date,
        "exif_camera": _same("camera"),
        "exif_imagewidth": lambda metadata: str(metadata.source.size.width),
        "exif_imageheight": lambda metadata: str(metadata.source.size.height),
        "exif_speed_ms": _same("speed"),
        "exif_heading": _same("heading"),
        "exif_gpsposisjon": _position,
        "exif_altitude": _same("altitude"),
        "exif_moh": _height_above_sea,
        "exif_strekningsnavn": _same("section_name"),
        "exif_vegkat": _same("road_category"),
        "exif_vegstat": _same("road_status"),
        "exif_vegnr": _same("road_number"),
        "exif_roadtype": _road_type,
        "exif_hp": _same("hp"),
        "exif_strekning": _same("strekning"),
        "exif_delstrekning": _same("delstrekning"),
        "exif_ankerpunkt": _same("ankerpunkt"),
        "exif_kryssdel": _same("kryssdel"),
        "exif_sideanleggsdel": _same("sideanleggsdel"),
        "exif_meter": _same("meter"),
        "exif_feltkode": _same("lane"),
        "exif_mappenavn": _same("folder"),
        "exif_filnavn": _same("file_name"),
        "exif_strekningreferanse": _reference,
        "exif_imageproperties": _same("image_properties"),
        "exif_basislinje": _same("baseline"),
        "exif_reflinkinfo": _same("reflink_info"),
        "exif_reflinkid": _same("reflink_id"),
        "exif_reflinkposisjon": _same("reflink_position"),
        "exif_roadident": _road_ident,
        "exif_roll": _same("roll"),
        "exif_pitch": _same("pitch"),
        "exif_geoidalseparation": _same("geoidal_separation"),
        "exif_northrmserror": _same("north_rms_error"),
        "exif_eastrmserror": _same("east_rms_error"),
        "exif_downrmserror": _same("down_rms_error"),
        "exif_rollrmserror": _same("roll_rms_error"),
        "exif_pitchrmserror": _same("pitch_rms_error"),
        "exif_headingrmserror": _same("heading_rms_error"),
        "exif_xptitle": _same("title"),
        "exif_kvalitet": _quality,
    }
)
"""Record key → what the metadata alone say about it."""


def _county(metadata: Metadata, options: RecordOptions) -> str | None:
    configured = None if options.fylkesnummer is None else str(options.fylkesnummer)
    return (configured if options.force_fylke else None) or metadata.county or configured


def _image_id(metadata: Metadata, options: RecordOptions) -> str | None:
    """The image's id: from what is in the image and its name only, so that every run, machine and copy gives the same.

    A file's date changes when the file is copied: an image that says nowhere when it was taken has no id.
    """
    if metadata.time is None or metadata.origins.get("time") == FILE or metadata.file_name is None:
        return None
    # macOS hands out file names in decomposed form, other systems as they were written.
    name = unicodedata.normalize("NFC", metadata.file_name)
    stem = name.rpartition(".")[0] or name
    time = metadata.time[:19].replace(":", ".")
    return "_".join(filter(None, (time, roadname.without_lane(stem), options.image_type, metadata.lane)))


def _folder_name(metadata: Metadata, options: RecordOptions) -> str | None:
    """``mappenavn``; None where the pattern needs what is not known."""
    year, month, day = metadata.time[:10].split("-") if metadata.time else (None, None, None)
    county = _county(metadata, options)
    fields = {
        "aar": year,
        "maaned": month,
        "dag": day,
        "fylke": county.zfill(2) if county else None,
        "vegkat": metadata.road_category,
        "vegstat": metadata.road_status,
        "vegnr": metadata.road_number,
        "hp": metadata.hp,
        "meter": metadata.meter,
        "feltkode": metadata.lane,
        "strekningreferanse": _reference(metadata),
        "relative_input_dir": _relative_folder(metadata.source.folders, options.exif_top_dir),
    }
    used = [name for _, name, _, _ in Formatter().parse(options.exif_mappenavn) if name is not None]
    if any(fields[name] is None for name in used):
        return None
    parts = options.exif_mappenavn.format(**fields).rstrip("/").split("/")
    if options.remove_imagetype_filepath:
        after_year = zip(["", *parts], parts, strict=False)
        parts = [p for before, p in after_year if not (_YEAR.fullmatch(before) and p.lower() in _IMAGE_TYPE_FOLDERS)]
    return "/".join(parts)


def _relative_folder(folders: tuple[str, ...], top: str) -> str | None:
    """The folders below the outermost one of the name ``top``; None where there is none of this name."""
    names = [unicodedata.normalize("NFC", folder).casefold() for folder in folders]
    wanted = unicodedata.normalize("NFC", top).casefold()
    return "/".join(folders[names.index(wanted) + 1 :]) if wanted in names else None


def _encodable(value: str | dict[str, str] | None) -> str | dict[str, str] | None:
    """A text that can be written as UTF-8: bytes of a file name that are no text become escapes."""
    if not isinstance(value, str) or not _SURROGATE.search(value):
        return value
    return value.encode("utf-8", "backslashreplace").decode("utf-8")
