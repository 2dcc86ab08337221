"""What only Oracle has; against the stand-in, which can be told to misbehave."""

from collections.abc import Iterator
from typing import Any

import oracledb
import pytest

from anonymise.core.errors import DatabaseError, DatabaseUnavailable
from anonymise.database.backend import GeometryAction, Outcome
from anonymise.database.client import DatabaseClient
from anonymise.database.oracle import OracleBackend
from anonymise.database.settings import OracleSettings
from anonymise.database.table import Table
from tests.database.oracle_standin import PASSWORD, Connection, Cursor, DbObject, Server, Var
from tests.database.records import POSITION, road_record

SETTINGS = OracleSettings(backend="oracle", host="oracle.test", service="FREEPDB1", user="tester")


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def client(server: Server) -> DatabaseClient:
    return DatabaseClient(OracleBackend(SETTINGS, PASSWORD, server.connect))


def test_the_table_as_oracle_has_it(client: DatabaseClient, vegbilder: Table) -> None:
    create, *rest = [statement.sql for statement in client.create_statements(vegbilder)]
    lines = [line.strip().rstrip(",") for line in create.splitlines()]
    assert lines[0] == 'CREATE TABLE "VEGBILDER" ('
    assert lines[1] == '"ID" VARCHAR2(256 CHAR) NOT NULL'
    assert '"TIDSPUNKT" DATE NOT NULL' in lines
    assert '"POSISJON" MDSYS.SDO_GEOMETRY' in lines
    assert '"JSONDATA" CLOB NOT NULL' in lines
    assert lines[-1] == 'PRIMARY KEY ("ID"))'
    assert rest[0].startswith("INSERT INTO MDSYS.USER_SDO_GEOM_METADATA")
    index = 'CREATE INDEX "VEGBILDER_POSISJON_X" ON "VEGBILDER" ("POSISJON") INDEXTYPE IS MDSYS.SPATIAL_INDEX_V2'
    assert rest[2] == index


def test_the_geometry_metadata(server: Server, client: DatabaseClient, vegbilder: Table) -> None:
    client.create_table(vegbilder)
    rows = server.database.execute("SELECT * FROM MDSYS.USER_SDO_GEOM_METADATA ORDER BY SRID").fetchall()
    assert rows == [
        ("VEGBILDER", "POSISJON", '[["Longitude", -180.0, 180.0, 0.5], ["Latitude", -90.0, 90.0, 0.5]]', 4326),
        (
            "VEGBILDER",
            "SENTERLINJEPOSISJON",
            '[["X", -100000.0, 1120000.0, 0.01], ["Y", 6430000.0, 7960000.0, 0.01]]',
            25833,
        ),
    ]
    client.change_geometry_metadata(vegbilder, [GeometryAction.DROP])
    assert server.database.execute("SELECT COUNT(*) FROM MDSYS.USER_SDO_GEOM_METADATA").fetchone() == (0,)
    with pytest.raises(DatabaseError, match="ORA-13203"):
        client.change_geometry_metadata(vegbilder, [GeometryAction.CREATE])


def test_geometry_objects(server: Server, client: DatabaseClient, vegbilder: Table, small: Table) -> None:
    client.create_table(vegbilder)
    client.create_table(small)
    client.upsert(vegbilder, [road_record(bildeid="a")])
    client.upsert(small, [road_record(bildeid="a", exif_filnavn="a")])
    flat: Any = client.execute(["SELECT Posisjon FROM VEGBILDER"])[0].rows[0][0]
    high: Any = client.execute(["SELECT Sted FROM Small_Table"])[0].rows[0][0]
    assert (flat.SDO_GTYPE, flat.SDO_SRID, flat.SDO_POINT.Z) == (2001, 4326, None)
    assert (high.SDO_GTYPE, high.SDO_SRID) == (3001, 4326)
    assert float(high.SDO_POINT.Z) == pytest.approx(POSITION[2])
    assert flat.SDO_ELEM_INFO is None


def test_a_batch_takes_two_round_trips_at_most(server: Server, client: DatabaseClient, vegbilder: Table) -> None:
    client.create_table(vegbilder)
    records = [road_record(bildeid=str(n)) for n in range(20)]
    server.sql.clear()
    client.upsert(vegbilder, records)
    assert [sql.split()[0] for sql in server.sql] == ["INSERT"]
    server.sql.clear()
    client.upsert(vegbilder, [*records, road_record(bildeid="new")])
    assert [sql.split()[0] for sql in server.sql] == ["INSERT", "UPDATE"]


def test_a_schema_and_who_may_change_its_metadata(server: Server, vegbilder: Table) -> None:
    own = SETTINGS.model_copy(update={"db_schema": "Tester"})
    client = DatabaseClient(OracleBackend(own, PASSWORD, server.connect))
    client.create_table(vegbilder)
    assert client.upsert(vegbilder, [road_record()])[0].outcome is Outcome.INSERTED
    assert 'INSERT INTO "TESTER"."VEGBILDER"' in server.sql[-1]
    other = DatabaseClient(OracleBackend(SETTINGS.model_copy(update={"db_schema": "VEG"}), PASSWORD, server.connect))
    with pytest.raises(DatabaseError, match="only VEG can change"):
        other.create_table(vegbilder)


