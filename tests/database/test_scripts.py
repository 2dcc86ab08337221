import csv
import io
import json
import os
import stat
from pathlib import Path

import pytest

from anonymise.commands import create_db_config, create_table, execute_sql, insert_geom_metadata, json_to_db
from anonymise.database.settings import PostgisSettings, save_settings
from anonymise.metadata.record import dumps
from tests.database.postgres import PASSWORD
from tests.database.records import road_record

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def gpkg(tmp_path: Path, capsys: Capture) -> str:
    """A GeoPackage with the table."""
    file = str(tmp_path / "vegbilder.gpkg")
    assert create_table.main(["VEGBILDER", "--geopackage", file]) == 0
    assert "51 columns" in capsys.readouterr().out
    return file


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """A folder with three good records, of which two are an earlier program's, and two bad ones."""
    folder = tmp_path / "records"
    (folder / "2020" / "Damåsen").mkdir(parents=True)
    (folder / ".anonymise").mkdir()
    (folder / ".anonymise" / "state.json").write_text("{}")
    (folder / "a_instances.json").write_text("[]")
    (folder / "a_error.json").write_text("{}")
    (folder / "a.json").write_text(dumps(road_record(bildeid="a")), "utf-8")
    older = road_record(bildeid="b", exif_heading="281,71") | {
        "exif_gpsposisjon": "srid=4326;POINT Z( 6,5 61,25 48,5 )",
        "exif_speed": "12,5",
        "exif_preview_filnavn": "b_preview.jpg",
        "veglenkeid": "384067",
    }
    for key in ("exif_speed_ms", "exif_filnavn_preview", "exif_reflinkid"):
        del older[key]
    text = dumps(older).replace('"mappenavn": "', '"mappenavn": "D:\\foto\\ny\\')
    (folder / "2020" / "Damåsen" / "b.json").write_text(text, "utf-8")
    numbers = {**road_record(bildeid="c"), "exif_heading": 12.5, "exif_meter": 7, "exif_roll": float("nan")}
    (folder / "2020" / "c.json").write_text(json.dumps(numbers), "utf-8")
    (folder / "broken.json").write_text("{")
    (folder / "d.json").write_text(dumps(road_record(bildeid="d", exif_vegnr=None)), "utf-8")
    return folder


def query(gpkg: str, sql: str, capsys: Capture) -> list[list[str]]:
    capsys.readouterr()
    assert execute_sql.main(["--csv", sql, "--geopackage", gpkg]) == 0
    return list(csv.reader(io.StringIO(capsys.readouterr().out)))[1:]


