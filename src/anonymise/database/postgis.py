"""PostgreSQL with PostGIS, through psycopg 3.

Names are folded to lower case, as PostgreSQL does with names without quotes, so that ``SELECT Tidspunkt FROM
VEGBILDER`` finds them.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from psycopg import errors
from shapely import Point

from anonymise.core.errors import DatabaseError, DatabaseUnavailable
from anonymise.database.backend import GeometryAction, Outcome, ResultSet, RowResult, Statement
from anonymise.database.column import Column, Kind, Value
from anonymise.database.geometry import to_ewkb_hex
from anonymise.database.settings import PostgisSettings
from anonymise.database.table import Row, Table

__all__ = ["PostgisBackend"]

_CONNECT_SECONDS = 10
_TCP_USER_TIMEOUT_MS = 30_000
"""How long a server that no longer answers on the network is waited for, where the system can tell."""

_ABOUT_THE_ROW = (errors.DataError, errors.IntegrityError, errors.InternalError_)
"""The last is what PostGIS raises for a geometry that it cannot read."""

_COME_BACK_LATER = (
    psycopg.OperationalError,  # no connection, shutting down, out of resources, deadlock, cancelled
    psycopg.InterfaceError,  # the connection is closed
    errors.ReadOnlySqlTransaction,  # a standby, until it takes over
    errors.InFailedSqlTransaction,
)

# psycopg tells no code where connecting fails. These texts are the server's in English; in another language a wrong
# password is taken for a database that is away, which stops the run later, with the server's own words.
_WRONG_LOGIN = ("password authentication failed", "no password supplied", "does not exist", "no pg_hba.conf entry")


class PostgisBackend:
    """A PostgreSQL database with PostGIS; see `backend.Backend`."""

    def __init__(self, settings: PostgisSettings, password: str | None) -> None:
        """Connects to nothing yet.

        Args:
            settings: where the database is.
            password: None leaves it to PostgreSQL's own ways (.pgpass, peer, certificate).
        """
        self._settings = settings
        self._password = password
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._connection is not None and not self._connection.closed

    def has_table(self, table: Table) -> bool:
        """Whether there is a table of this name, in the schema or on the search path."""
        (found,) = self.run([Statement("SELECT to_regclass(%s) IS NOT NULL", (self._name(table.name),))])
        return bool(found.rows[0][0])

    def create_statements(self, table: Table) -> list[Statement]:
        """The table and its GiST indexes; the geometry metadata are part of the columns' types."""
        columns = ",\n    ".join(_definition(column) for column in table.columns)
        key = _quoted(table.pk_column)
        create = f"CREATE TABLE {self._name(table.name)} (\n    {columns},\n    PRIMARY KEY ({key}))"
        return [Statement(create), *self._index_statements(table)]

    def create_table(self, table: Table) -> None:
        """Makes the table; the database must have the extension PostGIS."""
        (found,) = self.run([Statement("SELECT to_regtype('geometry') IS NOT NULL")])
        if table.geometry_columns and not found.rows[0][0]:
            raise DatabaseError(
                f"the database {self._settings.database} has no PostGIS; an administrator adds it with: "
                "CREATE EXTENSION postgis"
            )
        self.run(self.create_statements(table))

    def geometry_statements(self, table: Table, action: GeometryAction) -> list[Statement]:
        """The GiST indexes; coordinate systems are part of the columns' types, and PostGIS keeps no bounds."""
        if action is GeometryAction.INSERT:
            return []
        drop = [
            Statement(f"DROP INDEX IF EXISTS {self._name(_index_name(table, column))}")
            for column in table.geometry_columns
        ]
        return drop if action is GeometryAction.DROP else drop + self._index_statements(table)

    def _index_statements(self, table: Table) -> list[Statement]:
        on = self._name(table.name)
        return [
            Statement(f"CREATE INDEX {_quoted(_index_name(table, c))} ON {on} USING gist ({_quoted(c.name)})")
            for c in table.geometry_columns
        ]

    def upsert(self, table: Table, rows: Sequence[Row]) -> list[RowResult]:
        """Inserts or replaces rows in one transaction: all at once, and one by one where one of them is refused."""
        names = [_quoted(column.name) for column in table.columns]
        key = _quoted(table.pk_column)
        sql = (
            f"INSERT INTO {self._name(table.name)} ({', '.join(names)}) "  # noqa: S608  checked names
            f"VALUES ({', '.join(['%s'] * len(names))}) ON CONFLICT ({key}) DO UPDATE SET "
            + ", ".join(f"{name} = EXCLUDED.{name}" for name in names if name != key)
            # A row that was just inserted has never been locked or updated by a transaction.
            + " RETURNING xmax = 0"
        ).encode("ascii")
        values = [tuple(map(_bound, row)) for row in rows]
        with self._transaction() as connection:
            try:
                with connection.transaction(), connection.cursor() as cursor:
                    return _upsert_all(cursor, sql, values)
            except _ABOUT_THE_ROW as error:
                if isinstance(error, _COME_BACK_LATER):
                    raise
                return [_upsert_row(connection, sql, row) for row in values]

    def run(self, statements: Sequence[Statement]) -> list[ResultSet]:
        """Runs statements in one transaction, those that make tables too."""
        results = []
        with self._transaction() as connection:
            for sql, values in statements:
                # Prepared, so that the server takes a single statement only, whatever the text is.
                cursor = connection.execute(sql.encode("utf-8"), values or None, prepare=True)
                if cursor.description is None:
                    results.append(ResultSet((), [], cursor.rowcount))
                else:
                    columns = tuple(column.name for column in cursor.description)
                    results.append(ResultSet(columns, cursor.fetchall(), cursor.rowcount))
        return results

    def query(self, sql: str) -> ResultSet:
        """Runs one query in a read-only transaction."""
        return self.run([Statement("SET TRANSACTION READ ONLY"), Statement(sql)])[-1]

    def disconnect(self) -> None:
        """Ends the connection."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                self._connection.close()
            self._connection = None

    def _name(self, name: str) -> str:
        schema = self._settings.db_schema
        return _quoted(name) if schema is None else f"{_quoted(schema)}.{_quoted(name)}"

    def _connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._connection is None or self._connection.closed:
            settings = self._settings
            try:
                self._connection = psycopg.connect(
                    host=settings.host,
                    port=settings.port,
                    dbname=settings.database,
                    user=settings.user,
                    password=self._password,
                    connect_timeout=_CONNECT_SECONDS,
                    tcp_user_timeout=_TCP_USER_TIMEOUT_MS,
                    application_name="anonymise",
                )
            except psycopg.OperationalError as error:
                where = f"{settings.user} cannot log in to {settings.database} at {settings.host}:{settings.port}"
                kind = DatabaseError if any(text in str(error) for text in _WRONG_LOGIN) else DatabaseUnavailable
                raise kind(f"{where}: {_first_line(error)}") from error
        return self._connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """A transaction that is committed at the end and rolled back on an error; psycopg's errors become ours."""
        try:
            connection = self._connected()
            with connection.transaction():
                yield connection
        except _COME_BACK_LATER as error:
            raise DatabaseUnavailable(f"the database cannot be used now: {_first_line(error)}") from error
        except psycopg.Error as error:
            raise DatabaseError(f"the database refuses: {_first_line(error)}") from error


