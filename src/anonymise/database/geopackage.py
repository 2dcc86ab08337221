"""A GeoPackage: one SQLite file that QGIS and GDAL open.

It is a GeoPackage 1.3 (OGC 12-128r17) with the R-tree triggers of 1.4 (12-128r19, annex F.3), because those of 1.3 fail
on upserts.

A layer of a GeoPackage has one geometry. The first geometry column of a table is that; each further one is a plain
column of the same layer, and a layer of its own through a view named ``<table>_<column>``.

The file's names are those of the table file; SQLite makes no difference between upper and lower case.

Long because the tables, views and triggers that the standard asks for stand here in full beside what fills them.
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
from anonymise.database.backend import GeometryAction, Outcome, ResultSet, RowResult, Statement
from anonymise.database.column import Column, Kind, Value
from anonymise.database.geometry import from_geopackage, geopackage_bounds, to_geopackage
from anonymise.database.table import Row, Table

__all__ = ["GeoPackageBackend"]

_APPLICATION_ID = 0x47504B47
"""``GPKG`` in ASCII."""
_VERSION = 10300

_BUSY_SECONDS = 10.0
"""How long a batch waits while another program, such as QGIS, writes to the file."""

_FEATURE_ID = "fid"
"""A GeoPackage's table needs an integer as its primary key; this is the name that GDAL gives it."""

_LOCAL_FILE_SYSTEMS = frozenset(
    {
        "apfs",
        "btrfs",
        "ext2",
        "ext3",
        "ext4",
        "f2fs",
        "hfs",
        "jfs",
        "ntfs",
        "overlay",
        "tmpfs",
        "ufs",
        "xfs",
        "zfs",
    }
)
"""On these SQLite's write-ahead log is safe; it is not on shares (https://www.sqlite.org/wal.html)."""

_SCHEMA = (
    """CREATE TABLE gpkg_spatial_ref_sys (srs_name TEXT NOT NULL, srs_id INTEGER PRIMARY KEY,
    organization TEXT NOT NULL, organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL,
    description TEXT)""",
    """CREATE TABLE gpkg_contents (table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL,
    identifier TEXT UNIQUE, description TEXT DEFAULT '',
    last_change DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
    min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE, srs_id INTEGER,
    CONSTRAINT fk_gc_r_srs_id FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys(srs_id))""",
    """CREATE TABLE gpkg_geometry_columns (table_name TEXT NOT NULL, column_name TEXT NOT NULL,
    geometry_type_name TEXT NOT NULL, srs_id INTEGER NOT NULL, z TINYINT NOT NULL, m TINYINT NOT NULL,
    CONSTRAINT pk_geom_cols PRIMARY KEY (table_name, column_name), CONSTRAINT uk_gc_table_name UNIQUE (table_name),
    CONSTRAINT fk_gc_tn FOREIGN KEY (table_name) REFERENCES gpkg_contents(table_name),
    CONSTRAINT fk_gc_srs FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys(srs_id))""",
    """CREATE TABLE gpkg_extensions (table_name TEXT, column_name TEXT, extension_name TEXT NOT NULL,
    definition TEXT NOT NULL, scope TEXT NOT NULL,
    CONSTRAINT ge_tce UNIQUE (table_name, column_name, extension_name))""",
)

_WGS_84 = (
    'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563,AUTHORITY["EPSG","7030"]],'
    'AUTHORITY["EPSG","6326"]],PRIMEM["Greenwich",0,AUTHORITY["EPSG","8901"]],'
    'UNIT["degree",0.0174532925199433,AUTHORITY["EPSG","9122"]],AUTHORITY["EPSG","4326"]]'
)
_ETRS_89 = (
    'GEOGCS["ETRS89",DATUM["European_Terrestrial_Reference_System_1989",SPHEROID["GRS 1980",6378137,298.257222101,'
    'AUTHORITY["EPSG","7019"]],AUTHORITY["EPSG","6258"]],PRIMEM["Greenwich",0,AUTHORITY["EPSG","8901"]],'
    'UNIT["degree",0.0174532925199433,AUTHORITY["EPSG","9122"]],AUTHORITY["EPSG","4258"]]'
)
_UTM_NORTH = (
    'PROJCS["{name}",{base},PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],'
    'PARAMETER["central_meridian",{meridian}],PARAMETER["scale_factor",0.9996],PARAMETER["false_easting",500000],'
    'PARAMETER["false_northing",0],UNIT["metre",1,AUTHORITY["EPSG","9001"]],AXIS["Easting",EAST],'
    'AXIS["Northing",NORTH],AUTHORITY["EPSG","{srid}"]]'
)

