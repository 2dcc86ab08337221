import io
import pickle
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from anonymise.core.detections import Size
from anonymise.images import embedded, png
from anonymise.metadata import SOURCES, ImageSource, Metadata, read_metadata, record
from anonymise.metadata.sources.path import FILE, NAME
from anonymise.metadata.sources.recorder import IMAGE_PROPERTIES
from tests.roadimages import (
    CAR,
    COMMENT,
    DRIVER,
    PROPERTIES,
    REFLINK,
    ascii_field,
    exif_block,
    gps_fields,
    jpeg,
    rational_field,
    road_jpeg,
    undefined_field,
)

FOLDER = ("data", "tilSladding", "06", "2018", "06_Ev134", "Hp05_Damåsen", "F1_2018_06_21")
SOURCE = ImageSource(FOLDER, "Fy06_Ev134_hp05_f1_m03173.jpg", Size(64, 48))
GPANO = b"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" GPano:PoseHeadingDegrees="350.5" GPano:PosePitchDegrees="-1.5">
<GPano:ProjectionType>equirectangular</GPano:ProjectionType><GPano:PoseRollDegrees>0.25</GPano:PoseRollDegrees>
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""


def read(data: bytes, source: ImageSource = SOURCE) -> Metadata:
    return read_metadata(embedded(data), source)


def test_every_field_of_the_table_is_a_field_of_the_metadata_and_only_once() -> None:
    fields = [name for row in SOURCES for name in row.fields]
    assert len(fields) == len(set(fields))
    assert set(fields) <= set(Metadata.__dataclass_fields__)


def test_image_properties() -> None:
    metadata = read(road_jpeg(), ImageSource(FOLDER, "FV00013_S1D1_m00014_f1.jpg", Size(64, 48)))
    assert metadata.time == "2020-06-02T09:42:46.3948628"
    assert metadata.taken == datetime.fromisoformat("2020-06-02T09:42:46.394862")
    assert (metadata.longitude, metadata.latitude) == ("6.5663939242382572", "61.214710343813685")
    assert metadata.lon_deg == pytest.approx(6.5663939242382572)
    assert metadata.point is not None and metadata.point.z == metadata.alt_m
    assert (metadata.speed, metadata.speed_m_s) == ("12.50", 12.5)
    assert (metadata.road_category, metadata.road_status, metadata.road_number) == ("F", "V", "13")
    assert (metadata.strekning, metadata.delstrekning, metadata.hp) == ("1", "1", None)
    assert (metadata.meter, metadata.meter_m) == ("14.34", 14.34)
    assert metadata.folder == "C:/DATA/FV00013/S1/D1/F1_2020_06_02"
    assert metadata.baseline == "1306;227;0;1341;-0.031"
    assert metadata.origins["lane"] is IMAGE_PROPERTIES
    assert metadata.problems == ()


def test_the_newer_blob_is_trusted_more_unless_the_older_reading_is_forced() -> None:
    both = road_jpeg(PROPERTIES, REFLINK)
    newer = read(both)
    assert (newer.longitude, newer.speed, newer.meter, newer.county) == ("7.25", "19.44", "12.35", "50")
    assert (newer.strekning, newer.delstrekning) == ("58", "2")
    older = read(both, ImageSource(SOURCE.folders, SOURCE.name, SOURCE.size, older=True))
    assert (older.longitude, older.speed, older.meter, older.county) == ("6.5663939242382572", "12.50", "14.34", "46")
    assert (older.strekning, older.delstrekning) == ("1", "1")
    assert older.roll == newer.roll == "0.29", "what only the newer blob has is not lost"


def test_reflink_info_of_march_2020_has_ids_only() -> None:
    xml = "<ReflinkInfo><ReflinkId>384067</ReflinkId><ReflinkPosition>0.02</ReflinkPosition></ReflinkInfo>"
    metadata = read(road_jpeg(None, xml))
    assert (metadata.reflink_id, metadata.reflink_position, metadata.road_ident) == ("384067", "0.02", None)


def test_additional_info_without_image_info_leaves_lane_and_meter_to_the_file_name() -> None:
    start, end = REFLINK.index("<ImageInfo>"), REFLINK.index("</ImageInfo>") + len("</ImageInfo>")
    metadata = read(road_jpeg(None, REFLINK[:start] + REFLINK[end:]))
    assert (metadata.lane, metadata.meter, metadata.county) == ("1", "3173", "6")
    assert metadata.origins["lane"] is NAME
    assert metadata.road_ident == "EV6 S58D2 M1024 KD2 m12"


