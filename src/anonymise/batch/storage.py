"""Reading and writing files so that nothing is lost and nothing half-written is ever seen.

A file appears under its name only complete: it is written in a folder for temporary files below its tree's root,
flushed to the disk, and renamed. The temporary name says which process writes it, so that what a dead one left can be
removed while others work on the same tree.
"""

import contextlib
import errno
import hashlib
import os
import stat
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from anonymise.batch.paths import Places, way_out
from anonymise.batch.patience import Patience
from anonymise.batch.processes import is_running, process_name
from anonymise.config import FileOptions, StorageOptions
from anonymise.core.errors import StorageError, UnreadableImage, WriteError

__all__ = [
    "FileTakenError",
    "clear_temporary_files",
    "holds_files",
    "is_root",
    "is_written",
    "prepare",
    "prepare_root",
    "read",
    "read_input",
    "result_root_of",
    "sha256_of",
    "sync_names",
    "while_reachable",
    "write_atomically",
]

_T = TypeVar("_T")

_MARKER = ".anonymise"
"""Folder in every root that results go to. Where it is missing, the share that was mounted there is gone."""

_TEMPORARY_FOLDER = "tmp"
"""In the marker: unfinished files, with the name of the process that writes them."""

_TEMPORARY_SUFFIX = ".part"

_ABANDONED_SECONDS = 24 * 3600
"""After this time an unfinished file is nobody's any more, whichever machine began it."""

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


def prepare_root(root: Path) -> None:
    """Makes a folder that results go to, and makes sure that files can be written there.

    Raises:
        StorageError: it cannot be made, or is read-only or full.
    """
    try:
        (root / _MARKER).mkdir(parents=True, exist_ok=True)
        probe = root / f"{_MARKER}-{uuid.uuid4().hex}"
        _replace(probe, b"probe", root)
        probe.unlink()
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
        path: path of the file.
        root: the folder that it stands below.
        options: say how long to wait, and how large a file may be.
        look: is given the first bytes, before the others are read, and may raise `UnreadableImage`.

    Raises:
        UnreadableImage: the file cannot be read although its root folder can, is no regular file, or is too large.
        StorageError: the root folder stays out of reach.
    """
    try:
        return while_reachable(lambda: _content(path, options.max_file_megabytes, look), root, options)
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


class FileTakenError(FileExistsError):
    """There is a file by this name, which is not to be replaced."""


def write_atomically(
    path: Path,
    data: bytes | Path,
    root: Path,
    options: StorageOptions,
    *,
    mtime_ns: int | None = None,
    replace: bool = True,
) -> None:
    """Writes a file whole or not at all; makes its folder; waits while the root folder's parent is out of reach.

    Args:
        path: path of the file.
        data: its content; or a file that has it, flushed, on the disk of the tree, which gets the new name.
        root: root of the tree that it stands in.
        options: say how long to wait.
        mtime_ns: time of the last change that it gets, in nanoseconds since the epoch; None is now.
        replace: whether it replaces a file that is there; False makes that an error.

    Raises:
        WriteError: this file cannot be written.
        StorageError: the disk is full, read-only or out of reach.
    """
    try:
        while_reachable(lambda: _replace(path, data, root, mtime_ns, replace=replace), root, options)
    except FileTakenError:
        raise
    except OSError as error:
        if error.errno in _STOPS_THE_RUN:
            raise StorageError(f"{path} cannot be written: {_STOPS_THE_RUN[error.errno]}.") from error
        raise WriteError(f"{path} cannot be written: {_reason(error)}") from error


def holds_files(root: Path) -> bool:
    """Whether there is anything in a prepared folder besides what this program keeps there for itself."""
    with os.scandir(root) as entries:
        return any(entry.name != _MARKER for entry in entries)


def is_root(folder: Path) -> bool:
    """Whether a folder is there and was prepared for results."""
    return os.path.isdir(folder / _MARKER)  # noqa: PTH112 - is_dir fails for names that are too long


def is_written(path: Path) -> bool:
    """Whether there is a file that is not empty; a name that is too long for the disk is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


