"""A sheet that shows pictures before and after."""

from collections.abc import Sequence

import cv2
import numpy as np

from anonymise.core.detections import RgbImage

__all__ = ["contact_sheet"]

_PAPER = (250, 250, 248)
_INK = (52, 56, 62)


def contact_sheet(pairs: Sequence[tuple[RgbImage, RgbImage, str]], width: int) -> RgbImage:
    """Rows of before and after, each with its caption below.

    Args:
        pairs: before, after and caption; the captions are printed in ASCII, other characters as ``?``.
        width: of the sheet in pixels, at least 200.

    Returns:
        uint8 (height, ``width``, 3); the height follows from the pictures.

    Raises:
        ValueError: there is nothing to show, or the sheet is too narrow.
    """
    if not pairs:
        raise ValueError("a contact sheet needs at least one pair of pictures")
    if width < 200:
        raise ValueError(f"a contact sheet of {width} pixels is too narrow; 200 is the least")
    margin = max(6, width // 100)
    column = (width - 3 * margin) // 2
    text_height = max(7, width // 110)
    rows = [_strip(width, text_height, margin, (("Before", margin), ("After", 2 * margin + column)))]
    for before, after, caption in pairs:
        height = max(1, round(before.shape[0] * column / before.shape[1]))
        row = np.full((height, width, 3), _PAPER, np.uint8)
        for picture, left in ((before, margin), (after, 2 * margin + column)):
            row[:, left : left + column] = _resized(picture, column, height)
        rows += [row, _strip(width, text_height, margin, ((caption, margin),))]
    return np.concatenate(rows)


def _resized(picture: RgbImage, width: int, height: int) -> RgbImage:
    shrinks = width < picture.shape[1]
    resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)


def _strip(width: int, text_height: int, margin: int, texts: Sequence[tuple[str, int]]) -> RgbImage:
    """A line of text on paper; each text has its left edge."""
    strip = np.full((text_height + 2 * margin, width, 3), _PAPER, np.uint8)
    # The letters of this font are 21 units high at scale 1.
    scale, thickness = text_height / 21, max(1, text_height // 9)
    for text, left in texts:
        printable = text.encode("ascii", "replace").decode()
        place = (left, margin + text_height)
        cv2.putText(strip, printable, place, cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, thickness, cv2.LINE_AA)
    return strip
