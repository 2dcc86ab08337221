"""Saved instances that somebody edited: drawn again when they change, never undone, never replaced."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anonymise import config
from anonymise.batch import runs as pipeline
from anonymise.batch import storage
from anonymise.batch.paths import Places
from anonymise.batch.workers import SerialWorkers
from anonymise.config import Config
from anonymise.core.detections import Box
from tests.fakes import Ran, RedMasker, read_image, street, write_image

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LITE = ["-k", str(ROOT / "config" / "lite_config.yml")]
ADDED = Box(100, 20, 140, 60)
"""What the operator adds; it covers no car."""


def command(*arguments: object, module: str = "anonymise") -> "subprocess.CompletedProcess[str]":
    call = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(call, cwd=ROOT, capture_output=True, encoding="utf-8", check=False, timeout=300)


def add_box(file: Path, box: Box = ADDED) -> bytes:
    """Adds a rectangle to a file of saved instances, as an operator or another program does; returns the file."""
    content = json.loads(file.read_text("utf-8"))
    width, height = content["image"]["width"], content["image"]["height"]
    mask = np.zeros((height, width), np.uint8)
    mask[box.slices] = 1
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=0))
    counts = np.diff(edges, prepend=0, append=flat.size)
    content["instances"].append(
        {
            "category_id": 1, "category": "person", "score": 1.0, "continues": False,
            "bbox": [box.left, box.top, box.width, box.height],
            "segmentation": {"size": [height, width], "counts": compressed(counts.tolist())},
        }
    )  # fmt: skip
    file.write_text(json.dumps(content), encoding="utf-8")
    return file.read_bytes()


def compressed(counts: list[int]) -> str:
    """Run lengths in COCO's compressed text."""
    from pycocotools import mask as coco

    size = 120, sum(counts) // 120
    text: str = coco.frPyObjects({"size": size, "counts": counts}, *size)["counts"].decode("ascii")
    return text


def is_hidden(before: Path, after: Path, box: Box = ADDED) -> bool:
    inner = slice(box.top + 8, box.bottom - 8), slice(box.left + 8, box.right - 8)
    return bool(np.abs(read_image(before)[inner].astype(int) - read_image(after)[inner]).mean() > 5)


def settings(*overrides: str) -> Config:
    few = ["mask_dilation_pixels=0", "enable_async=False", "file_access_timeout_seconds=0"]
    return config.load(overrides=[*few, *overrides], has_archive=True)


