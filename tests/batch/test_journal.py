import logging
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anonymise.batch.journal import (
    Entry,
    Identity,
    Journal,
    JournalReader,
    ResumeStatus,
    State,
    Written,
    file,
    journal_file,
)
from anonymise.batch.journal.reader import CHUNK
from anonymise.core.errors import StorageError

pytestmark = pytest.mark.slow

HERE = Identity(1234, 1_700_000_000_123_456_789)
FILES = (Written("archive", "image", "/originals"), Written("remote", "image"))


def finish(journal: Journal, relative: str, identity: Identity = HERE) -> None:
    journal.started(relative, identity)
    journal.done(relative, FILES, {"car": 2})


def entry_of(output: Path, relative: str) -> Entry:
    with JournalReader(output) as reader:
        found = reader.entry(relative)
    assert found is not None
    return found


def test_the_next_run_knows_what_is_finished_and_what_has_changed(tmp_path: Path) -> None:
    with Journal(tmp_path, "one") as journal:
        assert not journal.finished("a/x.jpg", HERE, "")
        finish(journal, "a/x.jpg")
        assert journal.finished("a/x.jpg", HERE, "")
    with Journal(tmp_path, "one") as journal:
        assert journal.finished("a/x.jpg", HERE, "")
        assert not journal.finished("a/x.jpg", HERE._replace(size=1235), "")
        assert not journal.finished("a/x.jpg", HERE._replace(mtime_ns=HERE.mtime_ns + 1), "")
        assert not journal.finished("a/y.jpg", HERE, "")
        assert not journal.finished_otherwise("a/x.jpg")
    with Journal(tmp_path, "two") as journal:
        assert not journal.finished("a/x.jpg", HERE, "")
        assert journal.finished_otherwise("a/x.jpg")
        finish(journal, "a/x.jpg")
        assert journal.finished("a/x.jpg", HERE, "")
        assert not journal.finished_otherwise("a/x.jpg")
    with Journal(tmp_path, "one") as journal:
        assert not journal.finished("a/x.jpg", HERE, "")


def test_an_entry_tells_all_that_happened(tmp_path: Path) -> None:
    with Journal(tmp_path, "one") as journal:
        finish(journal, "a/x.jpg")
        journal.started("a/y.jpg", HERE)
        journal.failed("a/y.jpg", "read", "the file is empty")
        journal.started("a/z.jpg", None)
    done, failed, open_ = (entry_of(tmp_path, f"a/{name}.jpg") for name in "xyz")
    assert replace(done, started="", ended=None) == Entry(
        "a/x.jpg", HERE, "one", State.FINISHED, 1, None, None, "", None, FILES, {"car": 2}, source=""
    )
    assert done.started.endswith("+00:00")
    assert done.ended is not None
    assert done.started <= done.ended
    assert (failed.state, failed.stage, failed.reason) == (State.FAILED, "read", "the file is empty")
    assert (open_.state, open_.identity, open_.ended) == (State.STARTED, None, None)
    with JournalReader(tmp_path) as reader:
        assert reader.counts() == {State.STARTED: 1, State.FINISHED: 1, State.FAILED: 1}
        assert [entry.relative for entry in reader.entries(State.FAILED)] == ["a/y.jpg"]
        assert [entry.relative for entry in reader.entries()] == ["a/x.jpg", "a/y.jpg", "a/z.jpg"]
        assert reader.entry("a/w.jpg") is None


def test_a_failure_is_forgotten_when_the_image_is_finished(tmp_path: Path) -> None:
    with Journal(tmp_path, "one") as journal:
        journal.started("x.jpg", HERE)
        journal.failed("x.jpg", "read", "the file is empty")
        finish(journal, "x.jpg")
    entry = entry_of(tmp_path, "x.jpg")
    assert (entry.state, entry.stage, entry.reason, entry.attempts) == (State.FINISHED, None, None, 2)


