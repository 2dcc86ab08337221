from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anonymise import config
from anonymise.core.classes import COCO
from anonymise.core.detections import Box, RgbImage
from anonymise.core.errors import ModelError
from anonymise.core.resources import CATALOG
from anonymise.models import Found, ModelMasker, ModelOptions, load_masker
from anonymise.models.catalog import DetectorModel, load_catalog
from anonymise.models.detector import DetectorNetwork, Run
from anonymise.models.layouts import Tensors
from tests.models import savedmodel

pytestmark = pytest.mark.slow


def options(**changed: object) -> ModelOptions:
    return config.load(overrides=[f"{key}={value}" for key, value in changed.items()]).model


HIDDEN = options().hidden


class OneCar:
    """A network that finds the same box, and remembers what it was shown."""

    def __init__(self, box: tuple[float, float, float, float], label: int = 3) -> None:
        self.box, self.label = box, label
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, images: Iterable[RgbImage]) -> Iterator[tuple[Found, ...]]:
        for image in images:
            self.seen.append(image.shape)
            yield (Found(np.array([self.box]), np.array([0.9]), np.array([self.label])),)


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return savedmodel.build(tmp_path_factory.mktemp("model") / "zoo")


def test_a_saved_model_of_the_object_detection_api(saved_model: Path) -> None:
    masker = load_masker(options(model_type=saved_model.as_posix()), progress=False)
    wide, small = np.zeros((60, 100, 3), np.uint8), np.zeros((33, 33, 3), np.uint8)
    (found,), (found_small,) = masker.detect([wide, small])
    # The dog is not hidden, the weak car is dropped, the truck ends at the edge.
    assert [(COCO[i.label], round(i.score, 2), i.box) for i in found] == [
        ("car", 0.9, Box(0, 0, 50, 30)),
        ("person", 0.8, Box(50, 30, 100, 60)),
        ("truck", 0.7, Box(75, 45, 100, 60)),
    ]
    car, person, truck = found
    assert car.mask[:, :24].all()
    assert not car.mask[:, 26:].any()
    # The disc, drawn at the size of the box: 28/33 of its width and height.
    assert np.count_nonzero(person.mask) == pytest.approx(np.pi / 4 * (50 * 27 / 33) * (30 * 27 / 33), rel=0.05)
    assert person.mask[15, 25]
    assert not person.mask[0, 0]
    assert truck.fills_box
    assert [i.box for i in found_small] == [Box(0, 0, 17, 17), Box(16, 16, 33, 33), Box(24, 24, 33, 33)]


def test_a_model_without_masks_gives_boxes(tmp_path: Path) -> None:
    folder = savedmodel.build(tmp_path / "boxes", masks=False)
    ((found,),) = load_masker(options(model_type=folder.as_posix()), progress=False).detect(
        [np.zeros((8, 8, 3), np.uint8)]
    )
    assert [i.fills_box for i in found] == [True, True, True]


def test_a_model_with_another_signature_is_refused(tmp_path: Path) -> None:
    folder = savedmodel.build(tmp_path / "odd", drop="num_detections")
    with pytest.raises(ModelError, match=r"does not have the Object Detection API's signature.*num_detections"):
        load_masker(options(model_type=folder.as_posix()), progress=False)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot load a SavedModel"):
        load_masker(options(model_type=tmp_path.as_posix()), progress=False)


def test_an_unknown_model_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"'Huge' is neither a model of the catalog \(Lite, Nano, .*, Fast\) nor"):
        load_masker(options(model_type="Huge"), progress=False)


def test_images_above_the_limit_are_made_smaller_for_the_network_only() -> None:
    network = OneCar((0.25, 0.25, 0.75, 0.5))
    masker = ModelMasker([network], HIDDEN, options(max_num_pixels=5000), "test")
    ((found,),) = masker.detect([np.zeros((100, 200, 3), np.uint8)])
    assert network.seen == [(50, 100, 3)]
    assert [i.box for i in found] == [Box(50, 25, 100, 75)]


