"""The journal for everybody but the run that writes it."""

import heapq
import itertools
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from anonymise.batch.journal.entries import Entry, Identity, State, files_from_text
from anonymise.batch.journal.file import (
    as_storage_errors,
    checked_version,
    connected,
    encoded,
    journal_file,
    journal_files,
)
from anonymise.batch.journal.shards import COLUMNS
from anonymise.core.errors import StorageError

__all__ = ["JournalReader", "entry_of"]

CHUNK = 1000
"""Rows that a reader takes at once; between chunks it holds no lock that a run would have to wait for."""


class JournalReader:
    """Looks into the journal of an output folder, with those of its shards, also while runs write to them.

    Raises:
        StorageError: there is no journal, or it cannot be read, is damaged, or is of a newer version of this program.
    """

    def __init__(self, output: Path) -> None:
        """Opens the journals of an output folder."""
        files = journal_files(output)
        if not files:
            raise StorageError(f"There is no journal {journal_file(output)}; no run has written to {output} yet (-o).")
        self._connections: dict[Path, sqlite3.Connection] = {}
        for file in files:
            with as_storage_errors(file):
                # A crash may have left half a transaction; SQLite undoes it when it may write, so it is not read-only.
                connection = connected(file)
                connection.execute("PRAGMA query_only = ON")
                if checked_version(connection, file) > 0:
                    self._connections[file] = connection
                    continue
                connection.close()
        if not self._connections:
            raise StorageError(f"The journal {files[0]} is empty; start a run, which fills it.")

    def __enter__(self) -> "JournalReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends looking."""
        for connection in self._connections.values():
            connection.close()

    def entry(self, relative: str) -> Entry | None:
        """What is known of an image; None if nothing is.

        Raises:
            StorageError: the file cannot be read or is damaged.
        """
        found = []
        for file, connection in self._connections.items():
            with as_storage_errors(file):
                found.append(entry_of(connection, relative))
        return max((entry for entry in found if entry is not None), key=lambda entry: entry.started, default=None)

    def entries(self, state: State | None = None) -> Iterator[Entry]:
        """What is known of all images, or of those in a state, by path.

        Raises:
            StorageError: the file cannot be read or is damaged.
        """
        if len(self._connections) == 1:
            (only,) = self._connections
            yield from self._entries(only, state)
            return
        # A shard knows what is new about an image that a run over the whole folder did before.
        ordered = heapq.merge(*map(self._entries, self._connections), key=lambda entry: encoded(entry.relative))
        for _, same in itertools.groupby(ordered, key=lambda entry: entry.relative):
            newest = max(same, key=lambda entry: entry.started)
            if state in (None, newest.state):
                yield newest

    def _entries(self, file: Path, state: State | None = None) -> Iterator[Entry]:
        query = (
            f"SELECT {COLUMNS} FROM image WHERE relative > CAST(:after AS TEXT) "  # noqa: S608
            f"AND (:state IS NULL OR state = :state) ORDER BY relative LIMIT {CHUNK}"
        )
        values = {"after": b"", "state": None if state is None else state.value}
        while True:
            with as_storage_errors(file):
                rows = self._connections[file].execute(query, values).fetchall()
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
        if len(self._connections) > 1:
            counted = Counter(entry.state for entry in self.entries())
            return {state: counted[state] for state in State}
        ((file, connection),) = self._connections.items()
        with as_storage_errors(file):
            rows = connection.execute("SELECT state, COUNT(*) FROM image GROUP BY state").fetchall()
        return {state: dict(rows).get(state.value, 0) for state in State}


def entry_of(connection: sqlite3.Connection, relative: str) -> Entry | None:
    """What a connection to the journal shows of an image; None if nothing is known."""
    query = f"SELECT {COLUMNS} FROM image WHERE relative = CAST(? AS TEXT)"  # noqa: S608
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
