import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anonymise.batch import storage
from anonymise.config import StorageOptions
from anonymise.core.errors import StorageError, UnreadableImage, WriteError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    storage.prepare_root(folder)
    return folder


OPTIONS = StorageOptions(
    delete_input=False, max_file_megabytes=1, file_access_retry_seconds=0.05, file_access_timeout_seconds=0.3
)


def test_a_file_is_written_with_its_folders_and_nothing_else_is_left(root: Path) -> None:
    target = root / "a" / "b" / ("å" * 100 + ".jpg")
    storage.write_atomically(target, b"new", root, OPTIONS)
    assert target.read_bytes() == b"new"
    assert [p.name for p in target.parent.iterdir()] == [target.name]


def test_readers_see_the_old_file_or_the_new_one_but_never_a_part(root: Path) -> None:
    target = root / "image.jpg"
    versions = [bytes([n]) * 3_000_000 for n in range(2)]
    target.write_bytes(versions[0])
    seen: set[bytes] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.add(target.read_bytes())

    reader = threading.Thread(target=look)
    reader.start()
    for n in range(20):
        storage.write_atomically(target, versions[n % 2], root, OPTIONS)
    stop.set()
    reader.join()
    assert seen <= set(versions)


def test_a_failed_write_leaves_the_old_file_and_no_temporary_one(root: Path) -> None:
    (root / "image.jpg").mkdir()  # a folder cannot be replaced by a file
    with pytest.raises(WriteError, match=r"image\.jpg cannot be written"):
        storage.write_atomically(root / "image.jpg", b"new", root, OPTIONS)
    assert sorted(p.name for p in root.iterdir()) == [".anonymise", "image.jpg"]


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_a_name_that_is_too_long_is_this_files_error(root: Path) -> None:
    with pytest.raises(WriteError, match="too long"):
        storage.write_atomically(root / ("x" * 300), b"", root, OPTIONS)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    ) if sys.platform == "linux" and os.geteuid() == 0 else None  # fmt: skip
    if mounted is None or mounted.returncode != 0:
        pytest.skip("a small disk can only be mounted on Linux by the superuser")
    storage.prepare_root(folder)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_full_disk_stops_the_run_and_leaves_nothing_partial(small_disk: Path) -> None:
    storage.write_atomically(small_disk / "fits.jpg", bytes(500_000), small_disk, OPTIONS)
    with pytest.raises(StorageError, match="the disk is full"):
        storage.write_atomically(small_disk / "too_large.jpg", bytes(2_000_000), small_disk, OPTIONS)
    assert sorted(p.name for p in small_disk.iterdir()) == [".anonymise", "fits.jpg"]


def test_a_read_only_disk_stops_the_run(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageError, match="read-only"):
        storage.write_atomically(small_disk / "a.jpg", b"x", small_disk, OPTIONS)
    with pytest.raises(StorageError, match="cannot be written to"):
        storage.prepare_root(small_disk)


def test_a_root_that_comes_back_is_waited_for(tmp_path: Path) -> None:
    root = tmp_path / "share"
    options = StorageOptions(
        delete_input=False, max_file_megabytes=1, file_access_retry_seconds=0.05, file_access_timeout_seconds=30
    )
    threading.Timer(0.3, storage.prepare_root, [root]).start()
    storage.write_atomically(root / "a.jpg", b"x", root, options)
    assert (root / "a.jpg").read_bytes() == b"x"


def test_a_root_that_stays_away_stops_the_run_and_is_not_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "share"
    with pytest.raises(StorageError, match=r"out of reach since 0\.3 s"):
        storage.write_atomically(root / "a.jpg", b"x", root, OPTIONS)
    assert not root.exists()
    assert [r.message for r in caplog.records if "waiting" in r.message] == [
        f"{root} is out of reach (No such file or directory); waiting for it"
    ]


def test_a_file_that_is_gone_from_a_root_that_is_there_is_not_waited_for(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = StorageOptions(
        delete_input=False, max_file_megabytes=1, file_access_retry_seconds=5, file_access_timeout_seconds=3600
    )
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits"))
    with pytest.raises(UnreadableImage, match="cannot be read"):
        storage.read(root / "gone.jpg", root, patient)


WRITES_FOR_EVER = """
import os, sys, time
from pathlib import Path
from anonymise.batch import storage
root = Path(sys.argv[1])
storage.prepare_root(root)
def wait(descriptor):
    print("began", flush=True)
    time.sleep(600)
os.fsync = wait
storage.write_atomically(root / "a" / "1.jpg", b"half", root, storage.StorageOptions(
    delete_input=False, file_access_retry_seconds=1, file_access_timeout_seconds=1, max_file_megabytes=1))
"""


def test_what_a_dead_process_left_is_cleared_and_what_another_one_writes_is_not(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITES_FOR_EVER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "began\n"
        (tmp_path / "film.part").write_bytes(b"x")
        unfinished = [p for p in tmp_path.rglob("*.part") if p.name != "film.part"]
        assert [p.read_bytes() for p in unfinished] == [b"half"] * 2
        assert storage.clear_temporary_files([tmp_path, tmp_path / "gone"]) == 0
        writers[0].kill()
        writers[0].wait()
        assert storage.clear_temporary_files([tmp_path]) == 1
        (left,) = (p for p in tmp_path.rglob("*.part") if p.name != "film.part")
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    # Of a machine that nobody here knows: kept until it is a day old.
    foreign = left.rename(left.with_name("0123456789ab-1-0.part"))
    assert storage.clear_temporary_files([tmp_path]) == 0
    os.utime(foreign, (1, 1))
    assert storage.clear_temporary_files([tmp_path]) == 1
    assert [p.name for p in tmp_path.rglob("*.part")] == ["film.part"]


def test_the_empty_folder_of_an_unmounted_share_is_no_place_to_write_to(small_disk: Path) -> None:
    storage.write_atomically(small_disk / "a.jpg", b"x", small_disk, OPTIONS)
    subprocess.run(["umount", "-l", str(small_disk)], check=True)
    with pytest.raises(StorageError, match="out of reach"):
        storage.write_atomically(small_disk / "b.jpg", b"x", small_disk, OPTIONS)
    with pytest.raises(StorageError, match="out of reach"):
        storage.read(small_disk / "a.jpg", small_disk, OPTIONS)
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("name", ["EIO", "ESTALE"])
def test_a_hiccup_of_a_share_is_waited_for_and_then_this_files_error(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (root / "a.jpg").write_bytes(b"whole")
    healthy = os.open
    failures = [3]

    def hiccup(path: str, *rest: int) -> int:
        if str(path) == str(root / "a.jpg") and failures[0]:
            failures[0] -= 1
            raise OSError(getattr(errno, name), "hiccup")
        return healthy(path, *rest)

    monkeypatch.setattr(os, "open", hiccup)
    assert storage.read(root / "a.jpg", root, OPTIONS) == b"whole"
    failures[0] = 10**6
    with pytest.raises(UnreadableImage, match="hiccup"):
        storage.read(root / "a.jpg", root, OPTIONS)