def test_an_extreme_shape_above_the_limit_keeps_a_pixel() -> None:
    network = OneCar((0, 0, 1, 1))
    ((found,),) = ModelMasker([network], HIDDEN, options(max_num_pixels=100), "test").detect(
        [np.zeros((1, 5000, 3), np.uint8)]
    )
    assert network.seen[0][0] == 1
    assert found[0].box == Box(0, 0, 5000, 1)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0.101, 0.101, 0.199, 0.199), Box(10, 10, 20, 20)),  # outwards to whole pixels
        ((-0.5, -0.5, 0.2, 0.2), Box(0, 0, 20, 20)),
        ((0.9, 0.9, 1.4, 1.4), Box(90, 90, 100, 100)),
        ((0.5, 0.5, 0.5, 0.501), None),
        ((1.1, 1.1, 1.4, 1.4), None),
        ((0.6, 0.6, 0.4, 0.4), None),
    ],
)
def test_boxes_are_whole_pixels_inside_the_image(box: tuple[float, float, float, float], expected: Box | None) -> None:
    ((found,),) = ModelMasker([OneCar(box)], HIDDEN, options(), "test").detect([np.zeros((100, 100, 3), np.uint8)])
    assert [i.box for i in found] == ([] if expected is None else [expected])


def test_only_the_configured_classes_are_hidden() -> None:
    dog = OneCar((0, 0, 1, 1), label=18)
    image = np.zeros((9, 9, 3), np.uint8)
    assert list(ModelMasker([dog], HIDDEN, options(), "test").detect([image])) == [((),)]
    ((found,),) = ModelMasker([dog], frozenset({1, 18}), options(), "test").detect([image])
    assert [COCO[i.label] for i in found] == ["dog"]


def test_classes_have_thresholds_and_boxes_padding_of_their_own() -> None:
    changed = options(
        score_threshold="{default: 0.9, car: 0.95}",
        box_padding="{default: 0, person: 0.1, truck: 1}",
    )

    def found(label: int) -> list[Box]:
        masker = ModelMasker([OneCar((0.2, 0.4, 0.6, 0.6), label)], HIDDEN, changed, "test")
        ((instances,),) = masker.detect([np.zeros((100, 200, 3), np.uint8)])
        return [i.box for i in instances if i.fills_box]

    assert found(3) == []  # its score is 0.9
    assert found(6) == [Box(80, 20, 120, 60)]
    assert found(1) == [Box(76, 16, 124, 64)]
    assert found(8) == [Box(40, 0, 160, 100)]  # padded first, then cut to the image


def test_masks_are_not_padded(saved_model: Path) -> None:
    image = np.zeros((60, 100, 3), np.uint8)
    plain, padded = (
        load_masker(options(model_type=saved_model.as_posix(), box_padding=share), progress=False) for share in (0, 0.5)
    )
    (((car, person, truck),),), ((padded_ones,),) = plain.detect([image]), padded.detect([image])
    assert [i.box for i in padded_ones] == [car.box, person.box, truck.box]
    assert [i.mask.tobytes() for i in padded_ones] == [i.mask.tobytes() for i in (car, person, truck)]


def test_each_network_sees_each_image_and_what_it_finds_stays_apart() -> None:
    car, person = OneCar((0, 0, 0.5, 0.5)), OneCar((0.5, 0.5, 1, 1), label=1)
    images = [np.zeros((10 + n, 20, 3), np.uint8) for n in range(4)]
    found = list(ModelMasker([car, person], HIDDEN, options(), "test").detect(images))
    assert car.seen == person.seen == [image.shape for image in images]
    assert [[[i.label for i in one] for one in by_model] for by_model in found] == [[[3], [1]]] * 4
    assert [by_model[1][0].box.bottom for by_model in found] == [10, 11, 12, 13]


def test_several_networks_take_images_together_as_they_get_on() -> None:
    """So that few are in memory at a time."""
    n_made = 0

    def images() -> Iterator[RgbImage]:
        nonlocal n_made
        for _ in range(100):
            n_made += 1
            yield np.zeros((8, 8, 3), np.uint8)

    networks = [OneCar((0, 0, 1, 1)), OneCar((0, 0, 1, 1))]
    for n, _ in enumerate(ModelMasker(networks, HIDDEN, options(), "test").detect(images()), start=1):
        assert n_made == n


