"""What survives in hidden objects, by the measures of ``benchmarks/strength.py`` (see ``docs/appearance.md``)."""

import numpy as np
import pytest

from anonymise.core.detections import Box
from anonymise.redaction.fills import MAX_CELLS, cells_across
from benchmarks.strength import APPEARANCES, SUBJECTS, detail, hide_with, identification, scene_of, weak_blur

pytestmark = pytest.mark.slow

MAX_IDENTIFIED = 0.25
"""Of 20 candidates. Pure chance is 0.05, and 0.1 for the best of the eight comparisons that are tried."""

MAX_DETAIL = 0.15
"""Correlation with the original in detail finer than a third of the object; chance is 0.1 for ten subjects."""

SIZES = (8, 32, 96)
NAMES = [name for name in APPEARANCES if name != "blur feather"]  # A feather is outside of the object.


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("name", NAMES)
def test_hidden_objects_cannot_be_told_apart_or_restored(name: str, subject: str, size: int) -> None:
    hide = hide_with(APPEARANCES[name])
    assert identification(SUBJECTS[subject], size, hide) <= MAX_IDENTIFIED
    assert detail(SUBJECTS[subject], size, hide) <= MAX_DETAIL


@pytest.mark.parametrize("name", ["blur", "mosaic", "inpaint"])
@pytest.mark.parametrize("subject", ["face", "plate"])
def test_nor_can_large_ones(name: str, subject: str) -> None:
    hide = hide_with(APPEARANCES[name])
    assert identification(SUBJECTS[subject], 800, hide, repeats=1) <= MAX_IDENTIFIED
    assert detail(SUBJECTS[subject], 800, hide, count=5) <= MAX_DETAIL


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_plain_gaussian_blur_does_not_pass(subject: str, size: int) -> None:
    # A fiftieth of the object: what the older program gives a car of 300 pixels in a road image at its default.
    hide = weak_blur(0.02)
    assert identification(SUBJECTS[subject], size, hide, repeats=2) > 0.9
    assert detail(SUBJECTS[subject], size, hide) > MAX_DETAIL


def test_a_strong_gaussian_blur_shows_no_detail_but_still_identifies() -> None:
    hide = weak_blur(0.1)
    assert detail(SUBJECTS["face"], 128, hide) <= MAX_DETAIL
    assert identification(SUBJECTS["face"], 128, hide) > MAX_IDENTIFIED


@pytest.mark.parametrize("length", [8, 9, 10, 31, 100, 800, 8000])
@pytest.mark.parametrize("blur", [None, 1, 15, 100])
def test_cells_scale_with_the_object(length: int, blur: int | None) -> None:
    for box in (
        Box(0, 0, length, max(1, length // 5)),
        Box(0, 0, max(1, length // 2), length),
        Box(0, 0, length, length),
    ):
        for width in (500, 10_000):
            across, down = cells_across(box, blur, width)
            assert 1 <= across <= MAX_CELLS
            assert 1 <= down <= MAX_CELLS
            # No side of a cell is shorter than a third of the object's longest, or than three pixels.
            shortest = min(box.width / across if across > 1 else length, box.height / down if down > 1 else length)
            assert shortest >= max(length / 3, 3) - 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_the_noise_of_two_equal_objects_differs(seed: int) -> None:
    image, box = scene_of(SUBJECTS["face"](seed, 60), seed)
    twice = np.concatenate([image, image], axis=1)
    hide = hide_with(APPEARANCES["blur"])
    left = hide(twice, box)[box.slices]
    moved = box.moved(image.shape[1], 0)
    right = hide(twice, moved)[moved.slices]
    assert (left != right).any()
    np.testing.assert_array_equal(hide(twice, box)[box.slices], left)
