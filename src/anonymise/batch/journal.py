"""What happened to every image of a run, in a SQLite file under the output folder. Not: images, files, locks.

The process that runs the job writes through `Journal`; anyone may look on through `JournalReader`.

Changes are gathered in memory and written in batches, each in a transaction and on a connection of its own. So nothing
is held open on a share that may go away and come back, a batch that could not be written is simply written again, and a
reader never waits longer than one batch takes. What a crash can lose is the last batch; its images are done again.

The file keeps SQLite's rollback journal: write-ahead logging needs memory that all users of the file share, which there
is not between the machines of a network share (https://www.sqlite.org/wal.html, "Disadvantages"). The rollback journal
is cut to nothing after each transaction rather than deleted, because deleting is slow on shares and sometimes fails.

One long module, because the schema, its writer and its reader change together.
"""

import json
import logging
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from anonymise.core.errors import StorageError
from anonymise.database import outbox

__all__ = [
    "SAVED",
    "Entry",
    "Identity",
    "Journal",
    "JournalReader",
    "Standing",
    "State",
    "Written",
    "has_journal",
    "journal_file",
]

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_APPLICATION_ID = 0x414E4F4E
"""Marks the file as ours; "ANON" in ASCII."""

SAVED = "saved:"
"""How the fingerprint of a source of detections begins that is a file of instances which no model wrote."""

_SCHEMA: tuple[tuple[str, ...], ...] = (
    (
        # Clustered by path, the order of the walk: neighbours are written, and later read, together.
        """CREATE TABLE image (
            relative TEXT PRIMARY KEY,
            size INTEGER,
            mtime_ns INTEGER,
            digest TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('started', 'finished', 'failed')),
            attempts INTEGER NOT NULL,
            stage TEXT,
            reason TEXT,
            started TEXT NOT NULL,
            ended TEXT,
            written TEXT NOT NULL DEFAULT '[]',
            objects TEXT NOT NULL DEFAULT '{}'
        ) WITHOUT ROWID""",
    ),
    outbox.SCHEMA,
    (
        "ALTER TABLE image ADD COLUMN source TEXT",
        "ALTER TABLE image ADD COLUMN content TEXT",
        "ALTER TABLE image ADD COLUMN instances TEXT NOT NULL DEFAULT '{}'",
        # Before, a file was noted with its name; the kind gives the name, and is the same text for all images.
        "UPDATE image SET written = CAST(as_kinds(CAST(written AS BLOB)) AS TEXT)",
    ),
)
"""Element n brings a file from version n to n + 1. A new version is a new element; those that are out stay as they are.

Other tables about an image, such as rows that wait for a database, refer to ``image(relative)``; their changes join
`Journal._pending` beside the image's own, and so share its transaction.
"""

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
_COLUMNS = (
    "relative, size, mtime_ns, digest, state, attempts, stage, reason, started, ended, written, objects, source, "
    "content, instances"
)

_BUSY_SECONDS = 10.0
"""How long SQLite itself waits for another user of the file, before this module's own waiting begins."""

# By the text, because Python 3.10 does not tell SQLite's error codes.
_STOPS_THE_RUN = {"is full": "the disk is full", "readonly": "the file or its disk is read-only"}

_CHUNK = 1000
"""Rows that a reader takes at once; between chunks it holds no lock that a run would have to wait for."""


class State(Enum):
    """Of one image in the journal."""

    STARTED = "started"
    FINISHED = "finished"
    FAILED = "failed"


class Standing(Enum):
    """What the journal's entry of an image means to a run with a certain configuration, on the image as it is now."""

    FINISHED = "finished"
    CHANGED_INPUT = "finished, but the input has changed since"
    OTHER_CONFIGURATION = "finished with another configuration or model"
    FAILED = "failed"
    UNFINISHED = "started, but not finished"
    UNKNOWN = "not in the journal"