_TRIGGERS = (
    """CREATE TRIGGER "rtree_{t}_{c}_insert" AFTER INSERT ON "{t}"
    WHEN (new."{c}" NOT NULL AND NOT ST_IsEmpty(NEW."{c}"))
    BEGIN INSERT OR REPLACE INTO "rtree_{t}_{c}" VALUES (NEW."{i}",
    ST_MinX(NEW."{c}"), ST_MaxX(NEW."{c}"), ST_MinY(NEW."{c}"), ST_MaxY(NEW."{c}")); END""",
    """CREATE TRIGGER "rtree_{t}_{c}_update2" AFTER UPDATE OF "{c}" ON "{t}"
    WHEN OLD."{i}" = NEW."{i}" AND (NEW."{c}" ISNULL OR ST_IsEmpty(NEW."{c}"))
    BEGIN DELETE FROM "rtree_{t}_{c}" WHERE id = OLD."{i}"; END""",
    """CREATE TRIGGER "rtree_{t}_{c}_update4" AFTER UPDATE ON "{t}"
    WHEN OLD."{i}" != NEW."{i}" AND (NEW."{c}" ISNULL OR ST_IsEmpty(NEW."{c}"))
    BEGIN DELETE FROM "rtree_{t}_{c}" WHERE id IN (OLD."{i}", NEW."{i}"); END""",
    """CREATE TRIGGER "rtree_{t}_{c}_update5" AFTER UPDATE ON "{t}"
    WHEN OLD."{i}" != NEW."{i}" AND (NEW."{c}" NOTNULL AND NOT ST_IsEmpty(NEW."{c}"))
    BEGIN DELETE FROM "rtree_{t}_{c}" WHERE id = OLD."{i}";
    INSERT OR REPLACE INTO "rtree_{t}_{c}" VALUES (NEW."{i}",
    ST_MinX(NEW."{c}"), ST_MaxX(NEW."{c}"), ST_MinY(NEW."{c}"), ST_MaxY(NEW."{c}")); END""",
    """CREATE TRIGGER "rtree_{t}_{c}_update6" AFTER UPDATE OF "{c}" ON "{t}"
    WHEN OLD."{i}" = NEW."{i}" AND (NEW."{c}" NOTNULL AND NOT ST_IsEmpty(NEW."{c}"))
    AND (OLD."{c}" NOTNULL AND NOT ST_IsEmpty(OLD."{c}"))
    BEGIN UPDATE "rtree_{t}_{c}" SET minx = ST_MinX(NEW."{c}"), maxx = ST_MaxX(NEW."{c}"),
    miny = ST_MinY(NEW."{c}"), maxy = ST_MaxY(NEW."{c}") WHERE id = NEW."{i}"; END""",
    """CREATE TRIGGER "rtree_{t}_{c}_update7" AFTER UPDATE OF "{c}" ON "{t}"
    WHEN OLD."{i}" = NEW."{i}" AND (NEW."{c}" NOTNULL AND NOT ST_IsEmpty(NEW."{c}"))
    AND (OLD."{c}" ISNULL OR ST_IsEmpty(OLD."{c}"))
    BEGIN INSERT INTO "rtree_{t}_{c}" VALUES (NEW."{i}",
    ST_MinX(NEW."{c}"), ST_MaxX(NEW."{c}"), ST_MinY(NEW."{c}"), ST_MaxY(NEW."{c}")); END""",
    """CREATE TRIGGER "rtree_{t}_{c}_delete" AFTER DELETE ON "{t}" WHEN OLD."{c}" NOT NULL
    BEGIN DELETE FROM "rtree_{t}_{c}" WHERE id = OLD."{i}"; END""",
)
_TRIGGER_NAMES = ("insert", "update2", "update4", "update5", "update6", "update7", "delete")
_RTREE_DEFINITION = "http://www.geopackage.org/spec120/#extension_rtree"

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
        if any(column.name.lower() == _FEATURE_ID for column in table.columns):
            raise DatabaseError(f"{table.name}: a column cannot have the name {_FEATURE_ID} in a GeoPackage")
        layer = table.geometry_columns[:1]
        columns = ",\n    ".join(_definition(column, is_layer=column in layer) for column in table.columns)
        create = (
            f'CREATE TABLE "{table.name}" (\n    "{_FEATURE_ID}" INTEGER PRIMARY KEY AUTOINCREMENT,\n    {columns})'
        )
        return [
            Statement(create),
            *(Statement(_view(table, column)) for column in table.geometry_columns[1:]),
            *([] if layer else [_content(table.name, "attributes", None)]),
            *_layers(table),
            *_rtree(table),
        ]

    def create_table(self, table: Table) -> None:
        """Makes the file where it is missing, and the table."""
        if not self._file.exists():
            self._create_file()
        self.run(self.create_statements(table))

    def geometry_statements(self, table: Table, action: GeometryAction) -> list[Statement]:
        """Entries of the layers, or the R-tree of the first one; a view has none."""
        match action:
            case GeometryAction.DROP:
                return _without_rtree(table) + _without_layers(table)
            case GeometryAction.INSERT:
                return _without_layers(table) + _layers(table)
            case GeometryAction.CREATE:
                return _without_rtree(table) + _rtree(table)

    def upsert(self, table: Table, rows: Sequence[Row]) -> list[RowResult]:
        """Inserts or replaces rows in one transaction."""
        names = [column.name for column in table.columns]
        sql = (
            f'INSERT INTO "{table.name}" ({", ".join(map(_quoted, names))}) '  # noqa: S608  checked names
            f"VALUES ({', '.join('?' * len(names))}) ON CONFLICT ({_quoted(table.pk_column)}) DO UPDATE SET "
            + ", ".join(f'"{name}" = excluded."{name}"' for name in names if name != table.pk_column)
        )
        exists = f'SELECT EXISTS (SELECT 1 FROM "{table.name}" WHERE "{table.pk_column}" = ?)'  # noqa: S608
        changed = f"UPDATE gpkg_contents SET last_change = {_NOW} WHERE table_name = ? COLLATE NOCASE"  # noqa: S608
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
            with contextlib.closing(sqlite3.connect(self._file, timeout=_BUSY_SECONDS, isolation_level=None)) as new:
                new.execute("BEGIN EXCLUSIVE")
                for statement in _SCHEMA:
                    new.execute(statement)
                rows = [_reference_system(srid) for srid in (-1, 0, 4326)]
                new.executemany(_INSERT_REFERENCE_SYSTEM, rows)
                new.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                new.execute(f"PRAGMA user_version = {_VERSION}")
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
            f"{self._file.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS, isolation_level=None
        )
        try:
            if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
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


