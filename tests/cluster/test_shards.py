import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonymise import load_config
from anonymise.batch.journal import Entry, Identity, Journal, JournalReader, State, has_journal, journal_file
from anonymise.batch.paths import Paths, Places
from anonymise.batch.runlock import run_lock
from anonymise.batch.shards import Shard, shards_of, state_folder
from anonymise.batch.walker import TreeWalker, WalkProblem
from anonymise.commands.check_folders import main as check_folders
from anonymise.core.errors import StorageError, UsageError
from anonymise.database import outbox
from tests.fakes import street, write_image

ROOT = Path(__file__).parents[2]
NAMES = [f"{number % 3}/å{number:02}.jpg" for number in range(24)]


@given(st.text(st.characters(exclude_characters="/\0", codec=None), min_size=1), st.integers(1, 50))
def test_every_name_belongs_to_exactly_one_shard(name: str, count: int) -> None:
    assert sum(Shard(index, count).has(name) for index in range(count)) == 1


def test_which_shard_an_image_belongs_to_is_the_same_on_all_machines_and_versions() -> None:
    shards = [next(i for i in range(8) if Shard(i, 8).has(name)) for name in ("a.jpg", "b/å.jpg", "odd\udcff.jpg")]
    assert shards == [2, 3, 3]


@pytest.mark.parametrize("text", ["3", "3/0", "a/b", "8/8", "-1/8", "1/2/3", "1 / 2"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        Shard.parse(text)
    assert str(Shard.parse("3/8")) == "3/8"


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "in").mkdir()
    (tmp_path / "out" / ".anonymise").mkdir(parents=True)
    return Places(tmp_path / "in", tmp_path / "out")


def test_every_shard_reports_a_folder_that_cannot_be_read_because_it_hides_images_of_all(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(2):
        sharded = TreeWalker(replace(places, shard=Shard(index, 2)), load_config().files)
        monkeypatch.setattr(sharded, "root", places.input / "gone")
        (found,) = sharded.walk()
        assert isinstance(found, WalkProblem)
        assert found.hides_images


def test_shards_share_the_images_and_the_names_that_clash(places: Places) -> None:
    for name in ("a.jpg", "A.jpg", "b.jpg", "c.jpg", "d.jpg"):
        write_image(places.input / name, street((32, 32), cars=[]))
    if len(list(places.input.iterdir())) < 5:
        pytest.skip("the disk takes a.jpg and A.jpg for one name")
    walkers = [TreeWalker(replace(places, shard=Shard(index, 3)), load_config().files) for index in range(3)]
    found = [item for walker in walkers for item in walker.walk()]
    assert sorted(item.key for item in found if isinstance(item, Paths)) == ["A.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert [item.path.name for item in found if isinstance(item, WalkProblem)] == ["a.jpg"]


def finish(journal: Journal, *names: str, record: str | None = None) -> None:
    for name in names:
        journal.started(name, Identity(1, 1))
        journal.done(name, (), {"car": 1}, record, source="model")


def test_a_shard_goes_on_with_what_a_run_over_the_folder_did_and_the_next_one_joins_both(places: Places) -> None:
    output, shard = places.output, Shard(0, 2)
    mine = [name for name in NAMES if shard.has(name)]
    with Journal(output, "digest") as journal:
        finish(journal, NAMES[0], mine[0], record="old")
    with Journal(output, "digest", shard=shard) as journal:
        assert journal.finished(mine[0], Identity(1, 1), "model")
        finish(journal, *mine, record="new")
        journal.started("a/started.jpg", None)
    with Journal(output, "digest", shard=shard):  # is not begun twice
        pass
    assert [str(other) for other in shards_of(output)] == ["0/2"]
    with JournalReader(output) as reader:
        before = list(reader.entries())
        assert {entry.relative for entry in before} == {NAMES[0], *mine, "a/started.jpg"}
        assert reader.counts() == {State.STARTED: 1, State.FINISHED: len({NAMES[0], *mine}), State.FAILED: 0}
        entry = reader.entry(mine[0])
        assert entry is not None
        assert entry.attempts == 2  # that of the shard, not that of the folder
        assert list(reader.entries(State.STARTED)) == [reader.entry("a/started.jpg")]
    with Journal(output, "digest") as journal:
        assert all(journal.finished(name, Identity(1, 1), "model") for name in mine)
        with journal.outbox() as connection:
            waiting = {row.key: row.record for row in outbox.take(connection, 100)}
    assert waiting == dict.fromkeys([NAMES[0]], "old") | dict.fromkeys(mine, "new")
    assert shards_of(output) == ()
    with JournalReader(output) as reader:
        assert list(reader.entries()) == before


def test_a_row_that_waits_since_before_the_shards_still_goes_out(places: Places) -> None:
    mine = next(name for name in NAMES if Shard(0, 2).has(name))
    with Journal(places.output, "digest") as journal:
        finish(journal, mine, record="waits")
    with Journal(places.output, "digest", shard=Shard(0, 2)):
        pass
    with Journal(places.output, "digest") as journal, journal.outbox() as connection:
        assert [row.record for row in outbox.take(connection, 100)] == ["waits"]


def test_a_shard_that_was_killed_before_its_journal_was_filled_keeps_nobody_from_reading(places: Places) -> None:
    finished = NAMES[0]
    with Journal(places.output, "digest") as journal:
        finish(journal, finished)
    folder = state_folder(places.output, Shard(0, 2))
    folder.mkdir()
    (folder / "journal.sqlite").touch()
    with JournalReader(places.output) as reader:
        assert [entry.relative for entry in reader.entries()] == [finished]
    with Journal(places.output, "digest"):
        pass
    assert not folder.exists()


def test_a_shard_says_what_to_do_about_a_journal_of_an_earlier_version(places: Places) -> None:
    from anonymise.batch.journal import file

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file, "SCHEMA", file.SCHEMA[:-1])
        file.prepare(journal_file(places.output))
    with pytest.raises(StorageError, match="run once without --shard"):
        Journal(places.output, "digest", shard=Shard(0, 2))


def test_another_number_of_shards_is_refused_until_a_run_has_joined_them(places: Places) -> None:
    output = places.output
    with run_lock(output, Shard(0, 3)), Journal(output, "digest", shard=Shard(0, 3)):
        pass
    with pytest.raises(UsageError, match="divided into 3 shards"), run_lock(output, Shard(0, 4)):
        pass
    assert [str(shard) for shard in shards_of(output)] == ["0/3"]
    with run_lock(output), Journal(output, "digest"):
        pass
    with run_lock(output, Shard(0, 4)):
        pass
    assert shards_of(output) == ()  # it wrote nothing


def test_the_whole_folder_and_its_shards_exclude_each_other_and_shards_do_not(places: Places) -> None:
    output = places.output
    with run_lock(output, Shard(0, 3)), run_lock(output, Shard(1, 3)):
        with pytest.raises(UsageError, match="Another run works on the output folder"), run_lock(output):
            pass
        with pytest.raises(UsageError, match="Another run works on"), run_lock(output, Shard(1, 3)):
            pass
    with (
        run_lock(output),
        pytest.raises(UsageError, match="Another run works on the output folder"),
        run_lock(output, Shard(2, 3)),
    ):
        pass
    assert shards_of(output) == ()


def start(folder: Path, out: str, *more: str) -> "subprocess.Popen[str]":
    options = ["-i", folder / "in", "-o", folder / out, "-a", folder / f"{out}_raw", "--set", "enable_async=False"]
    command = [sys.executable, "-m", "tests.faults.runner", *map(str, options), *more]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: "subprocess.Popen[str]", code: int = 0) -> str:
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == code, stderr
    return stdout


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and ".anonymise" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def known(output: Path) -> list[Entry]:
    with JournalReader(output) as reader:
        return [replace(entry, started="", ended=None, written=()) for entry in reader.entries()]


def done(stdout: str) -> int:
    match = re.search(r"^Done: +(\d+)$", stdout, re.MULTILINE)
    assert match is not None
    return int(match[1])


@pytest.mark.slow
def test_three_shards_at_the_same_time_are_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate(NAMES):
        write_image(tmp_path / "in" / name, street(seed=number))
    (tmp_path / "in" / "0" / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    alone = start(tmp_path, "single")
    codes = {Shard(k, 3).has("0/broken.jpg"): k for k in range(3)}
    broken = codes[True]
    processes = [start(tmp_path, "out", "--shard", f"{k}/3") for k in range(3)]
    printed = [ended(process, int(k == broken)) for k, process in enumerate(processes)]
    ended(alone, 1)
    assert [done(text) for text in printed] == [sum(Shard(k, 3).has(name) for name in NAMES) for k in range(3)]
    assert tree(tmp_path / "out") == tree(tmp_path / "single")
    assert tree(tmp_path / "out_raw") == tree(tmp_path / "single_raw")
    assert known(tmp_path / "out") == known(tmp_path / "single")
    assert len(known(tmp_path / "out")) == len(NAMES) + 1

    again = ended(start(tmp_path, "out", "--shard", "0/3"), int(broken == 0))
    assert done(again) == 0
    assert "All shards:          24 finished, 1 failed, 0 not finished; 3 of 3 shards have begun" in again
    folders = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-a", str(tmp_path / "out_raw")]
    assert check_folders([*folders, "-k", "lite_config.yml", "--csv"]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Failed,")]
    assert len(failed) == 1  # over all journals
    assert done(ended(start(tmp_path, "out"), 1)) == 0
    assert shards_of(tmp_path / "out") == ()
    assert has_journal(tmp_path / "out")
    assert len(known(tmp_path / "out")) == len(NAMES) + 1
