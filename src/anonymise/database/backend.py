"""What a database must be able to do, and what can go wrong with it. Each database has a file of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from anonymise.database.table import Row, Table

__all__ = ["Backend", "GeometryAction", "Outcome", "ResultSet", "RowResult", "Statement"]


class Outcome(Enum):
    """What became of a row."""

    INSERTED = "inserted"
    UPDATED = "updated"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RowResult:
    """What became of a row.

    Attributes:
        outcome: outcome of the row.
        reason: why it failed.
    """

    outcome: Outcome
    reason: str | None = None


class GeometryAction(Enum):
    """What is done with the metadata of a table's geometry columns."""

    DROP = "drop"
    """Spatial indexes and metadata go."""
    INSERT = "insert"
    """The metadata are entered, in place of those that are there: coordinate system, bounds, tolerances."""
    CREATE = "create"
    """The spatial indexes are made, in place of those that are there."""


class Statement(NamedTuple):
    """An SQL statement and the values that are bound to it."""

    sql: str
    values: tuple[object, ...] = ()


class ResultSet(NamedTuple):
    """What a statement gave.

    Attributes:
        columns: names; none where the statement gives no rows.
        rows: the rows.
        n_rows: number of rows that were given or changed; -1 where the database does not tell.
    """

    columns: tuple[str, ...]
    rows: list[tuple[object, ...]]
    n_rows: int


class Backend(Protocol):
    """A database. Connects when it is first used, and again after `disconnect`. For one thread.

    All methods raise:
        DatabaseUnavailable: the database is away.
        DatabaseError: it refuses.
    """

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""

    def has_table(self, table: Table) -> bool:
        """Whether the database has a table of this name."""

    def create_statements(self, table: Table) -> list[Statement]:
        """What makes a table, its geometry metadata and its spatial indexes."""

    def create_table(self, table: Table) -> None:
        """Makes a table that is not there, with geometry metadata and spatial indexes."""

    def geometry_statements(self, table: Table, action: GeometryAction) -> list[Statement]:
        """What does something with the metadata of a table's geometry columns; none where there is nothing to do."""

    def upsert(self, table: Table, rows: Sequence[Row]) -> list[RowResult]:
        """Inserts rows, or replaces those with the same primary key; commits.

        A row that the database refuses does not keep the others from being written.

        Returns:
            A result for each row, in their order.
        """

    def run(self, statements: Sequence[Statement]) -> list[ResultSet]:
        """Runs statements in one transaction (where the database has it so) and commits."""

    def query(self, sql: str) -> ResultSet:
        """Runs one query in a read-only transaction (where the database has such)."""

    def disconnect(self) -> None:
        """Ends the connection; never raises."""
