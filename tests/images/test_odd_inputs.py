"""Input folders with what is no picture: pipes, huge files, links in all directions, folders nested very deeply."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from anonymise import config
from anonymise.batch import runs as pipeline
from anonymise.batch.paths import Places
from anonymise.batch.workers import SerialWorkers
from tests.fakes import Ran, RedMasker, street, write_image

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="it has no pipes among files, and links need rights"),
]


def run(folder: Path, *keys: str) -> Ran:
    few = ["enable_async=False", "file_access_timeout_seconds=0", "remote_json=False"]
    loaded = config.load(overrides=[*few, *keys], has_archive=True)
    ran = Ran()
    places = Places(folder / "in", folder / "out", folder / "raw")
    ran.report = pipeline.anonymise(loaded, places, RedMasker(), SerialWorkers(), ran)
    return ran


def images(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*.jpg")}


def reasons(ran: Ran) -> dict[str, str]:
    return {failed.source.name: failed.reason for failed in ran.failed}


def notes(ran: Ran) -> dict[str, str]:
    return {skipped.source.name: skipped.reason for skipped in ran.skipped}


def huge(path: Path, first_bytes: bytes) -> None:
    """A file of six gigabytes that takes no room on the disk."""
    with path.open("wb") as stream:
        stream.write(first_bytes)
        stream.truncate(6_000_000_000)


_COMMAND = """
import resource, sys
from anonymise.commands.cli import main
code = main(sys.argv[1:])
peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print("peak", max(peaks) >> (20 if sys.platform == "darwin" else 10), "MiB")
sys.exit(code)
"""


@pytest.fixture
def deep_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in which folders may be nested too deeply for pytest to remove them."""
    yield tmp_path
    for folder, _ in reversed(_walk(tmp_path)):
        for path in folder.iterdir():
            if not path.is_dir() or path.is_symlink():
                path.unlink()
        if folder != tmp_path:
            folder.rmdir()


