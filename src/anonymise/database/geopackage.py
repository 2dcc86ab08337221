"""A GeoPackage: one SQLite file that QGIS and GDAL open.

The file's names are those of the table file; SQLite makes no difference between upper and lower case. What the standard
asks for stands in `gpkg`.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path, PurePath
from types import MappingProxyType

import psutil
import shapely
from shapely import Point

from anonymise.core.errors import DatabaseError, DatabaseUnavailable
from anonymise.core.resources import command_line
from anonymise.database import gpkg
from anonymise.database.backend import GeometryAction, Outcome, ResultSet, RowResult, Statement
from anonymise.database.column import Value
from anonymise.database.geometry import from_geopackage, geopackage_bounds, to_geopackage
from anonymise.database.table import Row, Table

__all__ = ["GeoPackageBackend"]

BUSY_SECONDS = 10.0
"""How long a batch waits while another program, such as QGIS, writes to the file."""

_LOCAL_FILE_SYSTEMS = frozenset(
    {"apfs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "hfs", "jfs", "ntfs", "overlay", "tmpfs", "ufs", "xfs", "zfs"}
)
"""On these SQLite's write-ahead log is safe; it is not on shares (https://www.sqlite.org/wal.html)."""

# By the text, because Python 3.10 does not tell SQLite's error codes.
_PERMANENT = ("no such table", "no such column", "has no column", "readonly", "syntax error", "already exists")


class GeoPackageBackend:
    """A GeoPackage; see `backend.Backend`."""

    def __init__(self, file: Path) -> None:
        """Names the file; opens nothing.

        Args:
            file: `create_table` makes it; its folder exists.
        """
        self._file = file
        self._connection: sqlite3.Connection | None = None

    @property
    def connected(self) -> bool:
        """Whether the file is open."""
        return self._connection is not None

    def has_table(self, table: Table) -> bool:
        """Whether there is the file, and a table of this name in it."""
        if self._connection is None and not self._file.exists() and self._file.parent.is_dir():
            return False
        return table.name.lower() in self._tables()

    def create_statements(self, table: Table) -> list[Statement]:
        """The table, its entries in GeoPackage's own tables, the R-tree, and the views of further geometries."""
        return gpkg.table_statements(table)

    def create_table(self, table: Table) -> None:
        """Makes the file where it is missing, and the table."""
        if not self._file.exists():
            self._create_file()
        self.run(self.create_statements(table))

    def geometry_statements(self, table: Table, action: GeometryAction) -> list[Statement]:
        """Entries of the layers, or the R-tree of the first one; a view has none."""
        return gpkg.geometry_statements(table, action)

    def upsert(self, table: Table, rows: Sequence[Row]) -> list[RowResult]:
        """Inserts or replaces rows in one transaction."""
        names = [column.name for column in table.columns]
        sql = (
            f'INSERT INTO "{table.name}" ({", ".join(map(gpkg.quoted, names))}) '  # noqa: S608  checked names
            f"VALUES ({', '.join('?' * len(names))}) ON CONFLICT ({gpkg.quoted(table.pk_column)}) DO UPDATE SET "
            + ", ".join(f'"{name}" = excluded."{name}"' for name in names if name != table.pk_column)
        )
        exists = f'SELECT EXISTS (SELECT 1 FROM "{table.name}" WHERE "{table.pk_column}" = ?)'  # noqa: S608
        changed = f"UPDATE gpkg_contents SET last_change = {gpkg.NOW} WHERE table_name = ? COLLATE NOCASE"  # noqa: S608
        with self._transaction() as connection:
            results = [_upsert_row(connection, sql, exists, tuple(map(_bound, row)), table) for row in rows]
            connection.execute(changed, (table.name,))
        return results

    def run(self, statements: Sequence[Statement]) -> list[ResultSet]:
        """Runs statements in one transaction, those that make tables too."""
        results = []
        with self._transaction() as connection:
            for sql, values in statements:
                cursor = connection.execute(sql, tuple(values))
                columns = tuple(column[0] for column in cursor.description or ())
                rows = cursor.fetchall()
                results.append(ResultSet(columns, rows, len(rows) if columns else cursor.rowcount))
        return results

    def query(self, sql: str) -> ResultSet:
        """Runs one query."""
        return self.run([Statement(sql)])[-1]

    def disconnect(self) -> None:
        """Closes the file, and makes it a single one again."""
        if self._connection is None:
            return
        with contextlib.suppress(sqlite3.Error):
            # So that a copy has all rows and read-only folders can be read; fails where someone else has it open.
            self._connection.execute("PRAGMA busy_timeout = 0")
            self._connection.execute("PRAGMA journal_mode = DELETE")
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        self._connection = None

    def _tables(self) -> set[str]:
        found = self.run([Statement("SELECT lower(name) FROM sqlite_master WHERE type IN ('table', 'view')")])
        return {str(row[0]) for row in found[0].rows}

    def _create_file(self) -> None:
        try:
            with contextlib.closing(sqlite3.connect(self._file, timeout=BUSY_SECONDS, isolation_level=None)) as new:
                new.execute("BEGIN EXCLUSIVE")
                for statement, values in gpkg.file_statements():
                    new.execute(statement, tuple(values))
                new.execute("COMMIT")
        except sqlite3.Error as error:
            raise DatabaseError(f"the GeoPackage {self._file} cannot be made: {error}") from error

    def _opened(self) -> sqlite3.Connection:
        if self._connection is not None:
            # SQLite would go on writing to a file that was deleted or replaced.
            if self._file.exists():
                return self._connection
            self.disconnect()
        if not self._file.exists():
            if self._file.parent.is_dir():
                way_out = command_line("create-table")
                raise DatabaseError(f"there is no GeoPackage {self._file}; make it with: {way_out}")
            raise DatabaseUnavailable(f"the folder {self._file.parent} is out of reach")
        connection = sqlite3.connect(
            f"{self._file.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS, isolation_level=None
        )
        try:
            if connection.execute("PRAGMA application_id").fetchone()[0] != gpkg.APPLICATION_ID:
                raise DatabaseError(f"{self._file} is no GeoPackage")
            connection.execute(f"PRAGMA journal_mode = {'WAL' if _is_local(self._file) else 'TRUNCATE'}")
            # A row that is reported as written must survive a loss of power.
            connection.execute("PRAGMA synchronous = FULL")
            for name, function in _SQL_FUNCTIONS.items():
                connection.create_function(name, 1, function, deterministic=True)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is committed at the end and rolled back on an error; SQLite's errors become ours."""
        try:
            connection = self._opened()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            if any(text in str(error) for text in _PERMANENT):
                raise DatabaseError(f"the GeoPackage {self._file} refuses: {error}") from error
            raise DatabaseUnavailable(f"the GeoPackage {self._file} cannot be used now: {error}") from error
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise DatabaseError(f"the GeoPackage {self._file} refuses: {error}") from error


