import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from anonymise.batch.runlock import FOREIGN_STALE_SECONDS, Holder, lock_file, read_holder, run_lock
from anonymise.core.errors import StorageError, UsageError

pytestmark = pytest.mark.slow

_HOLDING = """
import sys
from pathlib import Path
from anonymise.batch.runlock import run_lock
with run_lock(Path(sys.argv[1]), heartbeat_seconds=float(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def run(output: Path, heartbeat_seconds: float = 0.1) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _HOLDING, str(output), str(heartbeat_seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


@pytest.fixture
def other_run(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    with run(tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def write_lock(output: Path, holder: Holder) -> Path:
    file = lock_file(output)
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(asdict(holder)), "ascii")
    return file


def eventually(condition: Callable[[], bool]) -> bool:
    for _ in range(1000):
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_a_lock_is_there_during_the_run_and_gone_after_it(tmp_path: Path) -> None:
    for _ in range(2):
        with run_lock(tmp_path) as lock:
            lock.check()
            assert read_holder(tmp_path) == lock.holder
            assert lock.holder.pid == os.getpid()
            assert lock.holder.is_running()
        assert list(lock_file(tmp_path).parent.iterdir()) == []


def test_a_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), run_lock(tmp_path):
        raise RuntimeError
    assert read_holder(tmp_path) is None


def test_the_second_run_is_refused_with_the_first_ones_host_and_process(
    tmp_path: Path, other_run: "subprocess.Popen[str]"
) -> None:
    with pytest.raises(UsageError, match=f"process {other_run.pid} on {socket.gethostname()}"), run_lock(tmp_path):
        pass
    holder = read_holder(tmp_path)
    assert holder is not None
    assert holder.pid == other_run.pid


def test_a_second_run_in_the_same_process_is_refused_too(tmp_path: Path) -> None:
    with run_lock(tmp_path) as lock:
        with pytest.raises(UsageError), run_lock(tmp_path):
            pass
        assert read_holder(tmp_path) == lock.holder


@pytest.mark.parametrize("reaped", [True, False])
def test_the_lock_of_a_killed_run_is_taken_over_at_once(
    tmp_path: Path,
    other_run: "subprocess.Popen[str]",
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    reaped: bool,
) -> None:
    holder = read_holder(tmp_path)
    assert holder is not None
    other_run.kill()
    if reaped:
        other_run.wait()
    assert eventually(lambda: not holder.is_running())
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits"))
    with run_lock(tmp_path) as lock:
        assert read_holder(tmp_path) == lock.holder
    assert f"process {other_run.pid}" in caplog.text


def test_a_process_that_got_the_pid_of_a_gone_run_does_not_hold_its_lock(tmp_path: Path) -> None:
    holder = Holder.this_run()
    write_lock(tmp_path, replace(holder, process_start=holder.process_start - 100))
    with run_lock(tmp_path) as lock:
        assert read_holder(tmp_path) == lock.holder


def of_another_machine(output: Path, silence: float) -> Holder:
    """A lock as a run on another machine leaves it, so long after its last heartbeat."""
    holder = replace(Holder.this_run(), host="elsewhere", process_space="another kernel", pid=2**22 + 1)
    os.utime(write_lock(output, holder), (time.time() - silence,) * 2)
    return holder


def test_the_lock_of_another_machine_is_respected_while_that_may_be_alive(tmp_path: Path) -> None:
    holder = of_another_machine(tmp_path, FOREIGN_STALE_SECONDS - 60)
    message = rf"process {holder.pid} on elsewhere.*Wait for it or stop it.*in 1 minutes; or delete .*lock"
    with pytest.raises(UsageError, match=message), run_lock(tmp_path):
        pass
    assert read_holder(tmp_path) == holder
    assert [path.name for path in lock_file(tmp_path).parent.iterdir()] == ["lock"]


def test_a_container_that_was_killed_and_comes_back_under_another_name_gets_the_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # On the same machine it shares the kernel with the first one, elsewhere nobody can see whether that is alive.
    write_lock(tmp_path, replace(Holder.this_run(), host="3f2a", process_space=other_container(), pid=2**22 + 1))
    with run_lock(tmp_path, heartbeat_seconds=0.1) as lock:
        assert read_holder(tmp_path) == lock.holder
    of_another_machine(tmp_path, FOREIGN_STALE_SECONDS + 60)
    with run_lock(tmp_path, heartbeat_seconds=0.1) as lock:
        assert read_holder(tmp_path) == lock.holder
    assert "elsewhere" in caplog.text


def other_container() -> str:
    return f"{Holder.this_run().machine} pid:[1]"


def test_a_silent_run_on_another_machine_that_wakes_up_keeps_its_lock(tmp_path: Path) -> None:
    holder = of_another_machine(tmp_path, FOREIGN_STALE_SECONDS + 60)
    waking = threading.Timer(0.3, os.utime, [lock_file(tmp_path)])
    waking.start()
    with pytest.raises(UsageError, match="Another run"), run_lock(tmp_path, heartbeat_seconds=5):
        pass
    waking.join()
    assert read_holder(tmp_path) == holder


def test_a_step_of_the_clock_does_not_free_a_lock(
    tmp_path: Path, other_run: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system reckons when a process started from when it started itself, and that from its clock."""
    holder = read_holder(tmp_path)
    told, booted = psutil.Process.create_time, psutil.boot_time()
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: told(process) + 3600)
    monkeypatch.setattr(psutil, "boot_time", lambda: booted + 3600)
    monkeypatch.setattr(time, "time", lambda: time.time_ns() / 1e9 + 3600)
    with pytest.raises(UsageError, match=f"process {other_run.pid}"), run_lock(tmp_path, heartbeat_seconds=0.2):
        pass
    assert read_holder(tmp_path) == holder


