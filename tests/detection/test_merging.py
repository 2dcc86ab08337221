"""Merging: hand-worked examples, known implementations, and what must hold for every method."""

import random
from typing import get_args

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anonymise.core.detections import Box, Detections, Instance, Mask, Size, full_mask
from anonymise.detection.merging import MergeOptions, MergingMethod, may_join, merge

SIZE = Size(40, 30)
METHODS = get_args(MergingMethod)


def options(method: str = "union", **changed: object) -> MergeOptions:
    values = {
        "merging_method": method,
        "merge_min_overlap": 0.0,
        "merge_iou_threshold": 0.5,
        "area_method": "float",
        "pre_merge_score_threshold": None,
        "post_merge_score_threshold": None,
    }
    return MergeOptions.model_validate(values | changed)


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
thresholds = st.sampled_from([0.0, 0.25, 0.6])


def described(found: tuple[Instance, ...]) -> list[tuple[int, float, Box, bytes]]:
    return [(i.label, i.score, i.box, i.mask.tobytes()) for i in found]


def test_the_union_is_as_in_the_users_document() -> None:
    # One shared pixel is enough; union mask, outermost box, mean score, majority class.
    full = [boxed(0, 0, 10, 10, label=3, score=0.9)]
    window = [boxed(9, 9, 20, 16, label=8, score=0.6), boxed(5, 0, 12, 4, label=8, score=0.3)]
    (one,) = merge([full, window], options())
    assert one.box == Box(0, 0, 20, 16)
    assert one.score == pytest.approx(0.6)
    assert one.label == 8
    assert np.count_nonzero(one.mask) == 100 + 77 + 28 - 20 - 1


def test_small_finds_do_not_rename_a_large_object() -> None:
    car = boxed(0, 0, 30, 20, label=3, score=0.9)
    people = [boxed(left, 5, left + 3, 12, label=1, score=0.95) for left in (2, 8, 14, 20)]
    (one,) = merge([[car], *([person] for person in people)], options())
    assert one.label == 3
    # Also where masks count, not boxes.
    mask = np.zeros((20, 30), bool)
    mask[::19] = True
    (one,) = merge([[Instance(3, 0.9, car.box, mask)], [boxed(2, 0, 12, 8, label=1)]], options())
    assert one.label == 1


def test_a_tie_of_classes_goes_to_the_higher_scores() -> None:
    (one,) = merge([[boxed(0, 0, 4, 4, label=8, score=0.4)], [boxed(2, 2, 6, 6, label=3, score=0.5)]], options())
    assert one.label == 3


def test_objects_that_do_not_touch_stay_apart() -> None:
    found = merge([[boxed(0, 0, 4, 4)], [boxed(4, 0, 8, 4)]], options())
    assert [i.box for i in found] == [Box(0, 0, 4, 4), Box(4, 0, 8, 4)]


def test_boxes_that_overlap_but_masks_that_do_not_stay_apart() -> None:
    box = Box(0, 0, 4, 4)
    upper, lower = np.triu(np.ones((4, 4), bool)), np.tril(np.ones((4, 4), bool), -1)
    passes = [[], [Instance(1, 0.5, box, upper)], [Instance(1, 0.5, box, lower)]]
    assert len(merge(passes, options())) == 2


def test_a_minimum_overlap_keeps_neighbours_apart() -> None:
    passes = [[boxed(0, 0, 10, 10)], [boxed(7, 0, 17, 10)]]
    assert len(merge(passes, options(merge_min_overlap=0.0))) == 1
    assert (
        len(merge(passes, options(merge_min_overlap=0.3))) == 2
    )  # exactly 0.3 of the smaller mask is not more than 0.3
    assert len(merge(passes, options(merge_min_overlap=0.29))) == 1


def test_a_window_joins_the_full_images_object_that_it_shares_most_with() -> None:
    left, right = boxed(0, 0, 10, 10), boxed(14, 0, 24, 10)
    bridge = boxed(4, 0, 16, 10)
    found = merge([[left, right], [bridge]], options())
    assert [i.box for i in found] == [Box(0, 0, 16, 10), Box(14, 0, 24, 10)]


@settings(max_examples=50)
@given(some, st.lists(some, max_size=3), st.sampled_from([0.0, 0.5]))
def test_the_union_loses_no_pixel_and_keeps_the_full_images_objects_apart(
    full: list[Instance], parts: list[list[Instance]], min_overlap: float
) -> None:
    merged = merge([full, *parts], options(merge_min_overlap=min_overlap))
    everything = tuple(i for part in [full, *parts] for i in part)
    assert np.array_equal(Detections(SIZE, merged).union(), Detections(SIZE, everything).union())
    assert len(full) <= len(merged) <= len(everything)


