"""What the outputs of detectors mean, worked out by hand, and images of all sizes on their way in and back."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from anonymise.core.detections import RgbImage, Size
from anonymise.core.errors import ModelError
from anonymise.core.resources import CATALOG
from anonymise.models.catalog import DetectorModel, DynamicSize, Input, Output, load_catalog
from anonymise.models.detector import DetectorNetwork
from anonymise.models.fitting import Fit, fit_of, fitted
from anonymise.models.layouts import Tensors, decode

pytestmark = pytest.mark.slow

_BOX = [20.0, 10.0, 40.0, 34.0]
"""[ymin, xmin, ymax, xmax] of the object that all tensors of these tests show, in a picture of 64 × 64 pixels."""

_SIZE = Size(64, 64)
_CLASSES = 3
_COLUMN = 2


def output(**values: Any) -> Output:
    adapter: TypeAdapter[Output] = TypeAdapter(Output)
    return adapter.validate_python(values)


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def ssd() -> tuple[Output, Tensors]:
    scores, boxes = zeros(1, 5, _CLASSES), zeros(1, 5, 4)
    scores[0, 3, _COLUMN], boxes[0, 3] = 0.8, np.array(_BOX) / 64
    return output(layout="ssd", scores="s", boxes="b"), [scores, boxes]


def nanodet() -> tuple[Output, Tensors]:
    entry = output(layout="nanodet", strides=[8, 16], scores=["s8", "s16"], distances=["d8", "d16"])
    scores, distances = [zeros(1, 64, _CLASSES), zeros(1, 16, _CLASSES)], [zeros(1, 64, 44), zeros(1, 16, 44)]
    # Stride 8, row 3, column 2: its middle is at (28, 20). Left 10, top 8, right 14, bottom 12 pixels are 1.25, 1, 1.75
    # and 1.5 strides: a bin, or a mixture of two.
    cell = 3 * 8 + 2
    scores[0][0, cell, _COLUMN] = 0.8
    bins = np.full((4, 11), -50.0)
    bins[0, [1, 2]] = np.log([0.75, 0.25])
    bins[1, 1] = 0
    bins[2, [1, 2]] = np.log([0.25, 0.75])
    bins[3, [1, 2]] = np.log([0.5, 0.5])
    distances[0][0, cell] = bins.ravel()
    return entry, [*scores, *distances]


def centerface() -> tuple[Output, Tensors]:
    heatmap, scale, offset = zeros(1, _CLASSES, 16, 16), zeros(1, 2, 16, 16), zeros(1, 2, 16, 16)
    # The middle (30, 22) lies in row 7, column 5 of cells of 4 pixels, whose middle is (30, 22).
    heatmap[0, _COLUMN, 7, 5] = 0.8
    scale[0, :, 7, 5] = np.log(20 / 4), np.log(24 / 4)
    # Half a cell up and right would be the middle of the object as seen from a cell beside it.
    heatmap[0, 0, 8, 4] = 0.1
    return output(layout="centerface", stride=4, heatmap="h", scale="s", offset="o"), [heatmap, scale, offset]


def yolo(*, objectness: bool, transposed: bool) -> tuple[Output, Tensors]:
    table = zeros(6, 4 + objectness + _CLASSES)
    table[4, :4] = 22, 30, 24, 20
    table[4, -_CLASSES + _COLUMN] = 0.8
    if objectness:
        table[:, 4] = 0.2
        table[4, 4:] = 1.0, 0, 0, 0.8
        table[5, 4:] = 0.2, 0, 0, 0.9  # a sure class of nothing
    entry = output(layout="yolo", tensor=None, objectness=objectness, transposed=transposed)
    return entry, [(table.T if transposed else table)[np.newaxis]]


def rows() -> tuple[Output, Tensors]:
    found = np.array([(0, 10, 20, 34, 40, _COLUMN, 0.8), (0, 1, 1, 2, 2, 0, 0.1)], np.float32)
    return output(layout="rows", tensor="out"), [found]


def anchors() -> tuple[Output, Tensors]:
    entry = output(
        layout="anchors", scores="s", offsets="o", strides=[8, 16], sides=[[8, 16], [32]], variances=[0.1, 0.2]
    )
    n = 8 * 8 * 2 + 4 * 4
    scores, offsets = zeros(1, n, 1 + _CLASSES), zeros(1, n, 4)
    scores[0, :, 0] = 0.9  # background
    # Stride 8, row 3, column 2, the larger anchor of 16 pixels around (20, 28); the object's middle is at (22, 30).
    row = (3 * 8 + 2) * 2 + 1
    scores[0, row, 1 + _COLUMN] = 0.8
    offsets[0, row] = 2 / 1.6, 2 / 1.6, np.log(24 / 16) / 0.2, np.log(20 / 16) / 0.2
    return entry, [scores, offsets]


_LAYOUTS: Mapping[str, tuple[Output, Tensors]] = {
    "ssd": ssd(),
    "nanodet": nanodet(),
    "centerface": centerface(),
    "yolo v5": yolo(objectness=True, transposed=False),
    "yolo v8": yolo(objectness=False, transposed=True),
    "yolo": yolo(objectness=False, transposed=False),
    "rows": rows(),
    "anchors": anchors(),
}


def thresholds(*values: float) -> np.ndarray:
    return np.array(values or (0.3,) * _CLASSES, np.float32)


@pytest.mark.parametrize("name", _LAYOUTS)
def test_each_layout_gives_the_object_where_it_is(name: str) -> None:
    found = decode(*_LAYOUTS[name], _SIZE, thresholds())
    assert found.columns.tolist() == [_COLUMN]
    assert found.scores == pytest.approx([0.8])
    assert found.boxes[0] == pytest.approx(_BOX, abs=1e-3)


@pytest.mark.parametrize("name", _LAYOUTS)
def test_thresholds_are_those_of_the_classes(name: str) -> None:
    def n_found(*values: float) -> int:
        return len(decode(*_LAYOUTS[name], _SIZE, thresholds(*values)).scores)

    assert n_found(0.5, 0.5, 0.79) == 1
    assert n_found(0.5, 0.5, 0.81) == 0
    assert n_found(0.3, 0.3, np.inf) == 0  # of no interest


@pytest.mark.parametrize("name", _LAYOUTS)
def test_nothing_in_the_picture_is_nothing_found(name: str) -> None:
    entry, tensors = _LAYOUTS[name]
    empty = [np.zeros_like(tensor) for tensor in tensors]
    found = decode(entry, empty, _SIZE, thresholds())
    assert [part.shape for part in found] == [(0, 4), (0,), (0,)]


def test_a_network_that_suppresses_may_give_no_rows_at_all() -> None:
    found = decode(rows()[0], [zeros(0, 7)], _SIZE, thresholds())
    assert [part.shape for part in found] == [(0, 4), (0,), (0,)]


@pytest.mark.parametrize("name", _LAYOUTS)
def test_shapes_that_do_not_fit_are_named_with_what_was_expected(name: str) -> None:
    entry, tensors = _LAYOUTS[name]
    for number in range(len(tensors)):
        wrong = [*tensors]
        wrong[number] = zeros(2, 3, 5)
        with pytest.raises(ModelError, match=rf"has the shape \(2, 3, 5\); .* layout {entry.layout} needs \("):
            decode(entry, wrong, _SIZE, thresholds())


def test_a_number_of_bins_that_is_no_whole_number_is_refused() -> None:
    entry, (s8, s16, _, d16) = nanodet()
    with pytest.raises(ModelError, match=r"d8 has the shape .* a multiple of 4"):
        decode(entry, [s8, s16, zeros(1, 64, 43), d16], _SIZE, thresholds())


def test_classes_that_the_entry_does_not_name_are_refused() -> None:
    entry, (table,) = rows()
    with pytest.raises(ModelError, match="finds class 2, but its entry names 2 classes"):
        decode(entry, [table], _SIZE, thresholds(0.3, 0.3))


def model(size: object, fit: str, **changed: object) -> DetectorModel:
    """Nano with another input."""
    nano = load_catalog(CATALOG)["Nano"]
    values = nano.model_dump() | changed
    values["input"] |= {"size": size, "fit": fit, "padding": 7}
    return DetectorModel.model_validate(values)


_INPUTS = [
    model([64, 48], "stretch").input,
    model([64, 48], "letterbox").input,
    model({"multiple_of": 32, "max_pixels": 40_000}, "stretch").input,
    model({"multiple_of": 32, "max_pixels": 40_000}, "letterbox").input,
    model({"multiple_of": 32, "nominal": [320, 160]}, "letterbox").input,
]


def fit_in(image: RgbImage, to: Input, scale: float = 1.0) -> tuple[RgbImage, Fit]:
    fit = fit_of(Size(image.shape[1], image.shape[0]), to, scale)
    return fitted(image, fit, to.padding), fit


@given(st.sampled_from(_INPUTS), st.integers(1, 900), st.integers(1, 900))
@settings(max_examples=100, deadline=None)
def test_pictures_fit_the_network_and_boxes_the_image(to: Input, height: int, width: int) -> None:
    image = np.full((height, width, 3), 7, np.uint8)
    top, left = height // 3, width // 2
    image[top:, left:] = 207
    picture, fit = fit_in(image, to)
    assert picture.shape == (fit.picture.height, fit.picture.width, 3)
    if isinstance(to.size, tuple):
        assert fit.picture == to.size
    else:
        assert not any(length % 32 for length in fit.picture)
    if isinstance(to.size, DynamicSize):
        assert max(0, fit.picture.width - 33) * max(0, fit.picture.height - 33) <= 40_000
    if to.fit == "letterbox":
        # Of the same shape, but for half a pixel.
        scale = fit.inner.width / width, fit.inner.height / height
        assert abs(scale[0] * height - fit.inner.height) <= 0.5 * (height / width + 1) + 1 or 1 in fit.inner
    # The bright part, with grey pixels taken by their share, as edges lie inside them.
    bright = (picture[..., 0].astype(float) - 7) / 200
    bottom_edge, right_edge = fit.offset[0] + fit.inner.height, fit.offset[1] + fit.inner.width
    seen = bottom_edge - bright.sum(axis=0).max(), right_edge - bright.sum(axis=1).max(), bottom_edge, right_edge
    (box,) = fit.in_image(np.array([seen], np.float32))
    pixel = max(1 / fit.inner.height, 1 / height), max(1 / fit.inner.width, 1 / width)
    assert box == pytest.approx([top / height, left / width, 1, 1], abs=1.01 * max(pixel))


def test_a_letterbox_is_filled_with_the_padding_around_the_image() -> None:
    picture, fit = fit_in(np.full((100, 50, 3), 200, np.uint8), _INPUTS[1])
    assert (fit.inner, fit.offset) == (Size(24, 48), (0, 20))
    assert (picture[:, 20:44] == 200).all()
    assert (picture[:, :20] == 7).all()
    assert (picture[:, 44:] == 7).all()


def test_a_network_of_any_size_sees_images_as_they_are() -> None:
    image = np.random.default_rng(0).integers(0, 256, (70, 100, 3), np.uint8)
    picture, fit = fit_in(image, _INPUTS[3])
    assert fit.picture == (128, 96)
    assert np.array_equal(picture[13:83, 14:114], image)


@given(st.integers(1, 4000), st.integers(1, 4000), st.floats(0.5, 4))
@settings(max_examples=100, deadline=None)
def test_a_scalable_network_gets_its_area_in_the_shape_of_the_image(height: int, width: int, scale: float) -> None:
    picture, fit = fit_in(np.zeros((height, width, 3), np.uint8), _INPUTS[4], scale)
    assert picture.shape[:2] == (fit.picture.height, fit.picture.width)
    wanted = scale * math.sqrt(320 * 160)
    ideal = wanted * math.sqrt(height / width), wanted * math.sqrt(width / height)
    for length, target in zip(picture.shape, ideal, strict=False):
        assert length % 32 == 0
        assert abs(length - target) <= 16 or length == 32
    # The image fills the picture in one direction.
    assert fit.inner.width == fit.picture.width or fit.inner.height == fit.picture.height


def test_images_that_would_be_enlarged_too_much_are_left_out_and_the_others_keep_their_places() -> None:
    entry = model({"multiple_of": 32, "nominal": [64, 64]}, "letterbox", classes=["face"], output=yolo(
        objectness=False, transposed=False)[0].model_dump())  # fmt: skip
    seen = []

    def run(images: Iterable[RgbImage]) -> Iterator[Tensors]:
        for image in images:
            seen.append(image.shape[:2])
            table = zeros(1, 1, 5)
            table[0, 0] = 32, 32, 20, 20, image[0, 0, 0] / 255
            yield [table]

    network = DetectorNetwork(run, entry, thresholds={1001: 0.1}, nms_iou_threshold=0.5, scales=[2, 1, 3])
    seen.clear()
    sides = [60, 200, 79, 80, 40, 120, 30]
    found = list(network(np.full((side, side, 3), side, np.uint8) for side in sides))
    scores = [[np.round(f.scores * 255).tolist() for f in looks] for looks in found]
    # An image of 80 pixels is enlarged 1.6 times in a picture of 128, one of 120 in one of 192.
    assert scores == [
        [[], [60], []],
        [[200], [200], [200]],
        [[], [79], []],
        [[80], [80], []],
        [[], [40], []],
        [[120], [120], [120]],
        [[], [30], []],
    ]
    assert seen == [(64, 64), (128, 128), (64, 64), (192, 192), (64, 64), (128, 128), (64, 64), (64, 64), (128, 128),
                    (64, 64), (192, 192), (64, 64)]  # fmt: skip
    assert all(f.boxes.shape == (len(f.scores), 4) for looks in found for f in looks)


class Seen:
    """A network without findings that notes the sizes of its pictures."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []

    def __call__(self, images: Iterable[RgbImage]) -> Iterator[Tensors]:
        for image in images:
            self.sizes.append(image.shape[:2])
            yield [zeros(1, 1, 5)]

    def of(self, size: object, scales: list[float], side: int, own_scales: object = None) -> list[tuple[int, ...]]:
        """The sizes of the pictures of a square image."""
        one_class = {"classes": ["face"], "output": yolo(objectness=False, transposed=False)[0].model_dump()}
        entry = model(size, "letterbox", **one_class)
        entry = entry.model_copy(update={"input": entry.input.model_copy(update={"scales": own_scales})})
        network = DetectorNetwork(self, entry, thresholds={1001: 0.1}, nms_iou_threshold=0.5, scales=scales)
        self.sizes.clear()
        list(network([np.zeros((side, side, 3), np.uint8)]))
        return self.sizes


