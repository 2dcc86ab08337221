import itertools
import tracemalloc
from collections.abc import Mapping
from typing import get_args

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from anonymise.core.detections import Box, Detections, Instance, RgbImage, Size, full_mask
from anonymise.core.errors import DrawError
from anonymise.detection.outlines import ellipse_around, superellipse
from anonymise.redaction import (
    Appearance,
    Center,
    Layer,
    StaticMaskOptions,
    draw,
    preview,
    static_mask,
)
from anonymise.redaction.appearance import Kind

KINDS = get_args(Kind)


def look(**changes: object) -> Appearance:
    plain: dict[str, object] = {
        "draw_mask": True,
        "appearance": "blur",
        "mask_color": None,
        "mask_colors": {},
        "blur": 15,
        "gray_blur": False,
        "normalized_gray_blur": False,
        "feather": 0,
        "inpaint_radius": 16,
    }
    return Appearance.model_validate(plain | changes)


def noise(width: int, height: int, seed: int = 0) -> RgbImage:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def ellipse(box: Box, label: int = 1) -> Instance:
    mask = np.zeros((box.height, box.width), np.uint8)
    cv2.ellipse(mask, (box.width // 2, box.height // 2), (box.width // 2, box.height // 2), 0, 0, 360, 1, -1)
    return Instance(label, 0.9, box, mask.astype(bool))


def filled(box: Box, label: int = 1) -> Instance:
    return Instance(label, 0.9, box, full_mask(box))


def found(image: RgbImage, *instances: Instance) -> Detections:
    return Detections(Size(image.shape[1], image.shape[0]), instances)


@st.composite
def crowds(draw_: st.DrawFn) -> tuple[RgbImage, Detections]:
    width, height = draw_(st.integers(1, 90)), draw_(st.integers(1, 60))
    instances = []
    for _ in range(draw_(st.integers(0, 6))):
        left, top = draw_(st.integers(0, width - 1)), draw_(st.integers(0, height - 1))
        box = Box(left, top, draw_(st.integers(left + 1, width)), draw_(st.integers(top + 1, height)))
        mask = full_mask(box)
        if draw_(st.booleans()):
            mask = np.random.default_rng(draw_(st.integers(0, 99))).random((box.height, box.width)) < 0.7
        instances.append(Instance(draw_(st.sampled_from((1, 3, 8))), 0.5, box, mask))
    image = noise(width, height, draw_(st.integers(0, 99)))
    return image, found(image, *instances)


@pytest.mark.parametrize("kind", KINDS)
@given(crowd=crowds(), wraps=st.booleans(), data=st.data())
@settings(deadline=None, max_examples=30)
def test_masks_alone_are_drawn_in_any_order(
    kind: str, crowd: tuple[RgbImage, Detections], wraps: bool, data: st.DataObject
) -> None:
    image, detections = crowd
    before = image.copy()
    drawn = draw(image, detections, look(appearance=kind), wraps=wraps)
    assert drawn.image.shape == image.shape
    assert drawn.image.dtype == np.uint8
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(drawn.changed, detections.union())
    np.testing.assert_array_equal(drawn.image[~drawn.changed], before[~drawn.changed])
    shuffled = Detections(detections.size, tuple(data.draw(st.permutations(detections.instances))))
    np.testing.assert_array_equal(draw(image, shuffled, look(appearance=kind), wraps=wraps).image, drawn.image)


@pytest.mark.parametrize("kind", KINDS)
@given(crowd=crowds(), wraps=st.booleans())
@settings(deadline=None, max_examples=20)
def test_feathers_are_outside_of_the_masks_and_leave_the_inside_as_it_is(
    kind: str, crowd: tuple[RgbImage, Detections], wraps: bool
) -> None:
    image, detections = crowd
    inside = detections.union()
    hard = draw(image, detections, look(appearance=kind), wraps=wraps)
    soft = draw(image, detections, look(appearance=kind, feather=0.2), wraps=wraps)
    np.testing.assert_array_equal(soft.image[inside], hard.image[inside])
    np.testing.assert_array_equal(soft.image[~soft.changed], image[~soft.changed])
    assert (soft.changed >= inside).all()


def test_a_feather_fades_over_its_width() -> None:
    image = np.full((100, 100, 3), 200, np.uint8)
    drawn = draw(
        image, found(image, filled(Box(40, 40, 60, 60))), look(appearance="color", mask_color=(0, 0, 0), feather=0.2)
    )
    row = drawn.image[50, :, 0].astype(int)
    assert (row[40:60] == 0).all()
    assert (np.diff(row[59:65]) > 0).all()
    assert (row[64:] == 200).all()
    np.testing.assert_array_equal(drawn.changed[50, 36:64], True)
    assert not drawn.changed[50, 64:].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 40, 400])
