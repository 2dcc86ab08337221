"""Oracle with Spatial, through python-oracledb in thin mode, which needs no Oracle software on this machine.

Names are folded to upper case, as Oracle does with names without quotes, so that ``SELECT Tidspunkt FROM VEGBILDER``
finds them; Spatial's metadata know only such names.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import oracledb
from shapely import Point

from anonymise.core.errors import DatabaseError, DatabaseUnavailable
from anonymise.database.backend import GeometryAction, Outcome, ResultSet, RowResult, Statement
from anonymise.database.column import Column, Kind, Value
from anonymise.database.geometry import GeometryType, to_sdo_geometry
from anonymise.database.settings import OracleSettings
from anonymise.database.table import Row, Table

__all__ = ["OracleBackend"]

_CONNECT_SECONDS = 10.0

_UNIQUE = 1
"""ORA-00001: the primary key, or another unique value, is there already."""

# Batch errors that say nothing about the row: no space left (ORA-01653 and its like), deadlock, serialisation.
_COME_BACK_LATER = frozenset({54, 60, 1536, 1631, 1632, 1650, 1652, 1653, 1654, 1658, 1688, 1691, 8177, 30036})


class OracleBackend:
    """An Oracle database with Spatial; see `backend.Backend`."""

    def __init__(
        self, settings: OracleSettings, password: str | None, connect: Callable[..., Any] = oracledb.connect
    ) -> None:
        """Connects to nothing yet.

        Args:
            settings: where the database is.
            password: password of the user.
            connect: python-oracledb's function, or one that behaves like it.
        """
        self._settings = settings
        self._password = password
        self._connect = connect
        self._connection: Any = None
        self._types: dict[str, GeometryType] = {}

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._connection is not None

    def has_table(self, table: Table) -> bool:
        """Whether the schema has a table or a view of this name."""
        schema = self._settings.db_schema
        owner = "SYS_CONTEXT('USERENV', 'CURRENT_SCHEMA')" if schema is None else ":2"
        values = (table.name.upper(),) if schema is None else (table.name.upper(), schema.upper())
        sql = (
            "SELECT COUNT(*) FROM ALL_OBJECTS WHERE OBJECT_NAME = :1 "  # noqa: S608  no value in it
            f"AND OBJECT_TYPE IN ('TABLE', 'VIEW') AND OWNER = {owner}"
        )
        (found,) = self.run([Statement(sql, values)])
        return found.rows[0][0] != 0

    def create_statements(self, table: Table) -> list[Statement]:
        """The table, the geometry metadata, and the spatial indexes, which need these."""
        columns = ",\n    ".join(_definition(column) for column in table.columns)
        key = _quoted(table.pk_column)
        return [
            Statement(f"CREATE TABLE {self._name(table.name)} (\n    {columns},\n    PRIMARY KEY ({key}))"),
            *self._added(table, GeometryAction.INSERT),
            *self._added(table, GeometryAction.CREATE),
        ]

    def create_table(self, table: Table) -> None:
        """Makes the table. Each step is final: Oracle commits with every CREATE."""
        self.run(self.create_statements(table))

    def geometry_statements(self, table: Table, action: GeometryAction) -> list[Statement]:
        """Entries of MDSYS.USER_SDO_GEOM_METADATA, and the spatial indexes."""
        return self._removed(table, action) + self._added(table, action)

    def _removed(self, table: Table, action: GeometryAction) -> list[Statement]:
        """What takes away the indexes or the metadata that an action replaces or drops."""
        self._check_owner(table)
        sql = "DELETE FROM MDSYS.USER_SDO_GEOM_METADATA WHERE TABLE_NAME = :1 AND COLUMN_NAME = :2"
        statements = []
        for column in table.geometry_columns:
            if action is not GeometryAction.INSERT:
                statements.append(Statement(_drop_index(self._index_name(table, column))))
            if action is not GeometryAction.CREATE:
                statements.append(Statement(sql, (table.name.upper(), column.name.upper())))
        return statements

    def _added(self, table: Table, action: GeometryAction) -> list[Statement]:
        """What makes the indexes or the metadata of a table that has none; nothing where they are dropped."""
        self._check_owner(table)
        make = {GeometryAction.INSERT: self._metadata, GeometryAction.CREATE: self._index}.get(action)
        return [] if make is None else [make(table, column) for column in table.geometry_columns]

    def _check_owner(self, table: Table) -> None:
        settings = self._settings
        if table.geometry_columns and settings.db_schema and settings.db_schema.upper() != settings.user.upper():
            raise DatabaseError(
                f"only {settings.db_schema} can change that schema's geometry metadata, not {settings.user}"
            )

    def upsert(self, table: Table, rows: Sequence[Row]) -> list[RowResult]:
        """Inserts rows; updates those whose key is there already; commits."""
        results = [RowResult(Outcome.INSERTED)] * len(rows)
        names = [_quoted(column.name) for column in table.columns]
        key = table.primary_key_index
        others = [n for n in range(len(names)) if n != key]
        name = self._name(table.name)
        insert = (
            f"INSERT INTO {name} ({', '.join(names)}) "  # noqa: S608  checked names
            f"VALUES ({', '.join(f':{n + 1}' for n in range(len(names)))})"
        )
        update = (
            f"UPDATE {name} SET {', '.join(f'{names[n]} = :{place + 1}' for place, n in enumerate(others))} "  # noqa: S608
            f"WHERE {names[key]} = :{len(names)}"
        )
        with self._transaction() as connection:
            values = [[self._bound(value) for value in row] for row in rows]
            with connection.cursor() as cursor:
                cursor.setinputsizes(*(self._input_size(column) for column in table.columns))
                failed = _execute_batch(cursor, insert, values)
                known = sorted(n for n, error in failed.items() if error.code == _UNIQUE)
                results = [
                    RowResult(Outcome.FAILED, _first_line(failed[n])) if n in failed else result
                    for n, result in enumerate(results)
                ]
                if known:
                    order = [*others, key]
                    cursor.setinputsizes(*(self._input_size(table.columns[n]) for n in order))
                    refused = _execute_batch(cursor, update, [[values[row][n] for n in order] for row in known])
                    counts = cursor.getarraydmlrowcounts()
                    for place, n in enumerate(known):
                        if place in refused:
                            results[n] = RowResult(Outcome.FAILED, _first_line(refused[place]))
                        elif counts[place]:
                            results[n] = RowResult(Outcome.UPDATED)
                        # else it was another unique column's value; the reason of the insert stays
        return results

    def run(self, statements: Sequence[Statement]) -> list[ResultSet]:
        """Runs statements and commits; Oracle commits by itself with every CREATE and DROP."""
        results = []
        with self._transaction() as connection:
            for sql, values in statements:
                with connection.cursor() as cursor:
                    cursor.execute(sql, list(values), fetch_lobs=False)
                    if cursor.description is None:
                        results.append(ResultSet((), [], cursor.rowcount))
                    else:
                        columns = tuple(column[0] for column in cursor.description)
                        rows = cursor.fetchall()
                        results.append(ResultSet(columns, rows, len(rows)))
        return results

    def query(self, sql: str) -> ResultSet:
        """Runs one query in a read-only transaction."""
        return self.run([Statement("SET TRANSACTION READ ONLY"), Statement(sql)])[-1]

    def disconnect(self) -> None:
        """Ends the connection."""
        if self._connection is not None:
            with contextlib.suppress(oracledb.Error, OSError):
                self._connection.close()
            self._connection = None
            self._types.clear()

    def _name(self, name: str) -> str:
        schema = self._settings.db_schema
        return _quoted(name) if schema is None else f"{_quoted(schema)}.{_quoted(name)}"

    def _index_name(self, table: Table, column: Column) -> str:
        return self._name(f"{table.name}_{column.name}_x")

    def _index(self, table: Table, column: Column) -> Statement:
        where = f"{self._name(table.name)} ({_quoted(column.name)})"
        return Statement(
            f"CREATE INDEX {self._index_name(table, column)} ON {where} INDEXTYPE IS MDSYS.SPATIAL_INDEX_V2"
        )

    def _metadata(self, table: Table, column: Column) -> Statement:
        elements = column.spatial.dim_elements
        places = ", ".join(
            "MDSYS.SDO_DIM_ELEMENT(" + ", ".join(f":{4 * n + place}" for place in range(3, 7)) + ")"
            for n in range(len(elements))
        )
        sql = (
            "INSERT INTO MDSYS.USER_SDO_GEOM_METADATA (TABLE_NAME, COLUMN_NAME, DIMINFO, SRID) "  # noqa: S608
            f"VALUES (:1, :2, MDSYS.SDO_DIM_ARRAY({places}), :{4 * len(elements) + 3})"
        )
        bounds = [value for e in elements for value in (e.name, e.min, e.max, e.tol)]
        return Statement(sql, (table.name.upper(), column.name.upper(), *bounds, column.spatial.srid))

    def _type(self, name: str) -> GeometryType:
        if name not in self._types:
            self._types[name] = self._connection.gettype(name)
        return self._types[name]

    def _bound(self, value: Value) -> object:
        """A value as python-oracledb takes it."""
        if isinstance(value, Point):
            return to_sdo_geometry(value, self._type)
        # DATE has whole seconds.
        return value.replace(microsecond=0) if isinstance(value, datetime) else value

    def _input_size(self, column: Column) -> object:
        """What a column's values are bound as. Said for all, because a batch may begin with NULL, which has no type."""
        match column.dtype.kind:
            case Kind.GEOMETRY:
                return self._type("MDSYS.SDO_GEOMETRY")
            case Kind.NUMBER:
                return oracledb.DB_TYPE_NUMBER
            case Kind.TIME:
                return oracledb.DB_TYPE_DATE
            case Kind.TEXT:
                return oracledb.DB_TYPE_VARCHAR
            case _:
                return None  # the driver goes by the longest text of the batch

    def _connected(self) -> Any:
        if self._connection is None:
            settings = self._settings
            self._connection = self._connect(
                user=settings.user,
                password=self._password,
                host=settings.host,
                port=settings.port,
                service_name=settings.service,
                tcp_connect_timeout=_CONNECT_SECONDS,
            )
        return self._connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Any]:
        """A transaction that is committed at the end and rolled back on an error; oracledb's errors become ours."""
        try:
            connection = self._connected()
            try:
                yield connection
                connection.commit()
            except BaseException:
                with contextlib.suppress(oracledb.Error):
                    connection.rollback()
                raise
        except oracledb.Error as error:
            where = f"Oracle at {self._settings.host}:{self._settings.port}/{self._settings.service}"
            if _is_passing(error):
                self.disconnect()
                raise DatabaseUnavailable(f"{where} cannot be used now: {_first_line(error)}") from error
            raise DatabaseError(f"{where} refuses: {_first_line(error)}") from error


