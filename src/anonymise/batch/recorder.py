"""Observers of a run that write down what became of images: the journal, the error tree, rows, and deletions.

An input image is deleted only after the journal says, on the disk, that it is finished; its row begins to wait in
the same transaction.
"""

import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from anonymise.batch import storage
from anonymise.batch.chosen import image_at
from anonymise.batch.jobs import delete_input
from anonymise.batch.journal import SAVED, Journal, JournalReader, State, has_journal
from anonymise.batch.outcomes import Done, Failed, Outcome, Skipped
from anonymise.batch.paths import ERROR_NOTE, ERROR_RECORD, Paths, Places, expected_files
from anonymise.batch.resume import Begun, ResumeDecision, Resumption
from anonymise.batch.runner import Task
from anonymise.batch.tasks import ImageTask, Subject
from anonymise.batch.tracked import noted
from anonymise.config import FileKind, FileOptions, RunOptions, StorageOptions
from anonymise.core.errors import DatabaseUnavailable, ImageError, StorageError, UnreadableImage
from anonymise.core.resources import command_line
from anonymise.corrections.source import CorrectedSource
from anonymise.database import outbox
from anonymise.database.sender import Sender

__all__ = ["FileRecorder", "JournalRecorder", "Recorder", "RecorderOptions", "known_failures"]

log = logging.getLogger(__name__)

_DRAWN_BATCH = 50
"""Images whose corrections are noted as drawn together, after one commit of the journal."""

_DELETE_BATCH = 50
"""Inputs that are deleted together, after one commit of the journal."""


def known_failures(output: Path) -> frozenset[str]:
    """`Paths.key` of the images on which earlier runs of the main job failed; none without a readable journal."""
    try:
        if not has_journal(output):
            return frozenset()
        with JournalReader(output) as journal:
            return frozenset(entry.relative for entry in journal.entries(State.FAILED))
    except StorageError as error:
        log.warning("%s", error)
        return frozenset()


class Recorder:
    """Observer of the outcomes of a run. This base class records nothing.

    Args:
        known_failures: `Paths.key` of the images that failed in an earlier run.
    """

    def __init__(self, known_failures: Collection[str] = ()) -> None:
        self._known_failures = frozenset(known_failures)

    def failed_before(self, key: str) -> bool:
        """Whether an earlier run failed on an image, so that another failure is no news."""
        return key in self._known_failures

    def expect(self, keys: Iterable[str]) -> None:
        """Called with `Paths.key` of all images, where they are known before the work starts."""

    def record(self, outcome: Outcome) -> Iterable[ImageTask]:  # noqa: ARG002 - for those that record it
        """Called for each outcome of an image; gives the tasks that follow from it.

        Raises:
            StopError: the run cannot go on.
        """
        return ()

    def close(self) -> Iterable[ImageTask]:
        """Called when all images have their outcomes; gives the last tasks.

        Raises:
            StopError: something could not be recorded.
        """
        return ()

    def rows(self) -> Mapping[str, int] | None:
        """What became of rows for the database → number of rows; None if there are none."""
        return None


class FileRecorder(Recorder):
    """Notes in the journal what a command wrote that finishes no image, so that it is known as a file of a run.

    Args:
        journal: journal of the output folder.
        kind: kind of file that is written.
        files: which files an image has.
        places: the folders.
    """

    def __init__(self, journal: Journal, kind: FileKind, files: FileOptions, places: Places) -> None:
        super().__init__(known_failures(places.output))
        self._journal = journal
        self._kind = kind
        self._files = files
        self._places = places

    def record(self, outcome: Outcome) -> Iterable[ImageTask]:
        """Adds the files to those of the image."""
        if isinstance(outcome, Done):
            paths = image_at(outcome.source, self._places)
            files = (file for file in expected_files(paths, self._files) if file.kind is self._kind)
            earlier = set(self._journal.written(paths.key) or ())
            if earlier and (written := earlier.union(map(noted, files))) != earlier:
                self._journal.wrote(paths.key, tuple(written))
        return ()

    def close(self) -> Iterable[ImageTask]:
        """Writes the journal."""
        self._journal.commit()
        return ()