@pytest.mark.parametrize(
    ("identity", "digest", "attempts"),
    [(HERE, "one", 3), (HERE, "two", 1), (HERE._replace(size=1), "one", 1), (None, "one", 1)],
)
def test_attempts_count_from_the_last_change(
    tmp_path: Path, identity: Identity | None, digest: str, attempts: int
) -> None:
    for _ in range(2):
        with Journal(tmp_path, "one") as journal:
            journal.started("x.jpg", HERE)
    with Journal(tmp_path, digest) as journal:
        journal.started("x.jpg", identity)
    assert entry_of(tmp_path, "x.jpg").attempts == attempts


@pytest.mark.parametrize(
    ("identity", "digest", "status"),
    [
        (HERE, "one", ResumeStatus.FINISHED),
        (HERE, "two", ResumeStatus.OTHER_CONFIGURATION),
        (HERE._replace(size=1), "one", ResumeStatus.CHANGED_INPUT),
        (HERE._replace(mtime_ns=1), "two", ResumeStatus.CHANGED_INPUT),
    ],
)
def test_resume_status_of_a_finished_image(
    tmp_path: Path, identity: Identity, digest: str, status: ResumeStatus
) -> None:
    with Journal(tmp_path, "one") as journal:
        finish(journal, "x.jpg")
    entry = entry_of(tmp_path, "x.jpg")
    assert entry.resume_status(identity, digest) is status
    assert replace(entry, state=State.FAILED).resume_status(identity, digest) is ResumeStatus.FAILED
    assert replace(entry, state=State.STARTED).resume_status(identity, digest) is ResumeStatus.UNFINISHED


_NAMES = st.one_of(
    st.sampled_from(["a/x.jpg", "a/y.jpg", "å/ß 100%.png", "quote'\".jpg"]),
    st.binary(min_size=1, max_size=8).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
).filter(lambda name: "\0" not in name)
_IDENTITIES = st.builds(Identity, st.integers(0, 3), st.integers(-5, 2**62))
_STEPS = st.lists(
    st.tuples(st.sampled_from(["done", "failed", "started", "commit", "reopen"]), _NAMES, _IDENTITIES), max_size=25
)


@pytest.mark.skipif(sys.platform == "win32", reason="names are bytes only elsewhere")
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_STEPS, batch_rows=st.integers(1, 9))
def test_a_journal_is_a_table_of_what_happened_last(
    tmp_path: Path, steps: list[tuple[str, str, Identity]], batch_rows: int
) -> None:
    shutil.rmtree(tmp_path / ".anonymise", ignore_errors=True)
    expected: dict[str, tuple[State, Identity]] = {}
    journal = Journal(tmp_path, "one", batch_rows=batch_rows)
    ever_done: set[str] = set()
    for step, name, identity in steps:
        if step == "commit":
            journal.commit()
        elif step == "reopen":
            journal.commit()
            journal = Journal(tmp_path, "one", batch_rows=batch_rows)
        else:
            journal.started(name, identity)
            expected[name] = State.STARTED, identity
        if step == "done":
            journal.done(name, [Written("remote", "image")], {})
            ever_done.add(name)
            expected[name] = State.FINISHED, identity
        elif step == "failed":
            journal.failed(name, "write", f"{name} cannot be written")
            expected[name] = State.FAILED, identity
        for known, (state, last) in expected.items():
            assert journal.finished(known, last, "") == (state is State.FINISHED)
    journal.commit()
    with JournalReader(tmp_path) as reader:
        found = list(reader.entries())
    assert {entry.relative: (entry.state, entry.identity) for entry in found} == expected
    for entry in found:
        # What was written stays known, whatever becomes of the image afterwards.
        assert entry.written == ((Written("remote", "image"),) if entry.relative in ever_done else ())
        if entry.state is State.FAILED:
            assert entry.reason == f"{entry.relative} cannot be written"


def test_changes_are_written_in_batches(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "one", batch_rows=4, batch_seconds=3600)
    with JournalReader(tmp_path) as reader:
        finish(journal, "a.jpg")
        assert reader.entry("a.jpg") is None
        finish(journal, "b.jpg")
        assert reader.counts()[State.FINISHED] == 2
        journal.started("c.jpg", HERE)
        assert reader.entry("c.jpg") is None
        journal.commit()
        assert reader.entry("c.jpg") is not None