def test_a_machine_or_container_of_the_same_name_shows_that_it_is_alive(tmp_path: Path) -> None:
    holder = replace(Holder.this_run(), process_space="another", pid=2**22 + 1)
    file = write_lock(tmp_path, holder)
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.05):
            os.utime(file)

    thread = threading.Thread(target=beat)
    thread.start()
    with pytest.raises(UsageError, match="Another run"), run_lock(tmp_path, heartbeat_seconds=5):
        pass
    stop.set()
    thread.join()
    assert read_holder(tmp_path) == holder
    with run_lock(tmp_path, heartbeat_seconds=0.1) as lock:  # now it is silent
        assert read_holder(tmp_path) == lock.holder


def test_a_lock_whose_writer_was_killed_at_once_is_taken_over(tmp_path: Path) -> None:
    lock_file(tmp_path).parent.mkdir()
    lock_file(tmp_path).write_bytes(b"")
    with run_lock(tmp_path, heartbeat_seconds=0.1) as lock:
        assert read_holder(tmp_path) == lock.holder


def test_a_lock_that_is_just_being_written_is_somebody_elses(tmp_path: Path) -> None:
    lock_file(tmp_path).parent.mkdir()
    lock_file(tmp_path).write_bytes(b"")
    holder = Holder.this_run()
    writer = threading.Timer(0.2, write_lock, [tmp_path, holder])
    writer.start()
    with pytest.raises(UsageError, match="Another run"), run_lock(tmp_path, heartbeat_seconds=5):
        pass
    writer.join()
    assert read_holder(tmp_path) == holder


def test_of_several_runs_exactly_one_takes_a_stale_lock_over(tmp_path: Path) -> None:
    for _ in range(3):
        write_lock(tmp_path, replace(Holder.this_run(), process_start=1.0))
        runs = [run(tmp_path) for _ in range(5)]
        outcomes = []
        for process in runs:
            assert process.stdout is not None
            outcomes.append(process.stdout.readline())
        assert sorted(outcomes) == ["", "", "", "", "held\n"]
        for process, outcome in zip(runs, outcomes, strict=True):
            _, errors = process.communicate("\n")
            assert ("UsageError" in errors) == (not outcome)
        assert list(lock_file(tmp_path).parent.iterdir()) == []


def test_a_run_whose_lock_was_taken_over_notices_and_leaves_it(tmp_path: Path) -> None:
    with run_lock(tmp_path, heartbeat_seconds=0.02) as lock:
        usurper = replace(lock.holder, host="elsewhere", token="other")
        write_lock(tmp_path, usurper)

        def noticed() -> bool:
            try:
                lock.check()
            except StorageError as error:
                assert "on elsewhere" in str(error)
                return True
            return False

        assert eventually(noticed)
    assert read_holder(tmp_path) == usurper


def test_a_lock_shows_that_its_run_is_alive(tmp_path: Path) -> None:
    with run_lock(tmp_path, heartbeat_seconds=0.02):
        os.utime(lock_file(tmp_path), (1, 1))
        assert eventually(lambda: lock_file(tmp_path).stat().st_mtime > 1)


def test_a_lock_comes_back_after_somebody_deleted_it(tmp_path: Path) -> None:
    with run_lock(tmp_path, heartbeat_seconds=0.02) as lock:
        lock_file(tmp_path).unlink()
        assert eventually(lambda: read_holder(tmp_path) == lock.holder)
        lock.check()


@pytest.mark.skipif(sys.platform == "win32", reason="a folder in use cannot be renamed there")
def test_a_share_that_goes_away_and_comes_back_does_not_end_the_lock(tmp_path: Path) -> None:
    output, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    output.mkdir()
    with run_lock(output, heartbeat_seconds=0.02) as lock:
        output.rename(elsewhere)
        time.sleep(0.1)
        assert not output.exists()
        elsewhere.rename(output)
        os.utime(lock_file(output), (1, 1))
        assert eventually(lambda: lock_file(output).stat().st_mtime > 1)
        lock.check()
    assert read_holder(output) is None


def test_an_output_folder_that_cannot_hold_a_lock(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"), run_lock(tmp_path / "gone"):
        pass
