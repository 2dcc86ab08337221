"""Image file → Metadata: what its EXIF, XMP, recorder's XML, name and path tell. Not: the record's keys, pixels.

- `reader`: the one table of sources for all vendors and eras.
- `metadata`: the value that it gives.
- `tags`, `gps`, `gpano`, `recorderxml`, `roadname`: one kind of source each.
"""

from anonymise.exif.metadata import ImageSource, Metadata, Origin
from anonymise.exif.reader import SOURCES, read_metadata
from anonymise.exif.recorderxml import redact_xml

__all__ = ["SOURCES", "ImageSource", "Metadata", "Origin", "read_metadata", "redact_xml"]
