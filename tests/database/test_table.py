import math
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import shapely
import yaml
from hypothesis import given
from hypothesis import strategies as st
from shapely import Point

from anonymise.core.errors import ConfigError, RecordError
from anonymise.core.resources import CONFIG_FOLDER
from anonymise.database.formatters import FORMATTERS, as_number, as_time
from anonymise.database.geometry import from_geopackage, parse_point, to_ewkb_hex, to_geopackage, without_height
from anonymise.database.table import Table, load_table
from anonymise.metadata.record import KEYS
from tests.database.records import road_record

_FOLDER = CONFIG_FOLDER / "db_tables"


def content() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((_FOLDER / "VEGBILDER.yml").read_text("utf-8"))
    return loaded


def load(folder: Path, changed: object, name: str = "T") -> Table:
    (folder / f"{name}.yml").write_text(yaml.safe_dump(changed), "utf-8")
    return load_table(name, folder)


def test_the_shipped_table(vegbilder: Table) -> None:
    assert len(vegbilder.columns) == 51
    assert vegbilder.primary_key.name == "ID"
    assert [c.name for c in vegbilder.geometry_columns] == ["Posisjon", "SenterlinjePosisjon"]
    assert vegbilder.geometry_columns[1].spatial.dim_elements[1].max == 7960000
    assert [c.name for c in vegbilder.columns if c.is_json] == ["JsonData", "DetekterteObjekter"]


def test_formatters_agree_with_the_check_before_the_run(vegbilder: Table) -> None:
    """The keys that a record is checked for are just those that the table demands."""
    keys, _ = vegbilder.required_keys()
    record = road_record(exif_dataeier="x")
    vegbilder.row(record)
    for key in keys:
        with pytest.raises(RecordError, match="has no value"):
            vegbilder.row({**record, key: None})
    assert set(FORMATTERS) >= set(KEYS)


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (["columns", 3, "formatter"], "exif_kamera", "column Kamera: formatter: unknown formatter"),
        (["columns", 3, "dtype"], "VARCHAR", "column Kamera: dtype: needs a size"),
        (["columns", 3, "dtype"], "VARCHAR(0)", "size from 1"),
        (["columns", 3, "dtype"], "DATE(3)", "takes no size"),
        (["columns", 3, "dtype"], "NUMBER(4,5)", "at most as many digits"),
        (["columns", 3, "dtype"], "BLOB); DROP TABLE x; --", "dtype: unknown"),
        (["columns", 3, "extra"], "DEFAULT 0", "extra: can only be"),
        (["columns", 3, "extra"], "NOT NULL); DROP TABLE x; --", "extra: can only be"),
        (["columns", 3, "extra"], "PRIMARY KEY", "pk_column is ID, but Kamera says PRIMARY KEY"),
        (["columns", 0, "extra"], None, "extra should be PRIMARY KEY"),
        (["columns", 3, "name"], 'K"amera', 'column K"amera: name: a name has'),
        (["columns", 3, "name"], "x; DROP TABLE VEGBILDER", "name: a name has"),
        (["columns", 3, "name"], "Kamera\n", "name: a name has"),
        (["columns", 3, "name"], "Kåmera", "name: a name has"),
        (["columns", 3, "name"], "k" * 31, "name: a name has"),
        (["columns", 3, "name"], "gpkg_x", "belong to the databases"),
        (["columns", 3, "name"], "DATAEIER", "two columns have the name dataeier"),
        (["columns", 3, "spatial_metadata"], {"srid": 1, "dimension": 2, "dim_elements": []}, "column Kamera"),
        (["columns", 3, "more"], 1, "column Kamera: more"),
        (["columns", 11, "spatial_metadata"], None, "belong together"),
        (["columns", 11, "formatter"], "exif_camera", "SDO_GEOMETRY needs one of the formatters"),
        (["columns", 11, "spatial_metadata", "dimension"], 3, "dimension is 3, but there are 2"),
        (["columns", 11, "spatial_metadata", "dimension"], 4, "dimension"),
        (["columns", 11, "spatial_metadata", "srid"], "4326); --", "srid"),
        (["columns", 11, "spatial_metadata", "dim_elements", 0, "name"], "X'; --", "name: a name has"),
        (["columns", 11, "spatial_metadata", "dim_elements", 0, "min"], 180, "min should be less than max"),
        (["columns", 11, "spatial_metadata", "dim_elements", 0, "max"], math.inf, "finite"),
        (["columns", 11, "spatial_metadata", "dim_elements", 0, "tol"], 0, "tol"),
        (["columns", 11, "spatial_metadata", "dim_elements", 0, "name"], "latitude", "the same name"),
        (["pk_column"], "Id", "there is no column Id"),
        (["columns"], [], "columns"),
        (["columns", 0], "ID", "column 1"),
    ],
)
def test_what_is_wrong_with_a_table_file(tmp_path: Path, path: list[Any], value: object, problem: str) -> None:
    changed = content()
    place = changed
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, changed)
    assert problem in str(caught.value)
    assert "T.yml" in str(caught.value)


@pytest.mark.parametrize("text", ["", "3", "[]", "a: [", "\t"])
def test_files_that_are_no_table(tmp_path: Path, text: str) -> None:
    (tmp_path / "T.yml").write_text(text)
    with pytest.raises(ConfigError, match=r"T\.yml"):
        load_table("T", tmp_path)


@pytest.mark.parametrize("name", ["../T", "T.yml", 'T"', "", "1T", "sqlite_T", "T T", "T;", "T\0"])
def test_names_that_are_no_table(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="table_name is"):
        load_table(name, tmp_path)


