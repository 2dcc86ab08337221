"""Where the model looks, and what becomes of what it finds there."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from anonymise import config
from anonymise import redaction as draw
from anonymise.config import Config
from anonymise.core import saved_instances as instances
from anonymise.core.detections import Box, Detections, Instance, Mask, RgbImage, Size, full_mask
from anonymise.detection.outlines import ellipse_around
from anonymise.models import load_masker
from samples.scene import draw_panorama, draw_street
from tests.fakes import CAR, RedMasker, found_in, street

WHOLE_360 = ["image_type='360'", "mask_dilation_pixels=0"]


def settings(*overrides: str) -> Config:
    return config.load(overrides=["mask_dilation_pixels=0", *overrides])


def detect(picture: RgbImage, masker: RedMasker, *overrides: str) -> Detections:
    return found_in(picture, masker, settings(*overrides))


class LeftHalf(RedMasker):
    """Finds what is in the left half of each picture, and notes how many pictures are waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
        for image in images:
            self.shapes.append(image.shape[:2])
            yield (tuple(i for i in self._cars(image) if i.box.right <= image.shape[1] // 2),)


TWO_CARS = [Box(10, 40, 50, 80), Box(101, 30, 131, 60)]


def test_the_mirror_image_shows_what_the_image_does_not() -> None:
    picture = street((160, 120), TWO_CARS)
    assert [i.box for i in detect(picture, LeftHalf()).instances] == TWO_CARS[:1]
    masker = LeftHalf()
    assert [i.box for i in detect(picture, masker, "mirror_image=True").instances] == TWO_CARS
    assert masker.shapes == [(120, 160)] * 2


@pytest.mark.parametrize("method", ["union", "nms", "nmm", "wbf"])
def test_what_both_see_is_one_object(method: str) -> None:
    picture = street((161, 120), TWO_CARS)
    found = detect(picture, RedMasker(), "mirror_image=True", f"merging_method={method}")
    assert [i.box for i in found.instances] == TWO_CARS


@pytest.mark.parametrize("method", ["union", "nms", "nmm", "wbf"])
@pytest.mark.parametrize("kind", [[], WHOLE_360], ids=["flat", "360"])
def test_an_uncertain_find_in_a_window_does_not_uncover_a_certain_one(method: str, kind: list[str]) -> None:
    class Unsure(RedMasker):
        """Sure of what it sees once, unsure afterwards."""

        def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
            for ((*found,),) in super().detect(images):
                yield (tuple(replace(i, score=0.9 if self.n_images == 1 else 0.3) for i in found),)

    looks = ["use_cutouts=True", "cutout_dim_downscale=[1, 1]", "mirror_image=True", *kind]
    chosen = [*looks, f"merging_method={method}", "post_merge_score_threshold=0.65"]
    found = detect(street((160, 80), [Box(60, 20, 90, 40)]), Unsure(), *chosen)
    assert [i.box for i in found.instances] == [Box(60, 20, 90, 40)]


def test_masks_are_mirrored_back() -> None:
    class Corner(RedMasker):
        """Finds the upper left half of a square in the middle."""

        def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
            for image in images:
                middle = image.shape[1] // 2
                mask = np.tri(10, dtype=bool)[::-1]
                yield ((Instance(CAR, 0.9, Box(middle - 5, 0, middle + 5, 10), mask),),)

    found = detect(street((160, 120)), Corner(), "mirror_image=True")
    upper_left = np.tri(10, dtype=bool)[::-1]
    (one,) = found.instances
    assert np.array_equal(one.mask, upper_left | upper_left[:, ::-1])


@pytest.mark.parametrize(
    ("cars", "looks"),
    [
        ([Box(20, 10, 60, 30), Box(100, 80, 131, 110)], ["use_cutouts=True", "cutout_dim_downscale=[2, 2]"]),
        ([Box(20, 10, 60, 30), Box(100, 80, 131, 110)], ["enlarged_regions_n=2"]),
        ([Box(60, 50, 75, 60), Box(100, 55, 110, 62)], [*WHOLE_360, "view_fov=[90]", "view_side=120"]),
        ([Box(60, 50, 75, 60), Box(150, 55, 160, 62), Box(0, 55, 8, 62)], [*WHOLE_360, "enlarged_regions_n=2"]),
    ],
)
def test_windows_and_views_are_mirrored_too(cars: list[Box], looks: list[str]) -> None:
    class OnlyMirrored(RedMasker):
        """Finds nothing in every other picture, which is not mirrored."""

        def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
            for number, passes in enumerate(super().detect(images)):
                yield passes if number % 2 else ((),)

    picture = street((160, 120), cars)
    plain, mirrored = RedMasker(), OnlyMirrored()
    expected = detect(picture, plain, *looks)
    found = detect(picture, mirrored, *looks, "mirror_image=True")
    assert mirrored.n_images == 2 * plain.n_images
    assert [i.label for i in found.instances] == [i.label for i in expected.instances]
    # A mirrored box is the same box, but what is on the border of two pixels of a view may be in either.
    differing = np.count_nonzero(found.union() ^ expected.union())
    assert differing <= (0.2 * expected.union().sum() if "view_fov=[90]" in looks else 0)


def test_each_region_is_looked_at_enlarged() -> None:
    masker = LeftHalf()
    detect(street((160, 120)), masker, "enlarged_regions_n=2")
    assert masker.shapes == [(120, 160)] + [(60, 80)] * 4
    masker = LeftHalf()
    detect(street((160, 120)), masker, "enlarged_regions_n=1")
    assert masker.shapes == [(120, 160)]


@pytest.mark.parametrize("method", ["union", "nms", "nmm", "wbf"])
def test_halves_of_an_object_on_a_cut_are_hidden_wholly(method: str) -> None:
    class OnlySmallImages(RedMasker):
        def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
            return ((self._cars(image) if image.shape[1] < 100 else (),) for image in images)

    car = Box(60, 50, 100, 70)
    found = detect(street((160, 120), [car]), OnlySmallImages(), "enlarged_regions_n=2", f"merging_method={method}")
    assert np.array_equal(found.union(), Detections(found.size, (_filled(car),)).union())
    # Together with the full image, the union is the one car that it is.
    found = detect(street((160, 120), [car]), RedMasker(), "enlarged_regions_n=2")
    assert [i.box for i in found.instances] == [car]


def _filled(box: Box) -> Instance:
    return Instance(CAR, 0.9, box, full_mask(box))


def test_regions_of_a_360_image_go_on_across_the_seam() -> None:
    masker = LeftHalf()
    panorama = street((320, 160), [Box(0, 70, 15, 90), Box(305, 70, 320, 90)])
    (right, left) = sorted(
        detect(panorama, RedMasker(), *WHOLE_360, "enlarged_regions_n=2").instances, key=lambda i: i.continues
    )
    assert (right.box, left.box) == (Box(305, 70, 320, 90), Box(0, 70, 15, 90))
    assert (right.continues, left.continues) == (False, True)  # one object, which the full image alone has in two
    detect(panorama, masker, *WHOLE_360, "enlarged_regions_n=2")
    assert masker.shapes == [(160, 320)] + [(80, 160)] * 4
    masker = LeftHalf()
    detect(panorama, masker, *WHOLE_360, "enlarged_regions_n=2", "view_fov=[90]", "view_side=80")
    assert (160, 320) not in masker.shapes  # the views cover the sphere


def test_pictures_are_made_when_they_are_taken() -> None:
    class Taken(RedMasker):
        """Finds nothing, and notes how many pictures lie in memory at a time."""

        def __init__(self) -> None:
            super().__init__()
            self.pictures: list[RgbImage] = []

        def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
            iterator = iter(images)
            for number in range(3):
                self.pictures.append(next(iterator))
                assert (self.pictures[-1].base is not None) == (number % 2 == 0)  # a part, then a mirrored copy
                yield ((),)
            raise StopLookingError

    class StopLookingError(Exception):
        pass

    masker = Taken()
    with pytest.raises(StopLookingError):
        detect(street(), masker, "mirror_image=True", "enlarged_regions_n=16")
    assert len(masker.pictures) == 3


@pytest.mark.parametrize("method", ["union", "nms", "nmm", "wbf"])
@pytest.mark.parametrize("dilation", [0, 3])
def test_a_superellipse_is_what_is_hidden_and_saved(method: str, dilation: int) -> None:
    picture = street(
        (160, 120), [Box(10, 40, 70, 80), Box(101, 30, 131, 60), Box(150, 0, 160, 10), Box(90, 90, 94, 95)]
    )
    chosen = settings(f"merging_method={method}", "outline=superellipse", f"mask_dilation_pixels={dilation}")
    found = found_in(picture, RedMasker(), chosen)
    boxes = found_in(picture, RedMasker(), settings(f"mask_dilation_pixels={dilation}"))
    assert [i.box for i in found.instances] == [i.box for i in boxes.instances]
    assert all(i.area() <= j.area() for i, j in zip(found.instances, boxes.instances, strict=True))
    assert found.instances[0].area() < 0.97 * boxes.instances[0].area()
    drawn = draw.draw(picture, found, chosen.appearance)
    assert np.array_equal(drawn.changed, found.union())
    saved = instances.loads(instances.dumps(found, "a.jpg"))
    assert np.array_equal(saved.union(), drawn.changed)


def test_each_box_is_rounded_before_it_is_merged() -> None:
    class Two(RedMasker):
        def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
            for _ in images:
                yield ((_filled(Box(10, 10, 50, 50)),), (_filled(Box(10, 10, 70, 50)),))

    def hidden(*overrides: str) -> Mask:
        return detect(street(), Two(), *overrides).union()

    rounded = hidden("outline=superellipse", "outline_exponent=2.0")
    assert not rounded[10, 10]
    assert rounded[10, 30]
    # The average of boxes is that of boxes: (10, 10, 60, 50). It loses its corners last.
    averaged = hidden("outline=superellipse", "outline_exponent=2.0", "merging_method=wbf")
    assert averaged[10, 35]
    assert not averaged[10:50, 60:].any()
    assert not averaged[10, 10]


@pytest.mark.parametrize("dilation", [0, 3])
def test_an_ellipse_goes_around_the_grown_box(dilation: int) -> None:
    chosen = f"mask_dilation_pixels={dilation}"
    boxes = detect(street((160, 120), TWO_CARS), RedMasker(), chosen)
    found = detect(street((160, 120), TWO_CARS), RedMasker(), chosen, "outline=ellipse")
    assert [ellipse_around(i, found.size).box for i in boxes.instances] == [i.box for i in found.instances]
    assert (found.union() >= boxes.union()).all()
    assert not any(i.fills_box for i in found.instances)


def test_an_ellipse_in_a_360_image_goes_on_across_the_seam() -> None:
    def hidden(*cars: Box) -> Detections:
        return detect(street((320, 160), cars), RedMasker(), *WHOLE_360, "enlarged_regions_n=2", "outline=ellipse")

    parts = hidden(Box(0, 70, 4, 90), Box(294, 70, 320, 90))
    assert [i.continues for i in parts.instances] == [False, True]
    assert np.array_equal(parts.union(), np.roll(hidden(Box(134, 70, 164, 90)).union(), 160, axis=1))
    assert np.array_equal(instances.loads(instances.dumps(parts, "a.jpg")).union(), parts.union())


@pytest.mark.slow
def test_the_embedded_model_finds_more_in_all_variants_and_the_same_whatever_the_threads() -> None:
    picture = draw_street(1, Size(640, 480))
    panorama = draw_panorama(2, Size(1024, 512)).image
    lite = ["model_type=Lite", "merge_min_overlap=0.5", "mirror_image=True", "enlarged_regions_n=2"]
    hidden: list[list[Detections]] = []
    for threads in ("model_threads=1", "model_threads=null"):
        flat = settings(*lite, threads)
        masker = load_masker(flat.model, progress=False)
        around = settings(*lite, threads, "image_type='360'", "view_fov=[90]", "outline=superellipse")
        hidden.append([found_in(picture, masker, flat), found_in(panorama, masker, around)])
    for one, other in zip(*hidden, strict=True):
        saved = instances.dumps(one, "a.jpg")
        assert saved == instances.dumps(other, "a.jpg")
        assert np.array_equal(instances.loads(saved).union(), one.union())
        assert one.instances
    plain = found_in(picture, masker, settings("model_type=Lite", "merge_min_overlap=0.5"))
    assert (hidden[0][0].union() >= plain.union()).all()
    assert hidden[0][0].union().sum() > plain.union().sum()