def test_a_network_of_open_size_sees_images_larger_up_to_its_limit() -> None:
    size = {"multiple_of": 32, "max_pixels": 200 * 200}
    assert Seen().of(size, [1, 2, 3], 64) == [(64, 64), (128, 128), (192, 192)]
    # At its limit all scales are one.
    assert Seen().of(size, [1, 2, 3], 128) == [(128, 128), (224, 224)]


def test_an_entry_may_have_scales_of_its_own_which_have_no_limit() -> None:
    size = {"multiple_of": 32, "nominal": [64, 64]}
    assert Seen().of(size, [1], 30, (1.0, 4.0)) == [(64, 64), (256, 256)]


def test_some_rows_only_are_seen_at_the_largest_scale_and_nothing_that_is_cut_there() -> None:
    entry = model({"multiple_of": 32, "nominal": [64, 64]}, "letterbox", classes=["face"], output=yolo(
        objectness=False, transposed=False)[0].model_dump())  # fmt: skip
    seen = []

    def run(images: Iterable[RgbImage]) -> Iterator[Tensors]:
        for image in images:
            seen.append(image.shape[:2])
            # At the upper edge, in the middle, at the lower edge, as [x, y, width, height].
            height, width = image.shape[:2]
            boxes = [(width / 2, y, width / 4, height / 4) for y in (height / 8, height / 2, height * 7 / 8)]
            table = np.array([[(*box, 0.5 + 0.1 * n) for n, box in enumerate(boxes)]], np.float32)
            yield [table]

    network = DetectorNetwork(
        run, entry, thresholds={1001: 0.1}, nms_iou_threshold=0.5, scales=[1, 4], band=(0.25, 0.75)
    )
    seen.clear()
    ((whole, rows),) = network([np.zeros((400, 400, 3), np.uint8)])
    assert seen == [(64, 64), (128, 256)]
    assert len(whole.scores) == 3
    assert rows.scores == pytest.approx([0.6])
    # A quarter of the rows between 100 and 300, in their middle.
    assert rows.boxes[0] == pytest.approx([175 / 400, 150 / 400, 225 / 400, 250 / 400])


