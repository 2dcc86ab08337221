"""A drawing surface in metres, for things that stand on the ground."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Canvas", "Colour", "Paint", "Point", "Sprite", "capsule", "scaled", "smooth"]

Colour: TypeAlias = tuple[float, float, float]
"""Red, green, blue: 0 to 255."""

Paint: TypeAlias = Colour | list[tuple[float, Colour]]
"""One colour, or a vertical gradient: (height in metres, colour) pairs from the ground up."""

Point: TypeAlias = tuple[float, float]
"""Metres to the right of the middle, metres above the ground."""

_SUBPIXEL_BITS = 4


@dataclass(frozen=True, slots=True)
class Sprite:
    """A drawn thing, seen from the front, in its own plane.

    Attributes:
        pixels: float32 (height, width, 4), red, green, blue 0 to 255 premultiplied by alpha 0 to 1; read-only.
        left_m: where the left edge is, in metres from the middle of the thing.
        top_m: height of the upper edge above the ground, in metres.
        scale: pixels per metre.
        extent: left, top, right, bottom of the thing without its shadow, in metres (heights count upwards).
    """

    pixels: NDArray[np.float32]
    left_m: float
    top_m: float
    scale: float
    extent: tuple[float, float, float, float]

    def mirrored(self) -> "Sprite":
        """The same thing, left and right exchanged."""
        left, top, right, bottom = self.extent
        width_m = self.pixels.shape[1] / self.scale
        return Sprite(
            self.pixels[:, ::-1], -self.left_m - width_m, self.top_m, self.scale, (-right, top, -left, bottom)
        )


def smooth(points: Sequence[Point], rounds: int = 3) -> list[Point]:
    """A closed outline with its corners cut (Chaikin 1974), which tends to a quadratic B-spline."""
    outline = np.asarray(points, float)
    for _ in range(rounds):
        following = np.roll(outline, -1, axis=0)
        outline = np.stack([0.75 * outline + 0.25 * following, 0.25 * outline + 0.75 * following], axis=1).reshape(
            -1, 2
        )
    return [(float(x), float(y)) for x, y in outline]


def capsule(start: Point, end: Point, start_width: float, end_width: float) -> list[Point]:
    """Outline of a limb: a tapered bar with round ends, widths in metres."""
    direction = np.arctan2(end[1] - start[1], end[0] - start[0])
    angles = np.linspace(np.pi / 2, 3 * np.pi / 2, 9) + direction
    first = [(start[0] + start_width / 2 * np.cos(a), start[1] + start_width / 2 * np.sin(a)) for a in angles]
    second = [(end[0] - end_width / 2 * np.cos(a), end[1] - end_width / 2 * np.sin(a)) for a in angles]
    return [(float(x), float(y)) for x, y in first + second]


def scaled(colour: Colour, factor: float) -> Colour:
    """A lighter (above 1) or darker shade; lighter shades go towards white, as highlights do."""
    if factor <= 1:
        return (colour[0] * factor, colour[1] * factor, colour[2] * factor)
    white = min(1.0, factor - 1)
    red, green, blue = (c + (255 - c) * white for c in colour)
    return (red, green, blue)


class Canvas:
    """A transparent sheet that is painted from back to front.

    Args:
        left: metres, left edge.
        right: metres, right edge.
        top: metres above the ground, upper edge.
        bottom: metres, lower edge; below 0 for shadows on the ground in front.
        scale: pixels per metre of the finished sprite.
    """

    def __init__(self, left: float, right: float, top: float, bottom: float, scale: float) -> None:
        # Small things lose their thin lines without supersampling; on large ones the line drawing's own
        # anti-aliasing is enough, and four times the pixels would only cost time.
        self._factor = 1 if scale > 95 else 2 if scale > 40 else 4
        self._left, self._top, self._scale = left, top, scale
        self._ppm = scale * self._factor
        width = int(np.ceil((right - left) * scale)) * self._factor
        height = int(np.ceil((top - bottom) * scale)) * self._factor
        # One plane per channel: numpy is several times faster on long rows than on four channels at a time.
        self._planes = np.zeros((4, height, width), np.float32)

    def fill(
        self,
        outline: Sequence[Point],
        paint: Paint,
        opacity: float = 1.0,
        *,
        blur: float = 0.0,
        within: Sequence[Point] | None = None,
    ) -> None:
        """Fill a closed outline.

        Args:
            outline: corners, at least three.
            paint: colour or vertical gradient.
            opacity: 0 to 1.
            blur: softness of the edge, in metres.
            within: another outline that clips this one.
        """
        self._blend(outline, paint, opacity, blur, within, thickness=0)

    def line(self, points: Sequence[Point], width: float, paint: Paint, opacity: float = 1.0) -> None:
        """Draw an open line, ``width`` metres wide."""
        self._blend(points, paint, opacity, 0.0, None, thickness=max(1, round(width * self._ppm)))

    def disc(
        self,
        centre: Point,
        radius: float | tuple[float, float],
        paint: Paint,
        opacity: float = 1.0,
        *,
        blur: float = 0.0,
        within: Sequence[Point] | None = None,
    ) -> None:
        """Fill a circle, or an ellipse of (horizontal, vertical) radii in metres."""
        across, up = radius if isinstance(radius, tuple) else (radius, radius)
        angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        outline = [(centre[0] + across * float(np.cos(a)), centre[1] + up * float(np.sin(a))) for a in angles]
        self.fill(outline, paint, opacity, blur=blur, within=within)

    def box(self, left: float, bottom: float, right: float, top: float, paint: Paint, opacity: float = 1.0) -> None:
        """Fill an upright rectangle."""
        self.fill([(left, bottom), (right, bottom), (right, top), (left, top)], paint, opacity)

    def erase(self, outline: Sequence[Point]) -> None:
        """Make what is inside a closed outline transparent again."""
        mask = _coverage(self._to_pixels(outline), self._planes.shape[1:], 0)
        self._planes *= 1 - mask.astype(np.float32) / 255

    def text(self, text: str, start: Point, height: float, paint: Paint) -> None:
        """Write in OpenCV's built-in font; ``start`` is the lower left corner, ``height`` that of a capital letter."""
        # The letters of this font are 21 units high at scale 1.
        size = height * self._ppm / 21
        mask = np.zeros(self._planes.shape[1:], np.uint8)
        left, baseline = self._to_pixels([start])[0]
        thickness = max(1, round(height * self._ppm / 8))
        place = (int(left), int(baseline))
        cv2.putText(mask, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, (255,), thickness, cv2.LINE_AA)
        self._paint(mask, 0, 0, paint, 1.0)

    def sprite(self, extent: tuple[float, float, float, float]) -> Sprite:
        """The finished picture; ``extent`` as in `Sprite`."""
        height, width = self._planes.shape[1:]
        size = (width // self._factor, height // self._factor)
        pixels = cv2.merge(list(self._planes))
        if self._factor > 1:
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        pixels.setflags(write=False)
        return Sprite(np.asarray(pixels, np.float32), self._left, self._top, self._scale, extent)

    def _blend(
        self,
        points: Sequence[Point],
        paint: Paint,
        opacity: float,
        blur: float,
        within: Sequence[Point] | None,
        thickness: int,
    ) -> None:
        corners = self._to_pixels(points)
        margin = int(3 * blur * self._ppm) + thickness + 2
        height, width = self._planes.shape[1:]
        left, top = np.maximum(np.floor(corners.min(axis=0)).astype(int) - margin, 0)
        right, bottom = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + margin, (width, height))
        if left >= right or top >= bottom:
            return
        shape, origin = (int(bottom - top), int(right - left)), np.array((left, top))
        mask = _coverage(corners - origin, shape, thickness)
        if blur:
            mask = cv2.GaussianBlur(mask, (0, 0), max(0.3, blur * self._ppm))
        if within is not None:
            mask = cv2.min(mask, _coverage(self._to_pixels(within) - origin, shape, 0))
        self._paint(mask, int(left), int(top), paint, opacity)

    def _paint(self, mask: NDArray[np.uint8], left: int, top: int, paint: Paint, opacity: float) -> None:
        alpha = mask.astype(np.float32) * np.float32(opacity / 255)
        keep = 1 - alpha
        rows, columns = slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1])
        colours = _row_colours(paint, self._top - (np.arange(rows.start, rows.stop) + 0.5) / self._ppm)
        for plane, colour in zip(self._planes[:, rows, columns], colours, strict=True):
            plane *= keep
            plane += alpha * colour[:, None]

    def _to_pixels(self, points: Sequence[Point]) -> NDArray[np.float64]:
        metres = np.asarray(points, float)
        return np.stack([metres[:, 0] - self._left, self._top - metres[:, 1]], axis=1) * self._ppm


def _coverage(corners: NDArray[np.float64], shape: tuple[int, int], thickness: int) -> NDArray[np.uint8]:
    mask = np.zeros(shape, np.uint8)
    # OpenCV counts from the middle of a pixel, the canvas from its corner.
    fixed = np.round((corners - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    if thickness:
        cv2.polylines(mask, [fixed], False, 255, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
    else:
        cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
    return mask


def _row_colours(paint: Paint, heights: NDArray[np.float64]) -> NDArray[np.float32]:
    """(4, rows): red, green, blue and alpha 1 of each row."""
    stops = paint if isinstance(paint, list) else [(0.0, paint)]
    places = [place for place, _ in stops]
    channels = [np.interp(heights, places, [colour[i] for _, colour in stops]) for i in range(3)]
    return np.stack([*channels, np.ones_like(heights)]).astype(np.float32)
