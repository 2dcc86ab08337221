"""Corrections from the command line, with the real model, and what is said where something is wrong."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import anonymise
from anonymise.batch import preflight
from anonymise.batch.audit import audit
from anonymise.batch.chosen import corrected_images, names_in
from anonymise.batch.walker import TreeWalker
from anonymise.commands import corrections
from anonymise.core.detections import Box
from anonymise.core.errors import UsageError
from tests.corrections.runs import SPOT, Folders, noise
from tests.fakes import RedMasker, read_image, street, write_image

ROOT = Path(__file__).parents[2]


def command(*arguments: object, given: str | None = None) -> "subprocess.CompletedProcess[str]":
    call = [sys.executable, "-m", "anonymise", *map(str, arguments)]
    return subprocess.run(call, cwd=ROOT, capture_output=True, encoding="utf-8", check=False, timeout=300, input=given)


def is_hidden(before: Path, after: Path, box: Box = SPOT) -> bool:
    inner = slice(box.top + 8, box.bottom - 8), slice(box.left + 8, box.right - 8)
    return bool(np.abs(read_image(before)[inner].astype(int) - read_image(after)[inner]).mean() > 5)


@pytest.mark.slow
def test_from_report_to_published_picture(tmp_path: Path) -> None:
    """Acceptance 1, with the model, by commands only; and acceptance 9 for previews."""
    for n in range(2):
        write_image(tmp_path / "in" / "a" / f"{n}.jpg", noise(seed=n))
    settings = tmp_path / "my.yml"
    settings.write_text("remote_preview: True\npreview_dim: [60, 60]\ncorrections: store\n")
    keys = ["-k", ROOT / "config" / "lite_config.yml", "-k", settings]
    keys += ["--set", "preview_center=[0.25, 0.1875]"]
    run = [
        "-i",
        tmp_path / "in",
        "-o",
        tmp_path / "out",
        "-a",
        tmp_path / "arc",
        "--create-archive",
        *keys,
        "--set",
        "archive_instances=True",
    ]
    redraw = ["redraw", "-i", tmp_path / "arc", "-o", tmp_path / "out", *keys]

    missing = command(*run)
    assert missing.returncode == 2
    assert "there is no store of corrections" in missing.stderr
    assert not (tmp_path / "out").exists()

    original = tmp_path / "in" / "a" / "0.jpg"
    add = ["corrections", "add", "-k", settings, "--image", "a/0.jpg", "--original", original, "--box", 5, 5, 50, 50]
    wrong = command(*add, "--category", "faces")
    assert wrong.returncode == 2
    assert "did you mean face" in wrong.stderr
    added = command(*add, "--category", "face", "--proposed", "--by", "ann")
    assert added.returncode == 0, added.stderr

    def hidden() -> list[bool]:
        return [is_hidden(tmp_path / "in" / "a" / f"{n}.jpg", tmp_path / "out" / "a" / f"{n}.jpg") for n in range(2)]

    first = command(*run)
    assert first.returncode == 0, first.stdout + first.stderr
    assert hidden() == [False, False]
    accepted = command("corrections", "accept", "-k", settings, "--id", added.stdout.strip(), "--by", "eve")
    assert accepted.stdout == "accepted: 1 correction\n"
    drawn = command(*redraw, "--only", "-", given="a/0.jpg\n")
    assert "Done:                1" in drawn.stdout, drawn.stdout + drawn.stderr
    assert "Skipped (finished):  0" in drawn.stdout
    assert hidden() == [True, False]
    again = command(*run)
    assert "Skipped (finished):  2" in again.stdout, again.stdout
    assert hidden() == [True, False]
    state = command("corrections", "status", "-k", settings)
    assert state.stdout.startswith("1 drawn\nimages to be done again: 0; last event: ")
    previews = command(*run, "-p")
    assert previews.returncode == 0, previews.stderr
    picture = read_image(tmp_path / "in" / "a" / "0.jpg")[13:47, 13:47].astype(int)
    assert np.abs(picture - read_image(tmp_path / "out" / "a" / "0_preview.jpg")[13:47, 13:47]).mean() > 5

    listed = command("corrections", "list", "-k", settings, "--id", added.stdout.strip())
    assert [event[1] for event in json.loads(listed.stdout)["events"]] == ["ann", "eve", "run"]
    undone = command("corrections", "undo", "-k", settings, "--batch", "by-hand")
    assert undone.stdout == "undone: 1 correction\n"
    restored = command(*run, "--corrected")
    assert "Identified images:   1\n" in restored.stdout, restored.stdout
    assert hidden() == [False, False]
    nothing = command(*run, "--corrected")
    assert (nothing.returncode, "Identified images:   0\n" in nothing.stdout) == (0, True), nothing.stdout

    assert command("corrections", "verify", "-k", settings).returncode == 0
    exported = command("corrections", "export", "-k", settings)
    assert len(exported.stdout.splitlines()) == 2
    elsewhere = ["--set", f"corrections={json.dumps(str(tmp_path / 'other'))}"]
    taken = command("corrections", "import", *elsewhere, "-", given=exported.stdout)
    assert taken.stdout == "new: 2 corrections\n"
    with closing(sqlite3.connect(tmp_path / "store" / "corrections.sqlite")) as store, store:
        store.execute("UPDATE event SET who = 'nobody' WHERE n = 2")
    tampered = command("corrections", "verify", "-k", settings)
    assert (tampered.returncode, "event 2" in tampered.stdout) == (1, True)


def test_a_picture_of_another_size_makes_the_run_exit_with_1(tmp_path: Path) -> None:
    """Acceptance 7, the exit code."""
    folders = Folders(tmp_path)
    folders.write("1.png", noise())
    folders.put("1.png", size=(320, 240))
    keys = ["-k", ROOT / "config" / "lite_config.yml", "--set", f"corrections={json.dumps(str(folders.store_folder))}"]
    result = command("-i", folders.input, "-o", folders.output, *keys)
    assert result.returncode == 1
    assert "1.png is not the picture that corrections were made for" in result.stderr
    assert "Corrections made for another picture of the same name, to be looked at: 1 image" in result.stdout


@pytest.mark.parametrize("fault", ["missing", "newer", "damaged", "locked"])
def test_a_store_that_cannot_be_used_is_named_before_the_run(
    tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anonymise.corrections.file.BUSY_SECONDS", 0.05)
    folders = Folders(tmp_path)
    folders.write("1.png", noise())
    folders.put("1.png")
    file = folders.store_folder / "corrections.sqlite"
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        if fault == "missing":
            other.close()
            file.unlink()
        elif fault == "newer":
            other.execute("PRAGMA user_version = 99")
        elif fault == "damaged":
            other.close()
            data = bytearray(file.read_bytes())
            data[4096:8192] = b"x" * 4096
            file.write_bytes(data)
        else:
            other.execute("BEGIN EXCLUSIVE")
        (problem,) = preflight.problems(folders.settings(), folders.places(), "anonymise", create_archive=True)
    said = {
        "missing": "there is no store of corrections",
        "newer": "was written by a newer version of this program",
        "damaged": "is damaged",
        "locked": "is being written by another process",
    }
    assert said[fault] in problem
    assert str(file) in problem
    assert "\n" not in problem


def test_undoing_twice_and_what_happened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = Folders(tmp_path)
    ids = [folders.put(name, batch=name) for name in ("a", "b")]
    named = ["--set", f"corrections={json.dumps(str(folders.store_folder))}"]
    for which in (["--batch", "a"], ["--id", ids[1]]):
        assert corrections.main(["undo", *which, *named]) == 0
        assert corrections.main(["undo", *which, *named]) == 2
    told = capsys.readouterr()
    assert told.out == "undone: 1 correction\n" * 2
    assert "nothing in this group is in force" in told.err
    assert "it was undone before" in told.err
    assert corrections.main(["undo", "--batch", "typo", *named]) == 2
    capsys.readouterr()
    assert corrections.main(["list", "--id", ids[0], *named]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["kind"], row["events"][0][2]) for row in rows] == [("add", "put"), (None, "put")]


def test_what_is_wrong_with_the_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "hello").write_text("hello\n")
    named = ["--set", f"corrections={json.dumps(str(tmp_path / 'store'))}"]
    assert corrections.main(["import", str(tmp_path / "hello"), *named]) == 2
    assert "hello, line 1: no corrections, as export prints them" in capsys.readouterr().err
    add = ["add", *named, "--image", "1.png", "--category", "face", "--box", "1", "1", "5", "5", "--size"]
    for size in ("160", "0x5", "1e2x5", "160x120x3"):
        with pytest.raises(SystemExit, match="2"):
            corrections.main([*add, size])
        assert f"{size} is not like 8192x4096" in capsys.readouterr().err
    assert corrections.main([*add, "160x120"]) == 0
    assert corrections.main(["accept", "--batch", "by-hand", *named]) == 2
    assert "nothing in this group is proposed" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["../1.jpg", "/1.jpg", "a/../../1.jpg"])
def test_lines_that_are_no_paths_below_the_input(line: str) -> None:
    assert names_in("a/1.jpg\n\n a\\2.jpg \n", "--only x") == {"a/1.jpg", "a/2.jpg"}
    with pytest.raises(UsageError, match="--only x, line 3: "):
        names_in(f"a/1.jpg\n\n{line}\n", "--only x")


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr("getpass.getuser", nobody)
    with pytest.raises(SystemExit, match="0"):
        corrections.main(["undo", "--help"])
    assert "(unknown)" in capsys.readouterr().out


def test_a_run_of_some_images_takes_originals_from_the_archive(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    for name in ("a/1.png", "a/2.png", "b/3.png"):
        folders.write(name, noise())
    folders.run("delete_input=True")
    assert not list(folders.input.rglob("*.png"))
    archived = {path: path.read_bytes() for path in folders.archive.rglob("*.png")}
    published = folders.published()
    ids = [folders.put(name) for name in ("a/1.png", "b/3.png", "b/4.png")]
    ran = folders.run("delete_input=True", only=frozenset({"a/1.png", "b/3.png", "b/4.png"}))
    assert [path.source.relative_to(folders.archive).as_posix() for path in ran.done] == ["a/1.png", "b/3.png"]
    (failed,) = ran.failed
    assert failed.reason.startswith("no original")
    assert [folders.status(id_) for id_ in ids] == ["drawn", "drawn", "failed"]
    for name in ("a/1.png", "b/3.png"):
        shown = read_image(folders.output / name)[SPOT.slices] == read_image(folders.archive / name)[SPOT.slices]
        assert not shown.all(axis=2).any()
    assert folders.published()["a/2.png"] == published["a/2.png"]
    assert {path: path.read_bytes() for path in folders.archive.rglob("*.png")} == archived


def test_an_image_whose_original_is_gone_stays_published(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    folders.write("1.png", noise())
    folders.run()
    (folders.input / "1.png").unlink()
    (folders.archive / "1.png").unlink()
    published = folders.published()
    lost = folders.put("1.png")
    (failed,) = folders.run(only=frozenset({"1.png"})).failed
    assert "no original" in failed.reason
    assert folders.status(lost) == "failed"
    assert folders.published() == published


def test_only_from_python(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    for n in range(3):
        folders.write(f"{n}.jpg", street(seed=n))
    report = anonymise.run_folder(
        folders.settings("archive_instances=False"),
        folders.input,
        folders.output,
        model=RedMasker(),
        only=["1.jpg", "2.jpg"],
    )
    assert (report.n_done, report.failed) == (2, ())
    assert set(folders.published()) == {"1.jpg", "2.jpg"}


def test_corrected_images_are_those_of_this_output(tmp_path: Path) -> None:
    """A row that was drawn elsewhere is not drawn here."""
    folders = Folders(tmp_path)
    for name in ("1.png", "2.png", "3.png"):
        folders.write(name, noise())
    folders.run()
    ids = [folders.put("1.png"), folders.put("2.png"), folders.put("other/9.png")]
    folders.redraw(output="out2")
    assert [folders.status(id_) for id_ in ids] == ["drawn", "drawn", "accepted"]
    store = str(folders.store_folder)
    assert corrected_images(folders.output, store) == {"1.png", "2.png"}
    assert corrected_images(folders.folder / "out2", store) == frozenset()
    assert corrected_images(folders.folder / "new", store) == frozenset()
    walker = TreeWalker(folders.places(), folders.settings().files)
    found = audit(
        walker, folders.settings().files, folders.output, digest="", source=None,
        corrected=corrected_images(folders.output, store),
    )  # fmt: skip
    doubts = [doubt.path.name for doubt in found.stale if "corrections" in doubt.reason]
    assert doubts == ["1.png", "2.png"]
    folders.run(only=frozenset({"1.png", "2.png"}))
    assert [folders.n_original(name) for name in ("1.png", "2.png", "3.png")] == [0, 0, 2500]
    folders.undo(ids[0])
    assert corrected_images(folders.output, store) == {"1.png"}