def test_hides_objects_of_every_size(kind: str, size: int) -> None:
    image = noise(3 * size + 10, 2 * size + 10, seed=size)
    box = Box(size, size // 2, 2 * size, size // 2 + size)
    drawn = draw(image, found(image, filled(box)), look(appearance=kind, blur=1)).image[box.slices]
    # Of noise at most a few pixels can be hit by chance.
    same = (drawn == image[box.slices]).all(axis=2).mean()
    assert same < (1 if size < 3 else 0.05)


@pytest.mark.parametrize("kind", ["blur", "mosaic"])
def test_a_few_numbers_are_all_that_is_left(kind: str) -> None:
    box = Box(10, 10, 400, 300)
    image = noise(500, 400)
    drawn = draw(image, found(image, ellipse(box)), look(appearance=kind, gray_blur=True)).image[box.slices][..., 0]
    if kind == "mosaic":
        # 3 × 2 cells, besides the corners outside of the ellipse.
        assert len(np.unique(drawn[ellipse(box).mask])) <= 6
    # The surface is smooth: nothing happens between one pixel and the next.
    else:
        steps = np.abs(np.diff(drawn.astype(int), axis=1))[:, 100:300][100:200]
        assert steps.max() <= 1


@given(value=st.integers(0, 255), other=st.integers(0, 255))
@settings(deadline=None, max_examples=20)
def test_what_a_neighbour_or_the_surroundings_look_like_does_not_matter(value: int, other: int) -> None:
    image = noise(80, 60)
    first, second = filled(Box(10, 10, 40, 50)), filled(Box(35, 20, 60, 40))
    changed = image.copy()
    outside = np.ones((60, 80), bool)
    outside[first.box.slices] = False
    changed[outside] = (value, other, value)
    for kind in ("blur", "mosaic", "solid"):
        results = [
            draw(each, found(each, first, second), look(appearance=kind)).image[first.box.slices]
            for each in (image, changed)
        ]
        np.testing.assert_array_equal(results[0], results[1])


def test_in_an_overlap_the_larger_object_is_drawn_and_the_smaller_one_does_not_see_it() -> None:
    image = noise(120, 100)
    large, small = filled(Box(10, 10, 90, 90)), filled(Box(80, 40, 100, 60))
    alone = draw(image, found(image, large), look())
    both = draw(image, found(image, small, large), look())
    np.testing.assert_array_equal(both.image[large.box.slices], alone.image[large.box.slices])
    rest = filled(Box(90, 40, 100, 60))
    changed = image.copy()
    changed[large.box.slices] = 255 - changed[large.box.slices]
    again = draw(changed, found(changed, small, large), look())
    np.testing.assert_array_equal(again.image[rest.box.slices], both.image[rest.box.slices])


@pytest.mark.parametrize("kind", ["color", "inpaint"])
def test_colour_and_inpainting_use_nothing_of_the_object(kind: str) -> None:
    image = noise(200, 150)
    objects = (ellipse(Box(20, 20, 90, 140)), ellipse(Box(80, 30, 180, 70)))
    detections = found(image, *objects)
    changed = image.copy()
    changed[detections.union()] = 7
    first, second = (draw(each, detections, look(appearance=kind)) for each in (image, changed))
    np.testing.assert_array_equal(first.image[first.changed], second.image[first.changed])


def test_inpainting_continues_the_surroundings() -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    image[..., 0] = 180
    image[100:200, 120:180] = 0
    drawn = draw(image, found(image, filled(Box(118, 98, 182, 202))), look(appearance="inpaint"))
    assert np.abs(drawn.image.astype(int) - (180, 0, 0)).max() <= 3


def test_where_nothing_is_visible_inpainting_is_grey() -> None:
    image = noise(30, 20)
    drawn = draw(image, found(image, filled(Box(0, 0, 30, 20))), look(appearance="inpaint"))
    assert (drawn.image == 128).all()


def test_normalised_grey_makes_bright_and_dark_the_same() -> None:
    pattern = noise(60, 60, seed=3).astype(float) / 255 * 60
    appearance = look(gray_blur=True, normalized_gray_blur=True)
    box = Box(5, 5, 55, 55)
    for kind, shade in itertools.product(("blur", "mosaic", "solid"), (0, 190)):
        image = (pattern + shade).astype(np.uint8)
        inside = draw(image, found(image, filled(box)), appearance.model_copy(update={"appearance": kind})).image[
            box.slices
        ]
        assert abs(inside.mean() - 128) < 3
        assert inside.std() < 16
        assert (inside == inside[..., :1]).all()


def test_grey_and_colour() -> None:
    image = np.empty((60, 60, 3), np.uint8)
    image[:] = (200, 40, 40)
    detections = found(image, filled(Box(5, 5, 55, 55)))
    red = draw(image, detections, look()).image[30, 30].astype(int)
    assert red[0] > red[1] + 60
    grey = draw(image, detections, look(gray_blur=True)).image[30, 30]
    assert len(set(grey.tolist())) == 1


def test_colours_come_from_the_class_unless_one_is_given_for_all() -> None:
    image = noise(60, 20)
    detections = found(
        image, filled(Box(0, 0, 10, 10), 1), filled(Box(20, 0, 30, 10), 3), filled(Box(40, 0, 50, 10), 8)
    )
    colors = {"person": (255, 0, 0), "car": (0, 0, 255)}
    drawn = draw(image, detections, look(appearance="color", mask_colors=colors)).image
    assert [drawn[5, x].tolist() for x in (5, 25, 45)] == [[255, 0, 0], [0, 0, 255], [128, 128, 128]]
    drawn = draw(image, detections, look(appearance="color", mask_colors=colors, mask_color=(50, 51, 52))).image
    assert [drawn[5, x].tolist() for x in (5, 25, 45)] == [[50, 51, 52]] * 3


def test_a_stronger_blur_merges_the_cells_of_small_objects() -> None:
    image = noise(2000, 100)
    detections = found(image, filled(Box(100, 20, 160, 80)))
    levels = {
        blur: len(np.unique(draw(image, detections, look(appearance="mosaic", blur=blur)).image[20:80, 100:160]))
        for blur in (1, 100)
    }
    assert levels[1] > 1
    # One cell; its colour has up to three levels, one a channel.
    assert levels[100] <= 3


def test_without_draw_mask_the_image_stays() -> None:
    image = noise(50, 50)
    drawn = draw(image, found(image, filled(Box(5, 5, 45, 45))), look(draw_mask=False))
    np.testing.assert_array_equal(drawn.image, image)
    assert not drawn.changed.any()


def test_an_object_across_the_seam_is_drawn_as_one() -> None:
    image = noise(200, 60)
    halves = (ellipse_half(Box(160, 10, 200, 50), left=True), ellipse_half(Box(0, 10, 40, 50), left=False))
    rolled = np.roll(image, 100, axis=1)
    whole = found(rolled, ellipse(Box(60, 10, 140, 50)))
    appearance = look(appearance="mosaic", feather=0.1)
    across = draw(image, found(image, *halves), appearance, wraps=True)
    middle = draw(rolled, whole, appearance)
    np.testing.assert_array_equal(np.roll(across.changed, 100, axis=1), middle.changed)
    # The noise depends on the position, so compare where the cells' edges are: none is at the seam.
    seam = np.roll(across.image, 100, axis=1)[20:40]
    np.testing.assert_array_equal(seam[:, 99], seam[:, 100])
    apart = np.roll(draw(image, found(image, *halves), appearance).image, 100, axis=1)[20:40]
    assert (apart[:, 99] != apart[:, 100]).any()


def ellipse_half(box: Box, *, left: bool) -> Instance:
    whole = ellipse(Box(0, 0, 2 * box.width, box.height)).mask
    return Instance(1, 0.9, box, np.ascontiguousarray(whole[:, : box.width] if left else whole[:, box.width :]))


def test_a_static_mask_is_drawn_over_everything_in_its_own_way() -> None:
    image = noise(80, 60)
    keep = np.full((60, 80), 255, np.uint8)
    keep[50:, :] = 0
    keep[:5, :5] = 0
    size = Size(80, 60)
    static = Layer(static_mask(keep, size, resize=False), look(appearance="color", mask_color=(1, 2, 3)))
    assert len(static.detections.instances) == 2
    car = filled(Box(20, 0, 60, 60), 3)
    drawn = draw(image, found(image, car), look(appearance="color", mask_color=(9, 9, 9)), static=static)
    assert (drawn.image[keep == 0] == (1, 2, 3)).all()
    assert (drawn.image[:50, 20:60] == 9).all()
    np.testing.assert_array_equal(drawn.changed, (keep == 0) | found(image, car).union())


@given(width=st.integers(1, 40), height=st.integers(1, 40), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_a_scaled_static_mask_covers_every_part(width: int, height: int, seed: int) -> None:
    keep = np.where(np.random.default_rng(seed).random((13, 17)) < 0.05, 0, 255).astype(np.uint8)
    scaled = static_mask(keep, Size(width, height), resize=True).union()
    for y, x in np.argwhere(keep == 0):
        rows = slice(int(y * height / 13), int(np.ceil((y + 1) * height / 13)))
        columns = slice(int(x * width / 17), int(np.ceil((x + 1) * width / 17)))
        assert scaled[rows, columns].any()


def test_a_static_mask_of_another_size_or_kind_is_refused() -> None:
    keep = np.zeros((10, 20), np.uint8)
    with pytest.raises(DrawError, match=r"20×10 pixels, the image 40×20; .* static_mask_resize"):
        static_mask(keep, Size(40, 20), resize=False)
    with pytest.raises(DrawError, match="one channel"):
        static_mask(np.zeros((10, 20, 3), np.uint8), Size(20, 10), resize=True)


def test_keys_of_the_static_mask_change_only_what_they_name() -> None:
    base = look(blur=20, gray_blur=True)
    keys: dict[str, object] = {
        "static_mask": "roof.png",
        "static_mask_resize": False,
        "static_mask_appearance": None,
        "static_mask_color": None,
        "static_mask_blur": None,
    }
    assert StaticMaskOptions.model_validate(keys).appearance(base) == base
    keys |= {"static_mask_appearance": "color", "static_mask_color": [1, 2, 3]}
    changed = StaticMaskOptions.model_validate(keys).appearance(base)
    assert changed == base.model_copy(update={"appearance": "color", "mask_color": (1, 2, 3)})


@given(crowd=crowds())
@settings(deadline=None, max_examples=50)
def test_an_ellipse_covers_its_box(crowd: tuple[RgbImage, Detections]) -> None:
    _, detections = crowd
    for before in detections.instances:
        after = ellipse_around(before, detections.size)
        assert after.overlap(before) == before.area()
        assert (after is before) == (not before.fills_box)


def test_an_ellipse_is_round_and_little_larger_than_the_box() -> None:
    instance = ellipse_around(filled(Box(100, 50, 200, 150)), Size(300, 200))
    assert not instance.mask[0, 0]
    assert 1.2 < instance.area() / 10_000 < 1.35


def test_a_superellipse_of_exponent_two_is_an_ellipse() -> None:
    # Pixels whose middles are in it: (x - 3)² / 9 + (y - 2)² / 4 <= 1; (2.5 / 3)² + (1.5 / 2)² = 1.26 in the corner.
    mask = superellipse(filled(Box(5, 5, 11, 9)), 2.0).mask
    expected = ["·####·", "######", "######", "·####·"]
    assert ["".join("·#"[value] for value in row.tolist()) for row in mask.astype(int)] == expected


@pytest.mark.parametrize(("exponent", "share"), [(2.0, 0.785), (4.0, 0.927), (6.0, 0.964)])
def test_the_area_of_a_superellipse(exponent: float, share: float) -> None:
    # Of the box: Γ(1 + 1/n)² / Γ(1 + 2/n), which is π/4 for n = 2.
    assert superellipse(filled(Box(0, 0, 301, 202)), exponent).area() / (301 * 202) == pytest.approx(share, abs=0.002)


def test_a_superellipse_keeps_its_corners_at_the_edges_of_the_image() -> None:
    size = Size(40, 30)
    for box, corners in (
        (Box(5, 5, 35, 25), [False, False, False, False]),
        (Box(0, 5, 35, 25), [True, False, True, False]),
        (Box(5, 0, 40, 25), [True, True, False, True]),
        (Box(5, 5, 39, 25), [False, False, False, False]),
        (Box(0, 0, 40, 30), [True, True, True, True]),
    ):
        mask = superellipse(filled(box), 4.0, size).mask
        assert [bool(mask[y, x]) for y in (0, -1) for x in (0, -1)] == corners
        assert mask[mask.shape[0] // 2].all()
        assert mask[:, mask.shape[1] // 2].all()
    assert not superellipse(filled(Box(0, 0, 40, 30)), 4.0).mask[0, 0]
    # A large box that ends a pixel or two from the edge reaches it.
    assert superellipse(filled(Box(2, 0, 200, 100)), 4.0, Size(400, 100)).mask[0, 0]


def test_objects_with_masks_of_their_own_are_no_superellipses() -> None:
    masked = ellipse(Box(5, 5, 35, 25))
    assert superellipse(masked, 4.0) is masked


def test_wrong_images_are_refused() -> None:
    image = noise(20, 10)
    other = Detections(Size(10, 20), ())
    with pytest.raises(DrawError, match="10×20 pixels, but the image has 20×10"):
        draw(image, other, look())
    with pytest.raises(DrawError, match="uint16"):
        draw(image.astype(np.uint16), found(image), look())
    with pytest.raises(DrawError, match="three channels"):
        draw(image[..., 0], found(image), look())
    with pytest.raises(DrawError, match="outside"):
        draw(image, found(image, filled(Box(10, 5, 21, 10))), look())


def test_pictures_without_objects_are_not_copied() -> None:
    image = noise(20, 10)
    assert draw(image, found(image), look()).image is image


@pytest.mark.parametrize(
    ("changes", "kind"),
    [({"blur": 15}, "blur"), ({"blur": None}, "color"), ({"blur": 15, "appearance": "mosaic"}, "mosaic")],
)
def test_older_files_without_the_key_mean_blur_or_colour(changes: Mapping[str, object], kind: str) -> None:
    assert look(**({"appearance": None} | dict(changes))).kind == kind


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalized_gray_blur": True}, "requires gray_blur: true"),
        ({"blur": 0}, "greater than or equal to 1"),
        ({"blur": 101}, "less than or equal to 100"),
        ({"mask_color": [1, 2]}, "mask_color"),
        ({"mask_color": [1, 2, 256]}, "less than or equal to 255"),
        ({"mask_colors": {"cat dog": [1, 2, 3]}}, "cat dog: no known class"),
        ({"appearance": "sepia"}, "Input should be 'blur', 'mosaic', "),
        ({"feather": 0.5}, "less than or equal to 0.25"),
    ],
)
def test_contradictory_keys_are_refused(changes: Mapping[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        look(**changes)


def test_without_blur_the_grey_keys_are_ignored() -> None:
    assert look(appearance=None, blur=None, gray_blur=False, normalized_gray_blur=True).kind == "color"


@pytest.mark.parametrize(
    ("dim", "center", "rows", "columns"),
    [
        ((40, 20), (0.5, 0.5), (20, 40), (30, 70)),
        ((40, 20), (0.0, 1.0), (0, 20), (60, 100)),
        ((40, 20), (1.0, 0.0), (40, 60), (0, 40)),
        ((400, 20), (0.45, 0.5), (17, 37), (0, 100)),
        ((400, 400), (0.1, 0.9), (0, 60), (0, 100)),
    ],
)
def test_previews(
    dim: tuple[int, int], center: tuple[float, float], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    image = noise(100, 60)
    part = preview(image, Size(*dim), Center(*center))
    np.testing.assert_array_equal(part, image[slice(*rows), slice(*columns)])
    assert part.base is None


def test_drawing_allocates_one_frame_and_a_mask() -> None:
    image = noise(2000, 1500)
    instances = tuple(ellipse(Box(x, y, x + 60, y + 90)) for x in range(0, 1900, 200) for y in range(0, 1400, 300))
    detections = found(image, *instances)
    draw(image, detections, look())
    tracemalloc.start()
    drawn = draw(image, detections, look())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert drawn.changed.any()
    assert peak < 1.1 * (image.nbytes + drawn.changed.nbytes)
