"""What a run can do beside the main job with masks: draw again, hide the same place everywhere, mask for others."""

import json
from pathlib import Path

import numpy as np
import pytest

from anonymise import config
from anonymise.batch import storage
from anonymise.batch.outcomes import Report
from anonymise.batch.paths import Places
from anonymise.batch.runs import anonymise, redraw
from anonymise.batch.workers import SerialWorkers
from anonymise.config import Config
from anonymise.core import saved_instances as instances
from anonymise.core.detections import Box
from anonymise.core.errors import UsageError
from tests.fakes import RedMasker, read_image, street, write_image


def settings(*overrides: str) -> Config:
    few = ["mask_dilation_pixels=0", "enable_async=False", "file_access_timeout_seconds=0"]
    return config.load(overrides=[*few, *overrides], has_archive=True)


def run(folder: Path, *overrides: str) -> Report:
    loaded = settings(*overrides)
    (folder / "in").mkdir(exist_ok=True)
    places = Places.of(folder / "in", folder / "out", folder / "archive", loaded.files)
    for root in places.results:
        storage.prepare_root(root)
    return anonymise(loaded, places, RedMasker(), SerialWorkers())


@pytest.fixture
def archived(tmp_path: Path) -> Path:
    write_image(tmp_path / "in" / "a" / "1.jpg", street())
    assert run(tmp_path, "archive_instances=True").failed == ()
    return tmp_path


def again(folder: Path, *overrides: str) -> Report:
    storage.prepare_root(folder / "again")
    return redraw(settings(*overrides), Places(folder / "archive", folder / "again"), SerialWorkers())


def test_drawing_again_with_the_same_appearance_gives_the_same_image(archived: Path) -> None:
    report = again(archived)
    assert report.objects == {"car": 1}
    for name in ("1.jpg", "1.json"):
        first, second = ((archived / tree / "a" / name).read_bytes() for tree in ("out", "again"))
        if name == "1.jpg":
            assert first == second
        else:
            assert json.loads(first)["detekterte_objekter"] == json.loads(second)["detekterte_objekter"]


@pytest.mark.parametrize("outline", ["ellipse", "superellipse"])
def test_what_the_saved_instances_say_is_what_is_hidden(tmp_path: Path, outline: str) -> None:
    write_image(tmp_path / "in" / "1.jpg", street())
    write_image(tmp_path / "in" / "edge.jpg", street(cars=[Box(0, 40, 60, 80), Box(100, 0, 160, 40)]))
    run(tmp_path, f"outline={outline}", "archive_instances=True", "remote_instances=True", "remote_mask=True")
    again(tmp_path, f"outline={outline}", "remote_instances=True", "remote_mask=True")
    for name in ("1", "edge"):
        saved = instances.loads((tmp_path / "out" / f"{name}_instances.json").read_text("utf-8"))
        assert not any(i.fills_box for i in saved.instances)
        for tree in ("out", "again"):
            assert np.array_equal(saved.union(), read_image(tmp_path / tree / f"{name}_mask.png")[..., 0] == 0)
        for file in (f"{name}.jpg", f"{name}_instances.json"):
            assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "out" / file).read_bytes()


def test_drawing_again_with_another_appearance(archived: Path) -> None:
    again(archived, "appearance=color", "mask_color=[0, 255, 0]")
    pixels = read_image(archived / "again" / "a" / "1.jpg")[45:75, 45:85].reshape(-1, 3)
    assert np.abs(pixels - np.array([0, 255, 0])).mean() < 10


def test_an_archive_without_saved_instances_says_what_to_do(archived: Path) -> None:
    (archived / "archive" / "a" / "1_instances.json").unlink()
    report = again(archived)
    assert "anonymise with archive_instances: True first" in report.failed[0].reason
    assert not list((archived / "again").rglob("*.jpg"))


def test_damaged_run_lengths_are_refused_and_name_file_and_object(archived: Path) -> None:
    file = archived / "archive" / "a" / "1_instances.json"
    content = json.loads(file.read_text("utf-8"))
    rle = content["instances"][0]["segmentation"]
    rle["counts"] = rle["counts"][:-3]
    file.write_text(json.dumps(content), "utf-8")
    report = again(archived)
    assert "1_instances.json: object 1" in report.failed[0].reason
    assert not (archived / "again" / "a" / "1.jpg").exists()


def test_instances_of_another_image_are_refused(archived: Path) -> None:
    write_image(archived / "archive" / "a" / "1.jpg", street((200, 100)))
    report = again(archived)
    assert "of an image of 160×120 pixels" in report.failed[0].reason
    assert not list((archived / "again").rglob("*.jpg"))


def write_roof(folder: Path, size: tuple[int, int] = (160, 120)) -> str:
    """A static mask that hides the lower quarter."""
    mask = np.full((size[1], size[0]), 255, np.uint8)
    mask[size[1] * 3 // 4 :] = 0
    return write_image(folder / "roof.png", mask).as_posix()


def test_a_static_mask_hides_the_same_place_in_every_image(tmp_path: Path) -> None:
    for n in range(2):
        write_image(tmp_path / "in" / f"{n}.jpg", street(seed=n, cars=[]))
    roof = write_roof(tmp_path)
    keys = ["static_mask_appearance=solid", "static_mask_color=[0, 0, 255]", "remote_mask=True"]
    report = run(tmp_path, f"static_mask={roof}", *keys)
    assert report.failed == ()
    assert report.objects == {}  # it is no object
    for n in range(2):
        before, after = read_image(tmp_path / "in" / f"{n}.jpg"), read_image(tmp_path / "out" / f"{n}.jpg")
        assert np.abs(after[92:].astype(int) - before[92:]).mean() > 20
        assert np.array_equal(after[:72], before[:72])
        mask = read_image(tmp_path / "out" / f"{n}_mask.png")[..., 0]
        assert np.array_equal(mask == 0, np.indices((120, 160))[0] >= 90)


def test_a_static_mask_of_another_size_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "1.jpg", street())
    with pytest.raises(UsageError, match="static_mask_resize"):
        run(tmp_path, f"static_mask={write_roof(tmp_path, (320, 240))}")
    assert [p.name for p in (tmp_path / "out").iterdir()] == [".anonymise"]


def test_a_static_mask_is_scaled_when_the_key_says_so(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "1.jpg", street(cars=[]))
    roof = write_roof(tmp_path, (320, 240))
    run(tmp_path, f"static_mask={roof}", "static_mask_resize=True", "remote_mask=True")
    mask = read_image(tmp_path / "out" / "1_mask.png")[..., 0]
    assert np.array_equal(mask == 0, np.indices((120, 160))[0] >= 90)


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_a_static_mask_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    write_image(tmp_path / "in" / "1.jpg", street())
    if content is not None:
        (tmp_path / "roof.png").write_bytes(content)
    with pytest.raises(UsageError, match=r"static_mask .*roof\.png cannot be read"):
        run(tmp_path, f"static_mask={(tmp_path / 'roof.png').as_posix()}")


def test_masks_for_colmap_stand_in_a_tree_of_their_own(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a" / "1.jpg", street())
    run(tmp_path, f"colmap_mask_directory={(tmp_path / 'masks').as_posix()}", "remote_mask=True")
    colmap = read_image(tmp_path / "masks" / "a" / "1.jpg.png")
    assert np.array_equal(colmap, read_image(tmp_path / "out" / "a" / "1_mask.png"))
    assert (colmap == 0).any()
