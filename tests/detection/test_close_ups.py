"""Close-ups of what was found: parts within objects, and doubtful finds that are looked at again."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pytest

from anonymise import config
from anonymise.config import Config
from anonymise.core import saved_instances
from anonymise.core.classes import label_of
from anonymise.core.detections import Box, Detections, Instance, RgbImage, Size, full_mask
from anonymise.detection.tiles import close_up
from anonymise.models import CloseMasker, Masker, load_masker
from samples.scene import draw_street
from samples.vehicles import car_behind
from tests.fakes import found_in

_PERSON, _CAR, _TRUCK, _PLATE = (label_of(name) for name in ("person", "car", "truck", "plate"))
_SIZE = Size(400, 300)

_Find = Callable[[RgbImage], Sequence[Instance]]


class Finds:
    """A masker that finds what a function says, and notes the sizes of the pictures that it sees."""

    identity = "finds"

    def __init__(self, find: _Find, parts: Masker | None = None, verifier: Masker | None = None) -> None:
        self._find = find
        self.parts = parts
        self.verifier = verifier
        self.sizes: list[tuple[int, ...]] = []

    def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
        for image in images:
            self.sizes.append(image.shape[:2])
            yield (tuple(self._find(image)),)


def found(label: int, score: float, box: Box) -> Instance:
    return Instance(label, score, box, full_mask(box))


def always(*instances: Instance) -> _Find:
    return lambda _: instances


def bright(label: int, score: float) -> _Find:
    """Finds the box around all white pixels."""

    def find(image: RgbImage) -> Sequence[Instance]:
        rows, columns = np.nonzero((image == 255).all(axis=2))
        if not len(rows):
            return ()
        box = Box(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
        return (found(label, score, box),)

    return find


def settings(*overrides: str) -> Config:
    return config.load(overrides=["mask_dilation_pixels=0", "box_padding=0", "merge_min_overlap=0.5", *overrides])


def picture(*white: Box, size: Size = _SIZE) -> RgbImage:
    image = np.full((size.height, size.width, 3), 90, np.uint8)
    for box in white:
        image[box.slices] = 255
    return image


def detect(image: RgbImage, masker: Masker, *overrides: str) -> Detections:
    return found_in(image, masker, settings(*overrides))


def objects(detections: Detections) -> set[tuple[int, Box]]:
    return {(instance.label, instance.box) for instance in detections.instances}


CAR = Box(100, 100, 220, 180)
PLATE = Box(150, 150, 180, 158)


def plates(*cars: Instance) -> Finds:
    return Finds(always(*cars), parts=Finds(bright(_PLATE, 0.6)))


def test_a_part_is_hidden_and_not_what_it_is_part_of() -> None:
    masker = plates(found(_CAR, 0.9, CAR))
    assert objects(detect(picture(PLATE), masker, "targets=[plate]")) == {(_PLATE, PLATE)}
    assert isinstance(masker.parts, Finds)
    assert masker.parts.sizes == [(156, 156)]  # the car's longer side, and 0.15 of it on each side


@pytest.mark.parametrize(
    ("overrides", "hidden"),
    [([], {(_CAR, CAR)}), (["hide_whole_without_parts=False"], set()), (["within_from_pixels=121"], set())],
)
def test_without_parts_what_is_near_is_hidden_as_a_whole(overrides: list[str], hidden: set[tuple[int, Box]]) -> None:
    assert objects(detect(picture(), plates(found(_CAR, 0.9, CAR)), "targets=[plate]", *overrides)) == hidden


def test_what_is_looked_at_for_its_parts_may_be_less_certain_than_what_is_hidden() -> None:
    masker = plates(found(_CAR, 0.12, CAR))
    assert objects(detect(picture(PLATE), masker, "targets=[plate]")) == {(_PLATE, PLATE)}
    assert objects(detect(picture(), masker, "targets=[plate]")) == set()
    assert objects(detect(picture(PLATE), plates(found(_CAR, 0.09, CAR)), "targets=[plate]")) == set()


def test_a_part_outside_of_what_was_found_is_none() -> None:
    """A road sign beside the car."""
    sign = Box(300, 60, 330, 70)
    assert objects(detect(picture(PLATE, sign), plates(found(_CAR, 0.9, CAR)), "targets=[plate]")) == {(_PLATE, PLATE)}


def test_what_is_hidden_for_itself_is_hidden_as_a_whole_and_not_looked_at() -> None:
    person = found(_PERSON, 0.9, Box(20, 100, 60, 200))
    masker = plates(found(_CAR, 0.9, CAR), person)
    hidden = objects(detect(picture(PLATE), masker, "targets=[person, vehicle, plate]"))
    assert hidden == {(_CAR, CAR), (_PERSON, person.box)}
    assert isinstance(masker.parts, Finds)
    assert masker.parts.sizes == []
    # Of a car that is too uncertain to be hidden at least the plate is.
    masker = plates(found(_CAR, 0.12, CAR), person)
    hidden = objects(detect(picture(PLATE), masker, "targets=[person, vehicle, plate]"))
    assert hidden == {(_PLATE, PLATE), (_PERSON, person.box)}


def test_a_truck_behind_a_car_does_not_pass_for_one_with_a_plate() -> None:
    behind = Box(20, 0, 400, 280)
    hidden = objects(
        detect(picture(PLATE), plates(found(_CAR, 0.9, CAR), found(_TRUCK, 0.9, behind)), "targets=[plate]")
    )
    assert {box for _, box in hidden} == {behind}
    # While a box that is a little larger is another one of the same car.
    around = found(_TRUCK, 0.5, Box(90, 20, 240, 185))
    assert objects(detect(picture(PLATE), plates(found(_CAR, 0.9, CAR), around), "targets=[plate]")) == {
        (_PLATE, PLATE)
    }


def test_several_looks_at_one_object_are_one_close_up() -> None:
    masker = plates(found(_CAR, 0.9, CAR), found(_TRUCK, 0.5, Box(98, 100, 220, 182)))
    assert objects(detect(picture(PLATE), masker, "targets=[plate]")) == {(_PLATE, PLATE)}
    assert isinstance(masker.parts, Finds)
    assert len(masker.parts.sizes) == 1


def test_a_part_that_is_not_certain_is_hidden_and_so_is_the_whole() -> None:
    masker = Finds(always(found(_CAR, 0.9, CAR)), parts=Finds(bright(_PLATE, 0.15)))
    assert {box for _, box in objects(detect(picture(PLATE), masker, "targets=[plate]"))} == {CAR}


def test_the_largest_get_close_ups_and_the_others_are_hidden_as_a_whole() -> None:
    far = Box(300, 100, 370, 150)
    masker = plates(found(_CAR, 0.9, CAR), found(_CAR, 0.95, far))
    hidden = objects(detect(picture(PLATE, Box(330, 135, 340, 139)), masker, "targets=[plate]", "within_at_most=1"))
    assert hidden == {(_PLATE, PLATE), (_CAR, far)}


MAN = Box(150, 100, 180, 190)


@pytest.mark.parametrize(
    ("first", "second", "stays"),
    [(0.5, 0.0, True), (0.49, 0.0, False), (0.35, 0.2, True), (0.35, 0.1, False)],
)
def test_a_doubtful_find_stays_if_both_scores_together_are_enough(first: float, second: float, stays: bool) -> None:
    masker = Finds(always(found(_PERSON, first, MAN)), verifier=Finds(bright(_PERSON, second)))
    assert bool(objects(detect(picture(MAN), masker))) == stays
    assert isinstance(masker.verifier, Finds)
    assert masker.verifier.sizes == ([] if first >= 0.5 else [(288, 288)])  # 3.2 times the longer side


def test_what_the_verifier_finds_beside_the_find_or_of_another_kind_says_nothing() -> None:
    other_place = Box(190, 60, 210, 150)
    for seen, label in ((other_place, _PERSON), (MAN, _CAR)):
        masker = Finds(always(found(_PERSON, 0.4, MAN)), verifier=Finds(bright(label, 0.9)))
        assert objects(detect(picture(seen), masker)) == set()
    # Vehicles are one kind: what is a car for one network may be a truck for the other.
    masker = Finds(always(found(_CAR, 0.4, MAN)), verifier=Finds(bright(_TRUCK, 0.9)))
    assert objects(detect(picture(MAN), masker)) == {(_CAR, MAN)}


def test_the_best_look_at_an_object_counts_and_weak_echoes_do_not_drag_it_down() -> None:
    echo = Box(148, 95, 185, 190)
    masker = Finds(always(found(_PERSON, 0.6, MAN), found(_PERSON, 0.31, echo)), verifier=Finds(always()))
    hidden = detect(picture(MAN), masker).union()
    assert hidden[MAN.slices].all()
    assert hidden[echo.slices].all()


def test_what_a_certain_find_covers_is_not_looked_at() -> None:
    wheel = Box(160, 170, 180, 190)
    masker = Finds(
        always(found(_CAR, 0.9, Box(100, 100, 200, 200)), found(_CAR, 0.35, wheel)), verifier=Finds(always())
    )
    detect(picture(), masker)
    assert isinstance(masker.verifier, Finds)
    assert masker.verifier.sizes == []


def test_in_a_crowd_the_largest_are_looked_at_and_the_others_stay() -> None:
    people = [found(_PERSON, 0.31 + 0.01 * n, Box(40 * n, 100, 40 * n + 20, 190 - 10 * n)) for n in range(8)]
    masker = Finds(always(*people), verifier=Finds(always()))
    kept = objects(detect(picture(), masker, "verify_at_most=3"))
    assert kept == {(_PERSON, person.box) for person in people[3:]}
    assert objects(detect(picture(), masker, "verify_at_most=null")) == set()


@pytest.mark.parametrize("overrides", [[], ["image_type='360'"]], ids=["flat", "360"])
def test_what_the_second_look_throws_out_can_be_kept_for_people_to_judge(overrides: list[str]) -> None:
    masker = Finds(
        always(found(_PERSON, 0.9, Box(20, 100, 50, 190)), found(_PERSON, 0.4, MAN)), verifier=Finds(always())
    )
    image = picture(size=Size(400, 200))
    found_there = detect(image, masker, "keep_doubtful=True", *overrides)
    assert [instance.box for instance in found_there.doubtful] == [MAN]
    assert not found_there.union()[MAN.slices].any()
    again = saved_instances.loads(saved_instances.dumps(found_there, "a.jpg"))
    assert [(i.label, i.box, round(i.score, 4)) for i in again.doubtful] == [(_PERSON, MAN, 0.4)]
    assert len(again.instances) == 1
    assert detect(image, masker, *overrides).doubtful == ()


def test_verification_is_by_class() -> None:
    masker = Finds(always(found(_PERSON, 0.4, MAN), found(_CAR, 0.4, Box(10, 10, 90, 60))), verifier=Finds(always()))
    kept = objects(detect(picture(), masker, "verify_below={default: 0.5, person: 0.3}"))
    assert kept == {(_PERSON, MAN)}
    kept = objects(detect(picture(), masker, "verify_sum={default: 0.5, car: 0.3}"))
    assert kept == {(_CAR, Box(10, 10, 90, 60))}


@pytest.mark.parametrize("left", [0, 60, 300, 375])
def test_close_ups_of_a_sphere_see_the_object_upright_wherever_it_is(left: int) -> None:
    """Also where it lies across the seam."""
    image = np.full((200, 400, 3), 90, np.uint8)
    columns = np.arange(left, left + 40) % 400
    image[90:120, columns] = 30
    plate = np.arange(left + 15, left + 25) % 400
    image[108:113, plate] = 255
    # Found in the one window of the sphere, in which a car across the seam is cut.
    car = found(_CAR, 0.9, Box(left, 90, min(400, left + 40), 120))
    masker = Finds(always(car), parts=Finds(bright(_PLATE, 0.6)))
    overrides = ["image_type='360'", "targets=[plate]", "within_from_pixels=10", "within_margin=1"]
    hidden = detect(image, masker, *overrides)
    assert {i.label for i in hidden.instances} == {_PLATE}
    union = hidden.union()
    assert union[109:112][:, plate[1:-1]].all()
    assert np.count_nonzero(union) < 4 * 50


def placed(back: Callable[[Instance], tuple[Instance, ...]], box: Box) -> list[Box]:
    return [instance.box for instance in back(found(_CAR, 0.5, box))]


def test_close_ups_are_square_inside_the_image_where_it_is_large_enough() -> None:
    image = np.arange(60 * 100, dtype=np.uint8).reshape(60, 100, 1).repeat(3, axis=2)
    shown, place, back = close_up(image, Box(90, 10, 100, 30), 2)
    assert place == Box(30, 10, 40, 30)
    assert np.array_equal(shown, image[0:40, 60:100])
    assert placed(back, Box(1, 2, 3, 4)) == [Box(61, 2, 63, 4)]
    shown, place, back = close_up(image, Box(0, 10, 80, 30), 1)
    assert place == Box(0, 30, 80, 50)
    assert np.array_equal(shown[20:], image[:60, :80])  # 20 rows are above the image
    assert not shown[:20].any()
    assert placed(back, Box(0, 15, 80, 25)) == [Box(0, 0, 80, 5)]
    assert placed(back, Box(0, 0, 80, 20)) == []


def _rear_view() -> tuple[RgbImage, Box]:
    """A drawn street with a car from behind, and where its plate is."""
    image = draw_street(3, Size(960, 540), cars=0, people=0).copy()
    sprite = car_behind(np.random.default_rng(1), 90)
    height, width = sprite.pixels.shape[:2]
    top, left = 480 - height, 400
    part = image[top : top + height, left : left + width]
    part[:] = (sprite.pixels[..., :3] + part * (1 - sprite.pixels[..., 3:])).clip(0, 255).astype(np.uint8)
    x, y = (
        ((m - sprite.left_m) * sprite.scale + left for m in (-0.26, 0.26)),
        ((sprite.top_m - m) * sprite.scale + top for m in (0.56, 0.46)),
    )
    (x0, x1), (y0, y1) = x, y
    return image, Box(round(x0), round(y0), round(x1), round(y1))


@pytest.mark.slow
def test_the_real_models_find_a_drawn_plate_and_leave_the_car_visible() -> None:
    image, plate = _rear_view()
    loaded = config.load(overrides=["model_type=Nano", "targets=[plate]", "merge_min_overlap=0.5"])
    detections = found_in(image, load_masker(loaded.model, progress=False), loaded)
    hidden = detections.union()
    assert hidden[plate.slices].mean() > 0.95
    assert {i.label for i in detections.instances} == {_PLATE}
    assert hidden.mean() < 0.02


@pytest.mark.slow
def test_the_real_models_hide_cars_without_a_plate_in_view_as_a_whole() -> None:
    """All cars of the drawn street are seen from the side."""
    street = draw_street(0, Size(1280, 720))
    hidden = {}
    for targets in ("[plate]", "[vehicle]"):
        loaded = config.load(overrides=["model_type=Nano", f"targets={targets}", "merge_min_overlap=0.5"])
        masker = load_masker(loaded.model, progress=False)
        assert isinstance(masker, CloseMasker)
        hidden[targets] = found_in(street, masker, loaded)
    assert hidden["[plate]"].union().sum() >= 0.9 * hidden["[vehicle]"].union().sum() > 0
