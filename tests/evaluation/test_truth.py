"""Reading ground truth."""

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_masks

from anonymise.core.detections import Box, Size
from anonymise.core.errors import ConfigError, ImageError, UsageError
from anonymise.evaluation.coco_annotations import annotated_by_coco
from anonymise.evaluation.label_images import annotated_by_labels, read_labels
from anonymise.evaluation.truth import Annotated, FileIndex, Truth
from tests.evaluation.scenes import coco_file, options, write_labels

PERSON, CAR = 1, 3
HIDDEN = frozenset({PERSON, CAR})
CLASSES = {"car": CAR, "pedestrian": PERSON}
IMAGE = {"id": 7, "file_name": "a/b.jpg", "width": 40, "height": 30}


def labels_with(*areas: tuple[Box, int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    labels = np.zeros((30, 40), np.uint8)
    for box, value in areas:
        labels[box.slices] = value
    return labels


def test_connected_areas_of_a_label_image_are_objects(tmp_path: Path) -> None:
    labels = labels_with(
        (Box(0, 0, 10, 5), 9),
        (Box(10, 5, 20, 10), 9),  # touches the first at a corner
        (Box(30, 0, 33, 3), 9),  # too small for an object
        (Box(0, 20, 10, 25), 8),
        (Box(20, 20, 40, 30), 11),
    )
    write_labels(tmp_path / "x_labels.png", labels)
    (found,) = annotated_by_labels(tmp_path, HIDDEN, options(min_object_pixels=10))
    truth = found.load()
    assert (found.name, truth.size) == ("x", Size(40, 30))
    assert [(t.category, t.label, t.box, t.area) for t in truth.objects] == [
        ("car", CAR, Box(0, 20, 10, 25), 50),
        ("pedestrian", PERSON, Box(0, 0, 20, 10), 100),
    ]
    assert {name: int(region.sum()) for name, region in truth.regions.items()} == {
        "car": 50, "pedestrian": 109, "bicyclist": 0,
    }  # fmt: skip
    assert truth.void is not None
    assert int(truth.void.sum()) == 200


def test_numbers_of_a_palette_are_read_as_numbers(tmp_path: Path) -> None:
    picture = Image.fromarray(labels_with((Box(0, 0, 10, 10), 9)), mode=None).convert("P")
    picture.putpalette([value for n in range(256) for value in (255 - n, n, 7)])
    picture.save(tmp_path / "x.png")
    truth = read_labels(tmp_path / "x.png", "x", CLASSES, options())
    assert [thing.box for thing in truth.objects] == [Box(0, 0, 10, 10)]


def test_classes_that_are_not_hidden_are_background(tmp_path: Path) -> None:
    write_labels(tmp_path / "x.png", labels_with((Box(0, 0, 10, 10), 9), (Box(20, 0, 30, 10), 8)))
    truth = read_labels(tmp_path / "x.png", "x", {"car": CAR}, options())
    assert set(truth.regions) == {"car"}


@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_pictures_that_are_no_label_images(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (40, 30)).save(tmp_path / "x.png")
    with pytest.raises(ImageError, match="numbers of classes"):
        read_labels(tmp_path / "x.png", "x", CLASSES, options())


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_label_images_that_are_broken(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(ImageError, match=r"x\.png cannot be read"):
        read_labels(tmp_path / "x.png", "x", CLASSES, options())


def test_folders_without_label_images_and_images_with_two(tmp_path: Path) -> None:
    for folder, message in ((tmp_path / "nowhere", "does not exist"), (tmp_path, "no label images")):
        with pytest.raises(UsageError, match=message):
            annotated_by_labels(folder, HIDDEN, options())
    with pytest.raises(UsageError, match="evaluation_label_classes: wall is no known class"):
        annotated_by_labels(tmp_path, HIDDEN, options(label_classes={"wall": 4}))
    for name in ("x.png", "x_labels.png"):
        write_labels(tmp_path / name, labels_with())
    with pytest.raises(UsageError, match="both label images of x"):
        annotated_by_labels(tmp_path, HIDDEN, options())


def coco(file: Path, max_pixels: int = 10**6) -> tuple[Annotated, ...]:
    return annotated_by_coco(file, HIDDEN, options(), max_pixels=max_pixels)


def truth_in(file: Path, *, normalised: bool = False, **changed: object) -> Truth:
    (found,) = annotated_by_coco(file, HIDDEN, options(**changed), max_pixels=10**6, normalised=normalised)
    return found.load()


def test_boxes_polygons_and_run_lengths(tmp_path: Path) -> None:
    triangle = np.tril(np.ones((8, 8), np.uint8))
    full = np.zeros((30, 40), np.uint8, order="F")
    full[10:18, 20:28] = triangle
    compressed = coco_masks.encode(full)
    plain = {"size": [30, 40], "counts": [0, 30 * 5, 30 * 35]}  # the first five columns
    file = coco_file(
        tmp_path / "annotations.json",
        [IMAGE],
        [
            {"image_id": 7, "category_id": 1, "bbox": [2.5, 3.2, 10, 4.1], "area": 41.0},
            {"image_id": 7, "category_id": 1, "bbox": [5, 5, 4, 4], "segmentation": [[5, 5, 9, 5, 9, 9, 5, 9]]},
            {"image_id": 7, "category_id": 2, "segmentation": {**compressed, "counts": compressed["counts"].decode()}},
            {"image_id": 7, "category_id": 2, "segmentation": plain, "bbox": [0, 0, 5, 30], "iscrowd": 1},
            {"image_id": 7, "category_id": 3, "bbox": [0, 0, 40, 30]},
        ],
        "Person",
        "car",
        "dog",
    )  # fmt: skip
    truth = truth_in(file)
    assert (truth.name, truth.size, truth.void) == ("a/b", Size(40, 30), None)
    boxed, square, half, crowd = truth.objects
    assert (boxed.category, boxed.label, boxed.box) == ("Person", PERSON, Box(2, 3, 13, 8))
    assert (boxed.bbox, boxed.area) == ((2.5, 3.2, 10.0, 4.1), 41.0)
    assert (square.box, bool(square.mask.all()), square.area) == (Box(5, 5, 9, 9), True, 16.0)
    assert half.box == Box(20, 10, 28, 18)
    assert np.array_equal(half.mask, triangle.astype(bool))
    assert (half.bbox, half.area) == ((20.0, 10.0, 8.0, 8.0), 36.0)
    assert (crowd.box, crowd.crowd, half.crowd) == (Box(0, 0, 5, 30), True, False)
    assert {name: int(region.sum()) for name, region in truth.regions.items()} == {"Person": 55 + 4, "car": 186}


def test_attributes_are_what_an_annotation_says_besides(tmp_path: Path) -> None:
    annotation = {
        "image_id": 7, "category_id": 1, "bbox": [0, 0, 4, 4], "keypoints": [1, 2, 0], "num_keypoints": 1,
        "sex": "female", "occluded": True, "age": None, "confidence": 0.7,
        "attributes": {"skin colour": "III", "glasses": False, "children": 2, "rotation": 0.0},
    }  # fmt: skip
    (thing,) = truth_in(coco_file(tmp_path / "a.json", [IMAGE], [annotation], "person")).objects
    expected = {"sex": "female", "occluded": "yes", "skin colour": "III", "glasses": "no", "children": "2"}
    assert thing.attributes == expected


def test_images_without_annotations_are_there_with_none(tmp_path: Path) -> None:
    file = coco_file(tmp_path / "a.json", [IMAGE, {**IMAGE, "id": 8, "file_name": "c.jpg"}], [], "person")
    assert [(found.name, found.load().objects) for found in coco(file)] == [
        ("a/b", ()),
        ("c", ()),
    ]


def test_other_names_of_classes(tmp_path: Path) -> None:
    annotations = [{"image_id": 7, "category_id": n, "bbox": [0, 0, 4, 4]} for n in (1, 2)]
    file = coco_file(tmp_path / "a.json", [IMAGE], annotations, "Voetganger", "scooter")
    with pytest.raises(UsageError, match=r"no known classes: Voetganger, scooter.*evaluation_class_synonyms"):
        coco(file)
    (thing,) = truth_in(file, class_synonyms={"voetganger": "person", "scooter": None}).objects
    assert (thing.category, thing.label) == ("Voetganger", PERSON)
    with pytest.raises(UsageError, match="None of the categories"):
        coco(coco_file(tmp_path / "dogs.json", [IMAGE], [], "dog"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "are no JSON"),
        ("{", "are no JSON"),
        ("[]", "not in COCO's format"),
        ("{}", "KeyError: 'categories'"),
        ('{"categories": [], "images": [], "annotations": []}', "lists no images"),
        ('{"categories": [], "images": [{"id": 1}], "annotations": []}', "KeyError: 'file_name'"),
        (
            json.dumps({"categories": [], "images": [IMAGE], "annotations": [{"image_id": 1, "category_id": 1}]}),
            "of the image 1, which is not in the file's list of images",
        ),
        (json.dumps({"categories": [], "images": [IMAGE, IMAGE], "annotations": []}), "images have the same id: 7"),
        (
            json.dumps({"categories": [], "images": [IMAGE, IMAGE | {"id": 8}], "annotations": []}),
            "images have the same file_name: a/b",
        ),
        (
            json.dumps({"categories": [{"id": 1, "name": n} for n in ("car", "bus")], "images": [], "annotations": []}),
            "categories have the same id: 1",
        ),
        ("[" * 100_000, "are no JSON"),
        (
            json.dumps({"categories": [], "images": [IMAGE], "annotations": [{"image_id": 7, "category_id": 1}]}),
            "not in the file's list of categories",
        ),
    ],
)
def test_files_that_are_no_annotations(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text, "utf-8")
    with pytest.raises(UsageError, match=message):
        coco(tmp_path / "a.json")
    with pytest.raises(UsageError, match="cannot be read"):
        coco(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({}, "'bbox'"),
        ({"bbox": [1, 2, 3]}, "not enough values"),
        ({"bbox": ["a", 0, 1, 1]}, "makes no sense"),
        ({"bbox": [50, 0, 4, 4]}, "outside of the image of 40×30"),
        ({"bbox": [0, 0, 0, 0]}, "empty box"),
        ({"segmentation": [[1, 1, 2, 2]]}, "three points"),
        ({"segmentation": ["x"]}, "three points"),
        ({"segmentation": [[50, 40, 60, 40, 60, 50]]}, "covers no pixel"),
        ({"segmentation": [[100, 100, 110, 100, 110, 110]]}, "far outside of the image of 40×30"),
        ({"segmentation": [[1, 1, 9, 1, math.nan, 9]]}, "no numbers"),
        ({"segmentation": [[1, 1, 9, 1, math.inf, 9]]}, "no numbers"),
        ({"segmentation": [[1, 1, 9, 1, 1e300, 9]]}, "far outside"),
        ({"segmentation": [[1, 1, 9, 1, 10**400, 9]]}, "makes no sense"),
        ({"segmentation": [[1, 1, 9, 1, "9", "x"]]}, "makes no sense"),
        ({"segmentation": [[1, 1, 9, 1, None, 9]]}, "makes no sense"),
        (
            {"segmentation": [[9, 5, 8, 4, 7, 3]] * 40_000},
            "more than 100000 points",
        ),
        ({"segmentation": [[0, 0, 40, 30, 0, 0, 40, 0] * 12_000, [0, 0, 40, 30, 0, 0] * 14_000]}, "is longer than"),
        ({"segmentation": {"size": [30, 40], "counts": [0, 1199]}}, "run lengths are of 1199 pixels"),
        ({"segmentation": {"size": [30, 40], "counts": [-5, 1205]}}, "negative or larger"),
        ({"segmentation": {"size": [30, 40], "counts": [1200]}}, "covers no pixel"),
        ({"segmentation": {"size": [30, 40], "counts": "0"}}, "run lengths are of 0 pixels"),
        ({"segmentation": {"size": [30, 40], "counts": "P"}}, "middle of a number"),
        ({"segmentation": {"size": [30, 40], "counts": 7}}, "a text or a list"),
        ({"bbox": [0, 0, math.nan, 4]}, "numbers that are none"),
        ({"bbox": [0, 0, 10**400, 4]}, "makes no sense"),
        ({"bbox": [0, 0, 4, 4], "area": math.nan}, "its area is nan"),
        ({"bbox": [0, 0, 4, 4], "iscrowd": "no"}, "iscrowd is 'no'"),
        ({"segmentation": {"size": [40, 30], "counts": [0, 1200]}}, "image of 30×40 pixels, not 40×30"),
        ({"segmentation": {"counts": [0, 1200]}}, "'size'"),
    ],
)
def test_an_annotation_that_makes_no_sense_is_named(tmp_path: Path, annotation: dict[str, Any], message: str) -> None:
    whole = {"image_id": 7, "category_id": 1, **annotation}
    (found,) = coco(coco_file(tmp_path / "a.json", [IMAGE], [whole], "person"))
    with pytest.raises(ImageError, match=message) as caught:
        found.load()
    assert "annotation 1 " in str(caught.value)


NORMALISED = [
    {"image_id": 7, "category_id": 1, "bbox": [0.1, 0.2, 0.25, 0.4]},
    {"image_id": 7, "category_id": 1, "segmentation": [[0.5, 0.5, 0.75, 0.5, 0.75, 1, 0.5, 1]], "area": 0.125},
]


@pytest.mark.parametrize("annotation", NORMALISED)
def test_fractions_are_refused_where_pixels_are_expected(tmp_path: Path, annotation: dict[str, Any]) -> None:
    in_pixels = {"image_id": 7, "category_id": 1, "bbox": [1, 0, 4, 4]}
    for annotations, number in (([annotation], 1), ([in_pixels, annotation], 2)):
        file = coco_file(tmp_path / "a.json", [IMAGE], annotations, "person")
        with pytest.raises(UsageError, match=rf"annotation {number} reaches to .*--normalised"):
            coco(file)


def test_fractions_become_pixels(tmp_path: Path) -> None:
    boxed, shaped = truth_in(coco_file(tmp_path / "a.json", [IMAGE], NORMALISED, "person"), normalised=True).objects
    assert boxed.box == Box(4, 6, 14, 18)
    assert boxed.bbox == pytest.approx((4, 6, 10, 12))
    assert (shaped.box, bool(shaped.mask.all())) == (Box(20, 15, 30, 30), True)
    assert [boxed.area, shaped.area] == pytest.approx([120, 150])
    in_pixels = {"image_id": 7, "category_id": 1, "bbox": [1, 0, 4, 4]}
    with pytest.raises(UsageError, match=r"annotation 1 reaches to 5, .*Leave --normalised out"):
        truth_in(coco_file(tmp_path / "a.json", [IMAGE], [in_pixels], "person"), normalised=True)


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.integers(-3, 60),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.sampled_from(["size", "counts"]), inner),
    max_leaves=30,
), st.sampled_from(["bbox", "segmentation", "area", "iscrowd"]))  # fmt: skip
def test_whatever_stands_in_an_annotation_is_understood_or_named(value: object, key: str) -> None:
    whole = {"image_id": 7, "category_id": 1, "bbox": [2, 2, 4, 4], key: value}
    with tempfile.TemporaryDirectory() as folder:
        file = coco_file(Path(folder, "a.json"), [IMAGE], [whole], "person")
        try:
            ((thing,),) = (found.load().objects for found in coco(file))
        except (ImageError, UsageError):
            return
    assert thing.mask.any()


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=60))
def test_no_run_lengths_bring_the_process_down(counts: str) -> None:
    rle = {"size": [30, 40], "counts": counts}
    with tempfile.TemporaryDirectory() as folder:
        whole = {"image_id": 7, "category_id": 1, "segmentation": rle}
        (found,) = coco(coco_file(Path(folder, "a.json"), [IMAGE], [whole], "person"))
        try:
            (thing,) = found.load().objects
        except ImageError:
            return
    assert np.count_nonzero(thing.mask) == coco_masks.area(rle)


