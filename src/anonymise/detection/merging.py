"""How the detections of several passes over one image become its objects.

A pass is what one model found in one picture: the full image, a window, a mirrored picture.
``docs/accuracy.md`` compares the methods.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from anonymise.core.detections import Box, Instance, full_mask, united
from anonymise.core.section import Section
from anonymise.core.wraparound import placed

__all__ = ["AreaMethod", "MergeOptions", "MergingMethod", "corners", "ious", "may_join", "merge"]

MergingMethod = Literal["union", "nms", "nmm", "wbf"]
AreaMethod = Literal["int", "float"]

_Corners = NDArray[np.float64]
"""Boxes as (n, 4): left, top, right, bottom, the latter two half-open as in `Box`."""

_ROUNDING = 1e-6
"""Of averages of whole pixels: what is closer to one than this is that pixel."""


class MergeOptions(Section):
    """Keys of the configuration that say which detections are one object, and what becomes of them."""

    merging_method: MergingMethod
    """What becomes of overlapping detections: `union` hides all that any of them covers, across classes. Of one class,
    `nms` keeps the best, `nmm` hides the envelope, `wbf` hides the average box.
    """

    merge_min_overlap: float = Field(ge=0, le=1)
    """`union`: fraction of the smaller mask above which two detections are one object; 0 is any pixel."""

    merge_iou_threshold: float = Field(ge=0, le=1)
    """`nms`, `nmm`, `wbf`: intersection over union of the boxes above which two detections are one object."""

    area_method: AreaMethod
    """`nms`, `nmm`, `wbf`: area of a box; `float` is (x1 - x0) * (y1 - y0), `int` is (x1 - x0 + 1) * (y1 - y0 + 1)."""

    pre_merge_score_threshold: float | None = Field(ge=0, lt=1)
    """Score below which detections are dropped before merging; null drops none."""

    post_merge_score_threshold: float | None = Field(ge=0, lt=1)
    """Score below which objects are dropped after merging; null drops none. The score of an object is the best of its
    detections.
    """


def merge(passes: Sequence[Sequence[Instance]], options: MergeOptions) -> tuple[Instance, ...]:
    """The objects in an image, from what several passes found.

    Detections that overlap with no other stay as they are, whatever the method. The result does not depend on the order
    of the detections within the passes, nor on that of the passes after the first.

    ``union`` joins detections of any class whose masks share more than ``merge_min_overlap`` of the smaller one (0: any
    pixel). A joined object has the union of the masks, the outermost box, the mean score and the majority class: each
    member votes with the pixels of its mask, so that several small finds cannot rename a large object (ties: the higher
    sum of scores, then the lower class id). The first pass's detections are never joined with each other,
    not even through another pass's detection that touches both: the joins are made strongest first, and one that would
    bring two of them together is left out. It is a maximum spanning forest grown from the first pass's detections.

    The others know no first pass, and join detections of one class only: a rider must not take the place of the
    bicycle. They take the detections by falling score, and compare boxes by intersection over union:

    - ``nms``: non-maximum suppression. Each detection drops those after it that overlap it more than
      ``merge_iou_threshold``.
    - ``nmm``: greedy non-maximum merging, as SAHI's GREEDYNMM (Akyon et al. 2022, Slicing Aided Hyper Inference): it
      takes them in instead. The result has the envelope, and the highest score.
    - ``wbf``: weighted box fusion (Solovyev et al. 2021, Weighted boxes fusion, section 3). Each detection joins the
      fused box that it overlaps most, if by more than ``merge_iou_threshold``, or begins another. The fused box is the
      average of its members' weighted by their scores, in whole pixels outwards; its score is their mean. The paper
      then lowers the score of what few models found; here it stays, as most windows cannot see the object at all.

    With ``nmm`` and ``wbf`` the whole envelope or fused box of detections without masks of their own is hidden, and
    every pixel of those that have one: a pixel of a mask is evidence, a corner of a box is not.

    ``post_merge_score_threshold`` drops an object whose best member has a lower score, whatever score the object gets:
    a certain find is not dropped because an uncertain one lies on it.

    Args:
        passes: detections in coordinates of the full image; ``passes[0]`` is the pass over the full image.
        options: the keys of the configuration.
    """
    lowest = options.pre_merge_score_threshold or 0.0
    considered = [[instance for instance in one if instance.score >= lowest] for one in passes]
    if options.merging_method == "union":
        groups = _overlapping_groups(considered, options.merge_min_overlap)
    else:
        instances = sorted((i for one in considered for i in one), key=lambda i: (i.label, -i.score, *_canonical(i)))
        groups = _groups(instances, options)
    lowest = options.post_merge_score_threshold or 0.0
    join = _JOINS[options.merging_method]
    merged = (join(group) for group in groups if max(i.score for i in group) >= lowest)
    return tuple(sorted(merged, key=_canonical))


def may_join(first: Instance, second: Instance, options: MergeOptions) -> bool:
    """Whether `merge` could make one object of two detections, if no others were there.

    With ``wbf`` also whether it could with others' help.
    """
    if options.merging_method == "union":
        return first.overlap(second) > options.merge_min_overlap * min(first.area(), second.area())
    # A fused box lies between its members, and may overlap what none of them overlaps enough.
    threshold = 0.0 if options.merging_method == "wbf" else options.merge_iou_threshold
    overlaps = ious(corners([first])[0], corners([second]), options.area_method)
    return first.label == second.label and bool(overlaps[0] > threshold)


def corners(instances: Sequence[Instance]) -> _Corners:
    """The boxes of instances, float (n, 4): left, top, right, bottom."""
    boxes = [(i.box.left, i.box.top, i.box.right, i.box.bottom) for i in instances]
    return np.array(boxes, np.float64).reshape(-1, 4)


def ious(box: NDArray[np.float64], boxes: _Corners, area_method: AreaMethod) -> NDArray[np.float64]:
    """Intersection over union of one box (4,) with each of ``boxes``: (n,).

    ``float`` takes (right - left) * (bottom - top) for an area, which is exact for half-open boxes. ``int`` adds a
    pixel to both sides, as older detectors do.
    """
    more = 1 if area_method == "int" else 0
    common = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]) + more
    shared = common.clip(0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2] + more).prod(axis=1)
    overlaps: NDArray[np.float64] = shared / ((box[2:] - box[:2] + more).prod() + areas - shared)
    return overlaps


def _groups(instances: Sequence[Instance], options: MergeOptions) -> Iterator[list[Instance]]:
    """What becomes one object each, best score first, from instances ordered by class and falling score."""
    boxes = corners(instances)
    labels = np.array([i.label for i in instances])
    for label in np.unique(labels).tolist():
        own = np.flatnonzero(labels == label).tolist()
        if options.merging_method == "wbf":
            groups = _around_averages(boxes[own], np.array([instances[index].score for index in own]), options)
        else:
            groups = _around_best(boxes[own], options)
        for members in groups:
            yield [instances[own[member]] for member in members]


def _around_best(boxes: _Corners, options: MergeOptions) -> Iterator[list[int]]:
    """Groups of those that overlap the best one that is left."""
    left = np.arange(len(boxes))
    while len(left):
        best, rest = left[0], left[1:]
        matching = ious(boxes[best], boxes[rest], options.area_method) > options.merge_iou_threshold
        yield [int(best), *rest[matching].tolist()]
        left = rest[~matching]


def _around_averages(boxes: _Corners, scores: NDArray[np.float64], options: MergeOptions) -> Iterator[list[int]]:
    """Groups of those that overlap the average of the group."""
    groups: list[list[int]] = []
    fused = np.empty_like(boxes)
    for index, box in enumerate(boxes):
        # Rounded, so that the rounding of averages decides no tie; ties go to the group with the better first member.
        overlaps = np.round(ious(box, fused[: len(groups)], options.area_method), 9)
        nearest = int(overlaps.argmax()) if groups else 0
        if groups and overlaps[nearest] > options.merge_iou_threshold:
            groups[nearest].append(index)
        else:
            nearest = len(groups)
            groups.append([index])
        fused[nearest] = np.average(boxes[groups[nearest]], axis=0, weights=scores[groups[nearest]])
    yield from groups


def _best(group: Sequence[Instance]) -> Instance:
    return group[0]


def _enveloping(group: Sequence[Instance]) -> Instance:
    return _combined(group, group[0].score, lambda plain: reduce(Box.hull, (i.box for i in plain)))


def _averaged(group: Sequence[Instance]) -> Instance:
    return _combined(group, _mean_score(group), _average_box)


def _united(group: Sequence[Instance]) -> Instance:
    if len(group) == 1:
        return group[0]
    pixels: Counter[int] = Counter()
    for instance in group:
        pixels[instance.label] += instance.area()
    score_sums = {label: math.fsum(i.score for i in group if i.label == label) for label in pixels}
    label = min(pixels, key=lambda candidate: (-pixels[candidate], -score_sums[candidate], candidate))
    return Instance(label, _mean_score(group), *united([(i.box, i.mask) for i in group]))


_JOINS: dict[MergingMethod, Callable[[Sequence[Instance]], Instance]] = {
    "union": _united,
    "nms": _best,
    "nmm": _enveloping,
    "wbf": _averaged,
}


def _combined(group: Sequence[Instance], score: float, box_of: Callable[[Sequence[Instance]], Box]) -> Instance:
    """One object of a class: the masks of its members, and one box for all those that have no masks of their own."""
    if len(group) == 1:
        return group[0]
    parts = [(i.box, i.mask) for i in group if not i.fills_box]
    if plain := [i for i in group if i.fills_box]:
        box = box_of(plain)
        parts.append((box, full_mask(box)))
    return Instance(group[0].label, score, *united(parts))


def _average_box(group: Sequence[Instance]) -> Box:
    """The average weighted by scores, outwards to whole pixels."""
    left, top, right, bottom = np.average(corners(group), axis=0, weights=[i.score for i in group]).tolist()
    return Box(
        math.floor(left + _ROUNDING),
        math.floor(top + _ROUNDING),
        math.ceil(right - _ROUNDING),
        math.ceil(bottom - _ROUNDING),
    )


def _mean_score(group: Sequence[Instance]) -> float:
    return math.fsum(i.score for i in group) / len(group)


def _overlapping_groups(passes: Sequence[Sequence[Instance]], min_overlap: float) -> Iterator[list[Instance]]:
    """What becomes one object each with ``union``."""
    found = sorted(
        ((instance, number == 0) for number, instances in enumerate(passes) for instance in instances),
        key=lambda item: (not item[1], *_canonical(item[0])),
    )
    instances = [instance for instance, _ in found]
    n_full = sum(is_full for _, is_full in found)
    parent = list(range(len(instances)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for _, first, second in sorted(_overlapping_pairs(instances, n_full, min_overlap)):
        # The full image's detections come first, so a group that has one has it as its root.
        low, high = sorted((root(first), root(second)))
        if high >= n_full:
            parent[high] = low
    groups: dict[int, list[Instance]] = {}
    for index, instance in enumerate(instances):
        groups.setdefault(root(index), []).append(instance)
    return iter(groups.values())


def _overlapping_pairs(
    instances: Sequence[Instance], n_full: int, min_overlap: float
) -> Iterator[tuple[float, int, int]]:
    """(-overlap in pixels, first index, second index) of the pairs that may be joined."""
    boxes = corners(instances)
    areas = np.array([i.area() for i in instances])
    is_plain = np.array([i.fills_box for i in instances])
    for first, box in enumerate(boxes):
        rest = max(first + 1, n_full)
        common = np.minimum(box[2:], boxes[rest:, 2:]) - np.maximum(box[:2], boxes[rest:, :2])
        shared = common.clip(0).prod(axis=1)
        needed = min_overlap * np.minimum(areas[first], areas[rest:])
        # Masks share no more pixels than their boxes do.
        for offset in np.flatnonzero(shared > needed).tolist():
            second = rest + offset
            both_plain = is_plain[first] and is_plain[second]
            overlap = int(shared[offset]) if both_plain else instances[first].overlap(instances[second])
            if overlap > needed[offset]:
                yield -overlap, first, second


def _canonical(instance: Instance) -> tuple[int, int, int, int, int, float, bytes]:
    """Sort key that depends on nothing but the instance."""
    box = instance.box
    mask = b"" if instance.fills_box else instance.mask.tobytes()
    return box.left, box.top, box.right, box.bottom, instance.label, -instance.score, mask


def merge_around(passes: Sequence[Sequence[Instance]], options: MergeOptions, width: int) -> tuple[Instance, ...]:
    """As `merge`, for an image whose left and right edges meet.

    Objects that reach the seam are laid out next to each other on both sides of it, with all that they could be joined
    with, and merged there; the others stay as they are. A row of objects that overlap all the way around the image is
    cut somewhere.

    Args:
        passes: detections with boxes as this module has them; the first is the pass over the full image.
        options: as in `merge`.
        width: width of the image.
    """
    found = [(number, instance) for number, instances in enumerate(passes) for instance in instances]
    group_of: dict[int, int] = {}
    turns = [0] * len(found)
    boxes = np.array([(i.box.left, i.box.top, i.box.right, i.box.bottom) for _, i in found]).reshape(-1, 4)
    for start in np.flatnonzero(boxes[:, 2] >= width).tolist():
        if start in group_of:
            continue
        group_of[start] = start
        waiting = [start]
        while waiting:
            index = waiting.pop()
            laid_out = found[index][1].moved(turns[index] * width, 0)
            for other, turn in _touching(laid_out, boxes, width):
                if other not in group_of and may_join(laid_out, found[other][1].moved(turn * width, 0), options):
                    group_of[other], turns[other] = start, turn
                    waiting.append(other)
    merged: list[Instance] = []
    for group in (None, *sorted(set(group_of.values()))):
        laid_out_passes: list[list[Instance]] = [[] for _ in passes]
        for index, (number, instance) in enumerate(found):
            if group_of.get(index) == group:
                laid_out_passes[number].append(instance.moved(turns[index] * width, 0))
        merged += (placed(instance, width) for instance in merge(laid_out_passes, options))
    return tuple(sorted(merged, key=lambda i: (i.box, i.label, -i.score)))


def _touching(instance: Instance, boxes: NDArray[np.int64], width: int) -> Iterator[tuple[int, int]]:
    """(index, turns around the image) of all boxes that have a pixel or an edge in common with an instance's box."""
    box = instance.box
    in_rows = (boxes[:, 1] <= box.bottom) & (boxes[:, 3] >= box.top)
    home = box.left // width
    for turn in (home - 1, home, home + 1):
        in_columns = (boxes[:, 0] + turn * width <= box.right) & (boxes[:, 2] + turn * width >= box.left)
        for index in np.flatnonzero(in_rows & in_columns).tolist():
            yield index, turn
