"""Where the files of images go: to their places, or elsewhere, to be published by another process."""

import hashlib
from pathlib import Path
from typing import Protocol

from anonymise.batch import originals, storage
from anonymise.batch.paths import ExpectedFile
from anonymise.config import FileKind, Place, StorageOptions
from anonymise.core import saved_instances as instances
from anonymise.core.errors import InstancesError
from anonymise.core.resources import command_line

__all__ = ["ToPlaces", "Writer", "is_original"]


class Writer(Protocol):
    """Takes the files of images."""

    def check(self, file: ExpectedFile, data: bytes, source: Path, own_instances: frozenset[str]) -> None:
        """As `ToPlaces.check`."""
        ...

    def write(self, file: ExpectedFile, data: bytes, source: Path, mtime_ns: int | None = None) -> None:
        """As `ToPlaces.write`."""
        ...


class ToPlaces:
    """Writes files to their places.

    Args:
        access: says how long a share is waited for.
    """

    def __init__(self, access: StorageOptions) -> None:
        self._access = access

    def check(self, file: ExpectedFile, data: bytes, source: Path, own_instances: frozenset[str]) -> None:
        """Makes sure that a file which is to be written replaces nothing that no run wrote.

        Args:
            file: the file.
            data: its content.
            source: the input image, for messages.
            own_instances: SHA-256 of the files of saved instances that runs wrote.

        Raises:
            WriteError: the archive holds another original.
            InstancesError: saved instances that somebody else wrote or changed are in the way.
        """
        if is_original(file):
            originals.keep_other_original(file.path, data, source)
        elif file.kind is FileKind.INSTANCES:
            _keep_foreign_instances(file.path, hashlib.sha256(data).hexdigest(), own_instances)

    def write(self, file: ExpectedFile, data: bytes, source: Path, mtime_ns: int | None = None) -> None:
        """Writes a file.

        Args:
            file: the file.
            data: its content.
            source: the input image, for messages.
            mtime_ns: time of the input image's last change, which its copy in the archive gets.

        Raises:
            WriteError, StorageError: it cannot be written.
        """
        if is_original(file):
            originals.write_verified_copy(file.path, data, file.root, self._access, source=source, mtime_ns=mtime_ns)
        else:
            storage.write_atomically(file.path, data, file.root, self._access)


def is_original(file: ExpectedFile) -> bool:
    """Whether a file is the copy of the original in the archive."""
    return (file.kind, file.place) == (FileKind.IMAGE, Place.ARCHIVE)


def _keep_foreign_instances(path: Path, sha256: str, own: frozenset[str]) -> None:
    # One that a run wrote may be unknown to the journal: the run was killed before it noted that.
    is_own = (
        not storage.is_written(path)
        or storage.sha256_of(path) in own | {sha256}
        or instances.is_untouched(path.read_bytes())
    )
    if not is_own:
        raise InstancesError(
            f"{path} is not as a run wrote it and would be replaced. Draw the image with it: "
            f"{command_line('redraw')}. To have what the model finds, move it away"
        )
