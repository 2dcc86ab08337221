"""Riders: a person and the bicycle or motorcycle under them, covered as one upright region.

Seen from behind, a model often finds the person down to the saddle and no bicycle, or both boxes end short of the head
or a wheel. The region around both has the whole rider.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from anonymise.core.classes import label_of
from anonymise.core.detections import Box, Instance, full_mask, united
from anonymise.detection.merging import corners, ious

__all__ = ["covered", "riders"]

_PERSON = label_of("person")
_MACHINES = frozenset(map(label_of, ("bicycle", "motorcycle")))

_SAME = 0.5
"""Intersection over union from which on two boxes are of one object."""

_ASTRIDE = 0.5
"""Fraction of the narrower box that a rider and a machine share from left to right."""

_SEAT = 0.2
"""Fraction of the machine's height by which a rider reaches into it at least, and below it at most."""

_MACHINE_HEIGHTS = (0.25, 1.2)
"""The lowest and the highest machine, as multiples of the rider's box."""

_HEAD = 0.04
"""Fraction of a region's height by which it is higher, because boxes end at the forehead or the helmet's edge."""

_MACHINE_WIDTH = 1.5
"""The longest machine, as a multiple of the height of the rider's box."""


def riders(kept: Iterable[Instance], others: Iterable[Instance], lowest: float) -> list[Instance]:
    """The upright regions around riders and what they ride.

    Args:
        kept: what is hidden.
        others: what else was found; with at least ``lowest`` it counts where the other half of a rider is hidden.
        lowest: score.

    Returns:
        A person for each pair.
    """
    finds = [(instance, True) for instance in kept if _is_half(instance)]
    finds += [(instance, False) for instance in others if _is_half(instance) and instance.score >= lowest]
    finds.sort(key=lambda find: (not find[1], -find[0].score, find[0].box, find[0].label))
    persons = _distinct([find for find in finds if find[0].label == _PERSON])
    machines = _distinct([find for find in finds if find[0].label in _MACHINES])
    pairs = [
        (person, machine)
        for person in persons
        for machine in machines
        if (person[1] or machine[1]) and _rides(person[0].box, machine[0].box)
    ]
    # The surest pair first; nobody rides two machines.
    pairs.sort(key=lambda pair: -pair[0][0].score * pair[1][0].score)
    taken: set[int] = set()
    regions = []
    for (person, _), (machine, _) in pairs:
        if taken.isdisjoint((id(person), id(machine))):
            taken |= {id(person), id(machine)}
            box = person.box.hull(machine.box)
            box = replace(box, top=max(0, box.top - math.ceil(_HEAD * box.height)))
            regions.append(Instance(_PERSON, max(person.score, machine.score), box, full_mask(box)))
    return regions


def covered(merged: Sequence[Instance], regions: Iterable[Instance]) -> tuple[Instance, ...]:
    """The objects of an image, of which those that ride have the regions of riders besides.

    A region goes to the person that it shares most with, and where no person was found, to the machine.
    """
    objects = [*merged]
    for region in regions:
        shared = [
            (instance.label == _PERSON, instance.overlap(region)) if _is_half(instance) else (False, 0)
            for instance in objects
        ]
        number = max(range(len(objects)), key=lambda n: (shared[n][1] > 0, *shared[n]))
        objects[number] = _united(objects[number], region)
    return tuple(objects)


def _is_half(instance: Instance) -> bool:
    return instance.label == _PERSON or instance.label in _MACHINES


def _distinct(finds: Sequence[tuple[Instance, bool]]) -> list[tuple[Instance, bool]]:
    """The first find of each object."""
    kept: list[tuple[Instance, bool]] = []
    for find in finds:
        overlaps = ious(corners([find[0]])[0], corners([by for by, _ in kept]), "float")
        if not (overlaps > _SAME).any():
            kept.append(find)
    return kept


def _rides(person: Box, machine: Box) -> bool:
    """Whether a person sits on a machine: above it, and down into it."""
    across = min(person.right, machine.right) - max(person.left, machine.left)
    lowest, highest = (share * person.height for share in _MACHINE_HEIGHTS)
    reach = _SEAT * machine.height
    return (
        across >= _ASTRIDE * min(person.width, machine.width)
        and person.top < machine.top
        and machine.top + reach <= person.bottom <= machine.bottom + reach
        and lowest <= machine.height <= highest
        and machine.width <= _MACHINE_WIDTH * person.height
    )


def _united(instance: Instance, region: Instance) -> Instance:
    box, mask = united([(one.box, one.mask) for one in (instance, region)])
    return replace(instance, box=box, mask=mask)
