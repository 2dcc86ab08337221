"""Metadata blocks of an image file → Metadata: what EXIF, XMP, recorder's XML, name and path tell.

Where the blocks stand in the file is the business of ``images.container``.

- `embedded`: the blocks that were found, and the orientation that they give.
- `metadata`: the value that comes of them.
- `reader`: makes it, asking the vendors in the order of `registry`.
- `sources`: one module for each vendor; `evidence` has the parts that they are made of, `values` the conversions.
- `sidecar`: positions from a GPX track or a CSV file next to the images.
- `tags`, `gps`, `gpano`, `roadname`: readers of one standard each.
- `xmltext`, `recorderxml`: hardened reading of XML, and redaction of persons and cars in it.
- `record`: the JSON record.
"""

from anonymise.metadata.embedded import Embedded
from anonymise.metadata.metadata import ImageSource, Metadata, Origin, file_time
from anonymise.metadata.reader import read_metadata
from anonymise.metadata.recorderxml import redact_xml
from anonymise.metadata.registry import SOURCES
from anonymise.metadata.sidecar import PositionSidecar

__all__ = [
    "SOURCES",
    "Embedded",
    "ImageSource",
    "Metadata",
    "Origin",
    "PositionSidecar",
    "file_time",
    "read_metadata",
    "redact_xml",
]
