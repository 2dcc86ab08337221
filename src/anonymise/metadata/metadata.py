"""The values that an image's metadata travels in: what is known of its file, and what it tells about the road."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from math import isfinite
from pathlib import PurePath

import shapely

from anonymise.core.detections import Size

__all__ = ["ImageSource", "Metadata", "Origin", "file_time", "iso_time", "parse_date", "parse_time"]

_DATE = r"(\d{4})[-:./] ?(\d{1,2})[-:./] ?(\d{1,2})"
_DATE_FORM = re.compile(_DATE, re.ASCII)
TIME = re.compile(
    _DATE + r"[T ] ?(\d{1,2})[:.] ?(\d{1,2})(?:[:.] ?(\d{1,2})(?:[.,](\d{1,30}))?)? ?(Z|[+-]\d{1,2}:?\d\d)?", re.ASCII
)
"""A date with time as recorders and cameras write it: year to minute, second, fraction, time zone.

Some write blanks for leading zeros, and some no seconds.
"""


_FIRST_YEAR = 1826

_MOST_SECONDS = 292 * 365 * 86400


@dataclass(frozen=True, slots=True)
class Origin:
    """Kind of place where a value was found. Each module in ``metadata.sources`` declares its own.

    Attributes:
        name: what notes call it.
        is_exif: whether it is the EXIF block, rather than the image's path, XMP or another file.
    """

    name: str
    is_exif: bool = False


@dataclass(frozen=True, slots=True)
class ImageSource:
    """What is known of an image file besides its bytes.

    Attributes:
        folders: the folders above the image as its path names them, outermost first.
        name: file name.
        size: size of the image, in pixels.
        modified: when the file was last written, or None; taken for the time where nothing better is known. An aware
            time is turned into UTC.
        older: whether the reading for images before 2022 is forced.
    """

    folders: tuple[str, ...]
    name: str
    size: Size
    modified: datetime | None = None
    older: bool = False

    @classmethod
    def of(
        cls, path: PurePath, size: tuple[int, int], *, modified: datetime | None = None, older: bool = False
    ) -> "ImageSource":
        """The source of the image at ``path``; the path is taken as given, whether or not it exists here."""
        anchor = path.anchor.replace("\\", "/").rstrip("/")
        folders = path.parts[:-1]
        if path.anchor:
            folders = (anchor, *folders[1:])
        return cls(folders, path.name, Size(*size), modified, older)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What an image tells about itself; unknown is None.

    The fields that ``SOURCES`` fills are texts as the source wrote them: decimal numbers with a point, degrees,
    meters, m/s. Names without an English counterpart are those of the Norwegian road database.

    Attributes:
        source: what was known besides the bytes.
        has_exif: whether there was an EXIF block to read.
        origins: field → where its value was found.
        problems: what could not be read, one line each; never quotes the image's texts.
        time: ``YYYY-MM-DDTHH:MM:SS``, with fraction and time zone where the source has them.
        image_properties: XML of tag 40055, redacted.
        reflink_info: XML of tag 40056, redacted.
        strekning_folders: the two folders above the lane folder.
        projection: GPano projection type, ``equirectangular`` for a full panorama.
    """

    source: ImageSource
    has_exif: bool = False
    origins: Mapping[str, Origin] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    image_properties: str | None = None
    reflink_info: str | None = None
    time: str | None = None
    camera: str | None = None
    title: str | None = None
    speed: str | None = None
    heading: str | None = None
    longitude: str | None = None
    latitude: str | None = None
    altitude: str | None = None
    geoidal_separation: str | None = None
    roll: str | None = None
    pitch: str | None = None
    north_rms_error: str | None = None
    east_rms_error: str | None = None
    down_rms_error: str | None = None
    roll_rms_error: str | None = None
    pitch_rms_error: str | None = None
    heading_rms_error: str | None = None
    projection: str | None = None
    section_name: str | None = None
    county: str | None = None
    road_category: str | None = None
    road_status: str | None = None
    road_number: str | None = None
    road_type: str | None = None
    road_ident: str | None = None
    hp: str | None = None
    strekning: str | None = None
    delstrekning: str | None = None
    ankerpunkt: str | None = None
    kryssdel: str | None = None
    sideanleggsdel: str | None = None
    meter: str | None = None
    lane: str | None = None
    folder: str | None = None
    file_name: str | None = None
    strekning_folders: str | None = None
    baseline: str | None = None
    reflink_id: str | None = None
    reflink_position: str | None = None

    @property
    def taken(self) -> datetime | None:
        """When the image was taken, to the microsecond: aware where the source names a time zone, else naive."""
        return parse_time(self.time) if self.time else None

    @property
    def lon_deg(self) -> float | None:
        """Longitude in degrees, WGS 84, east positive."""
        return _float(self.longitude)

    @property
    def lat_deg(self) -> float | None:
        """Latitude in degrees, WGS 84, north positive."""
        return _float(self.latitude)

    @property
    def alt_m(self) -> float | None:
        """Altitude in meters, as the source of the position counts it."""
        return _float(self.altitude)

    @property
    def alt_above_sea_m(self) -> float | None:
        """Altitude less the geoid's, in meters; None where one of them is unknown."""
        separation = _float(self.geoidal_separation)
        if self.alt_m is None or separation is None or not isfinite(self.alt_m - separation):
            return None
        return self.alt_m - separation

    @property
    def heading_deg(self) -> float | None:
        """Heading in degrees, clockwise from north."""
        return _float(self.heading)

    @property
    def pitch_deg(self) -> float | None:
        """Pitch in degrees."""
        return _float(self.pitch)

    @property
    def roll_deg(self) -> float | None:
        """Roll in degrees."""
        return _float(self.roll)

    @property
    def speed_m_s(self) -> float | None:
        """Speed in meters per second, to two decimals."""
        return _float(self.speed)

    @property
    def meter_m(self) -> float | None:
        """Distance along the road's section in meters."""
        return _float(self.meter)

    @property
    def point(self) -> shapely.Point | None:
        """The position, WGS 84: longitude, latitude and, where it is known, altitude."""
        if self.lon_deg is None or self.lat_deg is None:
            return None
        coordinates = (self.lon_deg, self.lat_deg) if self.alt_m is None else (self.lon_deg, self.lat_deg, self.alt_m)
        return shapely.Point(*coordinates)


