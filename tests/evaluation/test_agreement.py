"""The same numbers as others get: COCO's own code, the script that scores masks, and a small implementation."""

import contextlib
import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from anonymise import config
from anonymise.core.detections import Box, Detections, Instance, Size
from anonymise.evaluation.average_precision import STATISTICS
from anonymise.evaluation.coco_annotations import annotated_by_coco
from anonymise.evaluation.evaluation import Evaluation, evaluate
from anonymise.evaluation.finders import by_masks
from anonymise.evaluation.label_images import annotated_by_labels
from anonymise.evaluation.truth import Found, index_files
from tests.evaluation.scenes import coco_file, drawn, found_in, options, write_labels

pytestmark = pytest.mark.slow

HIDDEN = config.load().model.hidden
SIZE = Size(200, 150)


def ellipse(box: Box) -> np.ndarray[Any, np.dtype[np.bool_]]:
    x = (np.arange(box.width) + 0.5) / box.width * 2 - 1
    y = (np.arange(box.height) + 0.5) / box.height * 2 - 1
    return np.asarray(x[np.newaxis] ** 2 + y[:, np.newaxis] ** 2 <= 1)


def some_box(rng: np.random.Generator) -> Box:
    width, height = (int(side) for side in np.exp(rng.uniform(1.5, 4.7, 2)))
    left, top = int(rng.integers(0, SIZE.width - 4)), int(rng.integers(0, SIZE.height - 4))
    return Box(left, top, min(SIZE.width, left + width), min(SIZE.height, top + height))


def near(rng: np.random.Generator, box: Box) -> Box:
    left, top = max(0, box.left + int(rng.integers(-3, 4))), max(0, box.top + int(rng.integers(-3, 4)))
    right, bottom = box.right + int(rng.integers(-3, 4)), box.bottom + int(rng.integers(-3, 4))
    return Box(left, top, max(left + 1, min(SIZE.width, right)), max(top + 1, min(SIZE.height, bottom)))


@pytest.fixture(scope="module")
def fixture(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Detections]]:
    """Annotations of 12 images with boxes, polygons, run lengths and crowds; and what was found, some of it wrong."""
    rng = np.random.default_rng(11)
    images, annotations, found = [], [], {}
    for number in range(12):
        images.append({"id": 100 + number, "file_name": f"{number}.jpg", "width": SIZE.width, "height": SIZE.height})
        instances = []
        for _ in range(int(rng.integers(0, 8)) if number else 0):
            box, category = some_box(rng), int(rng.integers(1, 4))
            annotation: dict[str, Any] = {"image_id": 100 + number, "category_id": category}
            if rng.random() < 0.5:
                corners = [
                    box.left,
                    box.top + 0.4,
                    box.right - 0.3,
                    box.top,
                    box.right,
                    box.bottom,
                    box.left,
                    box.bottom,
                ]
                annotation |= {"segmentation": [corners]}
                annotation |= {"bbox": [box.left, box.top, box.width, box.height], "area": box.area * 0.98}
            else:
                full = np.zeros((SIZE.height, SIZE.width), np.uint8, order="F")
                full[box.slices] = ellipse(box)
                run_lengths = coco.encode(full)
                annotation["segmentation"] = {**run_lengths, "counts": run_lengths["counts"].decode()}
                annotation["bbox"] = coco.toBbox(run_lengths).tolist()
                annotation["area"] = float(coco.area(run_lengths))
            annotations.append(annotation | {"iscrowd": int(rng.random() < 0.1)})
            if rng.random() < 0.8:
                about = near(rng, box)
                label = {1: 1, 2: 3, 3: 6}[category if rng.random() < 0.9 else 1]
                instances.append(Instance(label, float(np.round(rng.random(), 3)), about, ellipse(about)))
        if rng.random() < 0.6:
            box = some_box(rng)
            instances.append(Instance(8, 0.4, box, ellipse(box)))
            instances.append(Instance(3, 0.35, box, ellipse(box)))
        found[str(number)] = Detections(SIZE, tuple(instances))
    folder = tmp_path_factory.mktemp("coco")
    return coco_file(folder / "a.json", images, annotations, "person", "car", "bus"), found