def detector(run: Run, side: int = 30) -> DetectorNetwork:
    """Lite with another network and input size, and all classes of interest."""
    lite = load_catalog(CATALOG)["Lite"]
    assert isinstance(lite, DetectorModel)
    smaller = lite.model_copy(update={"input": lite.input.model_copy(update={"size": (side, side)})})
    return DetectorNetwork(run, smaller, thresholds=dict.fromkeys(COCO, 0.3), nms_iou_threshold=0.5)


def ssd(scores: np.ndarray, boxes: np.ndarray) -> DetectorNetwork:
    def run(images: Iterable[RgbImage]) -> Iterator[Tensors]:
        for image in images:
            assert image.shape == (30, 30, 3)
            yield scores[np.newaxis], boxes[np.newaxis]

    return detector(run)


def test_non_maximum_suppression_is_by_class_and_a_vehicle_has_one() -> None:
    boxes = np.array(
        [(0, 0, 0.5, 0.51), (0, 0, 0.5, 0.45), (0.5, 0.5, 1, 1), (0, 0, 0.5, 0.45), (0, 0, 0.5, 0.46)], np.float32
    )
    scores = np.zeros((5, 90), np.float32)
    scores[0, 2], scores[1, 2] = 0.6, 0.9  # two boxes of one car: the better one stays
    scores[2, 2] = 0.29  # too weak
    scores[3, 0], scores[0, 7] = 0.8, 0.5  # a person in front of it, and a truck that is larger than the car
    scores[4, 5] = 0.7  # the car taken for a bus as well
    ((found,),) = ssd(scores, boxes)([np.zeros((30, 30, 3), np.uint8)])
    by_label = sorted(
        zip(found.labels.tolist(), (round(s, 2) for s in found.scores.tolist()), found.boxes.tolist(), strict=True)
    )
    assert [(label, score) for label, score, _ in by_label] == [(1, 0.8), (3, 0.9), (8, 0.5)]
    assert by_label[1][2] == pytest.approx([0, 0, 0.5, 0.45])


def test_images_of_any_size_go_through() -> None:
    network = ssd(np.zeros((2, 90), np.float32), np.zeros((2, 4), np.float32))
    sides = [(1, 1), (29, 31), (30, 30), (31, 200), (59, 60), (61, 500), (2000, 7), (300, 600)]
    assert [len(found.scores) for (found,) in network([np.zeros((*side, 3), np.uint8) for side in sides])] == [0] * 8


def test_images_are_averaged_not_sampled_on_the_way_down() -> None:
    """Of a fine pattern whose mean is grey, sampling would leave black and white."""
    seen: list[RgbImage] = []

    def run(images: Iterable[RgbImage]) -> Iterator[Tensors]:
        for image in images:
            seen.append(image)
            yield np.zeros((1, 1, 90), np.float32), np.zeros((1, 1, 4), np.float32)

    random = np.random.default_rng(0)
    shapes = [(64, 96), (60, 60), (75, 410), (331, 500), (200, 333)]
    images = [(random.integers(0, 2, (*shape, 1), np.uint8) * 255).repeat(3, axis=2) for shape in shapes]
    network = detector(run, side=8)
    seen.clear()
    list(network(images))
    for image, small in zip(images, seen, strict=True):
        n_averaged = image.size / small.size
        assert small.std() < 1.5 * 127.5 / n_averaged**0.5


@given(st.integers(1, 900), st.integers(1, 900))
@settings(max_examples=50, deadline=None)
def test_boxes_are_where_the_objects_are_whatever_the_size(height: int, width: int) -> None:
    """A network that finds the white half of the picture, in an image that cannot be halved evenly."""

    def run(images: Iterable[RgbImage]) -> Iterator[Tensors]:
        for image in images:
            # With grey pixels taken by their share, as edges lie inside them.
            left, top = 1 - image[..., 0].mean(axis=1).max() / 255, 1 - image[..., 0].mean(axis=0).max() / 255
            yield np.full((1, 1, 90), 0.9, np.float32), np.array([[(top, left, 1, 1)]], np.float32)

    image = np.zeros((height, width, 3), np.uint8)
    top, left = height // 3, width // 2
    image[top:, left:] = 255
    ((found,),) = detector(run)([image])
    net_pixel = 1 / 30
    assert found.boxes[0] == pytest.approx([top / height, left / width, 1, 1], abs=net_pixel)
