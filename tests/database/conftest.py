import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import shapely

from anonymise.database.backend import Backend
from anonymise.database.client import DatabaseClient
from anonymise.database.geopackage import GeoPackageBackend
from anonymise.database.oracle import OracleBackend
from anonymise.database.postgis import PostgisBackend
from anonymise.database.settings import GeoPackageSettings, OracleSettings, PostgisSettings, Settings
from anonymise.database.table import Table, load_table
from tests.database import oracle_standin
from tests.database.postgres import PASSWORD, USER, Cluster, find_binaries

ORACLE_DSN = os.environ.get("ANONYMISE_TEST_ORACLE_DSN", "")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server of our own."""
    binaries = find_binaries()
    if binaries is None:
        reason = "PostGIS is not installed (Debian: apt-get install postgresql postgresql-15-postgis-3)"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}, and in CI its tests must run")
        pytest.skip(reason)
    running = Cluster(binaries)
    try:
        with psycopg.connect(conninfo(running, "postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE spatial")
        with psycopg.connect(conninfo(running, "spatial"), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION postgis")
        yield running
    finally:
        running.remove()


def conninfo(cluster: Cluster, database: str) -> str:
    return psycopg.conninfo.make_conninfo(
        host="127.0.0.1", port=cluster.port, dbname=database, user=USER, password=PASSWORD
    )


@pytest.fixture
def postgis(cluster: Cluster) -> Iterator[PostgisSettings]:
    """A fresh database with PostGIS."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(conninfo(cluster, "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE spatial".encode())
    yield PostgisSettings(backend="postgis", host="127.0.0.1", port=cluster.port, database=name, user=USER)
    with psycopg.connect(conninfo(cluster, "postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@dataclass
class Target:
    """A database under test, and how its values are read back."""

    name: str
    backend: Backend
    settings: Settings
    password: str | None
    client: DatabaseClient
    standin: oracle_standin.Server | None = None

    def again(self) -> DatabaseClient:
        """Another client of the same database."""
        if isinstance(self.settings, GeoPackageSettings):
            return DatabaseClient(GeoPackageBackend(self.settings.file))
        if isinstance(self.settings, PostgisSettings):
            return DatabaseClient(PostgisBackend(self.settings, self.password))
        connect = {} if self.standin is None else {"connect": self.standin.connect}
        return DatabaseClient(OracleBackend(self.settings, self.password, **connect))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What a query gives; numbers as floats."""
        (found,) = self.client.execute([sql])
        return [tuple(float(v) if isinstance(v, int | Decimal) else v for v in row) for row in found.rows]

    def point(self, table: str, column: str, where: str) -> tuple[int, tuple[float, ...]] | None:
        """SRID and coordinates of a point."""
        if self.name == "oracle":
            ((geometry,),) = self.rows(f"SELECT {column} FROM {table} WHERE {where}")
            if geometry is None:
                return None
            point = geometry.SDO_POINT
            xyz = (point.X, point.Y) if geometry.SDO_GTYPE == 2001 else (point.X, point.Y, point.Z)
            return int(geometry.SDO_SRID), tuple(map(float, xyz))
        if self.name == "postgis":
            ((text, srid),) = self.rows(f"SELECT ST_AsText({column}), ST_SRID({column}) FROM {table} WHERE {where}")
        else:
            ((text, blob),) = self.rows(f"SELECT ST_AsText({column}), {column} FROM {table} WHERE {where}")
            srid = blob and int.from_bytes(blob[4:8], "little")
        return None if text is None else (int(srid), tuple(shapely.from_wkt(text).coords[0]))


@pytest.fixture(params=["geopackage", "postgis", "oracle"])
def target(request: pytest.FixtureRequest, tmp_path: Path, vegbilder: Table, small: Table) -> Iterator[Target]:
    """Each of the databases; Oracle's is a stand-in unless ANONYMISE_TEST_ORACLE_DSN names a real one."""
    backend: Backend
    settings: Settings
    if request.param == "geopackage":
        settings = GeoPackageSettings(backend="geopackage", file=tmp_path / "Vegbilder på øya.gpkg")
        backend = GeoPackageBackend(settings.file)
        found = Target("geopackage", backend, settings, None, DatabaseClient(backend))
    elif request.param == "postgis":
        settings = request.getfixturevalue("postgis")
        assert isinstance(settings, PostgisSettings)
        backend = PostgisBackend(settings, PASSWORD)
        found = Target("postgis", backend, settings, PASSWORD, DatabaseClient(backend))
    elif ORACLE_DSN:
        login, _, place = ORACLE_DSN.rpartition("@")
        user, _, password = login.partition("/")
        address, _, service = place.partition("/")
        host, _, port = address.partition(":")
        settings = OracleSettings(backend="oracle", host=host, port=int(port or 1521), service=service, user=user)
        backend = OracleBackend(settings, password)
        found = Target("oracle", backend, settings, password, DatabaseClient(backend))
        _remove_tables(found, vegbilder, small)
    else:
        standin = oracle_standin.Server()
        settings = OracleSettings(backend="oracle", host="oracle.test", service="FREEPDB1", user="TESTER")
        backend = OracleBackend(settings, oracle_standin.PASSWORD, standin.connect)
        found = Target("oracle", backend, settings, oracle_standin.PASSWORD, DatabaseClient(backend), standin)
    yield found
    found.client.close()
    if found.standin is not None:
        found.standin.close()


def _remove_tables(target: Target, *tables: Table) -> None:
    for table in tables:
        if target.client.has_table(table):
            target.client.execute([f"DROP TABLE {table.name} PURGE"])
        delete = "DELETE FROM MDSYS.USER_SDO_GEOM_METADATA WHERE TABLE_NAME = "
        target.client.execute([f"{delete}'{table.name.upper()}'"])


@pytest.fixture(scope="session")
def vegbilder() -> Table:
    return load_table("VEGBILDER")


@pytest.fixture(scope="session")
def small() -> Table:
    """A table with what VEGBILDER has not: a third dimension, sizes of numbers, another unique column."""
    axes = [
        {"name": name, "min": low, "max": high, "tol": 0.5}
        for name, low, high in (("Longitude", -180, 180), ("Latitude", -90, 90), ("Height", -500, 9000))
    ]
    return Table.model_validate(
        {
            "name": "Small_Table",
            "pk_column": "Id",
            "columns": [
                {"name": "Hoyde", "dtype": "NUMBER(6,2)", "formatter": "exif_altitude", "extra": "NOT NULL"},
                {"name": "Id", "dtype": "VARCHAR2(20)", "formatter": "bildeid", "extra": "PRIMARY KEY"},
                {"name": "Select", "dtype": "VARCHAR(8)", "formatter": "exif_filnavn", "extra": "UNIQUE"},
                {
                    "name": "Sted",
                    "dtype": "SDO_GEOMETRY",
                    "formatter": "exif_gpsposisjon",
                    "extra": None,
                    "spatial_metadata": {"srid": 4326, "dimension": 3, "dim_elements": axes},
                },
            ],
        }
    )
