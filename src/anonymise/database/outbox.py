"""Rows that wait for the database, in a table of the run's journal.

Putting a row in belongs to the transaction that marks its image finished, so that there is no image without its row and
no row without its image. Nothing here opens or closes a connection, and nothing keeps one.
"""

import contextlib
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

__all__ = ["PUT", "SCHEMA", "Counts", "Waiting", "count", "create_table", "done", "failed", "put", "put_values"]
__all__ += ["retry_failed", "take"]

SCHEMA = (
    # A row that is put again gets a new number, so that what was taken before can no longer strike it out.
    """CREATE TABLE IF NOT EXISTS outbox (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        key TEXT NOT NULL UNIQUE,
        record TEXT NOT NULL,
        reason TEXT
    )""",
    # Waiting rows are looked for after every image, when there may be thousands of failed ones.
    "CREATE INDEX IF NOT EXISTS outbox_waiting ON outbox (number) WHERE reason IS NULL",
)
"""What a journal needs."""

# Keys are paths; they are bound as bytes and cast, because names of old disks are not always Unicode.
PUT = "REPLACE INTO outbox (key, record) VALUES (CAST(:key AS TEXT), :record)"
"""Puts a row in; bind `put_values`. For a journal that gathers its statements."""


class Waiting(NamedTuple):
    """A row that waits.

    Attributes:
        number: number of its place in the queue.
        key: key of the image: its path below the input folder, with ``/``.
        record: the image's record as JSON text.
    """

    number: int
    key: str
    record: str


class Counts(NamedTuple):
    """How many rows there are.

    Attributes:
        waiting: to be sent.
        failed: refused by the database; kept, with the reason.
    """

    waiting: int
    failed: int


def create_table(connection: sqlite3.Connection) -> None:
    """Makes the outbox in a journal that has none."""
    for statement in SCHEMA:
        connection.execute(statement)


def put_values(key: str, record: str) -> dict[str, object]:
    """What is bound to `PUT`."""
    return {"key": key.encode("utf-8", sys.getfilesystemencodeerrors()), "record": record}


def put(connection: sqlite3.Connection, key: str, record: str) -> None:
    """Puts a row in, instead of one with the same key, within the connection's transaction.

    Args:
        connection: connection of the journal.
        key: path of the image below the input folder, with ``/``.
        record: as ``record.dumps`` writes it.
    """
    connection.execute(PUT, put_values(key, record))


def take(connection: sqlite3.Connection, n: int) -> list[Waiting]:
    """The ``n`` rows that have waited longest. They stay until `done` or `failed`."""
    rows = connection.execute(
        "SELECT number, CAST(key AS BLOB), record FROM outbox WHERE reason IS NULL ORDER BY number LIMIT ?", (n,)
    ).fetchall()
    return [Waiting(number, key.decode("utf-8", sys.getfilesystemencodeerrors()), text) for number, key, text in rows]


def done(connection: sqlite3.Connection, rows: Sequence[Waiting]) -> None:
    """Strikes out rows that have arrived; those that were put in again since stay."""
    with _transaction(connection):
        connection.executemany("DELETE FROM outbox WHERE number = ?", [(row.number,) for row in rows])


def failed(connection: sqlite3.Connection, rows: Sequence[tuple[Waiting, str]]) -> None:
    """Marks rows as refused, each with the reason; they are not taken again until `retry_failed`."""
    with _transaction(connection):
        values = [(reason, row.number) for row, reason in rows]
        connection.executemany("UPDATE outbox SET reason = ? WHERE number = ?", values)


def retry_failed(connection: sqlite3.Connection) -> int:
    """Lets the refused rows wait again, such as after the table was changed; returns how many they are."""
    with _transaction(connection):
        return connection.execute("UPDATE outbox SET reason = NULL WHERE reason NOT NULL").rowcount


def count(connection: sqlite3.Connection) -> Counts:
    """How many rows there are."""
    (waiting,) = connection.execute("SELECT COUNT(*) FROM outbox WHERE reason IS NULL").fetchone()
    (everything,) = connection.execute("SELECT COUNT(*) FROM outbox").fetchone()
    return Counts(waiting, everything - waiting)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One transaction for several changes, unless the caller has begun one."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
