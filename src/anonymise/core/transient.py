"""Original pixels outside of a process's own memory, which must not outlive it: shared memory, files for C code.

What can live in memory does. What cannot be freed by the system when a process is killed has a name that begins with
``anonymise-raw-``, and is locked as long as its process lives: ``sweep`` removes what nobody holds. A lock, unlike a
process number in the name, holds between containers that share memory, and whatever happens to the clock.
"""

import contextlib
import errno
import os
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

from anonymise.core.errors import StorageError
from anonymise.core.resources import user_cache

if sys.platform != "win32":
    import fcntl

__all__ = ["RawFile", "new_memory", "raw_file", "release", "shared_folder", "sweep"]

_PREFIX = "anonymise-raw-"
_DEV_SHM = Path("/dev/shm")  # noqa: S108 - where Linux shows shared memory as files

_locks: dict[str, int] = {}
"""Name of shared memory → the open file whose lock says that it is in use."""


@dataclass(frozen=True, slots=True)
class RawFile:
    """A file that a C library can open by its path.

    Attributes:
        path: path of the file, for this process.
    """

    path: Path
    _descriptor: int

    def read(self) -> bytes:
        """The file's content.

        Raises:
            StorageError: it cannot be read.
        """
        try:
            return _read(self._descriptor)
        except OSError as error:
            raise StorageError(f"A raw picture cannot be read back: {error.strerror or error}") from error

    def check_room(self, n_bytes: int) -> None:
        """Makes sure that the file can hold so many bytes; its content is lost.

        Raises:
            StorageError: it cannot.
        """
        _write(self._descriptor, bytes(n_bytes), self.path)


@contextlib.contextmanager
def raw_file(data: bytes = b"") -> Iterator[RawFile]:
    """A file for as long as the context lasts: in memory where the system can (Linux), else in a folder that is swept.

    Args:
        data: what stands in it.

    Raises:
        StorageError: there is no room for it.
    """
    descriptor = _in_memory()
    if descriptor is not None:
        file = RawFile(Path(f"/proc/self/fd/{descriptor}"), descriptor)
        try:
            _write(descriptor, data, None)
            yield file
        finally:
            os.close(descriptor)
        return
    try:
        path = _place() / f"{_PREFIX}{uuid.uuid4().hex}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    except OSError as error:
        raise StorageError(f"No temporary file can be made: {error}") from error
    try:
        _lock(descriptor)
        _write(descriptor, data, path)
        yield RawFile(path, descriptor)
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            path.unlink()


def new_memory(n_bytes: int) -> SharedMemory:
    """New shared memory, which `release` gives back.

    Raises:
        OSError: the system has none to give.
    """
    if sys.platform == "win32":  # it is gone with the last process that has it
        return SharedMemory(create=True, size=n_bytes)
    while True:
        name = f"{_PREFIX}{uuid.uuid4().hex[:12]}"  # macOS allows 30 characters
        # Where the system shows the memory as a file, that is locked; elsewhere an empty file of the same name.
        if shared_folder() is None:
            _locks[name] = os.open(_place() / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        memory = SharedMemory(name, create=True, size=n_bytes)
        try:
            if shared_folder() is not None:
                _locks[name] = os.open(_DEV_SHM / name, os.O_RDWR)
            _lock(_locks[name])
        except OSError:
            release(memory)
            raise
        if os.fstat(_locks[name]).st_nlink:
            return memory
        release(memory)  # another run swept it before it was locked


def release(memory: SharedMemory) -> None:
    """Gives shared memory back to the system as soon as nobody looks at it any more."""
    with contextlib.suppress(FileNotFoundError):
        memory.unlink()
    descriptor = _locks.pop(memory.name, None)
    if descriptor is not None:
        os.close(descriptor)
        if shared_folder() is None:
            (_place() / memory.name).unlink(missing_ok=True)


def shared_folder() -> Path | None:
    """The folder in which the system shows shared memory as files; None where it does not."""
    return _DEV_SHM if _DEV_SHM.is_dir() else None


def sweep() -> int:
    """Removes raw pixels that killed runs of this user left, whatever their folders; returns how many pieces."""
    n_swept = 0
    cache = user_cache()
    for folder in filter(None, (shared_folder(), cache and cache / "raw")):
        for path in folder.glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):
                n_swept += _swept(path)
    return n_swept


def _swept(path: Path) -> bool:
    if sys.platform == "win32":
        path.unlink()  # fails while its process has it open
        return True
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if shared_folder() is None:
            with contextlib.suppress(FileNotFoundError):
                memory = SharedMemory(path.name)
                memory.close()
                memory.unlink()
        path.unlink()
    finally:
        os.close(descriptor)
    return True


def _in_memory() -> int | None:
    """A new file in memory that has a path."""
    if sys.platform != "linux":
        return None
    try:
        descriptor = os.memfd_create(f"{_PREFIX}file")
    except (AttributeError, OSError):  # an old kernel, or one that forbids it
        return None
    if Path(f"/proc/self/fd/{descriptor}").exists():
        return descriptor
    os.close(descriptor)
    return None


def _place() -> Path:
    """The user's own folder for files that cannot live in memory.

    Raises:
        OSError: it cannot be made, or the user has no home folder.
    """
    cache = user_cache()
    if cache is None:
        raise FileNotFoundError(errno.ENOENT, "this user has no home folder for temporary files")
    (cache / "raw").mkdir(mode=0o700, parents=True, exist_ok=True)
    return cache / "raw"


def _lock(descriptor: int) -> None:
    if sys.platform != "win32":
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _write(descriptor: int, data: bytes, path: Path | None) -> None:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.truncate(descriptor, 0)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError as error:
        where = "in memory" if path is None else f"in {path.parent}"
        raise StorageError(f"There is no room {where} for the data of a picture: {error.strerror or error}") from error


def _read(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    parts = []
    while part := os.read(descriptor, 1 << 24):
        parts.append(part)
    return b"".join(parts)
