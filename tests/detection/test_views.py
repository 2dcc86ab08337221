import math
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anonymise.core.detections import Box, Detections, Instance, Mask, RgbImage, Size, full_mask
from anonymise.core.projection import Projection
from anonymise.core.wraparound import Frame, split_at_seam
from anonymise.detection.gnomonic import View, render, to_sphere
from anonymise.detection.merging import MergeOptions
from anonymise.detection.tiles import WindowOptions
from anonymise.detection.views import ViewOptions, detect_around, views
from samples.scene import draw_panorama

SIZE = Size(512, 256)
SIDE = 60

directions = st.builds(
    View, yaw=st.floats(0, 6.28), pitch=st.floats(-math.pi / 2, math.pi / 2), fov=st.floats(0.3, 2)
) | st.builds(View, yaw=st.just(0.0), pitch=st.sampled_from([-math.pi / 2, 0, math.pi / 2]), fov=st.just(math.pi / 2))


def in_view(view: View, size: Size = SIZE, side: int = SIDE) -> tuple[np.ndarray, np.ndarray, Mask]:
    """Column and row in the view's picture of every pixel of an equirectangular image, and which are in front of it.

    By rotation matrices, unlike the module.
    """
    longitude = ((np.arange(size.width) + 0.5) / size.width - 0.5) * 2 * math.pi
    latitude = (0.5 - (np.arange(size.height) + 0.5) / size.height) * math.pi
    longitude, latitude = np.meshgrid(longitude, latitude)
    rays = np.stack([np.cos(latitude) * np.sin(longitude), np.sin(latitude), np.cos(latitude) * np.cos(longitude)])
    cos, sin = math.cos(view.yaw), math.sin(view.yaw)
    turn = np.array([(cos, 0, -sin), (0, 1, 0), (sin, 0, cos)])
    cos, sin = math.cos(view.pitch), math.sin(view.pitch)
    tilt = np.array([(1, 0, 0), (0, cos, -sin), (0, sin, cos)])
    x, y, z = np.einsum("ij,jhw->ihw", tilt @ turn, rays)
    with np.errstate(divide="ignore", invalid="ignore"):
        column = (x / z / math.tan(view.fov / 2) + 1) / 2 * side
        row = (1 - y / z / math.tan(view.fov / 2)) / 2 * side
    return column, row, z > 1e-9


def frame(instance: Instance, size: Size = SIZE) -> Mask:
    return Detections(size, split_at_seam([instance], size.width)).union()


@example(fov=60, overlap=0.1)
@example(fov=120, overlap=0.1)
@given(fov=st.floats(20, 120), overlap=st.floats(0.1, 0.5))
@settings(max_examples=60, deadline=None)
def test_views_cover_every_pixel(fov: float, overlap: float) -> None:
    size = Size(120, 60)
    covered = np.zeros((size.height, size.width), bool)
    for view in views(math.radians(fov), overlap):
        column, row, ahead = in_view(view, size)
        covered |= ahead & (column >= 0) & (column <= SIDE) & (row >= 0) & (row <= SIDE)
    assert covered.all()


def test_both_poles_are_in_the_middle_of_a_view() -> None:
    for fov in (30, 60, 90, 120):
        pitches = [view.pitch for view in views(math.radians(fov), 0.2)]
        assert pitches[0] == pytest.approx(math.pi / 2)
        assert pitches[-1] == pytest.approx(-math.pi / 2)


