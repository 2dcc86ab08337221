"""Image files: what is in one, and the anonymised one that takes its place.

Pixels are in the orientation in which the file stores them; `core.orientation` turns them. One module of some length,
as decoding and rewriting share what they know of both formats.
"""

import io
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin
from pydantic import BaseModel, ConfigDict, Field

from anonymise.core.detections import Mask, RgbImage
from anonymise.core.errors import UnreadableImage
from anonymise.core.projection import ProjectionKind
from anonymise.images import container, dct, jpeg, jpegfile, jpegsegments, png
from anonymise.images.exifwriter import OutputMetadata
from anonymise.images.sanitise import clean_chunks, clean_segments

__all__ = [
    "Header",
    "ImageOptions",
    "Kind",
    "Rewritten",
    "SourceImage",
    "decode",
    "encode_jpeg",
    "encode_png",
    "header",
    "rewrite",
]

Kind = Literal["jpeg", "png"]
_Scalar = TypeVar("_Scalar", bound=np.generic)

_FALLBACK_QUALITY = 95  # at 4:4:4 or the original's sampling; no difference can be seen
_PNG_LEVEL = 6  # zlib's own default
_THUMBNAIL_PIXELS = 160  # longest side, as DCF has it
_GREY_TOLERANCE = 1
_PIXELS_AT_ONCE = 1 << 20
_TO_RGB = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
# Data that no picture ends with: ones (FF 00 is one byte FF in a scan), and bytes of all kinds without FF.
_FILLERS = (b"\xff\x00" * 256, bytes(np.random.default_rng(0).integers(0, 255, 512, np.uint8)))
_SAMPLINGS = frozenset({(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)})  # those that OpenCV can write


class ImageOptions(BaseModel):
    """Keys of the configuration about image files: how they are read, and how anonymised ones are written."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    jpeg_quality: Literal["lossless"] | Annotated[int, Field(strict=True, ge=1, le=100)]
    """`lossless` keeps everything outside the masks bit for bit; 1 to 100 encodes the whole JPEG again with that
    quality.
    """

    output_metadata: OutputMetadata
    """Metadata in the anonymised image: `redacted` keeps place, time and camera but nothing about persons, `none`
    keeps nothing, `all` keeps all text. Embedded pictures never stay.
    """

    max_decoded_pixels: Annotated[int, Field(strict=True, ge=1)]
    """Number of pixels above which an image is refused before it is decoded."""

    projection: ProjectionKind
    """How the pixels lie around the camera. `planar`: a flat picture. `equirectangular`: a 360° panorama, or the part
    of one that GPano describes; its left and right edges meet, and perspective views look at it. `auto`:
    equirectangular where `image_type` is "360" or the image's GPano says so and fits its shape, else planar.
    """

    thumbnail: bool
    """Write a thumbnail of the anonymised picture into JPEGs."""


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
        kind: of the file.
    """

    pixels: RgbImage
    orientation: int
    kind: Kind

    def __post_init__(self) -> None:
        self.pixels.setflags(write=False)


class Rewritten(NamedTuple):
    """An anonymised file: its bytes, and what the log should say about it, one line each."""

    data: bytes
    notes: tuple[str, ...]


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
    return SourceImage(_rgb(_decode_png(chunks)), container.of_chunks(chunks).orientation, "png")


def rewrite(source: bytes, image: RgbImage, changed: Mask, options: ImageOptions) -> Rewritten:
    """The anonymised file.

    A JPEG keeps every DCT block that no changed pixel touches (``jpeg.replace_regions``), unless a quality is asked
    for or its coding does not allow it; then it is encoded anew. A PNG keeps every pixel that is not changed, with its
    depth and alpha. Metadata go out as ``sanitise`` allows.

    Args:
        source: the original file; ``decode`` has accepted it.
        image: its picture with the changed pixels, in stored orientation.
        changed: bool (height, width), the pixels of ``image`` that were changed; no other pixel is taken from it,
            unless the picture is encoded anew.
        options: how to write.

    Raises:
        UnreadableImage: the original is damaged.
        StorageError: there is no room for what the JPEG codec needs.
        ValueError: picture, mask and file are not of one size.
    """
    width, height, kind, _ = header(source)
    if image.shape != (height, width, 3) or changed.shape != (height, width):
        raise ValueError(f"a picture {image.shape} and a mask {changed.shape} for a file of {width}×{height} pixels")
    thumbnail = _thumbnail(image) if options.thumbnail else None
    write = _rewrite_jpeg if kind == "jpeg" else _rewrite_png
    return write(source, image, changed, options, thumbnail)