def _index_name(table: Table, column: Column) -> str:
    return f"{table.name}_{column.name}_x"


def _upsert_all(
    cursor: psycopg.Cursor[tuple[Any, ...]], sql: bytes, values: Sequence[tuple[object, ...]]
) -> list[RowResult]:
    cursor.executemany(sql, values, returning=True)
    results = []
    while True:
        results.append(_result(cursor))
        if not cursor.nextset():
            return results


def _upsert_row(connection: psycopg.Connection[tuple[Any, ...]], sql: bytes, values: tuple[object, ...]) -> RowResult:
    try:
        with connection.transaction():
            return _result(connection.execute(sql, values))
    except _ABOUT_THE_ROW as error:
        if isinstance(error, _COME_BACK_LATER):
            raise
        return RowResult(Outcome.FAILED, _first_line(error))


def _result(cursor: psycopg.Cursor[tuple[Any, ...]]) -> RowResult:
    row = cursor.fetchone()
    return RowResult(Outcome.INSERTED if row and row[0] else Outcome.UPDATED)


def _quoted(name: str) -> str:
    return f'"{name.lower()}"'


def _definition(column: Column) -> str:
    """A column as CREATE TABLE has it."""
    dtype = column.dtype
    if dtype.kind is Kind.GEOMETRY:
        type_name = f"geometry({'PointZ' if column.spatial.dimension == 3 else 'Point'}, {column.spatial.srid})"
    elif dtype.kind is Kind.NUMBER:
        type_name = "numeric" if dtype.size is None else f"numeric({dtype.size}, {dtype.scale})"
    elif dtype.kind is Kind.LONG_TEXT:
        type_name = "jsonb" if column.is_json else "text"
    else:
        type_name = f"varchar({dtype.size})" if dtype.kind is Kind.TEXT else "timestamp"
    return f"{_quoted(column.name)} {type_name}{' NOT NULL' * column.required}{' UNIQUE' * column.unique}"


def _bound(value: Value) -> object:
    """A value as psycopg takes it; the server reads geometries and JSON from their text."""
    return to_ewkb_hex(value) if isinstance(value, Point) else value


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
