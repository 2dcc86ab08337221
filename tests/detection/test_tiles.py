import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonymise.core.detections import Box, Size
from anonymise.core.wraparound import Frame
from anonymise.detection.tiles import Band, Downscale, Step, WindowOptions, grid, windows, wrapping_grid

sides = st.integers(1, 3000)
scales = st.floats(1, 12, allow_nan=False)


def options(**changed: object) -> WindowOptions:
    values = {
        "use_cutouts": True,
        "cutout_dim_downscale": ((4, 4),),
        "cutout_step_factor": (800, 800),
        "cutout_overlap": None,
        "cutout_band": None,
        "enlarged_regions_n": 1,
        "mirror_image": False,
    }
    return WindowOptions.model_validate(values | changed)


def uncovered_rows_and_columns(size: Size, boxes: tuple[Box, ...]) -> tuple[set[int], set[int]]:
    columns, rows = set(range(size.width)), set(range(size.height))
    for box in boxes:
        columns -= set(range(box.left, box.right))
        rows -= set(range(box.top, box.bottom))
    return rows, columns


@given(
    width=sides,
    height=sides,
    downscale=st.tuples(scales, scales),
    step=st.tuples(st.integers(40, 4000), st.integers(40, 4000)),
    overlap=st.none() | st.floats(0, 0.9),
)
def test_windows_cover_every_pixel(
    width: int, height: int, downscale: tuple[float, float], step: tuple[int, int], overlap: float | None
) -> None:
    size = Size(width, height)
    boxes = windows(size, options(cutout_dim_downscale=(downscale,), cutout_step_factor=step, cutout_overlap=overlap))
    assert all(b.left >= 0 and b.right <= width and b.top >= 0 and b.bottom <= height for b in boxes)
    # A grid is the product of its columns and its rows, so it covers every pixel if it covers every column and row ...
    lefts, tops = {b.left for b in boxes}, {b.top for b in boxes}
    assert {(b.left, b.top) for b in boxes} == {(left, top) for left in lefts for top in tops}
    assert len({(b.width, b.height) for b in boxes}) == 1
    # ... which it does.
    assert uncovered_rows_and_columns(size, boxes) == (set(), set())


def test_the_last_window_is_moved_back_to_the_edge() -> None:
    assert grid(Size(10, 4), Size(4, 4), Step(4, 4)) == (Box(0, 0, 4, 4), Box(4, 0, 8, 4), Box(6, 0, 10, 4))


def test_windows_slide_along_the_width_first() -> None:
    assert [(b.left, b.top) for b in grid(Size(4, 4), Size(2, 2), Step(2, 2))] == [(0, 0), (2, 0), (0, 2), (2, 2)]


def test_pairs_are_height_then_width_as_in_the_users_table() -> None:
    boxes = windows(Size(80, 40), options(cutout_dim_downscale=((4, 2),), cutout_step_factor=(10, 40)))
    assert boxes[0] == Box(0, 0, 40, 10)
    assert len(boxes) == 8


def test_a_step_longer_than_the_window_leaves_no_gap() -> None:
    boxes = windows(Size(100, 100), options(cutout_dim_downscale=((10, 10),), cutout_step_factor=(800, 800)))
    assert len(boxes) == 100


def test_an_overlap_of_a_quarter_gives_two_by_two_and_three_by_three() -> None:
    two_scales = options(cutout_dim_downscale=((1.75, 1.75), (2.5, 2.5)), cutout_overlap=0.25)
    for size in (Size(480, 360), Size(2692, 1032), Size(8192, 4096)):
        assert len(windows(size, two_scales)) == 4 + 9


def test_no_windows_unless_they_are_asked_for() -> None:
    assert windows(Size(100, 100), options(use_cutouts=False)) == ()


def test_a_one_pixel_image_has_one_window() -> None:
    assert windows(Size(1, 1), options()) == (Box(0, 0, 1, 1),)


@pytest.mark.parametrize(
    "wrong", [{"cutout_dim_downscale": ((0.5, 4),)}, {"cutout_step_factor": (0, 800)}, {"cutout_dim_downscale": ()}]
)
def test_windows_larger_than_the_image_and_steps_of_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="cutout_"):
        options(**wrong)


