"""What the main job writes down beside its results: the journal, the error tree, rows, and what may be deleted.

An input image is deleted only after the journal says, on the disk, that it is finished; its row begins to wait in
the same transaction.
"""

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

from anonymise import outbox, storage
from anonymise.config import Config
from anonymise.db.sender import Sender
from anonymise.engine import Book, Task
from anonymise.errors import DatabaseUnavailable, ImageError, StorageError
from anonymise.jobs import delete_input
from anonymise.journal import Identity, Journal, JournalReader, State, Written, journal_file
from anonymise.outcomes import Done, Failed, Outcome, Skipped
from anonymise.paths import Paths, Places, expected_files

__all__ = ["JournalBook", "known_failures"]

log = logging.getLogger(__name__)

_DELETE_BATCH = 50
"""Inputs that are deleted together, after one commit of the journal."""


def known_failures(output: Path) -> frozenset[str]:
    """`Paths.key` of the images on which earlier runs of the main job failed; none without a readable journal."""
    if not journal_file(output).is_file():
        return frozenset()
    try:
        with JournalReader(output) as journal:
            return frozenset(entry.relative for entry in journal.entries(State.FAILED))
    except StorageError as error:
        log.warning("%s", error)
        return frozenset()


class JournalBook(Book):
    """Keeps the journal of a run, leaves notes of failed images in the error tree, sends rows, deletes finished inputs.

    Args:
        journal: of the run.
        config: the configuration.
        places: the folders.
        sender: sends the rows of finished images; None where there is no database.
    """

    def __init__(self, journal: Journal, config: Config, places: Places, sender: Sender | None) -> None:
        super().__init__(known_failures(places.output))
        self._sender = sender
        self._n_rows = 0
        if sender is not None:
            with journal.outbox() as connection:
                outbox.retry_failed(connection)  # the table may have been mended since
        self._journal = journal
        self._config = config
        self._places = places
        self._started: set[Path] = set()
        self._deletable: list[Paths] = []

    def expect(self, keys: Iterable[str]) -> None:
        """Says how many images a changed configuration makes stale."""
        stale = sum(map(self._journal.finished_otherwise, keys))
        if stale:
            log.warning("The configuration or the model has changed: %d finished images are done again", stale)

    def begin(self, paths: Paths) -> Identity | None:
        """Notes that work on an image begins; None if it was finished before and all its files are there.

        Raises:
            OSError: the input image cannot be looked at.
        """
        self._started.add(paths.source)
        try:
            status = paths.source.stat()
        except OSError:
            self._journal.started(paths.key, None)
            raise
        identity = Identity.of(status)
        if (
            not self._config.run.force_remask
            and self._journal.finished(paths.key, identity)
            and all(file.path.is_file() for file in expected_files(paths, self._config.files))
        ):
            self._started.discard(paths.source)
            return None
        self._journal.started(paths.key, identity)
        return identity

    def note(self, outcome: Outcome) -> Iterable[Task]:
        """Writes an outcome down; gives the deletions that are due."""
        if outcome.source == self._places.input:
            return ()
        paths = Paths(outcome.source.relative_to(self._places.input), self._places)
        match outcome:
            case Done():
                files = expected_files(paths, self._config.files)
                written = [Written(f.place.value, f.path.relative_to(f.root).as_posix()) for f in files]
                self._journal.done(paths.key, written, outcome.objects or {}, outcome.record)
                self._clear_error(paths)
                self._send_rows()
            case Failed():
                if outcome.source not in self._started:  # a folder, or an image that the walk kept back
                    self._journal.started(paths.key, None)
                self._journal.failed(paths.key, outcome.stage, outcome.reason)
                self._leave_error(paths, outcome)
            case Skipped(finished=False):
                return ()
        self._started.discard(outcome.source)
        if not self._config.storage.delete_input or isinstance(outcome, Failed):
            return ()
        self._deletable.append(paths)
        return self._deletions() if len(self._deletable) >= _DELETE_BATCH else ()

    def close(self) -> Iterable[Task]:
        """Writes the journal, sends the rows that wait; gives the deletions that are left."""
        deletions = self._deletions()
        if self._sender is not None:
            try:
                with self._journal.outbox() as connection:
                    self._sender.flush(connection)
            except DatabaseUnavailable as error:  # the images are done, and nothing is lost
                log.warning("%s", error)
        return deletions

    def rows(self) -> Mapping[str, int] | None:
        """What became of the rows → how many."""
        return None if self._sender is None else asdict(self._sender.sent)

    def _send_rows(self) -> None:
        """Sends a batch as soon as there is one in the journal.

        Raises:
            DatabaseError: the database refuses, too many rows failed, or too many wait.
        """
        self._n_rows += 1
        if self._sender is not None and self._n_rows % self._config.database.db_max_n_accumulated_rows == 0:
            self._journal.commit()
            with self._journal.outbox() as connection:
                self._sender.send(connection)

    def _deletions(self) -> list[Task]:
        self._journal.commit()
        due, self._deletable = self._deletable, []
        return [Task(p, partial(delete_input, p, self._config), stage="delete", is_follow_up=True) for p in due]

    def _error_file(self, paths: Paths, ending: str) -> Path:
        return self._places.errors / paths.relative.with_name(paths.relative.stem + ending)

    def _clear_error(self, paths: Paths) -> None:
        """An image that is finished now has no error any more."""
        for path in (self._error_file(paths, "_error.txt"), self._error_file(paths, "_error.json")):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _leave_error(self, paths: Paths, failed: Failed) -> None:
        """Says in the error tree what went wrong. If that fails too, the log has it."""
        files: list[tuple[Path, Callable[[], bytes]]] = [
            (
                self._error_file(paths, "_error.txt"),
                lambda: f"{failed.source}\n{failed.stage}\n{failed.reason}\n".encode("utf-8", "backslashreplace"),
            )
        ]
        if (record := failed.record) is not None:
            files.append((self._error_file(paths, "_error.json"), lambda: record.encode("utf-8")))
        if self._config.run.copy_originals_to_error_folder and failed.source.is_file():
            files.append(
                (
                    self._places.errors / paths.relative,
                    partial(storage.read_input, failed.source, self._places.input, self._config.storage),
                )
            )
        try:
            storage.prepare_root(self._places.errors)
            for path, content in files:
                storage.write_atomically(path, content(), self._places.errors, self._config.storage)
        except (OSError, ImageError, StorageError) as error:
            log.warning("%s: no note could be left in the error folder: %s", failed.source, error)
