"""One more look at dark images: grey, with the contrast of each part of the image raised.

At night lamps colour whole images, and the networks see no car between two tail lights. The darkest of a pixel's three
channels is the one that coloured light leaves alone.
"""

import cv2
import numpy as np

from anonymise.core.detections import RgbImage

__all__ = ["equalised", "is_dark"]

_STEP = 8
"""Every so many pixels count for the brightness."""

_CLIP_LIMIT, _TILES = 3.0, (8, 8)
"""Contrast-limited adaptive histogram equalisation (Zuiderveld 1994), as OpenCV counts."""


def is_dark(image: RgbImage, below: float) -> bool:
    """Whether the mean of each pixel's darkest channel, 0 to 255, is below a limit."""
    return bool(image[::_STEP, ::_STEP].min(axis=2).mean() < below)


def equalised(image: RgbImage) -> RgbImage:
    """The darkest channel of each pixel with its contrast raised, as a grey image of the same shape."""
    darkest = cv2.min(cv2.min(image[..., 0], image[..., 1]), image[..., 2])
    grey = cv2.createCLAHE(_CLIP_LIMIT, _TILES).apply(darkest)
    return np.repeat(grey[..., np.newaxis], 3, axis=2)