def test_a_slow_run_writes_every_change_at_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "one", batch_rows=1000, batch_seconds=0)
    finish(journal, "a.jpg")
    assert entry_of(tmp_path, "a.jpg").state is State.FINISHED


def test_an_error_does_not_lose_what_is_pending(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="model"), Journal(tmp_path, "one") as journal:
        finish(journal, "a.jpg")
        raise RuntimeError("model")
    assert entry_of(tmp_path, "a.jpg").state is State.FINISHED


def test_threads_may_share_a_journal(tmp_path: Path) -> None:
    with Journal(tmp_path, "one", batch_rows=7) as journal:

        def work(thread: int) -> None:
            for n in range(100):
                finish(journal, f"{thread}/{n}.jpg")

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with JournalReader(tmp_path) as reader:
        assert reader.counts()[State.FINISHED] == 400


def test_a_reader_sees_all_of_many_entries_once(tmp_path: Path) -> None:
    names = [f"{n:05}.jpg" for n in range(2 * CHUNK)]
    with Journal(tmp_path, "one") as journal:
        for name in reversed(names):
            journal.started(name, HERE)
    with JournalReader(tmp_path) as reader:
        assert [entry.relative for entry in reader.entries(State.STARTED)] == names
        assert list(reader.entries(State.FAILED)) == []


def test_a_reader_in_the_middle_does_not_hold_up_the_run(tmp_path: Path) -> None:
    with Journal(tmp_path, "one", timeout_seconds=0) as journal:
        for n in range(CHUNK + 1):
            journal.started(f"{n}.jpg", HERE)
        journal.commit()
        with JournalReader(tmp_path) as reader:
            entries = reader.entries()
            next(entries)
            finish(journal, "a.jpg")
            journal.commit()
            assert entry_of(tmp_path, "a.jpg").state is State.FINISHED