def _walk(top: Path) -> list[tuple[Path, list[str]]]:
    """As os.walk, which before Python 3.12 calls itself: each folder, and the names of its files."""
    found, waiting = [], [top]
    while waiting:
        folder = waiting.pop()
        found.append((folder, [path.name for path in folder.iterdir() if path.is_file()]))
        waiting += (path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    return found


@pytest.mark.parametrize("module", ["main", "check_images"])
def test_one_odd_file_does_not_stop_a_run(deep_path: Path, module: str) -> None:
    tmp_path = deep_path
    source = write_image(tmp_path / "in" / "good.jpg", street())
    deep = tmp_path / "in" / "z"
    for _ in range(1100):  # one by one, as makedirs is recursive
        deep.mkdir()
        deep /= "d"
    deep.mkdir()
    (deep / "deep.jpg").write_bytes(source.read_bytes())
    os.mkfifo(tmp_path / "in" / "0.jpg")
    huge(tmp_path / "in" / "1.jpg", b"")
    huge(tmp_path / "in" / "2.jpg", source.read_bytes())
    (tmp_path / "in" / "3.jpg").symlink_to("/dev/zero")
    (tmp_path / "in" / "4.jpg").symlink_to("0.jpg")
    command = (
        _COMMAND if module == "main" else _COMMAND.replace("anonymise.commands.cli", f"anonymise.commands.{module}")
    )
    folders = ["-i", tmp_path / "in", *(["-o", tmp_path / "out"] if module == "main" else [])]
    call = [sys.executable, "-c", command, *folders, "-k", ROOT / "config" / "lite_config.yml"]
    done = subprocess.run(
        list(map(str, call)), cwd=ROOT, capture_output=True, encoding="utf-8", check=False, timeout=300
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    peak = re.search(r"peak (\d+) MiB", done.stdout)
    assert peak is not None
    assert int(peak[1]) < 3000  # half of what one of the files would take
    said = done.stdout
    for name, reason in (
        ("0.jpg", "no regular file"),
        ("2.jpg", "larger than the limit of 1000; max_file_megabytes"),
        ("3.jpg", "leads out of the input folder, to /dev/zero"),
        ("4.jpg", "no regular file"),
    ):
        assert re.search(rf"/in/{name}.*{reason}", said), (name, said)
    if module == "main":
        assert re.search(r"/in/1\.jpg.*neither a JPEG nor a PNG", said), said
        assert "Done:                2" in said
        written = [p for _, names in _walk(tmp_path / "out") for p in names if p.endswith(".jpg")]
        assert sorted(written) == ["deep.jpg", "good.jpg"]


def test_links_that_lead_out_of_the_input_are_named_and_nothing_behind_them_is_touched(tmp_path: Path) -> None:
    outside = write_image(tmp_path / "outside" / "secret.jpg", street())
    before = outside.read_bytes()
    write_image(tmp_path / "in" / "good.jpg", street(seed=1))
    (tmp_path / "in" / "file.jpg").symlink_to(outside)
    (tmp_path / "in" / "folder").symlink_to(tmp_path / "outside", target_is_directory=True)
    (tmp_path / "in" / "hop.jpg").symlink_to("file.jpg")
    (tmp_path / "in" / "dead.jpg").symlink_to(tmp_path / "outside" / "gone.jpg")
    (tmp_path / "in" / "note.txt").symlink_to(tmp_path / "outside" / "note.txt")
    ran = run(tmp_path, "delete_input=True", "copy_originals_to_error_folder=True")
    assert set(reasons(ran)) == {"file.jpg", "folder", "hop.jpg", "dead.jpg"}
    for reason in reasons(ran).values():
        assert f"leads out of the input folder, to {tmp_path / 'outside'}" in reason
        assert "(-i)" in reason  # the way out
    assert images(tmp_path / "out") == images(tmp_path / "raw") == {"good.jpg"}
    assert images(tmp_path / "out_error") == set()
    assert outside.read_bytes() == before
    assert {p.name for p in (tmp_path / "in").iterdir() if p.is_symlink()} == {*reasons(ran), "note.txt"}


def test_many_names_of_one_file_are_one_image(tmp_path: Path) -> None:
    source = write_image(tmp_path / "in" / "a" / "real.jpg", street())
    inside = tmp_path / "in"
    (inside / "link.jpg").symlink_to(source)
    (inside / "b").symlink_to("a", target_is_directory=True)
    (inside / "a" / "loop").symlink_to("..", target_is_directory=True)
    (inside / "a" / "self.jpg").symlink_to("self.jpg")
    os.link(source, inside / "a" / "second.jpg")
    ran = run(tmp_path, "delete_input=True")
    assert [done.source.name for done in ran.done] == ["real.jpg"]
    assert set(notes(ran)) == {"link.jpg", "b", "loop", "second.jpg"}
    assert set(reasons(ran)) == {"self.jpg"}  # it leads nowhere
    assert images(tmp_path / "out") == images(tmp_path / "raw") == {"a/real.jpg"}
    assert (inside / "a" / "second.jpg").exists()


def test_an_image_whose_only_name_is_a_link_is_done_and_never_deleted_through_it(tmp_path: Path) -> None:
    """As by programs that keep large files by their checksums."""
    store = write_image(tmp_path / "in" / ".store" / "0a1b.jpg", street())
    store = store.rename(store.with_suffix(""))
    (tmp_path / "in" / "1.jpg").symlink_to(store)
    ran = run(tmp_path)
    assert [done.source.name for done in ran.done] == ["1.jpg"]
    ran = run(tmp_path, "delete_input=True")
    assert "it is a link" in reasons(ran)["1.jpg"]
    assert store.exists()
    assert (tmp_path / "in" / "1.jpg").exists()


def test_an_input_folder_that_is_a_link_itself_is_as_good_as_any(tmp_path: Path) -> None:
    write_image(tmp_path / "disk" / "1.jpg", street())
    (tmp_path / "in").symlink_to(tmp_path / "disk", target_is_directory=True)
    assert len(run(tmp_path).done) == 1


def test_an_image_that_becomes_a_link_during_the_run_is_not_followed(tmp_path: Path) -> None:
    secret = write_image(tmp_path / "secret.jpg", street())
    names = [f"{n}.jpg" for n in range(2)]
    for name in names:
        write_image(tmp_path / "in" / name, street())

    class Swaps(RedMasker):
        def detect(self, images):  # type: ignore[no-untyped-def]
            if not (tmp_path / "in" / names[1]).is_symlink():
                (tmp_path / "in" / names[1]).unlink()
                (tmp_path / "in" / names[1]).symlink_to(secret)
            return super().detect(images)

    ran = Ran()
    loaded = config.load(overrides=["enable_async=False", "file_access_timeout_seconds=0"])
    ran.report = pipeline.anonymise(loaded, Places(tmp_path / "in", tmp_path / "out"), Swaps(), SerialWorkers(), ran)
    assert "leads out of the input folder" in reasons(ran)["1.jpg"]
    assert images(tmp_path / "out") == {"0.jpg"}


def test_sockets_are_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "in" / "good.jpg", street())
    monkeypatch.chdir(tmp_path / "in")  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s.jpg")
    ran = run(tmp_path)
    assert "socket" in reasons(ran)["s.jpg"]
    assert len(ran.done) == 1


def test_the_limit_on_a_files_size_is_a_key(tmp_path: Path) -> None:
    source = write_image(tmp_path / "in" / "1.jpg", street())
    with source.open("ab") as stream:
        stream.truncate(2_500_000)
    assert "of 2 megabytes is larger than the limit of 1" in reasons(run(tmp_path, "max_file_megabytes=1"))["1.jpg"]
    assert len(run(tmp_path, "max_file_megabytes=3").done) == 1