def parse_time(text: str) -> datetime | None:
    """A time in one of the forms of ``TIME``, cut to the microsecond; None where there is no such time.

    24:00 is the midnight at the end of the day (ISO 8601), and a leap second the last moment before the next minute.
    """
    found = TIME.fullmatch(text)
    if not found:
        return None
    zone = None
    if found[8] == "Z":
        zone = timezone.utc
    elif found[8]:
        hours, minutes = found[8][1:-2].rstrip(":"), found[8][-2:]
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        if offset >= timedelta(days=1):
            return None
        zone = timezone(-offset if found[8][0] == "-" else offset)
    year, month, day, hour, minute, second = (int(found[group] or 0) for group in range(1, 7))
    microsecond = int((found[7] or "0")[:6].ljust(6, "0"))
    if second == 60:
        second, microsecond = 59, 999_999
    days = timedelta()
    if (hour, minute, second, microsecond) == (24, 0, 0, 0):
        hour, days = 0, timedelta(days=1)
    try:
        return datetime(year, month, day, hour, minute, second, microsecond, zone) + days
    except (ValueError, OverflowError):  # 0000:00:00, a 31st of June, the day after the last one
        return None


def iso_time(text: str) -> str | None:
    """A time in one of the forms of ``TIME`` as ``YYYY-MM-DDTHH:MM:SS`` with the fraction and the zone that it has.

    None where there is no such time, or nobody took pictures then: the year 1 is how .NET says nothing. Seconds that
    were not written are 00.
    """
    found, time = TIME.fullmatch(text), parse_time(text)
    if not found or time is None or time.year < _FIRST_YEAR:
        return None
    zone = found[8] or ""
    if zone not in ("", "Z"):
        zone = f"{zone[0]}{zone[1:-2].rstrip(':').zfill(2)}{':' if ':' in zone else ''}{zone[-2:]}"
    seconds = time.replace(tzinfo=None).isoformat(timespec="seconds")
    return f"{seconds}{'.' + found[7] if found[7] else ''}{zone}"


def parse_date(text: str) -> date | None:
    """A date as cameras write it, ``2021:05:04`` or with another sign between; None where there is no such date."""
    found = _DATE_FORM.fullmatch(text.strip())
    try:
        return date(int(found[1]), int(found[2]), int(found[3])) if found else None
    except ValueError:
        return None


def file_time(seconds: float) -> datetime | None:
    """Seconds since 1970, as file systems count them, as a time in UTC.

    None outside the years 1678 to 2261: file systems can say more, but nobody took a picture then, and the journal,
    which counts nanoseconds in 64 bits, cannot.
    """
    if abs(seconds) > _MOST_SECONDS:
        return None
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds)


def _float(text: str | None) -> float | None:
    return None if text is None else float(text)
