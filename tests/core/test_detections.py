import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonymise.core.detections import Box, Detections, Instance, Size, full_mask

SIZE = Size(40, 30)


def boxed(left: int, top: int, right: int, bottom: int, *, label: int = 3, score: float = 0.5) -> Instance:
    box = Box(left, top, right, bottom)
    return Instance(label, score, box, full_mask(box))


@st.composite
def instances(draw: st.DrawFn) -> Instance:
    left, top = draw(st.integers(0, SIZE.width - 2)), draw(st.integers(0, SIZE.height - 2))
    box = Box(left, top, draw(st.integers(left + 1, SIZE.width)), draw(st.integers(top + 1, SIZE.height)))
    mask = full_mask(box)
    if draw(st.booleans()):
        mask = np.random.default_rng(draw(st.integers(0, 9))).random((box.height, box.width)) < 0.4
        mask[0, 0] = True
    return Instance(draw(st.sampled_from([1, 3])), draw(st.sampled_from([0.3, 0.5, 0.75])), box, mask)


def test_an_empty_box_is_refused() -> None:
    with pytest.raises(ValueError, match="empty box"):
        Box(3, 3, 3, 9)


def test_a_mask_must_fit_its_box() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Instance(1, 0.5, Box(0, 0, 4, 4), np.ones((3, 4), bool))


def test_masks_cannot_be_changed() -> None:
    mask = np.eye(4, dtype=bool)
    instance = Instance(1, 0.5, Box(0, 0, 4, 4), mask)
    with pytest.raises(ValueError, match="read-only"):
        instance.mask[0, 0] = False


def test_a_full_mask_takes_no_memory_and_no_bytes_on_the_way_to_a_worker() -> None:
    box = Box(0, 0, 8000, 4000)
    instance = Instance(1, 0.5, box, np.ones((4000, 8000), bool))
    assert instance.mask.strides == (0, 0)
    assert len(pickle.dumps(instance)) < 1000


@given(instances())
def test_an_instance_survives_the_way_to_a_worker(instance: Instance) -> None:
    copy = pickle.loads(pickle.dumps(instance))
    assert (copy.label, copy.score, copy.box) == (instance.label, instance.score, instance.box)
    assert np.array_equal(copy.mask, instance.mask)
    assert not copy.mask.flags.writeable


@given(instances(), instances())
def test_overlap_counts_the_common_pixels(first: Instance, second: Instance) -> None:
    expected = Detections(SIZE, (first,)).union() & Detections(SIZE, (second,)).union()
    assert first.overlap(second) == second.overlap(first) == expected.sum()


@given(instances(), st.integers(0, 6))
def test_dilation_adds_all_pixels_within_reach_and_no_others(instance: Instance, pixels: int) -> None:
    before = Detections(SIZE, (instance,)).union()
    after = Detections(SIZE, (instance,)).dilated(pixels).union()
    expected = np.zeros_like(before)
    for y, x in zip(*np.nonzero(before), strict=True):
        expected[max(0, y - pixels) : y + pixels + 1, max(0, x - pixels) : x + pixels + 1] = True
    assert np.array_equal(after, expected)


def test_counts_are_by_class() -> None:
    found = Detections(SIZE, (boxed(0, 0, 2, 2), boxed(4, 4, 6, 6), boxed(9, 9, 12, 12, label=1)))
    assert found.counts() == {1: 1, 3: 2}


@given(instances())
def test_the_mirror_image_of_an_instance_is_that_of_its_pixels(instance: Instance) -> None:
    mirrored = instance.mirrored(SIZE.width)
    expected = Detections(SIZE, (instance,)).union()[:, ::-1]
    assert np.array_equal(Detections(SIZE, (mirrored,)).union(), expected)
    assert mirrored.fills_box == instance.fills_box
    assert mirrored.mirrored(SIZE.width).box == instance.box
