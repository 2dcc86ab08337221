import errno
import os
import sys
from pathlib import Path

import pytest

from anonymise.batch import originals, storage
from anonymise.config import StorageOptions
from anonymise.core.errors import WriteError

OPTIONS = StorageOptions(
    delete_input=False, max_file_megabytes=1, file_access_retry_seconds=0.05, file_access_timeout_seconds=0.3
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    storage.prepare_root(folder)
    return folder


def test_the_archive_copy_is_the_original(root: Path) -> None:
    copy(root / "a.jpg", b"original", root)
    assert (root / "a.jpg").read_bytes() == b"original"
    copy(root / "a.jpg", b"original", root)  # the same picture once more


def copy(path: Path, data: bytes, root: Path) -> None:
    originals.write_verified_copy(path, data, root, OPTIONS, source=Path("photos", path.name))


@pytest.mark.parametrize("links", [True, False])
def test_the_archive_never_loses_an_original_to_another(
    root: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:

        def refuse(path: Path, target: Path) -> None:
            raise OSError(errno.ENOTSUP, "no links here")

        monkeypatch.setattr(Path, "hardlink_to", refuse)
    (root / "a.jpg").touch()  # what is empty is no original
    copy(root / "a.jpg", b"first", root)
    with pytest.raises(WriteError, match=r"another original") as caught:
        copy(root / "a.jpg", b"other", root)
    assert all(str(path) in str(caught.value) for path in (root / "a.jpg", Path("photos", "a.jpg")))
    # Two runs at the same time: neither sees the other's before it writes its own.
    monkeypatch.setattr(originals, "keep_other_original", lambda *_: None)
    monkeypatch.setattr(originals, "is_written", lambda _: False)
    with pytest.raises(WriteError):
        copy(root / "a.jpg", b"other", root)
    assert (root / "a.jpg").read_bytes() == b"first"
    assert sorted(p.name for p in root.iterdir()) == [".anonymise", "a.jpg"]


def test_a_copy_that_reads_back_differently_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad_disk = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: bad_disk(path)[:-1] + b"?")
    with pytest.raises(WriteError, match="reads back differently"):
        copy(root / "a.jpg", b"original", root)


@pytest.fixture
def finished(tmp_path: Path) -> dict[str, Path]:
    files = {name: tmp_path / name / "a" / "b" / "1.jpg" for name in ("in", "out", "archive")}
    for path in files.values():
        path.parent.mkdir(parents=True)
        path.write_bytes(b"original")
    return files


def delete(files: dict[str, Path], root: Path) -> None:
    originals.delete_verified_input(
        files["in"], root / "in", archived=files["archive"], expected=[files["out"], files["archive"]]
    )


def test_deleting_takes_the_empty_folders_along_but_not_the_root(finished: dict[str, Path], tmp_path: Path) -> None:
    delete(finished, tmp_path)
    assert list((tmp_path / "in").iterdir()) == []


def test_deleting_leaves_folders_that_hold_something_else(finished: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "in" / "a" / "notes.txt").write_text("mine")
    delete(finished, tmp_path)
    assert [p.name for p in (tmp_path / "in" / "a").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("harm", ["output missing", "output empty", "archive differs", "input changed", "archive gone"])
def test_the_input_stays_unless_everything_is_in_its_place(
    finished: dict[str, Path], tmp_path: Path, harm: str
) -> None:
    match harm:
        case "output missing":
            finished["out"].unlink()
        case "output empty":
            finished["out"].write_bytes(b"")
        case "archive differs":
            finished["archive"].write_bytes(b"0riginal")
        case "input changed":
            finished["in"].write_bytes(b"another")
        case "archive gone":
            finished["archive"].unlink()
    with pytest.raises(WriteError, match="the input stays"):
        delete(finished, tmp_path)
    assert finished["in"].exists()


def test_names_of_new_files_are_on_the_disk_before_an_input_is_deleted(
    finished: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sys.platform == "win32":
        pytest.skip("there is no such call")
    done: list[str] = []
    sync, unlink = os.fsync, Path.unlink

    def noted_sync(descriptor: int) -> None:
        done.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()) if sys.platform == "linux" else "folder")
        sync(descriptor)

    def noted_unlink(path: Path, missing_ok: bool = False) -> None:
        done.append("deleted")
        unlink(path, missing_ok)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "unlink", noted_unlink)
    storage.prepare_root(tmp_path / "archive")
    done.clear()
    delete(finished, tmp_path)
    assert done.pop() == "deleted"
    if sys.platform == "linux":
        assert {str(tmp_path / "archive"), str(finished["archive"].parent), str(finished["out"].parent)} <= set(done)
