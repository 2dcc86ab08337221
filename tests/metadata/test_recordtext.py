import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anonymise.core.errors import RecordError
from anonymise.metadata.record import dumps, flip_wkt, loads
from anonymise.metadata.record.text import KEYS

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: text.strip() == text and text.lower() not in {"nan", "none"}
)


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.sampled_from(["exif_strekningsnavn", "exif_xptitle", "bildeid"]), st.none() | TEXT))
def test_a_record_that_was_written_is_read_unchanged(values: dict[str, str | None]) -> None:
    record = {key: values.get(key) for key in KEYS}
    assert loads(dumps(record)) == record


def test_other_scripts_stay_as_they_are() -> None:
    assert dumps({"a": "Damåsen"}) == '{\n    "a": "Damåsen"\n}'


def test_earlier_names_missing_keys_and_unknown_keys() -> None:
    record = loads(
        '{"exif_speed": "5.00", "exif_preview_filnavn": "a_preview.jpg", "veglenkeid": 42, "stedfestet": "ja"}'
    )
    assert list(record) == [*KEYS, "stedfestet"]
    assert (record["exif_speed_ms"], record["exif_filnavn_preview"]) == ("5.00", "a_preview.jpg")
    assert (record["exif_reflinkid"], record["bildeid"]) == ("42", None)
    assert loads('{"exif_speed": "18.00", "exif_speed_ms": "5.00"}')["exif_speed_ms"] == "5.00"


def test_decimal_commas_only_where_numbers_stand() -> None:
    record = loads(
        '{"exif_heading": "281,71", "exif_gpsposisjon": "srid=4326;POINT Z( 9,8989 59,7631 51,7 )",'
        ' "exif_basislinje": "719;190;0;959;-0,03", "exif_strekningsnavn": "1,5 km", "exif_filnavn": "km12,345.jpg"}'
    )
    assert record["exif_heading"] == "281.71"
    assert record["exif_gpsposisjon"] == "srid=4326;POINT Z( 9.8989 59.7631 51.7 )"
    assert record["exif_basislinje"] == "719;190;0;959;-0.03"
    assert (record["exif_strekningsnavn"], record["exif_filnavn"]) == ("1,5 km", "km12,345.jpg")


def test_numbers_become_texts_to_the_digit_and_nothing_becomes_null() -> None:
    record = loads(
        '{"exif_heading": 281.7100000000000001, "exif_roll": NaN, "exif_pitch": "NaN", "exif_fylke": "None",'
        ' "exif_hp": "", "detekterte_objekter": {"car": 2}}'
    )
    assert record["exif_heading"] == "281.7100000000000001"
    assert record["exif_roll"] is record["exif_pitch"] is record["exif_fylke"] is record["exif_hp"] is None
    assert record["detekterte_objekter"] == {"car": "2"}


@pytest.mark.parametrize(
    ("written", "folder"),
    [
        (r"C:\DATA\ViaPPS\F1", "C:/DATA/ViaPPS/F1"),
        (r"D:\foto\bilder\ny\test\rv7", "D:/foto/bilder/ny/test/rv7"),
        (r"D:\users\F1" "\\", "D:/users/F1/"),
        (r"C:\\DATA\\F1", "C:/DATA/F1"),
        ("C:/DATA/F1", "C:/DATA/F1"),
    ],
)
def test_unescaped_backslashes(written: str, folder: str) -> None:
    for end in ("", ","):
        rest = '\n    "bildeid": "x"\n' if end else "\n"
        assert loads('{\n    "exif_mappenavn": "' + written + '"' + end + rest + "}")["exif_mappenavn"] == folder


def test_unescaped_backslashes_inside_quoted_xml() -> None:
    xml = r"<ImageProperties Date=\"2020\">\n\t<ImageName>D:\Foto\ny\a.jpg</ImageName></ImageProperties>"
    record = loads('{"exif_imageproperties": "' + xml + '"}')
    assert record["exif_imageproperties"] == (
        '<ImageProperties Date="2020">\n\t<ImageName>D:\\Foto\\ny\\a.jpg</ImageName></ImageProperties>'
    )


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '{"a": }', "[" * 100_000, "\\"])
def test_what_is_no_record(text: str) -> None:
    with pytest.raises(RecordError, match="no record"):
        loads(text)


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=80) | st.recursive(st.none() | st.booleans() | st.text(), st.lists).map(json.dumps))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        record = loads(text)
    except RecordError:
        return
    assert set(KEYS) <= set(record)


def test_flip_wkt() -> None:
    assert flip_wkt("srid=4326;POINT Z( 1.0 2.0 66.08 )") == "srid=4326;POINT Z( 2.0 1.0 66.08 )"
    assert flip_wkt("srid=4326;POINT( 1.0 2.0 )") == "srid=4326;POINT( 2.0 1.0 )"
    assert flip_wkt("POINT(1 2)") == "POINT(2 1)"
    assert flip_wkt("") == ""


@given(st.decimals(-180, 180, places=9), st.decimals(-90, 90, places=9))
def test_flipping_twice_gives_the_point_back(lon: object, lat: object) -> None:
    wkt = f"srid=4326;POINT Z( {lon} {lat} 51.724000000000004 )"
    assert flip_wkt(flip_wkt(wkt)) == wkt


_N = 400_000


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "\\"' + " " * _N + "x",
        '{"a": "' + "\\" * _N,
        json.dumps({"exif_imageproperties": "<ImageName>" * (_N // 11), "exif_gpsposisjon": "1," * _N}),
    ],
)
def test_any_record_is_read_in_one_pass(text: str) -> None:
    """A pattern that tries again and again would take hours for each."""
    with contextlib.suppress(RecordError):
        loads(text)


@pytest.mark.parametrize("text", ["POINT" + " " * _N, "POINT(" * _N, "POINT(" + "x" * _N, "POINT(" + " " * _N])
def test_any_text_is_looked_through_for_a_point_in_one_pass(text: str) -> None:
    assert flip_wkt(text) == text
