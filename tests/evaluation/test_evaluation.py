"""Measures on examples that can be worked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anonymise.core.detections import Box, Size
from anonymise.core.errors import ImageError
from anonymise.evaluation.evaluation import Evaluation, evaluate
from anonymise.evaluation.intervals import newcombe, wilson
from anonymise.evaluation.tally import tally
from anonymise.evaluation.truth import Found, Truth
from samples.scene import PERSON
from tests.evaluation.scenes import CAR, found_in, options, truth_of

SIZE = Size(100, 50)  # 5000 pixels: small below 50, large from 500 on
OPTIONS = options(size_groups=[0.01, 0.1], thresholds=[0.2, 0.4, 0.6, 0.8], missed_share=0.5, min_group=2)


@pytest.fixture(scope="module")
def example() -> Evaluation:
    """Three images.

    1: a person of 40 px, wholly hidden; one of 100 px, of which 45 are hidden; a car of 1000 px, of which 900 are.
    2: nothing annotated, 200 px hidden, 50 of them in a void of 100.
    3: a person of 100 px, nothing hidden.
    """
    first = truth_of(
        "1",
        SIZE,
        [
            ("pedestrian", Box(0, 0, 4, 10), {"sex": "f"}),
            ("pedestrian", Box(10, 0, 20, 10), {"sex": "m"}),
            ("car", Box(40, 10, 90, 30), {}),
        ],
    )
    in_first = found_in(
        SIZE, (PERSON, 0.9, Box(0, 0, 4, 10)), (PERSON, 0.5, Box(15, 0, 20, 9)), (CAR, 0.7, Box(40, 10, 90, 28))
    )
    second = truth_of("2", SIZE, [], void=Box(0, 0, 10, 10))
    in_second = found_in(SIZE, (CAR, 0.3, Box(5, 0, 25, 10)))
    third = truth_of("3", SIZE, [("pedestrian", Box(0, 0, 10, 10), {"sex": "f"})])
    pairs = [
        (truth, Found.of(found, OPTIONS.evaluation_thresholds))
        for truth, found in ((first, in_first), (second, in_second), (third, found_in(SIZE)))
    ]
    return evaluate(pairs, OPTIONS)


def counted(evaluation: Evaluation, measure: str, category: str = "all", group: str = "all") -> tuple[int, int]:
    row = evaluation.row(measure, category, group)
    return row.hit, row.total


def test_images_are_counted_with_and_without_annotation_and_detection(example: Evaluation) -> None:
    assert len(example.images) == 3
    assert example.n_objects == 4
    assert example.n_without_annotation == 1
    assert example.n_without_detection == 1
    assert [image.n_found for image in example.images] == [3, 1, 0]
    assert example.categories == ("car", "pedestrian")


def test_covered_pixels(example: Evaluation) -> None:
    assert counted(example, "pixel_recall") == (40 + 45 + 900, 1240)
    assert counted(example, "pixel_recall", "car") == (900, 1000)
    assert counted(example, "pixel_recall", "pedestrian") == (85, 240)
    assert counted(example, "pixel_recall", "pedestrian", "small") == (40, 40)
    assert counted(example, "pixel_recall", "pedestrian", "medium") == (45, 200)
    assert counted(example, "pixel_recall", "pedestrian", "large") == (0, 0)
    assert counted(example, "pixel_recall", "all", "large") == (900, 1000)


def test_over_blur_counts_images_without_annotation_and_leaves_the_void_out(example: Evaluation) -> None:
    background = (5000 - 1140) + (5000 - 100) + (5000 - 100)
    assert counted(example, "over_blur") == (150, background)


def test_covered_and_missed_objects(example: Evaluation) -> None:
    assert counted(example, "covered_objects") == (2, 4)  # the small person; the car with exactly 0.9
    assert counted(example, "missed_objects") == (2, 4)  # 0.45 and 0
    assert counted(example, "covered_objects", "car", "large") == (1, 1)
    assert counted(example, "missed_objects", "pedestrian", "medium") == (2, 2)
    assert counted(example, "missed_objects", "pedestrian", "small") == (0, 1)


def test_objects_that_are_all_alike_are_not_said_to_be_certain(example: Evaluation) -> None:
    row = example.row("missed_objects", "pedestrian", "medium")
    assert (row.low, row.high) == wilson(2, 2, 0.95)


def test_rates_by_attribute_and_the_largest_gap(example: Evaluation) -> None:
    rows = {row.value: row for row in example.of_measure("false_negative_rate")}
    assert {(row.category, row.attribute) for row in rows.values()} == {("pedestrian", "sex")}
    assert (rows["f"].hit, rows["f"].total, rows["m"].hit, rows["m"].total) == (1, 2, 1, 1)
    assert (rows["f"].low, rows["f"].high) == wilson(1, 2, 0.95)
    assert example.gaps == ()  # the only other group has fewer than two objects


def people(counts: dict[str, tuple[int, int]]) -> Evaluation:
    """An image for each person: group → (missed, all)."""
    box = Box(0, 0, 10, 10)
    pairs = [
        (
            truth_of(f"{group}{n}", SIZE, [("person", box, {"age": group})]),
            Found.of(found_in(SIZE, *([] if n < missed else [(PERSON, 0.9, box)]))),
        )
        for group, (missed, total) in counts.items()
        for n in range(total)
    ]
    return evaluate(pairs, OPTIONS, precision=False)


def test_the_largest_gap_is_between_the_extremes_and_allows_for_their_choice() -> None:
    (gap,) = people({"young": (1, 10), "old": (6, 10), "adult": (3, 12), "unknown": (1, 1)}).gaps
    assert (gap.most, gap.least) == ("old", "young")
    assert gap.difference == pytest.approx(0.5)
    assert gap.interval == newcombe((6, 10), (1, 10), 1 - 0.05 / 3)


def test_groups_without_any_difference_have_a_gap_of_zero() -> None:
    (gap,) = people({"young": (2, 10), "old": (2, 10)}).gaps
    assert gap.difference == 0
    assert gap.interval.low < 0 < gap.interval.high


def test_a_number_of_its_own_for_each_object_is_no_group() -> None:
    evaluation = people({str(n): (0, 1) for n in range(31)})
    assert evaluation.skipped_attributes == (("person", "age"),)
    assert evaluation.of_measure("false_negative_rate") == ()


def test_curves_over_the_threshold(example: Evaluation) -> None:
    recall = {row.threshold: row.hit for row in example.of_measure("curve_recall") if row.category == "all"}
    assert recall == {0.2: 985, 0.4: 985, 0.6: 940, 0.8: 40}
    over_blur = {row.threshold: row.hit for row in example.of_measure("curve_over_blur")}
    assert over_blur == {0.2: 150, 0.4: 0, 0.6: 0, 0.8: 0}
    wanted = {found.category: found for found in example.threshold_for(0.7)}
    assert wanted["all"].threshold == 0.6
    assert wanted["car"].threshold == 0.6
    assert wanted["pedestrian"].threshold is None
    assert wanted["pedestrian"].reached == 85 / 240


def test_thresholds_below_all_that_was_found_tell_nothing_and_are_left_out() -> None:
    truth = truth_of("1", SIZE, [("car", Box(0, 0, 10, 10), {})])
    found = Found.of(found_in(SIZE, (CAR, 0.5, Box(0, 0, 10, 10))), OPTIONS.evaluation_thresholds)
    thresholds = [row.threshold for row in evaluate([(truth, found)], OPTIONS).of_measure("curve_over_blur")]
    assert thresholds == [0.4, 0.6, 0.8]


def test_masks_alone_have_no_curves_and_no_precision() -> None:
    truth = truth_of("1", SIZE, [("car", Box(0, 0, 10, 10), {})])
    evaluation = evaluate([(truth, Found(np.ones((50, 100), np.bool_)))], OPTIONS)
    assert counted(evaluation, "pixel_recall") == (100, 100)
    assert evaluation.precision == ()
    assert evaluation.of_measure("curve_recall") == ()
    assert evaluation.threshold_for(0.9) == ()
    assert evaluation.images[0].n_found is None


def test_the_worst_misses_come_first(example: Evaluation) -> None:
    assert [(miss.name, miss.share) for miss in example.misses] == [("3", 0.0), ("1", 0.45)]


def test_sizes_that_differ_are_an_error_of_the_image() -> None:
    with pytest.raises(ImageError, match=r"100×50 pixels.* 50×100"):
        tally(truth_of("1", SIZE, []), Found(np.zeros((100, 50), np.bool_)), OPTIONS)


def test_what_was_not_measured_is_a_key_error(example: Evaluation) -> None:
    with pytest.raises(KeyError):
        example.row("pixel_recall", "bus")


_boxes = st.builds(
    lambda x, y, w, h: Box(x, y, x + w, y + h),
    st.integers(0, 80),
    st.integers(0, 40),
    st.integers(1, 20),
    st.integers(1, 10),
)


@settings(max_examples=40)
@given(
    st.lists(_boxes, max_size=4),
    st.lists(st.tuples(_boxes, st.floats(0.01, 0.99)), max_size=6),
    st.sampled_from(OPTIONS.evaluation_thresholds),
)
def test_a_threshold_of_the_curve_is_as_that_threshold_for_all(
    things: list[Box], found: list[tuple[Box, float]], threshold: float
) -> None:
    truth: Truth = truth_of("1", SIZE, [("car", box, {}) for box in things])
    everything = [(CAR, score, box) for box, score in found]
    whole = tally(truth, Found.of(found_in(SIZE, *everything), OPTIONS.evaluation_thresholds), OPTIONS)
    some = tally(truth, Found.of(found_in(SIZE, *(f for f in everything if f[1] >= threshold))), OPTIONS)
    position = OPTIONS.evaluation_thresholds.index(threshold)
    assert whole.curves is not None
    assert whole.background_curve is not None
    assert whole.curves["all"][position] == some.regions["all"].hit
    assert whole.background_curve[position] == some.background.hit