@pytest.mark.parametrize("calls", range(7))
def test_a_connection_that_is_cut_at_any_moment(
    server: Server, client: DatabaseClient, vegbilder: Table, calls: int
) -> None:
    client.create_table(vegbilder)
    client.upsert(vegbilder, [road_record(bildeid="a")])
    server.calls_until_cut = calls
    results = client.upsert(vegbilder, [road_record(bildeid="a"), road_record(bildeid="b")])
    assert results[0].outcome is Outcome.UPDATED
    assert results[1].reason is None
    server.calls_until_cut = None
    assert client.execute(["SELECT COUNT(*) FROM VEGBILDER"])[0].rows == [(2,)]


def test_a_server_that_goes_away_and_comes_back(server: Server, client: DatabaseClient, vegbilder: Table) -> None:
    client.create_table(vegbilder)
    server.up = False
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable, match="DPY-6005"):
            client.upsert(vegbilder, [road_record()])
    server.up = True
    assert client.upsert(vegbilder, [road_record()])[0].outcome is Outcome.INSERTED


def test_a_wrong_password_is_no_outage(server: Server, vegbilder: Table) -> None:
    client = DatabaseClient(OracleBackend(SETTINGS, "wrong-secret", server.connect))
    with pytest.raises(DatabaseError, match="ORA-01017") as caught:
        client.has_table(vegbilder)
    assert not isinstance(caught.value, DatabaseUnavailable)
    assert "wrong-secret" not in str(caught.value)


def test_a_full_tablespace_is_not_the_rows_fault(server: Server, client: DatabaseClient, vegbilder: Table) -> None:
    client.create_table(vegbilder)
    server.refusals[1653] = "unable to extend table TESTER.VEGBILDER by 8 in tablespace USERS"
    with pytest.raises(DatabaseUnavailable, match="ORA-01653"):
        client.upsert(vegbilder, [road_record(bildeid="a"), road_record(bildeid="b")])
    server.refusals.clear()
    assert client.execute(["SELECT COUNT(*) FROM VEGBILDER"])[0].rows == [(0,)]
    assert client.upsert(vegbilder, [road_record(bildeid="a")])[0].outcome is Outcome.INSERTED


class TestStandIn:
    """That the stand-in is as strict as the driver, where our code could go wrong."""

    @pytest.fixture
    def connection(self, server: Server) -> Connection:
        opened = server.connect(user="u", password=PASSWORD, host="h", port=1, service_name="s")
        opened.cursor().execute('CREATE TABLE "T" ("A" NUMBER,\n"P" MDSYS.SDO_GEOMETRY)', fetch_lobs=False)
        return opened

    def test_null_without_a_type_is_no_object(self, connection: Connection) -> None:
        with pytest.raises(oracledb.DatabaseError, match="ORA-00932"):
            connection.cursor().executemany('INSERT INTO "T" ("A", "P") VALUES (:1, :2)', [[1, None]])

    def test_sizes_are_for_one_statement(self, connection: Connection) -> None:
        cursor = connection.cursor()
        cursor.setinputsizes(oracledb.DB_TYPE_NUMBER, connection.gettype("MDSYS.SDO_GEOMETRY"))
        cursor.executemany('INSERT INTO "T" ("A", "P") VALUES (:1, :2)', [[1, None]])
        with pytest.raises(oracledb.DatabaseError, match="ORA-00932"):
            cursor.executemany('INSERT INTO "T" ("A", "P") VALUES (:1, :2)', [[1, None]])

    def test_row_counts_must_be_asked_for(self, connection: Connection) -> None:
        cursor = connection.cursor()
        cursor.executemany('DELETE FROM "T" WHERE "A" = :1', [[1]])
        with pytest.raises(oracledb.DatabaseError, match="DPY-4006"):
            cursor.getarraydmlrowcounts()

    def test_an_input_type_handler_is_asked(self, connection: Connection) -> None:
        def handler(cursor: Cursor, value: object, arraysize: int) -> Var | None:
            if not isinstance(value, complex):
                return None
            kind = connection.gettype("MDSYS.SDO_GEOMETRY")
            return cursor.var(kind, arraysize=arraysize, inconverter=to_object)

        def to_object(value: complex) -> DbObject:
            geometry = connection.gettype("MDSYS.SDO_GEOMETRY").newobject()
            geometry.SDO_POINT = connection.gettype("MDSYS.SDO_POINT_TYPE").newobject()
            geometry.SDO_POINT.X, geometry.SDO_POINT.Y = value.real, value.imag
            return geometry

        connection.inputtypehandler = handler
        cursor = connection.cursor()
        cursor.executemany('INSERT INTO "T" ("A", "P") VALUES (:1, :2)', [[1, None], [2, 3 + 4j]])
        cursor.execute('SELECT "P" FROM "T" WHERE "A" = 2', fetch_lobs=False)
        ((geometry,),) = cursor.fetchall()
        assert isinstance(geometry, DbObject)
        assert (geometry.SDO_POINT.X, geometry.SDO_POINT.Y) == (3, 4)

    def test_objects_have_only_their_attributes(self, connection: Connection) -> None:
        with pytest.raises(AttributeError):
            connection.gettype("MDSYS.SDO_GEOMETRY").newobject().GTYPE = 1
        with pytest.raises(oracledb.DatabaseError):
            connection.gettype("MDSYS.SDO_NOTHING")