@given(width=sides, height=sides, n=st.integers(2, 9), wraps=st.booleans())
def test_enlarged_regions_cover_every_pixel_and_hardly_overlap(width: int, height: int, n: int, wraps: bool) -> None:
    boxes = windows(Size(width, height), options(use_cutouts=False, enlarged_regions_n=n), wraps=wraps)
    covered = np.zeros(2 * width, int)
    rows = np.zeros(height, int)
    for left, right in {(b.left, b.right) for b in boxes}:
        assert 0 <= left < width
        covered[left:right] += 1
    for top, bottom in {(b.top, b.bottom) for b in boxes}:
        rows[top:bottom] += 1
    columns = covered[:width] + covered[width:]
    assert columns.min() == rows.min() == 1
    assert np.count_nonzero(columns > 1) <= n**2
    assert np.count_nonzero(rows > 1) <= n**2
    if min(width, height) >= n**2:
        assert len(boxes) == n**2


def test_enlarged_regions_are_parts_side_by_side() -> None:
    chosen = options(use_cutouts=False, enlarged_regions_n=2)
    assert windows(Size(8, 4), chosen) == (Box(0, 0, 4, 2), Box(4, 0, 8, 2), Box(0, 2, 4, 4), Box(4, 2, 8, 4))
    # The seam of a 360° image lies in the middle of one.
    assert windows(Size(8, 4), chosen, wraps=True)[:2] == (Box(2, 0, 6, 2), Box(6, 0, 10, 2))


@pytest.mark.parametrize("n", [0, 1])
def test_without_enlarged_regions_there_are_none(n: int) -> None:
    assert windows(Size(8, 4), options(use_cutouts=False, enlarged_regions_n=n)) == ()


def test_enlarged_regions_come_besides_the_windows() -> None:
    both = windows(Size(80, 40), options(cutout_band=Band(0.5, 1.0), enlarged_regions_n=3))
    alone = windows(Size(80, 40), options(cutout_band=Band(0.5, 1.0)))
    assert both[: len(alone)] == alone
    assert len(both) == len(alone) + 9


def test_a_single_pair_is_one_scale() -> None:
    assert options(cutout_dim_downscale=[4, 2]).scales == (Downscale(4, 2),)


@given(
    width=sides,
    height=sides,
    downscale=st.tuples(scales, scales),
    overlap=st.none() | st.floats(0, 0.9),
    band=st.none() | st.tuples(st.floats(0, 0.5), st.floats(0.51, 1)),
)
def test_windows_around_cover_every_pixel_of_the_band_and_no_column_only_at_their_edge(
    width: int,
    height: int,
    downscale: tuple[float, float],
    overlap: float | None,
    band: tuple[float, float] | None,
) -> None:
    size = Size(width, height)
    chosen = options(cutout_dim_downscale=(downscale,), cutout_overlap=overlap, cutout_band=band)
    boxes = windows(size, chosen, wraps=True)
    assert all(0 <= b.left < width and b.width <= width and b.top >= 0 and b.bottom <= height for b in boxes)
    lefts, tops = {b.left for b in boxes}, {b.top for b in boxes}
    assert {(b.left, b.top) for b in boxes} == {(left, top) for left in lefts for top in tops}
    covered = np.zeros(2 * width, bool)
    rows = np.zeros(height, bool)
    for box in boxes:
        covered[box.left : box.right] = True
        rows[box.top : box.bottom] = True
    assert (covered[:width] | covered[width:]).all()
    top, bottom = (0, 1) if band is None else band
    assert rows[round(height * top) : round(height * bottom)].all()
    assert not rows[: int(height * top)].any()


def test_windows_around_are_evenly_spaced_and_cross_the_seam() -> None:
    boxes = wrapping_grid(Size(12, 4), Size(6, 4), Step(4, 4))
    assert boxes == (Box(0, 0, 6, 4), Box(4, 0, 10, 4), Box(8, 0, 14, 4))


def test_a_window_as_wide_as_the_image_needs_no_others() -> None:
    assert wrapping_grid(Size(12, 8), Size(12, 4), Step(4, 4)) == (Box(0, 0, 12, 4), Box(0, 4, 12, 8))


def test_a_crop_across_the_seam_goes_on_at_the_left() -> None:
    image = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)
    frame = Frame(Size(5, 2), wraps=True)
    assert np.array_equal(frame.read(image, Box(3, 0, 7, 2)), np.roll(image, 2, axis=1)[:, :4])
    assert frame.read(image, Box(1, 0, 5, 1)).base is not None  # no copy where none is needed


def test_a_band_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="less than the bottom"):
        options(cutout_band=Band(0.6, 0.6))
