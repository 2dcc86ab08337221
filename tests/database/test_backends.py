"""The same tests on every database."""

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anonymise.core.errors import DatabaseError
from anonymise.database.backend import GeometryAction, Outcome
from anonymise.database.column import Column
from anonymise.database.table import Table
from anonymise.metadata.record import Record, dumps
from tests.database.conftest import Target
from tests.database.records import POSITION, road_record

pytestmark = pytest.mark.slow

_HOSTILE = (
    "'; DROP TABLE VEGBILDER; --",
    '"); DROP TABLE VEGBILDER; --',
    "') ON CONFLICT DO NOTHING; DELETE FROM VEGBILDER WHERE ('1'='1",
    "${jndi:ldap://x}%s%(a)s:1 :2 ?1 $1 $$ \\",
    "robert' || (SELECT MAX(ID) FROM VEGBILDER) || '",
    "ÆØÅ 道路 🚗 \t\n",
)


def outcomes(target: Target, table: Table, records: list[Record]) -> list[Outcome]:
    return [result.outcome for result in target.client.upsert(table, records)]


def as_time(value: object) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(str(value).removesuffix("Z"))


def as_object(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def test_all_columns_of_a_record(target: Target, vegbilder: Table) -> None:
    target.client.create_table(vegbilder)
    record = road_record()
    (result,) = target.client.upsert(vegbilder, [record])
    assert result.reason is None
    assert result.outcome is Outcome.INSERTED
    (row,) = target.rows(
        "SELECT ID, Tidspunkt, Dataeier, Bildebredde, Retning, FylkeNummer, Vegkategori, Vegnummer, Meter, Hastighet, "
        "PosisjonHoyde, Aar, Feltkode, JsonData, DetekterteObjekter, Kamera, SenterlinjeHoyde, ExifKvalitet "
        "FROM VEGBILDER"
    )
    assert row[0] == record["bildeid"]
    assert as_time(row[1]).replace(microsecond=0) == datetime(2020, 6, 2, 9, 42, 46)  # noqa: DTZ001
    assert row[2:4] == ("Vegvesenet på Øya", 64)
    assert row[4] == pytest.approx(302.295333221872, rel=1e-15)
    assert row[5:10] == (46, "F", 13, 14.34, 12.5)
    assert row[10] == pytest.approx(POSITION[2], rel=1e-15)
    assert row[11:13] == (2020, "1")
    assert as_object(row[13]) == record
    assert as_object(row[14]) == {"car": "2"}
    assert row[15:] == (None, None, 2)


def test_a_point_lies_where_the_exif_says(target: Target, vegbilder: Table) -> None:
    target.client.create_table(vegbilder)
    center = "srid=25833;POINT Z( -21534.25 6823456.5 12.5 )"
    records = [road_record(bildeid="a"), road_record(bildeid="b", senterlinjeposisjon=center)]
    assert outcomes(target, vegbilder, records) == [Outcome.INSERTED] * 2
    srid, position = target.point("VEGBILDER", "Posisjon", "ID = 'a'") or (0, ())
    assert srid == 4326
    assert position == pytest.approx(POSITION[:2], abs=1e-12)
    assert target.point("VEGBILDER", "SenterlinjePosisjon", "ID = 'a'") is None
    assert target.point("VEGBILDER", "SenterlinjePosisjon", "ID = 'b'") == (25833, (-21534.25, 6823456.5))


def test_points_with_height(target: Target, small: Table) -> None:
    target.client.create_table(small)
    assert outcomes(target, small, [road_record(bildeid="a", exif_filnavn="a", exif_altitude="3.456")]) == [
        Outcome.INSERTED
    ]
    srid, position = target.point("Small_Table", "Sted", "Id = 'a'") or (0, ())
    assert srid == 4326
    assert position == pytest.approx(POSITION, abs=1e-12)
    assert target.rows("SELECT Hoyde FROM Small_Table") == [(pytest.approx(3.46),)]


def test_a_row_arrives_once_however_often_it_is_sent(target: Target, vegbilder: Table) -> None:
    target.client.create_table(vegbilder)
    first = road_record(bildeid="a", exif_meter="1")
    assert outcomes(target, vegbilder, [first, road_record(bildeid="b")]) == [Outcome.INSERTED] * 2
    again = road_record(bildeid="a", exif_meter="2", exif_gpsposisjon=None, exif_heading=None)
    results = outcomes(target, vegbilder, [again, road_record(bildeid="c"), first, again])
    assert results == [Outcome.UPDATED, Outcome.INSERTED, Outcome.UPDATED, Outcome.UPDATED]
    assert target.rows("SELECT ID, Meter, Retning FROM VEGBILDER WHERE ID = 'a'") == [("a", 2, None)]
    assert target.point("VEGBILDER", "Posisjon", "ID = 'a'") is None
    assert target.rows("SELECT COUNT(*) FROM VEGBILDER") == [(3,)]


def test_a_batch_without_any_value_in_some_columns_goes_on_with_values(target: Target, vegbilder: Table) -> None:
    target.client.create_table(vegbilder)
    bare = road_record(bildeid="a", exif_gpsposisjon=None, exif_heading=None, detekterte_objekter=None)
    assert outcomes(target, vegbilder, [bare, road_record(bildeid="b")]) == [Outcome.INSERTED] * 2
    assert target.point("VEGBILDER", "Posisjon", "ID = 'a'") is None
    assert target.point("VEGBILDER", "Posisjon", "ID = 'b'") is not None


def test_refused_rows_do_not_take_others_along(target: Target, small: Table) -> None:
    """The unique column is for the database to check, the rest is seen before."""
    target.client.create_table(small)
    records = [
        road_record(bildeid="a", exif_filnavn="x"),
        road_record(bildeid="b", exif_filnavn="x"),
        road_record(bildeid="c", exif_filnavn="c"),
        road_record(bildeid=None, exif_filnavn="d"),
        road_record(bildeid="e", exif_filnavn="much too long"),
        road_record(bildeid="f", exif_filnavn="f", exif_altitude="123456.7"),
        road_record(bildeid="g", exif_filnavn="g", exif_gpsposisjon="srid=4326;POINT( 1 2 )"),
        road_record(bildeid="h", exif_filnavn="h", exif_gpsposisjon="srid=25833;POINT Z( 1 2 3 )"),
        road_record(bildeid="i", exif_filnavn="\0"),
        road_record(bildeid="j", exif_filnavn=None),
    ]
    results = target.client.upsert(small, records)
    failed = {n: str(result.reason) for n, result in enumerate(results) if result.outcome is Outcome.FAILED}
    assert list(failed) == [1, 3, 4, 5, 6, 7, 8]
    assert "unique" in failed[1].lower()
    for n, words in {3: "Id: has no value", 4: "takes 8", 5: "digits", 6: "no height", 7: "srid", 8: "NUL"}.items():
        assert words in failed[n]
    assert target.rows("SELECT Id FROM Small_Table ORDER BY Id") == [("a",), ("c",), ("j",)]
    # An update that takes another row's value is refused as well, and changes nothing.
    (result,) = target.client.upsert(small, [road_record(bildeid="c", exif_filnavn="x", exif_altitude="9")])
    assert result.outcome is Outcome.FAILED
    ((kept,),) = target.rows("SELECT Hoyde FROM Small_Table WHERE Id = 'c'")
    assert kept == pytest.approx(48.86)


def test_creating_what_is_there(target: Target, small: Table) -> None:
    assert not target.client.has_table(small)
    target.client.create_table(small)
    with target.again() as other:
        assert other.has_table(small)
    with pytest.raises(DatabaseError, match="exists already"):
        target.client.create_table(small)


def test_a_missing_table_stops_instead_of_failing_every_row(target: Target, small: Table, vegbilder: Table) -> None:
    target.client.create_table(small)
    with pytest.raises(DatabaseError, match=r"(?i)vegbilder|table or view"):
        target.client.upsert(vegbilder, [road_record()])


def test_a_column_that_the_database_lacks(target: Target, small: Table) -> None:
    target.client.create_table(small)
    extra = Column.model_validate({"name": "Ny", "dtype": "NUMBER", "formatter": "exif_hp", "extra": None})
    wider = small.model_copy(update={"columns": (*small.columns, extra)})
    with pytest.raises(DatabaseError, match=r"(?i)\bny\b"):
        target.client.upsert(wider, [road_record(bildeid="a", exif_filnavn="a")])


def test_geometry_metadata_can_be_made_again(target: Target, vegbilder: Table) -> None:
    target.client.create_table(vegbilder)
    target.client.upsert(vegbilder, [road_record(bildeid="a")])
    target.client.change_geometry_metadata(vegbilder, [GeometryAction.INSERT])
    target.client.change_geometry_metadata(vegbilder, [GeometryAction.CREATE])
    target.client.change_geometry_metadata(vegbilder, [GeometryAction.DROP])
    target.client.change_geometry_metadata(vegbilder, [GeometryAction.INSERT, GeometryAction.CREATE])
    target.client.change_geometry_metadata(vegbilder, list(GeometryAction))
    assert outcomes(target, vegbilder, [road_record(bildeid="a"), road_record(bildeid="b")]) == [
        Outcome.UPDATED,
        Outcome.INSERTED,
    ]


def test_a_transaction_of_statements(target: Target, small: Table) -> None:
    target.client.create_table(small)
    target.client.upsert(small, [road_record(bildeid=c, exif_filnavn=c) for c in "ab"])
    with pytest.raises(DatabaseError):
        target.client.execute(["UPDATE Small_Table SET Hoyde = 5", "UPDATE Small_Table SET Nothing = 1"])
    assert target.rows("SELECT COUNT(*) FROM Small_Table WHERE Hoyde = 5") == [(0,)]
    changed, found = target.client.execute(["UPDATE Small_Table SET Hoyde = 5", "SELECT Id, Hoyde FROM Small_Table"])
    assert changed.n_rows == 2
    assert changed.columns == ()
    assert [name.lower() for name in found.columns] == ["id", "hoyde"]
    with target.again() as other:
        assert len(other.execute(["SELECT Id FROM Small_Table WHERE Hoyde = 5"])[0].rows) == 2


def test_only_one_statement_at_a_time_reaches_the_server(target: Target, small: Table) -> None:
    target.client.create_table(small)
    target.client.upsert(small, [road_record(bildeid="a", exif_filnavn="a")])
    with pytest.raises(DatabaseError):
        target.client.execute(["SELECT 1 AS One FROM Small_Table; DELETE FROM Small_Table"])
    assert target.rows("SELECT COUNT(*) FROM Small_Table") == [(1,)]


@pytest.mark.parametrize("text", _HOSTILE)
def test_hostile_values_arrive_as_they_are(target: Target, vegbilder: Table, text: str) -> None:
    target.client.create_table(vegbilder)
    names = ("bildeid", "exif_dataeier", "exif_strekningsnavn", "mappenavn", "exif_roadident")
    record = road_record(**dict.fromkeys(names, text))
    assert outcomes(target, vegbilder, [record, record]) == [Outcome.INSERTED, Outcome.UPDATED]
    found = target.rows("SELECT ID, Dataeier, Strekningsnavn, Mappenavn, VegIdentitet FROM VEGBILDER")
    assert found == [(text,) * 5]
    ((content,),) = target.rows("SELECT JsonData FROM VEGBILDER")
    assert as_object(content) == json.loads(dumps(record))


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(text=st.text(max_size=64), number=st.floats(), lon=st.floats(-180, 180), lat=st.floats(-90, 90))
def test_any_values_arrive_or_are_refused_with_a_reason(
    target: Target, vegbilder: Table, text: str, number: float, lon: float, lat: float
) -> None:
    if not target.client.has_table(vegbilder):
        target.client.create_table(vegbilder)
    position = f"srid=4326;POINT( {lon!r} {lat!r} )"
    record = road_record(exif_strekningsnavn=text, exif_heading=repr(number), exif_gpsposisjon=position)
    (result,) = target.client.upsert(vegbilder, [record])
    if result.outcome is Outcome.FAILED:
        assert str(result.reason).startswith(("Strekningsnavn: ", "Retning: ", "JsonData: "))
        return
    ((name, heading),) = target.rows("SELECT Strekningsnavn, Retning FROM VEGBILDER")
    assert name == (text if text.strip() and text.strip().lower() != "nan" else None)
    assert heading is None or heading == pytest.approx(number)
    _, found = target.point("VEGBILDER", "Posisjon", "ID IS NOT NULL") or (0, ())
    assert found == pytest.approx((lon, lat), abs=1e-9)
