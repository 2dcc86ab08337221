import pickle
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anonymise.detections import Box, Detections, Instance, Size, full_mask, merge

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


some = st.lists(instances(), max_size=5)


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


def test_merging_as_in_the_users_document() -> None:
    # One shared pixel is enough; union mask, outermost box, mean score, majority class.
    full = [boxed(0, 0, 10, 10, label=3, score=0.9)]
    window = [boxed(9, 9, 20, 15, label=8, score=0.6), boxed(5, 0, 12, 4, label=8, score=0.3)]
    (one,) = merge([full, window])
    assert one.box == Box(0, 0, 20, 15)
    assert one.score == pytest.approx(0.6)
    assert one.label == 8
    assert np.count_nonzero(one.mask) == 100 + 66 + 28 - 20 - 1


def test_a_tie_of_classes_goes_to_the_higher_scores() -> None:
    (one,) = merge([[boxed(0, 0, 4, 4, label=8, score=0.4)], [boxed(2, 2, 6, 6, label=3, score=0.5)]])
    assert one.label == 3


def test_objects_that_do_not_touch_stay_apart() -> None:
    found = merge([[boxed(0, 0, 4, 4)], [boxed(4, 0, 8, 4)]])
    assert [i.box for i in found] == [Box(0, 0, 4, 4), Box(4, 0, 8, 4)]


def test_boxes_that_overlap_but_masks_that_do_not_stay_apart() -> None:
    box = Box(0, 0, 4, 4)
    upper, lower = np.triu(np.ones((4, 4), bool)), np.tril(np.ones((4, 4), bool), -1)
    assert len(merge([[], [Instance(1, 0.5, box, upper)], [Instance(1, 0.5, box, lower)]])) == 2


def test_a_minimum_overlap_keeps_neighbours_apart() -> None:
    passes = [[boxed(0, 0, 10, 10)], [boxed(7, 0, 17, 10)]]
    assert len(merge(passes, min_overlap=0.0)) == 1
    assert len(merge(passes, min_overlap=0.3)) == 2  # exactly 0.3 of the smaller mask is not more than 0.3
    assert len(merge(passes, min_overlap=0.29)) == 1


def test_a_window_joins_the_full_images_object_that_it_shares_most_with() -> None:
    left, right = boxed(0, 0, 10, 10), boxed(14, 0, 24, 10)
    bridge = boxed(4, 0, 16, 10)
    found = merge([[left, right], [bridge]])
    assert [i.box for i in found] == [Box(0, 0, 16, 10), Box(14, 0, 24, 10)]


@settings(max_examples=200, deadline=None)
@given(some, st.lists(some, max_size=3), st.sampled_from([0.0, 0.25, 0.6]), st.randoms(use_true_random=False))
def test_merging_does_not_depend_on_order(
    full: list[Instance], parts: list[list[Instance]], min_overlap: float, shuffler: random.Random
) -> None:
    expected = merge([full, *parts], min_overlap)
    shuffled = [shuffler.sample(part, len(part)) for part in shuffler.sample(parts, len(parts))]
    again = merge([shuffler.sample(full, len(full)), *shuffled], min_overlap)
    assert [(i.label, i.score, i.box, i.mask.tobytes()) for i in again] == [
        (i.label, i.score, i.box, i.mask.tobytes()) for i in expected
    ]


@settings(deadline=None)
@given(some, st.lists(some, max_size=3), st.sampled_from([0.0, 0.5]))
def test_merging_loses_no_pixel_and_keeps_the_full_images_objects_apart(
    full: list[Instance], parts: list[list[Instance]], min_overlap: float
) -> None:
    merged = merge([full, *parts], min_overlap)
    everything = tuple(i for part in [full, *parts] for i in part)
    assert np.array_equal(Detections(SIZE, merged).union(), Detections(SIZE, everything).union())
    assert len(full) <= len(merged) <= len(everything)


def test_merging_nothing() -> None:
    assert merge([[]]) == ()
