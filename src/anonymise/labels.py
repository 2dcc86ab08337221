"""The classes of the COCO data set, which all models of the catalog speak."""

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["COCO"]

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
