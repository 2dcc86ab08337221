"""What python-oracledb and an Oracle server do, as far as our backend can see, over SQLite in memory.

Errors are python-oracledb's own classes, made by its own code from Oracle's numbers. What is imitated, and where it is
documented or tested by the driver's authors:

- batch errors have the offset of their row and come in no order; row counts are 0 for them (their test 2722);
- sizes given with setinputsizes are for the next statement only; None without one is a VARCHAR of length 1, which does
  not go into an object column (ORA-00932);
- object types by name, objects with just the attributes of their type;
- an input type handler is asked for every value without a size;
- DML waits for commit, DDL commits; a connection that was cut gives DPY-4011, a server that is away DPY-6005;
- '' is NULL; VARCHAR2(n CHAR), NOT NULL, UNIQUE and NUMBER(p,s) are checked;
- a statement with a semicolon at its end, or two of them, is refused (ORA-00933);
- geometry metadata must be there before a spatial index (ORA-13203), and only once (ORA-13223).
"""

import contextlib
import itertools
import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import oracledb
from oracledb.errors import _Error

__all__ = ["PASSWORD", "Server"]

PASSWORD = "s3cret"

_ATTRIBUTES = {
    "MDSYS.SDO_GEOMETRY": ("SDO_GTYPE", "SDO_SRID", "SDO_POINT", "SDO_ELEM_INFO", "SDO_ORDINATES"),
    "MDSYS.SDO_POINT_TYPE": ("X", "Y", "Z"),
}
_SIZE = re.compile(r"(VARCHAR2|NUMBER)\((\d+)(?: CHAR|, ?(\d+))?\)")
_DDL = re.compile(r"\s*(CREATE|DROP|ALTER|TRUNCATE)\b", re.IGNORECASE)
_DROP_INDEX = re.compile(r"EXECUTE IMMEDIATE 'DROP INDEX (?:\"\w+\"\.)?(\"\w+\")'")
_SPATIAL_INDEX = re.compile(
    r'CREATE INDEX (?:"\w+"\.)?("\w+") ON (?:"\w+"\.)?"(\w+)" \("(\w+)"\) INDEXTYPE IS MDSYS\.SPATIAL_INDEX_V2'
)


def _error(code: int, text: str, offset: int = 0) -> Any:
    return _Error(message=f"ORA-{code:05}: {text}", code=code, offset=offset)


def _raised(code: int, text: str) -> oracledb.Error:
    error = _error(code, text)
    raised: oracledb.Error = error.exc_type(error)
    return raised


def _driver_error(number: int, text: str) -> oracledb.Error:
    error = _Error(message=f"DPY-{number:04}: {text}")
    raised: oracledb.Error = error.exc_type(error)
    return raised


class DbObject:
    """An object of a type; has the type's attributes and no others."""

    def __init__(self, type_name: str) -> None:
        object.__setattr__(self, "_type", type_name)
        for name in _ATTRIBUTES[type_name]:
            object.__setattr__(self, name, None)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _ATTRIBUTES[self._type]:
            raise AttributeError(f"{self._type} has no attribute {name}")
        if type(value) not in {DbObject, int, float, Decimal, type(None)}:  # a NumPy scalar is none of these
            raise _driver_error(3013, f"unsupported Python type {type(value).__name__} for {name}")
        object.__setattr__(self, name, value)


class DbObjectType:
    def __init__(self, name: str) -> None:
        self.name = name

    def newobject(self, value: Any = None) -> DbObject:
        assert value is None
        return DbObject(self.name)


class Var:
    def __init__(self, typ: object, inconverter: Callable[[Any], Any] | None) -> None:
        self.type, self.inconverter = typ, inconverter


