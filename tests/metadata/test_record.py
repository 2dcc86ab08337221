import json
import os
import subprocess
import sys
import unicodedata
from datetime import date, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from anonymise.core.detections import Size
from anonymise.core.errors import ConfigError, RecordError
from anonymise.database.table import load_table
from anonymise.images import embedded
from anonymise.metadata import ImageSource, read_metadata
from anonymise.metadata.record import (
    Record,
    RecordOptions,
    build_record,
    check_not_null,
    dumps,
    version_text,
)
from anonymise.metadata.record.schema import problems_of
from anonymise.metadata.record.text import KEYS
from tests.roadimages import (
    CAR,
    COMMENT,
    DRIVER,
    PROPERTIES,
    REFLINK,
    SHARED,
    ascii_field,
    gps_fields,
    jpeg,
    options,
    rational_field,
    road_jpeg,
)

FOLDER = ("data", "tilSladding", "06", "2018", "06_Ev134", "Hp05_Damåsen", "F1_2018_06_21")
NAME = "Fy06_Ev134_hp05_f1_m03173.jpg"
VEGBILDER = Path(__file__).parents[2] / "config" / "db_tables" / "VEGBILDER.yml"


def record_of(
    data: bytes,
    folders: tuple[str, ...] = FOLDER,
    name: str = NAME,
    modified: datetime | None = None,
    settings: RecordOptions | None = None,
) -> Record:
    metadata = read_metadata(embedded(data), ImageSource(folders, name, Size(64, 48), modified))
    return build_record(metadata, detections=None, preview_name=None, version=None, options=settings or options())


def text(value: object) -> str:
    assert isinstance(value, str)
    return value


def shared_file(*parts: str) -> Path:
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path} is missing")
    return path


def assert_expected(record: Record, expected_file: Path) -> None:
    expected = json.loads(expected_file.read_text(encoding="utf-8"))
    assert list(record) == list(expected)
    height, expected_height = record.pop("exif_moh"), expected.pop("exif_moh")
    if expected_height is None:
        assert height is None
    else:
        assert float(text(height)) == pytest.approx(float(expected_height), abs=1e-6)
    assert dumps(record) == dumps(expected)


def road_image() -> Path:
    return next(iter(sorted(shared_file("images", "road").rglob("*m03173.jpg"))))


def record_in_place(path: Path) -> Record:
    with Image.open(path) as image:
        size = image.size
    metadata = read_metadata(embedded(path.read_bytes()), ImageSource.of(path, size))
    return build_record(metadata, detections=None, preview_name=None, version=None, options=options())


def test_expected_record_of_2018() -> None:
    assert_expected(record_in_place(road_image()), shared_file("spec", "expected", "road_2018_m03173.json"))


def test_expected_record_of_2020() -> None:
    samples = shared_file("spec", "exif")
    data = road_jpeg(
        (samples / "image_properties_2020.xml").read_bytes(),
        (samples / "reflink_2020.xml").read_bytes(),
        size=(1280, 720),
    )
    path = Path("tilSladding/2020/FV00013/S1/D1/F1_2020_06_02/FV00013_S1D1_m00014_f1.jpg")
    metadata = read_metadata(embedded(data), ImageSource.of(path, (1280, 720)))
    record = build_record(metadata, detections=None, preview_name=None, version=None, options=options())
    assert_expected(record, shared_file("spec", "expected", "road_2020.json"))


def test_expected_record_of_a_panorama() -> None:
    reflink = shared_file("spec", "exif", "reflink_360.xml").read_bytes()
    data = road_jpeg(None, reflink, exif={36867: ascii_field("2022:05:11 10:20:30")}, size=(2048, 1024))
    path = Path("tilSladding/2022/360/EV00006/S58/D1/F1_2022_05_11/EV00006_S58D1_m01024_KD2_m00012_f1.jpg")
    metadata = read_metadata(embedded(data), ImageSource.of(path, (2048, 1024)))
    settings = options(image_type="360", remove_imagetype_filepath=True)
    record = build_record(metadata, detections=None, preview_name=None, version=None, options=settings)
    assert_expected(record, shared_file("spec", "expected", "road_360.json"))


def test_records_of_the_road_images_name_nobody() -> None:
    for path in shared_file("images", "road").rglob("*.jpg"):
        record = dumps(record_in_place(path)).encode("utf-8")
        data = path.read_bytes()
        for tag in (b"Driver", b"CarID", b"Comment"):
            secret = data.split(b"<" + tag + b">", 1)[1].split(b"<", 1)[0]
            assert secret and secret not in record


