"""What the main job writes down beside its results: the journal, the error tree, rows, and what may be deleted.

An input image is deleted only after the journal says, on the disk, that it is finished; its row begins to wait in
the same transaction. A finished image's files are exactly those expected: what an earlier run wrote besides is removed.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from anonymise.batch import storage
from anonymise.batch.jobs import delete_input
from anonymise.batch.journal import SAVED, Entry, Identity, Journal, JournalReader, State, Written, has_journal
from anonymise.batch.outcomes import Done, Failed, Outcome, Skipped
from anonymise.batch.paths import ERROR_NOTE, ERROR_RECORD, Paths, Places, all_files, expected_files
from anonymise.batch.runner import Book, Task
from anonymise.batch.tracked import is_same_file, is_same_input, noted, own_instances, tracked_path
from anonymise.config import Config, FileKind
from anonymise.core.errors import DatabaseUnavailable, ImageError, InstancesError, StorageError, WriteError
from anonymise.core.resources import command_line
from anonymise.core.sources import DetectionSource, Source
from anonymise.database import outbox
from anonymise.database.sender import Sender

__all__ = ["Begun", "FilesBook", "JournalBook", "known_failures"]

log = logging.getLogger(__name__)

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


@dataclass(frozen=True, slots=True)
class Begun:
    """An image on which work begins.

    Attributes:
        identity: of the input image.
        source: where its detections come from.
        instances: SHA-256 of each file of saved instances that runs wrote for it → fingerprint of their source.
        stays: files of earlier runs that are not for this run to remove.
    """

    identity: Identity
    source: Source
    instances: Mapping[str, str] = field(default_factory=dict)
    stays: tuple[Written, ...] = ()


class FilesBook(Book):
    """Notes in the journal what a command wrote that finishes no image, so that it is known as a file of a run.

    Args:
        journal: of the output folder.
        kind: what is written.
        config: the configuration.
        places: the folders.
    """

    def __init__(self, journal: Journal, kind: FileKind, config: Config, places: Places) -> None:
        super().__init__(known_failures(places.output))
        self._journal = journal
        self._kind = kind
        self._config = config
        self._places = places

    def note(self, outcome: Outcome) -> Iterable[Task]:
        """Adds the files to those of the image."""
        if isinstance(outcome, Done):
            paths = Paths(outcome.source.relative_to(self._places.input), self._places)
            files = (file for file in expected_files(paths, self._config.files) if file.kind is self._kind)
            earlier = set(self._journal.written(paths.key) or ())
            if earlier and (written := earlier.union(map(noted, files))) != earlier:
                self._journal.wrote(paths.key, tuple(written))
        return ()

    def close(self) -> Iterable[Task]:
        """Writes the journal."""
        self._journal.commit()
        return ()


class JournalBook(Book):
    """Keeps the journal of a run, leaves notes of failed images in the error tree, sends rows, deletes finished inputs.

    Args:
        journal: of the run.
        config: the configuration.
        places: the folders.
        sender: sends the rows of finished images; None where there is no database.
        detections: says what must be hidden in an image.
    """

    def __init__(
        self,
        journal: Journal,
        config: Config,
        places: Places,
        sender: Sender | None,
        detections: DetectionSource,
    ) -> None:
        super().__init__(known_failures(places.output))
        self._sender = sender
        self._n_rows = 0
        if sender is not None:
            with journal.outbox() as connection:
                outbox.retry_failed(connection)  # the table may have been mended since
        self._journal = journal
        self._config = config
        self._places = places
        self._detections = detections
        self._begun: dict[Path, Begun | None] = {}
        self._refused: set[Path] = set()
        self._deletable: list[Paths] = []

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

    def begin(self, paths: Paths) -> Begun | None:
        """Notes that work on an image begins; None if it was finished before and all its files are there.

        Raises:
            OSError: the input image cannot be looked at.
            InstancesError: its saved instances cannot be read, or a model would undo its corrections.
            WriteError: a file of an earlier run that is to go cannot be removed.
        """
        self._begun[paths.source] = None
        status = paths.source.stat()
        identity = Identity.of(status)
        source = self._detections.of(paths.key)
        if source.saved is not None and (entry := self._journal.entry(paths.key)) is not None:
            # What a model found, as a run saved it, counts as found by the model.
            source = replace(source, fingerprint=entry.instances.get(source.saved, source.fingerprint))
        if not self._config.run.force_remask and self._is_finished(paths, identity, source):
            earlier, stays = self._journal.written(paths.key), self._tidied(paths, source, None)
            now = {*map(noted, expected_files(paths, self._config.files)), *stays}
            if earlier is not None and now != set(earlier):
                self._journal.wrote(paths.key, tuple(now))
            del self._begun[paths.source]
            return None
        entry = self._journal.entry(paths.key)
        if source.saved is None:
            self._keep_corrections(paths, entry)
        stays = self._tidied(paths, source, entry)
        begun = Begun(identity, source, {} if entry is None else own_instances(paths, entry), stays)
        self._begun[paths.source] = begun
        self._journal.started(paths.key, identity)
        return begun

    def _is_finished(self, paths: Paths, identity: Identity, source: Source) -> bool:
        """Whether all files of an image are there, made with these settings and detections, or with corrections."""
        fingerprints = [source.fingerprint]
        if source.saved is None and (corrections := self._journal.corrected(paths.key)) is not None:
            fingerprints.append(corrections)
        is_known = any(self._journal.finished(paths.key, identity, fingerprint) for fingerprint in fingerprints)
        if not is_known and self._journal.may_be_finished(paths.key):
            # The same picture with another time, such as its copy in the archive.
            entry = self._journal.entry(paths.key)
            is_known = (
                entry is not None and entry.source in fingerprints and is_same_input(entry, paths.source, identity)
            )
            if is_known and entry is not None and entry.source is not None:
                self._journal.seen(paths.key, identity, entry.source)
        return is_known and all(storage.is_written(file.path) for file in expected_files(paths, self._config.files))

    def _keep_corrections(self, paths: Paths, entry: Entry | None) -> None:
        """Makes sure that no model undoes what somebody corrected.

        Raises:
            InstancesError: it would.
        """
        if entry is None or not entry.is_corrected:
            return
        own = {sha256 for sha256, source in entry.instances.items() if not source.startswith(SAVED)}
        saved = (file.path for file in all_files(paths) if file.kind is FileKind.INSTANCES)
        corrections = [path for path in saved if storage.is_written(path) and storage.sha256_of(path) not in own]
        if corrections or not self._config.run.force_remask:
            self._refused.add(paths.source)
            where = f", which {corrections[0]} holds" if corrections else ""
            move = f"move {corrections[0].name} away and " if corrections else ""
            raise InstancesError(
                f"it was finished with corrected instances{where}; what a model finds would undo them. Draw them with "
                f"this configuration: {command_line('redraw')}. To give them up, {move}set force_remask: True"
            )

    def _tidied(self, paths: Paths, source: Source, entry: Entry | None) -> tuple[Written, ...]:
        """Removes the files of earlier runs that this run does not expect; gives those that are not for it to remove.

        Raises:
            WriteError: a file cannot be removed.
        """
        earlier = self._journal.written(paths.key)
        if earlier is None:
            return ()
        expected = expected_files(paths, self._config.files)
        stays = []
        for file in set(earlier).difference(map(noted, expected)):
            path = tracked_path(paths, file)
            if path is not None and file.kind == FileKind.INSTANCES.value:
                entry = entry or self._journal.entry(paths.key)
                is_own = (
                    entry is not None
                    and storage.is_written(path)
                    and storage.sha256_of(path) in own_instances(paths, entry)
                )
                path = path if is_own and source.saved is None else None
            if path is None:
                stays.append(file)
            elif os.path.lexists(path) and not any(is_same_file(path, other.path) for other in expected):
                try:
                    path.unlink()
                except OSError as error:
                    reason = error.strerror or error
                    raise WriteError(f"{path}, of an earlier run, is to go and cannot be removed: {reason}") from error
                log.info("%s: removed, because the configuration no longer asks for it", path)
        return tuple(stays)

    def note(self, outcome: Outcome) -> Iterable[Task]:
        """Writes an outcome down; gives the deletions that are due."""
        if outcome.source == self._places.input:
            return ()
        paths = Paths(outcome.source.relative_to(self._places.input), self._places)
        match outcome:
            case Done():
                self._note_done(paths, outcome)
                self._clear_error(paths)
                self._send_rows()
            case Failed():
                if outcome.source in self._refused:  # the journal says what the published files are
                    self._refused.discard(outcome.source)
                else:
                    if self._begun.get(outcome.source) is None:  # a folder, or an image that was not begun
                        self._journal.started(paths.key, None)
                    self._journal.failed(paths.key, outcome.stage, outcome.reason)
                self._leave_error(paths, outcome)
            case Skipped(finished=False):
                return ()
        self._begun.pop(outcome.source, None)
        if not self._config.storage.delete_input or isinstance(outcome, Failed):
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
            (*map(noted, expected_files(paths, self._config.files)), *begun.stays),
            done.objects or {},
            done.record,
            source=fingerprint,
            content=done.contents.get("input"),
            instances=instances,
        )

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
