"""Numbers of viewers → pixels; shapes on the sphere, across the seam and at the poles. 8192×4096."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from anonymise.core.detections import Detections, Size
from anonymise.core.orientation import to_stored
from anonymise.core.projection import Projection
from anonymise.core.wraparound import split_at_seam
from anonymise.corrections.shapes import object_of, polygon_text
from anonymise.reports.angles import CONVENTIONS, Picture, Viewer, fitting, outline, places

SIZE = Size(8192, 4096)
PICTURE = Picture(SIZE, Projection((8192.0, 4096.0), wraps=True), heading=350.0)
FLAT = Picture(Size(200, 100))
BOX = [[0.45, 0.45], [0.55, 0.45], [0.55, 0.55], [0.45, 0.55]]


def square(yaw: float, pitch: float, half: float = 1.0) -> list[list[float]]:
    """A box on the sphere, degrees."""
    return [
        [yaw - half, pitch + half],
        [yaw + half, pitch + half],
        [yaw + half, pitch - half],
        [yaw - half, pitch - half],
    ]


def hidden(points: NDArray[np.float64], size: Size = SIZE) -> NDArray[np.bool_]:
    """Full-size mask of a polygon, which may go on beyond the left and right edge."""
    mask = np.zeros((size.height, 3 * size.width), np.uint8)
    cv2.fillPoly(mask, [np.rint((points + np.array((size.width - 0.5, -0.5))) * 16).astype(np.int32)], 1, shift=4)
    return np.asarray(mask.reshape(size.height, 3, size.width).any(axis=1))


@pytest.mark.parametrize(
    ("convention", "corner", "expected"),
    [
        ("scanvan", (math.pi, math.pi / 2), (4096.0, 2048.0)),
        ("scanvan", (6.233, 1.771), (8126.6, 2309.0)),
        ("centre", (3.0, 0.1), (8007.39, 1917.62)),
        ("scanvan", (6.14159, 1.47080), (8007.39, 1917.62)),
        ("pannellum", (20, -5), (4551.11, 2161.78)),
        ("compass", (100, 0), (6599.11, 2048.0)),
        ("uv", (0.25, 0.5), (2048, 2048)),
        ("pixels", (17.5, 3), (17.5, 3)),
        # Viewers that go on to a whole turn.
        ("centre", (3.0 + math.pi, 0.1), (3911.39, 1917.62)),
    ],
)
def test_conventions(convention: str, corner: tuple[float, float], expected: tuple[float, float]) -> None:
    """Acceptance 1 to 3."""
    tolerance = 0.05 if expected == (8126.6, 2309.0) else 0.01
    assert Viewer(convention).pixel(corner, PICTURE) == pytest.approx(expected, abs=tolerance)


def test_the_same_place_in_two_conventions() -> None:
    """Acceptance 2."""
    first = Viewer("centre").pixel((3.0, 0.1), PICTURE)
    assert Viewer("scanvan").pixel((6.14159, 1.47080), PICTURE) == pytest.approx(first, abs=0.01)


def test_a_box_on_a_screen_that_looks_ahead() -> None:
    """Acceptance 4."""
    view = {"yaw": 0, "pitch": 0, "fov": 90}
    corners = places(BOX, Viewer("pannellum"), PICTURE, view) - (4096, 2048)
    expected = [(-129.95, -129.31), (129.95, -129.31), (129.95, 129.31), (-129.95, 129.31)]
    assert corners == pytest.approx(np.array(expected), abs=0.01)


def test_a_box_on_a_screen_across_the_seam() -> None:
    """Acceptance 5."""
    view = {"yaw": math.radians(179), "pitch": math.radians(-30), "fov": math.pi / 2}
    corners = places(BOX, Viewer("centre"), PICTURE, view)
    corners[corners[:, 0] < 4096, 0] += 8192
    expected = [(8027.5, 2597.8), (8311.0, 2597.8), (8328.2, 2856.0), (8010.3, 2856.0)]
    assert corners == pytest.approx(np.array(expected), abs=0.1)
    points, share = outline(BOX, Viewer("centre"), PICTURE, view)
    mask = hidden(points)
    assert mask[2700, 8191]
    assert mask[2700, 0]
    assert mask[2700, [8192 - 150, 120]].all()
    assert not mask[:, 1000:7000].any()
    assert 0 < mask.mean() < 0.01
    assert share < 0.01


def test_the_screen_may_have_any_shape() -> None:
    wide = {"yaw": 0, "pitch": 0, "fov": 90, "aspect": 2}
    by_fov = {"yaw": 0, "pitch": 0, "fov": 90, "fov_v": math.degrees(2 * math.atan(0.5))}
    corners = places(BOX, Viewer("pannellum"), PICTURE, wide)
    assert corners == pytest.approx(places(BOX, Viewer("pannellum"), PICTURE, by_fov))
    # Half as far up as on a square screen: tan(pitch) = 0.05 · cos(yaw), tan(yaw) = 0.1.
    pitch = math.atan(0.05 * math.cos(math.atan(0.1)))
    assert corners[0, 1] == pytest.approx(2048 - pitch / math.pi * 4096)


def test_edges_of_a_screen_are_curves() -> None:
    """A line that is straight on a screen far above the horizon leaves the straight line in the picture."""
    view = {"yaw": 0, "pitch": 60, "fov": 90}
    wide = [[0.1, 0.5], [0.9, 0.5], [0.9, 0.55], [0.1, 0.55]]
    points, _ = outline(wide, Viewer("pannellum"), PICTURE, view)
    corners = places(wide, Viewer("pannellum"), PICTURE, view)
    highest, ends = points[:, 1].min(), corners[:2, 1].mean()
    assert highest < (30 / 180) * 4096  # the middle of the screen is at 60°, the corners are lower
    assert ends - highest > 200
    assert hidden(points)[int(30 / 180 * 4096), 4096]


@pytest.mark.parametrize("pitch", [0, 45, -80, 88])
def test_the_margin_is_the_same_everywhere_on_the_sphere(pitch: float) -> None:
    corners = square(0, pitch)
    points, _ = outline(corners, Viewer("pannellum"), PICTURE)
    sent = places(corners, Viewer("pannellum"), PICTURE)
    latitude = math.radians(abs(pitch) - 1)
    at_edge = math.radians(0.3) / math.cos(latitude) / (2 * math.pi) * 8192 if abs(pitch) < 85 else 0
    assert sent[:, 0].min() - points[:, 0].min() >= 0.95 * at_edge
    assert points[:, 1].max() - sent[:, 1].max() == pytest.approx(0.3 / 180 * 4096, abs=1.5)


def test_the_margin_is_at_least_four_pixels() -> None:
    small = Picture(Size(1024, 512), Projection((1024.0, 512.0), wraps=True))
    points, _ = outline(square(0, 0), Viewer("pannellum"), small)
    assert points[:, 0].max() - (512 + 1024 / 360) == pytest.approx(4, abs=0.2)
    flat, share = outline([[50, 40], [60, 40], [60, 50], [50, 50]], Viewer("pixels"), FLAT)
    assert (flat.min(axis=0).tolist(), flat.max(axis=0).tolist()) == ([46, 36], [64, 54])
    assert share == pytest.approx((18 * 18 - (4 - math.pi) * 16) / 20000, rel=0.01)


def test_a_point_is_a_circle_on_the_sphere() -> None:
    for pitch in (0.0, 70.0):
        points, share = outline([[0, pitch]], Viewer("pannellum"), PICTURE)
        assert share == pytest.approx((1 - math.cos(math.radians(2.3))) / 2, rel=0.02)
        assert (points[:, 1].max() - points[:, 1].min()) / 4096 * 180 == pytest.approx(4.6, rel=0.02)
    wide = outline([[0, 0]], Viewer("pannellum"), PICTURE, radius=5)[1]
    assert wide == pytest.approx((1 - math.cos(math.radians(5.3))) / 2, rel=0.03)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_shape_around_a_pole(sign: int) -> None:
    corners = [[yaw, sign * 80] for yaw in (10, 100, 190, 280)]
    points, share = outline(corners, Viewer("pannellum"), PICTURE)
    mask = hidden(points)
    rows = np.flatnonzero(mask.all(axis=1))
    pole = 0 if sign > 0 else 4095
    assert pole in rows
    assert len(rows) == pytest.approx(10.3 / 180 * 4096, abs=3)
    assert not mask[2048].any()
    assert share == pytest.approx((1 - math.cos(math.radians(10.3))) / 2, rel=0.03)


def test_a_point_at_the_nadir_and_next_to_it() -> None:
    for pitch in (-90, -89):
        points, share = outline([[37, pitch]], Viewer("pannellum"), PICTURE)
        assert hidden(points)[-1].all()
        assert share == pytest.approx((1 - math.cos(math.radians(2.3))) / 2, rel=0.03)


def test_corners_across_the_seam_are_joined_the_short_way() -> None:
    for yaw in (180, -180, 179.7):
        points, share = (
            outline(square(180, 10), Viewer("pannellum"), PICTURE)
            if yaw == 180
            else outline([[179, 11], [-179, 11], [-179, 9], [179, 9]], Viewer("pannellum"), PICTURE)
        )
        mask = hidden(points)
        assert mask[1820, [0, 8191]].all()
        assert mask.mean() < 0.001
        assert share < 0.001


def test_corners_clicked_in_any_order_hide_both_halves() -> None:
    crossed = [[-1, 1], [1, -1], [1, 1], [-1, -1]]
    mask = hidden(outline(crossed, Viewer("pannellum"), PICTURE)[0])
    assert mask[2048, [4096 - 20, 4096, 4096 + 20]].all()


def test_a_part_of_a_panorama() -> None:
    part = Picture(Size(2000, 1000), Projection((8192.0, 4096.0), left=3000, top=1500))
    points, _ = outline(square(0, 0), Viewer("pannellum"), part)
    assert points.mean(axis=0) == pytest.approx((1096, 548), abs=1)
    left = replace(part, projection=Projection((8192.0, 4096.0), left=7000, top=1500))
    points, _ = outline(square(170, 0), Viewer("pannellum"), left)
    assert points[:, 0].mean() == pytest.approx(4096 + 170 / 360 * 8192 - 7000, abs=1)
    with pytest.raises(ValueError, match="outside of the picture"):
        outline(square(180, 0), Viewer("pannellum"), part)
    with pytest.raises(ValueError, match="outside of the picture"):
        outline(square(0, 60), Viewer("pannellum"), part)
    assert Viewer("uv").pixel((0.5, 0.5), part) == (1000, 500)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_that_are_stored_on_their_side(orientation: int) -> None:
    picture = replace(FLAT, orientation=orientation)
    corners = [[0.1, 0.2], [0.4, 0.2], [0.4, 0.4], [0.1, 0.4]]
    upright = hidden(outline(corners, Viewer("uv"), FLAT)[0], FLAT.size)
    stored = to_stored(upright, orientation)
    found = hidden(outline(corners, Viewer("uv"), picture)[0], Size(stored.shape[1], stored.shape[0]))
    assert np.count_nonzero(found != stored) < 0.1 * stored.sum()  # lines on the borders of pixels


@pytest.mark.parametrize(
    ("corners", "convention", "picture", "problem"),
    [
        ([[200, 0], [1, 0], [1, 1]], "centre", PICTURE, "200 is out of its range"),
        ([[1, 2], [1, 0], [1, 1]], "centre", PICTURE, "is the convention right"),
        ([[1, -0.1]], "scanvan", PICTURE, "out of its range"),
        ([[1, 1.00001]], "uv", PICTURE, "out of its range"),
        ([[float("nan"), 0]], "centre", PICTURE, "no number"),
        ([["1", 0]], "centre", PICTURE, "no number"),
        ([[10**400, 0]], "centre", PICTURE, "no number"),
        ([[None, 0]], "centre", PICTURE, "no number"),
        ([[True, 0]], "centre", PICTURE, "no number"),
        ([[1]], "centre", PICTURE, "two numbers"),
        (["12"], "centre", PICTURE, "two numbers"),
        ([], "centre", PICTURE, "3 to 100"),
        ([[0, 0], [0, 1]], "centre", PICTURE, "3 to 100"),
        ([[0, 0]] * 101, "centre", PICTURE, "3 to 100"),
        ([[0, 0], [0, 1], [0, 0.5]], "centre", PICTURE, "no area"),
        ([[-1.5, 0], [1.5, 0], [3, 0]], "centre", PICTURE, "too large"),
        ([[0, 0]], "mapillary", PICTURE, "one of centre"),
        ([[0, 0], [0, 1], [1, 1]], "centre", FLAT, "flat picture"),
        ([[0.5, 0.5]], "uv", FLAT, "no size"),
        ([[0, 0]], "compass", replace(PICTURE, heading=None), "PoseHeadingDegrees"),
    ],
)
def test_what_makes_no_sense(corners: list[list[object]], convention: str, picture: Picture, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        outline(corners, Viewer(convention), picture)


@pytest.mark.parametrize(
    "view",
    [{}, {"yaw": 0, "pitch": 0}, {"yaw": 0, "pitch": 0, "fov": 180}, {"yaw": 0, "pitch": 0, "fov": 90, "aspect": 0}, 3],
)
def test_views_that_make_no_sense(view: object) -> None:
    with pytest.raises(ValueError, match="view"):
        places(BOX, Viewer("pannellum"), PICTURE, view)  # type: ignore[arg-type]


@pytest.mark.parametrize("picture", [PICTURE, FLAT])
@pytest.mark.parametrize("convention", ["uv", "pixels"])
def test_views_are_of_angles(convention: str, picture: Picture) -> None:
    with pytest.raises(ValueError, match="convention of angles"):
        outline(BOX, Viewer(convention), picture, {"yaw": 0, "pitch": 0, "fov": 90})


_DIRECTIONS = st.tuples(st.floats(-180, 180), st.floats(-90, 90))


def drawn(points: NDArray[np.float64], size: Size) -> NDArray[np.bool_]:
    """What a run hides of a polygon in a 360° picture."""
    found = object_of(polygon_text(points.tolist()), size, size, 1, "report", wraps=True)
    assert found is not None
    return Detections(size, split_at_seam([found], size.width)).union()


def angle_to(middle: tuple[float, float], size: Size) -> NDArray[np.float64]:
    """Degrees on the sphere from a direction to the middle of each pixel."""
    yaw = (np.arange(size.width) + 0.5) / size.width * 2 * math.pi - math.pi - math.radians(middle[0])
    pitch = math.pi / 2 - (np.arange(size.height)[:, None] + 0.5) / size.height * math.pi
    own = math.radians(middle[1])
    cosine = np.sin(pitch) * math.sin(own) + np.cos(pitch) * math.cos(own) * np.cos(yaw)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


SMALL = Picture(Size(720, 360), Projection((720.0, 360.0), wraps=True))


@settings(max_examples=60)
@given(_DIRECTIONS, st.floats(1, 25))
def test_all_around_a_point_is_hidden_and_nothing_far_from_it(middle: tuple[float, float], radius: float) -> None:
    """Anywhere on the sphere, also at the seam and the poles. The margin is 4 pixels of half a degree."""
    points, _ = outline([middle], Viewer("pannellum"), SMALL, radius=radius)
    mask, away = drawn(points, SMALL.size), angle_to(middle, SMALL.size)
    assert mask[away <= radius + 1.5].all()
    assert not mask[away > (radius + 2) * 1.3 + 1.5].any()


@settings(max_examples=60)
@given(_DIRECTIONS, st.lists(st.tuples(st.floats(0, 360), st.floats(2, 25)), min_size=4, max_size=8))
def test_all_inside_of_corners_is_hidden(middle: tuple[float, float], rays: list[tuple[float, float]]) -> None:
    """A triangle of neighbouring corners and the middle of a star is inside of it, wherever the star is."""
    star = sorted(rays)
    turns = [turn for turn, _ in star]
    assume(max(b - a for a, b in zip(turns, [*turns[1:], turns[0] + 360], strict=True)) < 150)  # the middle is inside
    yaw, pitch = map(math.radians, middle)
    ahead = np.array([math.cos(pitch) * math.sin(yaw), math.sin(pitch), math.cos(pitch) * math.cos(yaw)])
    right = np.array([math.cos(yaw), 0, -math.sin(yaw)])
    up = np.cross(ahead, right)

    def direction(turn: float, away: float) -> list[float]:
        side = math.cos(math.radians(turn)) * right + math.sin(math.radians(turn)) * up
        x, y, z = math.cos(math.radians(away)) * ahead + math.sin(math.radians(away)) * side
        return [math.degrees(math.atan2(x, z)), math.degrees(math.asin(max(-1, min(1, y))))]

    points, _ = outline([direction(*ray) for ray in star], Viewer("pannellum"), SMALL)
    mask = drawn(points, SMALL.size)
    for turn, away in star:
        for part in (0.0, 0.5, 1.0):
            x, y = Viewer("pannellum").pixel(direction(turn, away * part), SMALL)
            assert mask[min(359, int(y)), int(x) % 720]


@pytest.mark.parametrize("name", sorted(set(CONVENTIONS)))
@pytest.mark.parametrize("sign", [1, -1])
def test_calibration_finds_the_convention(name: str, sign: int) -> None:
    viewer = Viewer(name, 0.0, sign)
    numbers = {
        "centre": [(0.3, 0.2), (-1.0, -0.4), (2.0, 0.9)],
        "pannellum": [(20.0, -5.0), (100.0, 30.0), (-30.0, 1.0)],
        "compass": [(20.0, -5.0), (100.0, 30.0), (300.0, 1.0)],
        "scanvan": [(0.3, 0.2), (4.0, 1.4), (6.0, 2.9)],
        "uv": [(0.1, 0.2), (0.9, 0.5), (0.5, 0.7)],
        "pixels": [(100.0, 2000.0), (900.0, 700.0), (5000.0, 1000.0)],
    }[name]
    known = [(*viewer.pixel(corner, PICTURE), *corner) for corner in numbers]
    assert next(fitting(known, PICTURE)).convention == name
    off = [(x + 1.5, y, *corner) for x, y, *corner in known]
    assert next(fitting(off, PICTURE)).yaw_offset == 0  # type: ignore[arg-type]
    wrong = [(x, y + 40 * n, *corner) for n, (x, y, *corner) in enumerate(known)]
    assert not list(fitting(wrong, PICTURE))  # type: ignore[arg-type]


def test_calibration_finds_an_offset() -> None:
    turned = Viewer("pannellum", 12.5, -1)
    known = [(*turned.pixel(corner, PICTURE), *corner) for corner in [(20.0, -5.0), (100.0, 30.0), (-30.0, 1.0)]]
    assert next(fitting(known, PICTURE)) == turned