class Identity(NamedTuple):
    """What tells, without reading it, that an input image is the one that was seen before; its name is the key.

    Attributes:
        size: in bytes.
        mtime_ns: time of the last change, in nanoseconds since the epoch, of 64 bits with sign.
    """

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Identity":
        """The identity of a file. A time before 1677 or after 2262 becomes the first or the last of these years."""
        return cls(status.st_size, max(-(1 << 63), min((1 << 63) - 1, status.st_mtime_ns)))


class Written(NamedTuple):
    """A file that was written for an image. What kind it is gives its name.

    Attributes:
        place: the tree that it stands in.
        kind: what it is.
        root: absolute path of the tree's root; None is the output folder, or, in entries of earlier versions, unknown.
    """

    place: str
    kind: str
    root: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """What the journal knows of one image.

    Attributes:
        relative: path below the input folder, with ``/``.
        identity: of the input image when it was last started; None where it could not even be looked at.
        digest: fingerprint of the settings of that time.
        state: of the image.
        attempts: how often it was started with this identity and digest.
        stage: in which it failed.
        reason: why it failed.
        started: when it was last started; ISO 8601 in UTC.
        ended: when it was finished or failed.
        written: the files that runs wrote for the image and did not remove.
        objects: name → number of objects found in a finished image.
        source: fingerprint of where the detections came from when the image was last finished; None before that.
        content: what the image's files depended on of its input then.
        instances: SHA-256 of each file of saved instances that runs wrote → fingerprint of the source of its content.
    """

    relative: str
    identity: Identity | None
    digest: str
    state: State
    attempts: int
    stage: str | None
    reason: str | None
    started: str
    ended: str | None
    written: tuple[Written, ...]
    objects: Mapping[str, int]
    source: str | None = None
    content: str | None = None
    instances: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_corrected(self) -> bool:
        """Whether the image was last finished with saved instances that no model wrote."""
        return self.source is not None and self.source.startswith(SAVED)

    def standing(self, identity: Identity, digest: str, source: str | None = None) -> Standing:
        """What this entry means to a run, for an input that is now ``identity``.

        Args:
            identity: of the input image.
            digest: fingerprint of the run's settings.
            source: fingerprint of the run's model; None if that is not known. Corrections take the model's place.
        """
        if self.state is State.STARTED:
            return Standing.UNFINISHED
        if self.state is State.FAILED:
            return Standing.FAILED
        if self.identity != identity:
            return Standing.CHANGED_INPUT
        is_same = self.digest == digest and (source in (None, self.source) or self.is_corrected)
        return Standing.FINISHED if is_same else Standing.OTHER_CONFIGURATION


def journal_file(output: Path) -> Path:
    """Where the journal of an output folder stands."""
    return output / ".anonymise" / "journal.sqlite"


def has_journal(output: Path) -> bool:
    """Whether an output folder has a journal, be it readable or not.

    Raises:
        StorageError: nobody can tell, because the folder cannot be looked into.
    """
    file = journal_file(output)
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StorageError(f"The journal {file} cannot be read: {error.strerror or error}") from error
    return True


