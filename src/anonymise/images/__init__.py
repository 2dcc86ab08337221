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
    encode_jpeg,
    encode_png,
    header,
    rewrite,
)

__all__ = [
    "Header",
    "ImageOptions",
    "Kind",
    "Rewritten",
    "SourceImage",
    "check_kind",
    "decode",
    "embedded",
    "encode_jpeg",
    "encode_png",
    "header",
    "rewrite",
]