def by_pycocotools(
    file: Path, found: dict[str, Detections], kind: str, folder: Path, image: int | None = None
) -> list[float]:
    """The twelve numbers, along the way that pycocotools' own demo takes: files, loadRes, summarize."""
    categories = {1: 1, 3: 2, 6: 3}
    results = []
    for name, detections in found.items():
        for instance in detections.instances:
            if instance.label not in categories:
                continue
            result: dict[str, Any] = {
                "image_id": 100 + int(name),
                "category_id": categories[instance.label],
                "score": instance.score,
            }
            box = instance.box
            if kind == "bbox":
                result["bbox"] = [box.left, box.top, box.width, box.height]
            else:
                full = np.zeros((SIZE.height, SIZE.width), np.uint8, order="F")
                full[box.slices] = instance.mask
                encoded = coco.encode(full)
                result["segmentation"] = {**encoded, "counts": encoded["counts"].decode()}
            results.append(result)
    (folder / "results.json").write_text(json.dumps(results), "utf-8")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(file))
        work = COCOeval(truth, truth.loadRes(str(folder / "results.json")), kind)
        if image is not None:
            work.params.imgIds = [100 + image]
        work.evaluate()
        work.accumulate()
        work.summarize()
    return [float(value) for value in work.stats]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_precision_is_that_of_pycocotools(
    fixture: tuple[Path, dict[str, Detections]], kind: str, tmp_path: Path
) -> None:
    file, found = fixture
    pairs = [
        (one.load(), Found.of(found[one.name])) for one in annotated_by_coco(file, HIDDEN, options(), max_pixels=10**6)
    ]
    evaluation = evaluate(pairs, options(), per_image=True)
    (precision,) = (one for one in evaluation.precision if one.kind == kind)
    expected = by_pycocotools(file, found, kind, tmp_path)
    assert expected[0] > 0.1  # the fixture is no trivial one
    ours = [precision.statistics[name] for name in STATISTICS]
    assert [-1 if value is None else value for value in ours] == pytest.approx(expected, abs=1e-9)
    assert len(precision.by_image) == 8
    for name in [*precision.by_image][2:5]:
        expected = by_pycocotools(file, found, kind, tmp_path, image=int(name))
        # Classes that this image does not have count in neither.
        assert precision.by_image[name]["AP50"] == pytest.approx(expected[1], abs=1e-9)


def evaluated(masks: Path, labels: Path) -> Evaluation:
    finder = by_masks(index_files(masks, "_mask.png"), [])
    truths = (one.load() for one in annotated_by_labels(labels, HIDDEN, options()))
    return evaluate([(truth, finder(truth)) for truth in truths], options())


def read_grey(file: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with Image.open(file) as picture:
        return np.asarray(picture)


def scored(masks: Path, labels: Path) -> dict[str, float]:
    """A small implementation of its own: pixels, by image, by number."""
    covered, total = dict.fromkeys((8, 9, 10, 0), 0), dict.fromkeys((8, 9, 10, 0), 0)
    for file in labels.glob("*.png"):
        truth = read_grey(file).astype(int)
        mask = masks / f"{file.stem}_mask.png"
        hidden = read_grey(mask) == 0 if mask.exists() else np.zeros(truth.shape, bool)
        truth[truth < 8] = 0
        for value in total:
            total[value] += int((truth == value).sum())
            covered[value] += int(((truth == value) & hidden).sum())
    names = {8: "car", 9: "pedestrian", 10: "bicyclist", 0: "over_blur"}
    return {names[value]: covered[value] / total[value] for value in total if total[value]}


def compare(evaluation: Evaluation, expected: dict[str, float]) -> None:
    for name, share in expected.items():
        row = evaluation.row("over_blur") if name == "over_blur" else evaluation.row("pixel_recall", name)
        assert row.share == pytest.approx(share, abs=1e-4)  # four digits is what score_masks.py prints


def write_masks(labels: Path, masks: Path, seed: int) -> None:
    """Masks that cover most objects somehow; one image has none."""
    rng = np.random.default_rng(seed)
    masks.mkdir()
    for number, file in enumerate(sorted(labels.glob("*.png"))):
        truth = read_grey(file)
        shift = int(rng.integers(-9, 10))
        hidden = np.roll(np.isin(truth, [8, 9, 10]), shift, axis=1)
        hidden[:, : truth.shape[1] // 9] = rng.random() < 0.5
        if number:
            write_labels(masks / f"{file.stem}_mask.png", np.where(hidden, 0, 255).astype(np.uint8))


def test_pixels_are_counted_as_by_a_small_implementation(tmp_path: Path) -> None:
    for seed in range(4):
        write_labels(tmp_path / "labels" / f"{seed}.png", drawn(seed, Size(240, 180))[1])
    write_masks(tmp_path / "labels", tmp_path / "masks", seed=1)
    expected = scored(tmp_path / "masks", tmp_path / "labels")
    assert set(expected) == {"car", "pedestrian", "over_blur"}
    assert 0 < expected["over_blur"] < 0.5 < expected["car"] < 1
    compare(evaluated(tmp_path / "masks", tmp_path / "labels"), expected)


def test_pixels_are_counted_as_by_score_masks(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = shared / "images" / "street" / "labels"
    write_masks(labels, tmp_path / "masks", seed=2)
    spec = importlib.util.spec_from_file_location("score_masks", shared / "tools" / "score_masks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(tmp_path / "masks", labels, True) == 0
    expected = json.loads(capsys.readouterr().out)
    assert (expected.pop("images"), expected.pop("without_mask")) == (58, 1)
    assert set(expected) == {"car", "pedestrian", "bicyclist", "over_blur"}
    compare(evaluated(tmp_path / "masks", labels), expected)


def test_images_without_masks_in_their_annotation_have_no_precision_of_masks(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "1.jpg", "width": SIZE.width, "height": SIZE.height}
    file = coco_file(
        tmp_path / "a.json", [image], [{"image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 60]}], "person"
    )
    (one,) = annotated_by_coco(file, HIDDEN, options(), max_pixels=10**6)
    evaluation = evaluate([(one.load(), Found.of(found_in(SIZE, (1, 0.9, Box(10, 10, 40, 70)))))], options())
    (precision,) = evaluation.precision
    assert precision.kind == "bbox"
    assert precision.statistics["AP"] == pytest.approx(1)
