"""Regions from a table of a real database."""

from pathlib import Path

import psycopg
import pytest

from anonymise.database.settings import PostgisSettings, save_settings
from tests.corrections.runs import noise
from tests.database.conftest import conninfo
from tests.database.postgres import PASSWORD, Cluster
from tests.regions.test_regions import TABLE, Case, row

_CORNER_COLUMNS = ", ".join(f"{name} integer" for name in TABLE[1:9])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("columns", "values", "code", "message"),
    [
        (
            "region_type char(1), pano_id text",
            "('N', 'M1_pano_0')",
            2,
            "there is no header with the names of the columns",
        ),
        (f"{_CORNER_COLUMNS}, pano_id text", "(1,2,3,4,5,6,7,8,'M1_pano_0')", 2, "there is no column region_type"),
        (
            f"{_CORNER_COLUMNS}, region_type text, pano_id text",
            "(1,2,9,2,1,9,9,9,'N','M1_pano_0'), (1,2,NULL,2,1,9,9,9,'N','M1_pano_0'), "
            "(1,2,9,2,1,9,9,9,NULL,'M1_pano_0'), (1,2,9,2,1,9,9,9,'N',NULL)",
            1,
            "row 2: no number: right_top_x is empty|row 3: unknown region_type: empty|row 4: no picture: pano_id",
        ),
        (
            f"{_CORNER_COLUMNS.replace('integer', 'text')}, region_type text, pano_id text, at timestamptz, raw bytea",
            "('1','2','9','2','1','9','9','9.5','N','M1_pano_0',now(),'x'), "
            "('a','2','9','2','1','9','9','9.5','N','M1_pano_0',now(),'x')",
            1,
            "not used: at, raw|row 2: no number: left_top_x is a",
        ),
        (f'{_CORNER_COLUMNS}, region_type text, pano_id text, "PANO_ID" text', None, 2, "pano_id is there twice"),
    ],
)
def test_a_table_that_does_not_fit(
    columns: str, values: str | None, code: int, message: str,
    postgis: PostgisSettings, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    case = Case(tmp_path)
    case.write("M1/pano_0.png", noise())
    with psycopg.connect(conninfo(cluster, postgis.database), autocommit=True) as connection:
        connection.execute(f"CREATE TABLE theirs ({columns})".encode())
        if values is not None:
            connection.execute(f"INSERT INTO theirs VALUES {values}".encode())
    save_settings(postgis, tmp_path / "db_config.yml")
    monkeypatch.setenv("ANONYMISE_DB_PASSWORD", PASSWORD)
    assert case.import_("--table", "theirs", "--db-config", tmp_path / "db_config.yml") == code
    told = capsys.readouterr().err
    assert all(part in told for part in message.split("|")), told
    assert case.counts() == {}


@pytest.mark.slow
def test_a_table_in_postgis(
    postgis: PostgisSettings,
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The columns stand in the order of Amsterdam's table; nothing in the database changes."""
    case = Case(tmp_path)
    for n in range(2):
        case.write(f"2020/01/0{n + 1}/M1/pano_{n}.png", noise())
    with psycopg.connect(conninfo(cluster, postgis.database), autocommit=True) as connection:
        connection.execute(
            f"CREATE TABLE panoramas_region (id serial, region_type char(1), {_CORNER_COLUMNS}, "
            "detected_by varchar(255), pano_id varchar(37))".encode()
        )
        for entry in (row("M1_pano_0", 5, 6, 50, 60), row("M1_pano_1", 7, 8, 30, 40, kind="G")):
            names, values = ", ".join(entry), ", ".join("%s" for _ in entry)
            connection.execute(
                f"INSERT INTO panoramas_region ({names}) VALUES ({values})".encode(), list(entry.values())
            )
        settings = tmp_path / "db_config.yml"
        save_settings(postgis, settings)
        monkeypatch.setenv("ANONYMISE_DB_PASSWORD", PASSWORD)
        assert case.import_("--table", "panoramas_region", "--db-config", settings) == 0
        assert case.import_("--table", "panoramas_region; DROP TABLE panoramas_region", "--db-config", settings) == 2
        assert case.import_("--table", "no_such_table", "--db-config", settings) == 3
        secret = PASSWORD.replace("'", "''")
        connection.execute(f"CREATE ROLE clerk LOGIN PASSWORD '{secret}'".encode())
        save_settings(postgis.model_copy(update={"user": "clerk"}), tmp_path / "clerk.yml")
        capsys.readouterr()
        assert case.import_("--table", "panoramas_region", "--db-config", tmp_path / "clerk.yml") == 3
        (told,) = capsys.readouterr().err.splitlines()
        assert "permission denied for table panoramas_region" in told
        connection.execute("DROP ROLE clerk")
        assert connection.execute("SELECT COUNT(*) FROM panoramas_region").fetchone() == (2,)
    assert {(name, category) for name, category, _ in case.shapes()} == {
        ("2020/01/01/M1/pano_0.png", "plate"),
        ("2020/01/02/M1/pano_1.png", "face"),
    }
