"""Image files: reading any, and writing the anonymised one. Not: what is hidden and why, paths.

- `files`: decode and rewrite JPEG and PNG; turning.
- `container`: where the metadata stand, and the orientation.
- `jpeg`, `jpegfile`, `dct`: a JPEG whose blocks outside the masks stay bit for bit.
- `png`: its chunks.
- `sanitise`, `exifwriter`: which metadata leave the machine, by allow-list.
"""

from anonymise.images.container import embedded
from anonymise.images.files import (
    Header,
    ImageOptions,
    Kind,
    Rewritten,
    SourceImage,
    check_kind,
    decode,
    decode_into,
    detections_to_stored,
    encode_jpeg,
    encode_png,
    header,
    rewrite,
    to_stored,
    to_upright,
    upright_size,
)

__all__ = [
    "Header",
    "ImageOptions",
    "Kind",
    "Rewritten",
    "SourceImage",
    "check_kind",
    "decode",
    "decode_into",
    "detections_to_stored",
    "embedded",
    "encode_jpeg",
    "encode_png",
    "header",
    "rewrite",
    "to_stored",
    "to_upright",
    "upright_size",
]
