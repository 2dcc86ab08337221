"""One image: its ground truth and what was hidden → counts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anonymise.config import EvaluationOptions
from anonymise.core.detections import Box, Mask, Size
from anonymise.core.errors import ImageError
from anonymise.evaluation.truth import Found, Truth, TruthObject

__all__ = [
    "ALL",
    "SIZE_GROUPS",
    "Count",
    "CountedObject",
    "ImageTally",
    "Miss",
    "attribute_values",
    "check_size",
    "tally",
    "worst",
]

ALL = "all"
"""The class that is all classes, and the size group that is all sizes."""

SIZE_GROUPS = ("small", "medium", "large")
"""By the share of the image that an object fills; ``evaluation_size_groups`` has the two limits."""

_CONTEXT = 0.6
"""A crop of the gallery shows so much around an object on each side, as a share of its longer side."""

_MIN_SIDE = 16
"""Objects that are smaller than so many pixels are shown with the surroundings of one of this size."""


class Count(NamedTuple):
    """So many ``hit`` out of ``total``."""

    hit: int
    total: int


@dataclass(frozen=True, slots=True)
class CountedObject:
    """One annotated object.

    Attributes:
        category: its class.
        group: its size group.
        pixels: how many of its pixels are hidden.
        attributes: what the annotation says of it.
    """

    category: str
    group: str
    pixels: Count
    attributes: Mapping[str, str]

    @property
    def share(self) -> float:
        """The share of its pixels that is hidden."""
        return self.pixels.hit / self.pixels.total


@dataclass(frozen=True, slots=True)
class Miss:
    """An object that is not covered well enough, and what is needed to show it.

    Attributes:
        name: name of the image.
        thing: the object.
        share: fraction of its pixels that is hidden.
        around: the part of the image to show.
        hidden: bool (around.height, around.width), what was hidden there.
    """

    name: str
    thing: TruthObject
    share: float
    around: Box
    hidden: Mask


@dataclass(frozen=True, slots=True)
class ImageTally:
    """Counts of one image.

    Attributes:
        name: name of the image.
        size: in pixels.
        objects: those that count as objects; crowds do not.
        n_found: number of objects found; None if only masks are known.
        regions: class, also `ALL` → hidden pixels.
        background: hidden pixels of those that belong to no class and are not void: over-blur.
        curves: class, also `ALL` → int64 (thresholds,), hidden pixels at each threshold; None without scores.
        background_curve: int64 (thresholds,), ``background`` at each threshold; None without scores.
        misses: its worst objects, the worst first.
    """

    name: str
    size: Size
    objects: tuple[CountedObject, ...]
    n_found: int | None
    regions: Mapping[str, Count]
    background: Count
    curves: Mapping[str, NDArray[np.int64]] | None
    background_curve: NDArray[np.int64] | None
    misses: tuple[Miss, ...]


def tally(truth: Truth, found: Found, options: EvaluationOptions) -> ImageTally:
    """Counts what is hidden of an image.

    Raises:
        ImageError: mask and annotation are not of one size.
    """
    size = truth.size
    check_size(truth, Size(found.hidden.shape[1], found.hidden.shape[0]))
    everything = np.zeros((size.height, size.width), np.bool_)
    for region in truth.regions.values():
        everything |= region
    background = ~everything if truth.void is None else ~(everything | truth.void)
    regions = {**truth.regions, ALL: everything}
    n_levels = len(options.evaluation_thresholds)
    objects, misses = [], []
    for thing in truth.objects:
        if thing.crowd:
            continue
        counted = _counted(thing, found.hidden, size, options)
        objects.append(counted)
        if counted.share < options.evaluation_covered_share:
            misses.append(_miss(truth, thing, counted.share, found.hidden))
    return ImageTally(
        name=truth.name,
        size=size,
        objects=tuple(objects),
        n_found=None if found.instances is None else sum(not i.continues for i in found.instances),
        regions={category: _count(region, found.hidden) for category, region in regions.items()},
        background=_count(background, found.hidden),
        curves=None
        if found.levels is None
        else {category: _curve(region, found.levels, n_levels) for category, region in regions.items()},
        background_curve=None if found.levels is None else _curve(background, found.levels, n_levels),
        misses=worst(misses, options),
    )


def check_size(truth: Truth, size: Size) -> None:
    """Makes sure that an annotation is for an image of this size.

    Raises:
        ImageError: it is not.
    """
    if truth.size != size:
        turned = truth.size == (size.height, size.width)
        raise ImageError(
            f"the annotation is for {truth.size.width}×{truth.size.height} pixels, the image or its mask has "
            f"{size.width}×{size.height}"
            + ("; annotate the pixels as they are stored, whatever the EXIF orientation says" if turned else "")
        )


def worst(misses: Sequence[Miss], options: EvaluationOptions) -> tuple[Miss, ...]:
    """The misses for the gallery: missed objects before partly covered ones, and those that show most first."""

    def rank(miss: Miss) -> tuple[bool, float, str, Box]:
        visible = (1 - miss.share) * np.count_nonzero(miss.thing.mask)
        return miss.share >= options.evaluation_missed_share, -visible, miss.name, miss.thing.box

    return tuple(sorted(misses, key=rank)[: options.evaluation_gallery])


def _count(region: Mask, hidden: Mask) -> Count:
    return Count(int(np.count_nonzero(region & hidden)), int(np.count_nonzero(region)))


def _curve(region: Mask, levels: NDArray[np.uint8], n_levels: int) -> NDArray[np.int64]:
    """How many pixels of the region are hidden at each threshold."""
    at_level = np.bincount(levels[region], minlength=n_levels + 1)
    # A pixel of level k is hidden at the k lowest thresholds.
    return np.cumsum(at_level[::-1])[::-1][1:].astype(np.int64)


def _counted(thing: TruthObject, hidden: Mask, size: Size, options: EvaluationOptions) -> CountedObject:
    pixels = _count(thing.mask, hidden[thing.box.slices])
    group = int(np.searchsorted(options.evaluation_size_groups, pixels.total / (size.width * size.height), "right"))
    return CountedObject(thing.category, SIZE_GROUPS[group], pixels, thing.attributes)


def _miss(truth: Truth, thing: TruthObject, share: float, hidden: Mask) -> Miss:
    box = thing.box
    side = min(round(max(box.width, box.height, _MIN_SIDE) * (1 + 2 * _CONTEXT)), *truth.size)
    left = min(max(0, (box.left + box.right - side) // 2), truth.size.width - side)
    top = min(max(0, (box.top + box.bottom - side) // 2), truth.size.height - side)
    # Square, but for objects that are longer than the image is high.
    around = Box(left, top, left + side, top + side).hull(box)
    return Miss(truth.name, thing, share, around, hidden[around.slices].copy())


def attribute_values(objects: Sequence[CountedObject]) -> Mapping[tuple[str, str], Counter[str]]:
    """(class, attribute) → how often each of its values occurs."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for thing in objects:
        for attribute, value in thing.attributes.items():
            counts.setdefault((thing.category, attribute), Counter())[value] += 1
    return counts
