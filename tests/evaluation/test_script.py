"""The command, on drawn scenes with the embedded model."""

import base64
import csv
import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from anonymise.batch import storage
from anonymise.commands import cli, evaluate
from anonymise.core import saved_instances as instances
from anonymise.core.detections import Box, Detections, Size
from anonymise.core.errors import UsageError
from anonymise.evaluation import page
from tests.evaluation.scenes import CAR, STREET_SIZE, coco_file, found_in, write_labels, write_street
from tests.fakes import street, write_image

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LITE = ["-k", "lite_config.yml"]
FEW = ["--set", "evaluation_bootstrap_samples=100"]


def run(*arguments: object) -> int:
    return evaluate.main([*map(str, arguments), *FEW])


def read(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "evaluation.json").read_text("utf-8"))
    return content


def measured(
    content: dict[str, Any], measure: str, category: str = "all", threshold: float | None = None
) -> float | None:
    (row,) = (
        row
        for row in content["measures"]
        if (row["measure"], row["class"], row["size_group"], row["threshold"]) == (measure, category, "all", threshold)
    )
    share: float | None = row["value"]
    return share


class Page(HTMLParser):
    """What a page refers to, and its text."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.references: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(file.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.references += re.findall(r"url\([^)]*\)|@import[^;]*", data)
        else:
            self.text += data


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streets")
    write_street(folder, 3)
    return folder


@pytest.fixture(scope="module")
def by_model(streets: Path) -> Path:
    """The evaluation of the embedded model."""
    out = streets / "by_model"
    code = run("-i", streets / "images", "--labels", streets / "labels", "-o", out, "--per-image", *LITE)
    assert code == 0
    return out


def test_the_model_is_measured(by_model: Path) -> None:
    content = read(by_model)
    assert content["counts"]["images"] == 3
    assert content["counts"]["annotated_objects"] >= 6
    assert {row["class"] for row in content["measures"]} == {"all", "car", "pedestrian"}  # bicyclists do not occur
    recall, over_blur = measured(content, "pixel_recall"), measured(content, "over_blur")
    assert recall is not None
    assert over_blur is not None
    assert recall > 0.5 > over_blur > 0
    assert content["coco"]["bbox"]["all"]["AP50"] > 0.3
    assert set(content["coco"]["bbox"]["by_image"]) == {"street_0", "street_1", "street_2"}
    assert [image["image"] for image in content["images"]] == ["street_0", "street_1", "street_2"]
    assert content["configuration"]["model_type"] == ["Nano", "Lite"]


@pytest.mark.parametrize(
    "looks",
    [
        ["score_threshold=0.3"],
        ["score_threshold={default: 0.4, person: 0.3}", "mirror_image=True"],
        ["score_threshold=0.3", 'image_type="360"', "view_fov=[90]"],
    ],
    ids=["flat", "mirrored", "360"],
)
def test_the_curve_passes_through_a_run_with_that_threshold(streets: Path, looks: list[str], tmp_path: Path) -> None:
    """The model's findings are kept once and filtered: that must be what the model finds with the other threshold."""
    arguments = ["-i", streets / "images", "--labels", streets / "labels", *LITE, "--no-html", "-o"]
    keys = [argument for key in looks for argument in ("--set", key)]
    assert run(*arguments, tmp_path / "curve", *keys) == 0
    assert run(*arguments, tmp_path / "alone", "--no-curves", *keys) == 0
    assert run(*arguments, tmp_path / "other", "--no-curves", *keys, "--set", "score_threshold=0.8") == 0
    curve, alone, other = (read(tmp_path / name) for name in ("curve", "alone", "other"))
    recall = measured(alone, "pixel_recall")
    assert recall is not None
    assert recall > 0.3
    assert measured(other, "over_blur") != measured(alone, "over_blur")
    for measure in ("pixel_recall", "over_blur", "missed_objects"):
        assert measured(curve, measure) == measured(alone, measure)
    assert measured(curve, "curve_recall", threshold=0.8) == measured(other, "pixel_recall")
    assert measured(curve, "curve_over_blur", threshold=0.8) == measured(other, "over_blur")
    assert not [row for row in alone["measures"] if row["measure"] == "curve_recall"]
    assert sorted(path.name for path in (tmp_path / "alone").iterdir()) == ["evaluation.csv", "evaluation.json"]


