"""Regions from a table of a real database."""

from pathlib import Path

import psycopg
import pytest

from anonymise.database.settings import PostgisSettings, save_settings
from tests.corrections.runs import noise
from tests.database.conftest import conninfo
from tests.database.postgres import PASSWORD, Cluster
from tests.regions.test_regions import TABLE, Case, row


@pytest.mark.slow
def test_a_table_in_postgis(
    postgis: PostgisSettings, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The columns stand in the order of Amsterdam's table; nothing in the database changes."""
    case = Case(tmp_path)
    for n in range(2):
        case.write(f"2020/01/0{n + 1}/M1/pano_{n}.png", noise())
    columns = ", ".join(f"{name} integer" for name in TABLE[1:9])
    with psycopg.connect(conninfo(cluster, postgis.database), autocommit=True) as connection:
        connection.execute(
            f"CREATE TABLE panoramas_region (id serial, region_type char(1), {columns}, "
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
        assert connection.execute("SELECT COUNT(*) FROM panoramas_region").fetchone() == (2,)
    assert {(name, category) for name, category, _ in case.shapes()} == {
        ("2020/01/01/M1/pano_0.png", "plate"),
        ("2020/01/02/M1/pano_1.png", "face"),
    }
