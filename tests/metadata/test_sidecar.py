"""Positions from a file next to the images: a GPX track, or a CSV table by time or by file name."""

from datetime import datetime, timezone
from pathlib import Path

import pytest

from anonymise import Anonymiser, load_config
from anonymise.config import load
from anonymise.core.detections import Size
from anonymise.core.errors import UsageError
from anonymise.images import embedded
from anonymise.metadata import ImageSource, Metadata, PositionSidecar, read_metadata
from anonymise.metadata.record import build_record
from anonymise.metadata.sources.track import SIDECAR
from anonymise.testing import FakeModel
from tests.roadimages import PROPERTIES, ascii_field, exif_block, gps_fields, jpeg, options, road_jpeg

GPX = """<?xml version="1.0" encoding="UTF-8"?>
<gpx version="1.1" creator="logger" xmlns="http://www.topografix.com/GPX/1/1"><trk>
<trkseg>
<trkpt lat="60.0" lon="10.0"><ele>100</ele><time>2021-05-04T10:00:00Z</time></trkpt>
<trkpt lat="60.2" lon="10.4"><ele>120</ele><time>2021-05-04T10:00:10Z</time></trkpt>
<trkpt lat="61.0" lon="11.0"><time>2021-05-04T10:02:10Z</time></trkpt>
</trkseg>
<trkseg><trkpt lat="62.0" lon="12.0"><time>2021-05-04T10:02:20Z</time></trkpt></trkseg>
</trk></gpx>"""

BY_NAME = "file_name;latitude;longitude\na/1.jpg;60,5;10,5\n2.jpg;61,5;11,5\n"
BY_TIME = "time,lat,lon,alt\n2021-05-04T10:00:00Z,60,10,100\n2021-05-04T10:00:10Z,60.2,10.4,120\n"


def sidecar(folder: Path, text: str, suffix: str = ".gpx", clock_offset_s: float = 0.0) -> PositionSidecar:
    file = folder / f"positions{suffix}"
    file.write_text(text, encoding="utf-8")
    return PositionSidecar.read(file, clock_offset_s)


def photo(time: str | None = "2021:05:04 10:00:05", gps: bool = False) -> bytes:
    exif = {36867: ascii_field(time)} if time else None
    return jpeg(exif_block({}, exif, gps_fields() if gps else None))


def read(data: bytes, positions: PositionSidecar | None, *folders: str, name: str = "1.jpg") -> Metadata:
    modified = datetime(2021, 5, 4, 10, 0, 5, tzinfo=timezone.utc)
    return read_metadata(embedded(data), ImageSource(folders, name, Size(64, 48), modified), positions)


def place(metadata: Metadata) -> tuple[str | None, str | None, str | None]:
    return metadata.longitude, metadata.latitude, metadata.altitude


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2021:05:04 10:00:05", ("10.2", "60.1", "110.0")),
        ("2021:05:04 10:00:00", ("10.0", "60.0", "100.0")),
        ("2021:05:04 09:59:59", ("10.0", "60.0", "100.0")),  # within a second of the first point
        ("2021:05:04 09:59:58", (None, None, None)),
        ("2021:05:04 10:01:00", (None, None, None)),  # a gap of two minutes
        ("2021:05:04 10:02:15", (None, None, None)),  # between two segments
        ("2021:05:04 10:02:20", ("12.0", "62.0", None)),
    ],
)
def test_a_track_is_interpolated_in_time_and_nothing_is_made_up(
    tmp_path: Path, time: str, expected: tuple[str | None, ...]
) -> None:
    metadata = read(photo(time), sidecar(tmp_path, GPX))
    assert place(metadata) == expected
    assert (metadata.origins.get("longitude") == SIDECAR) is (expected[0] is not None)
    assert not SIDECAR.is_exif
    assert bool(metadata.problems) is (expected[0] is None)


def test_the_cameras_clock_may_be_ahead(tmp_path: Path) -> None:
    assert read(photo("2021:05:04 12:00:05"), sidecar(tmp_path, GPX, clock_offset_s=7200)).longitude == "10.2"


def test_a_time_with_its_zone_needs_no_offset(tmp_path: Path) -> None:
    data = jpeg(exif_block({}, {36867: ascii_field("2021:05:04 12:00:05"), 36881: ascii_field("+02:00")}))
    assert read(data, sidecar(tmp_path, GPX)).longitude == "10.2"


@pytest.mark.parametrize("data", [photo(gps=True), road_jpeg()])
def test_the_images_own_position_wins(tmp_path: Path, data: bytes) -> None:
    positions = sidecar(tmp_path, BY_NAME, ".csv")
    own, with_sidecar = read(data, None, "a"), read(data, positions, "a")
    assert own.longitude is not None
    assert with_sidecar == own


def test_the_date_of_the_file_places_nothing(tmp_path: Path) -> None:
    metadata = read(photo(None), sidecar(tmp_path, GPX))
    assert metadata.time == "2021-05-04T10:00:05"
    assert metadata.longitude is None
    assert any("does not say when it was taken" in note for note in metadata.problems)


