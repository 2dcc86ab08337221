"""Crops of the images around the worst misses, with what should have been hidden and what was."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from anonymise import images
from anonymise.core.detections import RgbImage
from anonymise.core.errors import ImageError
from anonymise.evaluation.tally import Miss
from anonymise.evaluation.truth import FileIndex

__all__ = ["Crop", "gallery"]

_SIDE = 360
"""Longer side of a crop in pixels."""

_TRUTH = (255, 170, 0)
_HIDDEN = (0, 114, 178)
_HIDDEN_SHARE = 0.45
_QUALITY = 82
_BRIGHT = 200
_MAX_GAIN = 3.0


@dataclass(frozen=True, slots=True)
class Crop:
    """A picture for the page.

    Attributes:
        miss: what it shows.
        picture: JPEG as a data URI.
    """

    miss: Miss
    picture: str


def gallery(misses: Sequence[Miss], files: FileIndex[Path], max_pixels: int) -> tuple[Crop, ...]:
    """The crops of the misses whose image is there and can be read.

    Args:
        misses: the worst first.
        files: the images.
        max_pixels: larger images are left out.
    """
    pictures = {name: _read(files.find(name), max_pixels) for name in {miss.name for miss in misses}}
    return tuple(
        Crop(miss, _data_uri(picture[miss.around.slices], miss))
        for miss in misses
        if (picture := pictures[miss.name]) is not None
    )


def _read(file: Path | None, max_pixels: int) -> RgbImage | None:
    if file is None:
        return None
    try:
        return images.decode(file.read_bytes(), max_pixels=max_pixels).pixels
    except (OSError, ImageError):
        return None  # the images of a finished run may be gone; its masks are all that the numbers need


def _data_uri(crop: RgbImage, miss: Miss) -> str:
    scale = _SIDE / max(crop.shape[:2])
    size = max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale))
    shown = cv2.resize(crop, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    # In the dark, where most misses are, one would not see what was missed.
    gain = np.clip(_BRIGHT / max(1.0, float(np.percentile(shown, 99))), 1, _MAX_GAIN)
    shown = np.clip(shown * gain, 0, 255).astype(np.uint8)
    thing = np.zeros(crop.shape[:2], np.uint8)
    thing[miss.thing.box.within(miss.around).slices] = miss.thing.mask
    hidden = cv2.resize(miss.hidden.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    blended = shown * (1 - _HIDDEN_SHARE) + np.array(_HIDDEN) * _HIDDEN_SHARE
    shown = np.where(hidden[..., np.newaxis] > 0, blended, shown).astype(np.uint8)
    for mask, colour, width in (
        (hidden, _HIDDEN, 1),
        (cv2.resize(thing, size, interpolation=cv2.INTER_NEAREST), _TRUTH, 2),
    ):
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(shown, outlines, -1, colour, width, cv2.LINE_AA)
    return "data:image/jpeg;base64," + base64.b64encode(images.encode_jpeg(shown, _QUALITY)).decode("ascii")
