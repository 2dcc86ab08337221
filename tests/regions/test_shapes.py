"""Corners in a frame of 8000×4000 as shapes of pictures; numbers are the specification's."""

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anonymise.core.detections import Size
from anonymise.corrections.shapes import object_of
from anonymise.regions.shapes import shape_of, turned_back

FRAME = Size(8000, 4000)
SLANTED = [(7990, 130), (8010, 140), (8010, 230), (7990, 250)]


def box(corners: Sequence[tuple[float, float]], size: Size = FRAME, *, wraps: bool = True) -> list[int]:
    shape, _ = shape_of(corners, FRAME, size, wraps=wraps)
    found: list[int] = shape["box"]
    return found


def rectangle(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def test_over_the_seam_it_is_the_outer_box() -> None:
    """Acceptance 1."""
    assert box(SLANTED) == [7990, 130, 20, 120]


def test_it_is_scaled_outwards() -> None:
    """Acceptance 2: left 8181, right 8203, top 133, bottom 256."""
    assert box(SLANTED, Size(8192, 4096)) == [8181, 133, 22, 123]


def test_what_begins_before_the_left_edge_begins_at_the_right_one() -> None:
    """Acceptance 3."""
    left, _, width, _ = box(rectangle(-75, 100, 20, 200))
    assert (left, width) == (7925, 95)


def test_rows_below_the_picture_are_cut_off() -> None:
    """Acceptance 3."""
    _, top, _, height = box(rectangle(10, 3990, 20, 4020))
    assert (top, top + height) == (3990, 4000)


def test_a_flat_region_has_pixels() -> None:
    assert box(rectangle(100, 100, 130, 103))[2:] == [30, 3]
    assert box([(100, 100), (100, 100), (130, 100), (130, 100)])[2:] == [30, 1]


@pytest.mark.parametrize("corners", [rectangle(8100, 0, 8200, 10), rectangle(-20, 0, -10, 10)])
def test_outside_a_picture_that_does_not_wrap(corners: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="outside the picture"):
        box(corners, wraps=False)
    assert 0 <= box(corners)[0] < 8000


@pytest.mark.parametrize("corners", [rectangle(0, -20, 10, -1), rectangle(0, 4000, 10, 4100)])
def test_above_and_below_a_picture(corners: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="outside the picture"):
        box(corners)


def test_corners_on_both_sides_of_the_seam_take_the_shorter_way_round() -> None:
    shape, note = shape_of(rectangle(7990, 100, 10, 200), FRAME, FRAME, wraps=True)
    assert shape == {"box": [7990, 100, 20, 100]}
    assert "the shorter way round is taken" in note


@pytest.mark.parametrize(("left", "right"), [(0, 8000), (0, 7999), (10, 7990), (-75, 7990)])
def test_what_is_written_as_wide_is_hidden_all_around(left: int, right: int) -> None:
    """The car at the nadir goes all around; the shorter way would hide a pixel of it."""
    shape, note = shape_of(rectangle(left, 3800, right, 4000), FRAME, FRAME, wraps=True)
    assert shape == {"box": [0, 3800, 8000, 200]}
    assert "hidden all around" in note


def test_what_is_cut_off_although_the_picture_looks_like_a_panorama_is_told() -> None:
    _, note = shape_of(SLANTED, FRAME, FRAME, wraps=False)
    assert "projection" in note
    _, note = shape_of(SLANTED, FRAME, Size(8000, 6000), wraps=False)
    assert note == ""


def test_only_a_whole_panorama_is_turned() -> None:
    for size, wraps in ((FRAME, False), (Size(8000, 3000), True)):
        with pytest.raises(ValueError, match="not turned back: that needs a whole panorama"):
            shape_of(SLANTED, FRAME, size, wraps=wraps, angles=(1.0, 1.0))


SMALL = Size(400, 200)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(-50, 399), st.integers(0, 197), st.integers(2, 190), st.integers(2, 80),
    st.floats(-15, 15), st.floats(-15, 15),
)  # fmt: skip
@example(0, 190, 190, 10, 5.0, 3.0)  # of these four, each has a pole within
@example(100, 180, 190, 20, 5.0, 3.0)
@example(0, 190, 190, 10, 3.0, -8.0)
@example(30, 0, 180, 20, -10.0, 6.0)
def test_every_pixel_of_a_rectified_region_is_hidden(
    left: int, top: int, width: int, height: int, roll: float, pitch: float
) -> None:
    """Pixel by pixel: where the stored panorama shows what lies in the region of the upright one, also at the poles."""
    bottom = min(200, top + height)
    shape, _ = shape_of(rectangle(left, top, left + width, bottom), SMALL, SMALL, wraps=True, angles=(roll, pitch))
    found = object_of(json.dumps(shape), SMALL, SMALL, 1, "external", wraps=True)
    assert found is not None
    twice = np.zeros((200, 800), bool)
    twice[found.box.slices] = found.mask
    hidden = twice[:, :400] | twice[:, 400:]
    rows, columns = np.mgrid[0:200, 0:400] + 0.5
    phi, theta = (columns - 200) * math.pi / 200, rows * math.pi / 200
    stored = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])
    x, y, z = np.tensordot(_upright(roll, pitch), stored, 1)
    column, row = np.arctan2(y, x) / math.pi * 200 + 200, np.arccos(np.clip(z, -1, 1)) / math.pi * 200
    # By a tenth of a pixel more than its edge, which the drawn polygon follows to a sixteenth. In this small panorama a
    # pixel is a degree wide: near a pole one of them at a curved edge may lie outside.
    inside = ((column - left - 0.1) % 400 < width - 0.2) & (row >= top + 0.1) & (row < bottom - 0.1)
    assert np.count_nonzero(inside & ~hidden) <= 2