def test_the_masks_and_the_saved_instances_of_a_run_give_the_same_numbers(
    streets: Path, by_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published, keys = tmp_path / "published", ["--set", "remote_mask=True", "--set", "remote_instances=True"]
    assert (
        cli.main(["-i", str(streets / "images"), "-o", str(published), *LITE, *keys, "--set", "enable_async=False"])
        == 0
    )
    capsys.readouterr()
    expected = read(by_model)
    for source in ("masks", "instances"):
        out = tmp_path / source
        assert run(f"--{source}", published, "--labels", streets / "labels", "-o", out, *LITE) == 0
        content = read(out)
        for measure in ("pixel_recall", "over_blur", "missed_objects", "covered_objects"):
            assert measured(content, measure) == measured(expected, measure)
        assert ("bbox" in content["coco"]) == (source == "instances")
        text = capsys.readouterr().out
        assert ("No AP: it needs scores" in text) == (source == "masks")
    assert read(tmp_path / "instances")["coco"]["bbox"]["all"]["AP"] == pytest.approx(
        expected["coco"]["bbox"]["all"]["AP"], abs=1e-3
    )


def test_the_page_needs_nothing_from_elsewhere(by_model: Path) -> None:
    found = Page(by_model / "evaluation.html")
    assert found.references
    assert {reference.partition(",")[0] for reference in found.references} <= {
        "data:image/svg+xml;base64", "data:image/jpeg;base64",
    }  # fmt: skip
    assert not {"script", "link", "iframe", "object", "base"} & set(found.tags)
    assert found.open == []
    for words in ("What was found", "pedestrian", "What stays visible", "COCO", "By class and size"):
        assert words in found.text


def test_names_cannot_bring_markup_into_the_page(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>"
    image = {"id": 1, "file_name": "1.jpg", "width": 160, "height": 120}
    annotation = {"image_id": 1, "category_id": 1, "bbox": [40, 40, 50, 40], name: name}
    coco_file(tmp_path / "a.json", [image], [annotation], "car")
    write_image(tmp_path / "images" / "1.jpg", street())
    masks = tmp_path / "masks"
    write_labels(masks / "1_mask.png", np.full((120, 160), 255, np.uint8))
    assert run("-i", tmp_path / "images", "--masks", masks, "--coco", tmp_path / "a.json", "-o", tmp_path / "out") == 0
    found = Page(tmp_path / "out" / "evaluation.html")
    assert "script" not in found.tags
    assert name in found.text
    assert any(reference.startswith("data:image/jpeg") for reference in found.references)  # the gallery
    out = tmp_path / "without"
    run("-i", tmp_path / "images", "--masks", masks, "--coco", tmp_path / "a.json", "-o", out, "--no-gallery")
    assert not any(reference.startswith("data:image/jpeg") for reference in Page(out / "evaluation.html").references)


def test_the_table_has_a_row_for_each_number(by_model: Path) -> None:
    with (by_model / "evaluation.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    content = read(by_model)
    of_all = {
        row["measure"]: row for row in rows if (row["class"], row["size_group"], row["image"]) == ("all", "all", "")
    }
    assert float(of_all["pixel_recall"]["value"]) == measured(content, "pixel_recall")
    assert float(of_all["bbox_AP50"]["value"]) == content["coco"]["bbox"]["all"]["AP50"]
    with_interval = [row for row in rows if row["low"]]
    assert len(with_interval) > 50
    for row in with_interval:
        assert 0 <= float(row["low"]) <= float(row["high"]) <= 1
        assert float(row["value"]) == int(row["hit"]) / int(row["total"])
    assert {row["image"] for row in rows} == {"", "street_0", "street_1", "street_2"}


def saved(folder: Path, name: str, detections: Detections) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}_instances.json").write_text(instances.dumps(detections, f"{name}.jpg"), "utf-8")


def test_attributes_are_told_on_the_terminal_and_in_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, annotations = [], []
    for n in range(30):
        images.append({"id": n, "file_name": f"{n}.jpg", "width": 100, "height": 100})
        plate = "foreign" if n % 3 == 0 else "national"
        annotations.append(
            {"image_id": n, "category_id": 1, "bbox": [10, 10, 40, 20], "attributes": {"plate origin": plate}}
        )
        found = [(CAR, 0.9, Box(10, 10, 50, 30))] if plate == "national" or n < 6 else []
        saved(tmp_path / "run", str(n), found_in(Size(100, 100), *found))
    file = coco_file(tmp_path / "a.json", images, annotations, "car")
    arguments = [
        "--instances",
        tmp_path / "run",
        "--coco",
        file,
        "-o",
        tmp_path / "out",
        "--set",
        "evaluation_min_group=10",
    ]
    assert run(*arguments) == 0
    (gap,) = read(tmp_path / "out")["attribute_gaps"]
    assert (gap["most_missed"], gap["least_missed"], gap["difference"]) == ("foreign", "national", 0.8)
    text = capsys.readouterr().out
    assert "car, plate origin: foreign              0.800 (0.490–0.943)     of 10" in text
    assert "largest gap of car, plate origin: 0.800" in text
    assert "Missed objects by attribute" in Page(tmp_path / "out" / "evaluation.html").text


def test_one_bad_image_does_not_end_it_but_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_street(tmp_path, 4)
    labels, masks, images = tmp_path / "labels", tmp_path / "masks", tmp_path / "images"
    (labels / "street_1.png").write_bytes(b"no picture")
    (images / "street_3.jpg").rename(images / "without_annotation.jpg")
    size = STREET_SIZE
    for n, shape in ((0, (size.height, size.width)), (1, (size.height, size.width)), (2, (10, 10))):
        write_labels(masks / "deeper" / f"street_{n}_mask.png", np.zeros(shape, np.uint8))
    out = tmp_path / "out"
    assert run("-i", images, "--masks", masks, "--labels", labels, "-o", out) == 1
    content = read(out)
    assert {problem["image"] for problem in content["not_evaluated"]} == {"street_1", "street_2", "without_annotation"}
    assert content["without_result"] == ["street_3"]
    assert content["counts"]["images"] == 2
    text = capsys.readouterr().out
    assert "NOT EVALUATED street_1: the label image" in text
    assert "NOT EVALUATED street_2: the annotation is for 320×240 pixels, the image or its mask has 10×10" in text
    assert "NOT EVALUATED without_annotation: the image has no annotation" in text
    assert "1 images without a result of the run" in text
    shown = Page(out / "evaluation.html").text
    assert "without_annotation" in shown
    assert "street_3" in shown


def test_broken_images_and_missing_ones_are_named(
    streets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    write_image(images / "street_1.jpg", street())
    (images / "street_0.jpg").write_bytes(b"\xff\xd8no picture")
    code = run("-i", images, "--labels", streets / "labels", "-o", tmp_path / "out", *LITE)
    assert code == 2  # none is left
    assert "None of the 3 annotated images could be evaluated. The first: street_0: " in capsys.readouterr().err


def test_saved_instances_that_are_none_are_named(
    streets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path, "street_0", Detections(STREET_SIZE))
    (tmp_path / "street_1_instances.json").write_text("{}", "utf-8")
    (tmp_path / "street_2_instances.json").write_bytes(b"\xff\xff")
    arguments = ["--instances", tmp_path, "--labels", streets / "labels", "-o", tmp_path / "out", "--no-html"]
    assert run(*arguments) == 1
    text = capsys.readouterr().out
    for name in ("street_1", "street_2"):
        assert f"NOT EVALUATED {name}: {tmp_path / name}_instances.json: no saved instances" in text


def odd_names(folder: Path, *names: str) -> list[object]:
    """Masks of a run for images with these names, and their label images: arguments of the command."""
    for name in names:
        labels = np.zeros((24, 32), np.uint8)
        labels[4:12, 4:12] = 9
        write_labels(folder / "labels" / f"{name}.png", labels)
        write_labels(folder / "masks" / f"{name}_mask.png", np.where(labels, 0, 255).astype(np.uint8))
    return ["--masks", folder / "masks", "--labels", folder / "labels", "-o", folder / "out"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are not UTF-8")
def test_names_that_are_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"latin\xe6")
    arguments = odd_names(tmp_path, name, "other")
    (tmp_path / "masks" / f"{name}_mask.png").write_bytes(b"no picture")
    assert run(*arguments) == 1
    assert read(tmp_path / "out")["not_evaluated"][0]["image"] == name
    assert "NOT EVALUATED latin\\udce6: the mask" in capsys.readouterr().out
    assert "latin\\udce6" in Page(tmp_path / "out" / "evaluation.html").text


def test_the_longest_names(tmp_path: Path) -> None:
    name = "y" * (255 - len("_mask.png"))
    assert run(*odd_names(tmp_path, name)) == 0
    write_image(tmp_path / "images" / f"{'z' * 251}.jpg", street())
    assert run(*odd_names(tmp_path, name), "-i", tmp_path / "images") == 1
    (problem,) = read(tmp_path / "out")["not_evaluated"]
    assert "z" * 251 in problem["image"]


def test_an_earlier_result_stays_whole_where_the_next_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = odd_names(tmp_path, "a", "b")
    assert run(*arguments) == 0
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    assert set(before) == {"evaluation.json", "evaluation.csv", "evaluation.html"}
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.suffix == ".html":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    (tmp_path / "labels" / "b.png").unlink()
    assert run(*arguments) == 2
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_nothing_is_written_among_results_that_may_be_published(
    below: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage.prepare_root(tmp_path / "published")
    before = sorted(tmp_path.rglob("*"))
    arguments = odd_names(tmp_path / "x", "a")
    for folder in (tmp_path / "published", tmp_path / "link"):
        if folder.name == "link":
            folder.symlink_to(tmp_path / "published", target_is_directory=True)
        assert run(*arguments[:-1], folder / below) == 2
        assert "may be published" in capsys.readouterr().err
    assert sorted(path for path in (tmp_path / "published").rglob("*")) == [p for p in before if p.parent != tmp_path]


def test_names_that_match_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = odd_names(tmp_path, "a", "b")
    for file in (tmp_path / "masks").iterdir():
        file.rename(file.with_name(f"IMG_{file.name}"))
    assert run(*arguments) == 2
    assert "names do not match. The first annotated image is a; its file there must be a_mask.png" in (
        capsys.readouterr().err
    )


def test_names_out_of_an_annotation_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    category, image, value = "car\x1b[31m $x_{1$ \x00", "=HYPERLINK(1)", "=2+3"
    annotations: list[dict[str, Any]] = [
        {"image_id": 1, "category_id": 1, "bbox": [4, 4, 9, 9], "attributes": {"@price $5 or $6": value}},
        {"image_id": 1, "category_id": 2, "bbox": [14, 4, 9, 9], "attributes": {"@price $5 or $6": "-1"}},
    ]
    size = {"width": 32, "height": 24}
    file = coco_file(
        tmp_path / "a.json", [{"id": 1, "file_name": f"{image}.jpg", **size}], annotations, category, "_hidden"
    )
    saved(tmp_path / "run", image, found_in(Size(32, 24), (CAR, 0.9, Box(4, 4, 13, 13))))
    synonyms = json.dumps({category.strip().lower(): "car", "_hidden": "car"})
    arguments = ["--instances", tmp_path / "run", "--coco", file, "-o", tmp_path / "out"]
    assert run(*arguments, "--set", f"evaluation_class_synonyms={synonyms}") == 0
    assert read(tmp_path / "out")["images"][0]["image"] == image
    assert "\x1b" not in capsys.readouterr().out
    html = (tmp_path / "out" / "evaluation.html").read_text("utf-8")
    pictures = [base64.b64decode(data) for data in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", html)]
    texts = "".join("".join(ElementTree.fromstring(picture).itertext()) for picture in pictures)
    assert r"car\x1b[31m $x_{1$ \x00" in texts
    assert "_hidden" in texts
    assert "@price $5 or $6: =2+3" in texts
    with (tmp_path / "out" / "evaluation.csv").open(encoding="utf-8", newline="") as table:
        cells = {cell for row in csv.reader(table) for cell in row}
    assert {"'=HYPERLINK(1)", "'=2+3", "'@price $5 or $6", "'-1"} <= cells
    assert not [cell for cell in cells if cell[:1] in ("=", "@", "+")]


def test_fractions_are_refused_or_scaled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotation = {"image_id": 1, "category_id": 1, "bbox": [0.25, 0.5, 0.5, 0.25]}
    file = coco_file(
        tmp_path / "a.json", [{"id": 1, "file_name": "a.jpg", "width": 32, "height": 24}], [annotation], "car"
    )
    saved(tmp_path / "run", "a", found_in(Size(32, 24), (CAR, 0.9, Box(8, 12, 24, 18))))
    arguments = ["--instances", tmp_path / "run", "--coco", file, "-o", tmp_path / "out", "--no-html"]
    assert run(*arguments) == 2
    assert "--normalised" in capsys.readouterr().err
    assert run(*arguments, "--normalised") == 0
    assert (measured(read(tmp_path / "out"), "pixel_recall"), measured(read(tmp_path / "out"), "over_blur")) == (1, 0)
    with pytest.raises(SystemExit, match="2"):
        run(*odd_names(tmp_path, "b"), "--normalised")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "LABELS"], "which needs the images (-i)"),
        (["--labels", "nowhere", "--masks", "LABELS"], "nowhere does not exist"),
        (["--labels", "LABELS", "--masks", "nowhere"], "nowhere does not exist"),
        (["--labels", "LABELS", "--masks", "LABELS"], "A run writes them with remote_mask: True"),
        (["--labels", "LABELS", "--instances", "LABELS"], "A run writes them with remote_instances: True"),
        (["--labels", "LABELS", "-i", "nowhere"], "nowhere"),
        (["--coco", "nowhere.json", "-i", "LABELS"], "nowhere.json cannot be read"),
        (["--labels", "LABELS", "-i", "LABELS", "--set", "model_type=Huge"], "Huge"),
        (["--labels", "LABELS", "-i", "LABELS", "--set", "evaluation_confidence=2"], "evaluation_confidence is 2"),
    ],
)
def test_wrong_usage_is_explained(
    streets: Path, arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(streets / "labels") if argument == "LABELS" else argument for argument in arguments]
    assert run(*given, "-o", tmp_path / "out") in (2, 3)
    error = capsys.readouterr().err
    assert error.startswith("anonymise: ")
    assert message in error


@pytest.mark.parametrize("share", ["0", "1.5", "much"])
def test_a_wanted_recall_that_is_no_share(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("--labels", ".", "-o", ".", "--wanted-recall", share)
    assert "--wanted-recall" in capsys.readouterr().err


def test_a_library_that_is_missing_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    page.require_libraries()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "matplotlib" else object())
    with pytest.raises(UsageError, match=r"needs matplotlib,.* pip install matplotlib;.*--no-html"):
        page.require_libraries()


def test_help_answers_without_loading_what_is_heavy() -> None:
    code = (
        "import sys\nfrom anonymise.commands.evaluate import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'numpy', 'matplotlib', 'pycocotools', 'jinja2', 'cv2'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=True, timeout=60
    )
    assert "  python -m script.evaluate -i photos" in result.stdout
    assert result.stdout.rstrip().endswith("[]")