def encode_jpeg(image: RgbImage, quality: int = 90) -> bytes:
    """A JPEG file of a picture of our own making, such as a preview."""
    return _encoded(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(samples: NDArray[np.uint8]) -> bytes:
    """A PNG file of a single-channel picture, such as a mask: uint8 (height, width)."""
    return _encoded(".png", samples, [cv2.IMWRITE_PNG_COMPRESSION, 1])


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


def _decode_png(chunks: tuple[png.Chunk, ...]) -> NDArray[np.uint8 | np.uint16]:
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
    """8-bit RGB of samples as ``_decode_png`` gives them."""
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


def _rewrite_jpeg(
    source: bytes, image: RgbImage, changed: Mask, options: ImageOptions, thumbnail: bytes | None
) -> Rewritten:
    file = jpegfile.parse(source)
    picture = None
    notes = [] if file.has_end else ["the file has no end marker; its picture is whole"]
    if options.jpeg_quality == "lossless":
        reason = file.why_not_lossless()
        if reason is None:
            try:
                picture = jpeg.replace_regions(file, image, changed)
            except dct.CodecError as error:
                reason = str(error)
        if picture is None:
            notes.append(f"encoded anew at quality {_FALLBACK_QUALITY} instead of without loss: {reason}")
    samples_kept = picture is not None
    if picture is None:
        quality = _FALLBACK_QUALITY if options.jpeg_quality == "lossless" else options.jpeg_quality
        picture = jpegfile.parse(_encoded_jpeg(image, file.frame, quality)).picture
    components = len(file.frame.components) if samples_kept else min(3, len(file.frame.components))
    space = {1: b"GRAY", 3: b"RGB ", 4: b"CMYK"}[components]
    segments, more = clean_segments(file.segments, options.output_metadata, thumbnail, space, samples_kept)
    return Rewritten(jpegsegments.assemble(picture, segments), (*notes, *more))


def _encoded_jpeg(image: RgbImage, frame: jpegfile.Frame, quality: int) -> bytes:
    """A JPEG of the picture, grey or colour, progressive or not, subsampled as the original."""
    first = (frame.max_h, frame.max_v)
    h, v = first if first in _SAMPLINGS and len(frame.components) == 3 else (1, 1)
    parameters = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_PROGRESSIVE, int(frame.progressive)]
    if len(frame.components) == 1:
        picture = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    else:
        picture = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        parameters += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, h << 20 | v << 16 | 0x1111]
    return _encoded(".jpg", picture, parameters)


def _rewrite_png(
    source: bytes, image: RgbImage, changed: Mask, options: ImageOptions, thumbnail: bytes | None
) -> Rewritten:
    chunks = png.parse(source)
    samples = _decode_png(chunks)
    if changed.any():
        samples = _with_changes(samples, image, changed)
    encoded = png.parse(_encoded(".png", samples, [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL]))
    space = b"GRAY" if samples.ndim == 2 else b"RGB "
    kept, notes = clean_chunks(chunks, options.output_metadata, thumbnail, space)
    if chunks[-1].kind != b"IEND":
        notes.append("the file has no end; its picture is whole")
    if any(c.kind == b"acTL" for c in chunks):
        notes.append("an animation, of which one picture is kept")
    head = [c for c in encoded if c.kind == b"IHDR"]
    body = [c for c in encoded if c.kind in (b"IDAT", b"IEND")]
    return Rewritten(png.assemble([*head, *kept, *body]), tuple(notes))


def _with_changes(
    samples: NDArray[np.uint8 | np.uint16], image: RgbImage, changed: Mask
) -> NDArray[np.uint8 | np.uint16]:
    """The samples with the changed pixels of the 8-bit picture; a grey picture becomes RGB where they have a colour.

    Large pictures are drawn on where they are: the samples that are given are used up.
    """
    colours = image[changed]
    grey = bool((colours == colours[:, :1]).all())
    out = samples
    if out.ndim == 2 and not grey:
        out = np.repeat(out[..., None], 3, axis=2)
    values = colours.astype(out.dtype) * (257 if out.dtype == np.uint16 else 1)
    if out.ndim == 2:
        out[changed] = values[:, 0]
    else:
        out[..., :3][changed] = values[:, ::-1]
    return out


def _thumbnail(image: RgbImage) -> bytes:
    height, width = image.shape[:2]
    scale = min(1.0, _THUMBNAIL_PIXELS / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return encode_jpeg(small, quality=80)


def _encoded(extension: str, picture: NDArray[np.generic], parameters: list[int]) -> bytes:
    done, data = cv2.imencode(extension, picture, parameters)
    assert done  # OpenCV raises where it cannot encode
    return bytes(data.tobytes())
