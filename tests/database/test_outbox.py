"""The rows that wait, and how they are sent."""

import contextlib
import itertools
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from anonymise.batch.journal import Journal, journal_file
from anonymise.config import DatabaseOptions
from anonymise.core.errors import DatabaseError, DatabaseUnavailable
from anonymise.database import outbox
from anonymise.database.client import DatabaseClient
from anonymise.database.geopackage import GeoPackageBackend
from anonymise.database.oracle import OracleBackend
from anonymise.database.sender import Sender, Sent
from anonymise.database.settings import OracleSettings
from anonymise.database.table import Table, load_table
from anonymise.metadata.record import dumps, loads
from tests.database.oracle_standin import PASSWORD, Server
from tests.database.records import road_record

pytestmark = pytest.mark.slow

_SETTINGS = OracleSettings(backend="oracle", host="h", service="s", user="tester")


def options(batch: int = 10, errors: int = 5, cache: int = 30) -> DatabaseOptions:
    return DatabaseOptions(
        write_exif_to_db=True, db_max_n_accumulated_rows=batch, db_max_n_errors=errors, db_max_cache_size=cache
    )


class Clock:
    """Time that passes only when it is told to, or slept."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def journal() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    outbox.create_table(connection)
    outbox.create_table(connection)
    yield connection
    connection.close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def client(server: Server, vegbilder: Table) -> DatabaseClient:
    made = DatabaseClient(OracleBackend(_SETTINGS, PASSWORD, server.connect))
    made.create_table(vegbilder)
    return made


def put(journal: sqlite3.Connection, *keys: str, **changes: str | None) -> None:
    for key in keys:
        outbox.put(journal, key, dumps(road_record(bildeid=key, **changes)))


def n_rows(server: Server) -> int:
    found: int = server.database.execute("SELECT COUNT(*) FROM VEGBILDER").fetchone()[0]
    return found


def test_rows_are_taken_in_their_order_and_stay_until_they_arrived(journal: sqlite3.Connection) -> None:
    put(journal, "a", "b", "c")
    first = outbox.take(journal, 2)
    assert [row.key for row in first] == ["a", "b"]
    assert outbox.take(journal, 2) == first
    outbox.done(journal, first[:1])
    outbox.failed(journal, [(first[1], "because")])
    assert [row.key for row in outbox.take(journal, 5)] == ["c"]
    assert outbox.count(journal) == outbox.Counts(waiting=1, failed=1)
    assert outbox.retry_failed(journal) == 1
    assert [row.key for row in outbox.take(journal, 5)] == ["b", "c"]


def test_a_row_that_is_put_again_outlives_what_was_taken_before(journal: sqlite3.Connection) -> None:
    put(journal, "a", exif_meter="1")
    taken = outbox.take(journal, 1)
    put(journal, "a", exif_meter="2")
    outbox.done(journal, taken)
    outbox.failed(journal, [(taken[0], "late")])
    (row,) = outbox.take(journal, 5)
    assert '"exif_meter": "2"' in row.record
    assert outbox.count(journal) == (1, 0)


def test_rows_belong_to_the_callers_transaction(journal: sqlite3.Connection) -> None:
    put(journal, "a")
    journal.execute("BEGIN")
    put(journal, "b")
    outbox.done(journal, outbox.take(journal, 1))
    journal.execute("ROLLBACK")
    assert [row.key for row in outbox.take(journal, 5)] == ["a"]


@pytest.mark.skipif(os.name == "nt", reason="Windows file names are always text")
def test_keys_that_are_no_text(journal: sqlite3.Connection) -> None:
    key = os.fsdecode(b"2020/\xe5.jpg")
    outbox.put(journal, key, dumps(road_record()))
    outbox.put(journal, key, dumps(road_record()))
    (row,) = outbox.take(journal, 5)
    assert row.key == key


def test_in_a_journal(tmp_path: Path) -> None:
    with Journal(tmp_path, "digest"):
        pass
    connection = sqlite3.connect(journal_file(tmp_path), isolation_level=None)
    outbox.create_table(connection)
    put(connection, "a")
    connection.close()
    with Journal(tmp_path, "digest"):
        pass


def test_only_full_batches_are_sent_and_the_rest_at_the_end(
    journal: sqlite3.Connection, server: Server, client: DatabaseClient, vegbilder: Table
) -> None:
    sender = Sender(client, vegbilder, options())
    for n in range(25):
        put(journal, str(n))
        sender.send(journal)
        assert outbox.count(journal).waiting == (n + 1) % 10
    assert n_rows(server) == 20
    put(journal, "3")
    sender.flush(journal)
    assert outbox.count(journal) == (0, 0)
    assert sender.sent == Sent(inserted=25, updated=1)
    assert n_rows(server) == 25


def test_an_outage_stops_nothing_until_too_many_rows_wait(
    journal: sqlite3.Connection, server: Server, client: DatabaseClient, vegbilder: Table
) -> None:
    clock = Clock()
    sender = Sender(client, vegbilder, options(), clock=clock)
    server.up = False
    for n in range(29):
        put(journal, str(n))
        sender.send(journal)
    put(journal, "29")
    with pytest.raises(DatabaseUnavailable, match=r"30 rows wait for the database \(db_max_cache_size: 30\)"):
        sender.send(journal)
    assert outbox.count(journal) == (30, 0)
    # The next run, when the database is back.
    server.up = True
    Sender(client, vegbilder, options()).send(journal)
    assert n_rows(server) == 30
    assert outbox.count(journal) == (0, 0)


def test_a_database_that_is_away_is_not_asked_all_the_time(
    journal: sqlite3.Connection, server: Server, client: DatabaseClient, vegbilder: Table
) -> None:
    clock = Clock()
    server.up = False
    attempts: list[float] = []

    def connect(**given: Any) -> object:
        attempts.append(clock.now)
        return server.connect(**given)

    again = DatabaseClient(OracleBackend(_SETTINGS, PASSWORD, connect))
    sender = Sender(again, vegbilder, options(batch=1, cache=1000), clock=clock)
    for n in range(200):
        put(journal, str(n))
        sender.send(journal)
        clock.now += 1
    waits = [later - earlier for earlier, later in itertools.pairwise(attempts)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    server.up = True
    clock.now += 60
    sender.send(journal)
    assert outbox.count(journal).waiting == 0
    assert n_rows(server) == 200


def test_the_end_of_a_run_waits_for_the_database_for_a_while(
    journal: sqlite3.Connection, server: Server, client: DatabaseClient, vegbilder: Table
) -> None:
    clock = Clock()
    sender = Sender(client, vegbilder, options(), clock=clock, sleep=clock.sleep)
    put(journal, "a")
    server.up = False
    with pytest.raises(DatabaseUnavailable, match="1 rows wait for the database; they are kept"):
        sender.flush(journal, patience_seconds=20)
    assert clock.slept == [1, 2, 4, 8]
    assert outbox.count(journal) == (1, 0)
    server.up = True
    sender.flush(journal)
    assert n_rows(server) == 1


def test_refused_rows_are_kept_with_their_reason(
    journal: sqlite3.Connection, server: Server, client: DatabaseClient, vegbilder: Table
) -> None:
    sender = Sender(client, vegbilder, options())
    put(journal, "a", "b")
    put(journal, "bad", exif_vegnr=None)
    outbox.put(journal, "broken", "{")
    sender.flush(journal)
    assert sender.sent == Sent(inserted=2, failed=2)
    assert outbox.count(journal) == (0, 2)
    reasons = dict(journal.execute("SELECT key, reason FROM outbox").fetchall())
    assert "Vegnummer: has no value" in reasons["bad"]
    assert "no record" in reasons["broken"]


def test_too_many_refused_rows_stop_the_run(
    journal: sqlite3.Connection, server: Server, client: DatabaseClient, vegbilder: Table
) -> None:
    sender = Sender(client, vegbilder, options(batch=4, errors=5))
    put(journal, "a", "b", "c")
    put(journal, *"defgh", exif_vegnr=None)
    with pytest.raises(DatabaseError, match=r"5 rows failed \(db_max_n_errors: 5\).* h: Vegnummer") as caught:
        sender.send(journal)
    assert not isinstance(caught.value, DatabaseUnavailable)
    assert outbox.count(journal) == (0, 5)
    assert n_rows(server) == 3


def test_a_table_that_is_missing_stops_at_once_and_loses_nothing(
    journal: sqlite3.Connection, server: Server, client: DatabaseClient, vegbilder: Table
) -> None:
    client.execute(["DROP TABLE VEGBILDER"])
    put(journal, "a")
    with pytest.raises(DatabaseError, match="ORA-00942"):
        Sender(client, vegbilder, options(batch=1)).send(journal)
    assert outbox.count(journal) == (1, 0)


def test_a_crash_between_the_two_commits_sends_again(
    journal: sqlite3.Connection, tmp_path: Path, vegbilder: Table
) -> None:
    """The database has the rows, and the journal does not know."""
    with DatabaseClient(GeoPackageBackend(tmp_path / "a.gpkg")) as client:
        client.create_table(vegbilder)
        put(journal, "a", "b")
        client.upsert(vegbilder, [road_record(bildeid="a"), road_record(bildeid="b")])
        sender = Sender(client, vegbilder, options())
        sender.flush(journal)
        assert sender.sent == Sent(updated=2)
        assert client.execute(["SELECT COUNT(*) FROM VEGBILDER"])[0].rows == [(2,)]


@pytest.mark.parametrize(("batch", "cache", "valid"), [(10, 10, True), (10, 9, False), (0, 9, False)])
def test_options(batch: int, cache: int, valid: bool) -> None:
    if valid:
        options(batch=batch, cache=cache)
    else:
        with pytest.raises(ValueError, match="db_max"):
            options(batch=batch, cache=cache)


class RowsArriveOnce(RuleBasedStateMachine):
    """Images are done, and done again, while the database comes and goes and runs are killed."""

    def __init__(self) -> None:
        super().__init__()
        self.server = Server()
        self.table = load_table("VEGBILDER")
        self.clock = Clock()
        self.journal = sqlite3.connect(":memory:", isolation_level=None)
        outbox.create_table(self.journal)
        self.put: dict[str, str] = {}
        self.start_a_run()
        self.client.create_table(self.table)

    @rule()
    def start_a_run(self) -> None:
        """The one before was killed: what it had in memory is lost."""
        self.client = DatabaseClient(OracleBackend(_SETTINGS, PASSWORD, self.server.connect))
        self.sender = Sender(self.client, self.table, options(batch=3, cache=1000), clock=self.clock)

    @rule(image=st.sampled_from("abcdef"), meter=st.integers(0, 99))
    def finish_an_image(self, image: str, meter: int) -> None:
        self.put[image] = str(meter)
        put(self.journal, image, exif_meter=str(meter))
        self.sender.send(self.journal)
        self.clock.now += 30

    @rule(meter=st.integers(0, 99))
    def finish_an_image_while_rows_are_sent(self, meter: int) -> None:
        """And be killed after the database has committed."""
        rows = outbox.take(self.journal, 3)
        records = [loads(row.record) for row in rows]
        with contextlib.suppress(DatabaseUnavailable):
            self.client.upsert(self.table, records)
            self.put["a"] = str(meter)
            put(self.journal, "a", exif_meter=str(meter))
            outbox.done(self.journal, rows[:1])
        self.start_a_run()

    @rule(calls=st.integers(0, 6))
    def cut_the_connection_soon(self, calls: int) -> None:
        self.server.calls_until_cut = calls

    @rule()
    def the_database_goes(self) -> None:
        self.server.up = False

    @precondition(lambda self: not self.server.up)
    @rule()
    def the_database_comes(self) -> None:
        self.server.up = True

    @invariant()
    def nothing_is_refused(self) -> None:
        assert outbox.count(self.journal).failed == 0

    def teardown(self) -> None:
        self.server.up, self.server.calls_until_cut = True, None
        self.clock.now += 100
        self.start_a_run()
        self.sender.flush(self.journal)
        found = self.server.database.execute("SELECT ID, METER FROM VEGBILDER").fetchall()
        assert len(found) == len(self.put)
        assert {key: str(meter) for key, meter in found} == self.put
        self.journal.close()
        self.server.close()


TestRowsArriveOnce = RowsArriveOnce.TestCase
TestRowsArriveOnce.settings = settings(deadline=None, max_examples=30, stateful_step_count=25)