def test_records_have_all_keys_in_order_and_are_valid() -> None:
    for data in (b"", jpeg(), road_jpeg(), road_jpeg(PROPERTIES, REFLINK), road_jpeg(None, gps=gps_fields(alt=None))):
        record = record_of(data)
        assert tuple(record) == KEYS
        assert problems_of(dumps(record)) == ()


def test_nothing_personal_survives_in_either_blob() -> None:
    reflink = REFLINK.replace("<RoadInfo>", f"<Driver>{DRIVER}</Driver><Comment>{COMMENT}</Comment><RoadInfo>")
    written = dumps(record_of(road_jpeg(PROPERTIES, reflink)))
    assert written.count("<Driver>FJERNET</Driver>") == 2
    assert not any(secret in written for secret in (DRIVER, CAR, COMMENT))


def test_an_image_that_says_nothing_is_read_from_its_path() -> None:
    record = record_of(jpeg(), modified=datetime.fromisoformat("2018-06-21T11:01"))
    assert record["exif_kvalitet"] == "0"
    known = {key: value for key, value in record.items() if value is not None}
    assert known == {
        "exif_tid": "2018-06-21T11:01:00",
        "exif_dato": "2018-06-21",
        "exif_imagetype": "Planar",
        "exif_imagewidth": "64",
        "exif_imageheight": "48",
        "exif_fylke": "6",
        "exif_vegkat": "E",
        "exif_vegstat": "V",
        "exif_vegnr": "134",
        "exif_roadtype": "Ukjent",
        "exif_hp": "5",
        "exif_meter": "3173",
        "exif_feltkode": "1",
        "exif_mappenavn": "/".join(FOLDER),
        "exif_filnavn": NAME,
        "exif_strekningreferanse": "06_Ev134/Hp05_Damåsen",
        "exif_roadident": "EV134 5 3173 1",
        "exif_kvalitet": "0",
        "mappenavn": "Vegbilder/06/2018/06_Ev134/Hp05_Damåsen/F1_2018_06_21",
    }


def test_quality() -> None:
    assert record_of(road_jpeg())["exif_kvalitet"] == "2"
    assert record_of(road_jpeg(PROPERTIES.replace("<VCCountyNo>46</VCCountyNo>", "")))["exif_kvalitet"] == "1"
    assert record_of(road_jpeg(PROPERTIES.replace("S1D1", "x")))["exif_kvalitet"] == "1"
    assert record_of(road_jpeg("<ImageProperties"))["exif_kvalitet"] == "1"
    assert record_of(jpeg(b"no TIFF"))["exif_kvalitet"] == "0"


def test_county_of_the_configuration() -> None:
    county = options(fylkesnummer=34)
    forced = options(fylkesnummer=34, force_fylke=True)
    assert record_of(road_jpeg(), settings=county)["exif_fylke"] == "46"
    assert record_of(road_jpeg(), settings=forced)["exif_fylke"] == "34"
    assert record_of(b"", (), settings=county)["exif_fylke"] == "34"
    assert record_of(b"", (), settings=options(force_fylke=True))["exif_fylke"] is None


@pytest.mark.parametrize(
    ("name", "ident"),
    [
        ("FV00063_S10D3_m00041_f1.jpg", "FV63 S10D3 m41"),
        ("FV00063_S10D3_m01024_KD2_m00041_f1.jpg", "FV63 S10D3 M1024 KD2 m41"),
        ("FV00063_S10D3_m01024_SD2_m00041_f1.jpg", "FV63 S10D3 M1024 AD2 m41"),
        ("Ev134_hp5_m03173_f1.jpg", "EV134 5 3173 1"),
        ("Ev134_hp5_m03173.jpg", None),
        ("FV00063_S10D3_f1.jpg", None),
        ("S10D3_m00041_f1.jpg", None),
    ],
)
def test_road_ident_is_built_where_none_is_given(name: str, ident: str | None) -> None:
    assert record_of(b"", (), name)["exif_roadident"] == ident


def test_folder_name_fields() -> None:
    pattern = "{aar}/{maaned}/{dag}/{fylke}/{vegkat}{vegstat}{vegnr}/{hp}/{meter}/{feltkode}/{strekningreferanse}"
    record = record_of(b"", modified=datetime.fromisoformat("2018-06-02"), settings=options(exif_mappenavn=pattern))
    assert record["mappenavn"] == "2018/06/02/06/EV134/5/3173/1/06_Ev134/Hp05_Damåsen"


