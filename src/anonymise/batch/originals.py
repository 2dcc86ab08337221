"""Originals: kept in the archive, and deleted from the input folder only when nothing is lost by it."""

from collections.abc import Iterable
from pathlib import Path

from anonymise.batch.paths import way_out
from anonymise.batch.storage import FileTakenError, is_root, is_written, sync_names, write_atomically
from anonymise.config import StorageOptions
from anonymise.core.errors import UsageError, WriteError

__all__ = ["check_archive", "delete_verified_input", "keep_other_original", "write_verified_copy"]


def check_archive(archive: Path, *, create: bool) -> None:
    """Makes sure that an archive is there, or is meant to be new, rather than on a share that is not mounted.

    Args:
        archive: the archive folder.
        create: whether the operator says that it is new.

    Raises:
        UsageError: it is not there, or has never been one.
    """
    if is_root(archive):
        return
    if not archive.parent.is_dir():
        raise UsageError(
            f"The archive folder {archive} cannot be made, because {archive.parent} does not exist. Is its disk or "
            "share mounted? (-a)"
        )
    if not create and not is_root(archive.parent):
        what = "holds no archive yet" if archive.is_dir() else "does not exist"
        raise UsageError(
            f"The archive folder {archive} {what}. If its disk or share is mounted and the archive is to be new, say "
            "so once with --create-archive (-a)."
        )


def keep_other_original(path: Path, data: bytes, source: Path) -> None:
    """Makes sure that the archive's place for an original holds no other one.

    Args:
        path: where the original belongs in the archive.
        data: its content.
        source: the input image, for the message.

    Raises:
        WriteError: it holds another one.
    """
    if is_written(path) and not _has_content(path, data):
        raise WriteError(
            f"the archive holds another original by this name: {path} is not the same as {source}. Neither is changed; "
            "give this input an archive of its own (-a), or rename one of the two"
        )


def write_verified_copy(
    path: Path, data: bytes, root: Path, options: StorageOptions, *, source: Path, mtime_ns: int | None = None
) -> None:
    """Writes the untouched original to the archive and reads it back; never over another original.

    Args:
        path: where it belongs.
        data: its content.
        root: root of the archive.
        options: say how long to wait.
        source: the input image, for the message.
        mtime_ns: the input image's time of the last change, which the copy gets, in nanoseconds since the epoch.

    Raises:
        WriteError: this file cannot be written, reads back differently, or another original is in its place.
        StorageError: the disk is full, read-only or out of reach.
    """
    keep_other_original(path, data, source)
    if is_written(path):
        return
    try:
        write_atomically(path, data, root, options, mtime_ns=mtime_ns, replace=False)
    except FileTakenError:  # somebody was faster
        keep_other_original(path, data, source)
    if not _has_content(path, data):
        raise WriteError(f"{path} reads back differently from what was written; check the disk of the archive")


def delete_verified_input(source: Path, root: Path, *, archived: Path, expected: Iterable[Path]) -> None:
    """Deletes a finished input image, and the folders below ``root`` that this leaves empty, never ``root``.

    Args:
        source: the input image.
        root: the input folder.
        archived: its copy in the archive, which was read back when it was written; now it is compared once more.
        expected: all files that a finished image has.

    Raises:
        WriteError: a file is missing, or the input is not what the archive holds; the input stays.
    """
    expected = tuple(expected)
    if source.is_symlink() or way_out(source, root) is not None:
        raise WriteError("the input stays, because it is a link; what it leads to is not deleted through it")
    missing = [path for path in expected if not is_written(path)]
    if missing:
        raise WriteError(f"the input stays, because {missing[0]} is missing")
    try:
        if not _has_content(archived, source.read_bytes()):
            raise WriteError(f"the input stays, because it is not the same as its archive copy {archived}")
        sync_names((archived, *expected))
        source.unlink()
    except OSError as error:
        raise WriteError(f"the input cannot be deleted: {error.strerror or error}") from error
    for folder in source.parents:
        if folder == root or not folder.is_relative_to(root):
            break
        try:
            folder.rmdir()
        except OSError:  # not empty, or in use by somebody else
            break


def _has_content(path: Path, data: bytes) -> bool:
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False