def sha256_of(path: Path) -> str:
    """SHA-256 of a small file's content, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def clear_temporary_files(roots: Iterable[Path]) -> int:
    """Deletes the unfinished files of processes that are gone, and returns how many; a gone folder is no error.

    Those of other machines are deleted when they are a day old.

    Args:
        roots: roots of the trees that results go to.
    """
    cleared = 0
    for root in roots:
        with contextlib.suppress(OSError), os.scandir(root / _MARKER / _TEMPORARY_FOLDER) as entries:
            for entry in entries:
                process, _, _ = entry.name.rpartition("-")
                with contextlib.suppress(OSError):
                    is_old = time.time() - entry.stat().st_mtime > _ABANDONED_SECONDS
                    if is_old or is_running(process) is False:
                        Path(entry).unlink()
                        cleared += 1
    return cleared


def _replace(path: Path, data: bytes | Path, root: Path, mtime_ns: int | None = None, *, replace: bool = True) -> None:
    if not is_root(root):  # what is there now would be another disk
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(root))
    _make_folder(path.parent)
    if isinstance(data, Path):
        try:
            _rename(data, path, mtime_ns, replace=replace)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            data = data.read_bytes()
        else:
            return
    # A short name of its own: names of 250 characters leave no room for an ending.
    name = f"{process_name()}-{uuid.uuid4().hex}{_TEMPORARY_SUFFIX}"
    folder = root / _MARKER / _TEMPORARY_FOLDER
    folder.mkdir(exist_ok=True)
    try:
        _write_and_rename(folder / name, path, data, mtime_ns, replace=replace)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # Another disk is mounted in the middle of the tree.
        _write_and_rename(path.with_name(f"{_MARKER}-{name}"), path, data, mtime_ns, replace=replace)


def _write_and_rename(temporary: Path, path: Path, data: bytes, mtime_ns: int | None, *, replace: bool) -> None:
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        _rename(temporary, path, mtime_ns, replace=replace)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _rename(temporary: Path, path: Path, mtime_ns: int | None, *, replace: bool) -> None:
    if mtime_ns is not None:
        with contextlib.suppress(OSError, OverflowError):  # times that this disk does not know
            os.utime(temporary, ns=(mtime_ns, mtime_ns))
    if replace or (path.is_file() and path.stat().st_size == 0):
        temporary.replace(path)
    else:
        _rename_to_new(temporary, path)


def _make_folder(folder: Path) -> None:
    """Makes a folder and those above it; not recursive as `Path.mkdir` is, as folders may be nested deeply."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)


def _rename_to_new(temporary: Path, path: Path) -> None:
    """Renames a file unless there is one by the new name, also where several do so at once.

    Raises:
        FileTakenError: there is one.
    """
    try:
        if os.name == "nt":
            temporary.rename(path)
            return
        try:
            path.hardlink_to(temporary)
        except OSError as error:
            if error.errno not in _HAS_NO_LINKS:
                raise
            path.open("xb").close()  # an empty one is no original, if it should stay
            temporary.replace(path)
        else:
            temporary.unlink()
    except FileExistsError as error:
        raise FileTakenError(*error.args) from error


_HAS_NO_LINKS = frozenset(
    getattr(errno, name) for name in ("EPERM", "EACCES", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EINVAL", "EMLINK")
)
"""Errors of disks and shares on which a file has only one name."""


def sync_names(paths: Iterable[Path]) -> None:
    """Makes sure that a loss of power does not take the names of new files, before something is deleted for them.

    Raises:
        OSError: the disk fails.
    """
    if os.name == "nt":  # which has no such call
        return
    for folder in {folder for path in paths for folder in _folders_in_tree(path)}:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES):  # some shares cannot
                raise
        finally:
            os.close(descriptor)


def _folders_in_tree(path: Path) -> list[Path]:
    """The folders above a file, up to the root of its tree."""
    folders = []
    for folder in path.parents:
        folders.append(folder)
        if is_root(folder):
            return folders
    return folders[:1]


def while_reachable(operation: Callable[[], _T], root: Path, options: StorageOptions) -> _T:
    """Runs ``operation``; while it fails because ``root`` is out of reach or has a hiccup, waits and tries again.

    Raises:
        OSError: the operation failed although the root is there.
        StorageError: the root stayed out of reach for the configured time.
    """
    patience = Patience(options.file_access_retry_seconds, options.file_access_timeout_seconds)
    while True:
        try:
            return operation()
        except OSError as error:
            is_reachable = _is_reachable(root)
            if is_reachable and error.errno not in _MAY_PASS:
                raise
            if patience.wait(str(root), _reason(error)):
                continue
            if is_reachable:  # so it is this file, not the share
                raise
            raise StorageError(
                f"{root} is out of reach since {options.file_access_timeout_seconds:g} s "
                f"(file_access_timeout_seconds): {_reason(error)}"
            ) from error


def _is_reachable(root: Path) -> bool:
    """Whether a root is there. An empty one is the folder on which a share was mounted."""
    try:
        with os.scandir(root) as entries:
            return any(True for _ in entries)
    except OSError:
        return False


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
