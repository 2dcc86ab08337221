"""Image files: reading any, and writing the anonymised one. Knows neither what is hidden nor where files are.

- `decoding`: what a file holds, as pixels.
- `rewriting`: the anonymised file, previews and masks.
- `container`: where the metadata stand, and the orientation.
- `jpeg`, `jpegfile`, `dct`: a JPEG whose blocks outside the masks stay bit for bit.
- `png`: its chunks.
- `sanitise`, `exifwriter`: which metadata leave the machine, by allow-list.
"""

from anonymise.images.container import embedded
from anonymise.images.decoding import Header, Kind, SourceImage, check_kind, decode, header
from anonymise.images.rewriting import ImageOptions, Rewritten, encode_jpeg, encode_png, rewrite

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