class Server:
    """The database. It can go away, come back, and cut the connections that there are."""

    def __init__(self) -> None:
        self.up = True
        self.n_connections = 0
        self.calls_until_cut: int | None = None
        self.sql: list[str] = []
        self.refusals: dict[int, str] = {}
        """Errors that every INSERT gives, by number."""
        self.database = sqlite3.connect(":memory:", isolation_level=None, detect_types=sqlite3.PARSE_DECLTYPES)
        for kind, convert in _CONVERTERS.items():
            sqlite3.register_converter(kind, convert)
        self.database.create_function("SDO_DIM_ELEMENT", 4, lambda *values: json.dumps(values))
        self.database.create_function("SDO_DIM_ARRAY", -1, lambda *elements: f"[{', '.join(elements)}]")
        self.database.create_function("SYS_CONTEXT", 2, lambda *_: "TESTER")
        self.database.execute("ATTACH ':memory:' AS MDSYS")
        self.database.execute(
            "CREATE TABLE MDSYS.USER_SDO_GEOM_METADATA (TABLE_NAME, COLUMN_NAME, DIMINFO, SRID, "
            "UNIQUE (TABLE_NAME, COLUMN_NAME))"
        )
        self.database.execute(
            "CREATE TEMP VIEW ALL_OBJECTS AS SELECT name AS OBJECT_NAME, upper(type) AS OBJECT_TYPE, "
            "'TESTER' AS OWNER FROM main.sqlite_master"
        )

    def connect(
        self, *, user: str, password: str, host: str, port: int, service_name: str, **_: object
    ) -> "Connection":
        if not self.up:
            raise _driver_error(6005, f"cannot connect to database (host {host}, port {port})")
        if password != PASSWORD:
            raise _raised(1017, "invalid credential or not authorized; logon denied")
        self.n_connections += 1
        return Connection(self)

    def close(self) -> None:
        self.database.close()


class Connection:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._number = server.n_connections
        self.inputtypehandler: Callable[..., Var | None] | None = None

    def check(self) -> None:
        """Raises what a call gives when the connection has been cut."""
        server = self._server
        if server.calls_until_cut is not None:
            server.calls_until_cut -= 1
            if server.calls_until_cut < 0:
                server.calls_until_cut = None
                self._number = -1
        if not server.up:
            self._number = -1
        if self._number == -1:
            if server.database.in_transaction:
                server.database.execute("ROLLBACK")
            raise _driver_error(4011, "the database or network closed the connection")

    def gettype(self, name: str) -> DbObjectType:
        self.check()
        if name.upper() not in _ATTRIBUTES:
            raise _driver_error(2035, f'type "{name}" not found')
        return DbObjectType(name.upper())

    def cursor(self) -> "Cursor":
        return Cursor(self, self._server)

    def commit(self) -> None:
        self.check()
        if self._server.database.in_transaction:
            self._server.database.execute("COMMIT")

    def rollback(self) -> None:
        self.check()
        if self._server.database.in_transaction:
            self._server.database.execute("ROLLBACK")

    def close(self) -> None:
        if self._number != -1 and self._server.database.in_transaction:
            self._server.database.execute("ROLLBACK")
        self._number = -1


