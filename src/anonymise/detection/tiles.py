"""The sliding windows over an image, which continue beyond the seam of a 360° image. Whole pixels only.

A box that goes on beyond the right edge of a 360° image, at its left, has ``right > width``; ``left`` is always inside.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field, field_validator

from anonymise.core.detections import Box, Instance, RgbImage, Size
from anonymise.core.section import Section

__all__ = [
    "Band",
    "CloseUp",
    "Downscale",
    "Step",
    "TakeCloseUp",
    "WindowOptions",
    "close_up",
    "grid",
    "windows",
    "wrapping_grid",
]


class Downscale(NamedTuple):
    """How many times smaller than the image a window is, in the order of the configuration."""

    height: Annotated[float, Field(ge=1)]
    width: Annotated[float, Field(ge=1)]


class Step(NamedTuple):
    """How far the window moves, in pixels, in the order of the configuration."""

    height: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1)]


class Band(NamedTuple):
    """The rows of an image that are looked at, as shares of its height from the top."""

    top: Annotated[float, Field(ge=0, le=1)]
    bottom: Annotated[float, Field(ge=0, le=1)]


_WHOLE = Band(0, 1)


class CloseUp(NamedTuple):
    """A square picture of an object in an image and of what is around it.

    Attributes:
        picture: the pixels.
        place: the box of the object in the picture.
        back: what was found in the picture → the same in the image, in no, one or several pieces.
    """

    picture: RgbImage
    place: Box
    back: Callable[[Instance], tuple[Instance, ...]]


TakeCloseUp = Callable[[Instance, float], CloseUp]
"""Takes the close-up of an object; its side is the given multiple of the object's longer side."""


class WindowOptions(Section):
    """Keys of the configuration that say which windows of an image are looked at, and how."""

    use_cutouts: bool
    """Let the model look at sliding windows of the image as well: finds more in large images, and takes longer."""

    cutout_dim_downscale: Downscale | Annotated[tuple[Downscale, ...], Field(min_length=1)]
    """Size of a window: how many times smaller than the image it is, [height, width], or a list of such pairs for
    several scales.
    """

    cutout_step_factor: Step
    """Step of the window in pixels, [height, width]. Steps longer than a window are shortened to it."""

    cutout_overlap: float | None = Field(ge=0, lt=1)
    """Overlap of neighbouring windows as a fraction of the window, used instead of `cutout_step_factor`; null uses the
    step.
    """

    cutout_band: Band | None
    """Rows that windows cover, [top, bottom], as fractions of the image's height; null covers all rows."""

    enlarged_regions_n: int = Field(ge=0)
    """Number n of the n × n equal parts of the image that the model looks at as well, each enlarged to its input; 0
    and 1 are off.
    """

    mirror_image: bool
    """Let the model look at the mirror image of everything as well, which doubles its work."""

    @field_validator("cutout_band")
    @classmethod
    def _some_rows(cls, band: Band | None) -> Band | None:
        if band is not None and band.top >= band.bottom:
            raise ValueError("the top should be less than the bottom")
        return band

    @property
    def scales(self) -> tuple[Downscale, ...]:
        """All scales; a single pair, as in the user's table, is one scale."""
        one_or_several = self.cutout_dim_downscale
        return (one_or_several,) if isinstance(one_or_several, Downscale) else one_or_several


def windows(size: Size, options: WindowOptions, *, wraps: bool = False) -> tuple[Box, ...]:
    """All windows of an image, scale by scale, row by row: those of ``use_cutouts``, then the enlarged regions.

    At each scale they cover every pixel of the image, or of its band; the regions are of the whole image.

    Args:
        size: size of the image.
        options: the keys of the configuration.
        wraps: whether the left and the right edge of the image meet; windows then continue beyond the right one.
    """
    cutouts = _cutouts(size, options, wraps=wraps) if options.use_cutouts else ()
    regions = _regions(size, options.enlarged_regions_n, wraps=wraps) if options.enlarged_regions_n > 1 else ()
    return tuple(dict.fromkeys((*cutouts, *regions)))