class Folders:
    """A folder with input, output and archive, and the runs over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archive = folder / "archive"
        (folder / "in").mkdir()

    def _places(self, loaded: Config, source: str, archive: Path | None) -> Places:
        places = Places.of(self.folder / source, self.folder / "out", archive, loaded.files)
        for root in places.results:
            storage.prepare_root(root)
        return places

    def run(self, *overrides: str, model: str = "red") -> Ran:
        loaded = settings("archive_instances=True", *overrides)
        ran = Ran()
        places = self._places(loaded, "in", self.archive)
        ran.report = pipeline.anonymise(loaded, places, RedMasker(model), SerialWorkers(), ran)
        return ran

    def redraw(self, *overrides: str) -> Ran:
        loaded = settings(*overrides)
        ran = Ran()
        ran.report = pipeline.redraw(loaded, self._places(loaded, "archive", None), SerialWorkers(), ran)
        return ran


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    found = Folders(tmp_path)
    for n in range(3):
        write_image(tmp_path / "in" / f"{n}.jpg", street(seed=n, cars=[Box(10, 40, 60, 80)]))
    assert found.run().failed == []
    return found


def names(outcomes: Sequence[object]) -> list[str]:
    return [outcome.source.name for outcome in outcomes]  # type: ignore[attr-defined]


def test_corrections_survive_from_the_command_line(tmp_path: Path) -> None:
    for n in range(2):
        write_image(tmp_path / "in" / f"{n}.jpg", street(seed=n, cars=[]))
    anonymise = ["-i", tmp_path / "in", "-o", tmp_path / "out", "-a", tmp_path / "arc", *LITE]
    anonymise += ["--set", "archive_instances=True"]
    redraw = ["-i", tmp_path / "arc", "-o", tmp_path / "out", *LITE]
    assert command(*anonymise, "--create-archive").returncode == 0

    def hidden(box: Box) -> list[bool]:
        return [is_hidden(tmp_path / "in" / f"{n}.jpg", tmp_path / "out" / f"{n}.jpg", box) for n in range(2)]

    second = Box(20, 70, 60, 110)
    assert hidden(ADDED) == [False, False]
    add_box(tmp_path / "arc" / "0_instances.json")
    result = command(*redraw, module="script.redraw")
    assert "Skipped (finished):  1\nFailed:              0\nDone:                1" in result.stdout, result.stderr
    assert hidden(ADDED) == [True, False]
    saved = add_box(tmp_path / "arc" / "0_instances.json", second)
    result = command(*redraw, module="script.redraw")
    assert "Skipped (finished):  1\nFailed:              0\nDone:                1" in result.stdout, result.stderr
    assert (hidden(ADDED), hidden(second)) == ([True, False], [True, False])

    for options in (anonymise, redraw):
        checked = command(*options, module="script.check_folders")
        assert checked.returncode == 0, checked.stdout
    result = command(*anonymise)
    assert "Skipped (finished):  2" in result.stdout
    result = command(*anonymise, "--set", "blur=40")
    assert result.returncode == 1
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("FAILED"))
    assert all(part in line for part in ("0.jpg", "0_instances.json", "script.redraw")), line
    assert (hidden(ADDED), hidden(second)) == ([True, False], [True, False])
    assert (tmp_path / "arc" / "0_instances.json").read_bytes() == saved
    # The way out.
    result = command(*redraw, "--set", "blur=40", module="script.redraw")
    assert "Skipped (finished):  1\nFailed:              0\nDone:                1" in result.stdout, result.stderr
    assert command(*anonymise, "--set", "blur=40", module="script.check_folders").returncode == 0


def test_each_redraw_does_exactly_what_was_edited(folders: Folders) -> None:
    assert names(folders.redraw().done) == []
    add_box(folders.archive / "1_instances.json")
    assert names(folders.redraw().done) == ["1.jpg"]
    add_box(folders.archive / "1_instances.json", Box(100, 80, 140, 110))
    add_box(folders.archive / "2_instances.json")
    assert names(folders.redraw().done) == ["1.jpg", "2.jpg"]
    assert names(folders.redraw().done) == []
    assert names(folders.redraw("blur=40").done) == ["0.jpg", "1.jpg", "2.jpg"]


def test_a_copy_with_another_time_is_the_same_image_unless_the_record_holds_that_time(folders: Folders) -> None:
    for path in folders.archive.glob("*.jpg"):
        os.utime(path, (1, 1))
    assert len(folders.run().skipped) == 3
    assert len(folders.redraw().done) == 3  # the pictures say nowhere when they were taken
    for path in folders.archive.glob("*.jpg"):
        os.utime(path, ns=(1_999_999_999, 1_999_999_999))  # as disks with coarse times do
    assert len(folders.redraw().skipped) == 3


def test_a_copy_with_another_time_is_the_same_image_if_it_says_when_it_was_taken(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    Image.fromarray(street()).save(tmp_path / "in" / "1.jpg", exif=exif)
    folders.run()
    for folder, time in (("archive", 1), ("in", 10**9)):
        os.utime(tmp_path / folder / "1.jpg", (time, time))
    assert len(folders.run().skipped) == 1
    assert len(folders.redraw().skipped) == 1
    assert len(folders.run().skipped) == 1


def test_the_archive_keeps_the_time_of_the_original(folders: Folders) -> None:
    write_image(folders.folder / "in" / "3.jpg", street(seed=3))
    os.utime(folders.folder / "in" / "3.jpg", (1_600_000_000, 1_600_000_000))
    folders.run()
    assert (folders.archive / "3.jpg").stat().st_mtime == 1_600_000_000


@pytest.mark.parametrize("change", [["blur=40"], ["force_remask=True"], ["jpeg_quality=90", "force_remask=True"]])
def test_no_run_undoes_a_correction(folders: Folders, change: list[str]) -> None:
    saved = add_box(folders.archive / "1_instances.json")
    folders.redraw()
    ran = folders.run(*change)
    assert names(ran.done) == ["0.jpg", "2.jpg"]
    (failed,) = ran.failed
    assert str(folders.archive / "1_instances.json") in failed.reason
    assert is_hidden(folders.folder / "in" / "1.jpg", folders.folder / "out" / "1.jpg")
    assert (folders.archive / "1_instances.json").read_bytes() == saved
    # The refused run did not make the image unfinished.
    assert "1.jpg" in names(folders.run().skipped)


def test_another_model_does_not_undo_a_correction_and_the_rest_is_done_again(folders: Folders) -> None:
    add_box(folders.archive / "1_instances.json")
    folders.redraw()
    for change in ({"model": "better"}, {"model": "better", "key": "score_threshold=0.2"}):
        ran = folders.run(*([change["key"]] if "key" in change else []), model=change["model"])
        assert (names(ran.done), names(ran.failed), names(ran.skipped)) == (["0.jpg", "2.jpg"], [], ["1.jpg"])


def test_a_redraw_of_what_a_model_found_is_no_correction(folders: Folders) -> None:
    assert len(folders.redraw("blur=40").done) == 3
    assert len(folders.run("blur=40").skipped) == 3
    assert len(folders.run("blur=40", model="better").done) == 3
    assert len(folders.run("blur=20").done) == 3


def test_corrections_can_be_given_up_by_moving_them_away(folders: Folders) -> None:
    add_box(folders.archive / "1_instances.json")
    folders.redraw()
    (folders.archive / "1_instances.json").rename(folders.folder / "kept.json")
    assert names(folders.run("blur=40").failed) == ["1.jpg"]  # the archive could also be away
    assert len(folders.run("force_remask=True").done) == 3
    assert not is_hidden(folders.folder / "in" / "1.jpg", folders.folder / "out" / "1.jpg")


@pytest.mark.parametrize("place", ["archive", "remote", "local"])
def test_instances_that_no_run_wrote_are_not_replaced(folders: Folders, place: str) -> None:
    key = f"{place}_instances=True"
    folders.run(key)
    root = {"archive": folders.archive, "remote": folders.folder / "out", "local": folders.folder / "in"}[place]
    storage.prepare_root(root)
    folders.run(key)
    edited = add_box(root / "1_instances.json")
    before = (folders.folder / "out" / "1.jpg").read_bytes()
    ran = folders.run(key, "blur=40")
    assert names(ran.done) == ["0.jpg", "2.jpg"]
    (failed,) = ran.failed
    assert all(part in failed.reason for part in (str(root / "1_instances.json"), "script.redraw", "move it away"))
    assert (root / "1_instances.json").read_bytes() == edited
    assert (folders.folder / "out" / "1.jpg").read_bytes() == before
    (root / "1_instances.json").rename(folders.folder / "kept.json")
    assert names(folders.run(key, "blur=40").done) == ["1.jpg"]


def test_instances_from_elsewhere_are_not_replaced_by_the_first_run(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    write_image(tmp_path / "in" / "1.jpg", street())
    storage.prepare_root(folders.archive)
    (folders.archive / "1_instances.json").write_text("{}", "utf-8")
    (failed,) = folders.run().failed
    assert "1_instances.json" in failed.reason
    assert (folders.archive / "1_instances.json").read_text("utf-8") == "{}"
    assert not (tmp_path / "out" / "1.jpg").exists()


def test_a_redraw_reads_the_instances_beside_its_input_and_never_writes_them(folders: Folders) -> None:
    edited = add_box(folders.archive / "1_instances.json")
    ran = folders.redraw("local_instances=True", "remote_instances=True")
    assert ran.failed == []
    assert (folders.archive / "1_instances.json").read_bytes() == edited
    again = add_box(folders.archive / "1_instances.json", Box(100, 80, 140, 110))
    assert names(folders.redraw("remote_instances=True").done) == ["1.jpg"]
    assert (folders.archive / "1_instances.json").read_bytes() == again


@pytest.mark.parametrize(
    "override",
    [
        "table_name=KOMMUNEBILDER",
        "write_exif_to_db=False",
        "log_level=INFO",
        "preview_dim=[9, 9]",
        "static_mask_blur=3",
    ],
)
def test_settings_without_effect_on_the_files_leave_images_finished(folders: Folders, override: str) -> None:
    assert len(folders.run(override).skipped) == 3


def test_contents_count_where_a_key_names_a_file(folders: Folders) -> None:
    mask = np.full((120, 160), 255, np.uint8)
    mask[:10] = 0
    roof = write_image(folders.folder / "roof.png", mask)
    key = f"static_mask={roof.as_posix()}"
    assert len(folders.run(key).done) == 3
    assert len(folders.run(key).skipped) == 3
    time = roof.stat().st_mtime_ns
    mask[-30:] = 0
    write_image(roof, mask)
    os.utime(roof, ns=(time, time))
    assert len(folders.run(key).done) == 3
    assert is_hidden(folders.folder / "in" / "1.jpg", folders.folder / "out" / "1.jpg", Box(60, 90, 100, 120))
    # The same content elsewhere is the same mask.
    assert len(folders.run(f"static_mask={roof.rename(roof.with_name('r.png')).as_posix()}").skipped) == 3
