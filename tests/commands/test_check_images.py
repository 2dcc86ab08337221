import csv
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from anonymise.batch.inputs import CheckedInput, Fault, check_input, check_inputs
from anonymise.batch.paths import Paths, Places
from anonymise.batch.walker import WalkProblem
from anonymise.batch.workers import ProcessWorkers, SerialWorkers
from anonymise.commands.check_images import main
from anonymise.config import StorageOptions
from anonymise.core.errors import StorageError
from tests.fakes import street, write_image

pytestmark = pytest.mark.slow

_P = ParamSpec("_P")
_T = TypeVar("_T")

ROOT = Path(__file__).parents[2]
OPTIONS = StorageOptions(
    delete_input=False, max_file_megabytes=1000, file_access_retry_seconds=0.1, file_access_timeout_seconds=0.1
)
SERIAL = ["--set", "enable_async=False"]


def shortened(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images that can be read, and four files that are broken in each way."""
    images = tmp_path / "photos æøå"
    write_image(images / "a" / "good.jpg", street())
    write_image(images / "good.png", street())
    (images / "a" / "empty.jpg").touch()
    shortened(write_image(images / "short.jpg", street(seed=1)), 0.7)
    shortened(write_image(images / "short.png", street(seed=2)).rename(images / "cut.png"), 0.7)
    (images / "text.jpg").write_text("this is no picture")
    return images


EXPECTED = {
    "cut.png": "truncated",
    "short.jpg": "truncated",
    "text.jpg": "undecodable",
    "a/empty.jpg": "empty",
}


def test_broken_images_are_named_with_what_is_wrong(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-i", str(folder), *SERIAL]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{folder / 'cut.png'}: truncated: the file ends within a chunk",
        f"{folder / 'short.jpg'}: truncated: the file ends within the picture's data",
        f"{folder / 'text.jpg'}: neither a JPEG nor a PNG file, whatever its name says",
        f"{folder / 'a' / 'empty.jpg'}: the file is empty",
        f"6 images in {folder}: 2 truncated, 1 undecodable, 1 empty",
    ]


def test_the_report_can_be_read_by_programs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-i", str(folder), "--json", *SERIAL]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["checked"] == 6
    assert {row["path"]: row["fault"] for row in report["faulty"]} == {
        str(folder / name): fault for name, fault in EXPECTED.items()
    }
    assert main(["-i", str(folder), "--csv", *SERIAL]) == 1
    assert list(csv.DictReader(io.StringIO(capsys.readouterr().out))) == report["faulty"]


def test_images_that_can_be_read_are_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "1.jpg", street())
    write_image(tmp_path / "2.PNG", street())
    (tmp_path / "notes.txt").write_text("no image, and not meant to be one")
    assert main(["-i", str(tmp_path), *SERIAL]) == 0
    assert capsys.readouterr().out == f"2 images in {tmp_path}: all can be read\n"
    assert main(["-i", str(tmp_path), "--set", "max_decoded_pixels=100", *SERIAL]) == 1
    assert "max_decoded_pixels raises it" in capsys.readouterr().out


def test_images_whose_results_would_collide_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "1.jpg", street())
    write_image(tmp_path / "1.png", street())
    assert main(["-i", str(tmp_path), *SERIAL]) == 1
    assert "its results would overwrite those of" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["-i", "nowhere"], ["-i", ".", "--set", "nonsense=1"]])
def test_wrong_usage_is_told_apart(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("anonymise: ")


def test_the_command_works_with_several_processes(folder: Path) -> None:
    call = [sys.executable, "-m", "script.check_images", "-i", str(folder), "--json"]
    result = subprocess.run(call, cwd=ROOT, capture_output=True, encoding="utf-8", check=False, timeout=120)
    assert result.returncode == 1, result.stderr
    assert result.stderr == ""
    faults = {row["path"]: row["fault"] for row in json.loads(result.stdout)["faulty"]}
    assert faults == {str(folder / name): fault for name, fault in EXPECTED.items()}


def paths_of(root: Path, names: list[str]) -> Iterator[Paths]:
    places = Places(root, root.parent / "out")
    return (Paths(Path(name), places) for name in names)


def _crash_on(path: Path, call: Callable[[], _T]) -> _T:
    if "crash" in path.name:
        os._exit(11)
    return call()


class CrashingWorkers(ProcessWorkers):
    """Worker processes with a codec that crashes on some images."""

    def submit(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        assert isinstance(function, partial)
        path = function.args[0]
        assert isinstance(path, Path)
        return super().submit(_crash_on, path, partial(function, *args, **kwargs))


def test_a_codec_that_crashes_is_the_fault_of_its_image_only(tmp_path: Path) -> None:
    root = tmp_path / "in"
    names = [f"{n}{'crash' if n in (2, 3, 9) else ''}.jpg" for n in range(12)]
    for name in names:
        write_image(root / name, street())
    with closing(CrashingWorkers(2)) as workers:
        found = list(check_inputs(paths_of(root, names), workers, max_pixels=10**6, options=OPTIONS))
    assert [checked.path.name for checked in found] == names
    assert [checked.path.name for checked in found if checked.fault] == ["2crash.jpg", "3crash.jpg", "9crash.jpg"]
    assert {checked.reason for checked in found} == {"", "the decoder crashed or ran out of memory"}


def test_results_come_while_the_walk_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_image(root / "1.jpg", street())
    n_walked = 0

    def walk() -> Iterator[Paths | WalkProblem]:
        nonlocal n_walked
        for _ in range(100):
            n_walked += 1
            yield from paths_of(root, ["1.jpg"])
        yield WalkProblem(root / "locked", "this folder cannot be read", hides_images=True)
        yield WalkProblem(root / "loop", "this link leads back", hides_images=False)

    results = check_inputs(walk(), SerialWorkers(), max_pixels=10**6, options=OPTIONS)
    assert next(results) == CheckedInput(root / "1.jpg")
    assert n_walked == 2
    assert list(results)[-2:] == [
        CheckedInput(root / "locked", Fault.UNREADABLE, "this folder cannot be read"),
        CheckedInput(root / "1.jpg"),
    ]


def test_a_file_that_is_gone_is_a_fault_but_a_folder_that_is_gone_stops_the_check(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_image(root / "other.jpg", street())
    checked = check_input(root / "gone.jpg", root, 10**6, OPTIONS)
    assert checked.fault is Fault.UNREADABLE
    (root / "other.jpg").unlink()
    root.rmdir()
    with pytest.raises(StorageError, match="out of reach"):
        check_input(root / "gone.jpg", root, 10**6, OPTIONS)
    with pytest.raises(StorageError, match="out of reach"):
        root.mkdir()
        found = paths_of(root, ["gone.jpg"])
        image = next(found)
        root.rmdir()
        list(check_inputs([image], SerialWorkers(), max_pixels=10**6, options=OPTIONS))


def test_a_folder_that_comes_back_is_waited_for(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    write_image(root / "1.jpg", street())
    root.rename(elsewhere)
    back = threading.Timer(0.3, elsewhere.rename, [root])
    back.start()
    patient = OPTIONS.model_copy(update={"file_access_timeout_seconds": 30})
    assert check_input(root / "1.jpg", root, 10**6, patient) == CheckedInput(root / "1.jpg")
    back.join()