# Three boxes of a car; the areas are 100 each.
#   A (0, 0, 10, 10) 0.8      A and B share 8 * 10 = 80: IoU 80 / 120 = 0.667
#   B (2, 0, 12, 10) 0.6      B and C share 6 * 10 = 60: IoU 60 / 140 = 0.429
#   C (6, 0, 16, 10) 0.4      A and C share 4 * 10 = 40: IoU 40 / 160 = 0.25
A, B, C = boxed(0, 0, 10, 10, score=0.8), boxed(2, 0, 12, 10, score=0.6), boxed(6, 0, 16, 10, score=0.4)


def test_suppression_keeps_the_best_box() -> None:
    assert merge([[C, A], [B]], options("nms", merge_iou_threshold=0.5)) == (A, C)
    # C overlaps B enough, but B is gone before it can drop C.
    assert merge([[C, A], [B]], options("nms", merge_iou_threshold=0.4)) == (A, C)
    assert merge([[C, A], [B]], options("nms", merge_iou_threshold=0.2)) == (A,)


def test_an_overlap_of_just_the_threshold_is_not_enough() -> None:
    # C and A: 40 / 160 is exactly a quarter.
    for method in ("nms", "nmm", "wbf"):
        assert len(merge([[A, C]], options(method, merge_iou_threshold=0.25))) == 2
        assert len(merge([[A, C]], options(method, merge_iou_threshold=0.24))) == 1


def test_non_maximum_merging_takes_the_envelope_and_the_highest_score() -> None:
    apart = merge([[C, A], [B]], options("nmm", merge_iou_threshold=0.4))
    assert described(apart) == described((boxed(0, 0, 12, 10, score=0.8), C))
    one = merge([[C, A], [B]], options("nmm", merge_iou_threshold=0.2))
    assert described(one) == described((boxed(0, 0, 16, 10, score=0.8),))
    # The envelope of boxes that are not in a row has corners that neither of them has.
    askew = merge([[boxed(0, 0, 10, 10), boxed(2, 2, 12, 12)]], options("nmm", merge_iou_threshold=0.4))
    assert described(askew) == described((boxed(0, 0, 12, 12),))


def test_fusion_averages_boxes_weighted_by_their_scores() -> None:
    # A and B: left (0.8 * 0 + 0.6 * 2) / 1.4 = 0.857, right (0.8 * 10 + 0.6 * 12) / 1.4 = 10.857; score 1.4 / 2.
    # That box and C share 10.857 - 6 = 4.857 of 15.143 columns: IoU 0.321.
    (fused, alone) = merge([[C, A], [B]], options("wbf", merge_iou_threshold=0.4))
    assert (fused.box, alone) == (Box(0, 0, 11, 10), C)
    assert fused.score == pytest.approx(0.7)
    # With C: left (0 + 1.2 + 2.4) / 1.8 = 2, right (8 + 7.2 + 6.4) / 1.8 = 12; score 1.8 / 3.
    (fused,) = merge([[C, A], [B]], options("wbf", merge_iou_threshold=0.3))
    assert fused.box == Box(2, 0, 12, 10)
    assert fused.score == pytest.approx(0.6)


def test_a_box_joins_the_fused_box_that_it_overlaps_most() -> None:
    # 4 * 10 / 160 = 0.25 of the left one, 6 * 10 / 140 = 0.43 of the right one.
    left, right = boxed(0, 0, 10, 10, score=0.9), boxed(10, 0, 20, 10, score=0.8)
    found = merge([[left, right], [boxed(6, 0, 16, 10, score=0.4)]], options("wbf", merge_iou_threshold=0.2))
    # (0.8 * 10 + 0.4 * 6) / 1.2 = 8.67
    assert [i.box for i in found] == [Box(0, 0, 10, 10), Box(8, 0, 19, 10)]


@pytest.mark.parametrize("score", [0.1, 0.3, 0.7, 1 / 3])
def test_the_average_of_equal_boxes_is_that_box(score: float) -> None:
    same = [boxed(7, 3, 19, 11, score=score + n / 17) for n in range(7)]
    (one,) = merge([same], options("wbf"))
    assert one.box == Box(7, 3, 19, 11)


