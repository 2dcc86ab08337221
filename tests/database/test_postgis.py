"""What only PostGIS has, and a server that is stopped and started."""

import sqlite3
from collections.abc import Iterator

import psycopg
import pytest

from anonymise.config import DatabaseOptions
from anonymise.core.errors import DatabaseError, DatabaseUnavailable
from anonymise.database import outbox
from anonymise.database.backend import Outcome
from anonymise.database.client import DatabaseClient
from anonymise.database.postgis import PostgisBackend
from anonymise.database.sender import Sender, Sent
from anonymise.database.settings import PostgisSettings
from anonymise.database.table import Table
from anonymise.metadata.record import dumps
from tests.database.conftest import conninfo
from tests.database.postgres import PASSWORD, Cluster
from tests.database.records import road_record

pytestmark = pytest.mark.slow


@pytest.fixture
def client(postgis: PostgisSettings) -> Iterator[DatabaseClient]:
    with DatabaseClient(PostgisBackend(postgis, PASSWORD)) as opened:
        yield opened


def test_types_and_indexes(client: DatabaseClient, vegbilder: Table) -> None:
    client.create_table(vegbilder)
    columns, geometries, indexes = client.execute(
        [
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'vegbilder'",
            "SELECT f_geometry_column, coord_dimension, srid, type FROM geometry_columns",
            "SELECT indexdef FROM pg_indexes WHERE tablename = 'vegbilder' AND indexdef LIKE '%gist%'",
        ]
    )
    types = {str(row[0]): row[1] for row in columns.rows}
    assert types["jsondata"] == types["detekterteobjekter"] == "jsonb"
    assert types["tidspunkt"] == "timestamp without time zone"
    assert types["meter"] == "numeric"
    assert sorted(geometries.rows) == [("posisjon", 2, 4326, "POINT"), ("senterlinjeposisjon", 2, 25833, "POINT")]
    assert len(indexes.rows) == 2


def test_json_can_be_asked(client: DatabaseClient, vegbilder: Table) -> None:
    client.create_table(vegbilder)
    client.upsert(vegbilder, [road_record()])
    sql = "SELECT JsonData ->> 'exif_vegkat', (DetekterteObjekter ->> 'car')::int FROM VEGBILDER"
    assert client.execute([sql])[0].rows == [("F", 2)]


def test_a_schema(cluster: Cluster, postgis: PostgisSettings, vegbilder: Table) -> None:
    with psycopg.connect(conninfo(cluster, postgis.database), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA veg")
    settings = postgis.model_copy(update={"db_schema": "VEG"})
    with DatabaseClient(PostgisBackend(settings, PASSWORD)) as client:
        client.create_table(vegbilder)
        client.upsert(vegbilder, [road_record()])
        assert client.has_table(vegbilder)
        assert client.execute(["SELECT COUNT(*) FROM veg.vegbilder"])[0].rows == [(1,)]
    with DatabaseClient(PostgisBackend(postgis, PASSWORD)) as client:
        assert not client.has_table(vegbilder)


def test_a_schema_that_is_hostile_is_no_setting(postgis: PostgisSettings) -> None:
    with pytest.raises(ValueError, match="a name has"):
        PostgisSettings.model_validate({**postgis.model_dump(), "db_schema": 'veg"; DROP TABLE x; --'})


def test_a_wrong_password_is_no_outage(postgis: PostgisSettings, vegbilder: Table) -> None:
    for settings, password, problem in (
        (postgis, "wrong-secret", "password authentication failed"),
        (postgis.model_copy(update={"database": "nothing"}), PASSWORD, "does not exist"),
    ):
        with DatabaseClient(PostgisBackend(settings, password)) as client:
            with pytest.raises(DatabaseError, match=problem) as caught:
                client.has_table(vegbilder)
            assert not isinstance(caught.value, DatabaseUnavailable)
            assert password not in str(caught.value)


def test_no_postgis(cluster: Cluster, postgis: PostgisSettings, vegbilder: Table) -> None:
    with psycopg.connect(conninfo(cluster, postgis.database), autocommit=True) as connection:
        connection.execute("DROP EXTENSION postgis")
    with (
        DatabaseClient(PostgisBackend(postgis, PASSWORD)) as client,
        pytest.raises(DatabaseError, match="CREATE EXTENSION postgis"),
    ):
        client.create_table(vegbilder)


def test_a_cut_connection_is_made_again(
    cluster: Cluster, postgis: PostgisSettings, client: DatabaseClient, vegbilder: Table
) -> None:
    client.create_table(vegbilder)
    client.upsert(vegbilder, [road_record(bildeid="a")])
    with psycopg.connect(conninfo(cluster, "postgres"), autocommit=True) as connection:
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        connection.execute(cut, (postgis.database,))
    assert client.upsert(vegbilder, [road_record(bildeid="b")])[0].outcome is Outcome.INSERTED


def test_rows_wait_while_the_server_is_away(
    cluster: Cluster, postgis: PostgisSettings, client: DatabaseClient, vegbilder: Table
) -> None:
    """Stopped twice in the middle, without warning; each row is there once at the end."""
    client.create_table(vegbilder)
    options = DatabaseOptions(
        write_exif_to_db=True, db_max_n_accumulated_rows=5, db_max_n_errors=10, db_max_cache_size=100
    )
    now = 0.0
    sender = Sender(client, vegbilder, options, clock=lambda: now)
    journal = sqlite3.connect(":memory:", isolation_level=None)
    outbox.create_table(journal)
    try:
        for n in range(60):
            if n in {12, 37}:
                cluster.stop()
            if n in {25, 50}:
                cluster.start()
            outbox.put(journal, f"{n}.jpg", dumps(road_record(bildeid=str(n))))
            sender.send(journal)
            now += 30
        assert outbox.count(journal).waiting < 5
        sender.flush(journal)
    finally:
        if not_running(cluster, postgis):
            cluster.start()
    assert outbox.count(journal) == (0, 0)
    journal.close()
    assert sender.sent == Sent(inserted=60)
    sql = "SELECT COUNT(*), COUNT(DISTINCT id) FROM vegbilder"
    assert client.execute([sql])[0].rows == [(60, 60)]


def not_running(cluster: Cluster, postgis: PostgisSettings) -> bool:
    try:
        psycopg.connect(conninfo(cluster, postgis.database), connect_timeout=5).close()
    except psycopg.OperationalError:
        return True
    return False