def _quoted(name: str) -> str:
    return f'"{name}"'


def _definition(column: Column, *, is_layer: bool) -> str:
    """A column as CREATE TABLE has it, with GeoPackage's types (table 1 of the specification)."""
    size, kind = column.dtype.size, column.dtype.kind
    if kind is Kind.GEOMETRY:
        type_name = "POINT" if is_layer else "BLOB"
    elif kind is Kind.NUMBER:
        type_name = "INTEGER" if size is not None and size <= 18 and not column.dtype.scale else "DOUBLE"
    else:
        type_name = {Kind.TEXT: f"TEXT({size})", Kind.TIME: "DATETIME", Kind.LONG_TEXT: "TEXT"}[kind]
    null = " NOT NULL" if column.required else ""
    unique = " UNIQUE" if column.unique or "PRIMARY KEY" in column.extra else ""
    return f'"{column.name}" {type_name}{null}{unique}'


def _view_name(table: Table, column: Column) -> str:
    return f"{table.name}_{column.name}"


def _view(table: Table, column: Column) -> str:
    others = [c.name for c in table.columns if c.dtype.kind is not Kind.GEOMETRY]
    names = ", ".join(map(_quoted, (_FEATURE_ID, column.name, *others)))
    return (
        f'CREATE VIEW "{_view_name(table, column)}" AS SELECT {names} FROM "{table.name}" '  # noqa: S608  checked names
        f'WHERE "{column.name}" NOT NULL'
    )


_NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
_INSERT_REFERENCE_SYSTEM = (
    "INSERT OR IGNORE INTO gpkg_spatial_ref_sys "
    "(srs_name, srs_id, organization, organization_coordsys_id, definition) VALUES (?, ?, ?, ?, ?)"
)