def test_fusion_is_that_of_the_authors() -> None:
    corners = (
        (10, 10, 50, 50), (12, 8, 52, 50), (30, 30, 70, 70), (14, 12, 54, 56), (100, 10, 140, 60),
        (104, 14, 150, 64), (60, 100, 90, 180), (60, 110, 92, 170), (98, 6, 138, 58), (0, 0, 20, 20),
    )  # fmt: skip
    scores = (0.9, 0.8, 0.7, 0.6, 0.55, 0.5, 0.45, 0.85, 0.35, 0.3)
    labels = (1, 1, 1, 1, 3, 3, 1, 1, 3, 1)
    found = [boxed(*c, label=n, score=s) for c, s, n in zip(corners, scores, labels, strict=True)]
    # ensemble-boxes 1.0.9: weighted_boxes_fusion([boxes / 200], [scores], [labels], iou_thr=0.5), times 200:
    expected = [
        (1, 0.3, (0.0, 0.0, 20.0, 20.0)),
        (1, 0.76667, (11.739, 9.826, 51.739, 51.565)),
        (1, 0.7, (30.0, 30.0, 70.0, 70.0)),
        (1, 0.65, (60.0, 106.538, 91.308, 173.462)),
        (3, 0.46667, (100.929, 10.429, 143.071, 60.929)),
    ]
    merged = merge([found[::2], found[1::2]], options("wbf"))
    assert [(i.label, round(i.score, 5)) for i in merged] == [(label, score) for label, score, _ in expected]
    assert [i.box for i in merged] == [
        Box(*np.floor(box[:2]).astype(int).tolist(), *np.ceil(box[2:]).astype(int).tolist()) for _, _, box in expected
    ]


@settings(max_examples=50)
@given(st.lists(instances(), max_size=12), st.sampled_from([5**0.5 - 2, 2**0.5 - 1, (5**0.5 - 1) / 2]))
def test_suppression_is_that_of_opencv(found: list[Instance], threshold: float) -> None:
    # Each its own score: OpenCV settles ties by the order of its input. It computes in 32 bits, so the thresholds are
    # as far from fractions of small numbers, which intersections over unions are, as can be.
    found = [boxed(*_corners(i), score=0.9 - n / 50) for n, i in enumerate(found)]
    rectangles = [(i.box.left, i.box.top, i.box.width, i.box.height) for i in found]
    kept = cv2.dnn.NMSBoxes(rectangles, [i.score for i in found], 0.01, threshold) if found else []
    merged = merge([found], options("nms", merge_iou_threshold=threshold))
    assert {i.box for i in merged} == {found[index].box for index in kept}
    assert len(merged) == len(kept)


def _corners(instance: Instance) -> tuple[int, int, int, int]:
    return instance.box.left, instance.box.top, instance.box.right, instance.box.bottom


def test_areas_are_those_of_the_users_document() -> None:
    # float: 1 of 4 + 4 - 1 = 0.143. int: sides of 3, shared ones of 2: 4 of 9 + 9 - 4 = 0.286.
    first, second = boxed(0, 0, 2, 2), boxed(1, 1, 3, 3)
    for area_method, iou in (("float", 1 / 7), ("int", 4 / 14)):
        for above, expected in ((0.001, 2), (-0.001, 1)):
            chosen = options("nms", area_method=area_method, merge_iou_threshold=iou + above)
            assert len(merge([[first, second]], chosen)) == expected


@pytest.mark.parametrize("method", ["nms", "nmm", "wbf"])
def test_a_rider_does_not_take_the_place_of_the_bicycle(method: str) -> None:
    rider, bicycle = boxed(10, 0, 20, 20, label=1, score=0.9), boxed(10, 2, 20, 22, label=2, score=0.4)
    assert merge([[rider], [bicycle]], options(method)) == (rider, bicycle)


def test_masks_are_united_and_boxes_averaged() -> None:
    diagonal = Instance(3, 0.8, Box(2, 2, 12, 12), np.eye(10, dtype=bool))
    beside = Instance(3, 0.6, Box(3, 2, 13, 12), np.eye(10, dtype=bool))
    boxes = [boxed(2, 4, 12, 12, score=0.5), boxed(2, 2, 12, 10, score=0.5)]
    for method in ("wbf", "nmm"):
        (united,) = merge([[diagonal], [beside]], options(method, merge_iou_threshold=0.3))
        assert united.box == Box(2, 2, 13, 12)
        assert np.array_equal(united.mask, np.eye(10, 11, dtype=bool) | np.eye(10, 11, 1, dtype=bool))
    # The average of the boxes is (2, 3, 12, 11), their envelope (2, 2, 12, 12); the masks reach beyond the average.
    (fused,) = merge([[diagonal], boxes], options("wbf", merge_iou_threshold=0.3))
    expected = np.eye(10, dtype=bool)
    expected[1:9] = True
    assert fused.box == Box(2, 2, 12, 12)
    assert np.array_equal(fused.mask, expected)
    assert fused.score == pytest.approx(0.6)
    enveloped = merge([[diagonal], boxes], options("nmm", merge_iou_threshold=0.3))
    assert described(enveloped) == described((boxed(2, 2, 12, 12, score=0.8),))


