"""Reading and writing files so that nothing is lost and nothing half-written is ever seen.

A file appears under its name only complete: it is written under a temporary name beside it, flushed to the disk, and
renamed. Contents are no concern of this module.
"""

import contextlib
import errno
import itertools
import logging
import os
import stat
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from anonymise.errors import StorageError, UnreadableImage, WriteError
from anonymise.paths import FileOptions, Places, way_out

__all__ = [
    "StorageOptions",
    "clear_temporary_files",
    "delete_verified_input",
    "is_temporary",
    "prepare",
    "prepare_root",
    "read",
    "read_input",
    "result_root_of",
    "write_atomically",
    "write_verified_copy",
]

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_TEMPORARY_PREFIX = ".anonymise-"
_TEMPORARY_SUFFIX = ".part"

_MARKER = ".anonymise"
"""Folder in every root that results go to. Where it is missing, the share that was mounted there is gone."""

_MAY_PASS = frozenset(
    getattr(errno, name)
    for name in ("EIO", "ESTALE", "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH")
    if hasattr(errno, name)
)
"""Errors of a share that comes and goes, also while its root answers."""

_FIRST_BYTES = 4096

_STOPS_THE_RUN = {
    errno.ENOSPC: "the disk is full",
    getattr(errno, "EDQUOT", -1): "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
}


class StorageOptions(BaseModel):
    """Keys of the configuration about files that cannot be reached, and about deleting the input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    delete_input: bool
    file_access_retry_seconds: float = Field(gt=0)
    file_access_timeout_seconds: float = Field(ge=0)
    max_file_megabytes: int = Field(ge=1)


def prepare_root(root: Path) -> None:
    """Makes a folder that results go to, and makes sure that files can be written there.

    Raises:
        StorageError: it cannot be made, or is read-only or full.
    """
    try:
        (root / _MARKER).mkdir(parents=True, exist_ok=True)
        _replace(root / f"{_TEMPORARY_PREFIX}probe", b"probe", root)
        (root / f"{_TEMPORARY_PREFIX}probe").unlink()
    except OSError as error:
        raise StorageError(f"The folder {root} cannot be written to: {_reason(error)}") from error


def prepare(places: Places, files: FileOptions) -> None:
    """Prepares every folder that a run writes to.

    Args:
        places: the folders of the run.
        files: which files the run writes, and where.

    Raises:
        StorageError: one cannot be made, or is read-only or full.
    """
    for root in places.written_to(files):
        prepare_root(root)


def result_root_of(folder: Path) -> Path | None:
    """The folder that holds results of a run and that a folder is, or lies in; None where there is none."""
    folder = folder.resolve()
    return next((root for root in (folder, *folder.parents) if (root / _MARKER).is_dir()), None)


def read_input(path: Path, root: Path, options: StorageOptions, look: Callable[[bytes], object] | None = None) -> bytes:
    """The bytes of an input image, as `read`; nothing outside of the input folder is read through a link.

    Raises:
        UnreadableImage, StorageError: as `read`.
    """
    if (out := way_out(path, root)) is not None:
        raise UnreadableImage(f"a link leads out of the input folder, to {out}")
    return read(path, root, options, look)


def read(path: Path, root: Path, options: StorageOptions, look: Callable[[bytes], object] | None = None) -> bytes:
    """The bytes of a regular file; waits while its root folder is out of reach.

    Args:
        path: of the file.
        root: the folder that it stands below.
        options: say how long to wait, and how large a file may be.
        look: is given the first bytes, before the others are read, and may raise `UnreadableImage`.

    Raises:
        UnreadableImage: the file cannot be read although its root folder can, is no regular file, or is too large.
        StorageError: the root folder stays out of reach.
    """
    try:
        return _while_reachable(lambda: _content(path, options.max_file_megabytes, look), root, options)
    except OSError as error:
        raise UnreadableImage(f"the file cannot be read: {_reason(error)}") from error


def _content(path: Path, max_megabytes: int, look: Callable[[bytes], object] | None) -> bytes:
    # Without O_NONBLOCK, to open a pipe would wait for somebody who writes to it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImage("it is no regular file, but a pipe, socket or device")
        if look is not None:
            look(stream.read(_FIRST_BYTES))
            stream.seek(0)
        if status.st_size > max_megabytes * 1_000_000:
            raise UnreadableImage(
                f"the file of {status.st_size // 1_000_000} megabytes is larger than the limit of {max_megabytes}; "
                "max_file_megabytes raises it"
            )
        return stream.read(status.st_size)


def write_atomically(path: Path, data: bytes, root: Path, options: StorageOptions) -> None:
    """Writes a file whole or not at all; makes its folder; waits while the root folder's parent is out of reach.

    Raises:
        WriteError: this file cannot be written.
        StorageError: the disk is full, read-only or out of reach.
    """
    try:
        _while_reachable(lambda: _replace(path, data, root), root, options)
    except OSError as error:
        if error.errno in _STOPS_THE_RUN:
            raise StorageError(f"{path} cannot be written: {_STOPS_THE_RUN[error.errno]}.") from error
        raise WriteError(f"{path} cannot be written: {_reason(error)}") from error


def write_verified_copy(path: Path, data: bytes, root: Path, options: StorageOptions) -> None:
    """Writes the untouched original to the archive and reads it back.

    Raises:
        WriteError: this file cannot be written, or reads back differently.
        StorageError: the disk is full, read-only or out of reach.
    """
    write_atomically(path, data, root, options)
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
    if source.is_symlink() or way_out(source, root) is not None:
        raise WriteError("the input stays, because it is a link; what it leads to is not deleted through it")
    missing = [path for path in expected if not path.is_file() or path.stat().st_size == 0]
    if missing:
        raise WriteError(f"the input stays, because {missing[0]} is missing")
    try:
        if not _has_content(archived, source.read_bytes()):
            raise WriteError(f"the input stays, because it is not the same as its archive copy {archived}")
        source.unlink()
    except OSError as error:
        raise WriteError(f"the input cannot be deleted: {_reason(error)}") from error
    for folder in source.parents:
        if folder == root or not folder.is_relative_to(root):
            break
        try:
            folder.rmdir()
        except OSError:  # not empty, or in use by somebody else
            break


def is_temporary(path: Path) -> bool:
    """Whether a file is one of our unfinished ones."""
    return path.name.startswith(_TEMPORARY_PREFIX) and path.name.endswith(_TEMPORARY_SUFFIX)


def clear_temporary_files(folders: Iterable[Path], *, below: bool = True) -> int:
    """Deletes the unfinished files that an interrupted run left, and returns how many; a gone folder is no error.

    Args:
        folders: where to look.
        below: whether to look into all folders below them, too.
    """
    cleared = 0
    for top in folders:
        for folder, _, names in itertools.islice(os.walk(top), None if below else 1):
            for name in names:
                path = Path(folder, name)
                if is_temporary(path):
                    with contextlib.suppress(OSError):
                        path.unlink()
                        cleared += 1
    return cleared


def _replace(path: Path, data: bytes, root: Path) -> None:
    if not (root / _MARKER).is_dir():  # what is there now would be another disk
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(root))
    _make_folder(path.parent)
    # A short name of its own: names of 250 characters leave no room for an ending.
    temporary = path.with_name(f"{_TEMPORARY_PREFIX}{uuid.uuid4().hex}{_TEMPORARY_SUFFIX}")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _make_folder(folder: Path) -> None:
    """Makes a folder and those above it; not recursive as `Path.mkdir` is, as folders may be nested deeply."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)