def _upright(roll: float, pitch: float) -> np.ndarray:
    """Stored direction → direction in the upright panorama: the inverse of the documented Rx(roll)·Ry(pitch)."""
    r, p = math.radians(roll), math.radians(pitch)
    turn_roll = np.array([[1, 0, 0], [0, math.cos(r), -math.sin(r)], [0, math.sin(r), math.cos(r)]])
    turn_pitch = np.array([[math.cos(p), 0, math.sin(p)], [0, 1, 0], [-math.sin(p), 0, math.cos(p)]])
    return np.asarray((turn_roll @ turn_pitch).T)


def test_a_polygon_is_the_convex_hull_whatever_the_order() -> None:
    shape, _ = shape_of([SLANTED[0], SLANTED[2], SLANTED[1], SLANTED[3]], FRAME, FRAME, wraps=True, is_polygon=True)
    assert sorted(map(tuple, shape["polygon"])) == sorted(SLANTED)


@given(st.floats(0, 7999), st.floats(1, 3999), st.floats(-20, 20), st.floats(-20, 20))
def test_turning_back_is_the_inverse_of_amsterdams_upright_panorama(
    x: float, y: float, roll: float, pitch: float
) -> None:
    """The stored direction, turned by the inverse of the documented matrix, is the direction of the upright pixel."""
    ((column, row),) = turned_back(np.array([(x, y)]), FRAME, roll, pitch)

    def direction(x: float, y: float) -> np.ndarray:
        phi, theta = (x - 4000) * math.pi / 4000, y * math.pi / 4000
        return np.array([math.sin(theta) * math.cos(phi), math.sin(theta) * math.sin(phi), math.cos(theta)])

    back = _upright(roll, pitch) @ direction(column, row)
    assert np.allclose(back, direction(x, y), atol=1e-6)


def test_without_angles_nothing_moves_and_roll_moves_the_horizon_at_the_side() -> None:
    assert np.allclose(turned_back(np.array([(1234.5, 987.6)]), FRAME, 0, 0), [(1234.5, 987.6)])
    ahead, side = turned_back(np.array([(4000, 2000), (6000, 2000)]), FRAME, 10, 0)
    assert np.allclose(ahead, (4000, 2000))
    assert np.allclose(side, (6000, 2000 - 10 / 180 * 4000))


def test_a_rectified_region_is_a_polygon_of_few_points() -> None:
    shape, _ = shape_of(rectangle(6000, 1500, 6100, 1600), FRAME, FRAME, wraps=True, angles=(5.0, 3.0))
    points = np.array(shape["polygon"])
    assert 4 <= len(points) < 40
    assert abs(points[:, 1].mean() - 1550) > 50  # the picture is turned by 5° there