@pytest.mark.parametrize("method", METHODS)
def test_scores_below_the_thresholds_are_dropped(method: str) -> None:
    found = [[boxed(0, 0, 10, 10, score=0.8), boxed(20, 0, 30, 10, score=0.5)], [boxed(0, 0, 10, 11, score=0.4)]]
    assert len(merge(found, options(method))) == 2
    # Those of just the threshold stay.
    assert [i.score for i in merge(found, options(method, pre_merge_score_threshold=0.5))] == [0.8, 0.5]
    assert [i.box.left for i in merge(found, options(method, post_merge_score_threshold=0.55))] == [0]
    # The best of an object's scores counts, also where it gets their mean.
    (one,) = merge(found, options(method, post_merge_score_threshold=0.8))
    assert one.score == pytest.approx(0.8 if method in ("nms", "nmm") else 0.6)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=50)
@given(full=some, parts=st.lists(some, max_size=3), lowest=st.sampled_from([0.3, 0.4, 0.5, 0.6, 0.75]))
def test_no_certain_find_is_dropped_because_of_an_uncertain_one(
    method: str, full: list[Instance], parts: list[list[Instance]], lowest: float
) -> None:
    passes = [full, *parts]
    hidden = Detections(SIZE, merge(passes, options(method, post_merge_score_threshold=lowest))).union()
    certain = Detections(SIZE, tuple(i for one in passes for i in one if i.score >= lowest))
    if method in ("union", "nmm"):
        assert hidden[certain.union()].all()
    else:  # those two hide less than they were given, whatever the threshold
        assert hidden.any() == certain.union().any()


@pytest.mark.parametrize("method", METHODS)
def test_thresholds_of_one_keep_all_apart(method: str) -> None:
    same = boxed(0, 0, 10, 10)
    assert len(merge([[same], [same]], options(method, merge_iou_threshold=1.0, merge_min_overlap=1.0))) == 2


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=50)
@given(
    full=some,
    parts=st.lists(some, max_size=3),
    threshold=thresholds,
    area_method=st.sampled_from(["int", "float"]),
    shuffler=st.randoms(use_true_random=False),
)
def test_merging_does_not_depend_on_order(
    method: str,
    full: list[Instance],
    parts: list[list[Instance]],
    threshold: float,
    area_method: str,
    shuffler: random.Random,
) -> None:
    chosen = options(method, merge_min_overlap=threshold, merge_iou_threshold=threshold, area_method=area_method)
    shuffled = [shuffler.sample(part, len(part)) for part in shuffler.sample(parts, len(parts))]
    again = merge([shuffler.sample(full, len(full)), *shuffled], chosen)
    assert described(again) == described(merge([full, *parts], chosen))


@settings(max_examples=50)
@given(some, some, st.sampled_from(["int", "float"]))
def test_where_nothing_overlaps_all_methods_are_the_same(
    first: list[Instance], second: list[Instance], area_method: str
) -> None:
    # Each in a place of its own, a pixel and more from the next.
    first = [i.moved(50 * n, 0) for n, i in enumerate(first)]
    second = [i.moved(50 * n, 40) for n, i in enumerate(second)]
    expected = sorted(described((*first, *second)), key=lambda item: item[2])
    for method in METHODS:
        chosen = options(method, merge_iou_threshold=0.0, area_method=area_method)
        assert described(merge([first, second], chosen)) == expected


@settings(max_examples=50)
@given(some, st.lists(some, max_size=3), thresholds)
def test_what_the_methods_uncover(full: list[Instance], parts: list[list[Instance]], threshold: float) -> None:
    passes = [full, *parts]
    everything = tuple(i for part in passes for i in part)

    def covered(found: tuple[Instance, ...]) -> Mask:
        return Detections(SIZE, found).union()

    enveloped = merge(passes, options("nmm", merge_iou_threshold=threshold))
    assert (covered(enveloped) >= covered(everything)).all()
    fused = merge(passes, options("wbf", merge_iou_threshold=threshold))
    assert (covered(fused) >= covered(tuple(i for i in everything if not i.fills_box))).all()
    kept = merge(passes, options("nms", merge_iou_threshold=threshold))
    assert all(any(described((i,)) == described((other,)) for other in everything) for i in kept)
    for found in (enveloped, fused, kept):
        assert {i.label for i in found} == {i.label for i in everything}
        assert len(found) <= len(everything)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=50)
@given(first=instances(), second=instances(), threshold=thresholds)
def test_what_may_be_joined(method: str, first: Instance, second: Instance, threshold: float) -> None:
    chosen = options(method, merge_min_overlap=threshold, merge_iou_threshold=threshold)
    is_one = len(merge([[], [first], [second]], chosen)) == 1
    assert may_join(first, second, chosen) == may_join(second, first, chosen)
    assert is_one <= may_join(first, second, chosen)
    if method != "wbf":
        assert is_one == may_join(first, second, chosen)


@pytest.mark.parametrize("method", METHODS)
def test_merging_nothing(method: str) -> None:
    assert merge([[]], options(method)) == ()
    assert merge([], options(method)) == ()