def test_folder_name_is_null_rather_than_wrong() -> None:
    assert record_of(b"", ("elsewhere", "06"))["mappenavn"] is None
    assert record_of(b"", settings=options(exif_mappenavn="{aar}/{relative_input_dir}"))["mappenavn"] is None
    assert record_of(b"", settings=options(exif_mappenavn="fast"))["mappenavn"] == "fast"


@pytest.mark.parametrize(
    ("folders", "folder"),
    [
        (("TILSLADDING", "2022", "360", "EV6"), "Vegbilder/2022/EV6"),
        (("tilSladding", "2022", "Planar", "EV6"), "Vegbilder/2022/EV6"),
        (("tilSladding", "2022", "dekke"), "Vegbilder/2022"),
        (("tilSladding", "360", "2022", "EV6", "360"), "Vegbilder/360/2022/EV6/360"),
        (("tilSladding", "tilSladding", "a"), "Vegbilder/tilSladding/a"),
        (("tilSladding",), "Vegbilder"),
    ],
)
def test_relative_folder_and_image_type_folders(folders: tuple[str, ...], folder: str) -> None:
    assert record_of(b"", folders, settings=options(remove_imagetype_filepath=True))["mappenavn"] == folder


@pytest.mark.parametrize("pattern", ["{year}", "{}", "{0}", "{aar.real}", "{aar:04d}", "{aar!r}", "{aar", "", "}"])
def test_patterns_that_cannot_be_filled_are_refused(pattern: str) -> None:
    with pytest.raises(ValidationError) as caught:
        options(exif_mappenavn=pattern)
    if pattern == "{year}":
        assert "strekningreferanse" in str(caught.value), "the message names the known fields"


def test_id_needs_time_and_name() -> None:
    taken = road_jpeg(None, exif={36867: ascii_field("2020:01:01 00:00:00")})
    assert record_of(b"")["bildeid"] is None
    assert record_of(taken, name="")["bildeid"] is None
    assert record_of(taken, name="IMG_1.jpg")["bildeid"] == "2020-01-01T00.00.00_IMG_1_Planar"


def test_id_does_not_come_from_the_date_of_the_file_which_copying_changes() -> None:
    record = record_of(b"", name="IMG_1.jpg", modified=datetime.fromisoformat("2020-01-01"))
    assert (record["exif_tid"], record["bildeid"]) == ("2020-01-01T00:00:00", None)


def test_id_does_not_depend_on_folder_or_form_of_the_name() -> None:
    data = road_jpeg(PROPERTIES.replace("FV00013_S1D1_m00014_f1", "Damåsen_f1"))
    assert record_of(data)["bildeid"] == record_of(data, ("other",))["bildeid"]
    decomposed = unicodedata.normalize("NFD", "Damåsen_f1.jpg")
    taken = road_jpeg(None, exif={36867: ascii_field("2020:01:01 00:00:00")})
    assert record_of(taken, name=decomposed)["bildeid"] == "2020-01-01T00.00.00_Damåsen_Planar_1"


