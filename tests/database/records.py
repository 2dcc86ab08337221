"""Records for tests of the database."""

from functools import cache

from anonymise.core.detections import Size
from anonymise.images import embedded
from anonymise.metadata import ImageSource, read_metadata
from anonymise.metadata.record import Record, build_record
from tests.roadimages import options, road_jpeg

__all__ = ["POSITION", "road_record"]

POSITION = (6.5663939242382572, 61.214710343813685, 48.856250803013438)
"""Longitude, latitude and altitude that the road image's EXIF says."""


def road_record(**changes: str | dict[str, str] | None) -> Record:
    """The record of a drawn road image, but for ``changes``."""
    return {**_record(), **changes}


@cache
def _record() -> Record:
    source = ImageSource(("tilSladding", "2020"), "FV00013_S1D1_m00014_f1.jpg", Size(64, 48))
    return build_record(
        read_metadata(embedded(road_jpeg()), source),
        detections={"car": 2},
        preview_name=None,
        version="P0.2_K20260102",
        options=options(data_eier="Vegvesenet på Øya"),
    )
