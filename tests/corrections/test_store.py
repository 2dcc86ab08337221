"""The store of corrections: nothing twice, nothing half, nothing unseen."""

import io
import json
import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from anonymise.core.detections import Size
from anonymise.core.errors import StorageError, UsageError
from anonymise.corrections.rowfiles import Row, rows_in
from anonymise.corrections.shapes import canonical
from anonymise.corrections.store import Correction, Store, new_id

BOX = json.dumps({"box": [5, 5, 50, 50]})
ROW = Correction(
    relative="a/1.jpg",
    width=160,
    height=120,
    kind="add",
    category="face",
    shape=BOX,
    source="external",
    batch="week-1",
    author="a team",
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store", create=True) as opened:
        yield opened


def file_of(tmp_path: Path) -> Path:
    return tmp_path / "store" / "corrections.sqlite"


def test_the_same_import_twice_adds_nothing(store: Store) -> None:
    """Acceptance 8."""
    rows = [ROW, replace(ROW, relative="a/2.jpg"), replace(ROW, category="plate"), replace(ROW, batch="week-2")]
    assert len(store.add(rows, "me")) == 4
    assert store.add([*rows, *rows], "me") == []
    assert store.counts()["accepted"] == 4
    assert store.counts("week-2")["accepted"] == 1


def test_ids_are_ulids_in_the_order_of_time() -> None:
    first = new_id()
    assert len(first) == 26
    assert first[:9] <= new_id()[:9]


def test_undo_supersedes_and_adding_again_works(store: Store) -> None:
    (first,) = store.add([ROW], "me")
    assert store.of_image("a/1.jpg").waiting == (first,)
    digest = store.of_image("a/1.jpg").digest
    assert digest
    store.set_status([first], "drawn", "run")
    assert store.waiting() == frozenset()
    assert store.undo("you", ids=[first]) == 1
    assert store.waiting() == {"a/1.jpg"}
    assert store.of_image("a/1.jpg").in_force == ()
    assert store.of_image("a/1.jpg").digest == ""
    assert store.counts()["undone"] == 1
    with pytest.raises(UsageError, match="undone before"):
        store.undo("you", ids=[first])
    assert len(store.add([ROW], "me")) == 1
    assert len(store.of_image("a/1.jpg").in_force) == 1


def test_undo_of_a_batch(store: Store) -> None:
    store.add([ROW, replace(ROW, relative="b.jpg"), replace(ROW, batch="week-2")], "me")
    assert store.undo("me", batch="week-1") == 2
    assert store.undo("me", batch="week-1") == 0
    assert [row.batch for row in store.of_image("a/1.jpg").in_force] == ["week-2"]


def test_a_proposal_waits_for_a_decision(store: Store) -> None:
    first, second = store.add([replace(ROW, category=name, status="proposed") for name in ("face", "plate")], "me")
    assert store.of_image("a/1.jpg").in_force == ()
    store.decide("you", [first], "accepted", "seen")
    store.decide("you", [second], "rejected")
    assert [row.id for row in store.of_image("a/1.jpg").in_force] == [first]
    assert [event[1:] for event in store.events(first)[1:]] == [("you", "status", "accepted seen")]
    with pytest.raises(UsageError, match="no such correction that is proposed"):
        store.decide("you", [second], "accepted")


def test_a_better_shape_supersedes_once_it_is_accepted(store: Store) -> None:
    (first,) = store.add([ROW], "me")
    better = replace(ROW, shape=json.dumps({"box": [1, 1, 60, 60]}), supersedes=first, status="proposed")
    (second,) = store.add([better], "you")
    assert [row.id for row in store.of_image("a/1.jpg").in_force] == [first]
    store.decide("me", [second], "accepted")
    assert [row.id for row in store.of_image("a/1.jpg").in_force] == [second]
    assert store.add([ROW], "me") == []  # an import of the first once more
    # Undoing the better one brings the first back: nothing is uncovered that somebody said must be hidden.
    store.undo("me", ids=[second])
    assert [row.id for row in store.of_image("a/1.jpg").in_force] == [first]
    assert store.of_image("a/1.jpg").digest == store.digests()["a/1.jpg"] != ""
    store.undo("me", ids=[first])
    assert store.of_image("a/1.jpg").in_force == ()


def test_undoing_what_was_never_in_force_concerns_no_image(store: Store) -> None:
    store.add([replace(ROW, status="proposed"), replace(ROW, status="unmatched", relative="pano 7")], "me")
    assert store.undo("me", batch="week-1") == 2
    assert store.waiting() == frozenset()
    assert store.counts()["undone"] == 2


def test_all_or_nothing(store: Store) -> None:
    with pytest.raises(ValueError, match="no known class"):
        store.add([ROW, replace(ROW, category="unicorn")], "me")
    with pytest.raises(RuntimeError, match="later"), store.changing():
        store.add([ROW], "me")
        raise RuntimeError("later")
    with pytest.raises(UsageError):
        store.decide("me", [*store.add([replace(ROW, status="proposed", batch="p")], "me"), "none"], "accepted")
    assert {status: n for status, n in store.counts().items() if n} == {"proposed": 1}
    assert store.fault() is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"relative": "../1.jpg"}, "no path below the input folder"),
        ({"relative": "/1.jpg"}, "no path below the input folder"),
        ({"relative": ""}, "are texts"),
        ({"source": "gossip"}, "is not one of"),
        ({"kind": "hide"}, "is not one of"),
        ({"status": "undone"}, "is not one of"),
        ({"width": 0}, "whole numbers above 0"),
        ({"shape": '{"box": [150, 5, 20, 130]}'}, "reaches beyond"),
        ({"shape": '{"box": [160, 5, 20, 10]}'}, "no area"),
        ({"shape": '{"box": [1, 5, 0, 10]}'}, "no area"),
        ({"shape": '{"box": [1, 5, NaN, 10]}'}, "no number"),
        ({"shape": '{"polygon": [[20, -1e9], [60, -1e9], [60, 1e9], [20, 1e9]]}'}, "no number of pixels"),
        ({"shape": '{"circle": [1, 5, 9]}'}, "one of box, polygon and rle"),
        ({"shape": '{"polygon": [[1, 5], [9, 9]]}'}, "at least 3 corners"),
        ({"shape": '{"polygon": [[1, 200], [9, 200], [9, 220]]}'}, "outside"),
        ({"kind": None, "shape": None}, "supersedes another"),
        ({"sha256": "abc"}, "64 hexadecimal digits"),
    ],
)
def test_what_makes_no_sense_is_not_taken(store: Store, change: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        store.add([replace(ROW, **change)], "me")  # type: ignore[arg-type]
    assert store.last_hash() == ""


def test_equal_shapes_have_equal_texts() -> None:
    size = Size(160, 120)
    assert canonical({"box": [5.0, 5, 50.0001, 50]}, size) == canonical({"box": [5, 5.0, 50, 50]}, size)
    assert canonical({"box": [150, 5, 20, 10]}, size) == '{"box": [150, 5, 20, 10]}'  # across the seam


def test_one_changed_byte_is_found(store: Store, tmp_path: Path) -> None:
    """Acceptance 6, and the same for the corrections themselves."""
    ids = store.add([replace(ROW, relative=f"{n}.jpg") for n in range(5)], "me")
    store.set_status(ids[:2], "drawn", "run")
    assert store.fault() is None
    changes = [
        ("UPDATE event SET detail = 'x' || substr(detail, 2) WHERE n = 3", "event 3"),
        ("UPDATE event SET at = at || ' ' WHERE n = 7", "event 7"),
        ("DELETE FROM event WHERE n = 2", "event 3"),
        (f"UPDATE correction SET category = 'plate' WHERE id = '{ids[3]}'", ids[3]),
        (f"UPDATE correction SET status = 'drawn' WHERE id = '{ids[4]}'", ids[4]),
        (f"DELETE FROM correction WHERE id = '{ids[1]}'", f"{ids[1]} is gone"),
    ]
    for change, named in changes:
        with store.changing() as connection:
            connection.execute("SAVEPOINT before")
            connection.execute(change)
            assert named in (store.fault() or ""), change
            connection.execute("ROLLBACK TO before")
    assert store.fault() is None
    # In the file itself, behind SQLite's back.
    data = file_of(tmp_path).read_bytes()
    place = data.rindex(b"accepted ")
    file_of(tmp_path).write_bytes(data[:place] + b"A" + data[place + 1 :])
    with Store(tmp_path / "store") as again:
        assert "event" in (again.fault() or "")


def test_export_and_import(store: Store, tmp_path: Path) -> None:
    names = ["a/1.jpg", "b/æøå.jpg", os.fsdecode(b"c/\xff.jpg") if sys.platform == "linux" else "c.jpg"]
    ids = store.add([replace(ROW, relative=name) for name in names], "me")
    store.set_status(ids[:1], "drawn", "run")
    store.undo("me", ids=ids[1:2])
    lines = list(store.exported())
    assert len(lines) == 4
    with Store(tmp_path / "other", create=True) as other:
        assert other.imported(rows(lines), "you") == 4
        assert other.imported(rows(lines), "you") == 0
        assert other.waiting() == set(names)  # nothing is drawn there yet
        assert other.counts() == {**store.counts(), "accepted": 2, "drawn": 0}
        assert other.fault() is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"surprise": 1}, "surprise"),
        ({"relative": 3}, "are texts"),
        ({"relative": "\ud800.jpg"}, "is not valid Unicode"),
        ({"author": "\udc80"}, "is not valid Unicode"),
        ({"relative": "a" * 5000}, "more than 4096"),
        ({"reason": {"a": 1}}, "no text"),
        ({"id": 7}, "no text"),
        ({"width": 10**30}, "whole numbers"),
        ({"shape": {"box": [1, 1, 1e400, 5]}}, "no number"),
        ({"shape": {"polygon": "abc"}}, "is no list of 2 numbers"),
        ({"shape": {"rle": {"size": 3, "counts": "x"}}}, "another size"),
        ({"shape": {"rle": {"size": [120, 160], "counts": 7}}}, "run lengths are a text"),
        ({"shape": {"rle": {"size": [120, 160], "counts": "x" * 99}}}, "run lengths have characters"),
        ({"shape": [1]}, "one of box, polygon and rle"),
    ],
)
def test_an_import_with_a_row_that_is_none_adds_nothing(store: Store, change: dict[str, object], problem: str) -> None:
    good = json.dumps(ROW.as_dict())
    for bad in (json.dumps({**ROW.as_dict(), **change}), good[:-9], "[1]"):
        with pytest.raises(UsageError, match="list, line 2: no correction: ") as raised:
            store.imported(rows([good, bad]), "you")
    assert store.select() == []
    with pytest.raises(UsageError, match=problem):
        store.imported(rows([good, json.dumps({**ROW.as_dict(), **change})]), "you")
    assert "no JSON" in str(raised.value)