@pytest.fixture
def away(tmp_path: Path) -> tuple[Path, Path]:
    """An output folder, and where it can be moved so that it is out of reach."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out", tmp_path / "elsewhere"


def test_a_share_that_comes_back_is_waited_for(away: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    output, elsewhere = away
    journal = Journal(output, "one", retry_seconds=0.02, timeout_seconds=30)
    finish(journal, "a.jpg")
    output.rename(elsewhere)
    back = threading.Timer(0.3, elsewhere.rename, [output])
    back.start()
    with caplog.at_level(logging.WARNING, "anonymise"):
        journal.commit()
    back.join()
    assert len(caplog.records) == 1
    assert entry_of(output, "a.jpg").attempts == 1


def test_a_share_that_stays_away_stops_the_run_and_nothing_is_lost(away: tuple[Path, Path]) -> None:
    output, elsewhere = away
    journal = Journal(output, "one", retry_seconds=0.02, timeout_seconds=0.1)
    finish(journal, "a.jpg")
    output.rename(elsewhere)
    with pytest.raises(StorageError, match="file_access_timeout_seconds"):
        journal.commit()
    assert not output.exists()
    elsewhere.rename(output)
    journal.commit()
    assert entry_of(output, "a.jpg").state is State.FINISHED


def test_a_journal_that_was_deleted_is_not_begun_again_in_the_middle(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "one", retry_seconds=0.02, timeout_seconds=0)
    finish(journal, "a.jpg")
    journal_file(tmp_path).unlink()
    with pytest.raises(StorageError, match="is gone"):
        journal.commit()
    assert not journal_file(tmp_path).exists()


def test_why_a_run_ends_is_not_hidden_by_the_journal(away: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    output, elsewhere = away
    with (
        pytest.raises(StorageError, match="the disk is broken"),
        Journal(output, "one", timeout_seconds=0) as journal,
        caplog.at_level(logging.WARNING, "anonymise"),
    ):
        finish(journal, "a.jpg")
        output.rename(elsewhere)
        raise StorageError("the disk is broken")
    assert "journal" in caplog.text


class _LosesAnAnswer(sqlite3.Connection):
    """Commits the first batch, but says that it could not, as on a share that goes away at that moment."""

    lost = 0

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        cursor = super().execute(sql, parameters)
        if sql == "COMMIT" and not _LosesAnAnswer.lost:
            _LosesAnAnswer.lost += 1
            raise sqlite3.OperationalError("disk I/O error")
        return cursor


def test_a_batch_that_is_written_twice_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, "one", retry_seconds=0.01)
    finish(journal, "a.jpg")
    monkeypatch.setattr(_LosesAnAnswer, "lost", 0)
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=_LosesAnAnswer))
    journal.commit()
    assert _LosesAnAnswer.lost == 1
    entry = entry_of(tmp_path, "a.jpg")
    assert (entry.state, entry.attempts) == (State.FINISHED, 1)


def _newer(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def _foreign(file: Path) -> None:
    file.unlink()
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE notes (note TEXT)")
    connection.close()


def _no_database(file: Path) -> None:
    file.write_bytes(b"no database" * 1000)


def _damaged(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[8192:] = random.Random(1).randbytes(len(data) - 8192)
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_newer, r"newer version .* \(format 99, .* update the program"),
        (_foreign, "another program's database"),
        (_no_database, r"is damaged .* move it away"),
        (_damaged, r"is damaged .* move it away"),
    ],
)
def test_a_journal_that_cannot_be_used_is_named_with_the_way_out(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    with Journal(tmp_path, "one") as journal:
        for n in range(200):
            finish(journal, f"{n}.jpg")
    spoil(journal_file(tmp_path))
    with pytest.raises(StorageError, match=message):
        Journal(tmp_path, "one")
    with pytest.raises(StorageError, match=message), JournalReader(tmp_path) as reader:
        list(reader.entries())


def test_there_is_nothing_to_read_before_the_first_run(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no run has written"):
        JournalReader(tmp_path)
    (tmp_path / ".anonymise").mkdir()
    journal_file(tmp_path).touch()  # a run that was killed at once
    with pytest.raises(StorageError, match="is empty"):
        JournalReader(tmp_path)
    with Journal(tmp_path, "one") as journal:
        finish(journal, "a.jpg")
    assert entry_of(tmp_path, "a.jpg").state is State.FINISHED


def test_an_output_folder_that_cannot_hold_a_journal(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be made"):
        Journal(tmp_path / "gone", "one")


def test_a_lock_that_another_program_holds_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "BUSY_SECONDS", 0.05)
    journal = Journal(tmp_path, "one", timeout_seconds=0)
    finish(journal, "a.jpg")
    other = sqlite3.connect(journal_file(tmp_path), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StorageError, match=r"another program holds it.*nobrl"):
        journal.commit()
    other.close()
    journal.commit()
    assert entry_of(tmp_path, "a.jpg").state is State.FINISHED


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = sys.platform == "linux" and _mount("-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder))
    if not mounted:
        pytest.skip("a file system of its own can only be mounted by root on Linux")
    yield folder
    subprocess.run(["umount", folder], check=True)


def _mount(*arguments: str) -> bool:
    mount = shutil.which("mount")
    return mount is not None and subprocess.run([mount, *arguments], capture_output=True, check=False).returncode == 0


def test_a_full_disk_stops_the_run_and_keeps_what_was_written(small_disk: Path) -> None:
    journal = Journal(small_disk, "one", timeout_seconds=60)
    finish(journal, "a.jpg")
    journal.commit()
    with pytest.raises(StorageError, match="the disk is full"):
        for n in range(10_000):
            finish(journal, f"{n}.jpg")
    with JournalReader(small_disk) as reader:
        assert reader.entry("a.jpg") is not None


def test_a_read_only_disk_stops_the_run(small_disk: Path) -> None:
    journal = Journal(small_disk, "one", timeout_seconds=60)
    finish(journal, "a.jpg")
    journal.commit()
    finish(journal, "b.jpg")
    if not _mount("-o", "remount,ro", str(small_disk)):
        pytest.skip("cannot be mounted read-only here")
    with pytest.raises(StorageError, match="read-only"):
        journal.commit()
    assert entry_of(small_disk, "a.jpg").state is State.FINISHED


_WRITER = """
import sys
from pathlib import Path
from anonymise.batch.journal import Identity, Journal
journal = Journal(Path(sys.argv[1]), "one", batch_rows=6)
first = int(sys.argv[2])
for n in range(first, first + 100_000):
    journal.started(f"{n}.jpg", Identity(n, n))
    if n % 3:
        journal.done(f"{n}.jpg", [], {})
    else:
        journal.failed(f"{n}.jpg", "write", "odd")
    if n % 5 == 0:
        journal.commit()
        print(n, flush=True)
