"""Close-ups of what was found: is a doubtful find one, and where are the small parts of an object?

Large street-level services pair a detector that misses little with a verifier that throws false alarms out (Frome et
al. 2009, Large-scale privacy protection in Google Street View). Parts such as licence plates are too small to be found
in the whole picture, where road signs are taken for them.

Not here: how a close-up is taken, which depends on the image (`windows.close_up`, `sphere.close_up`).
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anonymise.core.classes import kind_of
from anonymise.core.detections import Box, Instance, RgbImage
from anonymise.detection.merging import corners, ious
from anonymise.detection.tiles import CloseUp, TakeCloseUp
from anonymise.models import CloseMasker, Masker, ModelOptions
from anonymise.models.options import of_class

__all__ = ["CloseUps"]

_SAME = 0.4
"""Intersection over union from which on two boxes of a kind are one object."""

_COVERED = 0.9
"""Fraction of a doubtful find inside a certain one of its kind from which on hiding it changes next to nothing."""


_CERTAIN_PART = 0.2
"""Score of a part from which on its object need not be hidden as a whole. Less certain ones are hidden besides."""

_MUCH_LARGER = 3
"""Times the area of a region from which on another one around it is of another object."""


@dataclass(frozen=True, slots=True)
class _Group:
    """What several passes found of one object.

    Attributes:
        best: the find with the highest score.
        members: all finds, `best` included.
    """

    best: Instance
    members: tuple[Instance, ...]


class CloseUps:
    """Looks again at what was found in an image, as the configuration says.

    Args:
        masker: the models for close-ups.
        options: what is verified, and which parts are looked for.
    """

    def __init__(self, masker: CloseMasker, options: ModelOptions) -> None:
        self._parts = masker.parts
        self._verifier = masker.verifier
        self._options = options
        self._wholes = options.wholes

    def __call__(
        self, passes: Sequence[Sequence[Instance]], take: TakeCloseUp, doubtful: list[Instance]
    ) -> list[list[Instance]]:
        """What is to be hidden, in the same passes; the parts are one pass more.

        Args:
            passes: what was found in the image.
            take: takes a close-up of an object in the image.
            doubtful: takes what the second look throws out.

        Raises:
            ModelError: a model cannot be run.
        """
        options = self._options
        groups = _grouped(instance for one in passes for instance in one)
        candidates = [group for group in groups if group.best.label in options.hidden and self._reaches(group.best)]
        kept = [*self._verified(candidates, take)]
        stays = {id(group) for group in kept}
        doubtful += (group.best for group in candidates if id(group) not in stays)
        parts: list[Instance] = []
        if self._parts is not None:
            regions = [group for group in groups if self._may_have_parts(group.best) and id(group) not in stays]
            parts = self._parts_of(self._parts, _outermost(regions)[: options.within_at_most], take)
            if options.hide_whole_without_parts:
                certain = [part for part in parts if part.score >= _CERTAIN_PART]
                bare = [group for group in _without_parts(regions, certain) if self._reaches(group.best)]
                kept += self._verified([group for group in bare if group.best.label not in options.hidden], take)
        wanted = {id(instance) for group in kept for instance in group.members if self._reaches(instance)}
        return [*([instance for instance in one if id(instance) in wanted] for one in passes), parts]

    def _reaches(self, instance: Instance) -> bool:
        return instance.score >= of_class(self._options.score_threshold, instance.label)

    def _may_have_parts(self, instance: Instance) -> bool:
        """Whether an object has parts that are looked for, and is so near that they can be seen."""
        return (
            any(instance.label in wholes for wholes in self._wholes.values())
            and instance.score >= self._options.within_score_threshold
            and max(instance.box.width, instance.box.height) >= self._options.within_from_pixels
        )

    def _verified(self, groups: Sequence[_Group], take: TakeCloseUp) -> Iterator[_Group]:
        """The groups that are certain, and those of the others that the verifier confirms."""
        if self._verifier is None:
            yield from groups
            return
        certain = [group for group in groups if self._is_certain(group.best)]
        yield from certain
        boxes = {
            kind: corners([group.best for group in certain if kind_of(group.best.label) == kind])
            for kind in {kind_of(group.best.label) for group in groups}
        }
        doubtful = []
        for group in groups:
            if self._is_certain(group.best):
                continue
            if _is_covered(group.best, boxes[kind_of(group.best.label)]):
                yield group
            else:
                doubtful.append(group)
        # In a crowd the largest are looked at: a close-up shows more of them, and they hide most for nothing. The time
        # stays the same, and nobody is left out for it.
        doubtful.sort(key=lambda group: (-group.best.box.area, group.best.score, group.best.box))
        limit = self._options.verify_at_most
        if limit is not None:
            yield from doubtful[limit:]
            doubtful = doubtful[:limit]
        close_ups = (take(group.best, self._options.verify_surroundings) for group in doubtful)
        for group, (close_up, found) in zip(doubtful, _found(self._verifier, close_ups), strict=True):
            both = group.best.score + _second_score(found, close_up.place, group.best.label)
            if both >= of_class(self._options.verify_sum, group.best.label):
                yield group

    def _is_certain(self, instance: Instance) -> bool:
        """Whether no second look could throw an object out, or none is wanted."""
        options = self._options
        return instance.score >= min(
            of_class(options.verify_below, instance.label), of_class(options.verify_sum, instance.label)
        )

    def _parts_of(self, masker: Masker, regions: Sequence[_Group], take: TakeCloseUp) -> list[Instance]:
        close_ups = (take(region.best, 1 + 2 * self._options.within_margin) for region in regions)
        return [
            placed
            for region, (close_up, found) in zip(regions, _found(masker, close_ups), strict=True)
            for part in found
            if region.best.label in self._wholes.get(part.label, ())
            for placed in close_up.back(part)
        ]


def _found(masker: Masker, close_ups: Iterable[CloseUp]) -> Iterator[tuple[CloseUp, list[Instance]]]:
    """Each close-up and what is in it, in its pixels."""
    waiting: deque[CloseUp] = deque()

    def pictures() -> Iterator[RgbImage]:
        for close_up in close_ups:
            waiting.append(close_up)
            yield close_up.picture

    for passes in masker.detect(pictures()):
        yield waiting.popleft(), [instance for one in passes for instance in one]


def _grouped(instances: Iterable[Instance]) -> list[_Group]:
    """The finds of each kind by object: around the best that is left, those that overlap it enough."""
    groups = []
    left = sorted(instances, key=lambda i: (kind_of(i.label), -i.score, i.box, i.label))
    while left:
        overlaps = ious(corners(left[:1])[0], corners(left), "float") > _SAME
        is_member = [
            n == 0 or (bool(overlaps[n]) and kind_of(i.label) == kind_of(left[0].label)) for n, i in enumerate(left)
        ]
        groups.append(_Group(left[0], tuple(i for i, member in zip(left, is_member, strict=True) if member)))
        left = [i for i, member in zip(left, is_member, strict=True) if not member]
    return groups


def _second_score(found: Sequence[Instance], place: Box, label: int) -> float:
    """The best score in a close-up of an object of the same kind in the same place; 0 where there is none."""
    same_kind = [instance for instance in found if kind_of(instance.label) == kind_of(label)]
    overlaps = ious(np.array([place.left, place.top, place.right, place.bottom]), corners(same_kind), "float")
    return max((i.score for i, overlap in zip(same_kind, overlaps, strict=True) if overlap > _SAME), default=0.0)


def _is_covered(instance: Instance, boxes: NDArray[np.float64]) -> bool:
    """Whether one of the boxes (n, 4) has nearly all of an object in it."""
    (box,) = corners([instance])
    common = (np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])).clip(0).prod(axis=1)
    return bool((common >= _COVERED * instance.box.area).any())


def _outermost(regions: Sequence[_Group]) -> list[_Group]:
    """The regions without those that lie in another one which is not much larger: other boxes of the same object.

    The largest come first.
    """
    kept: list[_Group] = []
    for region in sorted(regions, key=lambda region: (-region.best.box.area, region.best.box)):
        near = [by.best for by in kept if by.best.box.area <= _MUCH_LARGER * region.best.box.area]
        if not _is_covered(region.best, corners(near)):
            kept.append(region)
    return kept


def _without_parts(regions: Sequence[_Group], parts: Iterable[Instance]) -> list[_Group]:
    """The regions of which no part was found.

    A part belongs to the smallest region around its middle, and to those that are not much larger: other boxes of the
    same object. A truck behind a car does not have the car's plate.
    """
    bare = sorted(regions, key=lambda region: region.best.box.area)
    with_parts = set()
    for part in parts:
        x, y = (part.box.left + part.box.right) / 2, (part.box.top + part.box.bottom) / 2
        around = [
            number
            for number, region in enumerate(bare)
            if region.best.box.left <= x <= region.best.box.right and region.best.box.top <= y <= region.best.box.bottom
        ]
        with_parts |= {n for n in around if bare[n].best.box.area <= _MUCH_LARGER * bare[around[0]].best.box.area}
    return [region for number, region in enumerate(bare) if number not in with_parts]