def _upsert_row(
    connection: sqlite3.Connection, sql: str, exists: str, values: tuple[object, ...], table: Table
) -> RowResult:
    # No other program can write between the two statements: the transaction holds the lock.
    (known,) = connection.execute(exists, (values[table.primary_key_index],)).fetchone()
    try:
        connection.execute(sql, values)
    except (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, OverflowError) as error:
        return RowResult(Outcome.FAILED, str(error))
    return RowResult(Outcome.UPDATED if known else Outcome.INSERTED)


def _bound(value: Value) -> object:
    """A value as SQLite takes it."""
    if isinstance(value, Point):
        return to_geopackage(value)
    if isinstance(value, Decimal):
        whole = value == value.to_integral_value() and value.adjusted() < 18
        return int(value) if whole else float(value)
    if isinstance(value, datetime):
        # The specification knows only UTC; GDAL, too, writes times without a zone this way.
        return value.isoformat(timespec="milliseconds") + "Z"
    return value


def _is_local(file: Path) -> bool:
    """Whether a file is known to be on a disk of this machine; rather no than a wrong yes."""
    path = PurePath(file.resolve())
    try:
        partitions = psutil.disk_partitions(all=True)
    except (OSError, RuntimeError):
        return False
    holding = [part for part in partitions if path.is_relative_to(part.mountpoint)]
    if not holding:
        return False
    part = max(holding, key=lambda p: len(PurePath(p.mountpoint).parts))
    return part.fstype.lower() in _LOCAL_FILE_SYSTEMS and "remote" not in part.opts.split(",")


def _bound_of(index: int) -> Callable[[object], float | None]:
    def function(blob: object) -> float | None:
        bounds = geopackage_bounds(blob) if isinstance(blob, bytes) else None
        return None if bounds is None else bounds[index]

    return function


def _is_empty(blob: object) -> int | None:
    return int(geopackage_bounds(blob) is None) if isinstance(blob, bytes) else None


def _as_text(blob: object) -> str | None:
    return shapely.to_wkt(from_geopackage(blob), rounding_precision=-1) if isinstance(blob, bytes) else None


_SQL_FUNCTIONS: Mapping[str, Callable[[object], float | int | str | None]] = MappingProxyType(
    {
        "ST_IsEmpty": _is_empty,
        "ST_MinX": _bound_of(0),
        "ST_MinY": _bound_of(1),
        "ST_MaxX": _bound_of(2),
        "ST_MaxY": _bound_of(3),
        "ST_AsText": _as_text,
    }
)
"""What the triggers of the spatial index call, as in GDAL; and one for people."""
