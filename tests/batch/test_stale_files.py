"""A finished image's files are exactly those that the configuration asks for, whatever earlier runs wrote."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from anonymise import config
from anonymise.batch import runs as pipeline
from anonymise.batch import storage
from anonymise.batch.audit import Audit, audit
from anonymise.batch.journal import Journal, JournalReader, journal_file
from anonymise.batch.paths import Places
from anonymise.batch.walker import TreeWalker
from anonymise.batch.workers import SerialWorkers
from anonymise.config import Config
from tests.fakes import Ran, RedMasker, street, write_image

DIM = "preview_dim=[40, 30]"


def settings(*overrides: str) -> Config:
    few = ["mask_dilation_pixels=0", "enable_async=False", "file_access_timeout_seconds=0"]
    return config.load(overrides=[*few, *overrides], has_archive=True)


class Folders:
    """A folder with two images, and the runs over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for n in range(2):
            write_image(folder / "in" / "a" / f"{n}.jpg", street(seed=n))

    def places(self, loaded: Config, *, archive: bool) -> Places:
        places = Places.of(
            self.folder / "in", self.folder / "out", self.folder / "arc" if archive else None, loaded.files
        )
        for root in (places.input, *places.results):
            storage.prepare_root(root)
        return places

    def run(self, *overrides: str, archive: bool = True, masker: RedMasker | None = None) -> Ran:
        loaded = settings(DIM, *overrides)
        ran = Ran()
        places = self.places(loaded, archive=archive)
        ran.report = pipeline.anonymise(loaded, places, masker or RedMasker(), SerialWorkers(), ran)
        return ran

    def files(self) -> set[str]:
        """All files but the inputs and what this program keeps for itself."""
        found = (p for p in self.folder.rglob("*") if p.is_file() and ".anonymise" not in p.parts)
        return {p.relative_to(self.folder).as_posix() for p in found} - {"in/a/0.jpg", "in/a/1.jpg"}

    def check(self, *overrides: str, archive: bool = True) -> Audit:
        loaded = settings(DIM, *overrides)
        return audit(
            TreeWalker(self.places(loaded, archive=archive), loaded.files),
            loaded.files,
            self.folder / "out",
            digest=loaded.settings_fingerprint(None),
            source=loaded.model_fingerprint("red"),
        )

    def strays(self, *overrides: str, archive: bool = True) -> set[str]:
        found = self.check(*overrides, archive=archive).strays
        return {doubt.path.relative_to(self.folder).as_posix() for doubt in found}


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Folders]:
    yield Folders(tmp_path)


BASE = {f"{root}/a/{n}.jpg" for root in ("out", "arc") for n in range(2)} | {f"out/a/{n}.json" for n in range(2)}

KINDS = {
    "preview": "_preview.jpg",
    "mask": "_mask.png",
    "instances": "_instances.json",
    "json": ".json",
}
CASES = [
    *((f"{place}_{kind}=True", f"remote_{kind}=True", root, ending)
      for kind, ending in KINDS.items() for place, root in (("remote", "out"), ("local", "in"), ("archive", "arc"))
      if (place, kind) != ("remote", "json")),
]  # fmt: skip


@pytest.mark.parametrize("again", [[], ["blur=40"], ["force_remask=True"]], ids=["finished", "redone", "forced"])
@pytest.mark.parametrize(("key", "needed", "root", "ending"), CASES, ids=[case[0].partition("=")[0] for case in CASES])
def test_every_kind_of_file_goes_from_every_place_when_it_is_no_longer_wanted(
    folders: Folders, key: str, needed: str, root: str, ending: str, again: list[str]
) -> None:
    assert folders.run(needed, key).failed == []
    there = {f"{root}/a/{n}{ending}" for n in range(2)}
    assert there <= folders.files()
    assert there <= folders.strays(*again)
    assert folders.run(*again).failed == []
    assert folders.files() == BASE
    assert folders.strays(*again) == set()
    assert len(folders.run(*again[:1] if again == ["blur=40"] else []).skipped) == 2


@pytest.mark.parametrize("key", ["separate_preview_directory", "colmap_mask_directory"])
@pytest.mark.parametrize("then", ["none", "another", "another and other settings"])
def test_separate_folders_of_an_earlier_configuration_are_cleared(folders: Folders, key: str, then: str) -> None:
    first, second = (folders.folder / name for name in ("first", "second"))
    folders.run(f"{key}={first.as_posix()}")
    before = folders.files()
    again = [] if then == "none" else [f"{key}={second.as_posix()}"]
    again += ["blur=40"] if "settings" in then else []
    assert {name.partition("/")[0] for name in folders.strays(*again)} == {"first"}
    folders.run(*again)
    expected = BASE if then == "none" else {name.replace("first/", "second/") for name in before}
    assert folders.files() == expected
    assert folders.strays(*again) == set()


