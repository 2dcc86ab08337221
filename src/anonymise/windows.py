"""The sliding windows over an image. Whole pixels only; no images."""

import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from anonymise.detections import Box, Size

__all__ = ["Downscale", "Step", "WindowOptions", "grid", "windows"]


class Downscale(NamedTuple):
    """How many times smaller than the image a window is, in the order of the configuration."""

    height: Annotated[float, Field(ge=1)]
    width: Annotated[float, Field(ge=1)]


class Step(NamedTuple):
    """How far the window moves, in pixels, in the order of the configuration."""

    height: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1)]


class WindowOptions(BaseModel):
    """Keys of the configuration that say which windows of an image are looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    use_cutouts: bool
    cutout_dim_downscale: Downscale | Annotated[tuple[Downscale, ...], Field(min_length=1)]
    cutout_step_factor: Step
    cutout_overlap: float | None = Field(ge=0, lt=1)

    @property
    def scales(self) -> tuple[Downscale, ...]:
        """All scales; a single pair, as in the user's table, is one scale."""
        one_or_several = self.cutout_dim_downscale
        return (one_or_several,) if isinstance(one_or_several, Downscale) else one_or_several


def windows(size: Size, options: WindowOptions) -> tuple[Box, ...]:
    """All windows of an image, scale by scale, row by row; none without ``use_cutouts``.

    At each scale they cover every pixel of the image.
    """
    if not options.use_cutouts:
        return ()
    boxes: list[Box] = []
    for downscale in options.scales:
        window = Size(math.ceil(size.width / downscale.width), math.ceil(size.height / downscale.height))
        if options.cutout_overlap is None:
            step = options.cutout_step_factor
        else:
            step = Step(*(math.ceil((1 - options.cutout_overlap) * side) for side in (window.height, window.width)))
        boxes += grid(size, window, step)
    return tuple(dict.fromkeys(boxes))


def grid(size: Size, window: Size, step: Step) -> tuple[Box, ...]:
    """Windows of one size that cover every pixel of an image, row by row.

    The last window of a row or column is moved back to the edge, so that all have the same size. A step longer than
    the window would leave gaps and is shortened to the window.

    Args:
        size: of the image.
        window: of a window, at most that of the image.
        step: from one window to the next, at least one pixel.
    """
    return tuple(
        Box(left, top, left + window.width, top + window.height)
        for top in _starts(size.height, window.height, step.height)
        for left in _starts(size.width, window.width, step.width)
    )


def _starts(length: int, window: int, step: int) -> Sequence[int]:
    last = length - window
    return [*range(0, last, min(step, window)), last]
