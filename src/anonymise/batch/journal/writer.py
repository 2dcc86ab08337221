"""The journal of the run at work.

Changes are gathered in memory and written in batches, each in a transaction and on a connection of its own. A batch
that could not be written is simply written again, and a reader never waits longer than one batch takes. What a crash
can lose is the last batch; its images are done again.
"""

import json
import logging
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from anonymise.batch.journal.entries import SAVED, Entry, Identity, State, Written, files_from_text, files_to_text
from anonymise.batch.journal.file import as_storage_errors, connected, encoded, journal_file, prepare, while_reachable
from anonymise.batch.journal.reader import entry_of
from anonymise.batch.journal.shards import begin_shard, join_shards
from anonymise.batch.shards import Shard, state_folder
from anonymise.core.errors import StorageError
from anonymise.core.sources import CORRECTED, uncorrected
from anonymise.database import outbox

__all__ = ["Journal"]

log = logging.getLogger(__name__)

_T = TypeVar("_T")

# Paths are bound as bytes and cast: names that are not Unicode come from old disks, and SQLite does not mind.
_STARTED = """
INSERT INTO image (relative, size, mtime_ns, digest, state, attempts, started)
VALUES (CAST(:relative AS TEXT), :size, :mtime_ns, :digest, 'started', 1, :started)
ON CONFLICT (relative) DO UPDATE SET
    -- A batch that is written twice, because nobody could tell whether it had arrived, counts once.
    attempts = CASE WHEN digest = excluded.digest AND size IS excluded.size AND mtime_ns IS excluded.mtime_ns
                    THEN attempts + (started <> excluded.started) ELSE 1 END,
    size = excluded.size, mtime_ns = excluded.mtime_ns, digest = excluded.digest, state = excluded.state,
    -- What was written stays known, also where the work is interrupted: written, source and instances are kept.
    stage = NULL, reason = NULL, started = excluded.started, ended = NULL, objects = '{}'
"""
_DONE = """
UPDATE image SET state = 'finished', ended = :ended, written = CAST(:written AS TEXT), objects = :objects,
    source = :source, content = :content, instances = COALESCE(:instances, instances)
WHERE relative = CAST(:relative AS TEXT)
"""
_SEEN = """
UPDATE image SET size = :size, mtime_ns = :mtime_ns WHERE relative = CAST(:relative AS TEXT)
"""
_WROTE = """
UPDATE image SET written = CAST(:written AS TEXT) WHERE relative = CAST(:relative AS TEXT)
"""
_FAILED = """
UPDATE image SET state = 'failed', ended = :ended, stage = :stage, reason = CAST(:reason AS TEXT)
WHERE relative = CAST(:relative AS TEXT)
"""