class Cursor:
    def __init__(self, connection: Connection, server: Server) -> None:
        self._connection, self._server = connection, server
        self._sizes: tuple[object, ...] = ()
        self._errors: list[Any] = []
        self._counts: list[int] | None = None
        self._rows: list[tuple[object, ...]] = []
        self.description: list[tuple[object, ...]] | None = None
        self.rowcount = 0

    def __enter__(self) -> "Cursor":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def var(self, typ: object, arraysize: int = 1, inconverter: Callable[[Any], Any] | None = None) -> Var:
        return Var(typ, inconverter)

    def setinputsizes(self, *sizes: object) -> None:
        self._sizes = sizes

    def execute(self, sql: str, parameters: Sequence[object] = (), *, fetch_lobs: bool = True) -> None:
        assert not fetch_lobs, "a CLOB would come as a LOB object, not as text"
        self._begin(sql)
        self._one(sql, self._bound(parameters, self._take_sizes(parameters), [parameters]))

    def executemany(
        self,
        sql: str,
        parameters: Sequence[Sequence[object]],
        *,
        batcherrors: bool = False,
        arraydmlrowcounts: bool = False,
    ) -> None:
        self._begin(sql)
        sizes = self._take_sizes(parameters[0])
        # Values are looked at before anything is sent, as the driver does.
        rows = [self._bound(row, sizes, parameters) for row in parameters]
        counts, self._errors = [], []
        for offset, row in enumerate(rows):
            try:
                self._one(sql, row)
                counts.append(self.rowcount)
            except oracledb.DatabaseError as error:
                detail = error.args[0]
                if not batcherrors or detail.code in {942, 904, 933}:
                    raise
                self._errors.append(_error(detail.code, detail.message.partition(": ")[2], offset))
                counts.append(0)
        self._errors.reverse()
        self._counts = counts if arraydmlrowcounts else None

    def getbatcherrors(self) -> list[Any]:
        return self._errors

    def getarraydmlrowcounts(self) -> list[int]:
        if self._counts is None:
            raise _driver_error(4006, "array DML row counts mode is not enabled")
        return self._counts

    def fetchall(self) -> list[tuple[object, ...]]:
        rows, self._rows = self._rows, []
        return rows

    def _begin(self, sql: str) -> None:
        self._connection.check()
        self._server.sql.append(sql)
        self.description, self._rows = None, []
        is_block = sql.lstrip().upper().startswith("BEGIN")
        if not is_block and ";" in re.sub(r"'[^']*'|\"[^\"]*\"", "", sql):
            raise _raised(933, "SQL command not properly ended")

    def _take_sizes(self, first: Sequence[object]) -> tuple[object, ...]:
        sizes, self._sizes = self._sizes, ()
        assert len(sizes) in {0, len(first)}
        return sizes or (None,) * len(first)

    def _bound(
        self, row: Sequence[object], sizes: Sequence[object], rows: Sequence[Sequence[object]]
    ) -> list[tuple[object, object]]:
        """Type and value of each bind variable."""
        bound = []
        for n, (value, size) in enumerate(zip(row, sizes, strict=True)):
            size = size if size is not None else self._size_of(n, rows)
            if isinstance(size, Var):
                value = size.inconverter(value) if size.inconverter and value is not None else value
                size = size.type
            if value is not None and not isinstance(value, _PYTHON_TYPES[_name(size)]):
                raise _driver_error(3013, f"unsupported Python type {type(value).__name__} for {_name(size)}")
            if isinstance(value, DbObject) and isinstance(size, DbObjectType) and value._type != size.name:
                raise _driver_error(2004, "wrong object type")
            bound.append((_name(size), None if value == "" else value))
        return bound

    def _size_of(self, n: int, rows: Sequence[Sequence[object]]) -> object:
        value = next((row[n] for row in rows if row[n] is not None), None)
        handler = self._connection.inputtypehandler
        if handler is not None and value is not None and (var := handler(self, value, len(rows))) is not None:
            return var
        if isinstance(value, DbObject):
            return DbObjectType(value._type)
        kinds = {int: oracledb.DB_TYPE_NUMBER, float: oracledb.DB_TYPE_NUMBER, Decimal: oracledb.DB_TYPE_NUMBER}
        return {**kinds, datetime: oracledb.DB_TYPE_TIMESTAMP}.get(type(value), oracledb.DB_TYPE_VARCHAR)

    def _one(self, sql: str, bound: list[tuple[object, object]]) -> None:
        database = self._server.database
        if _DDL.match(sql) or sql.lstrip().upper().startswith("BEGIN"):
            if database.in_transaction:
                database.execute("COMMIT")
        elif not database.in_transaction and not sql.lstrip().upper().startswith("SELECT"):
            database.execute("BEGIN")
        if sql.startswith("INSERT"):
            for code, text in self._server.refusals.items():
                raise _raised(code, text)
        if index := _SPATIAL_INDEX.match(sql):
            known = "SELECT COUNT(*) FROM MDSYS.USER_SDO_GEOM_METADATA WHERE TABLE_NAME = ? AND COLUMN_NAME = ?"
            if not database.execute(known, index.groups()[1:]).fetchone()[0]:
                raise _raised(13203, "failed to read USER_SDO_GEOM_METADATA view")
            sql = f'CREATE INDEX {index[1]} ON "{index[2]}" ("{index[3]}")'
        elif dropped := _DROP_INDEX.search(sql):
            sql = f"DROP INDEX IF EXISTS {dropped[1]}"
        with self._errors_of(sql):
            self._check_objects(sql, bound)
            cursor = database.execute(_translated(sql), [_stored(value) for _, value in bound])
            self._rows = cursor.fetchall()
        self.rowcount = cursor.rowcount
        self.description = [tuple(column) for column in cursor.description] if cursor.description else None

    def _check_objects(self, sql: str, bound: list[tuple[object, object]]) -> None:
        """An object column takes objects only, and other columns none."""
        found = re.match(r'INSERT INTO (?:"TESTER"\.)?"(\w+)" \(([^)]*)\)', sql) or re.match(
            r'UPDATE (?:"TESTER"\.)?"(\w+)" SET (.*) WHERE', sql
        )
        if not found:
            return
        columns = {
            name: kind for _, name, kind, *_ in self._server.database.execute(f'PRAGMA main.table_info("{found[1]}")')
        }
        for name, (kind, _) in zip(re.findall(r'"(\w+)"', found[2]), bound, strict=False):
            if name in columns and ("SDO_GEOMETRY" in columns[name]) != (kind == "MDSYS.SDO_GEOMETRY"):
                raise _raised(932, f"inconsistent datatypes: expected {columns[name]} got {kind}")

    @contextlib.contextmanager
    def _errors_of(self, sql: str) -> Iterator[None]:
        """SQLite's errors as Oracle's."""
        try:
            yield
        except sqlite3.IntegrityError as error:
            text = str(error)
            if "NOT NULL" in text:
                raise _raised(1400, f'cannot insert NULL into ("TESTER".{text.rpartition(" ")[2]})') from error
            if "CHECK" in text and "size" in text:
                raise _raised(12899, "value too large for column") from error
            if "CHECK" in text:
                raise _raised(1438, "value larger than specified precision allowed for this column") from error
            if "USER_SDO_GEOM_METADATA" in text:
                raise _raised(13223, "duplicate entry for column in SDO_GEOM_METADATA") from error
            raise _raised(1, "unique constraint (TESTER.SYS_C008) violated") from error
        except sqlite3.OperationalError as error:
            text = str(error)
            if "no such table" in text:
                raise _raised(942, "table or view does not exist") from error
            if "column" in text:
                raise _raised(904, f"invalid identifier: {text}") from error
            if "already exists" in text:
                raise _raised(955, "name is already used by an existing object") from error
            raise _raised(900, f"invalid SQL statement: {text}: {sql}") from error
        except (sqlite3.ProgrammingError, sqlite3.Warning) as error:
            raise _raised(933, f"SQL command not properly ended: {error}") from error