def test_gps_directory() -> None:
    gps = gps_fields() | {12: ascii_field("K"), 13: rational_field((36, 1)), 17: rational_field((28171, 100))}
    metadata = read(road_jpeg(None, gps=gps))
    assert metadata.lat_deg == pytest.approx(59 + 45 / 60 + 47.441 / 3600)
    assert (metadata.altitude, metadata.heading, metadata.speed) == ("51.72", "281.71", "10.00")


@pytest.mark.parametrize(("ref", "speed"), [("M", "16.09"), ("N ", "18.52"), ("K", "36.00"), ("X", None)])
def test_speed_units_of_images_of_the_recorders(ref: str, speed: str | None) -> None:
    gps = gps_fields() | {12: ascii_field(ref), 13: rational_field((36, 1))}
    xml = "<ImageProperties></ImageProperties>"
    assert read(road_jpeg(xml, gps=gps)).speed == speed


def test_position_south_west_and_below_the_sea() -> None:
    gps = gps_fields(refs=("s", "W ")) | {5: (1, 1, b"\1")}
    metadata = read(road_jpeg(None, gps=gps))
    assert metadata.lat_deg is not None and metadata.lat_deg < 0
    assert metadata.lon_deg is not None and metadata.lon_deg < 0
    assert metadata.altitude == "-51.72"


@pytest.mark.parametrize(
    "gps",
    [
        gps_fields(lat=((59, 0), (45, 1), (47, 1))),
        gps_fields(lat=((91, 1), (0, 1), (0, 1))),
        gps_fields(refs=("", "E")),
        {},
    ],
)
def test_a_position_that_is_not_on_earth_is_unknown(gps: dict[int, tuple[int, int, bytes]]) -> None:
    metadata = read(road_jpeg(None, gps=gps))
    assert metadata.longitude is metadata.latitude is metadata.altitude is None
    assert metadata.point is None


def test_position_without_altitude() -> None:
    metadata = read(road_jpeg(None, gps=gps_fields(alt=None)))
    assert metadata.latitude is not None and metadata.altitude is None
    assert metadata.point is not None and not metadata.point.has_z


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("2022:05:11 10:20:30", "2022-05-11T10:20:30"),
        ("2022.05.11 10.20.30", "2022-05-11T10:20:30"),
        ("0000:00:00 00:00:00", None),
        ("2022:02:31 10:20:30", None),
        ("    :  :     :  :  ", None),
    ],
)
def test_date_time_original(written: str, time: str | None) -> None:
    assert read(road_jpeg(None, exif={36867: ascii_field(written)})).time == time


def test_times_keep_the_zone_and_the_digits_that_were_written() -> None:
    xml = '<ImageProperties Date="2018-06-21T11:01:00.2394114+02:00"/>'
    metadata = read(road_jpeg(xml))
    assert metadata.time == "2018-06-21T11:01:00.2394114+02:00"
    assert metadata.taken == datetime(2018, 6, 21, 11, 1, 0, 239411, timezone(timedelta(hours=2)))
    naive = read(road_jpeg()).taken
    assert naive is not None and naive.tzinfo is None


def test_file_time_is_the_last_resort_and_the_same_in_every_zone() -> None:
    utc = datetime(2022, 5, 11, 10, 20, 30, 999, tzinfo=timezone.utc)
    for moment in (utc, utc.astimezone(timezone(timedelta(hours=9))), utc.replace(tzinfo=None)):
        metadata = read(b"", ImageSource((), "a.jpg", Size(1, 1), moment))
        assert metadata.time == "2022-05-11T10:20:30"
        assert metadata.origins["time"] is FILE


def test_empty_and_nan_elements_are_unknown_and_decimal_commas_are_read() -> None:
    xml = """<ImageProperties Date=""><Speed>NaN</Speed><Heading> </Heading><VegComValues><VCMeter/>
    <VCLaneName></VCLaneName><VCCountyNo>NaN</VCCountyNo></VegComValues><GeoTag><dLatitude>61,5</dLatitude><dLongitude>6,25</dLongitude>
    <dAltitude>nan</dAltitude></GeoTag></ImageProperties>"""
    metadata = read(road_jpeg(xml), ImageSource((), "x.jpg", Size(1, 1)))
    assert (metadata.latitude, metadata.longitude, metadata.altitude) == ("61.5", "6.25", None)
    known = {name for row in SOURCES for name in row.fields if getattr(metadata, name) is not None}
    assert known == {"latitude", "longitude", "file_name"}


