"""How many rows per second reach the database: ``python -m benchmarks.database [--rows N] [--folder FOLDER]``.

Each row is the whole job: the JSON text of a record is read, made a row of VEGBILDER, and committed with its batch.
PostGIS is a server on this machine, started for the purpose, which waits for the disk as in production.
"""

import argparse
import contextlib
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg

from anonymise.config import DatabaseOptions
from anonymise.database import outbox
from anonymise.database.client import DatabaseClient, connect
from anonymise.database.sender import Sender
from anonymise.database.settings import GeoPackageSettings, PostgisSettings
from anonymise.database.table import Table, load_table
from anonymise.metadata.record import Record, dumps, loads
from tests.database.postgres import PASSWORD, USER, Cluster, find_binaries
from tests.database.records import road_record

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.database", description=__doc__)
    parser.add_argument("--rows", type=int, default=5000, help="rows in each run (default: 5000)")
    parser.add_argument("--batch", type=int, default=100, help="rows in a batch (default: 100)")
    parser.add_argument("--folder", type=Path, help="where the GeoPackage is written, such as a share")
    arguments = parser.parse_args(argv)
    table = load_table("VEGBILDER")
    texts = [dumps(_record(n)) for n in range(arguments.rows)]
    size = sum(map(len, texts)) / len(texts) / 1024
    print(
        f"{len(texts)} rows of {len(table.columns)} columns, records of {size:.1f} KiB, {arguments.batch} in a batch\n"
    )
    print(f"{'rows/s':12}{'inserted':>10}{'updated':>10}{'from the outbox':>18}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        settings = GeoPackageSettings(backend="geopackage", file=Path(folder, "vegbilder.gpkg"))
        with connect(settings, None) as client:
            _show("GeoPackage", client, table, texts, arguments.batch)
    binaries = find_binaries()
    if binaries is None:
        print("PostGIS is not installed")
        return
    with _postgis(binaries) as client:
        _show("PostGIS", client, table, texts, arguments.batch)


def _record(n: int) -> Record:
    position = f"srid=4326;POINT Z( {5 + n % 1000 / 100} {58 + n % 1700 / 200} {n % 300} )"
    return road_record(bildeid=f"2026-06-02T09.42.46_FV00013_S1D1_m{n:05}_Planar_1", exif_gpsposisjon=position)


@contextlib.contextmanager
def _postgis(binaries: Path) -> Iterator[DatabaseClient]:
    cluster = Cluster(binaries, fsync=True)
    try:
        where = psycopg.conninfo.make_conninfo(
            host="127.0.0.1", port=cluster.port, user=USER, dbname="postgres", password=PASSWORD
        )
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION postgis")
        settings = PostgisSettings(
            backend="postgis", host="127.0.0.1", port=cluster.port, user=USER, database="postgres"
        )
        with connect(settings, PASSWORD) as client:
            yield client
    finally:
        cluster.remove()


def _show(name: str, client: DatabaseClient, table: Table, texts: Sequence[str], batch: int) -> None:
    client.create_table(table)
    rates = [
        len(texts) / seconds
        for seconds in (*_upserts(client, table, texts, batch), _sends(client, table, texts, batch))
    ]
    print(f"{name:12}{rates[0]:10.0f}{rates[1]:10.0f}{rates[2]:18.0f}")


def _upserts(client: DatabaseClient, table: Table, texts: Sequence[str], batch: int) -> Iterator[float]:
    """Seconds for all rows as new ones, then once more as rows that are there."""
    for _ in range(2):
        started = time.perf_counter()
        for start in range(0, len(texts), batch):
            results = client.upsert(table, [loads(text) for text in texts[start : start + batch]])
            assert not any(result.reason for result in results)
        yield time.perf_counter() - started


def _sends(client: DatabaseClient, table: Table, texts: Sequence[str], batch: int) -> float:
    """Seconds for all rows through the outbox of a journal, as in a run."""
    options = DatabaseOptions(
        write_exif_to_db=True, db_max_n_accumulated_rows=batch, db_max_n_errors=1, db_max_cache_size=batch
    )
    sender = Sender(client, table, options)
    with tempfile.TemporaryDirectory() as folder:
        journal = sqlite3.connect(Path(folder, "journal.sqlite"), isolation_level=None)
        outbox.create_table(journal)
        started = time.perf_counter()
        for start in range(0, len(texts), batch):
            journal.execute("BEGIN")
            for n, text in enumerate(texts[start : start + batch], start):
                outbox.put(journal, f"{n}.jpg", text)
            journal.execute("COMMIT")
            sender.send(journal)
        sender.flush(journal)
        seconds = time.perf_counter() - started
        journal.close()
    return seconds


if __name__ == "__main__":
    main()