def test_objects_come_back_in_shares_of_the_image_and_doubles_are_dropped() -> None:
    """A YOLO network that finds a face twice, and a plate, in the letterbox of an upright image."""
    entry = model([64, 64], "letterbox", classes=["face", None, "plate"], output=yolo(
        objectness=False, transposed=False)[0].model_dump())  # fmt: skip
    table = zeros(1, 6, 7)
    table[0, :3, :4] = (32, 32, 16, 32), (32, 31, 16, 32), (40, 56, 8, 8)
    table[0, :2, 4] = 0.7, 0.9
    table[0, 2, 6] = 0.5
    table[0, 3, :4], table[0, 3, 5] = (32, 32, 16, 32), 0.99  # a class of no interest

    def run(images: Iterable[RgbImage]) -> Iterator[Tensors]:
        for image in images:
            assert image.shape == (64, 64, 3)
            yield [table]

    network = DetectorNetwork(run, entry, thresholds={1001: 0.3, 1002: 0.3}, nms_iou_threshold=0.5)
    ((found,),) = network([np.zeros((128, 64, 3), np.uint8)])
    assert found.labels.tolist() == [1001, 1002]
    assert found.scores == pytest.approx([0.9, 0.5])
    # The image takes columns 16 to 48.
    assert found.boxes[0] == pytest.approx([15 / 64, 8 / 32, 47 / 64, 24 / 32])
    assert found.boxes[1] == pytest.approx([52 / 64, 20 / 32, 60 / 64, 28 / 32])