def test_any_namespace_unknown_elements_and_utf16() -> None:
    xml = """<v:ImageProperties xmlns:v="urn:viatech" Date="2020-06-02T09:42:46"><v:New><v:Speed>9</v:Speed></v:New>
    <v:Speed>3</v:Speed></v:ImageProperties>"""
    for raw in (xml.encode(), b"\xef\xbb\xbf" + xml.encode(), xml.encode("utf-16"), xml.encode("utf-16-be")):
        metadata = read(road_jpeg(raw))
        assert (metadata.speed, metadata.time, metadata.problems) == ("3.00", "2020-06-02T09:42:46", ())


@pytest.mark.parametrize(
    "xml",
    [
        b"",
        b"no XML",
        b"<ImageProperties><Driver>Kari</ImageProperties>",
        b"\xff\xfe\x00",
        b'<?xml version="1.0" encoding="utf-7"?><a/>',
        b'<!DOCTYPE a [<!ENTITY x "y">]><ImageProperties><Speed>&x;</Speed></ImageProperties>',
        b'<!DOCTYPE a SYSTEM "http://localhost:1/a.dtd"><ImageProperties/>',
        b"<a>" * 5000,
        b"<ImageProperties>" + b"\xc3\x28" + b"</ImageProperties>",
    ],
)
def test_malformed_xml_is_named_left_out_and_not_quoted(xml: bytes) -> None:
    metadata = read(road_jpeg(xml, REFLINK))
    assert metadata.image_properties is None
    assert metadata.road_number == "6", "the other blob still counts"
    (problem,) = metadata.problems
    assert "40055" in problem and "Kari" not in problem


def test_an_xml_that_is_too_long_is_not_parsed() -> None:
    block = exif_block({40055: undefined_field(b"<ImageProperties>" + b" " * (1 << 20) + b"</ImageProperties>")})
    metadata = read(png.assemble([png.Chunk(b"eXIf", block)]))
    assert metadata.image_properties is None
    assert "longer than" in metadata.problems[0]


def test_png_with_exif_and_xmp() -> None:
    block = exif_block({40055: undefined_field(PROPERTIES.encode())})
    xmp = b"XML:com.adobe.xmp\0\0\0\0\0" + GPANO
    metadata = read(png.assemble([png.Chunk(b"iTXt", xmp), png.Chunk(b"eXIf", block)]))
    assert (metadata.road_number, metadata.projection) == ("13", "equirectangular")


def test_gpano_fills_what_the_recorders_blobs_do_not_say() -> None:
    alone = read(jpeg(None, GPANO))
    assert (alone.heading, alone.pitch, alone.roll) == ("350.5", "-1.5", "0.25")
    assert (alone.heading_deg, alone.pitch_deg, alone.roll_deg) == (350.5, -1.5, 0.25)
    assert (alone.projection, alone.has_exif) == ("equirectangular", False)
    beside = read(road_jpeg(None, REFLINK, xmp=GPANO))
    assert (beside.heading, beside.pitch, beside.roll) == ("10.25", "1.59", "0.29")


def test_camera_and_title() -> None:
    title = "Bilde fra Damåsen".encode("utf-16-le")
    metadata = read(road_jpeg(ifd0={272: ascii_field("Ladybug5 "), 40091: (1, len(title), title)}))
    assert (metadata.camera, metadata.title) == ("Ladybug5", "Bilde fra Damåsen")


def test_who_drove_is_redacted_wherever_it_stands() -> None:
    title = f"{DRIVER}, {CAR}".encode("utf-16-le")
    properties = PROPERTIES.replace("C:\\DATA", f"C:\\Users\\{DRIVER}")
    reflink = REFLINK.replace("<RoadInfo>", f"<Note>{CAR} kjørt av {DRIVER}</Note><RoadInfo>")
    metadata = read(road_jpeg(properties, reflink, ifd0={40091: (1, len(title), title)}))
    assert metadata.title == "FJERNET, FJERNET"
    assert metadata.folder == "C:/Users/FJERNET/FV00013/S1/D1/F1_2020_06_02"
    assert "<Note>FJERNET kjørt av FJERNET</Note>" in (metadata.reflink_info or "")
    text = repr(metadata)
    assert not any(secret in text for secret in (DRIVER, CAR, COMMENT))


