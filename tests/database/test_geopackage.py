"""What only a GeoPackage has: other programs read the file."""

import importlib
import shutil
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest
import shapely

from anonymise.core.errors import DatabaseError, DatabaseUnavailable
from anonymise.database import geopackage
from anonymise.database.backend import GeometryAction, Outcome
from anonymise.database.client import DatabaseClient
from anonymise.database.geopackage import GeoPackageBackend
from anonymise.database.table import Table
from tests.database.records import POSITION, road_record

gdal: Any = importlib.import_module("pyogrio")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "Bilder på øya.gpkg"


def filled(file: Path, table: Table, n: int) -> None:
    with DatabaseClient(GeoPackageBackend(file)) as client:
        client.create_table(table)
        for start in range(0, n, 50):
            records = [
                road_record(
                    bildeid=str(i),
                    exif_gpsposisjon=f"srid=4326;POINT Z( {5 + i / 100} {60 + i / 200} {i} )",
                    senterlinjeposisjon=f"srid=25833;POINT( {1000 + i} 6500000 )" if i % 2 else None,
                )
                for i in range(start, min(n, start + 50))
            ]
            assert {result.outcome for result in client.upsert(table, records)} == {Outcome.INSERTED}


def read(file: Path, **options: object) -> tuple[Any, dict[str, Any]]:
    """Geometries and columns, as GDAL reads them."""
    meta, _, geometries, values = gdal.raw.read(file, **options)
    return shapely.from_wkb(geometries), {"meta": meta, **dict(zip(meta["fields"], values, strict=True))}


def test_gdal_reads_all_of_it(file: Path, vegbilder: Table) -> None:
    filled(file, vegbilder, 200)
    assert gdal.list_layers(file).tolist() == [["VEGBILDER", "Point"], ["VEGBILDER_SenterlinjePosisjon", "Point"]]
    points, columns = read(file, layer="VEGBILDER")
    assert columns["meta"]["crs"] == "EPSG:4326"
    assert list(columns["meta"]["fields"]) == [c.name for c in vegbilder.columns if c.name != "Posisjon"]
    assert len(points) == 200
    order = np.argsort([int(i) for i in columns["ID"]])
    expected = [(5 + i / 100, 60 + i / 200) for i in range(200)]
    assert shapely.get_coordinates(points[order]) == pytest.approx(np.array(expected))
    assert columns["PosisjonHoyde"][order].tolist() == list(range(200))
    assert str(columns["Tidspunkt"][0]).startswith("2020-06-02T09:42:46.394")
    assert set(columns["Dataeier"]) == {"Vegvesenet på Øya"}
    points, columns = read(file, layer="VEGBILDER_SenterlinjePosisjon")
    assert columns["meta"]["crs"] == "EPSG:25833"
    assert len(points) == 100
    assert columns["FylkeNummer"].tolist() == [46] * 100


def test_the_point_is_where_the_exif_says(file: Path, vegbilder: Table) -> None:
    with DatabaseClient(GeoPackageBackend(file)) as client:
        client.create_table(vegbilder)
        client.upsert(vegbilder, [road_record()])
        (point,), _ = read(file, layer="VEGBILDER")  # also while it is open
    assert (point.x, point.y) == pytest.approx(POSITION[:2], abs=1e-12)