def test_a_separate_folder_that_is_away_is_cleared_when_it_is_back(folders: Folders) -> None:
    previews = folders.folder / "previews"
    folders.run(f"separate_preview_directory={previews.as_posix()}")
    previews.rename(folders.folder / "away")
    folders.run()
    (folders.folder / "away").rename(previews)
    assert len(folders.strays()) == 2
    folders.run()
    assert folders.files() == BASE


def test_a_file_that_is_still_wanted_under_another_key_stays(folders: Folders) -> None:
    folders.run(f"separate_preview_directory={(folders.folder / 'out').as_posix()}")
    (folders.folder / "link").symlink_to(folders.folder / "out", target_is_directory=True)
    folders.run("remote_preview=True", f"separate_preview_directory={(folders.folder / 'link').as_posix()}")
    folders.run("remote_preview=True")
    assert folders.files() >= {"out/a/0_preview.jpg", "out/a/1_preview.jpg"}


def test_what_create_preview_and_create_json_wrote_goes_as_well(folders: Folders) -> None:
    folders.run("remote_json=False")
    loaded = settings(DIM, "remote_preview=True", "local_json=True")
    places = folders.places(loaded, archive=False)
    assert pipeline.make_previews(loaded, places, SerialWorkers()).failed == ()
    assert pipeline.make_records(loaded, places, SerialWorkers()).failed == ()
    assert {"out/a/0_preview.jpg", "in/a/0.json", "out/a/0.json"} <= folders.files()
    folders.run("remote_json=False")
    assert folders.files() == {name for name in BASE if not name.endswith(".json")}


def test_what_no_run_wrote_is_never_removed(folders: Folders) -> None:
    """The operator's own files next to the images, whatever they are called, and originals."""
    own = {name: folders.folder / name for name in ("in/a/0.json", "in/a/0_preview.jpg", "out/a/notes.txt")}
    for path in own.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
    folders.run()
    folders.run("remote_mask=True", archive=False)
    folders.run("blur=40", archive=False)
    folders.run("blur=40")
    assert folders.files() == BASE | own.keys()
    assert all(path.read_bytes() == b"mine" for path in own.values())
    assert folders.strays("blur=40") == set()


def test_instances_that_somebody_edited_are_not_removed(folders: Folders) -> None:
    folders.run("archive_instances=True")
    edited = folders.folder / "arc" / "a" / "0_instances.json"
    edited.write_text(json.dumps({**json.loads(edited.read_text("utf-8")), "instances": []}), "utf-8")
    folders.run()
    assert folders.files() == BASE | {"arc/a/0_instances.json"}


def test_files_stay_known_when_the_next_run_is_killed(folders: Folders) -> None:
    folders.run("remote_preview=True")
    loaded = settings("blur=40")
    with Journal(folders.folder / "out", loaded.settings_fingerprint(None)) as journal:  # and nothing comes after that
        for n in range(2):
            journal.started(f"a/{n}.jpg", None)
    folders.run("blur=40")
    assert folders.files() == BASE


def test_a_redraw_and_runs_without_the_archive_leave_the_archive_alone(folders: Folders) -> None:
    folders.run("archive_instances=True", "archive_json=True")
    before = folders.files()
    loaded = settings("blur=40")
    places = Places(folders.folder / "arc", folders.folder / "out")
    assert pipeline.redraw(loaded, places, SerialWorkers()).n_done == 2
    folders.run("blur=30", archive=False)
    assert folders.files() == before
    folders.run("blur=30")  # with the archive, and no longer asked for
    assert folders.files() == BASE


def test_an_empty_output_file_is_not_finished(folders: Folders) -> None:
    folders.run()
    (folders.folder / "out" / "a" / "0.jpg").write_bytes(b"")
    assert [outcome.source.name for outcome in folders.run().done] == ["0.jpg"]
    assert (folders.folder / "out" / "a" / "0.jpg").stat().st_size > 0


def test_journals_of_earlier_versions_open_and_their_files_are_known(folders: Folders) -> None:
    folders.run("remote_preview=True", "archive_instances=True")
    file = journal_file(folders.folder / "out")
    with sqlite3.connect(file) as connection:
        for column in ("source", "content", "instances"):
            connection.execute(f"ALTER TABLE image DROP COLUMN {column}")
        for (relative,) in connection.execute("SELECT relative FROM image").fetchall():
            stem = relative.removesuffix(".jpg")
            files = [["remote", relative], ["remote", f"{stem}_preview.jpg"], ["archive", relative],
                     ["remote", f"{stem}.json"], ["archive", f"{stem}_instances.json"]]  # fmt: skip
            connection.execute("UPDATE image SET written = ? WHERE relative = ?", (json.dumps(files), relative))
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with Journal(folders.folder / "out", "digest"), JournalReader(folders.folder / "out") as reader:
        assert {(w.place, w.kind) for w in next(reader.entries()).written} == {
            ("remote", "image"), ("remote", "preview"), ("archive", "image"), ("remote", "json"),
            ("archive", "instances"),
        }  # fmt: skip
    ran = folders.run()
    assert (len(ran.done), ran.failed) == (2, [])
    assert folders.files() == BASE
