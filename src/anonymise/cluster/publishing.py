"""The leader's side of staging: folders that workers write to, checks of what they wrote, and renaming into place."""

import contextlib
import hashlib
import shutil
import uuid
from dataclasses import replace
from pathlib import Path

from anonymise.batch.outcomes import Done, Outcome
from anonymise.batch.paths import ExpectedFile, Paths, Places
from anonymise.batch.runner import Failure
from anonymise.batch.shards import clear_staging, staging_folder
from anonymise.batch.storage import FileTakenError, is_written, write_atomically
from anonymise.batch.tasks import Subject, outcome_of
from anonymise.batch.writer import ToPlaces, is_original
from anonymise.cluster.worker import TOKEN, Answer, Joined, Produced
from anonymise.config import Config, Place
from anonymise.core.errors import ImageError, StorageError

__all__ = ["Publisher", "UntrueError"]


class UntrueError(Exception):
    """What a worker says that it wrote is not there."""


class Publisher:
    """Publishes what workers have written, and removes the rest.

    Args:
        config: the configuration.
        places: the folders, which are prepared and locked.

    Attributes:
        run: name of the run, and its secret.
        roots: place → root folder.
        staging: place → staging folder; empty where bytes are sent.

    Raises:
        StorageError: a staging folder cannot be made.
    """

    def __init__(self, config: Config, places: Places) -> None:
        self.run = uuid.uuid4().hex
        self._access = config.storage
        self._writer = ToPlaces(config.storage)
        self.roots = {place: root for place in Place if (root := places.root(place)) is not None}
        written = places.written_to(config.files)
        self.staging: dict[Place, Path] = {}
        if config.cluster.cluster_transfer:
            return
        clear_staging(self.roots.values(), places.shard)
        for place, root in self.roots.items():
            if root not in written:
                continue
            folder = staging_folder(root, places.shard) / self.run
            try:
                folder.mkdir(parents=True)
                (folder / TOKEN).write_text(self.run, "ascii")
            except OSError as error:
                raise StorageError(f"The staging folder {folder} cannot be made: {error.strerror or error}") from error
            self.staging[place] = folder

    def sees(self, joined: Joined) -> bool:
        """Whether a worker writes to the staging folders that this process sees."""
        try:
            for place, folder in self.staging.items():
                answer = folder / joined.answers[place]
                if answer.read_text("ascii") != self.run:
                    return False
                answer.unlink()
        except (OSError, KeyError, UnicodeDecodeError):
            return False
        return True

    def publish(self, paths: Paths, answer: Answer, own_instances: frozenset[str]) -> Outcome:
        """Puts the files of an image in their places, in the order of a run on one machine; returns what became of it.

        Args:
            paths: of the image.
            answer: of the worker.
            own_instances: SHA-256 of the files of saved instances that runs wrote.

        Raises:
            UntrueError: the worker's files are not as it says.
            StorageError: the disk is full, read-only or out of reach.
        """
        assert isinstance(answer.outcome, Done)
        files = [(self._expected(paths, made), made, self._content(made)) for made in answer.files]
        try:
            for file, _, data in files:
                self._writer.check(file, data, paths.source, own_instances)
            for file, made, data in files:
                if made.staged is None:
                    self._writer.write(file, data, paths.source, made.mtime_ns)
                elif not (is_original(file) and is_written(file.path)):
                    staged, is_copy = self.staging[made.place] / made.staged, is_original(file)
                    with contextlib.suppress(FileTakenError):
                        mtime_ns = made.mtime_ns if is_copy else None
                        write_atomically(
                            file.path, staged, file.root, self._access, mtime_ns=mtime_ns, replace=not is_copy
                        )
                    self._writer.check(file, data, paths.source, own_instances)
        except ImageError as error:
            return outcome_of(Failure(Subject(paths.source), error))
        finally:
            self.discard(answer)
        return replace(answer.outcome, source=paths.source)

    def _expected(self, paths: Paths, made: Produced) -> ExpectedFile:
        path = paths.file(made.kind, made.place)
        assert path is not None  # there is such a place in this run
        return ExpectedFile(made.kind, made.place, path, self.roots[made.place])

    def _content(self, made: Produced) -> bytes:
        data = made.data
        if made.staged is not None:
            try:
                data = (self.staging[made.place] / made.staged).read_bytes()
            except OSError as error:
                raise UntrueError(f"a file that it wrote is not here: {error}") from error
        if data is None or len(data) != made.n_bytes or hashlib.sha256(data).hexdigest() != made.sha256:
            raise UntrueError("a file that it wrote is another here")
        return data

    def discard(self, answer: Answer) -> None:
        """Removes what is left of an answer in the staging folders."""
        for made in answer.files:
            if made.staged is not None:
                with contextlib.suppress(OSError):
                    (self.staging[made.place] / made.staged).unlink(missing_ok=True)

    def close(self) -> None:
        """Removes the staging folders. A worker that still writes finds none, and stops."""
        for folder in self.staging.values():
            for _ in range(3):  # a file may have come in between
                shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                folder.parent.rmdir()
