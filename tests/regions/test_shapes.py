"""Corners in a frame of 8000×4000 as shapes of pictures; numbers are the specification's."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonymise.core.detections import Size
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
    shape, is_wide = shape_of(rectangle(7990, 100, 10, 200), FRAME, FRAME, wraps=True)
    assert (shape, is_wide) == ({"box": [7990, 100, 20, 100]}, True)


def test_a_polygon_is_the_convex_hull_whatever_the_order() -> None:
    shape, _ = shape_of([SLANTED[0], SLANTED[2], SLANTED[1], SLANTED[3]], FRAME, FRAME, wraps=True, is_polygon=True)
    assert sorted(map(tuple, shape["polygon"])) == sorted(SLANTED)


@given(st.floats(0, 7999), st.floats(1, 3999), st.floats(-20, 20), st.floats(-20, 20))
def test_turning_back_is_the_inverse_of_amsterdams_upright_panorama(
    x: float, y: float, roll: float, pitch: float
) -> None:
    """The stored direction, turned by the inverse of the documented matrix, is the direction of the upright pixel."""
    ((column, row),) = turned_back([(x, y)], FRAME, roll, pitch)

    def direction(x: float, y: float) -> np.ndarray:
        phi, theta = (x - 4000) * math.pi / 4000, y * math.pi / 4000
        return np.array([math.sin(theta) * math.cos(phi), math.sin(theta) * math.sin(phi), math.cos(theta)])

    r, p = math.radians(roll), math.radians(pitch)
    turn_roll = np.array([[1, 0, 0], [0, math.cos(r), -math.sin(r)], [0, math.sin(r), math.cos(r)]])
    turn_pitch = np.array([[math.cos(p), 0, math.sin(p)], [0, 1, 0], [-math.sin(p), 0, math.cos(p)]])
    back = turn_pitch.T @ turn_roll.T @ direction(column, row)
    assert np.allclose(back, direction(x, y), atol=1e-6)


def test_without_angles_nothing_moves_and_roll_moves_the_horizon_at_the_side() -> None:
    assert np.allclose(turned_back([(1234.5, 987.6)], FRAME, 0, 0), [(1234.5, 987.6)])
    ahead, side = turned_back([(4000, 2000), (6000, 2000)], FRAME, 10, 0)
    assert np.allclose(ahead, (4000, 2000))
    assert np.allclose(side, (6000, 2000 - 10 / 180 * 4000))


def test_a_rectified_region_is_a_polygon_of_short_pieces() -> None:
    shape, _ = shape_of(rectangle(6000, 1500, 6100, 1600), FRAME, FRAME, wraps=True, angles=(5.0, 3.0))
    points = np.array(shape["polygon"])
    assert len(points) >= 200
    assert np.abs(np.diff(points, axis=0)).max() < 8
    assert abs(points[:, 1].mean() - 1550) > 50  # the picture is turned by 5° there
