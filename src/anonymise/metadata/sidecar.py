"""Positions of images from a file next to them: a GPX track, or a CSV table by time or by file name.

A position between two track points is interpolated linearly in time, as loggers write a point every second or so. No
position is made up: there is none between points that are further apart than `MAX_GAP_SECONDS`, across the segments
of a track, or further from the track's end than `MAX_BEYOND_SECONDS`.
"""

import csv
import hashlib
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from anonymise.core.errors import UsageError
from anonymise.metadata.metadata import parse_time
from anonymise.metadata.values import number

__all__ = ["MAX_BEYOND_SECONDS", "MAX_GAP_SECONDS", "Position", "PositionSidecar", "Segment"]

MAX_GAP_SECONDS = 60.0
"""Longest time between two track points between which positions are interpolated."""

MAX_BEYOND_SECONDS = 1.0
"""Longest time before or after a track point for which it counts alone: cameras cut off fractions of a second."""

_COLUMNS: Mapping[str, str] = {
    "time": "time",
    "timestamp": "time",
    "filename": "file_name",
    "file": "file_name",
    "longitude": "longitude",
    "lon": "longitude",
    "latitude": "latitude",
    "lat": "latitude",
    "altitude": "altitude",
    "alt": "altitude",
}
"""Header in small letters, without blanks, ``_`` and ``-`` → column."""


class Position(NamedTuple):
    """A place: WGS 84, longitude and latitude in degrees, altitude in meters, or None where it is not known."""

    longitude: float
    latitude: float
    altitude: float | None = None

    def texts(self) -> tuple[str, str, str | None]:
        """Decimal numbers without exponent: degrees to 8 decimals (1 mm), meters to 3."""
        return (
            _decimal(self.longitude, 8),
            _decimal(self.latitude, 8),
            None if self.altitude is None else _decimal(self.altitude, 3),
        )


@dataclass(frozen=True, slots=True)
class Segment:
    """Part of a track without interruption.

    Attributes:
        times: seconds since 1970 (UTC), growing.
        positions: one for each time.
    """

    times: tuple[float, ...]
    positions: tuple[Position, ...]

    def at(self, time: float) -> Position | None:
        """The position at a time in seconds since 1970; None where the segment does not say."""
        after = bisect_left(self.times, time)
        if 0 < after < len(self.times):
            start, end = self.times[after - 1], self.times[after]
            if end - start <= MAX_GAP_SECONDS:
                return _between(self.positions[after - 1], self.positions[after], (time - start) / (end - start))
        near = [index for index in (after - 1, after) if 0 <= index < len(self.times)]
        nearest = min(near, key=lambda index: abs(self.times[index] - time), default=None)
        if nearest is None or abs(self.times[nearest] - time) > MAX_BEYOND_SECONDS:
            return None
        return self.positions[nearest]