def _content(name: str, data_type: str, srid: int | None) -> Statement:
    sql = "INSERT INTO gpkg_contents (table_name, data_type, identifier, srs_id) VALUES (?, ?, ?, ?)"
    return Statement(sql, (name, data_type, name, srid))


def _layer(name: str, column: Column) -> list[Statement]:
    spatial = column.spatial
    return [
        Statement(_INSERT_REFERENCE_SYSTEM, _reference_system(spatial.srid)),
        _content(name, "features", spatial.srid),
        Statement(
            "INSERT INTO gpkg_geometry_columns (table_name, column_name, geometry_type_name, srs_id, z, m) "
            "VALUES (?, ?, 'POINT', ?, ?, 0)",
            (name, column.name, spatial.srid, int(spatial.dimension == 3)),
        ),
    ]


def _named_layers(table: Table) -> list[tuple[str, Column]]:
    """The table with its first geometry column, and a view with each further one."""
    return [
        (_view_name(table, column) if number else table.name, column)
        for number, column in enumerate(table.geometry_columns)
    ]


def _layers(table: Table) -> list[Statement]:
    return [statement for name, column in _named_layers(table) for statement in _layer(name, column)]


def _without_layers(table: Table) -> list[Statement]:
    # SQLite makes no difference between upper and lower case in the names of tables.
    return [
        Statement(f"DELETE FROM {entries} WHERE table_name = ? COLLATE NOCASE", (name,))  # noqa: S608
        for name, _ in _named_layers(table)
        for entries in ("gpkg_geometry_columns", "gpkg_contents")
    ]


def _rtree(table: Table) -> list[Statement]:
    """The spatial index of the table's own layer."""
    if not table.geometry_columns:
        return []
    t, c, i = table.name, table.geometry_columns[0].name, _FEATURE_ID
    fill = (
        f'INSERT INTO "rtree_{t}_{c}" SELECT "{i}", ST_MinX("{c}"), ST_MaxX("{c}"), ST_MinY("{c}"), ST_MaxY("{c}") '  # noqa: S608
        f'FROM "{t}" WHERE "{c}" NOT NULL AND NOT ST_IsEmpty("{c}")'
    )
    return [
        Statement(f'CREATE VIRTUAL TABLE "rtree_{t}_{c}" USING rtree(id, minx, maxx, miny, maxy)'),
        Statement(fill),
        *(Statement(trigger.format(t=t, c=c, i=i)) for trigger in _TRIGGERS),
        Statement(
            "INSERT INTO gpkg_extensions VALUES (?, ?, 'gpkg_rtree_index', ?, 'write-only')", (t, c, _RTREE_DEFINITION)
        ),
    ]


def _without_rtree(table: Table) -> list[Statement]:
    if not table.geometry_columns:
        return []
    t, c = table.name, table.geometry_columns[0].name
    where = "table_name = ? COLLATE NOCASE AND column_name = ? COLLATE NOCASE"
    return [
        *(Statement(f'DROP TRIGGER IF EXISTS "rtree_{t}_{c}_{trigger}"') for trigger in _TRIGGER_NAMES),
        Statement(f'DROP TABLE IF EXISTS "rtree_{t}_{c}"'),
        Statement(f"DELETE FROM gpkg_extensions WHERE {where}", (t, c)),  # noqa: S608
    ]


def _reference_system(srid: int) -> tuple[str, int, str, int, str]:
    """Name, id, organisation, its id, and definition of a coordinate system.

    GDAL and QGIS go by the EPSG code; the definition, which few programs read, is given for the systems of roads.
    """
    if srid in {-1, 0}:
        name = "Undefined cartesian SRS" if srid else "Undefined geographic SRS"
        return name, srid, "NONE", srid, "undefined"
    if srid in _GEOGRAPHIC:
        name, definition = _GEOGRAPHIC[srid]
        return name, srid, "EPSG", srid, definition
    for first, name, base in ((25800, "ETRS89", _ETRS_89), (32600, "WGS 84", _WGS_84)):
        zone = srid - first
        if 1 <= zone <= 60:
            name = f"{name} / UTM zone {zone}N"
            definition = _UTM_NORTH.format(name=name, base=base, meridian=6 * zone - 183, srid=srid)
            return name, srid, "EPSG", srid, definition
    return f"EPSG:{srid}", srid, "EPSG", srid, "undefined"


_GEOGRAPHIC = MappingProxyType({4326: ("WGS 84 geodetic", _WGS_84), 4258: ("ETRS89", _ETRS_89)})


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
