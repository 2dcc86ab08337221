"""Panorama cameras and stitchers: GPano properties in XMP."""

from collections.abc import Callable

from anonymise.metadata.embedded import Embedded
from anonymise.metadata.evidence import Reading, Source, Vendor, found_at
from anonymise.metadata.gpano import read_gpano
from anonymise.metadata.metadata import Origin
from anonymise.metadata.tags import ExifFields
from anonymise.metadata.values import xmp_number

__all__ = ["GPANO", "VENDOR"]

GPANO = Origin("GPano")


def _read(blocks: Embedded, _: ExifFields, notes: list[str]) -> Reading:
    return Reading({GPANO: read_gpano(blocks.xmp, notes)})


def _property(name: str, convert: Callable[[str], str | None]) -> Source:
    return found_at(GPANO, name, convert, label=f"XMP: GPano {name}")


VENDOR = Vendor(
    {
        ("heading",): (_property("PoseHeadingDegrees", xmp_number),),
        ("roll",): (_property("PoseRollDegrees", xmp_number),),
        ("pitch",): (_property("PosePitchDegrees", xmp_number),),
        ("projection",): (_property("ProjectionType", lambda text: text),),
    },
    _read,
)