def _execute_batch(cursor: Any, sql: str, values: list[list[object]]) -> dict[int, Any]:
    """Executes a statement for each of ``values``; returns the errors by the number of their row, which are unordered.

    Raises:
        oracledb.Error: of the statement as a whole, or one that says nothing about its row.
    """
    cursor.executemany(sql, values, batcherrors=True, arraydmlrowcounts=True)
    failed = {error.offset: error for error in cursor.getbatcherrors()}
    for error in failed.values():
        if error.code in _COME_BACK_LATER:
            raise oracledb.OperationalError(error)
    return failed


def _is_passing(error: oracledb.Error) -> bool:
    """Whether the same may succeed later: no connection, database starting or stopping, no space."""
    detail = error.args[0] if error.args else None
    return (
        isinstance(error, oracledb.OperationalError)
        or bool(getattr(detail, "isrecoverable", False))
        or bool(getattr(detail, "is_session_dead", False))
        or getattr(detail, "code", None) in _COME_BACK_LATER
    )


def _quoted(name: str) -> str:
    return f'"{name.upper()}"'


def _drop_index(index: str) -> str:
    """Drops an index where there is one (ORA-01418: there is none); Oracle before 23ai has no IF EXISTS."""
    return (
        f"BEGIN EXECUTE IMMEDIATE 'DROP INDEX {index}'; "
        "EXCEPTION WHEN OTHERS THEN IF SQLCODE != -1418 THEN RAISE; END IF; END;"
    )


def _definition(column: Column) -> str:
    """A column as CREATE TABLE has it; texts are measured in characters, not in bytes."""
    dtype = column.dtype
    if dtype.kind is Kind.TEXT:
        type_name = f"VARCHAR2({dtype.size} CHAR)"
    elif dtype.kind is Kind.NUMBER and dtype.size is not None:
        type_name = f"NUMBER({dtype.size}, {dtype.scale})"
    else:
        type_name = {Kind.GEOMETRY: "MDSYS.SDO_GEOMETRY"}.get(dtype.kind, dtype.kind.value)
    return f"{_quoted(column.name)} {type_name}{' NOT NULL' * column.required}{' UNIQUE' * column.unique}"


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0]