def test_a_table_by_file_name_with_folders_and_decimal_commas(tmp_path: Path) -> None:
    positions = sidecar(tmp_path, BY_NAME, ".csv")
    assert place(read(photo(None), positions, "in", "a")) == ("10.5", "60.5", None)
    assert read(photo(None), positions, "in", "b").longitude is None
    assert place(read(photo(None), positions, "in", "b", name="2.jpg")) == ("11.5", "61.5", None)


def test_a_table_by_time_is_a_track(tmp_path: Path) -> None:
    assert place(read(photo(), sidecar(tmp_path, BY_TIME, ".csv"))) == ("10.2", "60.1", "110.0")


def test_points_without_a_fix_are_left_out_and_the_180th_meridian_is_crossed_the_short_way(tmp_path: Path) -> None:
    table = "time,lat,lon\n2021-05-04T10:00:00Z,60,179.9\n2021-05-04T10:00:04Z,0,0\n2021-05-04T10:00:10Z,60,-179.9\n"
    found = read(photo("2021:05:04 10:00:09"), sidecar(tmp_path, table, ".csv"))
    assert found.lon_deg == pytest.approx(-179.92)
    assert found.lat_deg == 60


@pytest.mark.parametrize(
    ("suffix", "content", "reason"),
    [
        (".gpx", b"", "no GPX"),
        (".gpx", b"<gpx><trk>", "no GPX"),
        (".gpx", b'<!DOCTYPE gpx [<!ENTITY a "b">]><gpx/>', "document type"),
        (".gpx", b"\xff\xfe\x00", "not UTF-8"),
        (".gpx", b'<gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1"></gpx>', "no position"),
        (".gpx", GPX.replace('lat="60.2"', 'lat="98"').encode(), "no place on Earth"),
        (".csv", b"", "header"),
        (".csv", b"name,x,y\n", "header"),
        (".csv", b"time,lat,lon\n", "no position"),
        (".csv", b"time,lat,lon\nyesterday,1,2\n", "line 2"),
        (".csv", b"time,lat,lon\n2021-05-04T10:00:00Z,north,2\n", "line 2"),
        (".csv", b"time,lat,lon\n2021-05-04T10:00:00Z,1\n", "line 2: no longitude"),
        (".csv", b"file,lat,lon\na.jpg,1,2\na.jpg,2,2\n", "line 3: a.jpg has two positions"),
        (".csv", b"file,lat,lon\n,1,2\n", "line 2"),
        (".csv", b"file,lat,lon\na.jpg,nan,2\n", "line 2"),
        (".kml", b"<kml/>", "'.kml'"),
    ],
)
def test_files_that_cannot_be_read_are_named_with_the_reason(
    tmp_path: Path, suffix: str, content: bytes, reason: str
) -> None:
    file = tmp_path / f"positions{suffix}"
    file.write_bytes(content)
    with pytest.raises(UsageError) as error:
        PositionSidecar.read(file)
    assert str(file) in str(error.value)
    assert reason in str(error.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for file in (tmp_path / "none.gpx", tmp_path):
        with pytest.raises(UsageError, match="position_sidecar"):
            PositionSidecar.read(file)


def test_a_position_from_it_does_not_count_as_one_out_of_exif(tmp_path: Path) -> None:
    start, end = PROPERTIES.index("<GeoTag>"), PROPERTIES.index("</GeoTag>") + len("</GeoTag>")
    data, name = road_jpeg(PROPERTIES[:start] + PROPERTIES[end:]), "FV00013_S1D1_m00014_f1.jpg"
    positions = sidecar(tmp_path, f"file_name,lat,lon\n{name},60,10\n", ".csv")
    made = [
        build_record(found, detections=None, preview_name=None, version=None, options=options())
        for found in (read(road_jpeg(), positions, name=name), read(data, positions, name=name))
    ]
    assert [record["exif_kvalitet"] for record in made] == ["2", "1"]
    assert made[1]["exif_gpsposisjon"] == "srid=4326;POINT( 10.0 60.0 )"


def test_records_of_the_package_have_it_and_a_bad_file_is_named_at_once(tmp_path: Path) -> None:
    sidecar(tmp_path, GPX)
    keys = {"position_sidecar": str(tmp_path / "positions.gpx")}
    image = Anonymiser(load_config(keys=keys), model=FakeModel()).anonymise(photo(), name="1.jpg")
    assert image.record is not None
    assert image.record["exif_gpsposisjon"] == "srid=4326;POINT Z( 10.2 60.1 110.0 )"
    (tmp_path / "positions.gpx").write_text("nothing", encoding="utf-8")
    with pytest.raises(UsageError, match=r"positions\.gpx"):
        Anonymiser(load_config(keys=keys), model=FakeModel())


def test_its_content_counts_only_where_records_are_written(tmp_path: Path) -> None:
    keys = [f"position_sidecar={tmp_path / 'p.gpx'}"]
    with_records, without = load(overrides=keys), load(overrides=[*keys, "remote_json=False"])
    plain = load()
    assert with_records.settings_fingerprint(None, "a") != with_records.settings_fingerprint(None, "b")
    assert without.settings_fingerprint(None, "a") == without.settings_fingerprint(None, "b")
    assert with_records.settings_fingerprint(None, None) == plain.settings_fingerprint(None)
    other = load(overrides=[*keys, "position_sidecar_clock_offset_seconds=5"])
    assert other.settings_fingerprint(None, "a") != with_records.settings_fingerprint(None, "a")
