"""The journal for everybody but the run that writes it."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from anonymise.batch.journal.entries import Entry, Identity, State, files_from_text
from anonymise.batch.journal.file import (
    as_storage_errors,
    checked_version,
    connected,
    encoded,
    has_journal,
    journal_file,
)
from anonymise.core.errors import StorageError

__all__ = ["JournalReader", "entry_of"]

_COLUMNS = (
    "relative, size, mtime_ns, digest, state, attempts, stage, reason, started, ended, written, objects, source, "
    "content, instances"
)

CHUNK = 1000
"""Rows that a reader takes at once; between chunks it holds no lock that a run would have to wait for."""


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
        with as_storage_errors(self._file):
            # A crash may have left half a transaction; SQLite undoes it when it may write, so this is not read-only.
            self._connection = connected(self._file)
            self._connection.execute("PRAGMA query_only = ON")
            if checked_version(self._connection, self._file) == 0:
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
        with as_storage_errors(self._file):
            return entry_of(self._connection, relative)

    def entries(self, state: State | None = None) -> Iterator[Entry]:
        """What is known of all images, or of those in a state, by path.

        Raises:
            StorageError: the file cannot be read or is damaged.
        """
        query = (
            f"SELECT {_COLUMNS} FROM image WHERE relative > CAST(:after AS TEXT) "  # noqa: S608
            f"AND (:state IS NULL OR state = :state) ORDER BY relative LIMIT {CHUNK}"
        )
        values = {"after": b"", "state": None if state is None else state.value}
        while True:
            with as_storage_errors(self._file):
                rows = self._connection.execute(query, values).fetchall()
                entries = [_entry(row) for row in rows]
            yield from entries
            if len(rows) < CHUNK:
                return
            values["after"] = encoded(rows[-1][0])

    def counts(self) -> dict[State, int]:
        """State → number of images in it.

        Raises:
            StorageError: the file cannot be read or is damaged.
        """
        with as_storage_errors(self._file):
            rows = self._connection.execute("SELECT state, COUNT(*) FROM image GROUP BY state").fetchall()
        return {state: dict(rows).get(state.value, 0) for state in State}


def entry_of(connection: sqlite3.Connection, relative: str) -> Entry | None:
    """What a connection to the journal shows of an image; None if nothing is known."""
    query = f"SELECT {_COLUMNS} FROM image WHERE relative = CAST(? AS TEXT)"  # noqa: S608
    row = connection.execute(query, (encoded(relative),)).fetchone()
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
        written=files_from_text(written),
        objects=json.loads(objects),
        source=source,
        content=content,
        instances=json.loads(instances),
    )
