"""The outlines that objects get for whose shape a model gives only a box, and the margin around them."""

from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field

from anonymise.core.detections import Box, Instance, Size
from anonymise.core.section import Section

__all__ = ["Outline", "OutlineOptions", "ellipse_around", "superellipse"]

Outline = Literal["box", "ellipse", "superellipse"]

_DEGREE = 4
"""Of the superellipse |x/a|^4 + |y/b|^4 = 1. Around a box it needs 31 % more area than the box, an ellipse 57 %."""

_AT_EDGE = 0.02
"""A box that is no farther from an edge of the image than this share of its side reaches that edge, most likely."""


class OutlineOptions(Section):
    """Keys of the configuration about the outlines of objects."""

    outline: Outline
    """Shape of the masks of models that find boxes only: `box`, `ellipse` (around the box, larger) or `superellipse`
    (inside the box, without its corners).
    """

    outline_exponent: float = Field(ge=2, le=16)
    """Exponent n of the superellipse |x/a|^n + |y/b|^n <= 1: 2 is an ellipse, higher ones come closer to the box."""

    mask_dilation_pixels: int = Field(ge=0)
    """Number of pixels by which masks are grown, so that objects are covered completely; 0 is off."""


def superellipse(instance: Instance, exponent: float, size: Size | None = None) -> Instance:
    """An object whose mask is a whole box, as the superellipse |x/a|^n + |y/b|^n <= 1 (Lamé curve) inside the box.

    Objects with masks of their own stay.

    Args:
        instance: in its picture.
        exponent: n; 2 is an ellipse.
        size: size of the picture. Corners at its edges stay, as an object may go on beyond them. None cuts all corners.
    """
    if not instance.fills_box:
        return instance
    box = instance.box
    x, y = (
        abs((np.arange(length) + 0.5) / length * 2 - 1)[:, np.newaxis] ** exponent for length in (box.width, box.height)
    )
    if size is not None:
        near_x, near_y = _AT_EDGE * box.width, _AT_EDGE * box.height
        x[: box.width // 2] *= box.left > near_x
        x[box.width // 2 :] *= size.width - box.right > near_x
        y[: box.height // 2] *= box.top > near_y
        y[box.height // 2 :] *= size.height - box.bottom > near_y
    return replace(instance, mask=y <= 1 - x.T)


def ellipse_around(instance: Instance, size: Size) -> Instance:
    """An object whose mask is a whole box, as the superellipse of degree 4 around the box, within an image of ``size``.

    It is wider than the box by 19 %, because one inside the box would uncover its corners, and what is in them. Objects
    with masks of their own stay.
    """
    if not instance.fills_box:
        return instance
    box = instance.box
    around = 2 ** (1 / _DEGREE)
    radius_x, radius_y = around * box.width / 2, around * box.height / 2
    grow_x, grow_y = int(np.ceil(radius_x - box.width / 2)), int(np.ceil(radius_y - box.height / 2))
    outer = Box(
        max(0, box.left - grow_x),
        max(0, box.top - grow_y),
        min(size.width, box.right + grow_x),
        min(size.height, box.bottom + grow_y),
    )
    x = (np.arange(outer.left, outer.right) + 0.5 - (box.left + box.right) / 2) / radius_x
    y = (np.arange(outer.top, outer.bottom) + 0.5 - (box.top + box.bottom) / 2) / radius_y
    mask = x[np.newaxis, :] ** _DEGREE + y[:, np.newaxis] ** _DEGREE <= 1
    return replace(instance, box=outer, mask=mask)