def test_views_become_fewer_towards_the_poles() -> None:
    pitches = [round(math.degrees(view.pitch)) for view in views(math.radians(45), 0.25)]
    counts = [pitches.count(pitch) for pitch in sorted(set(pitches))]
    assert counts == counts[::-1]
    assert counts[0] == 1
    assert max(counts) == counts[len(counts) // 2]


@given(directions, st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_a_picture_shows_what_is_in_its_direction(view: View, n_halved: int) -> None:
    """The image tells its own coordinates by its colours: as directions in space, which have no seam."""
    size = Size(1024, 512)
    longitude = ((np.arange(size.width) + 0.5) / size.width - 0.5) * 2 * math.pi
    latitude = (0.5 - (np.arange(size.height) + 0.5) / size.height) * math.pi
    longitude, latitude = np.meshgrid(longitude, latitude)
    rays = np.dstack([np.cos(latitude) * np.sin(longitude), np.sin(latitude), np.cos(latitude) * np.cos(longitude)])
    image = np.rint((rays + 1) * 127).astype(np.uint8)
    levels = [image]
    for _ in range(n_halved):
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    picture = render(levels, view, SIDE)
    seen = picture / 127 - 1
    column, row, ahead = in_view(view, size)
    inside = ahead & (column > 1) & (column < SIDE - 1) & (row > 1) & (row < SIDE - 1)
    picked = np.random.default_rng(0).choice(np.flatnonzero(inside), 50)
    shown = seen[row.flat[picked].astype(int), column.flat[picked].astype(int)]
    pixel = 2 * math.tan(view.fov / 2) / SIDE
    assert np.abs(shown - rays.reshape(-1, 3)[picked]).max() < pixel + 3 / 127


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    left, top = draw(st.integers(0, SIDE - 1)), draw(st.integers(0, SIDE - 1))
    return Box(left, top, draw(st.integers(left + 1, SIDE)), draw(st.integers(top + 1, SIDE)))


def assert_covers(instance: Instance, view: View) -> None:
    column, row, ahead = in_view(view)
    box = instance.box
    ahead &= (column >= box.left) & (column < box.right) & (row >= box.top) & (row < box.bottom)
    inside = ahead.copy()
    inside[ahead] = instance.mask[row[ahead].astype(int) - box.top, column[ahead].astype(int) - box.left]
    (found,) = to_sphere(instance, view, SIDE, SIZE)
    assert 0 <= found.box.left < SIZE.width
    assert found.box.width <= SIZE.width
    covered = frame(found)
    assert covered[inside].all()
    # Not much more: a pixel of the view, and one of the image.
    near = (column >= box.left - 2) & (column < box.right + 2) & (row >= box.top - 2) & (row < box.bottom + 2)
    near = cv2.dilate(np.pad(near.astype(np.uint8), ((0, 0), (3, 3)), mode="wrap"), np.ones((5, 5), np.uint8))[:, 3:-3]
    assert not (covered & ~near.astype(bool))[8:-8].any()


@given(directions, boxes())
@settings(max_examples=150, deadline=None)
def test_boxes_come_back_as_masks_that_cover_them(view: View, box: Box) -> None:
    assert_covers(Instance(3, 0.5, box, full_mask(box)), view)


@given(directions, boxes(), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_masks_come_back_as_masks_that_cover_them(view: View, box: Box, seed: int) -> None:
    blobs = cv2.GaussianBlur(np.random.default_rng(seed).random((box.height, box.width)), (0, 0), 3)
    mask = blobs >= np.median(blobs)
    assert_covers(Instance(1, 0.5, box, mask), view)


@st.composite
def parts(draw: st.DrawFn) -> tuple[Box, Projection]:
    """A part of the panorama of `SIZE`, which may lie across its seam, and where that is on the sphere."""
    width = draw(st.integers(20, SIZE.width - 10) | st.just(SIZE.width))
    height, left = draw(st.integers(20, SIZE.height)), draw(st.integers(0, SIZE.width - 1))
    top = draw(st.integers(0, SIZE.height - height))
    sphere = float(SIZE.width), float(SIZE.height)
    return Box(left, top, left + width, top + height), Projection(sphere, left, top, wraps=width == SIZE.width)


@given(directions, boxes(), parts())
@settings(max_examples=60, deadline=None)
def test_what_is_found_in_a_part_of_a_panorama_is_what_is_found_in_the_whole(
    view: View, box: Box, part: tuple[Box, Projection]
) -> None:
    where, projection = part
    instance = Instance(3, 0.5, box, full_mask(box))
    whole = Detections(SIZE, split_at_seam(to_sphere(instance, view, SIDE, SIZE), SIZE.width)).union()
    size = Size(where.width, where.height)
    found = to_sphere(instance, view, SIDE, size, projection)
    for one in found:
        assert one.mask.any()
    found = split_at_seam(found, size.width) if projection.wraps else found
    expected = Frame(SIZE, wraps=True).read(whole, where)
    # Corners of polygons are rounded to a sixteenth of a pixel from another origin.
    assert np.count_nonzero(Detections(size, found).union() != expected) <= 0.02 * np.count_nonzero(whole) + 4


@given(directions, parts())
@settings(max_examples=40, deadline=None)
def test_a_part_of_a_panorama_is_shown_where_it_is(view: View, part: tuple[Box, Projection]) -> None:
    where, projection = part
    panorama = np.random.default_rng(0).integers(0, 255, (SIZE.height, SIZE.width, 3), np.uint8)
    panorama = cv2.GaussianBlur(panorama, None, 2)
    whole = render([panorama], view, SIDE)
    found = render([np.ascontiguousarray(Frame(SIZE, wraps=True).read(panorama, where))], view, SIDE, projection)
    # The column and row of each pixel of the view, as in the whole panorama.
    right, up = np.meshgrid(*[((np.arange(SIDE) + 0.5) / SIDE * 2 - 1) * view.extent] * 2)
    cos, sin = math.cos(view.pitch), math.sin(view.pitch)
    ahead, high = cos + up * sin, sin - up * cos
    longitude, latitude = np.arctan2(right, ahead), np.arctan2(high, np.hypot(right, ahead))
    x = (((longitude + view.yaw) / (2 * math.pi) + 0.5) * SIZE.width - where.left) % SIZE.width
    y = (0.5 - latitude / math.pi) * SIZE.height - where.top
    inside = (x > 1) & (x < where.width - 1) & (y > 1) & (y < where.height - 1)
    # OpenCV rounds the places between pixels.
    assert abs(found[inside].astype(int) - whole[inside]).max(initial=0) <= 6


def test_only_views_that_see_something_of_the_image_are_looked_at() -> None:
    def shown(projection: Projection, size: Size) -> int:
        pictures: list[RgbImage] = []

        def detect(images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
            for image in images:
                pictures.append(image)
                yield ((),)

        options = ViewOptions(view_fov=(40.0,), view_overlap=0.2, view_side=32)
        picture = np.zeros((size.height, size.width, 3), np.uint8)
        detect_around(picture, detect, window_options(use=False), options, union_of(), projection)
        return len(pictures)

    sphere = (512.0, 256.0)
    n_views = len(views(math.radians(40), 0.2))
    assert shown(Projection(sphere, wraps=True), SIZE) == n_views
    assert shown(Projection(sphere, 0, 90, wraps=True), Size(512, 70)) < n_views / 1.4
    assert shown(Projection(sphere, 100, 90), Size(100, 70)) < n_views / 1.5


def test_a_mask_is_a_crop_and_the_seam_is_no_edge() -> None:
    view = View(math.pi, 0.0, math.radians(60))  # backwards, where the seam is
    box = Box(20, 20, 40, 40)
    (found,) = to_sphere(Instance(3, 0.5, box, full_mask(box)), view, SIDE, SIZE)
    assert found.box.left < SIZE.width < found.box.right
    assert found.box.width < 0.1 * SIZE.width
    assert [i.box.left for i in split_at_seam([found], SIZE.width)] == [found.box.left, 0]


@pytest.mark.parametrize("pitch", [math.pi / 2, -math.pi / 2, -1.2])
@pytest.mark.parametrize("edge", [29, 30, 31])
def test_an_object_over_a_pole_is_as_wide_as_the_image(pitch: float, edge: int) -> None:
    """Also with an edge that meets the pole exactly, which has no longitude."""
    box = Box(10, 5, edge + 20, 58)
    (found,) = to_sphere(Instance(1, 0.5, box, full_mask(box)), View(0.0, pitch, math.radians(90)), SIDE, SIZE)
    assert found.box.width == SIZE.width
    assert found.mask[0 if pitch > 0 else -1].all()
    touching = Box(10, 5, 30, 58)
    assert_covers(Instance(1, 0.5, touching, full_mask(touching)), View(0.0, pitch, math.radians(90)))


def red_objects(images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
    """A masker that finds what is red."""
    for image in images:
        red = (image[..., 0] > 128) & (image[..., 1] < 100)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(red.astype(np.uint8))
        parts = []
        for number, (left, top, width, height, _area) in enumerate(stats.tolist()[1:], start=1):
            box = Box(left, top, left + width, top + height)
            parts.append(Instance(1, 0.9, box, labels[box.slices] == number))
        yield (tuple(parts),)


def union_of(min_overlap: float = 0.0) -> MergeOptions:
    return MergeOptions(
        merging_method="union",
        merge_min_overlap=min_overlap,
        merge_iou_threshold=0.5,
        area_method="float",
        pre_merge_score_threshold=None,
        post_merge_score_threshold=None,
    )


def window_options(*, use: bool, band: tuple[float, float] | None = None) -> WindowOptions:
    return WindowOptions.model_validate(
        {
            "use_cutouts": use,
            "cutout_dim_downscale": ((2, 4), (3, 6)),
            "cutout_step_factor": (800, 800),
            "cutout_overlap": 0.25,
            "cutout_band": band,
            "enlarged_regions_n": 1,
            "mirror_image": False,
        }
    )


@pytest.mark.parametrize("use_windows", [True, False])
@pytest.mark.parametrize("fov", [(), (90.0, 60.0)])
def test_every_object_is_found_once_wherever_it_is(use_windows: bool, fov: tuple[float, ...]) -> None:
    size = Size(1024, 512)
    image = np.full((size.height, size.width, 3), 200, np.uint8)
    red = (220, 30, 30)
    for middle in ((0, 256), (1024, 256), (300, 200), (600, 330)):  # the first two are one, on the seam
        cv2.ellipse(image, middle, (30, 20), 0, 0, 360, red, -1)
    image[500:] = red  # over the nadir
    truth = (image[..., 0] > 210) & (image[..., 1] < 100)
    chosen = ViewOptions(view_fov=fov, view_overlap=0.25, view_side=256)
    found = detect_around(image, red_objects, window_options(use=use_windows), chosen, union_of())
    seam_apart = 1 if not use_windows and not fov else 0  # the full image alone has two halves
    assert len(found) == 4 + seam_apart
    covered = Detections(size, split_at_seam(found, size.width)).union()
    slack = 1 if fov else 0  # the edge of an object lies inside a pixel of a view
    assert np.count_nonzero(truth & ~covered) <= slack * 0.05 * truth.sum()
    assert not (covered & ~cv2.dilate(truth.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool))[:480].any()


def test_only_the_band_is_looked_at_through_windows() -> None:
    image = np.full((512, 1024, 3), 200, np.uint8)
    image[10:20, 500:520] = image[300:310, 500:520] = (220, 30, 30)
    nowhere_else = ViewOptions(view_fov=(), view_overlap=0.25, view_side=64)
    (one,) = detect_around(image, red_objects, window_options(use=True, band=(0.4, 0.8)), nowhere_else, union_of())
    assert one.box == Box(500, 300, 520, 310)


@pytest.mark.slow
def test_the_embedded_model_finds_the_car_behind_across_the_seam() -> None:
    from anonymise import config
    from anonymise.models import load_masker

    scene = draw_panorama(3, Size(4096, 2048))
    left_half = next(o.box for o in scene.objects if o.box.left == 0)
    right_half = next(o.box for o in scene.objects if o.box.right == 4096)
    masker = load_masker(config.load(overrides=["model_type=Lite"]).model, progress=False)
    chosen = ViewOptions(view_fov=(90, 55), view_overlap=0.2, view_side=300)
    found = detect_around(scene.image, masker.detect, window_options(use=False), chosen, union_of(0.5))
    on_seam = [i for i in found if i.box.right > 4096 and i.label == 3]
    assert len(on_seam) == 1
    covered = Detections(Size(4096, 2048), split_at_seam(on_seam, 4096)).union()
    for half in (left_half, right_half):
        assert covered[half.slices].mean() > 0.9


def test_pixels_of_the_views_and_of_the_image_are_about_the_same_size() -> None:
    """The picture of a view comes from a level that it neither magnifies nor skips pixels of."""
    random = np.random.default_rng(0).integers(0, 2, (1024, 2048, 1), np.uint8).repeat(3, axis=2) * 255
    levels = [random]
    for _ in range(4):
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    coarse = render(levels, View(0.5, 0.0, math.radians(90)), 64)
    fine = render(levels, View(0.5, 0.0, math.radians(10)), 64)
    # Noise averages out where many pixels become one: 8 × 8 of them, in the first, of which sampling leaves 4 × 4.
    assert coarse.std() < 127.5 / 4
    assert fine.std() > 127.5 / 4
