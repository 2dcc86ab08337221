"""Rows of a whole run: each image has one, once, whatever is killed or stopped meanwhile."""

import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from anonymise.database.client import connect
from anonymise.database.settings import PostgisSettings, save_settings
from anonymise.database.table import Table
from tests.database.conftest import conninfo
from tests.database.postgres import PASSWORD, Cluster
from tests.roadimages import road_jpeg

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
N_IMAGES = 800


def write_images(folder: Path, n: int) -> None:
    below = folder / "in" / "tilSladding" / "2020" / "FV00013" / "S1" / "D1"
    below.mkdir(parents=True)
    data = road_jpeg()
    for number in range(n):
        # The stored name in the XML is the same for all; names, and so ids, come from the files.
        renamed = data.replace(b"FV00013_S1D1_m00014_f1.jpg", f"FV00013_S1D1_m{number:05}_f1.jpg".encode())
        (below / f"FV00013_S1D1_m{number:05}_f1.jpg").write_bytes(renamed)


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    keys = ["write_exif_to_db=True", "table_name=VEGBILDER", "data_eier=Vegvesenet", "db_max_n_accumulated_rows=10"]
    options = [part for key in keys for part in ("--set", key)]
    folders = ["-i", str(folder / "in"), "-o", str(folder / "out")]
    command = [sys.executable, "-m", "tests.faults.runner", *folders, *options, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def n_images(folder: Path) -> int:
    return len(list(folder.rglob("*.jpg")))


def test_without_a_database_of_the_operators_rows_go_into_a_geopackage(tmp_path: Path) -> None:
    write_images(tmp_path, 25)
    (tmp_path / "in" / "broken.jpg").write_bytes(b"")
    first = start(tmp_path)
    output, _ = first.communicate(timeout=120)
    assert first.returncode == 1, output
    assert "Database rows:       25 inserted, 0 updated, 0 failed" in output
    again = start(tmp_path, "--set", "force_remask=True")
    assert "Database rows:       0 inserted, 25 updated, 0 failed" in again.communicate(timeout=120)[0]
    with sqlite3.connect(tmp_path / "out" / "VEGBILDER.gpkg") as connection:
        names = [name for (name,) in connection.execute("SELECT Filnavn FROM VEGBILDER ORDER BY Filnavn")]
    connection.close()
    assert names == [f"FV00013_S1D1_m{number:05}_f1.jpg" for number in range(25)]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9 there")
def test_kills_and_a_server_that_stops_twice_leave_one_right_row_for_each_image(
    tmp_path: Path, cluster: Cluster, postgis: PostgisSettings, vegbilder: Table
) -> None:
    write_images(tmp_path, N_IMAGES)
    save_settings(postgis, tmp_path / "db_config.yml")
    client = connect(postgis, PASSWORD)
    client.create_table(vegbilder)
    client.close()
    dice = random.Random(3)
    database = ["--database", str(tmp_path / "db_config.yml")]
    finished: list[int] = []
    for interruption in ("kill", "stop", "kill", "stop", "kill"):
        run = start(tmp_path, *database)
        wanted = n_images(tmp_path / "out") + dice.randint(5, 35)
        while n_images(tmp_path / "out") < wanted and run.poll() is None:
            time.sleep(0.02)
        if interruption == "kill":
            run.kill()
        else:
            cluster.stop()
            time.sleep(dice.uniform(0.2, 1.0))
            run.kill()
        run.communicate(timeout=120)
        finished.append(n_images(tmp_path / "out"))
        if interruption == "stop":
            cluster.start()
    assert sum(0 < n < N_IMAGES for n in finished) >= 3, finished  # it hit the middle of the work
    last = start(tmp_path, *database)
    output, _ = last.communicate(timeout=120)
    assert last.returncode == 0, output
    with psycopg.connect(conninfo(cluster, postgis.database)) as connection:
        query = "SELECT filnavn, vegnummer, ST_X(posisjon), jsondata->>'exif_filnavn' FROM vegbilder ORDER BY filnavn"
        rows = connection.execute(query).fetchall()
    names = [f"FV00013_S1D1_m{number:05}_f1.jpg" for number in range(N_IMAGES)]
    assert [row[0] for row in rows] == names
    assert [row[3] for row in rows] == names
    assert {row[1] for row in rows} == {13}
    assert {round(row[2], 6) for row in rows} == {6.566394}