def test_the_spatial_index_follows_the_rows(file: Path, vegbilder: Table) -> None:
    filled(file, vegbilder, 60)
    info = gdal.read_info(file, layer="VEGBILDER")
    assert info["capabilities"]["fast_spatial_filter"]
    points, _ = read(file, layer="VEGBILDER", bbox=(5.095, 60, 5.205, 61))
    assert len(points) == 11
    with DatabaseClient(GeoPackageBackend(file)) as client:
        moved = [road_record(bildeid="10", exif_gpsposisjon="srid=4326;POINT( -70 -30 )")]
        moved += [road_record(bildeid="11", exif_gpsposisjon=None)]
        moved += [road_record(bildeid="12", exif_gpsposisjon=None), road_record(bildeid="12")]
        assert {r.outcome for r in client.upsert(vegbilder, moved)} == {Outcome.UPDATED}
        client.execute(["DELETE FROM VEGBILDER WHERE ID = '13'", "UPDATE VEGBILDER SET fid = 900 WHERE ID = '14'"])
        client.execute(["UPDATE VEGBILDER SET fid = 901 WHERE ID = '11'"])
        indexed, rows = client.execute(
            [
                'SELECT id FROM "rtree_VEGBILDER_Posisjon" ORDER BY id',
                "SELECT fid FROM VEGBILDER WHERE Posisjon NOT NULL ORDER BY fid",
            ]
        )
    assert indexed.rows == rows.rows
    assert len(read(file, layer="VEGBILDER", bbox=(5.095, 60, 5.205, 61))[0]) == 7
    assert len(read(file, layer="VEGBILDER", bbox=(-71, -31, -69, -29))[0]) == 1


def test_a_new_index_over_old_rows(file: Path, vegbilder: Table) -> None:
    filled(file, vegbilder, 20)
    with DatabaseClient(GeoPackageBackend(file)) as client:
        client.change_geometry_metadata(vegbilder, list(GeometryAction))
    assert len(read(file, layer="VEGBILDER", bbox=(5.095, 60, 5.155, 61))[0]) == 6


def test_gdal_writes_to_it(file: Path, vegbilder: Table) -> None:
    """GDAL's own functions serve the triggers; its rows and ours live together."""
    filled(file, vegbilder, 3)
    fields = [np.array(["from GDAL"], dtype=object)]
    gdal.raw.write(
        file,
        shapely.to_wkb(np.array([shapely.Point(9, 59)])),
        fields,
        np.array(["ID"]),
        layer="Another",
        driver="GPKG",
        geometry_type="Point",
        crs="EPSG:4326",
        append=True,
    )
    with DatabaseClient(GeoPackageBackend(file)) as client:
        assert client.upsert(vegbilder, [road_record(bildeid="0")])[0].outcome is Outcome.UPDATED
    assert {layer for layer, _ in gdal.list_layers(file)} >= {"VEGBILDER", "Another"}
    assert len(read(file, layer="VEGBILDER")[0]) == 3


def test_the_file_says_what_it_is(file: Path, vegbilder: Table, small: Table) -> None:
    filled(file, vegbilder, 1)
    with DatabaseClient(GeoPackageBackend(file)) as client:
        client.create_table(small)
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA application_id").fetchone() == (0x47504B47,)
    assert connection.execute("PRAGMA user_version").fetchone() == (10300,)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    systems = "SELECT srs_id, organization FROM gpkg_spatial_ref_sys ORDER BY srs_id"
    assert connection.execute(systems).fetchall() == [(-1, "NONE"), (0, "NONE"), (4326, "EPSG"), (25833, "EPSG")]
    columns = "SELECT table_name, column_name, geometry_type_name, srs_id, z, m FROM gpkg_geometry_columns"
    assert connection.execute(columns).fetchall() == [
        ("VEGBILDER", "Posisjon", "POINT", 4326, 0, 0),
        ("VEGBILDER_SenterlinjePosisjon", "SenterlinjePosisjon", "POINT", 25833, 0, 0),
        ("Small_Table", "Sted", "POINT", 4326, 1, 0),
    ]
    assert connection.execute("SELECT COUNT(*) FROM gpkg_contents WHERE data_type = 'features'").fetchone() == (3,)
    connection.close()


@pytest.mark.parametrize("srid", [4258, 25832, 32633, 5972])
def test_coordinate_systems(file: Path, vegbilder: Table, srid: int) -> None:
    column = vegbilder.geometry_columns[1]
    spatial = column.spatial.model_copy(update={"srid": srid})
    columns = [c if c != column else c.model_copy(update={"spatial_metadata": spatial}) for c in vegbilder.columns]
    table = vegbilder.model_copy(update={"columns": tuple(columns)})
    with DatabaseClient(GeoPackageBackend(file)) as client:
        client.create_table(table)
    info = gdal.read_info(file, layer="VEGBILDER_SenterlinjePosisjon")
    assert info["crs"] == f"EPSG:{srid}"