def _while_reachable(operation: Callable[[], _T], root: Path, options: StorageOptions) -> _T:
    """Does ``operation``; while it fails because ``root`` is out of reach or has a hiccup, waits and tries again.

    Raises:
        OSError: the operation failed although the root is there.
        StorageError: the root stayed out of reach for the configured time.
    """
    deadline: float | None = None
    while True:
        try:
            return operation()
        except OSError as error:
            is_reachable = _is_reachable(root)
            if is_reachable and error.errno not in _MAY_PASS:
                raise
            now = time.monotonic()
            if deadline is None:
                deadline = now + options.file_access_timeout_seconds
                log.warning("%s is out of reach (%s); waiting for it", root, _reason(error))
            if now >= deadline:
                if is_reachable:  # so it is this file, not the share
                    raise
                raise StorageError(
                    f"{root} is out of reach since {options.file_access_timeout_seconds:g} s "
                    f"(file_access_timeout_seconds): {_reason(error)}"
                ) from error
            time.sleep(min(options.file_access_retry_seconds, max(0.01, deadline - now)))


def _is_reachable(root: Path) -> bool:
    """Whether a root is there. An empty one is the folder on which a share was mounted."""
    try:
        with os.scandir(root) as entries:
            return any(True for _ in entries)
    except OSError:
        return False


def _has_content(path: Path, data: bytes) -> bool:
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
