"""What an image file holds: kind, size, orientation, and its picture as 8-bit RGB.

Pixels are in the orientation in which the file stores them; `core.orientation` turns them.
"""

import io
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from anonymise.core.detections import RgbImage
from anonymise.core.errors import UnreadableImage
from anonymise.images import container, jpegfile, jpegsegments, png

__all__ = ["Header", "Kind", "SourceImage", "check_kind", "decode", "header", "png_samples"]

Kind = Literal["jpeg", "png"]

_GREY_TOLERANCE = 1
_PIXELS_AT_ONCE = 1 << 20
_TO_RGB = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
# Data that no picture ends with: ones (FF 00 is one byte FF in a scan), and bytes of all kinds without FF.
_FILLERS = (b"\xff\x00" * 256, bytes(np.random.default_rng(0).integers(0, 255, 512, np.uint8)))


class Header(NamedTuple):
    """What a file says of its picture: stored width and height in pixels, kind, EXIF orientation (1 to 8)."""

    width: int
    height: int
    kind: Kind
    orientation: int


@dataclass(frozen=True, slots=True)
class SourceImage:
    """A decoded image file.

    Attributes:
        pixels: in stored orientation; read-only.
        orientation: EXIF orientation, 1 to 8.
        kind: kind of the file.
    """

    pixels: RgbImage
    orientation: int
    kind: Kind

    def __post_init__(self) -> None:
        self.pixels.setflags(write=False)


def check_kind(first_bytes: bytes) -> None:
    """Refuses a file by its first bytes.

    Raises:
        UnreadableImage: the file is empty, or neither JPEG nor PNG.
    """
    _kind(first_bytes)


def header(data: bytes, *, max_pixels: int | None = None) -> Header:
    """Size, kind and orientation of an image file, without decoding it.

    Args:
        data: the file.
        max_pixels: a larger picture is refused.

    Raises:
        UnreadableImage: the file is empty, truncated within its headers, too large, or neither JPEG nor PNG.
    """
    kind = _kind(data)
    size = jpegfile.read_frame(data) if kind == "jpeg" else png.read_header(data)
    if max_pixels is not None:
        _check_size(size, max_pixels)
    if kind == "png":
        png.parse(data)
    return Header(size.width, size.height, kind, container.embedded(data).orientation)


def decode(data: bytes, *, max_pixels: int) -> SourceImage:
    """The picture of an image file as 8-bit RGB.

    Grey, CMYK, palette and 16-bit pictures are converted. Transparency is ignored: what a transparent pixel hides is
    seen by the model, as it would be by anyone who looks for it.

    Args:
        data: the file.
        max_pixels: a larger picture is refused by what its header says, before any memory is taken for it.

    Raises:
        UnreadableImage: the file is empty, truncated, damaged, too large, or neither JPEG nor PNG.
    """
    if _kind(data) == "jpeg":
        _check_size(jpegfile.read_frame(data), max_pixels)
        file = jpegfile.parse(data)
        return SourceImage(_decode_jpeg(file), container.of_segments(file.segments).orientation, "jpeg")
    _check_size(png.read_header(data), max_pixels)
    chunks = png.parse(data)
    return SourceImage(_rgb(png_samples(chunks)), container.of_chunks(chunks).orientation, "png")


def _kind(data: bytes) -> Kind:
    if not data:
        raise UnreadableImage("the file is empty")
    if data.startswith(b"\xff\xd8"):
        return "jpeg"
    if data.startswith(png.SIGNATURE):
        return "png"
    raise UnreadableImage("neither a JPEG nor a PNG file, whatever its name says")


def _check_size(size: jpegfile.Frame | png.Header, max_pixels: int) -> None:
    # Samples of 16 bits take twice the memory, and are counted so.
    bytes_per_pixel = max(3, size.bytes_per_pixel) if isinstance(size, png.Header) else 3
    if size.width * size.height * bytes_per_pixel > 3 * max_pixels:
        depth = f" of {bytes_per_pixel} bytes each" if bytes_per_pixel > 3 else ""
        raise UnreadableImage(
            f"{size.width}×{size.height} pixels{depth} are more than the limit of {max_pixels} (of 3 bytes each); "
            "max_decoded_pixels raises it"
        )


