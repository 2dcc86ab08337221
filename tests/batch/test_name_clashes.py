"""Names that meet: each image has files of its own, or is named as not done; nothing is overwritten."""

import json
import os
import sys
from pathlib import Path

import pytest

from anonymise import config
from anonymise.batch import runs as pipeline
from anonymise.batch import storage
from anonymise.batch.audit import audit
from anonymise.batch.paths import Places
from anonymise.batch.walker import TreeWalker
from anonymise.batch.workers import SerialWorkers
from tests.fakes import Ran, RedMasker, street, write_image


def run(folder: Path, *overrides: str) -> Ran:
    few = ["mask_dilation_pixels=0", "enable_async=False", "file_access_timeout_seconds=0"]
    loaded = config.load(overrides=[*few, *overrides])
    places = Places.of(folder / "in", folder / "out", None, loaded.files)
    for root in places.results:
        storage.prepare_root(root)
    ran = Ran()
    ran.report = pipeline.anonymise(loaded, places, RedMasker(), SerialWorkers(), ran)
    return ran


@pytest.mark.parametrize(
    ("names", "key"),
    [
        (["a.jpg", "a.png"], "remote_json=False"),
        (["A.JPG", "a.jpg"], "remote_json=False"),
        (["Bod\u00f8 \u00e5.jpg", "Bod\u00f8 a\u030a.jpg"], "remote_json=False"),
        (["a.jpg", "a_instances.jpg"], "remote_instances=True"),
    ],
)
def test_images_whose_files_would_meet_are_named_before_anything_is_written(
    tmp_path: Path, names: list[str], key: str
) -> None:
    for n, name in enumerate(names):
        write_image(tmp_path / "in" / name, street(seed=n))
    if len(list((tmp_path / "in").iterdir())) < len(names):
        pytest.skip("this file system takes the names for one")
    ran = run(tmp_path, key)
    (done,), (failed,) = ran.done, ran.failed
    assert done.source.name in failed.reason
    assert not (tmp_path / "out" / failed.source.name).exists()
    (note,) = (p for p in (tmp_path / "out_error").rglob("*") if p.is_file() and ".anonymise" not in p.parts)
    assert note.name == f"{failed.source.name}_error.txt"
    # It stays while the other one succeeds once more, and goes with its own success.
    run(tmp_path, key, "force_remask=True")
    assert note.exists()
    done.source.unlink()
    assert len(run(tmp_path, key).done) == 1
    assert not note.exists()


def test_names_meet_only_where_files_are_written(tmp_path: Path) -> None:
    for n, name in enumerate(["a.jpg", "a_instances.jpg", "a_error.jpg"]):
        write_image(tmp_path / "in" / name, street(seed=n))
    assert len(run(tmp_path).done) == 3


@pytest.mark.parametrize("is_folded", [True, False])
def test_folders_that_differ_in_case_meet_where_the_file_system_does_not_know_case(
    tmp_path: Path, is_folded: bool
) -> None:
    for n, name in enumerate(["A/s/1.jpg", "a/s/1.jpg", "a/s/2.jpg"]):
        write_image(tmp_path / "in" / name, street(seed=n))
    if len(list((tmp_path / "in").iterdir())) == 1:
        pytest.skip("this file system does not know case")
    if is_folded:  # so it looks on such a system
        (tmp_path / "out" / ".ANONYMISE").mkdir(parents=True)
    ran = run(tmp_path)
    assert len(ran.done) == (2 if is_folded else 3)
    assert [f.source.parts[-3] for f in ran.failed] == (["a"] if is_folded else [])


def test_names_of_255_bytes_are_looked_for(tmp_path: Path) -> None:
    name = "x" * (os.pathconf(tmp_path, "PC_NAME_MAX") - 4 if sys.platform != "win32" else 200) + ".jpg"
    write_image(tmp_path / "in" / name, street())
    loaded = config.load()
    places = Places.of(tmp_path / "in", tmp_path / "out", None, loaded.files)
    found = audit(TreeWalker(places, loaded.files), loaded.files, tmp_path / "out", digest="", source=None)
    assert len(found.missing) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
def test_a_name_that_is_no_text_has_instances(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    name = os.fsdecode(b"latin\xe5.jpg")
    (tmp_path / "in" / name).write_bytes(write_image(tmp_path / "1.jpg", street()).read_bytes())
    assert run(tmp_path, "remote_instances=True").failed == []
    (saved,) = (tmp_path / "out").glob("*_instances.json")
    assert json.loads(saved.read_text("utf-8"))["image"]["file_name"] == name
