"""The SQL that makes a GeoPackage, its layers, and their spatial index.

It is a GeoPackage 1.3 (OGC 12-128r17) with the R-tree triggers of 1.4 (12-128r19, annex F.3), because those of 1.3 fail
on upserts. The triggers call functions that `geopackage` gives SQLite.

A layer of a GeoPackage has one geometry. The first geometry column of a table is that; each further one is a plain
column of the same layer, and a layer of its own through a view named ``<table>_<column>``.
"""

from types import MappingProxyType

from anonymise.core.errors import DatabaseError
from anonymise.database.backend import GeometryAction, Statement
from anonymise.database.column import Column, Kind
from anonymise.database.table import Table

__all__ = ["APPLICATION_ID", "NOW", "file_statements", "geometry_statements", "quoted", "table_statements"]

APPLICATION_ID = 0x47504B47
"""``GPKG`` in ASCII."""

_VERSION = 10300

_FEATURE_ID = "fid"
"""A GeoPackage's table needs an integer as its primary key; this is the name that GDAL gives it."""

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

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"

_INSERT_REFERENCE_SYSTEM = (
    "INSERT OR IGNORE INTO gpkg_spatial_ref_sys "
    "(srs_name, srs_id, organization, organization_coordsys_id, definition) VALUES (?, ?, ?, ?, ?)"
)

_GEOGRAPHIC = MappingProxyType({4326: ("WGS 84 geodetic", _WGS_84), 4258: ("ETRS89", _ETRS_89)})


def file_statements() -> list[Statement]:
    """GeoPackage's own tables, in an empty SQLite file."""
    return [
        *map(Statement, _SCHEMA),
        *(Statement(_INSERT_REFERENCE_SYSTEM, _reference_system(srid)) for srid in (-1, 0, 4326)),
        Statement(f"PRAGMA application_id = {APPLICATION_ID}"),
        Statement(f"PRAGMA user_version = {_VERSION}"),
    ]


def table_statements(table: Table) -> list[Statement]:
    """The table, its entries in GeoPackage's own tables, the R-tree, and the views of further geometries.

    Raises:
        DatabaseError: a column has the name that GeoPackage needs.
    """
    if any(column.name.lower() == _FEATURE_ID for column in table.columns):
        raise DatabaseError(f"{table.name}: a column cannot have the name {_FEATURE_ID} in a GeoPackage")
    layer = table.geometry_columns[:1]
    columns = ",\n    ".join(_definition(column, is_layer=column in layer) for column in table.columns)
    create = f'CREATE TABLE "{table.name}" (\n    "{_FEATURE_ID}" INTEGER PRIMARY KEY AUTOINCREMENT,\n    {columns})'
    return [
        Statement(create),
        *(Statement(_view(table, column)) for column in table.geometry_columns[1:]),
        *([] if layer else [_content(table.name, "attributes", None)]),
        *_layers(table),
        *_rtree(table),
    ]


def geometry_statements(table: Table, action: GeometryAction) -> list[Statement]:
    """Entries of the layers, or the R-tree of the first one; a view has none."""
    match action:
        case GeometryAction.DROP:
            return _without_rtree(table) + _without_layers(table)
        case GeometryAction.INSERT:
            return _without_layers(table) + _layers(table)
        case GeometryAction.CREATE:
            return _without_rtree(table) + _rtree(table)


def quoted(name: str) -> str:
    """A name as SQL has it. Names are checked when a table is read; they hold no quotes."""
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
    names = ", ".join(map(quoted, (_FEATURE_ID, column.name, *others)))
    return (
        f'CREATE VIEW "{_view_name(table, column)}" AS SELECT {names} FROM "{table.name}" '  # noqa: S608  checked names
        f'WHERE "{column.name}" NOT NULL'
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