def test_a_missing_table_names_those_that_are_there() -> None:
    with pytest.raises(ConfigError, match="tables there: VEGBILDER"):
        load_table("VEGBILD", _FOLDER)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12,5", "12.5"),
        ("-0,031", "-0.031"),
        (" 7 ", "7"),
        (".5", "0.5"),
        ("1e3", "1000"),
        ("0.027226146823267947", "0.027226146823267947"),
        ("9007199254740993", "9007199254740993"),
        (3, "3"),
    ],
)
def test_numbers(text: object, number: str) -> None:
    assert as_number(text) == Decimal(number)


@pytest.mark.parametrize("text", [None, "", "  ", "NaN", "nan", math.nan])
def test_numbers_that_are_null(text: object) -> None:
    assert as_number(text) is None


@pytest.mark.parametrize("text", ["x", "1 2", "1,2,3", "inf", "1e126", "1e999", "٣", "0x1", "1_000"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(RecordError):
        as_number(text)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2020-06-02T09:42:46.3948628", datetime(2020, 6, 2, 9, 42, 46, 394862)),  # noqa: DTZ001
        ("2020-06-02T09:42:46Z", datetime(2020, 6, 2, 9, 42, 46)),  # noqa: DTZ001
        ("2020-06-02T09:42:46+02:00", datetime(2020, 6, 2, 9, 42, 46)),  # noqa: DTZ001
        ("2020-06-02 09.42.46,5", datetime(2020, 6, 2, 9, 42, 46, 500000)),  # noqa: DTZ001
        ("2020-06-02", datetime(2020, 6, 2)),  # noqa: DTZ001
        ("", None),
    ],
)
def test_times(text: str, time: datetime | None) -> None:
    assert as_time(text) == time


@pytest.mark.parametrize("text", ["2020-13-02T09:42:46", "2021-02-29T00:00:00", "0000-01-01", "02.06.2020", "now"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(RecordError):
        as_time(text)


@given(
    lon=st.floats(-180, 180),
    lat=st.floats(-90, 90),
    height=st.none() | st.floats(-500, 9000),
    srid=st.sampled_from([4326, 25833]),
)
def test_points_keep_their_coordinates(lon: float, lat: float, height: float | None, srid: int) -> None:
    numbers = [lon, lat] if height is None else [lon, lat, height]
    text = f"srid={srid};POINT{' Z' if height is not None else ''}( {' '.join(map(repr, numbers))} )"
    point = parse_point(text)
    for other in (point, from_geopackage(to_geopackage(point)), shapely.from_wkb(to_ewkb_hex(point))):
        assert isinstance(other, Point)
        assert shapely.get_srid(other) == srid
        assert other.coords[0] == pytest.approx(tuple(numbers), abs=1e-300)


@pytest.mark.parametrize(
    "text",
    [
        "POINT( 1 2 )",
        "srid=4326;POINT EMPTY",
        "srid=4326;POINT( 1 )",
        "srid=4326;POINT( nan 2 )",
        "srid=4326;POINT( 1e999 2 )",
        "srid=4326;LINESTRING( 1 2, 3 4 )",
        "srid=4326;POINT( 1 2 ) x",
        "srid=4326;POINT( 1 2 ); DROP TABLE x",
        "srid=;POINT( 1 2 )",
    ],
)
def test_what_is_no_point(text: str) -> None:
    with pytest.raises(RecordError, match="is no point"):
        parse_point(text)


@pytest.mark.parametrize(
    "blob", [b"", b"GP", b"XX000000", b"GP\0\x01\0\0\0\0", b"GP\0\x0f\0\0\0\0", b"GP\0\x20\0\0\0\0\0"]
)
def test_what_is_no_geometry_of_a_geopackage(blob: bytes) -> None:
    with pytest.raises(ValueError, match="geometry"):
        from_geopackage(blob)


def test_points_outside_the_bounds(vegbilder: Table) -> None:
    for position in ("190 60", "10 -91"):
        with pytest.raises(RecordError, match=r"Posisjon: L.* is outside"):
            vegbilder.row(road_record(exif_gpsposisjon=f"srid=4326;POINT( {position} )"))


def test_flipping_swaps_the_column_and_the_record(vegbilder: Table) -> None:
    record = road_record(exif_gpsposisjon="srid=4326;POINT Z( 1.0 2.0 66.08 )")
    row = dict(zip([c.name for c in vegbilder.columns], vegbilder.row(record, flip=True), strict=True))
    assert isinstance(row["Posisjon"], Point)
    assert (row["Posisjon"].x, row["Posisjon"].y) == (2, 1)
    assert row["PosisjonHoyde"] == Decimal("66.08")
    assert "POINT Z( 2.0 1.0 66.08 )" in str(row["JsonData"])
    assert record["exif_gpsposisjon"] == "srid=4326;POINT Z( 1.0 2.0 66.08 )"


def test_link_ids_of_earlier_records(vegbilder: Table) -> None:
    row = vegbilder.row({**road_record(), "exif_reflinkid": None, "veglenkeid": "5", "veglenkepos": "0,25"})
    values = dict(zip([c.name for c in vegbilder.columns], row, strict=True))
    assert values["ReflinkID"] == Decimal(5)
    assert values["ReflinkPosisjon"] == Decimal("0.25")


@pytest.mark.parametrize("text", ["1" * 400_000 + "x", "1," * 200_000, "POINT(1 2 3" + " " * 400_000 + "x)"])
def test_any_text_is_refused_in_one_pass(text: str) -> None:
    """A pattern that tries again and again would take hours for each."""
    with pytest.raises(RecordError):
        as_number(text)
    with pytest.raises(RecordError):
        parse_point(f"srid=4326;{without_height(text)}")
