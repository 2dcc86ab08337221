"""Sends the rows that wait in the outbox, in batches, however long the database is away.

A row leaves the outbox only after the database has committed it. What was cut off between the two is sent again, and
being an upsert by primary key, arrives once in effect.
"""

import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass

from anonymise.config import DatabaseOptions
from anonymise.core.errors import DatabaseError, DatabaseUnavailable, RecordError
from anonymise.database import outbox
from anonymise.database.backend import Outcome, RowResult
from anonymise.database.client import DatabaseClient
from anonymise.database.table import Table
from anonymise.metadata.record import Record, loads

__all__ = ["Sender", "Sent"]

log = logging.getLogger(__name__)

_FIRST_DELAY_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 60.0
"""An attempt blocks its caller for as long as connecting takes, so a database that is away is not asked too often."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of the rows of a run.

    Attributes:
        inserted: new rows.
        updated: rows that were there before.
        failed: rows that the database refused, or that could not be made.
    """

    inserted: int = 0
    updated: int = 0
    failed: int = 0


class Sender:
    """Sends the rows of one run. For one thread.

    Attributes:
        sent: what became of the rows so far.
    """

    def __init__(
        self,
        client: DatabaseClient,
        table: Table,
        options: DatabaseOptions,
        *,
        flip: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Connects to nothing yet.

        Args:
            client: client of the database.
            table: where the rows go.
            options: how many rows make a batch, may wait, and may fail.
            flip: whether longitude and latitude change places (``flip_wkt``).
            clock: seconds from some moment on.
            sleep: waits for seconds.
        """
        self._client = client
        self._table = table
        self._options = options
        self._flip = flip
        self._clock = clock
        self._sleep = sleep
        self._delay = 0.0
        self._not_before = 0.0
        self.sent = Sent()

    def send(self, connection: sqlite3.Connection) -> None:
        """Sends full batches, if there are any and the database was not away a moment ago.

        To be called now and then, such as after every image.

        Args:
            connection: connection of the journal, not within a transaction: the database may take its time.

        Raises:
            DatabaseError: the database refuses, too many rows failed, or too many wait.
        """
        while (waiting := outbox.count(connection).waiting) >= self._options.db_max_n_accumulated_rows:
            limit = self._options.db_max_cache_size
            if self._clock() < self._not_before and waiting < limit:
                return
            try:
                self._send_batch(connection)
            except DatabaseUnavailable as error:
                self._put_off(error)
                if waiting >= limit:
                    raise DatabaseUnavailable(
                        f"{waiting} rows wait for the database (db_max_cache_size: {limit}); they are kept, and the "
                        f"next run sends them. {error}"
                    ) from error
                return

    def flush(self, connection: sqlite3.Connection, patience_seconds: float = 0.0) -> None:
        """Sends all rows, at the end of a run.

        Args:
            connection: connection of the journal, not within a transaction.
            patience_seconds: how long a database that is away is waited for.

        Raises:
            DatabaseError: the database refuses, too many rows failed, or the database stayed away.
        """
        deadline = self._clock() + patience_seconds
        while waiting := outbox.count(connection).waiting:
            try:
                self._send_batch(connection)
            except DatabaseUnavailable as error:
                self._put_off(error)
                if self._not_before > deadline:
                    raise DatabaseUnavailable(
                        f"{waiting} rows wait for the database; they are kept, and the next run sends them. {error}"
                    ) from error
                self._sleep(max(0.0, self._not_before - self._clock()))

    def _send_batch(self, connection: sqlite3.Connection) -> None:
        batch = outbox.take(connection, self._options.db_max_n_accumulated_rows)
        records: dict[int, Record] = {}
        results: dict[int, RowResult] = {}
        for n, row in enumerate(batch):
            try:
                records[n] = loads(row.record)
            except RecordError as error:
                results[n] = RowResult(Outcome.FAILED, str(error))
        sent = self._client.upsert(self._table, list(records.values()), flip=self._flip)
        results |= zip(records, sent, strict=True)
        if self._delay:
            log.info("The database is back")
            self._delay = 0.0
        self._settle(connection, [(row, results[n]) for n, row in enumerate(batch)])

    def _settle(self, connection: sqlite3.Connection, results: list[tuple[outbox.Waiting, RowResult]]) -> None:
        """Notes in the outbox what became of a batch.

        Raises:
            DatabaseError: too many rows have failed.
        """
        outbox.done(connection, [row for row, result in results if result.outcome is not Outcome.FAILED])
        refused = [(row, result.reason or "refused") for row, result in results if result.outcome is Outcome.FAILED]
        outbox.failed(connection, refused)
        for row, reason in refused:
            log.error("%s: no row in the database: %s", row.key, reason)
        outcomes = [result.outcome for _, result in results]
        self.sent = Sent(
            self.sent.inserted + outcomes.count(Outcome.INSERTED),
            self.sent.updated + outcomes.count(Outcome.UPDATED),
            self.sent.failed + outcomes.count(Outcome.FAILED),
        )
        if self.sent.failed >= self._options.db_max_n_errors:
            last = ": ".join((refused[-1][0].key, refused[-1][1])) if refused else ""
            limit = self._options.db_max_n_errors
            raise DatabaseError(
                f"{self.sent.failed} rows failed (db_max_n_errors: {limit}); they are kept with their reasons. "
                f"The last: {last}"
            )

    def _put_off(self, error: DatabaseUnavailable) -> None:
        if not self._delay:
            log.warning("Rows wait, because the database is away: %s", error)
        self._delay = min(_LONGEST_DELAY_SECONDS, 2 * self._delay or _FIRST_DELAY_SECONDS)
        self._not_before = self._clock() + self._delay