def test_own_path_on_windows_and_elsewhere() -> None:
    windows = ImageSource.of(PureWindowsPath("D:\\Bilder\\06_Ev134\\a.jpg"), (1, 1))
    share = ImageSource.of(PureWindowsPath("\\\\server\\share\\06_Ev134\\a.jpg"), (1, 1))
    posix = ImageSource.of(PurePosixPath("/Bilder/06_Ev134/a.jpg"), (1, 1))
    assert [read(b"", source).folder for source in (windows, share, posix)] == [
        "D:/Bilder/06_Ev134",
        "//server/share/06_Ev134",
        "/Bilder/06_Ev134",
    ]
    assert read(b"", ImageSource.of(PurePosixPath("a.jpg"), (1, 1))).folder is None


@pytest.mark.parametrize("endian", ["<", ">"])
def test_blocks_of_another_writer_in_both_byte_orders(endian: str) -> None:
    exif = Image.Exif()
    exif.endian = endian
    exif[40055] = PROPERTIES.encode()
    exif[272] = "Ladybug5"
    exif.get_ifd(34853).update({1: "N", 2: (59.5, 0.0, 0.0), 3: "E", 4: (9.25, 0.0, 0.0), 6: 12.5, 5: b"\0"})
    for form in ("JPEG", "PNG"):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8)).save(buffer, form, exif=exif)
        metadata = read(buffer.getvalue())
        assert (metadata.camera, metadata.road_number, metadata.problems) == ("Ladybug5", "13", ())
    del exif[40055]
    bare = read(jpeg(exif.tobytes().removeprefix(b"Exif\0\0")))
    assert (bare.longitude, bare.latitude, bare.altitude) == ("9.25", "59.5", "12.5")


def test_metadata_travels_between_processes() -> None:
    metadata = read(road_jpeg())
    assert pickle.loads(pickle.dumps(metadata)) == metadata


def test_damaged_exif_blocks_are_named() -> None:
    block = exif_block({40055: undefined_field(PROPERTIES.encode()), 272: ascii_field("Ladybug5")})
    cut = read(jpeg(block[:60]))
    assert cut.problems and cut.road_number == "134"
    assert read(jpeg(b"II*\0\xff\xff\xff\xff")).problems == ("IFD0 lies outside the EXIF block",)
    assert read(jpeg(b"nonsense")).problems == ("EXIF block without a TIFF header",)


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=400), st.binary(max_size=400), st.binary(max_size=100))
@example(b"\0" * 8, b"<", b"\xff\xfe<\0")
def test_any_bytes_in_the_recorders_tags_give_metadata(properties: bytes, reflink: bytes, xmp: bytes) -> None:
    metadata = read(road_jpeg(properties, reflink, xmp=xmp))
    assert metadata.road_number == "134"


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_damage_to_an_image_gives_metadata(data: st.DataObject) -> None:
    whole = road_jpeg(PROPERTIES, REFLINK, gps=gps_fields(), xmp=GPANO)[:4500]
    raw = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=20)
    ):
        if place < len(raw):
            raw[place] = value
    metadata = read(bytes(raw))
    record.dumps({"time": metadata.time, "folder": metadata.folder})
    assert metadata.file_name


RATIONAL = st.tuples(st.integers(0, 2**32 - 1), st.one_of(st.sampled_from([0, 1, 100]), st.integers(0, 2**32 - 1)))


@settings(deadline=None, max_examples=200)
@given(st.lists(RATIONAL, max_size=4), st.lists(RATIONAL, max_size=4), RATIONAL, RATIONAL)
def test_any_gps_rationals_give_a_position_on_earth_or_none(
    lat: list[tuple[int, int]], lon: list[tuple[int, int]], alt: tuple[int, int], speed: tuple[int, int]
) -> None:
    gps = gps_fields(lat, lon, alt) | {12: ascii_field("K"), 13: rational_field(speed), 17: rational_field(alt)}
    metadata = read(road_jpeg(None, gps=gps))
    if metadata.lat_deg is not None:
        assert -90 <= metadata.lat_deg <= 90
        assert metadata.lon_deg is not None and -180 <= metadata.lon_deg <= 180
        assert lat and all(denominator or not numerator for numerator, denominator in lat)
    if alt[1] and Fraction(*alt) <= 360:
        assert metadata.heading_deg == pytest.approx(float(Fraction(*alt)))
    else:
        assert metadata.heading is None
