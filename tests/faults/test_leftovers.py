"""What is raw outlives nobody: not in temporary folders, not in shared memory, however a run ends."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from anonymise import config
from anonymise.batch import storage
from anonymise.batch.paths import Places
from anonymise.batch.runs import anonymise
from anonymise.batch.workers import SerialWorkers
from anonymise.core.detections import Box
from tests.fakes import Ran, RedMasker, read_image, street, write_image

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SHARED_MEMORY = Path("/dev/shm")
N_IMAGES = 12

on_linux = pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="shared memory cannot be listed here")


def start(folder: Path, out: str) -> "subprocess.Popen[bytes]":
    """A run in a process group and with a temporary folder of its own."""
    (folder / "tmp").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.faults.runner", "-i", folder / "in", "-o", folder / out, "--reader"]
    return subprocess.Popen(
        list(map(str, command)),
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder / "tmp"), "XDG_CACHE_HOME": str(folder / "cache")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def raw_memory(process: "subprocess.Popen[bytes]") -> set[Path]:
    """The shared memory of a process that is large enough for pixels; other runs may be under way beside the test."""
    maps = Path(f"/proc/{process.pid}/maps").read_text().split()
    paths = {Path(word) for word in maps if word.startswith(f"{SHARED_MEMORY}/")}
    return {path for path in paths if path.exists() and path.stat().st_size > 1_000_000}


def still_there(paths: set[Path]) -> set[Path]:
    return {path for path in paths if path.exists()}


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    for number in range(N_IMAGES):
        write_image(tmp_path / "in" / f"{number:02}.jpg", street((2400, 1600), cars=[Box(400, 600, 900, 1200)]))
    yield tmp_path


def end(process: "subprocess.Popen[bytes]", *signals: int) -> None:
    for number in signals:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        time.sleep(0.3)
    process.wait(60)


@on_linux
@pytest.mark.parametrize("signals", [(signal.SIGKILL,), (signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)])
def test_a_run_that_is_killed_leaves_nothing_raw(folder: Path, signals: tuple[int, ...]) -> None:
    process = start(folder, "out")
    wait_for(lambda: raw_memory(process) and len(files(folder / "out")) > 4)
    held = raw_memory(process)
    end(process, *signals)
    assert files(folder / "tmp") == []

    # Any run sweeps, whatever its folders are.
    write_image(folder / "other" / "in" / "1.jpg", street())
    assert start(folder / "other", "out").wait(60) == 0
    assert still_there(held) == set()
    assert files(folder / "tmp") == files(folder / "other" / "tmp") == []


@on_linux
def test_a_run_that_is_alive_keeps_its_memory(folder: Path) -> None:
    process = start(folder, "out")
    wait_for(lambda: raw_memory(process))
    os.killpg(process.pid, signal.SIGSTOP)
    try:
        held = raw_memory(process)
        write_image(folder / "other" / "in" / "1.jpg", street())
        assert start(folder / "other", "out").wait(60) == 0
        assert still_there(held) == held
    finally:
        os.killpg(process.pid, signal.SIGCONT)
    assert process.wait(60) == 0
    assert len(list((folder / "out").glob("*.jpg"))) == N_IMAGES
    assert still_there(held) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="files in memory are Linux's")
def test_no_temporary_folder_is_needed(folder: Path) -> None:
    """A full one made the program encode everything with loss, and call it finished."""
    (folder / "tmp").write_bytes(b"")
    source = folder / "in" / "00.jpg"
    for other in (folder / "in").glob("*.jpg"):
        if other != source:
            other.unlink()
    places = {"TMPDIR": "tmp", "HOME": "tmp", "XDG_CACHE_HOME": "tmp"}
    command = [sys.executable, "-m", "tests.faults.runner", "-i", folder / "in", "-o", folder / "out"]
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env={**os.environ, **{name: str(folder / value) for name, value in places.items()}},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, after = read_image(source), read_image(folder / "out" / "00.jpg")
    assert np.array_equal(after[:, 1000:], before[:, 1000:])


@pytest.fixture
def place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files stand on a system without files in memory."""

    def not_there(name: str) -> int:
        raise OSError(errno.ENOSYS, name)

    monkeypatch.setattr(os, "memfd_create", not_there, raising=False)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: folder / "cache")
    return folder / "cache"


def run(folder: Path) -> Ran:
    storage.prepare_root(folder / "out")
    ran = Ran()
    places = Places(folder / "in", folder / "out")
    ran.report = anonymise(config.load(overrides=["enable_async=False"]), places, RedMasker(), SerialWorkers(), ran)
    return ran


def test_where_there_are_no_files_in_memory_they_are_swept(folder: Path, place: Path) -> None:
    for other in list((folder / "in").glob("*.jpg"))[1:]:
        other.unlink()
    ran = run(folder)
    assert len(ran.done) == 1
    assert not any("quality" in note for note in ran.done[0].notes)
    (left,) = [path for path in place.rglob("*") if path.is_dir()]
    assert files(place) == []
    (left / "anonymise-raw-0123").write_bytes(b"raw")
    assert not run(folder).failed
    assert files(place) == []


def test_without_room_for_them_the_run_stops(folder: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) > 100_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    report = run(folder).report
    assert report is not None
    assert report.n_done == 0
    assert "no room" in str(report.stopped)
    assert not list((folder / "out").glob("*.jpg"))
    assert files(place) == []
