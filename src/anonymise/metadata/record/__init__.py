"""Metadata and detections ↔ the JSON record of an image; owns its key names. Knows no image files and no database.

- `build`: makes a record.
- `text`: writes and reads it, also those of earlier programs.
- `schema`: checks it against the published format, ``record.schema.json``.
"""

from anonymise.metadata.record.build import (
    RecordOptions,
    build_record,
    check_not_null,
    configured_values,
    read_sidecar,
    version_text,
)
from anonymise.metadata.record.text import KEYS, Record, dumps, flip_wkt, loads

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
