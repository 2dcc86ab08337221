"""Metadata blocks of an image file → Metadata: what EXIF, XMP, recorder's XML, name and path tell.

Not: where the blocks stand in the file (``images.container`` finds them), the record's keys, pixels.

- `embedded`: the blocks that were found, and the orientation that they give.
- `reader`: the one table of sources for all vendors and eras.
- `metadata`: the value that it gives.
- `tags`, `gps`, `gpano`, `recorderxml`, `roadname`: one kind of source each.
"""

from anonymise.metadata.embedded import Embedded
from anonymise.metadata.metadata import ImageSource, Metadata, Origin, file_time
from anonymise.metadata.reader import SOURCES, read_metadata
from anonymise.metadata.recorderxml import redact_xml

__all__ = ["SOURCES", "Embedded", "ImageSource", "Metadata", "Origin", "file_time", "read_metadata", "redact_xml"]
