"""Pictures made small for a screen, and outlines of what was found in them."""

import io
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import JpegImagePlugin

from anonymise import images
from anonymise.core.detections import Instance, Mask, RgbImage, Size
from anonymise.core.errors import UnreadableImage
from anonymise.core.orientation import to_upright

__all__ = ["GROUPS", "Ring", "decoded", "group_of", "outline_of", "reduced", "rings_of_mask", "shrunk"]

Ring = list[list[int]]
"""Corners [x, y] of a closed line, in stored pixels."""

GROUPS = ("person", "two-wheeler", "vehicle", "part", "other")
"""Groups of classes that share a colour and a line pattern, as in the page of the review."""

_GROUP_OF = {
    "person": "person",
    "bicycle": "two-wheeler",
    "motorcycle": "two-wheeler",
    "face": "part",
    "plate": "part",
    **dict.fromkeys(("car", "bus", "truck", "train", "boat", "airplane"), "vehicle"),
}


def group_of(category: str) -> str:
    """The group of a class, one of `GROUPS`."""
    return _GROUP_OF.get(category, "other")


def reduced(data: bytes, at_least: Size, max_pixels: int) -> RgbImage:
    """A picture as it is shown, made smaller; it is decoded in a smaller size, which saves time and memory.

    Args:
        data: bytes of the file.
        at_least: width and height, of the stored picture, below which the picture is not made smaller.
        max_pixels: a larger picture is refused.

    Returns:
        uint8 (height, width, 3), upright.

    Raises:
        UnreadableImage: the file is damaged, or too large.
    """
    head = images.header(data, max_pixels=max_pixels)
    if head.kind == "jpeg":
        try:
            # Not Image.open, whose own limit of size is a global and a warning; the size has been checked.
            with JpegImagePlugin.JpegImageFile(io.BytesIO(data)) as picture:
                picture.draft("RGB", (at_least.width, at_least.height))
                pixels = np.asarray(picture.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise UnreadableImage("damaged: the picture of the JPEG file cannot be decoded") from error
    else:
        # By more than 2, OpenCV would leave pixels out.
        is_half = 2 * at_least.width <= head.width and 2 * at_least.height <= head.height
        found = _png(data, cv2.IMREAD_REDUCED_COLOR_2 if is_half else cv2.IMREAD_COLOR)
        return to_upright(cv2.cvtColor(_shrunk_to(at_least, found), cv2.COLOR_BGR2RGB), head.orientation)
    return to_upright(_shrunk_to(at_least, pixels), head.orientation)


def decoded(data: bytes, max_pixels: int) -> images.SourceImage:
    """A whole picture, with fewer copies of PNG files than a run needs, which keeps their transparency.

    Args:
        data: bytes of the file.
        max_pixels: a larger picture is refused.

    Raises:
        UnreadableImage: the file is damaged, or too large.
    """
    head = images.header(data, max_pixels=max_pixels)
    if head.kind == "jpeg":
        return images.decode(data, max_pixels=max_pixels)
    return images.SourceImage(_png(data, cv2.IMREAD_COLOR_RGB), head.orientation, head.kind)


def _png(data: bytes, flag: int) -> RgbImage:
    """Of a picture that it makes smaller or changes the kind of, OpenCV keeps no second copy."""
    found: RgbImage | None = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    if found is None:
        raise UnreadableImage("damaged: the picture of the PNG file cannot be decoded")
    return found


def _shrunk_to(at_least: Size, pixels: RgbImage) -> RgbImage:
    longest = max(at_least.width / pixels.shape[1], at_least.height / pixels.shape[0]) * max(pixels.shape)
    return shrunk(pixels, round(longest))


def shrunk(pixels: RgbImage, longest: int) -> RgbImage:
    """A picture whose longer side has so many pixels at most."""
    scale = longest / max(pixels.shape)
    if scale >= 1:
        return pixels
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    smaller: RgbImage = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return smaller


def outline_of(instance: Instance, tolerance: float) -> list[Ring]:
    """The outlines of an object, to a tolerance in pixels.

    A ring that encloses a hole comes after the one around it; even-odd filling shows both.
    """
    box = instance.box
    if instance.fills_box:
        return [[[box.left, box.top], [box.right, box.top], [box.right, box.bottom], [box.left, box.bottom]]]
    return [[[x + box.left, y + box.top] for x, y in ring] for ring in rings_of_mask(instance.mask, tolerance)]


def rings_of_mask(mask: Mask, tolerance: float) -> list[Ring]:
    """The outlines of a mask, to a tolerance in pixels; specks that are smaller are left out."""
    found: Sequence[np.ndarray] = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[0]
    rings = (cv2.approxPolyDP(contour, tolerance, closed=True)[:, 0].tolist() for contour in found)
    return [ring for ring in rings if len(ring) > 2]
