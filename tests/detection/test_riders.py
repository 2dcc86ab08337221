"""Riders: a person and the bicycle or motorcycle under them are hidden as one upright region."""

from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from anonymise import config
from anonymise.core.classes import label_of
from anonymise.core.detections import Box, Detections, Instance, RgbImage, full_mask
from tests.fakes import found_in

_PERSON, _BICYCLE, _CAR = (label_of(name) for name in ("person", "bicycle", "car"))
_UPPER = Box(100, 50, 140, 130)
"""A cyclist down to the pedals."""
_WHEELS = Box(105, 95, 135, 150)
_SADDLE = 120, 145
"""Column and row of a pixel of the wheel below the person's box."""


class Finds:
    """A masker that finds the same in every picture."""

    identity = "finds"

    def __init__(self, *instances: Instance) -> None:
        self._instances = instances

    def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
        for _ in images:
            yield (self._instances,)


def found(label: int, score: float, box: Box) -> Instance:
    return Instance(label, score, box, full_mask(box))


def detect(*instances: Instance, overrides: Iterable[str] = (), size: tuple[int, int] = (200, 300)) -> Detections:
    loaded = config.load(
        overrides=["mask_dilation_pixels=0", "score_threshold=0.4", "rider_score_threshold=0.15", *overrides]
    )
    return found_in(np.full((*size, 3), 90, np.uint8), Finds(*instances), loaded)


@pytest.mark.parametrize("method", ["union", "nms", "nmm", "wbf"])
def test_a_rider_is_covered_from_above_the_head_to_the_wheels(method: str) -> None:
    detections = detect(
        found(_PERSON, 0.8, _UPPER), found(_BICYCLE, 0.2, _WHEELS), overrides=[f"merging_method={method}"]
    )
    (rider,) = detections.instances
    assert rider.label == _PERSON
    assert detections.union()[_SADDLE[1], _SADDLE[0]]
    assert rider.box.top < _UPPER.top
    assert rider.box.bottom == _WHEELS.bottom


def test_a_hidden_bicycle_takes_its_doubtful_rider_along() -> None:
    detections = detect(found(_PERSON, 0.2, _UPPER), found(_BICYCLE, 0.8, _WHEELS))
    assert detections.counts() == {_BICYCLE: 1}
    assert detections.union()[_UPPER.slices].all()


def test_both_halves_are_counted() -> None:
    detections = detect(
        found(_PERSON, 0.8, _UPPER), found(_BICYCLE, 0.8, _WHEELS), overrides=["merge_min_overlap=0.99"]
    )
    assert detections.counts() == {_PERSON: 1, _BICYCLE: 1}


@pytest.mark.parametrize(
    "machine",
    [
        found(_BICYCLE, 0.1, _WHEELS),
        found(_CAR, 0.3, _WHEELS),
        found(_BICYCLE, 0.3, _WHEELS.moved(60, 0)),
        found(_BICYCLE, 0.3, Box(105, 20, 135, 75)),
        found(_BICYCLE, 0.3, Box(105, 125, 135, 180)),
        found(_BICYCLE, 0.3, Box(20, 80, 220, 150)),
    ],
    ids=["too doubtful", "no machine", "next to the person", "above", "behind a pedestrian's feet", "too long"],
)
def test_what_nobody_rides_stays_visible(machine: Instance) -> None:
    assert detect(found(_PERSON, 0.8, _UPPER), machine).union().sum() == _UPPER.area


def test_two_doubtful_halves_hide_nothing() -> None:
    assert detect(found(_PERSON, 0.3, _UPPER), found(_BICYCLE, 0.3, _WHEELS)).instances == ()


def test_without_the_key_boxes_stay_as_they_were_found() -> None:
    halves = found(_PERSON, 0.8, _UPPER), found(_BICYCLE, 0.8, _WHEELS)
    hidden = detect(*halves, overrides=["rider_score_threshold=null"]).union()
    assert hidden.sum() == _UPPER.area + _WHEELS.area - _UPPER.intersection(_WHEELS).area  # type: ignore[union-attr]


def test_only_what_is_to_be_hidden_makes_a_rider() -> None:
    detections = detect(found(_PERSON, 0.8, _UPPER), found(_BICYCLE, 0.2, _WHEELS), overrides=["mask_classes=[person]"])
    assert not detections.union()[_SADDLE[1], _SADDLE[0]]


def test_a_rider_near_the_top_stays_in_the_image() -> None:
    assert (
        detect(found(_PERSON, 0.8, _UPPER.moved(0, -50)), found(_BICYCLE, 0.8, _WHEELS.moved(0, -50))).union()[0].any()
    )


def test_in_a_360_image_the_region_goes_on_across_the_seam() -> None:
    halves = found(_PERSON, 0.8, _UPPER.moved(180, 0)), found(_BICYCLE, 0.2, _WHEELS.moved(180, 0))
    detections = detect(*halves, overrides=["projection=equirectangular"], size=(200, 300))
    hidden = detections.union()
    assert hidden[145, 299]
    assert hidden.sum() > _UPPER.area
