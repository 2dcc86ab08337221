"""The registry of metadata sources: every vendor, most trusted first.

A new vendor is a module in ``metadata.sources`` and a line in `VENDORS`.
"""

from dataclasses import dataclass

from anonymise.metadata.evidence import JUNCTION, POSITION, ROAD, STREKNING, Fields, Source, Vendor
from anonymise.metadata.sources import camera, panorama, path, recorder, track

__all__ = ["FIRST_WHEN_OLDER", "SOURCES", "VENDORS", "Row"]

VENDORS: tuple[Vendor, ...] = (recorder.VENDOR, camera.VENDOR, track.VENDOR, panorama.VENDOR, path.VENDOR)
"""Whom to believe, most trusted first. The first vendor that says something usable about a field wins."""

FIRST_WHEN_OLDER = recorder.IMAGE_PROPERTIES
"""Origin that is trusted before all others where the reading for images before 2022 is forced."""

_ROWS: tuple[Fields, ...] = (
    ("time",),  # before the position, which a sidecar knows by time
    ("camera",),
    ("title",),
    ("speed",),
    ("heading",),
    POSITION,
    ("geoidal_separation",),
    ("roll",),
    ("pitch",),
    ("north_rms_error",),
    ("east_rms_error",),
    ("down_rms_error",),
    ("roll_rms_error",),
    ("pitch_rms_error",),
    ("heading_rms_error",),
    ("projection",),
    ("section_name",),
    ("county",),
    ROAD,
    ("road_type",),
    ("road_ident",),
    ("hp",),
    STREKNING,
    JUNCTION,
    ("meter",),
    ("lane",),
    ("folder",),
    ("file_name",),
    ("strekning_folders",),
    ("baseline",),
    ("reflink_id",),
    ("reflink_position",),
)
"""All fields of `Metadata` that vendors fill; those that are filled together stand together."""


@dataclass(frozen=True, slots=True)
class Row:
    """Fields that are filled together, and where from, most trusted first."""

    fields: Fields
    sources: tuple[Source, ...]


SOURCES: tuple[Row, ...] = tuple(
    Row(fields, tuple(source for vendor in VENDORS for source in vendor.sources.get(fields, ()))) for fields in _ROWS
)
"""Where each value is looked for: the vendors' tables side by side."""
