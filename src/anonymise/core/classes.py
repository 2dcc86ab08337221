"""The classes of objects: those of the COCO data set, which most models speak, and two of our own.

What an operator wants hidden, a target, is one class or several; see `docs/models.md`.
"""

from collections.abc import Mapping
from types import MappingProxyType

from anonymise.core.plaintext import did_you_mean

__all__ = ["COCO", "LABELS", "TARGETS", "kind_of", "label_of", "labels_of_target", "unknown_classes"]

_NAMES = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, , stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, , backpack, umbrella, , ,
handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard,
surfboard, tennis racket, bottle, , wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange,
broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, , dining table, , , toilet, , tv,
laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, , book, clock, vase,
scissors, teddy bear, hair drier, toothbrush
"""

COCO: Mapping[int, str] = MappingProxyType(
    {number: name for number, name in enumerate((n.strip() for n in _NAMES.split(",")), start=1) if name}
)
"""Class id → name; 80 of the ids 1 to 90 are in use. Source: https://cocodataset.org (annotations of 2017)."""

LABELS: Mapping[int, str] = MappingProxyType({**COCO, 1001: "face", 1002: "plate", 1003: "other"})
"""Class id → name of all classes; those that COCO does not have are beyond the ids of all its editions. No model finds
what is "other": people and other systems say that it must be hidden.
"""

TARGETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "person": ("person",),
        "vehicle": ("bicycle", "car", "motorcycle", "bus", "truck"),
        "face": ("face",),
        "plate": ("plate",),
    }
)
"""Target → classes. A rider is a person, found as one; what is ridden is a vehicle."""

_IDS = {name: number for number, name in LABELS.items()}


def label_of(name: str) -> int:
    """The id of a class.

    Raises:
        KeyError: there is no class of this name.
    """
    return _IDS[name]


def labels_of_target(name: str) -> frozenset[int]:
    """The ids of the classes that a target stands for, or of the class of this name.

    Raises:
        KeyError: there is neither a target nor a class of this name.
    """
    return frozenset(map(label_of, TARGETS.get(name, (name,))))


_VEHICLES = labels_of_target("vehicle")


def kind_of(label: int) -> int:
    """A number that classes share which models take for each other: that of all vehicles, else the class id."""
    return min(_VEHICLES) if label in _VEHICLES else label


def unknown_classes(*names: str) -> str | None:
    """What is wrong with names that an operator wrote, for a message; None where all are classes."""
    unknown = sorted(set(names) - _IDS.keys())
    if not unknown:
        return None
    hint = did_you_mean(unknown[0], _IDS)
    return f"{', '.join(unknown)}: no known class" + (hint or f"; the classes are {', '.join(_IDS)}")
