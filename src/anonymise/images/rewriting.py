"""The anonymised file that takes the place of an image, and files of pictures of our own making.

Nothing outside of what was changed is lost, where the format allows it.
"""

from typing import Annotated, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from anonymise.core.detections import Mask, RgbImage
from anonymise.core.projection import ProjectionKind
from anonymise.core.section import Section
from anonymise.images import dct, jpeg, jpegfile, jpegsegments, png
from anonymise.images.decoding import header, png_samples
from anonymise.images.exifwriter import OutputMetadata
from anonymise.images.sanitise import clean_chunks, clean_segments

__all__ = ["ImageOptions", "Rewritten", "encode_jpeg", "encode_png", "rewrite"]

_FALLBACK_QUALITY = 95  # at 4:4:4 or the original's sampling; no difference can be seen
_PNG_LEVEL = 6  # zlib's own default
_THUMBNAIL_PIXELS = 160  # longest side, as DCF has it
_SAMPLINGS = frozenset({(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)})  # those that OpenCV can write


class ImageOptions(Section):
    """Keys of the configuration about image files: how they are read, and how anonymised ones are written."""

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


class Rewritten(NamedTuple):
    """An anonymised file: its bytes, and what the log should say about it, one line each."""

    data: bytes
    notes: tuple[str, ...]


def rewrite(source: bytes, image: RgbImage, changed: Mask, options: ImageOptions) -> Rewritten:
    """The anonymised file.

    A JPEG keeps every DCT block that no changed pixel touches (``jpeg.replace_regions``), unless a quality is asked
    for or its coding does not allow it; then it is encoded again. A PNG keeps every pixel that is not changed, with its
    depth and alpha. Metadata go out as ``sanitise`` allows.

    Args:
        source: the original file; ``decode`` has accepted it.
        image: its picture with the changed pixels, in stored orientation.
        changed: bool (height, width), the pixels of ``image`` that were changed; no other pixel is taken from it,
            unless the picture is encoded again.
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
            notes.append(f"encoded again at quality {_FALLBACK_QUALITY}, not losslessly: {reason}")
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
    samples = png_samples(chunks)
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