def test_a_network_whose_outputs_do_not_fit_its_entry_is_refused_before_the_first_image() -> None:
    with pytest.raises(ModelError, match=r"The output Identity has the shape \(1, 9, 80\); .* needs \(1, 2704, 80\)"):
        DetectorNetwork(
            lambda images: ([zeros(1, 9, 80)] * 6 for _ in images),
            model([416, 416], "letterbox"),
            thresholds={},
            nms_iou_threshold=0.5,
        )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": ["face", "nose"]}, "nose: no known class"),
        ({"network": "other.json"}, "other.json is not among the files"),
        ({"network": "nanodet.pb"}, "network"),
        ({"output": {"layout": "nanodet", "strides": [8], "scores": [], "distances": ["a"]}}, "one output for each"),
        ({"output": {"layout": "neither"}}, "neither"),
        (
            {
                "output": {
                    "layout": "anchors",
                    "scores": "s",
                    "offsets": "o",
                    "strides": [8, 16],
                    "sides": [[8]],
                    "variances": [0.1, 0.2],
                }
            },
            "sides needs a list of anchors for each stride",
        ),
    ],
)
def test_entries_that_contradict_themselves_are_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        model([416, 416], "letterbox", **changed)


def test_scales_make_no_sense_for_a_network_of_one_size() -> None:
    values = load_catalog(CATALOG)["Lite"].model_dump()
    values["input"]["scales"] = [1, 2]
    with pytest.raises(ValidationError, match="pictures of one size only"):
        DetectorModel.model_validate(values)
