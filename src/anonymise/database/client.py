"""Records into a table, whichever database it is in."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TypeVar

from anonymise.core.errors import DatabaseError, DatabaseUnavailable, RecordError
from anonymise.database.backend import Backend, GeometryAction, Outcome, ResultSet, RowResult, Statement
from anonymise.database.settings import GeoPackageSettings, PostgisSettings, Settings
from anonymise.database.table import Row, Table
from anonymise.metadata.record import Record

__all__ = ["DatabaseClient", "connect"]

_T = TypeVar("_T")


def connect(settings: Settings, password: str | None) -> "DatabaseClient":
    """A client of the database that ``db_config.yml`` names; connects when it is first used.

    Args:
        settings: where the database is.
        password: see `settings.password_for`.
    """
    # Each driver is loaded only where it is needed.
    if isinstance(settings, GeoPackageSettings):
        from anonymise.database.geopackage import GeoPackageBackend

        return DatabaseClient(GeoPackageBackend(settings.file))
    if isinstance(settings, PostgisSettings):
        from anonymise.database.postgis import PostgisBackend

        return DatabaseClient(PostgisBackend(settings, password))
    from anonymise.database.oracle import OracleBackend

    return DatabaseClient(OracleBackend(settings, password))


class DatabaseClient:
    """A database. Connects when it is first used, and again after it was away. For one thread.

    All methods raise:
        DatabaseUnavailable: the database is away.
        DatabaseError: it refuses.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __enter__(self) -> "DatabaseClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; the next call makes a new one."""
        self._backend.disconnect()

    def has_table(self, table: Table) -> bool:
        """Whether the database has a table of this name."""
        return self._persistently(lambda: self._backend.has_table(table))

    def create_statements(self, table: Table) -> list[Statement]:
        """What `create_table` does, in SQL."""
        return self._backend.create_statements(table)

    def create_table(self, table: Table) -> None:
        """Makes a table with its geometry metadata and spatial indexes; one that is there already is an error."""
        if self.has_table(table):
            raise DatabaseError(f"the table {table.name} exists already")
        self._once(lambda: self._backend.create_table(table))

    def geometry_statements(self, table: Table, action: GeometryAction) -> list[Statement]:
        """What `change_geometry_metadata` does, in SQL."""
        return self._backend.geometry_statements(table, action)

    def change_geometry_metadata(self, table: Table, actions: Sequence[GeometryAction]) -> None:
        """Drops or enters the metadata of a table's geometry columns, or makes their spatial indexes."""
        statements = [s for action in actions for s in self._backend.geometry_statements(table, action)]
        self._once(lambda: self._backend.run(statements))

    def upsert(self, table: Table, records: Sequence[Record], *, flip: bool = False) -> list[RowResult]:
        """Writes the rows of records: new ones are inserted, those with a known primary key replaced; commits.

        A record that makes no row, or whose row the database refuses, does not keep the others from being written.
        Doing it again does no harm.

        Args:
            table: where they go.
            records: as ``record.loads`` gives them.
            flip: whether longitude and latitude change places (``flip_wkt``).

        Returns:
            A result for each record, in their order.
        """
        results: dict[int, RowResult] = {}
        rows: dict[int, Row] = {}
        for n, record in enumerate(records):
            try:
                rows[n] = table.row(record, flip=flip)
            except RecordError as error:
                results[n] = RowResult(Outcome.FAILED, str(error))
        if rows:
            written = self._persistently(lambda: self._backend.upsert(table, list(rows.values())))
            results |= zip(rows, written, strict=True)
        return [results[n] for n in range(len(records))]

    def execute(self, statements: Sequence[str]) -> list[ResultSet]:
        """Runs SQL statements in one transaction (where the database has it so) and commits."""
        return self._once(lambda: self._backend.run([Statement(statement) for statement in statements]))

    def query(self, sql: str) -> ResultSet:
        """The rows of one query, in a transaction that changes nothing."""
        return self._persistently(lambda: self._backend.query(sql))

    def _once(self, operation: Callable[[], _T]) -> _T:
        try:
            return operation()
        except DatabaseUnavailable:
            self._backend.disconnect()
            raise

    def _persistently(self, operation: Callable[[], _T]) -> _T:
        """Does what may be done twice; once more where the connection turns out to have been cut meanwhile."""
        was_connected = self._backend.connected
        try:
            return self._once(operation)
        except DatabaseUnavailable:
            if not was_connected:
                raise
            return self._once(operation)