"""


def test_killed_at_any_moment_it_knows_all_that_was_committed_and_nothing_else(tmp_path: Path) -> None:
    times = random.Random(5)
    first, n_known = 0, 0
    for _ in range(20):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path), str(first)], stdout=subprocess.PIPE, encoding="ascii"
        )
        assert writer.stdout is not None
        first_line = writer.stdout.readline()
        time.sleep(times.uniform(0, 0.1))
        writer.kill()
        lines = writer.stdout.read().split()
        writer.stdout.close()
        writer.wait()
        committed = int(lines[-1] if lines else first_line)
        with JournalReader(tmp_path) as reader:
            entries = {entry.relative: entry for entry in reader.entries()}
        connection = sqlite3.connect(journal_file(tmp_path))
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
        journal = Journal(tmp_path, "one")
        last = max(int(name.removesuffix(".jpg")) for name in entries)
        assert last >= committed
        for n in range(last + 1):
            entry = entries[f"{n}.jpg"]
            ended = State.FINISHED if n % 3 else State.FAILED
            # A kill may fall between the two changes of the last image, which are in different batches then.
            assert entry.state is ended or (n > committed and n == last and entry.state is State.STARTED)
            assert journal.finished(f"{n}.jpg", Identity(n, n), "") == (entry.state is State.FINISHED)
        assert len(entries) == last + 1 > n_known
        first, n_known = last if entries[f"{last}.jpg"].state is State.STARTED else last + 1, len(entries)


def _directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _nonsense(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE image SET objects = '{not json'")
        connection.commit()


@pytest.mark.parametrize(
    "spoil",
    [
        _directory,
        _nonsense,
        lambda file: file.write_bytes(b"no database" * 100),
        lambda file: file.write_bytes(file.read_bytes()[:5000]),
        lambda file: file.write_bytes(b""),
    ],
    ids=["a folder", "values without sense", "another file", "cut off", "empty"],
)
def test_a_journal_that_cannot_be_read_is_said_at_once_by_those_who_read_it(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    from tests.fakes import street, write_image

    write_image(tmp_path / "in" / "1.jpg", street())
    (tmp_path / "out" / ".anonymise").mkdir(parents=True)
    with Journal(tmp_path / "out", "digest") as journal:
        journal.started("1.jpg", Identity(1, 2))
        journal.failed("1.jpg", "read", "a reason")
    spoil(journal_file(tmp_path / "out"))
    root = Path(__file__).parents[2]
    call = [sys.executable, "-m", "script.check_folders", "-i", tmp_path / "in", "-o", tmp_path / "out"]
    options = ["-k", root / "config" / "lite_config.yml"]
    done = subprocess.run([*map(str, [*call, *options])], cwd=root, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 3, done.stdout + done.stderr
    assert str(journal_file(tmp_path / "out")) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_journal_that_cannot_be_opened_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".anonymise" / "journal.sqlite").mkdir(parents=True)
    monkeypatch.setattr(time, "sleep", None)  # whoever waits fails
    with pytest.raises(StorageError, match="cannot be read or written"):
        Journal(tmp_path, "digest")