@dataclass(frozen=True, slots=True)
class PositionSidecar:
    """The content of a position sidecar.

    Attributes:
        fingerprint: text that changes with the content of the file.
        segments: positions by time.
        by_name: the last folders, if the file names any, and the name of an image → its position.
        clock_offset_s: seconds that the cameras' clock is ahead of UTC, or of the zone that an image's time names.
    """

    fingerprint: str
    segments: tuple[Segment, ...] = ()
    by_name: Mapping[tuple[str, ...], Position] = field(default_factory=dict)
    clock_offset_s: float = 0.0

    @classmethod
    def read(cls, file: Path, clock_offset_s: float = 0.0) -> "PositionSidecar":
        """The positions in a GPX or CSV file. An unchanged file is read once in each process.

        Raises:
            UsageError: the file cannot be read, or says no position; names the file, the line and the reason.
        """
        try:
            if file.exists() and not file.is_file():  # a pipe would be waited for
                raise UsageError(f"position_sidecar {file} cannot be read: it is no regular file")
            stat = file.stat()
            return _read(file, clock_offset_s, stat.st_mtime_ns, stat.st_size)
        except OSError as error:
            raise UsageError(f"position_sidecar {file} cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise UsageError(f"position_sidecar {file} cannot be read: {error}") from error

    def position(self, folders: Sequence[str], name: str, taken: datetime | None) -> Position | None:
        """The position of an image: the one that its name has, else the one that its time has.

        Args:
            folders: folders above the image, outermost first.
            name: name of the image's file.
            taken: when the image was taken; a time without zone is UTC. None where nobody knows.
        """
        parts = tuple(map(_folded, (*folders, name)))
        named = (self.by_name.get(parts[start:]) for start in range(len(parts)))
        found = next(filter(None, named), None) if self.by_name else None
        if found is not None or taken is None:
            return found
        moment = _seconds(taken) - self.clock_offset_s
        return next(filter(None, (segment.at(moment) for segment in self.segments)), None)


@lru_cache(maxsize=1)
def _read(file: Path, clock_offset_s: float, _mtime_ns: int, _size: int) -> PositionSidecar:
    content = file.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 (byte {error.start})") from None
    by_name: dict[tuple[str, ...], Position] = {}
    match file.suffix.lower():
        case ".gpx":
            segments = _of_gpx(text)
        case ".csv":
            segments, by_name = _of_csv(text)
        case suffix:
            raise ValueError(f"its suffix is {suffix!r}; there are .gpx and .csv")
    if not segments and not by_name:
        raise ValueError("it holds no position with a time or a file name")
    return PositionSidecar(hashlib.sha256(content).hexdigest(), segments, by_name, clock_offset_s)


def _of_gpx(text: str) -> tuple[Segment, ...]:
    import gpxpy

    if "<!DOCTYPE" in text:
        raise ValueError("it has a document type, which is not read")
    try:
        tracks = gpxpy.parse(text).tracks
    except (gpxpy.gpx.GPXException, ValueError) as error:
        raise ValueError(f"it is no GPX: {error}") from None
    segments = []
    for segment in (segment for track in tracks for segment in track.segments):
        points = (
            (point.time, _checked(point.longitude, point.latitude, point.elevation))
            for point in segment.points
            if point.time is not None
        )
        segments.append(_segment((_seconds(time), position) for time, position in points))
    return tuple(segment for segment in segments if segment.times)


def _of_csv(text: str) -> tuple[tuple[Segment, ...], dict[tuple[str, ...], Position]]:
    header = text.partition("\n")[0]
    # A table whose numbers have decimal commas is separated by semicolons.
    delimiter = next((sign for sign in ";\t" if sign in header), ",")
    rows = csv.reader(text.splitlines(), delimiter=delimiter, strict=True)
    timed: list[tuple[float, Position]] = []
    by_name: dict[tuple[str, ...], Position] = {}
    try:
        columns = _columns(next(rows, []))
        for row in filter(any, rows):
            values = {column: row[index].strip() for column, index in columns.items() if index < len(row)}
            position = _checked(
                _number(values, "longitude"), _number(values, "latitude"), _number(values, "altitude", needed=False)
            )
            if name := values.get("file_name"):
                parts = tuple(_folded(part) for part in name.replace("\\", "/").split("/") if part not in ("", "."))
                if by_name.setdefault(parts, position) != position:
                    raise ValueError(f"{name} has two positions")
            if time := values.get("time"):
                moment = parse_time(time)
                if moment is None:
                    raise ValueError(f"{time!r} is no time such as 2021-05-04T10:11:12Z")
                timed.append((_seconds(moment), position))
            if not name and not time:
                raise ValueError("neither a time nor a file name")
    except (ValueError, csv.Error) as error:
        raise ValueError(f"line {rows.line_num}: {error}") from None
    return ((_segment(timed),) if timed else ()), by_name


def _columns(header: list[str]) -> dict[str, int]:
    """Column → where it stands."""
    columns: dict[str, int] = {}
    for index, title in enumerate(header):
        column = _COLUMNS.get("".join(title.lower().replace("_", " ").replace("-", " ").split()))
        if column is not None and columns.setdefault(column, index) != index:
            raise ValueError(f"two columns say {column}")
    if not columns.keys() >= {"longitude", "latitude"} or not columns.keys() & {"time", "file_name"}:
        raise ValueError("the header needs latitude, longitude, and time or file_name; altitude is optional")
    return columns


def _number(values: Mapping[str, str], column: str, *, needed: bool = True) -> float | None:
    text = values.get(column, "")
    if not text and not needed:
        return None
    found = number(text)
    if found is None:
        raise ValueError(f"{column} {text!r} is no number" if text else f"no {column}")
    return float(found)


def _checked(longitude: float | None, latitude: float | None, altitude: float | None) -> Position:
    """The position, if there is such a place.

    Raises:
        ValueError: there is not.
    """
    if longitude is None or latitude is None or not (abs(longitude) <= 180 and abs(latitude) <= 90):
        raise ValueError(f"longitude {longitude}, latitude {latitude} is no place on Earth")
    return Position(longitude, latitude, altitude if altitude is not None and isfinite(altitude) else None)


def _segment(points: Iterable[tuple[float, Position]]) -> Segment:
    """The points in order of time, the first of each time. 0, 0 is how loggers say that there was no fix."""
    by_time: dict[float, Position] = {}
    for time, position in points:
        if position[:2] != (0, 0):
            by_time.setdefault(time, position)
    times = tuple(sorted(by_time))
    return Segment(times, tuple(by_time[time] for time in times))


def _between(start: Position, end: Position, fraction: float) -> Position:
    east = end.longitude - start.longitude
    east -= 360 * round(east / 360)  # the short way across the 180th meridian
    longitude = start.longitude + fraction * east
    latitude = start.latitude + fraction * (end.latitude - start.latitude)
    altitude = None
    if start.altitude is not None and end.altitude is not None:
        altitude = start.altitude + fraction * (end.altitude - start.altitude)
    return Position(longitude - 360 * round(longitude / 360) if abs(longitude) > 180 else longitude, latitude, altitude)


def _seconds(time: datetime) -> float:
    """Seconds since 1970; a time without zone is UTC."""
    return (time if time.tzinfo is not None else time.replace(tzinfo=timezone.utc)).timestamp()


def _folded(name: str) -> str:
    # macOS hands out file names in decomposed form.
    return unicodedata.normalize("NFC", name)


def _decimal(value: float, digits: int) -> str:
    return f"{Decimal(repr(round(value, digits) + 0.0)):f}"