class Journal:
    """The journal of the run that works on an output folder; of which there is one at a time (see `runlock`).

    Every method may be called from any thread.

    Raises:
        StorageError: the file cannot be made or read, is damaged, or is of a newer version of this program.
    """

    def __init__(
        self,
        output: Path,
        digest: str,
        *,
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
            source: fingerprint of the source of detections that all images have; None if each has its own.
            usual: the files that this run writes for each image. Images with others are remembered.
            batch_rows: changes that are written at the latest when there are so many of them,
            batch_seconds: or at the first change that comes so long after the last batch.
            retry_seconds: between attempts to write while the file is out of reach.
            timeout_seconds: after which the run stops if it stays so.
        """
        self._file = journal_file(output)
        self._digest = digest
        self._source = source
        self._usual = _dumped(usual)
        self._batch_rows = batch_rows
        self._batch_seconds = batch_seconds
        self._retry_seconds = retry_seconds
        self._timeout_seconds = timeout_seconds
        self._lock = threading.RLock()
        self._pending: list[tuple[str, dict[str, object]]] = []
        self._in_work: dict[str, Identity | None] = {}
        try:
            self._file.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise StorageError(f"The folder {self._file.parent} cannot be made: {error.strerror or error}") from error
        self._while_reachable(self._prepare)
        # Hashes instead of paths: half a million images take 60 MB this way. Two paths with the same hash (in practice
        # there are none) would only mean that one of them is done again.
        self._finished: dict[int, int] = {}
        self._finished_otherwise: set[int] = set()
        self._corrected: dict[int, str] = {}
        self._written: dict[int, str] = {}
        self._roots: set[str] = set()
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
            identity: of the input image.
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
        return None if text is None else _loaded(text)

    def has_written_below(self, root: str) -> bool:
        """Whether an earlier run wrote files into the tree with this root."""
        return root in self._roots

    def started(self, relative: str, identity: Identity | None) -> None:
        """Work on an image begins, also once more.

        Args:
            relative: path below the input folder, with ``/``.
            identity: of the input image; None if it cannot even be looked at.

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
        text = _dumped(written)
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
        with closing(_connected(self._file)) as connection:
            return _entry_of(connection, relative)

    def failed(self, relative: str, stage: str, reason: str) -> None:
        """A started image could not be finished.

        Raises:
            StorageError: a batch was due and cannot be written.
        """
        with self._lock:
            del self._in_work[relative]
            self._change(_FAILED, relative, ended=_utc_now(), stage=stage, reason=_encoded(reason))

    @contextmanager
    def outbox(self) -> Iterator[sqlite3.Connection]:
        """A connection for the functions of `outbox`; what is pending is not in it before `commit`.

        Raises:
            StorageError: the file is out of reach or damaged.
        """
        with _as_storage_errors(self._file), closing(_connected(self._file)) as connection:
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
        self._pending.append((statement, {"relative": _encoded(relative), **values}))
        due = self._last_commit + self._batch_seconds
        if len(self._pending) >= self._batch_rows or time.monotonic() >= due:
            self.commit()

    def _write(self) -> None:
        self._check_file()
        with closing(_connected(self._file)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement, values in self._pending:
                connection.execute(statement, values)
            connection.execute("COMMIT")

    def _check_file(self) -> None:
        if not self._file.is_file():  # SQLite would start an empty one
            raise sqlite3.OperationalError("the file is gone")

    def _prepare(self) -> None:
        """Makes the file, or brings it to the current version."""
        with closing(_connected(self._file)) as connection:
            version = _checked_version(connection, self._file)
            if version == len(_SCHEMA):
                return
            connection.create_function("as_kinds", 1, _as_kinds, deterministic=True)
            connection.execute("BEGIN EXCLUSIVE")
            for statements in _SCHEMA[version:]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {len(_SCHEMA)}")
            connection.execute("COMMIT")

    def _load(self) -> None:
        """Fills the memory with what earlier runs did."""
        query = "SELECT relative, size, mtime_ns, digest, state, source, CAST(written AS TEXT) FROM image"
        usual = sys.intern(self._usual)
        distinct: dict[str, str] = {}
        with closing(_connected(self._file)) as connection:
            for relative, size, mtime_ns, digest, state, source, written in connection.execute(query):
                key = hash(relative)
                if written not in ("[]", usual):
                    self._written[key] = distinct.setdefault(written, written)
                else:
                    distinct.setdefault(written, written)
                self._note_corrected(key, source or "")
                if state != State.FINISHED.value or size is None:
                    continue
                if digest == self._digest and (self._source in (None, source) or key in self._corrected):
                    self._finished[key] = _fingerprint(relative, Identity(size, mtime_ns), source or "")
                else:
                    self._finished_otherwise.add(key)
        self._has_entries = bool(distinct)
        self._roots = {file.root for text in distinct for file in _loaded(text) if file.root is not None}

    def _while_reachable(self, operation: Callable[[], _T]) -> _T:
        """Does ``operation``; while the file is out of reach, waits and tries again.

        Raises:
            StorageError: it stayed out of reach, or waiting cannot help.
        """
        deadline: float | None = None
        while True:
            try:
                return operation()
            except sqlite3.OperationalError as error:
                for text, reason in _STOPS_THE_RUN.items():
                    if text in str(error):
                        raise StorageError(f"The journal {self._file} cannot be written: {reason}.") from error
                if (fault := _why_not_opened(self._file)) is not None:
                    raise StorageError(f"The journal {self._file} cannot be read or written: {fault}") from error
                now = time.monotonic()
                if deadline is None:
                    deadline = now + self._timeout_seconds
                    log.warning("The journal %s is out of reach (%s); waiting for it", self._file, error)
                if now >= deadline:
                    reason = _out_of_reach(self._file, error)
                    raise StorageError(
                        f"{reason} (since {self._timeout_seconds:g} s: file_access_timeout_seconds)"
                    ) from error
                time.sleep(min(self._retry_seconds, max(0.01, deadline - now)))
            except (sqlite3.DatabaseError, ValueError, TypeError) as error:
                raise StorageError(_damaged(self._file, error)) from error


class JournalReader:
    """Looks into the journal of an output folder, also while a run writes to it.

    Raises:
        StorageError: there is no journal, or it cannot be read, is damaged, or is of a newer version of this program.
    """

    def __init__(self, output: Path) -> None:
        """Opens the journal of an output folder."""
        self._file = journal_file(output)
        if not has_journal(output):
            raise StorageError(f"There is no journal {self._file}; no run has written to {output} yet (-o).")
        with _as_storage_errors(self._file):
            # A crash may have left half a transaction; SQLite undoes it when it may write, so this is not read-only.
            self._connection = _connected(self._file)
            self._connection.execute("PRAGMA query_only = ON")
            if _checked_version(self._connection, self._file) == 0:
                raise StorageError(f"The journal {self._file} is empty; start a run, which fills it.")

    def __enter__(self) -> "JournalReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends looking."""
        self._connection.close()

    def entry(self, relative: str) -> Entry | None:
        """What is known of an image; None if nothing is.

        Raises:
            StorageError: the file cannot be read or is damaged.
        """
        with _as_storage_errors(self._file):
            return _entry_of(self._connection, relative)

    def entries(self, state: State | None = None) -> Iterator[Entry]:
        """What is known of all images, or of those in a state, by path.

        Raises:
            StorageError: the file cannot be read or is damaged.
        """
        query = (
            f"SELECT {_COLUMNS} FROM image WHERE relative > CAST(:after AS TEXT) "  # noqa: S608
            f"AND (:state IS NULL OR state = :state) ORDER BY relative LIMIT {_CHUNK}"
        )
        values = {"after": b"", "state": None if state is None else state.value}
        while True:
            with _as_storage_errors(self._file):
                rows = self._connection.execute(query, values).fetchall()
                entries = [_entry(row) for row in rows]
            yield from entries
            if len(rows) < _CHUNK:
                return
            values["after"] = _encoded(rows[-1][0])

    def counts(self) -> dict[State, int]:
        """State → number of images in it.

        Raises:
            StorageError: the file cannot be read or is damaged.
        """
        with _as_storage_errors(self._file):
            rows = self._connection.execute("SELECT state, COUNT(*) FROM image GROUP BY state").fetchall()
        return {state: dict(rows).get(state.value, 0) for state in State}


def _connected(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        connection.text_factory = _decoded
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _checked_version(connection: sqlite3.Connection, file: Path) -> int:
    """The version of a journal's schema; 0 is an empty file.

    Raises:
        StorageError: this program cannot read it.
    """
    application_id: int = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    is_empty: bool = connection.execute("SELECT COUNT(*) = 0 FROM sqlite_master").fetchone()[0]
    if application_id != _APPLICATION_ID and not is_empty:
        raise StorageError(f"{file} is another program's database, not a journal; move it away. {_WITHOUT_JOURNAL}")
    if version > len(_SCHEMA):
        raise StorageError(
            f"The journal {file} was written by a newer version of this program (format {version}, this one knows "
            f"{len(_SCHEMA)}); update the program, or choose another output folder (-o)."
        )
    return version


@contextmanager
def _as_storage_errors(file: Path) -> Iterator[None]:
    """Turns SQLite's errors into ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StorageError(_out_of_reach(file, error)) from error
    except (sqlite3.DatabaseError, ValueError, TypeError) as error:  # the latter where a value makes no sense
        raise StorageError(_damaged(file, error)) from error


_WITHOUT_JOURNAL = "Without a journal a run does all images again."


def _damaged(file: Path, error: Exception) -> str:
    return (
        f"The journal {file} is damaged ({error}); put back a copy from a backup, or move it away together with "
        f"{file.name}-journal. {_WITHOUT_JOURNAL}"
    )


def _why_not_opened(file: Path) -> str | None:
    """Why a file that is there cannot be opened, so that it is no use to wait for it; None if it can, or is gone."""
    try:
        with file.open("r+b"):
            return None
    except IsADirectoryError as error:
        return error.strerror
    except PermissionError as error:
        # On Windows also while somebody looks at the file, and where it is a folder.
        return error.strerror if sys.platform != "win32" or file.is_dir() else None
    except OSError:
        return None


def _out_of_reach(file: Path, error: sqlite3.OperationalError) -> str:
    hint = (
        "; another program holds it, or the share cannot lock parts of files (a CIFS share on Linux: mount it with "
        "the option nobrl)"
        if "locked" in str(error)
        else ""
    )
    return f"The journal {file} cannot be read or written: {error}{hint}"


def _fingerprint(relative: str, identity: Identity, source: str) -> int:
    return hash((relative, identity, source))


def _entry_of(connection: sqlite3.Connection, relative: str) -> Entry | None:
    query = f"SELECT {_COLUMNS} FROM image WHERE relative = CAST(? AS TEXT)"  # noqa: S608
    row = connection.execute(query, (_encoded(relative),)).fetchone()
    return None if row is None else _entry(row)


def _entry(row: tuple[Any, ...]) -> Entry:
    relative, size, mtime_ns, digest, state, attempts, stage, reason, started, ended, written, objects = row[:12]
    source, content, instances = row[12:]
    return Entry(
        relative=relative,
        identity=None if size is None else Identity(size, mtime_ns),
        digest=digest,
        state=State(state),
        attempts=attempts,
        stage=stage,
        reason=reason,
        started=started,
        ended=ended,
        written=_loaded(written),
        objects=json.loads(objects),
        source=source,
        content=content,
        instances=json.loads(instances),
    )


def _dumped(written: Iterable[Written]) -> str:
    return json.dumps(sorted(set(written), key=lambda file: (file.place, file.kind, file.root or "")))


def _loaded(text: str) -> tuple[Written, ...]:
    return tuple(Written(*file) for file in json.loads(text))


_KIND_OF_ENDING = {"_instances.json": "instances", ".json": "json", "_preview.jpg": "preview", "_mask.png": "mask"}
"""How earlier versions named files in the journal → what kind of file it is."""


def _as_kinds(written: bytes) -> bytes:
    """The files of an image as earlier versions noted them (tree, path), as they are noted now (tree, kind)."""
    files = [
        Written(
            place,
            "colmap_mask"
            if place == "colmap"
            else next((kind for ending, kind in _KIND_OF_ENDING.items() if name.endswith(ending)), "image"),
        )
        for place, name in json.loads(_decoded(written))
    ]
    return _dumped(files).encode("ascii")


def _utc_now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", sys.getfilesystemencodeerrors())


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", sys.getfilesystemencodeerrors())
