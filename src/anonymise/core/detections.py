"""What was found in an image: boxes, and instances with their masks.

Values only: no files, no models. Arrays inside the values are read-only.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["MODEL", "Box", "Detections", "Instance", "Mask", "RgbImage", "Size", "full_mask", "united"]

RgbImage = NDArray[np.uint8]
"""Pixels of an image: uint8 (height, width, 3), in the order red, green, blue."""

Mask = NDArray[np.bool_]
"""True where something is to be hidden: bool (height, width)."""


MODEL = "model"
"""Source of the objects that a model found, or whoever writes saved instances without saying who found what."""


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """A rectangle of whole pixels in the full image, half-open: ``right`` and ``bottom`` are outside.

    Raises:
        ValueError: the rectangle is empty.
    """

    left: int
    top: int
    right: int
    bottom: int

    def __post_init__(self) -> None:
        if self.right <= self.left or self.bottom <= self.top:
            raise ValueError(f"empty box: {self}")

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.bottom - self.top

    @property
    def area(self) -> int:
        """Area in pixels."""
        return self.width * self.height

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of this box in an array (height, width, ...)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def intersection(self, other: "Box") -> "Box | None":
        """The common part of two boxes, None where they do not touch."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        right, bottom = min(self.right, other.right), min(self.bottom, other.bottom)
        return Box(left, top, right, bottom) if left < right and top < bottom else None

    def hull(self, other: "Box") -> "Box":
        """The smallest box around both."""
        return Box(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )

    def grown(self, pixels: int, size: Size) -> "Box":
        """This box with ``pixels`` more on each side, clipped to an image of ``size``."""
        return Box(
            max(0, self.left - pixels),
            max(0, self.top - pixels),
            min(size.width, self.right + pixels),
            min(size.height, self.bottom + pixels),
        )

    def moved(self, dx: int, dy: int) -> "Box":
        """This box, ``dx`` pixels to the right and ``dy`` down."""
        return Box(self.left + dx, self.top + dy, self.right + dx, self.bottom + dy)

    def within(self, outer: "Box") -> "Box":
        """This box in the coordinates of ``outer``."""
        return self.moved(-outer.left, -outer.top)


def full_mask(box: Box) -> Mask:
    """The mask of an object that fills its box; it takes one byte of memory, whatever the size."""
    return np.broadcast_to(np.True_, (box.height, box.width))


@dataclass(frozen=True, slots=True)
class Instance:
    """One object.

    Attributes:
        label: class id, as `labels.LABELS` has them (1 is person).
        score: 0 to 1.
        box: where it is in the full image.
        mask: bool (box.height, box.width), the crop inside the box; read-only.
        continues: whether it is the rest of an object that another instance begins, at the other edge of a 360° image.
        source: who says so: `MODEL`, or the kind of a correction.

    Raises:
        ValueError: the mask has another shape than the box.
    """

    label: int
    score: float
    box: Box
    mask: Mask
    continues: bool = False
    source: str = MODEL

    def __post_init__(self) -> None:
        if self.mask.shape != (self.box.height, self.box.width) or self.mask.dtype != np.bool_:
            raise ValueError(f"mask {self.mask.dtype}{self.mask.shape} does not fit {self.box}")
        if not self.fills_box and self.mask.all():
            object.__setattr__(self, "mask", full_mask(self.box))
        self.mask.setflags(write=False)

    def __reduce__(self) -> tuple[Any, ...]:
        # Masks travel to the workers as bits, those that fill their box as nothing at all.
        bits = None if self.fills_box else np.packbits(self.mask)
        return _unpacked, (self.label, self.score, self.box, bits, self.continues, self.source)

    @property
    def fills_box(self) -> bool:
        """Whether the mask is the whole box, as for models that find boxes only."""
        return self.mask.strides == (0, 0)

    def moved(self, dx: int, dy: int) -> "Instance":
        """The same object, ``dx`` pixels to the right and ``dy`` down."""
        return replace(self, box=self.box.moved(dx, dy))

    def mirrored(self, width: int) -> "Instance":
        """The same object in the mirror image of a picture of ``width`` pixels, left and right exchanged."""
        box = Box(width - self.box.right, self.box.top, width - self.box.left, self.box.bottom)
        return replace(self, box=box, mask=self.mask[:, ::-1])

    def overlap(self, other: "Instance") -> int:
        """Number of pixels that both masks cover."""
        common = self.box.intersection(other.box)
        if common is None:
            return 0
        if self.fills_box and other.fills_box:
            return common.area
        mine = self.mask[common.within(self.box).slices]
        return int(np.count_nonzero(mine & other.mask[common.within(other.box).slices]))

    def area(self) -> int:
        """Number of pixels that the mask covers."""
        return self.box.area if self.fills_box else int(np.count_nonzero(self.mask))

    def dilated(self, pixels: int, size: Size) -> "Instance":
        """The object grown by ``pixels`` in all directions, within an image of ``size``.

        The structuring element is a square, so that a box stays a box.
        """
        if pixels == 0:
            return self
        box = self.box.grown(pixels, size)
        if self.fills_box:
            return replace(self, box=box, mask=full_mask(box))
        grown = np.zeros((box.height, box.width), np.uint8)
        grown[self.box.within(box).slices] = self.mask
        kernel = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
        return replace(self, box=box, mask=cv2.dilate(grown, kernel).astype(bool))


def _unpacked(
    label: int, score: float, box: Box, bits: NDArray[np.uint8] | None, continues: bool, source: str
) -> Instance:
    if bits is None:
        return Instance(label, score, box, full_mask(box), continues, source)
    mask = np.unpackbits(bits, count=box.area).astype(bool).reshape(box.height, box.width)
    return Instance(label, score, box, mask, continues, source)


def united(parts: Sequence[tuple[Box, Mask]]) -> tuple[Box, Mask]:
    """The union of masks in crops: the box around all boxes, and the mask in it."""
    if len(parts) == 1:
        return parts[0]
    hull = reduce(Box.hull, (box for box, _ in parts))
    mask = np.zeros((hull.height, hull.width), np.bool_)
    for box, part in parts:
        mask[box.within(hull).slices] |= part
    return hull, mask


@dataclass(frozen=True, slots=True)
class Detections:
    """All objects found in one image.

    Attributes:
        size: size of the full image.
        instances: in a stable order.
        doubtful: what was found and is not hidden, for people to judge; empty unless that is wanted.
        removed: what was found and is not hidden, because somebody said that it is none.
    """

    size: Size
    instances: tuple[Instance, ...] = ()
    doubtful: tuple[Instance, ...] = ()
    removed: tuple[Instance, ...] = ()

    def dilated(self, pixels: int) -> "Detections":
        """All objects grown by ``pixels``."""
        return replace(self, instances=tuple(i.dilated(pixels, self.size) for i in self.instances))

    def union(self) -> Mask:
        """Full-frame mask of everything that was found: bool (height, width)."""
        mask = np.zeros((self.size.height, self.size.width), np.bool_)
        for instance in self.instances:
            mask[instance.box.slices] |= instance.mask
        return mask

    def counts(self) -> dict[int, int]:
        """Number of objects of each class id, ordered by class id."""
        return dict(sorted(Counter(i.label for i in self.instances if not i.continues).items()))