def _decode_jpeg(file: jpegfile.JpegFile) -> RgbImage:
    # Only what decides about the samples reaches the decoder: it has nothing else to trip over or to warn about.
    stream = jpegsegments.assemble(file.picture, file.colour_segments())
    if not file.has_end:
        _check_complete(file, "the file ends within the picture's data")
    pixels = _opencv(stream, cv2.IMREAD_COLOR_RGB) if len(file.frame.components) < 4 else None
    if pixels is None:
        pixels = _pillow(stream)
    if pixels.shape != (file.frame.height, file.frame.width, 3):
        raise UnreadableImage("damaged: the picture has another size than its header says")
    corner = pixels[-1, -1].astype(int)
    if file.has_end and abs(corner - 128).max() <= _GREY_TOLERANCE:
        _check_complete(file, "data of the picture are missing")
    return pixels


def _check_complete(file: jpegfile.JpegFile, reason: str) -> None:
    """Refuses a picture whose data end too early, whether or not an end marker stands behind what is left.

    Where data are missing, libjpeg takes zeros for the rest of a block, fills in mid grey, and goes on. So a picture
    that has no end marker, or ends in mid grey, is decoded with other bits behind its data: they change it only if they
    were needed. Pillow, unlike OpenCV, does that without a word on the operator's screen.

    Raises:
        UnreadableImage: data are missing.
    """
    pictures = (file.picture, *(file.with_filler(filler) for filler in _FILLERS))
    first, *others = (_pillow(jpegsegments.assemble(picture, file.colour_segments())) for picture in pictures)
    if not all(np.array_equal(other, first) for other in others):
        raise UnreadableImage(f"truncated: {reason}")


def png_samples(chunks: tuple[png.Chunk, ...]) -> NDArray[np.uint8 | np.uint16]:
    """The samples as OpenCV has them: (height, width) or (height, width, 3 or 4) in the order B, G, R, A.

    Raises:
        UnreadableImage: they cannot be decoded.
    """
    needed = [c for c in chunks if c.kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT")]
    samples = _opencv(png.assemble([*needed, png.Chunk(b"IEND", b"")]), cv2.IMREAD_UNCHANGED)
    if samples is None:
        raise UnreadableImage("damaged: the picture of the PNG file cannot be decoded")
    transparent = next((c.payload for c in needed if c.kind == b"tRNS"), b"")
    return _with_alpha(samples, transparent, needed[0]) if samples.ndim == 2 and len(transparent) == 2 else samples


def _with_alpha(
    samples: NDArray[np.uint8 | np.uint16], transparent: bytes, header: png.Chunk
) -> NDArray[np.uint8 | np.uint16]:
    """Grey samples, one value of which is transparent, as B, G, R, A: OpenCV leaves the transparency out."""
    highest = np.iinfo(samples.dtype).max
    depth = header.payload[8]
    value = (int.from_bytes(transparent, "big") & ((1 << depth) - 1)) * highest // ((1 << depth) - 1)
    alpha = np.where(samples == value, 0, highest).astype(samples.dtype)
    return np.dstack((samples, samples, samples, alpha))


def _opencv(stream: bytes, flags: int) -> NDArray[np.uint8] | None:
    try:
        decoded: NDArray[np.uint8] | None = cv2.imdecode(np.frombuffer(stream, np.uint8), flags)
    except cv2.error:
        return None
    return decoded


def _pillow(stream: bytes) -> RgbImage:
    """Decodes what OpenCV cannot: CMYK, whose inversion by Adobe it knows.

    Raises:
        UnreadableImage: Pillow cannot either.
    """
    try:
        # Not Image.open, whose own limit of size is a global and a warning; the size has been checked.
        with JpegImagePlugin.JpegImageFile(io.BytesIO(stream)) as picture:
            return np.asarray(picture.convert("RGB")).copy()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableImage("damaged: the picture of the JPEG file cannot be decoded") from error


def _rgb(samples: NDArray[np.uint8 | np.uint16]) -> RgbImage:
    """8-bit RGB of samples as `png_samples` gives them."""
    height, width = samples.shape[:2]
    rgb = np.empty((height, width, 3), np.uint8)
    # Some rows at a time: numbers between 16 and 8 bits take twice the memory of a picture that is large already.
    step = max(1, _PIXELS_AT_ONCE // width)
    for top in range(0, height, step):
        rows = samples[top : top + step]
        if rows.dtype == np.uint16:
            rows = ((rows.astype(np.uint32) + 128) // 257).astype(np.uint8)
        cv2.cvtColor(rows, _TO_RGB[1 if rows.ndim == 2 else rows.shape[2]], dst=rgb[top : top + step])
    return rgb
