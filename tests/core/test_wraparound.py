"""Objects around the seam, compared with the same objects in an image that is turned so that the seam is elsewhere."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anonymise.core.detections import Box, Detections, Instance, Mask, Size, full_mask
from anonymise.core.wraparound import grown_around, placed, split_at_seam
from anonymise.detection.merging import merge, merge_around
from anonymise.detection.outlines import ellipse_around
from tests.detection.test_merging import METHODS, options

SIZE = Size(40, 12)


def boxed(left: int, top: int, right: int, bottom: int, *, label: int = 3, score: float = 0.5) -> Instance:
    box = Box(left, top, right, bottom)
    return Instance(label, score, box, full_mask(box))


@st.composite
def instances(draw: st.DrawFn) -> Instance:
    """Objects narrow enough that a few of them do not reach all the way around."""
    left, top = draw(st.integers(0, SIZE.width - 1)), draw(st.integers(0, SIZE.height - 2))
    box = Box(left, top, left + draw(st.integers(1, 7)), draw(st.integers(top + 1, SIZE.height)))
    mask = full_mask(box)
    if draw(st.booleans()):
        mask = np.random.default_rng(draw(st.integers(0, 9))).random((box.height, box.width)) < 0.4
        mask[0, 0] = True
    return Instance(draw(st.sampled_from([1, 3])), draw(st.sampled_from([0.3, 0.5, 0.75])), box, mask)


def frame(found: tuple[Instance, ...] | list[Instance]) -> Mask:
    return Detections(SIZE, split_at_seam(found, SIZE.width)).union()


passes = st.lists(st.lists(instances(), max_size=3), min_size=1, max_size=2)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=100)
@given(found=passes, turn=st.integers(0, SIZE.width - 1), threshold=st.sampled_from([0.0, 0.25, 0.6]))
def test_merging_does_not_depend_on_where_the_seam_is(
    method: str, found: list[list[Instance]], turn: int, threshold: float
) -> None:
    def turned(instance: Instance, by: int) -> Instance:
        return placed(instance.moved(by, 0), SIZE.width)

    # Each its own score: ties are settled by places in the image. Without a pass over the full image `union` joins all
    # that overlaps.
    scores = iter(np.linspace(0.9, 0.3, 6).tolist())
    found = [[replace(i, score=next(scores)) for i in part] for part in found]
    for area_method in ("int", "float"):
        chosen = options(method, merge_min_overlap=threshold, merge_iou_threshold=threshold, area_method=area_method)
        expected = merge_around([[], *found], chosen, SIZE.width)
        again = merge_around([[], *([turned(i, turn) for i in part] for part in found)], chosen, SIZE.width)
        back = [turned(i, -turn) for i in again]
        assert {described(i) for i in back} == {described(i) for i in expected}


def described(instance: Instance) -> tuple[int, float, Box, bytes]:
    return instance.label, round(instance.score, 9), instance.box, instance.mask.tobytes()


@settings(deadline=None)
@given(passes, st.sampled_from([0.0, 0.5]))
def test_merging_loses_no_pixel_and_keeps_the_full_images_objects_apart(
    found: list[list[Instance]], min_overlap: float
) -> None:
    merged = merge_around(found, options(merge_min_overlap=min_overlap), SIZE.width)
    everything = [i for part in found for i in part]
    assert np.array_equal(frame(merged), frame(everything))
    assert len(found[0]) <= len(merged) <= len(everything)
    assert all(0 <= i.box.left < SIZE.width and i.box.width <= SIZE.width for i in merged)


@settings(deadline=None)
@given(passes)
def test_away_from_the_seam_it_is_the_merging_of_every_image(found: list[list[Instance]]) -> None:
    inside = [[i for i in part if i.box.right <= SIZE.width] for part in found]
    expected = {described(i) for i in merge(inside, options(merge_min_overlap=0.25))}
    assert {described(i) for i in merge_around(inside, options(merge_min_overlap=0.25), SIZE.width)} == expected


def test_two_windows_that_see_an_object_on_the_seam_find_one() -> None:
    whole, left_part = boxed(36, 2, 44, 6), boxed(0, 2, 4, 7)
    (one,) = merge_around([[], [whole], [left_part]], options(merge_min_overlap=0.5), SIZE.width)
    assert one.box == Box(36, 2, 44, 7)
    assert [i.box for i in split_at_seam([one], SIZE.width)] == [Box(36, 2, 40, 7), Box(0, 2, 4, 7)]


def test_objects_that_overlap_all_the_way_around_stay_in_the_image() -> None:
    row = [boxed(left, 0, left + 7, 5) for left in range(0, SIZE.width, 5)]
    merged = merge_around([[], row], options(), SIZE.width)
    assert frame(merged).sum() == 5 * SIZE.width
    assert all(i.box.width <= SIZE.width for i in merged)


@settings(deadline=None)
@given(st.integers(-90, 90), st.integers(1, 100))
def test_an_object_is_placed_once_around_at_most(left: int, width: int) -> None:
    random = np.random.default_rng(left + 1000 * width)
    box = Box(left, 3, left + width, 5)
    instance = Instance(1, 0.5, box, random.random((2, width)) < 0.5)
    expected = np.zeros((2, SIZE.width), bool)
    for column in range(width):
        expected[:, (left + column) % SIZE.width] |= instance.mask[:, column]
    placed_instance = placed(instance, SIZE.width)
    assert 0 <= placed_instance.box.left < SIZE.width
    assert placed_instance.box.width <= SIZE.width
    assert np.array_equal(frame([placed_instance])[3:5], expected)


@settings(deadline=None)
@given(instances(), st.integers(0, 5))
def test_growing_goes_on_beyond_the_seam(instance: Instance, pixels: int) -> None:
    before = frame([instance])
    expected = np.zeros_like(before)
    for y, x in zip(*np.nonzero(before), strict=True):
        columns = np.arange(x - pixels, x + pixels + 1) % SIZE.width
        expected[max(0, y - pixels) : y + pixels + 1, columns] = True
    assert np.array_equal(frame([grown_around(instance, lambda i, size: i.dilated(pixels, size), SIZE)]), expected)


@settings(deadline=None)
@given(st.integers(0, SIZE.width - 1), st.integers(1, SIZE.width), st.integers(0, SIZE.width - 1))
def test_an_ellipse_around_a_box_does_not_depend_on_where_the_seam_is(left: int, width: int, turn: int) -> None:
    def hidden(left: int) -> Mask:
        return frame([grown_around(boxed(left, 3, left + width, 9), ellipse_around, SIZE)])

    before, turned = hidden(left), hidden((left + turn) % SIZE.width)
    assert np.array_equal(turned, np.roll(before, turn, axis=1))
    assert (before >= frame([boxed(left, 3, left + width, 9)])).all()


def test_a_half_without_pixels_is_no_object() -> None:
    mask = np.zeros((2, 6), bool)
    mask[:, 0] = True
    parts = split_at_seam([Instance(1, 0.5, Box(38, 0, 44, 2), mask)], SIZE.width)
    assert [i.box for i in parts] == [Box(38, 0, 40, 2)]
