"""Ctrl-C and SIGTERM: finish or drop what is under way, leave nothing partial, exit with 130 and the summary."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes import street, write_image

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals work otherwise there")


def interrupted(tmp_path: Path, signals: list[int]) -> "subprocess.CompletedProcess[str]":
    """A run over 300 images that gets signals as soon as the first image is finished."""
    for number in range(300):
        write_image(tmp_path / "in" / f"{number:03}.jpg", street((640, 480), seed=number % 7))
    command = [sys.executable, "-m", "tests.faults.runner", "-i", tmp_path / "in", "-o", tmp_path / "out"]
    process = subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if ".jpg: " in line:
            break
    for number in signals:
        process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess("run", process.returncode, output, "".join(lines) + errors)


def assert_whole(tmp_path: Path) -> int:
    """Every image that is there is whole, with its record; returns how many there are."""
    written = {path.stem for path in (tmp_path / "out").glob("*.jpg")}
    for stem in written:
        assert (tmp_path / "out" / f"{stem}.jpg").read_bytes().endswith(b"\xff\xd9")
    assert written <= {path.stem for path in (tmp_path / "out").glob("*.json")}  # the record comes first
    return len(written)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_finishes_what_is_under_way(tmp_path: Path, number: int) -> None:
    done = interrupted(tmp_path, [number])
    assert done.returncode == 130, done.stderr
    assert "Interrupted" in done.stdout
    assert "Traceback" not in done.stderr
    assert 0 < assert_whole(tmp_path) < 300
    assert not list((tmp_path / "out").rglob("*.part"))
    assert f"Done:                {assert_whole(tmp_path)}" in done.stdout


def test_more_signals_end_at_once_and_leave_nothing_partial(tmp_path: Path) -> None:
    done = interrupted(tmp_path, [signal.SIGINT] * 3)
    assert done.returncode != 0
    assert_whole(tmp_path)
    again = [sys.executable, "-m", "tests.faults.runner", "-i", tmp_path / "in", "-o", tmp_path / "out"]
    assert subprocess.run(list(map(str, again)), cwd=ROOT, capture_output=True, check=False).returncode == 0
    assert assert_whole(tmp_path) == 300
    assert not list((tmp_path / "out").rglob("*.part"))