def _cutouts(size: Size, options: WindowOptions, *, wraps: bool) -> Iterator[Box]:
    band = options.cutout_band or _WHOLE
    top, bottom = math.floor(size.height * band.top), math.ceil(size.height * band.bottom)
    for downscale in options.scales:
        window = Size(
            math.ceil(size.width / downscale.width), min(bottom - top, math.ceil(size.height / downscale.height))
        )
        if options.cutout_overlap is None:
            step = options.cutout_step_factor
        else:
            step = Step(*(math.ceil((1 - options.cutout_overlap) * side) for side in (window.height, window.width)))
        cover = wrapping_grid if wraps else grid
        yield from (box.moved(0, top) for box in cover(Size(size.width, bottom - top), window, step))


def _regions(size: Size, n: int, *, wraps: bool) -> tuple[Box, ...]:
    """``n`` times ``n`` equal parts of an image, side by side; those of a 360° image have its seam inside of one."""
    part = Size(math.ceil(size.width / n), math.ceil(size.height / n))
    if not wraps:
        return grid(size, part, Step(part.height, part.width))
    lefts = [(2 * column + 1) * size.width // (2 * n) for column in range(n)]
    return _product(_starts(size.height, part.height, part.height), lefts, part)


def grid(size: Size, window: Size, step: Step) -> tuple[Box, ...]:
    """Windows of one size that cover every pixel of an image, row by row.

    The last window of a row or column is moved back to the edge, so that all have the same size. A step longer than
    the window would leave gaps and is shortened to the window.

    Args:
        size: size of the image.
        window: size of a window, at most that of the image.
        step: from one window to the next, at least one pixel.
    """
    return _product(
        _starts(size.height, window.height, step.height), _starts(size.width, window.width, step.width), window
    )


def wrapping_grid(size: Size, window: Size, step: Step) -> tuple[Box, ...]:
    """As `grid`, for an image whose left and right edges meet: every column is inside a window, none is at its edge.

    The windows of a row are evenly spaced, at most ``step`` apart. One that is as wide as the image needs no others.
    """
    n = 1 if window.width == size.width else math.ceil(size.width / min(step.width, window.width))
    lefts = [number * size.width // n for number in range(n)]
    return _product(_starts(size.height, window.height, step.height), lefts, window)


def close_up(image: RgbImage, box: Box, factor: float) -> CloseUp:
    """The close-up of what is in a box of a flat image, pixel by pixel.

    It is moved into the image where the image is large enough, and black beyond its edges where it is not.

    Args:
        image: all of it.
        box: in the image.
        factor: side of the close-up, as a multiple of the longer side of the box.
    """
    size = Size(image.shape[1], image.shape[0])
    side = max(_MIN_CLOSE_UP, round(factor * max(box.width, box.height)))
    left = _start(box.left + box.right, side, size.width)
    top = _start(box.top + box.bottom, side, size.height)
    frame = Box(0, 0, *size)
    visible = Box(left, top, left + side, top + side).intersection(frame)
    picture: RgbImage = np.zeros((side, side, 3), np.uint8)
    if visible is not None:
        picture[visible.moved(-left, -top).slices] = image[visible.slices]

    def back(instance: Instance) -> tuple[Instance, ...]:
        moved = instance.moved(left, top)
        inside = moved.box.intersection(frame)
        if inside is None:
            return ()
        return (replace(moved, box=inside, mask=moved.mask[inside.within(moved.box).slices]),)

    return CloseUp(picture, box.moved(-left, -top), back)


def _start(twice_the_middle: int, side: int, length: int) -> int:
    """Where a window begins that has this middle, inside the image if it fits."""
    start = (twice_the_middle - side) // 2
    return min(max(0, start), length - side) if side <= length else start


_MIN_CLOSE_UP = 16
"""Side of the smallest close-up in pixels of the image."""


def _product(tops: Sequence[int], lefts: Sequence[int], window: Size) -> tuple[Box, ...]:
    return tuple(Box(left, top, left + window.width, top + window.height) for top in tops for left in lefts)


def _starts(length: int, window: int, step: int) -> Sequence[int]:
    last = length - window
    return [*range(0, last, min(step, window)), last]