def rows(lines: Iterable[str]) -> Iterator[tuple[str, Row]]:
    return rows_in(io.BufferedReader(io.BytesIO("\n".join(lines).encode())), "list")


def test_further_tables_share_a_transaction(store: Store, tmp_path: Path) -> None:
    tables = ["CREATE TABLE IF NOT EXISTS notes_text (id TEXT, text TEXT)"]
    store.tables(tables)
    with pytest.raises(RuntimeError), store.changing() as connection:
        store.add([ROW], "me")
        connection.execute("INSERT INTO notes_text VALUES ('1', 'a')")
        raise RuntimeError
    assert (store.read("SELECT * FROM notes_text"), store.select()) == ([], [])
    with Store(tmp_path / "store") as again, store.changing():
        again.tables(tables)  # reads only, so it waits for nobody
        assert again.read("SELECT * FROM notes_text") == []


def test_a_store_that_lost_its_content_is_no_new_one(tmp_path: Path) -> None:
    """A run would uncover everything; a command that makes a store may make it, as after a crash at that moment."""
    (tmp_path / "store").mkdir()
    file_of(tmp_path).touch()
    with pytest.raises(StorageError, match="is damaged: it is empty"):
        Store(tmp_path / "store")
    Store(tmp_path / "store", create=True).close()
    with Store(tmp_path / "store") as made:
        assert made.select() == []


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no store of corrections"):
        Store(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_store_of_a_newer_version(store: Store, tmp_path: Path) -> None:
    with store.changing() as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StorageError, match="newer version"):
        Store(tmp_path / "store")