_PYTHON_TYPES: dict[object, Any] = {
    "DB_TYPE_VARCHAR": str,
    "DB_TYPE_NUMBER": (int, float, Decimal),
    "DB_TYPE_DATE": datetime,
    "DB_TYPE_TIMESTAMP": datetime,
    "MDSYS.SDO_GEOMETRY": DbObject,
}


def _name(size: object) -> object:
    return getattr(size, "name", size)


def _stored(value: object) -> object:
    if isinstance(value, DbObject):
        point = value.SDO_POINT
        return json.dumps([value.SDO_GTYPE, value.SDO_SRID, point.X, point.Y, point.Z])
    if isinstance(value, datetime):
        assert value.microsecond == 0, "DATE has whole seconds"
        return value.isoformat(sep=" ")
    return str(value) if isinstance(value, Decimal) else value


def _sdo(data: bytes) -> DbObject:
    geometry, point = DbObject("MDSYS.SDO_GEOMETRY"), DbObject("MDSYS.SDO_POINT_TYPE")
    geometry.SDO_GTYPE, geometry.SDO_SRID, point.X, point.Y, point.Z = json.loads(data)
    geometry.SDO_POINT = point
    return geometry


_CONVERTERS: dict[str, Callable[[bytes], object]] = {
    "ORA_SDO_GEOMETRY": _sdo,
    "ORA_DATE": lambda data: datetime.fromisoformat(data.decode()),
    "ORA_NUMBER": lambda data: float(data) if b"." in data or b"e" in data.lower() else int(data),
}


def _translated(sql: str) -> str:
    """Oracle's SQL in SQLite's."""
    sql = re.sub(r":(\d+)", r"?\1", sql)
    sql = sql.replace('"TESTER".', "").replace("MDSYS.SDO_DIM", "SDO_DIM")
    if not re.match(r"\s*CREATE TABLE", sql):
        return re.sub(r"\bFROM DUAL\b", "", sql)
    numbers = itertools.count()

    def sized(found: re.Match[str], name: str) -> str:
        kind, size, scale = found.groups()
        if kind == "VARCHAR2":
            return f"VARCHAR2 CONSTRAINT size_{next(numbers)} CHECK (length({name}) <= {size})"
        limit = 10 ** (int(size) - int(scale or 0))
        return f"ORA_NUMBER CONSTRAINT number_{next(numbers)} CHECK (abs({name}) < {limit})"

    lines = []
    for line in sql.splitlines():
        name = line.strip().partition(" ")[0]
        line = line.replace(" MDSYS.SDO_GEOMETRY", " ORA_SDO_GEOMETRY").replace(" DATE", " ORA_DATE")
        line = re.sub(r" NUMBER(?!\()", " ORA_NUMBER", line)
        found = _SIZE.search(line)
        lines.append(line if found is None else line.replace(found[0], sized(found, name)))
    return "\n".join(lines)