def test_an_annotation_of_an_enormous_image_is_named(tmp_path: Path) -> None:
    for width, message in ((10**4, "more than the limit"), (10**400, "not possible"), (-4, "not possible")):
        file = tmp_path / "a.json"
        with pytest.raises(ImageError, match=message):
            coco(coco_file(file, [{**IMAGE, "width": width}], [], "car"), max_pixels=10**5)[0].load()


def test_an_image_without_a_size_is_named(tmp_path: Path) -> None:
    (found,) = coco(coco_file(tmp_path / "a.json", [{"id": 1, "file_name": "a.jpg"}], [], "car"))
    with pytest.raises(ImageError, match="how large the image is"):
        found.load()


def test_files_are_found_by_path_then_by_name() -> None:
    index = FileIndex([("a/1", Path("A")), ("b/1", Path("B")), ("b/2", Path("C"))])
    assert index.find("a/1") == Path("A")
    assert index.find("1") is None  # which one?
    assert index.find("2") == index.find("elsewhere/2") == Path("C")
    assert index.find("3") is None
    assert index.without({Path("A"), Path("C")}) == ("b/1",)


@pytest.mark.parametrize(
    "changed",
    [
        {"size_groups": [0.1, 0.1]},
        {"thresholds": [0.2, 0.1]},
        {"thresholds": []},
        {"class_synonyms": {"rider": "human"}},
        {"label_void": [8]},
        {"missed_share": 0.95},
        {"confidence": 1},
    ],
)
def test_options_that_contradict_are_named(changed: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="evaluation_"):
        options(**changed)
