"""Ctrl-C, SIGTERM and a closed terminal, to the main process or to all: the run ends cleanly and tells the truth."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.fakes import street, write_image

ROOT = Path(__file__).parents[2]
N_IMAGES = 300

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals work otherwise there"),
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for seed in range(7):
        data = write_image(folder / "a.jpg", street((640, 480), seed=seed)).read_bytes()
        for number in range(seed, N_IMAGES, 7):
            (folder / f"{number:03}.jpg").write_bytes(data)
    (folder / "a.jpg").unlink()
    return folder


def start(images: Path, tmp_path: Path, *before: str) -> "subprocess.Popen[str]":
    """A run over 300 images, in a process group of its own."""
    (tmp_path / "tmp").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.faults.runner", "-i", images, "-o", tmp_path / "out"]
    return subprocess.Popen(
        [*before, *map(str, command)],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def when_under_way(tmp_path: Path, process: "subprocess.Popen[str]") -> None:
    """Waits until the first image is finished."""
    while process.poll() is None and not list((tmp_path / "out").glob("*.jpg")):
        time.sleep(0.05)


def interrupted(
    images: Path, tmp_path: Path, signals: list[int], *, group: bool, pause_seconds: float = 0.0
) -> "subprocess.CompletedProcess[str]":
    """A run that gets signals as soon as its first image is finished."""
    process = start(images, tmp_path)
    when_under_way(tmp_path, process)
    for number in signals:
        if process.poll() is None:
            (os.killpg if group else os.kill)(process.pid, number)
        time.sleep(pause_seconds)
    output, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess("run", process.returncode, output, errors)


def assert_whole(tmp_path: Path) -> int:
    """Every image that is there is whole, with its record; returns how many there are."""
    written = {path.stem for path in (tmp_path / "out").glob("*.jpg")}
    for stem in written:
        assert (tmp_path / "out" / f"{stem}.jpg").read_bytes().endswith(b"\xff\xd9")
    assert written <= {path.stem for path in (tmp_path / "out").glob("*.json")}  # the record comes first
    return len(written)


def counted(output: str) -> dict[str, int]:
    return {name: int(n) for name, n in re.findall(r"^(\w[\w ()]*): +(\d+)$", output, re.MULTILINE)}


def assert_ended_cleanly(tmp_path: Path, done: "subprocess.CompletedProcess[str]") -> None:
    """The run finished what was under way, and said what is done and what is not."""
    assert done.returncode == 130, done.stderr
    assert "Interrupted" in done.stdout
    assert "Traceback" not in done.stderr
    assert "died" not in done.stderr
    n_written = assert_whole(tmp_path)
    assert 0 < n_written < N_IMAGES
    said = counted(done.stdout)
    assert (said["Identified images"], said["Failed"], said["Done"]) == (N_IMAGES, 0, n_written)
    assert said["Not done"] == N_IMAGES - n_written
    assert not list((tmp_path / "out").rglob("*.part"))
    assert not list((tmp_path / "tmp").rglob("*.*"))
    assert not (tmp_path / "out_error").exists()


def assert_nobody_left(tmp_path: Path) -> None:
    """No process of a run over these folders is left."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        left = [p for p in psutil.process_iter(["environ", "status"]) if _is_of(p, tmp_path)]
        if not left:
            return
        time.sleep(0.1)
    raise AssertionError(left)


def _is_of(process: psutil.Process, tmp_path: Path) -> bool:
    environment = process.info["environ"] or {}
    is_alive = process.info["status"] != psutil.STATUS_ZOMBIE
    return is_alive and environment.get("TMPDIR") == str(tmp_path / "tmp")


@pytest.mark.parametrize("group", [False, True], ids=["to the main process", "to the group"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_finishes_what_is_under_way(images: Path, tmp_path: Path, number: int, group: bool) -> None:
    assert_ended_cleanly(tmp_path, interrupted(images, tmp_path, [number], group=group))
    assert_nobody_left(tmp_path)


@pytest.mark.skipif(shutil.which("timeout") is None, reason="there is no timeout command here")
def test_the_command_timeout_which_sends_two_ends_cleanly(images: Path, tmp_path: Path) -> None:
    process = start(images, tmp_path, "timeout", "--kill-after=60", "--preserve-status", "3600")
    when_under_way(tmp_path, process)
    process.send_signal(signal.SIGTERM)  # timeout hands it on to its child, and to the group
    output, errors = process.communicate(timeout=60)
    assert_ended_cleanly(tmp_path, subprocess.CompletedProcess("run", process.returncode, output, errors))


@pytest.mark.parametrize("delay_seconds", [0.2, 0.5, 0.8, 1.2, 1.6])
def test_a_signal_while_the_run_starts(images: Path, tmp_path: Path, delay_seconds: float) -> None:
    """Workers that have not come as far as to ignore signals are not ended by one either."""
    process = start(images, tmp_path)
    time.sleep(delay_seconds)
    os.killpg(process.pid, signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    assert "died" not in errors
    assert process.returncode in {130, -signal.SIGTERM}  # the latter before there is anything to be ended
    assert "FAILED" not in output
    assert_whole(tmp_path)
    assert not list((tmp_path / "tmp").rglob("*.*"))
    assert_nobody_left(tmp_path)


@pytest.mark.parametrize("n_signals", [2, 4])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_more_signals_end_at_once_and_leave_nothing_partial(
    images: Path, tmp_path: Path, number: int, n_signals: int
) -> None:
    done = interrupted(images, tmp_path, [number] * n_signals, group=True, pause_seconds=0.25)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    n_written = assert_whole(tmp_path)
    assert not list(tmp_path.rglob("*.part"))
    if "Not done" in done.stdout:  # not where the signal came when all was gathered
        said = counted(done.stdout)
        assert said["Identified images"] == N_IMAGES
        assert said["Done"] <= n_written  # what was under way may have been written
        assert said["Not done"] == N_IMAGES - said["Done"]
    assert_nobody_left(tmp_path)
    again = [sys.executable, "-m", "tests.faults.runner", "-i", images, "-o", tmp_path / "out"]
    assert subprocess.run(list(map(str, again)), cwd=ROOT, capture_output=True, check=False).returncode == 0
    assert assert_whole(tmp_path) == N_IMAGES
    assert not list((tmp_path / "out").rglob("*.part"))


def test_what_nohup_has_switched_off_stays_so(images: Path, tmp_path: Path) -> None:
    process = start(images, tmp_path, "nohup")
    when_under_way(tmp_path, process)
    os.killpg(process.pid, signal.SIGHUP)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert assert_whole(tmp_path) == N_IMAGES