def test_id_is_the_same_in_every_run_and_time_zone(tmp_path: Path) -> None:
    image = tmp_path / NAME
    image.write_bytes(road_jpeg(None, exif={36867: ascii_field("2022:05:11 10:20:30")}))
    program = (
        "import sys, pathlib\n"
        "from tests.roadimages import options\n"
        "from anonymise import images, metadata as exif\n"
        "from anonymise.metadata import record\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "metadata = exif.read_metadata(images.embedded(path.read_bytes()), exif.ImageSource.of(path, (64, 48)))\n"
        "made = record.build_record(metadata, detections=None, preview_name=None, version=None, options=options())\n"
        "print(made['exif_tid'], made['bildeid'])\n"
    )
    outputs = set()
    for zone in ("UTC", "Asia/Tokyo", "America/Los_Angeles"):
        environment = os.environ | {
            "TZ": zone,
            "PYTHONHASHSEED": str(len(zone)),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        command = [sys.executable, "-c", program, str(image)]
        outputs.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert outputs == {"2022-05-11T10:20:30 2022-05-11T10.20.30_Fy06_Ev134_hp05_m03173_Planar_1\n"}


def test_what_the_run_adds() -> None:
    metadata = read_metadata(embedded(road_jpeg()), ImageSource(FOLDER, NAME, Size(64, 48)))
    record = build_record(
        metadata,
        detections={"car": 2, "person": 1},
        preview_name="a_preview.jpg",
        version=version_text("0.2", date(2022, 5, 1)),
        options=options(data_eier="Statens vegvesen"),
    )
    assert record["detekterte_objekter"] == {"car": "2", "person": "1"}
    assert (record["exif_filnavn_preview"], record["versjon"]) == ("a_preview.jpg", "P0.2_K20220501")
    assert record["exif_dataeier"] == "Statens vegvesen"
    assert problems_of(dumps(record)) == ()


def test_no_objects_is_not_the_same_as_no_detection() -> None:
    metadata = read_metadata(embedded(b""), ImageSource((), "a.jpg", Size(1, 1)))
    record = build_record(metadata, detections={}, preview_name=None, version=None, options=options())
    assert record["detekterte_objekter"] == {}


def test_null_check_names_what_is_missing() -> None:
    record = {"bildeid": None, "exif_tid": "2020-01-01T00:00:00", "exif_fylke": ""}
    with pytest.raises(RecordError, match=r"needs exif_fylke, exif_vegnr, bildeid,"):
        check_not_null(record, ("exif_tid", "exif_fylke", "exif_vegnr"), "bildeid")
    check_not_null(record, ("exif_tid",), None)


def test_a_complete_record_passes_the_null_check_of_the_table() -> None:
    table = load_table("VEGBILDER", VEGBILDER.parent)
    keys, primary = table.required_keys()
    assert primary == "bildeid"
    assert [table.required_keys(given)[1] for given in ("ID", "Filnavn", "bildeid")] == [
        "bildeid",
        "exif_filnavn",
        "bildeid",
    ]
    with pytest.raises(ConfigError, match="'Id' is neither"):
        table.required_keys("Id")
    assert set(keys) <= set(KEYS) and len(keys) == 11
    complete = record_of(road_jpeg(), settings=options(data_eier="Statens vegvesen"))
    check_not_null(complete, keys, primary)
    with pytest.raises(RecordError, match="exif_dataeier"):
        check_not_null(record_of(road_jpeg()), keys, primary)


@pytest.mark.parametrize(
    "content", [None, "", "pk_column: ID", "pk_column: ID\ncolumns: []", "[", "columns: [3]", "\xff"]
)
def test_table_files_that_describe_no_table(tmp_path: Path, content: str | None) -> None:
    table = tmp_path / "T.yml"
    if content is not None:
        table.write_text(content, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"T\.yml"):
        load_table("T", tmp_path)


RATIONALS = st.lists(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1) | st.just(0)), min_size=1, max_size=3
)


@settings(deadline=None, max_examples=200)
@given(
    name=st.text(max_size=60),
    folders=st.lists(st.text(min_size=1, max_size=12), max_size=5),
    modified=st.none() | st.datetimes(),
    properties=st.none() | st.binary(max_size=60) | st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    rationals=RATIONALS,
)
def test_any_name_path_xml_and_gps_give_a_valid_record(
    name: str,
    folders: list[str],
    modified: datetime | None,
    properties: str | bytes | None,
    rationals: list[tuple[int, int]],
) -> None:
    if isinstance(properties, str):
        escaped = properties.replace("&", "&amp;").replace("<", "&lt;")
        properties = "<ImageProperties><VegComValues>" + "".join(
            f"<{field}>{escaped}</{field}>" for field in ("VCRoad", "VCHP", "VCMeter", "VCLane", "VCCountyNo", "VCArea")
        )
        properties += f"</VegComValues><ImageName>{escaped}</ImageName><Speed>{escaped}</Speed></ImageProperties>"
    gps = gps_fields(rationals, rationals, rationals[0]) | {
        13: rational_field(rationals[0]),
        17: rational_field(rationals[0]),
    }
    data = road_jpeg(properties, gps=gps)
    folders = ["tilSladding", *folders]
    first = record_of(data, tuple(folders), name, modified)
    written = dumps(first)
    written.encode("utf-8")
    assert problems_of(written) == ()
    assert "None" not in text(first["mappenavn"]) or "None" in "/".join(folders)
    again = record_of(data, ("another", *folders), name, None)
    assert again["bildeid"] == first["bildeid"]