class Journal:
    """The journal of the run that works on an output folder. There is one such run at a time (see `runlock`).

    Every method may be called from any thread.

    Attributes:
        has_corrections: whether an image was last finished with corrections of a store.

    Raises:
        StorageError: the file cannot be made or read, is damaged, or is of a newer version of this program.
    """

    def __init__(
        self,
        output: Path,
        digest: str,
        *,
        shard: Shard | None = None,
        source: str | None = None,
        usual: Sequence[Written] = (),
        batch_rows: int = 500,
        batch_seconds: float = 10.0,
        retry_seconds: float = 10.0,
        timeout_seconds: float = 60.0,
    ) -> None:
        """Opens the journal of a folder, or starts one.

        Args:
            output: the output folder, which exists.
            digest: fingerprint of the settings of this run; ASCII.
            shard: the part of the images that the run does, which has a journal of its own; None is all, and takes
                over what the journals of shards hold.
            source: fingerprint of the source of detections that all images have; None if each has its own.
            usual: the files that this run writes for each image. Images with others are remembered.
            batch_rows: changes that are written at the latest when there are so many of them,
            batch_seconds: or at the first change that comes so long after the last batch.
            retry_seconds: between attempts to write while the file is out of reach.
            timeout_seconds: after which the run stops if it stays so.
        """
        self._file = journal_file(output, shard)
        self._digest = digest
        self._source = source
        self._usual = files_to_text(usual)
        self._batch_rows = batch_rows
        self._batch_seconds = batch_seconds
        self._retry_seconds = retry_seconds
        self._timeout_seconds = timeout_seconds
        self._lock = threading.RLock()
        self._pending: list[tuple[str, dict[str, object]]] = []
        self._in_work: dict[str, Identity | None] = {}
        try:
            state_folder(output).mkdir(exist_ok=True)
            self._file.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise StorageError(f"The folder {self._file.parent} cannot be made: {error.strerror or error}") from error
        self._while_reachable(partial(prepare, self._file))
        self._while_reachable(partial(join_shards, output) if shard is None else partial(begin_shard, output, shard))
        # Hashes instead of paths: half a million images take 60 MB this way. Two paths with the same hash (in practice
        # there are none) would only mean that one of them is done again.
        self._finished: dict[int, int] = {}
        self._finished_otherwise: set[int] = set()
        self._corrected: dict[int, str] = {}
        self._written: dict[int, str] = {}
        self._roots: set[str] = set()
        self.has_corrections = False
        self._has_entries = False
        self._while_reachable(self._load)
        self._last_commit = time.monotonic()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.commit()
        except StorageError as second:
            if error is None:
                raise
            log.warning("%s", second)  # it would hide why the run ends

    def finished(self, relative: str, identity: Identity, source: str) -> bool:
        """Whether this very image was finished under this run's settings with these detections; looks at memory only.

        Args:
            relative: path below the input folder, with ``/``.
            identity: identity of the input image.
            source: fingerprint of where its detections come from.
        """
        return self._finished.get(hash(relative)) == _fingerprint(relative, identity, source)

    def may_be_finished(self, relative: str) -> bool:
        """Whether the image was finished under this run's settings, whatever its input and detections were."""
        return hash(relative) in self._finished

    def finished_otherwise(self, relative: str) -> bool:
        """Whether the image was last finished with other settings or another model, so that this run does it again."""
        return hash(relative) in self._finished_otherwise

    def corrected(self, relative: str) -> str | None:
        """The fingerprint of the corrections with which an image was last finished; None if it was with none."""
        return self._corrected.get(hash(relative))

    def written(self, relative: str) -> tuple[Written, ...] | None:
        """The files that runs wrote for an image, if they are others than this run's; None if not."""
        text = self._written.get(hash(relative))
        return None if text is None else files_from_text(text)

    def has_written_below(self, root: str) -> bool:
        """Whether an earlier run wrote files into the tree with this root."""
        return root in self._roots

    def started(self, relative: str, identity: Identity | None) -> None:
        """Work on an image begins, also once more.

        Args:
            relative: path below the input folder, with ``/``.
            identity: identity of the input image; None if it cannot even be looked at.

        Raises:
            StorageError: a batch was due and cannot be written.
        """
        with self._lock:
            self._finished.pop(hash(relative), None)
            self._finished_otherwise.discard(hash(relative))
            self._in_work[relative] = identity
            size, mtime_ns = identity or (None, None)
            self._change(_STARTED, relative, size=size, mtime_ns=mtime_ns, digest=self._digest, started=_utc_now())

    def seen(self, relative: str, identity: Identity, source: str) -> None:
        """A finished image is the same as before, though its file has another time.

        Raises:
            StorageError: a batch was due and cannot be written.
        """
        with self._lock:
            self._finished[hash(relative)] = _fingerprint(relative, identity, source)
            self._change(_SEEN, relative, size=identity.size, mtime_ns=identity.mtime_ns)

    def done(
        self,
        relative: str,
        written: Sequence[Written],
        objects: Mapping[str, int],
        record: str | None = None,
        *,
        source: str = "",
        content: str | None = None,
        instances: Mapping[str, str] | None = None,
    ) -> None:
        """A started image is finished: all its files are on disk.

        Args:
            relative: path below the input folder, with ``/``.
            written: its files, and those that earlier runs wrote and that stay.
            objects: name → number of objects that were found in it.
            record: its record as JSON text if that is to become a row of the database; it goes to the outbox in the
                same transaction.
            source: fingerprint of where its detections came from.
            content: what its files depend on of its input.
            instances: as in `Entry`; None where no saved instances were written.

        Raises:
            StorageError: a batch was due and cannot be written.
        """
        with self._lock:
            identity = self._in_work.pop(relative)
            self._finished[hash(relative)] = 0 if identity is None else _fingerprint(relative, identity, source)
            self._note_corrected(hash(relative), source)
            text = self._note_written(hash(relative), written)
            if record is not None:
                self._pending.append((outbox.PUT, outbox.put_values(relative, record)))
            self._change(
                _DONE,
                relative,
                ended=_utc_now(),
                written=text,
                objects=json.dumps(objects),
                source=source,
                content=content,
                instances=None if instances is None else json.dumps(dict(instances)),
            )

    def wrote(self, relative: str, written: Sequence[Written]) -> None:
        """The files of an image, where something else than finishing it wrote or removed some.

        Raises:
            StorageError: a batch was due and cannot be written.
        """
        with self._lock:
            self._change(_WROTE, relative, written=self._note_written(hash(relative), written))

    def _note_written(self, key: int, written: Sequence[Written]) -> str:
        text = files_to_text(written)
        if text == self._usual:
            self._written.pop(key, None)
        else:
            self._written[key] = sys.intern(text)
        return text

    def _note_corrected(self, key: int, source: str) -> None:
        if source.startswith(SAVED):
            self._corrected[key] = source
        else:
            self._corrected.pop(key, None)

    def entry(self, relative: str) -> Entry | None:
        """What earlier runs and the batches of this one say of an image; None if nothing is known.

        Raises:
            StorageError: the file stays out of reach or is damaged.
        """
        return self._while_reachable(partial(self._read, relative)) if self._has_entries else None

    def _read(self, relative: str) -> Entry | None:
        self._check_file()
        with closing(connected(self._file)) as connection:
            return entry_of(connection, relative)

    def failed(self, relative: str, stage: str, reason: str) -> None:
        """A started image could not be finished.

        Raises:
            StorageError: a batch was due and cannot be written.
        """
        with self._lock:
            del self._in_work[relative]
            self._change(_FAILED, relative, ended=_utc_now(), stage=stage, reason=encoded(reason))

    @contextmanager
    def outbox(self) -> Iterator[sqlite3.Connection]:
        """A connection for the functions of `outbox`; what is pending is not in it before `commit`.

        Raises:
            StorageError: the file is out of reach or damaged.
        """
        with as_storage_errors(self._file), closing(connected(self._file)) as connection:
            yield connection

    def commit(self) -> None:
        """Writes what is pending; afterwards it is on the disk. To be called before anything that cannot be undone.

        Raises:
            StorageError: the file stays out of reach, the disk is full or read-only, or the file is damaged. The
                changes stay pending.
        """
        with self._lock:
            if self._pending:
                self._while_reachable(self._write)
                self._pending.clear()
            self._last_commit = time.monotonic()

    def _change(self, statement: str, relative: str, **values: object) -> None:
        self._pending.append((statement, {"relative": encoded(relative), **values}))
        due = self._last_commit + self._batch_seconds
        if len(self._pending) >= self._batch_rows or time.monotonic() >= due:
            self.commit()

    def _write(self) -> None:
        self._check_file()
        with closing(connected(self._file)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement, values in self._pending:
                connection.execute(statement, values)
            connection.execute("COMMIT")

    def _check_file(self) -> None:
        if not self._file.is_file():  # SQLite would start an empty one
            raise sqlite3.OperationalError("the file is gone")

    def _while_reachable(self, operation: Callable[[], _T]) -> _T:
        return while_reachable(
            self._file, operation, retry_seconds=self._retry_seconds, timeout_seconds=self._timeout_seconds
        )

    def _load(self) -> None:
        """Fills the memory with what earlier runs did."""
        query = "SELECT relative, size, mtime_ns, digest, state, source, CAST(written AS TEXT) FROM image"
        usual = sys.intern(self._usual)
        distinct: dict[str, str] = {}
        with closing(connected(self._file)) as connection:
            for relative, size, mtime_ns, digest, state, source, written in connection.execute(query):
                key = hash(relative)
                if written not in ("[]", usual):
                    self._written[key] = distinct.setdefault(written, written)
                else:
                    distinct.setdefault(written, written)
                source = source or ""
                self._note_corrected(key, source)
                self.has_corrections |= CORRECTED in source
                if state != State.FINISHED.value or size is None:
                    continue
                if digest == self._digest and (self._source in (None, uncorrected(source)) or key in self._corrected):
                    self._finished[key] = _fingerprint(relative, Identity(size, mtime_ns), source)
                else:
                    self._finished_otherwise.add(key)
        self._has_entries = bool(distinct)
        self._roots = {file.root for text in distinct for file in files_from_text(text) if file.root is not None}


def _fingerprint(relative: str, identity: Identity, source: str) -> int:
    return hash((relative, identity, source))


def _utc_now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")