def test_create_table_says_what_it_would_do(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "new.gpkg"
    assert create_table.main(["VEGBILDER", "--geopackage", str(file), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert 'CREATE TABLE "VEGBILDER"' in printed
    assert "-- with 'VEGBILDER', 'features', 'VEGBILDER', 4326" in printed
    assert not file.exists()


def test_create_table_twice(gpkg: str, capsys: Capture) -> None:
    assert create_table.main(["VEGBILDER", "--geopackage", gpkg]) == 3
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["MISSING", "../VEGBILDER", 'X"; DROP TABLE VEGBILDER; --', ""])
def test_tables_that_are_none(gpkg: str, name: str, capsys: Capture) -> None:
    assert create_table.main([name, "--geopackage", gpkg]) == 2
    assert "table_name is" in capsys.readouterr().err


def test_geometry_metadata(gpkg: str, capsys: Capture) -> None:
    entries = "SELECT COUNT(*) FROM gpkg_geometry_columns"
    assert query(gpkg, entries, capsys) == [["2"]]
    arguments = ["VEGBILDER", "--geopackage", gpkg]
    assert insert_geom_metadata.main([*arguments, "--drop", "--dry-run"]) == 0
    assert "DELETE FROM gpkg_geometry_columns" in capsys.readouterr().out
    assert query(gpkg, entries, capsys) == [["2"]]
    assert insert_geom_metadata.main([*arguments, "--drop"]) == 0
    assert query(gpkg, entries, capsys) == [["0"]]
    assert insert_geom_metadata.main([*arguments, "--insert", "--create"]) == 0
    assert query(gpkg, entries, capsys) == [["2"]]
    assert insert_geom_metadata.main([*arguments, "--insert", "--create"]) == 0
    assert query(gpkg, entries, capsys) == [["2"]]
    assert insert_geom_metadata.main(arguments) == 2


def test_records_of_all_ages(gpkg: str, records: Path, capsys: Capture) -> None:
    arguments = ["-i", str(records), "--table", "VEGBILDER", "--geopackage", gpkg]
    assert json_to_db.main([*arguments, "--dry-run"]) == 1
    assert "3 records make a row, 2 do not" in capsys.readouterr().out
    assert query(gpkg, "SELECT COUNT(*) FROM VEGBILDER", capsys) == [["0"]]
    assert json_to_db.main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == "3 inserted, 0 updated, 2 failed\n"
    assert "broken.json: no record" in printed.err
    assert "d.json: Vegnummer: has no value" in printed.err
    columns = "ID, Retning, Hastighet, PreviewFilnavn, ReflinkID, ST_AsText(Posisjon), PosisjonHoyde, Mappenavn"
    _, (*b, folder), c = query(gpkg, f"SELECT {columns} FROM VEGBILDER ORDER BY ID", capsys)
    assert b == ["b", "281.71", "12.5", "b_preview.jpg", "384067.0", "POINT (6.5 61.25)", "48.5"]
    assert folder.startswith("D:/foto/ny/")
    assert c[:2] == ["c", "12.5"]
    assert json_to_db.main(arguments) == 1
    assert capsys.readouterr().out == "0 inserted, 3 updated, 2 failed\n"


def test_flipped_positions(gpkg: str, records: Path, capsys: Capture) -> None:
    arguments = ["-i", str(records), "--geopackage", gpkg, "--set", "flip_wkt=True", "--set", "table_name=VEGBILDER"]
    assert json_to_db.main(arguments) == 1
    assert query(gpkg, "SELECT ST_AsText(Posisjon) FROM VEGBILDER WHERE ID = 'b'", capsys) == [["POINT (61.25 6.5)"]]


def test_written_records_move_and_others_stay(gpkg: str, records: Path, tmp_path: Path, capsys: Capture) -> None:
    archive = tmp_path / "archive"
    (archive / "2020").mkdir(parents=True)
    (archive / "2020" / "c.json").write_text("another record")
    before = (records / "2020" / "Damåsen" / "b.json").read_bytes()
    arguments = ["-i", str(records), "--table", "VEGBILDER", "--geopackage", gpkg, "--json-archive", str(archive)]
    assert json_to_db.main([*arguments, "--dry-run"]) == 1
    assert not (archive / "a.json").exists()
    assert json_to_db.main([*arguments, "--set", "db_max_n_accumulated_rows=1"]) == 1
    assert "c.json: its row is written, but it stays" in capsys.readouterr().err
    assert (archive / "2020" / "Damåsen" / "b.json").read_bytes() == before
    assert (archive / "2020" / "c.json").read_text() == "another record"
    left = {path.relative_to(records).as_posix() for path in records.rglob("*.json")}
    assert left == {".anonymise/state.json", "a_error.json", "a_instances.json", "broken.json", "d.json", "2020/c.json"}
    assert query(gpkg, "SELECT COUNT(*) FROM VEGBILDER", capsys) == [["3"]]


def test_nothing_moves_when_the_database_refuses(records: Path, tmp_path: Path, capsys: Capture) -> None:
    gone = str(tmp_path / "gone.gpkg")
    archive = tmp_path / "archive"
    arguments = ["-i", str(records), "--table", "VEGBILDER", "--geopackage", gone, "--json-archive", str(archive)]
    assert json_to_db.main(arguments) == 3
    assert "there is no GeoPackage" in capsys.readouterr().err
    assert (records / "a.json").exists()
    assert not archive.exists()


def test_too_many_errors_stop(gpkg: str, records: Path, capsys: Capture) -> None:
    arguments = ["-i", str(records), "--table", "VEGBILDER", "--geopackage", gpkg, "--set", "db_max_n_errors=2"]
    assert json_to_db.main(arguments) == 3
    assert "2 records failed (db_max_n_errors: 2)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["-i", "IN"], ["-i", "missing", "--table", "VEGBILDER"], ["-i", "IN", "--table", "X", "--json-archive", "IN/x"]],
)
def test_wrong_arguments(gpkg: str, records: Path, arguments: list[str]) -> None:
    given = [argument.replace("IN", str(records)) for argument in arguments]
    assert json_to_db.main([*given, "--geopackage", gpkg]) == 2


def test_more_than_one_statement_is_refused_unless_told(gpkg: str, tmp_path: Path, capsys: Capture) -> None:
    both = "CREATE TABLE T (A INTEGER); INSERT INTO T VALUES (1); -- done"
    assert execute_sql.main([both, "--geopackage", gpkg]) == 2
    assert "2 statements" in capsys.readouterr().err
    assert execute_sql.main([both, "--geopackage", gpkg, "--many", "--dry-run"]) == 0
    assert capsys.readouterr().out == "CREATE TABLE T (A INTEGER);\nINSERT INTO T VALUES (1)\n"
    file = tmp_path / "both.sql"
    file.write_text(both, "utf-8")
    assert execute_sql.main(["-f", str(file), "--geopackage", gpkg, "--many"]) == 0
    assert query(gpkg, "SELECT A FROM T", capsys) == [["1"]]
    assert execute_sql.main(["", "--geopackage", gpkg]) == 2
    assert execute_sql.main(["-f", str(tmp_path / "missing.sql"), "--geopackage", gpkg]) == 2
    assert execute_sql.main(["SELECT nonsense", "--geopackage", gpkg]) == 3


def test_rows_as_a_table(gpkg: str, capsys: Capture) -> None:
    sql = "SELECT 'a' || char(27) || '[2J' AS Evil, NULL AS Empty, x'00ff' AS Bytes, 1.5 AS N"
    assert execute_sql.main([sql, "--geopackage", gpkg]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "Evil      Empty  Bytes  N",
        "--------  -----  -----  ---",
        "a\\x1b[2J         00ff   1.5",
    ]
    assert "1 rows" in printed.err


def test_config_with_an_encrypted_password(tmp_path: Path, postgis: PostgisSettings, capsys: Capture) -> None:
    file = tmp_path / "db_config.yml"
    assert create_db_config.main(["--new-key"], {}) == 0
    environ = {"ANONYMISE_DB_KEY": capsys.readouterr().out.strip(), "ANONYMISE_DB_PASSWORD": PASSWORD}
    arguments = ["postgis", "--host", postgis.host, "--port", str(postgis.port), "--database", postgis.database]
    arguments += ["--user", postgis.user, "-o", str(file)]
    assert create_db_config.main([*arguments, "--dry-run"], environ) == 0
    assert not file.exists()
    assert create_db_config.main(arguments, environ) == 0
    assert create_db_config.main(arguments, environ) == 2
    assert create_db_config.main([*arguments, "--force"], environ) == 0
    printed = capsys.readouterr()
    assert PASSWORD not in file.read_text("utf-8") + printed.out + printed.err
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_scripts_find_the_database_by_its_config(
    tmp_path: Path, postgis: PostgisSettings, records: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    file = tmp_path / "db_config.yml"
    save_settings(postgis, file)
    monkeypatch.setenv("ANONYMISE_DB_PASSWORD", PASSWORD)
    database = ["--db-config", str(file)]
    assert create_table.main(["VEGBILDER", *database]) == 0
    assert json_to_db.main(["-i", str(records), "--table", "VEGBILDER", *database]) == 1
    assert "3 inserted" in capsys.readouterr().out
    sql = "SELECT id, tidspunkt, detekterteobjekter, hastighet FROM vegbilder WHERE id = 'b'"
    assert execute_sql.main(["--csv", sql, *database]) == 0
    assert 'b,2020-06-02T09:42:46.394862,"{""car"": ""2""}",12.5' in capsys.readouterr().out
    monkeypatch.setenv("ANONYMISE_DB_PASSWORD", "wrong")
    assert execute_sql.main(["SELECT 1", *database]) == 3
    printed = capsys.readouterr().err
    assert "cannot log in" in printed
    assert "wrong" not in printed


def test_no_config(tmp_path: Path, capsys: Capture) -> None:
    assert execute_sql.main(["SELECT 1", "--db-config", str(tmp_path / "none.yml")]) == 2
    assert "create_db_config" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "which kind"),
        (["geopackage"], "file"),
        (["geopackage", "--file", "x.gpkg", "--host", "h"], "host"),
        (["postgis", "--host", "h", "--database", "d"], "user"),
        (["oracle", "--host", "h", "--service", "s", "--user", "u", "--schema", 'X"; --'], "schema"),
        (["oracle", "--host", "h", "--service", "s", "--user", "u", "--port", "99999"], "port"),
        (["oracle", "--host", "h", "--service", "s", "--user", "u"], "ANONYMISE_DB_KEY"),
    ],
)
def test_incomplete_config(tmp_path: Path, arguments: list[str], problem: str, capsys: Capture) -> None:
    file = tmp_path / "db_config.yml"
    environ = {"ANONYMISE_DB_PASSWORD": PASSWORD}
    assert create_db_config.main([*arguments, "-o", str(file)], environ) == 2
    printed = capsys.readouterr().err
    assert problem in printed
    assert PASSWORD not in printed
    assert not file.exists()