def test_it_is_one_file_once_it_is_closed(file: Path, vegbilder: Table) -> None:
    client = DatabaseClient(GeoPackageBackend(file))
    client.create_table(vegbilder)
    client.upsert(vegbilder, [road_record()])
    client.close()
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    copied = file.with_name("copy.gpkg")
    shutil.copy(file, copied)
    copied.chmod(0o444)
    assert len(read(copied, layer="VEGBILDER")[0]) == 1


class Disk(NamedTuple):
    mountpoint: str
    fstype: str
    opts: str = "rw"


@pytest.mark.parametrize(
    ("disk", "modes"),
    [
        (Disk("", "ext4"), {"wal"}),
        (Disk("", "NTFS", "rw,fixed"), {"wal"}),
        (Disk("", "NTFS", "rw,remote"), {"delete", "truncate"}),
        (Disk("", "cifs"), {"delete", "truncate"}),
        (None, {"delete", "truncate"}),
    ],
)
def test_the_write_ahead_log_only_on_local_disks(
    file: Path, vegbilder: Table, disk: Disk | None, modes: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = [] if disk is None else [Disk(file.anchor, "cifs"), disk._replace(mountpoint=str(file.parent.resolve()))]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: disks)
    with DatabaseClient(GeoPackageBackend(file)) as client:
        client.create_table(vegbilder)
        assert client.upsert(vegbilder, [road_record()])[0].outcome is Outcome.INSERTED
        connection = sqlite3.connect(file)
        found = connection.execute("PRAGMA journal_mode").fetchone()[0]
        connection.close()
    assert found in modes


def test_somebody_else_writes(file: Path, vegbilder: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geopackage, "BUSY_SECONDS", 0.1)
    filled(file, vegbilder, 1)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with DatabaseClient(GeoPackageBackend(file)) as client:
        with pytest.raises(DatabaseUnavailable, match="locked"):
            client.upsert(vegbilder, [road_record()])
        other.execute("ROLLBACK")
        assert client.upsert(vegbilder, [road_record()])[0].outcome is Outcome.INSERTED
    other.close()


def test_a_share_that_goes_away_and_comes_back(tmp_path: Path, vegbilder: Table) -> None:
    share, away = tmp_path / "share", tmp_path / "away"
    share.mkdir()
    filled(share / "a.gpkg", vegbilder, 1)
    with DatabaseClient(GeoPackageBackend(share / "a.gpkg")) as client:
        client.upsert(vegbilder, [road_record(bildeid="x")])
        client.close()
        share.rename(away)
        with pytest.raises(DatabaseUnavailable, match="out of reach"):
            client.upsert(vegbilder, [road_record(bildeid="y")])
        away.rename(share)
        assert client.upsert(vegbilder, [road_record(bildeid="y")])[0].outcome is Outcome.INSERTED


def test_files_that_are_none(tmp_path: Path, vegbilder: Table) -> None:
    (tmp_path / "text.gpkg").write_text("no database at all, but a text that is long enough" * 50)
    connection = sqlite3.connect(tmp_path / "other.gpkg")
    connection.execute("CREATE TABLE T (A)")
    connection.close()
    for name, problem in (
        ("missing.gpkg", "there is no GeoPackage"),
        ("text.gpkg", "not a database"),
        ("other.gpkg", "is no GeoPackage"),
    ):
        with DatabaseClient(GeoPackageBackend(tmp_path / name)) as client:
            with pytest.raises(DatabaseError, match=problem) as caught:
                client.upsert(vegbilder, [road_record()])
            assert not isinstance(caught.value, DatabaseUnavailable)
    assert not (tmp_path / "missing.gpkg").exists()


def test_the_row_number_is_the_files_own(file: Path, small: Table) -> None:
    clash = small.columns[0].model_copy(update={"name": "FID"})
    with (
        DatabaseClient(GeoPackageBackend(file)) as client,
        pytest.raises(DatabaseError, match="cannot have the name fid"),
    ):
        client.create_table(small.model_copy(update={"columns": (clash, *small.columns[1:])}))