@pytest.mark.parametrize("content", [b"no database, but long enough to have a header" * 9, b"SQLite format 3\0" * 99])
def test_a_damaged_store(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "store").mkdir()
    file_of(tmp_path).write_bytes(content)
    with pytest.raises(StorageError, match="is damaged"):
        Store(tmp_path / "store")
    assert file_of(tmp_path).read_bytes() == content


def test_another_database(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with closing(sqlite3.connect(file_of(tmp_path))) as other:
        other.execute("CREATE TABLE theirs (a)")
    with pytest.raises(StorageError, match="another program's database"):
        Store(tmp_path / "store")


def test_a_locked_store(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anonymise.corrections.file.BUSY_SECONDS", 0.05)
    store.add([ROW], "me")
    with Store(tmp_path / "store") as second, store.changing():
        assert len(second.select()) == 1  # readers see what was there before
        with pytest.raises(StorageError, match="another process"):
            second.add([replace(ROW, relative="2.jpg")], "you")


@pytest.mark.skipif(sys.platform == "win32", reason="no permission bits")
def test_only_its_owner_may_read_it(store: Store, tmp_path: Path) -> None:
    store.add([ROW], "me")
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700
    assert file_of(tmp_path).stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="permission bits do not count")
def test_a_store_that_is_read_only_can_be_read_and_no_run_begins(store: Store, tmp_path: Path) -> None:
    store.add([ROW], "me")
    file_of(tmp_path).chmod(0o400)
    with Store(tmp_path / "store") as again:
        assert (len(again.select()), again.fault(), again.counts()["accepted"]) == (1, None, 1)
        with pytest.raises(StorageError, match="readonly"):
            again.check()
        with pytest.raises(StorageError, match="readonly"):
            again.undo("me", batch="week-1")
