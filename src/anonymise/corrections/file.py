"""The SQLite file of the store: its schema, its transactions, and what is said where it cannot be used."""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from typing_extensions import Self

from anonymise.core.errors import StorageError, UsageError

__all__ = ["BUSY_SECONDS", "StoreFile"]

_APPLICATION_ID, _VERSION = 0x414E4F43, 1  # "ANOC"
BUSY_SECONDS = 30.0
"""How long a process waits for another one that is writing."""

_SCHEMA = (
    """CREATE TABLE correction (
        id TEXT PRIMARY KEY, relative TEXT NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
        kind TEXT CHECK (kind IN ('add', 'remove')), category TEXT NOT NULL, shape TEXT, source TEXT NOT NULL,
        batch TEXT NOT NULL, author TEXT NOT NULL, created TEXT NOT NULL, sha256 TEXT, reason TEXT,
        supersedes TEXT, padding INTEGER NOT NULL, status TEXT NOT NULL, status_at TEXT NOT NULL,
        status_by TEXT NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX correction_of_image ON correction (relative)",
    "CREATE INDEX correction_of_batch ON correction (batch, status)",
    "CREATE INDEX correction_superseded ON correction (supersedes) WHERE supersedes IS NOT NULL",
    "CREATE INDEX correction_of_status ON correction (status)",
    """CREATE TABLE event (
        n INTEGER PRIMARY KEY, at TEXT NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, correction_id TEXT,
        detail TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL)""",
    "CREATE INDEX event_of_correction ON event (correction_id)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_VERSION}",
)


class StoreFile:
    """The SQLite file in the folder of a store. May be used from several threads.

    Attributes:
        file: path of the file.

    Raises:
        UsageError: there is no such store.
        StorageError: it cannot be made or read, is damaged, or of a newer version of this program.
    """

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        """Opens a store.

        Args:
            folder: folder that it is in.
            create: whether to make one where there is none.
        """
        self.file = folder / "corrections.sqlite"
        self._lock = threading.RLock()
        if not create and self.file.is_file() and self.file.stat().st_size == 0:
            raise self._is_damaged("it is empty")
        if not self.file.is_file():
            if not create:
                raise UsageError(f"there is no store of corrections {self.file}; corrections add or import makes one")
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.close(os.open(self.file, os.O_CREAT | os.O_RDWR, 0o600))
            except OSError as error:
                raise StorageError(f"{self.file} cannot be made: {error.strerror or error}") from error
        with self._errors():
            self._connection = sqlite3.connect(
                self.file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
                self._connection.execute("PRAGMA synchronous = FULL")
                self._connection.execute("PRAGMA journal_mode = TRUNCATE").fetchone()  # deleting is slow on shares
                self._check_version()
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends using the store."""
        self._connection.close()

    def _check_version(self) -> None:
        ask = self._connection.execute
        application, version = (ask(f"PRAGMA {key}").fetchone()[0] for key in ("application_id", "user_version"))
        if version > _VERSION and application == _APPLICATION_ID:
            raise StorageError(f"{self.file} was written by a newer version of this program; update the program")
        if application == _APPLICATION_ID:
            return
        with self.changing():  # another process may make the store at this moment
            if ask("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] == 0:
                self.tables(_SCHEMA)
        if ask("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
            raise StorageError(f"{self.file} is another program's database, not a store of corrections")

    def tables(self, statements: Sequence[str]) -> None:
        """Makes tables, also those of other rooms, which read them with `read` and change them within `changing`.

        Args:
            statements: SQL that does nothing where it was done before.
        """
        with self._lock, self._errors():
            for statement in statements:
                self._connection.execute(statement)

    def _is_damaged(self, why: object) -> StorageError:
        return StorageError(f"{self.file} is damaged: {why}. Restore it from an export or a backup")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise StorageError(f"{self.file} is being written by another process; try again later") from error
            raise StorageError(f"{self.file} cannot be read or written: {error}") from error
        except sqlite3.DatabaseError as error:
            raise self._is_damaged(error) from error

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all that is done within happens, or nothing does. They may be nested.

        Raises:
            StorageError: another process is writing, or the store cannot be written.
        """
        with self._lock, self._errors():
            if self._connection.in_transaction:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def read(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """The rows that a query gives."""
        with self._lock, self._errors():
            return self._connection.execute(sql, values).fetchall()

    def check(self) -> None:
        """Looks whether the file is whole and can be written, as a run must say what is drawn.

        Raises:
            StorageError: it is damaged, read-only, or another process is writing.
        """
        with self.changing() as connection:
            connection.execute(f"PRAGMA user_version = {_VERSION}")
            if (found := self.read("PRAGMA quick_check(1)")) != [("ok",)]:
                raise self._is_damaged(" ".join(str(found[0][0]).split()))