@dataclass(frozen=True, slots=True)
class RecorderOptions:
    """The options that `JournalRecorder` reads.

    Attributes:
        files: which files an image has.
        storage: whether inputs are deleted, and how long a share is waited for.
        run: whether originals of failed images are copied.
        rows_per_batch: finished images after which rows are sent to the database.
    """

    files: FileOptions
    storage: StorageOptions
    run: RunOptions
    rows_per_batch: int


class JournalRecorder(Recorder):
    """Keeps the journal of a run, leaves notes of failed images in the error tree, sends rows, deletes finished inputs.

    Args:
        journal: journal of the run.
        resumption: decides which images are finished.
        places: the folders.
        options: options of the run.
        sender: sends the rows of finished images; None where there is no database.
        corrections: told of images that are finished, once the journal says so on the disk, and of those that failed;
            None where there is no store of corrections.
    """

    def __init__(
        self,
        journal: Journal,
        resumption: Resumption,
        places: Places,
        options: RecorderOptions,
        sender: Sender | None,
        corrections: CorrectedSource | None = None,
    ) -> None:
        super().__init__(known_failures(places.output))
        self._sender = sender
        self._n_rows = 0
        if sender is not None:
            with journal.outbox() as connection:
                outbox.retry_failed(connection)  # the table may have been mended since
        self._journal = journal
        self._resumption = resumption
        self._places = places
        self._options = options
        self._begun: dict[Path, Begun | None] = {}
        self._deletable: list[Paths] = []
        self._corrections = corrections
        self._drawn: list[str] = []

    def expect(self, keys: Iterable[str]) -> None:
        """Says how many images a changed configuration makes stale."""
        stale = [key for key in keys if self._journal.finished_otherwise(key)]
        corrected = sum(self._journal.corrected(key) is not None for key in stale)
        if len(stale) > corrected:
            count = len(stale) - corrected
            log.warning("The configuration or the model has changed: %d finished images are done again", count)
        if corrected:
            log.warning(
                "%d images were finished with corrected instances and another configuration: %s draws those again",
                corrected,
                command_line("redraw"),
            )

    def begin(self, paths: Paths) -> ResumeDecision:
        """Decides about an image, and notes that work on it begins. For the thread that reads ahead.

        Raises:
            UnreadableImage: the input image cannot be looked at.
            InstancesError, WriteError: as `Resumption.decide`.
            StorageError: the journal cannot be written.
        """
        self._begun[paths.source] = None
        try:
            begun = self._resumption.decide(paths)
        except OSError as error:
            raise UnreadableImage(f"the file cannot be read: {error.strerror or error}") from error
        if begun is None:
            del self._begun[paths.source]
        else:
            self._begun[paths.source] = begun
            self._journal.started(paths.key, begun.identity)
        return begun

    def record(self, outcome: Outcome) -> Iterable[ImageTask]:
        """Writes an outcome down; gives the deletions that are due."""
        if outcome.source == self._places.input:
            return ()
        paths = image_at(outcome.source, self._places)
        match outcome:
            case Done():
                self._note_done(paths, outcome)
                self._clear_error(paths)
                self._send_rows()
            case Failed():
                if not self._resumption.was_refused(paths):
                    if self._begun.get(outcome.source) is None:  # a folder, or an image that was not begun
                        self._journal.started(paths.key, None)
                    self._journal.failed(paths.key, outcome.stage, outcome.reason)
                self._leave_error(paths, outcome)
            case Skipped(finished=False):
                return ()
        self._begun.pop(outcome.source, None)
        self._note_corrections(paths.key, outcome)
        is_archived = paths.places is not self._places  # it was not in the input folder
        if not self._options.storage.delete_input or isinstance(outcome, Failed) or is_archived:
            return ()
        self._deletable.append(paths)
        return self._deletions() if len(self._deletable) >= _DELETE_BATCH else ()

    def _note_done(self, paths: Paths, done: Done) -> None:
        begun = self._begun[done.source]
        assert begun is not None  # or it would not be done
        fingerprint = begun.source.fingerprint
        instances: Mapping[str, str] | None = None
        if (sha256 := done.contents.get("instances")) is not None:
            is_saved = fingerprint.startswith(SAVED)
            others = {own: of for own, of in begun.instances.items() if of.startswith(SAVED) is not is_saved}
            instances = {**others, sha256: fingerprint}
        self._journal.done(
            paths.key,
            (*map(noted, expected_files(paths, self._options.files)), *begun.stays),
            done.objects or {},
            done.record,
            source=fingerprint,
            content=done.contents.get("input"),
            instances=instances,
        )

    def _note_corrections(self, key: str, outcome: Outcome) -> None:
        if self._corrections is None:
            return
        if isinstance(outcome, Failed):
            self._corrections.failed(key, outcome.reason)
        elif self._corrections.has_due(key):
            self._drawn.append(key)
            if len(self._drawn) >= _DRAWN_BATCH:
                self._commit()

    def _commit(self) -> None:
        """Writes the journal; only then are corrections drawn."""
        self._journal.commit()
        drawn, self._drawn = self._drawn, []
        if self._corrections is not None:
            self._corrections.finished(drawn)

    def close(self) -> Iterable[ImageTask]:
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
        if self._sender is not None and self._n_rows % self._options.rows_per_batch == 0:
            self._journal.commit()
            with self._journal.outbox() as connection:
                self._sender.send(connection)

    def _deletions(self) -> list[ImageTask]:
        self._commit()
        due, self._deletable = self._deletable, []
        files = self._options.files
        return [Task(Subject(p.source, "delete", is_follow_up=True), partial(delete_input, p, files)) for p in due]

    def _clear_error(self, paths: Paths) -> None:
        """An image that is finished now has no error any more; what is left of others stays."""
        name = paths.relative.name.encode("utf-8", "backslashreplace")
        for begin in (paths.relative.stem, paths.relative.name):
            note, record = (
                self._places.errors / paths.relative.with_name(begin + ending) for ending in (ERROR_NOTE, ERROR_RECORD)
            )
            with contextlib.suppress(OSError):
                content = note.read_bytes()
                if any(separator + name + b"\n" in content for separator in (b"/", b"\\")):
                    note.unlink()
                    record.unlink(missing_ok=True)

    def _leave_error(self, paths: Paths, failed: Failed) -> None:
        """Says in the error tree what went wrong. If that fails too, the log has it."""
        # What the walk kept back may have the name of another image but for its suffix.
        begin = paths.relative.name if failed.stage == "walk" else paths.relative.stem
        folder = (self._places.errors / paths.relative).parent
        files: list[tuple[Path, Callable[[], bytes]]] = [
            (
                folder / (begin + ERROR_NOTE),
                lambda: f"{failed.source}\n{failed.stage}\n{failed.reason}\n".encode("utf-8", "backslashreplace"),
            )
        ]
        if (record := failed.record) is not None:
            files.append((folder / (begin + ERROR_RECORD), lambda: record.encode("utf-8")))
        if self._options.run.copy_originals_to_error_folder and failed.source.is_file():
            files.append(
                (
                    self._places.errors / paths.relative,
                    partial(storage.read_input, failed.source, self._places.input, self._options.storage),
                )
            )
        try:
            storage.prepare_root(self._places.errors)
            for path, content in files:
                storage.write_atomically(path, content(), self._places.errors, self._options.storage)
        except (OSError, ImageError, StorageError) as error:
            log.warning("%s: no note could be left in the error folder: %s", failed.source, error)
