"""Odd and hostile metadata, in whole runs: what the record says, and that the output's EXIF says the same."""

import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path

import cv2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anonymise import config, images
from anonymise.batch import storage
from anonymise.batch.journal import JournalReader, State
from anonymise.batch.paths import Places
from anonymise.batch.runs import anonymise, make_records
from anonymise.batch.workers import SerialWorkers
from anonymise.images.exifwriter import clean_exif
from anonymise.metadata import Embedded, ImageSource, Metadata, read_metadata
from anonymise.metadata.record.schema import problems_of
from tests.fakes import Ran, RedMasker, street
from tests.roadimages import Fields, ascii_field, exif_block, gps_fields, rational_field, undefined_field

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PLACE = "srid=4326;POINT Z( 10.388333333333334 63.41 88.25 )"
BELOW = PLACE.replace(" 88", " -88")
GPS = gps_fields(((63, 1), (24, 1), (3600, 100)), ((10, 1), (23, 1), (1800, 100)), (8825, 100))
TIMED: Fields = {36867: ascii_field("2021:05:04 10:11:12")}
GPS_TIME = {7: rational_field((8, 1), (11, 1), (12, 1)), 29: ascii_field("2021:05:04")}
OLD = 1_577_836_800  # 2020-01-01


def picture(suffix: str = ".jpg") -> bytes:
    done, data = cv2.imencode(suffix, cv2.cvtColor(street(), cv2.COLOR_RGB2BGR))
    assert done
    return data.tobytes()


def jpeg(*app1: bytes) -> bytes:
    """A drawn street with APP1 segments."""
    plain = picture()
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body for body in app1)
    return plain[:2] + segments + plain[2:]


def with_exif(ifd0: Fields | None = None, exif: Fields | None = None, gps: Fields | None = None) -> bytes:
    return jpeg(b"Exif\0\0" + exif_block({272: ascii_field("Camera 7")} | dict(ifd0 or {}), exif, gps))


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    plain = picture(".png")
    made = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return plain[:33] + made + plain[33:]


def xmp(inside: str) -> bytes:
    return ("http://ns.adobe.com/xap/1.0/\0" + inside).encode()


def floats(code: str, *values: float) -> tuple[int, int, bytes]:
    return {"f": 11, "d": 12}[code], len(values), struct.pack(f"<{len(values)}{code}", *values)


def signed(*values: tuple[int, int]) -> tuple[int, int, bytes]:
    return 10, len(values), b"".join(struct.pack("<ii", *value) for value in values)


class Result:
    """What a whole run over one image leaves: its record, its output's metadata, and the notes of the run."""

    def __init__(self, folder: Path, data: bytes, name: str = "a.jpg", modified: float = OLD) -> None:
        (folder / "in").mkdir(parents=True)
        storage.prepare_root(folder / "out")
        source = folder / "in" / name
        source.write_bytes(data)
        os.utime(source, (modified, modified))
        ran = Ran()
        loaded = config.load(overrides=["enable_async=False"])
        report = anonymise(loaded, Places(folder / "in", folder / "out"), RedMasker(), SerialWorkers(), ran)
        assert (report.n_done, report.failed) == (1, ())
        text = (folder / "out" / name).with_suffix(".json").read_text("utf-8")
        assert problems_of(text) == ()
        self.record: Mapping[str, str | None] = json.loads(text)
        self.notes = " | ".join(ran.done[0].notes)
        self.output = (folder / "out" / name).read_bytes()

    @property
    def of_output(self) -> Metadata:
        """What the program reads in the image that it wrote."""
        size = images.header(self.output)
        return read_metadata(images.embedded(self.output), ImageSource.of(Path("out.jpg"), (size.width, size.height)))


TIMES: dict[str, tuple[tuple[Fields, Fields, Fields], str]] = {
    "original before the others": (({306: ascii_field("2022:01:01 00:00:00")}, TIMED, {}), "2021-05-04T10:11:12"),
    "digitized": (
        ({306: ascii_field("2022:01:01 00:00:00")}, {36868: ascii_field("2021:05:04 10:11:12")}, {}),
        "2021-05-04T10:11:12",
    ),
    "last change": (({306: ascii_field("2021:05:04 10:11:12")}, {}, GPS_TIME), "2021-05-04T10:11:12"),
    "satellites": (({}, {}, GPS_TIME), "2021-05-04T08:11:12Z"),
    "satellites, parts of a second": (
        ({}, {}, GPS_TIME | {7: rational_field((8, 1), (11, 1), (1225, 100))}),
        "2021-05-04T08:11:12.25Z",
    ),
    "satellites, as doubles": (({}, {}, GPS_TIME | {7: floats("d", 8, 11, 12)}), "2021-05-04T08:11:12Z"),
    "blank": (({}, {36867: ascii_field("    :  :     :  :  ")}, GPS_TIME), "2021-05-04T08:11:12Z"),
    "zeros": (({}, {36867: ascii_field("0000:00:00 00:00:00")}, GPS_TIME), "2021-05-04T08:11:12Z"),
    "no such day": (({}, {36867: ascii_field("2021:02:31 10:11:12")}, GPS_TIME), "2021-05-04T08:11:12Z"),
    "slashes": (({}, {36867: ascii_field("2021/05/04 10:11:12")}, {}), "2021-05-04T10:11:12"),
    "blanks for zeros": (({}, {36867: ascii_field("2021: 5: 4  8: 1: 2")}, {}), "2021-05-04T08:01:02"),
    "no seconds": (({}, {36867: ascii_field("2021:05:04 10:11")}, {}), "2021-05-04T10:11:00"),
    "midnight as 24": (({}, {36867: ascii_field("2021:05:04 24:00:00")}, {}), "2021-05-05T00:00:00"),
    "undefined type": (({}, {36867: undefined_field(b"2021:05:04 10:11:12\0")}, {}), "2021-05-04T10:11:12"),
    "UTF-8 type": (({}, {36867: (129, 20, b"2021:05:04 10:11:12\0")}, {}), "2021-05-04T10:11:12"),
    "fraction and zone": (
        ({}, dict(TIMED) | {37521: ascii_field("123"), 36881: ascii_field("+02:00")}, {}),
        "2021-05-04T10:11:12.123+02:00",
    ),
    "blank fraction and zone": (
        ({}, dict(TIMED) | {37521: ascii_field("   "), 36881: ascii_field("   :  ")}, {}),
        "2021-05-04T10:11:12",
    ),
    "fraction of the digitized": (
        ({}, {36868: ascii_field("2021:05:04 10:11:12"), 37521: ascii_field("9"), 37522: ascii_field("5 ")}, {}),
        "2021-05-04T10:11:12.5",
    ),
    "the zone is written twice": (
        ({}, {36867: ascii_field("2021-05-04T10:11:12+02:00"), 36881: ascii_field("+01:00")}, {}),
        "2021-05-04T10:11:12+02:00",
    ),
}


@pytest.mark.parametrize("case", TIMES)
def test_the_best_time_that_the_image_has(case: str, tmp_path: Path) -> None:
    (ifd0, exif, gps), time = TIMES[case]
    result = Result(tmp_path, with_exif(ifd0, exif, dict(GPS) | dict(gps)))
    assert result.record["exif_tid"] == time
    assert result.of_output.time == time, "the output keeps what the record was made of"
    assert result.record["bildeid"] == f"{time[:19].replace(':', '.')}_a_Planar"


@pytest.mark.parametrize("tag", [36867, 37521, 36881])
def test_a_time_that_cannot_be_read_is_noted(tag: int, tmp_path: Path) -> None:
    result = Result(tmp_path, with_exif({}, dict(TIMED) | {tag: ascii_field("1 o'clock")}))
    assert f"tag {tag}" in result.notes and "clock" not in result.notes


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("IMG_20210504_101112.jpg", "2021-05-04T10:11:12"),
        ("2021-05-04T10-11-12.jpg", "2021-05-04T10:11:12"),
        ("PXL_20210504_101112345.jpg", "2021-05-04T10:11:12.345"),
        ("20210504101112_f1.jpg", "2021-05-04T10:11:12"),
        ("IMG_20211304_101112.jpg", None),
        ("EV00006_S58D1_m01024_KD2_m00012_f1.jpg", None),
        ("20210504.jpg", None),
    ],
)
def test_the_name_tells_the_time_before_the_date_of_the_file_does(name: str, time: str | None, tmp_path: Path) -> None:
    result = Result(tmp_path, with_exif(), name)
    assert result.record["exif_tid"] == (time or "2020-01-01T00:00:00")
    assert ("date of its file" in result.notes) == (time is None)


@pytest.mark.parametrize("exif", [{}, TIMED])
def test_a_copy_has_the_same_id(exif: Fields, tmp_path: Path) -> None:
    records = [Result(tmp_path / str(n), with_exif({}, exif), modified=OLD + n).record for n in (0, 90_000)]
    assert records[0]["bildeid"] == records[1]["bildeid"]
    assert (records[0]["exif_dato"] == records[1]["exif_dato"]) == bool(exif)


def _gps(**changes: tuple[int, int, bytes]) -> dict[int, tuple[int, int, bytes]]:
    names = {"lat_ref": 1, "lat": 2, "lon_ref": 3, "lon": 4, "alt_ref": 5, "alt": 6, "status": 9}
    return dict(GPS) | {names[name]: value for name, value in changes.items()}


KINDS = {1: "B", 3: "H", 4: "I", 5: "II", 6: "b", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d", 13: "I"}
WORDS = [
    "N",
    "S ",
    "north",
    "WEST",
    "E",
    "W",
    "-",
    "+",
    "-63.4",
    "V",
    "A",
    "up",
    "",
    "1",
    "3",
    "63.41",
    "63 24 36",
    "K",
]
TEXTS = st.sampled_from(WORDS) | st.text(st.characters(max_codepoint=0x2300), max_size=6)


@st.composite
def numeric_fields(draw: st.DrawFn) -> tuple[int, int, bytes]:
    kind = draw(st.sampled_from(sorted(KINDS)))
    count = draw(st.integers(0, 3))
    small = st.integers(0, 90) | st.integers(0, 255)
    if KINDS[kind] in ("f", "d"):
        values: list[float] = draw(st.lists(st.floats(width=32) | small, min_size=count, max_size=count))
    else:
        low = -128 if KINDS[kind].islower() else 0
        numbers = st.integers(low, 127) if kind in (6, 8, 9, 10) else small
        values = [*draw(st.lists(numbers, min_size=count * len(KINDS[kind]), max_size=count * len(KINDS[kind])))]
    return kind, count, struct.pack(f"<{count * len(KINDS[kind])}{KINDS[kind][0]}", *values)


@st.composite
def text_fields(draw: st.DrawFn) -> tuple[int, int, bytes]:
    raw = draw(TEXTS).encode("utf-8") + draw(st.sampled_from([b"", b"\0", b"\0\0x"]))
    return draw(st.sampled_from([1, 2, 7, 129])), len(raw), raw


FIELDS = numeric_fields() | text_fields()


@settings(max_examples=400)
@given(st.dictionaries(st.sampled_from([*range(1, 8), 9, 12, 13, 17, 29]), FIELDS, min_size=3))
def test_the_output_never_says_another_place_or_time_than_the_record(gps: dict[int, tuple[int, int, bytes]]) -> None:
    block = exif_block({272: ascii_field("Camera 7")}, {}, gps)
    source = ImageSource.of(Path("a.jpg"), (1, 1))
    before = read_metadata(Embedded((block,)), source)
    written, _ = clean_exif(Embedded((block,)), "redacted", None)
    assert written is not None
    after = read_metadata(Embedded((written,)), source)
    for name in ("longitude", "latitude", "altitude", "heading", "speed", "time"):
        assert getattr(after, name) in (None, getattr(before, name)), name


POSITIONS: dict[str, tuple[dict[int, tuple[int, int, bytes]], str | None]] = {
    "rationals": (_gps(), PLACE),
    "doubles": (_gps(lat=floats("d", 63.41), lon=floats("d", 10.388333333333334), alt=floats("d", 88.25)), PLACE),
    "doubles in three parts": (_gps(lat=floats("d", 63, 24, 36)), PLACE),
    "floats": (_gps(lat=floats("f", 63.41), lon=floats("f", 10.388333333333334)), PLACE.replace("3" * 8 + "4", "")),
    "texts": (_gps(lat=ascii_field("63.41"), lon=ascii_field("10 23 18"), alt=ascii_field("88,25")), PLACE),
    "seconds that nobody knows": (_gps(lat=rational_field((63, 1), (2460, 100), (0, 0))), PLACE),
    "below the ellipsoid": (_gps(alt_ref=(1, 1, b"\1")), BELOW),
    "below the sea": (_gps(alt_ref=(1, 1, b"\3")), BELOW),
    "above the sea": (_gps(alt_ref=(1, 1, b"\2")), PLACE),
    "below, as a digit": (_gps(alt_ref=ascii_field("1")), BELOW),
    "below, undefined type": (_gps(alt_ref=undefined_field(b"\1")), BELOW),
    "below twice": (_gps(alt_ref=(1, 1, b"\1"), alt=signed((-8825, 100))), BELOW),
    "words": (_gps(lat_ref=ascii_field("North"), lon_ref=ascii_field("west")), PLACE.replace("10.3", "-10.3")),
    "signs": (_gps(lat_ref=ascii_field("-"), lon_ref=ascii_field("+")), PLACE.replace("63", "-63")),
    "the angle again": (_gps(lat_ref=ascii_field("\N{MINUS SIGN}63.41")), PLACE.replace("63", "-63")),
    "negative, south": (_gps(lat=signed((-6341, 100)), lat_ref=ascii_field("S")), PLACE.replace("63", "-63")),
    "negative, no hemisphere": (_gps(lat=signed((-6341, 100)), lat_ref=ascii_field("")), PLACE.replace("63", "-63")),
    "a fix at 0, 0": (
        _gps(lat=rational_field((0, 1)), lon=rational_field((0, 1)), status=ascii_field("A")),
        "srid=4326;POINT Z( 0.0 0.0 88.25 )",
    ),
    # Unknown, each with a note.
    "negative, north": (_gps(lat=signed((-6341, 100))), None),
    "0, 0": (_gps(lat=rational_field((0, 1)), lon=rational_field((0, 1))), None),
    "no fix": (_gps(status=ascii_field("V")), None),
    "no hemisphere": (_gps(lat_ref=ascii_field("")), None),
    "no longitude": ({tag: value for tag, value in GPS.items() if tag != 4}, None),
    "another word": (_gps(lat_ref=ascii_field("up")), None),
    "beyond the pole": (_gps(lat=rational_field((91, 1))), None),
    "two's complement": (_gps(lat=rational_field((2**32 - 63, 1))), None),
    "infinite": (_gps(lat=floats("d", float("inf"))), None),
    "not a number": (_gps(lat=floats("d", float("nan"))), None),
    "minutes that nobody knows": (_gps(lat=rational_field((63, 1), (0, 0), (36, 1))), None),
    "a text that is no number": (_gps(lat=ascii_field("63 24 36 Kari")), None),
}  # fmt: skip


@pytest.mark.parametrize("case", POSITIONS)
def test_positions(case: str, tmp_path: Path) -> None:
    gps, place = POSITIONS[case]
    result = Result(tmp_path, with_exif({}, TIMED, gps))
    assert result.record["exif_gpsposisjon"] == place
    assert (result.record["exif_altitude"] is None) == (place is None)
    assert ("GPS" in result.notes) == (place is None), result.notes
    if place is not None:
        again = result.of_output
        assert f"POINT Z( {again.longitude} {again.latitude} {again.altitude} )" in place, "the output keeps it"
    assert b"Kari" not in result.output


@pytest.mark.parametrize("case", [case for case, (_, place) in POSITIONS.items() if place is None])
def test_an_angle_does_not_leave_without_its_hemisphere(case: str, tmp_path: Path) -> None:
    """Other readers take an angle without one for north or east."""
    gps, _ = POSITIONS[case]
    found = images.embedded(Result(tmp_path, with_exif({}, TIMED, gps)).output).fields.gps
    assert (
        (2 in found) <= (1 in found) and (4 in found) <= (3 in found) and (6 in found) <= (5 in found or 5 not in gps)
    )


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({5: (1, 1, b"\7")}, "exif_altitude"),
        ({6: rational_field((2**32 - 1, 1))}, "exif_altitude"),
        ({17: rational_field((40_000, 100))}, "exif_heading"),
        ({13: rational_field((36, 1)), 12: ascii_field("X")}, "exif_speed_ms"),
        ({13: signed((-36, 1))}, "exif_speed_ms"),
    ],
)
def test_values_out_of_range_are_left_out_and_noted(changes: Fields, key: str, tmp_path: Path) -> None:
    result = Result(tmp_path, with_exif({}, TIMED, dict(GPS) | dict(changes)))
    assert result.record[key] is None
    assert "GPS: the" in result.notes
    assert "63.41" in str(result.record["exif_gpsposisjon"])


def test_pointers_of_the_type_ifd_are_followed(tmp_path: Path) -> None:
    block = exif_block({272: ascii_field("Camera 7")}, TIMED, GPS)
    for tag in (34665, 34853):
        block = block.replace(struct.pack("<HH", tag, 4), struct.pack("<HH", tag, 13))
    result = Result(tmp_path, jpeg(b"Exif\0\0" + block))
    assert (result.record["exif_tid"], result.record["exif_gpsposisjon"]) == ("2021-05-04T10:11:12", PLACE)
    assert result.of_output.time == "2021-05-04T10:11:12"
    assert result.of_output.latitude == "63.41"


def test_what_has_a_type_that_nobody_knows_is_noted(tmp_path: Path) -> None:
    result = Result(tmp_path, with_exif({306: (77, 4, b"abcd")}, TIMED))
    assert "tag 306 of IFD0 has a type that is not known" in result.notes


@pytest.mark.parametrize(("kind", "encoding"), [(2, "utf-8"), (2, "latin-1"), (129, "utf-8"), (1, "utf-8")])
def test_names_of_cameras_in_any_alphabet(kind: int, encoding: str, tmp_path: Path) -> None:
    raw = "Kamera Ørsta ÆØÅ 1".encode(encoding) + b"\0"
    result = Result(tmp_path, with_exif({272: (kind, len(raw), raw)}))
    assert result.record["exif_camera"] == "Kamera Ørsta ÆØÅ 1" == result.of_output.camera


def test_control_characters_are_valid_json(tmp_path: Path) -> None:
    camera = "a\x1b[31m\x01\x7f\x85\u2028b\n\r\tc"
    name = "new\nline\x1b.jpg" if os.name == "posix" else "line.jpg"
    result = Result(tmp_path, with_exif({272: ascii_field(camera)}, TIMED), name)
    assert result.record["exif_camera"] == camera
    assert result.record["exif_filnavn"] == name
    assert result.of_output.camera is None


SPHERE = (
    'GPano:ProjectionType="equirectangular" GPano:FullPanoWidthPixels="{}" GPano:FullPanoHeightPixels="512" '
    'GPano:CroppedAreaLeftPixels="0" GPano:PoseHeadingDegrees="{}" GPano:PosePitchDegrees="{}" '
)


def packet(width: str = "1024", heading: str = "12.5", pitch: str = "-1", more: str = "", title: str = "") -> str:
    properties = SPHERE.format(width, heading, pitch) + more
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        f'xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" {properties}>{title}</rdf:Description></rdf:RDF>'
        '</x:xmpmeta><?xpacket end="w"?>'
    )


NAMED = "KARI NORDMANN"
PACKETS: dict[str, tuple[bytes, ...]] = {
    "well formed": (xmp(packet()),),
    "junk around it": (xmp("junk<" + packet() + "f:Description></rdf:RDF>" + NAMED),),
    "a prefix that is not declared": (xmp(packet(more=f'photoshop:Credit="{NAMED}"')),),
    "its own prefix is not declared": (xmp(packet().replace("xmlns:GPano", "xmlns:other")),),
    "the namespace without its slash": (xmp(packet().replace("panorama/", "panorama")),),
    "a NUL within": (xmp(packet().replace("<x:xmpmeta", "\0<x:xmpmeta")),),
    "an attribute twice": (xmp(packet(more=f'GPano:PosePitchDegrees="-1" GPano:PosePitchDegrees="{NAMED}"')),),
    "Latin-1": (xmp(packet(title="<t>Kari</t>")).replace(b"Kari", b"Tr\xf8ndelag"),),
    "a bare ampersand": (xmp(packet(title=f"<t>{NAMED} & co</t>")),),
    "no end": (xmp(packet().partition("</rdf:RDF>")[0]),),
    "UTF-16": (xmp("") + packet().encode("utf-16"),),
    "a declaration within": (xmp(packet().replace("<x:xmpmeta", '<?xml version="1.0"?><x:xmpmeta', 1)),),
    "in the second of two packets": (xmp("<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"), xmp(packet())),
    "behind one that cannot be read": (xmp("<!DOCTYPE a><a/>"), xmp(packet())),
    "two packets in one segment": (xmp(packet().replace("GPano", "Other") + packet()),),
}


@pytest.mark.parametrize("case", PACKETS)
def test_xmp_is_read_leniently_and_leaves_by_pattern(case: str, tmp_path: Path) -> None:
    result = Result(tmp_path, jpeg(*PACKETS[case]))
    assert (result.record["exif_heading"], result.record["exif_pitch"]) == ("12.5", "-1")
    again = result.of_output
    assert (again.projection, again.heading, again.pitch) == ("equirectangular", "12.5", "-1")
    assert NAMED.encode() not in result.output
    assert b'CroppedAreaLeftPixels="0"' in result.output


@pytest.mark.parametrize(
    ("written", "number"),
    [("+4.5", "+4.5"), (".5", ".5"), ("4.", "4."), ("1.25e+1", "1.25e+1"), ("12,5", "12.5"), ("125/10", "12.5")],
)
def test_numbers_of_xmp_in_any_spelling(written: str, number: str, tmp_path: Path) -> None:
    result = Result(tmp_path, jpeg(xmp(packet(heading=written))))
    assert result.record["exif_heading"] == number == result.of_output.heading


def test_numbers_of_xmp_that_are_none_are_noted(tmp_path: Path) -> None:
    result = Result(tmp_path, jpeg(xmp(packet(heading="north"))))
    assert result.record["exif_heading"] is None
    assert "PoseHeadingDegrees" in result.notes


@pytest.mark.skipif(os.name != "posix", reason="Windows cannot set such times")
@pytest.mark.parametrize("year", [1601, 1676, 2263, 2300, 30828])
def test_any_date_of_a_file(year: int, tmp_path: Path) -> None:
    seconds = round((year - 1970) * 365.2425 * 86400)
    (tmp_path / "probe").touch()
    try:
        os.utime(tmp_path / "probe", (seconds, seconds))
    except (OSError, OverflowError):
        pytest.skip("this file system has no such times")
    if (tmp_path / "probe").stat().st_mtime != seconds:
        pytest.skip("this file system has no such times")
    result = Result(tmp_path / "run", with_exif({}, TIMED), modified=seconds)
    assert result.record["exif_tid"] == "2021-05-04T10:11:12"
    untimed = Result(tmp_path / "untimed", with_exif(), modified=seconds)
    assert (untimed.record["exif_tid"], untimed.record["bildeid"]) == (None, None)
    assert "nobody knows when" in untimed.notes
    places = Places(tmp_path / "run" / "in", tmp_path / "run" / "out")
    with JournalReader(places.output) as journal:
        assert [entry.state for entry in journal.entries()] == [State.FINISHED]
    loaded = config.load(overrides=["enable_async=False"])
    again = anonymise(loaded, places, RedMasker(), SerialWorkers())
    assert (again.n_done, again.failed) == (0, ()), "it is known again"
    assert make_records(loaded, places, SerialWorkers()).n_done == 1


def _properties(inside: str) -> dict[int, tuple[int, int, bytes]]:
    return {40055: undefined_field(f"<ImageProperties>{inside}</ImageProperties>".encode())}


N = 60_000
HOSTILE: dict[str, bytes] = {
    "less-than.jpg": with_exif({40055: undefined_field(b"<" * N)}),
    "quotes.jpg": with_exif({40055: undefined_field(b"<a" + b'"' * N)}),
    "declarations.jpg": with_exif({40055: undefined_field(b"<?xml " * (N // 6))}),
    "comments.jpg": with_exif({40056: undefined_field(b"<a><!--" * (N // 7))}),
    "xmp.jpg": jpeg(xmp("<" * N)),
    "section.png": png(
        (b"eXIf", exif_block(_properties(f"<VegComValues><VCHP>{'0' * 400_000}x</VCHP></VegComValues>")))
    ),
    "lane.png": png(
        (b"eXIf", exif_block(_properties(f"<VegComValues><VCLaneName>{'0' * 400_000}!</VCLaneName></VegComValues>")))
    ),
    "path.png": png((b"eXIf", exif_block(_properties(f"<ImageName>f{'0' * 200_000}_S{'0' * 200_000}x</ImageName>")))),
    "reference.png": png(
        (b"eXIf", exif_block(_properties(f"<Driver>Kari</Driver><Note>Kari &#{'0' * 400_000}65;</Note>")))
    ),
    "names.png": png(
        (b"eXIf", exif_block(_properties("<Driver>" + "a " * 120 + "b</Driver><Note>" + "a " * 400_000 + "</Note>")))
    ),
    "attributes.png": png(
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<a " + b" ".join(b"p:a%d='1'" % n for n in range(60_000)) + b"/>")
    ),
    # 15,000 fields that all claim the same 180,000 bytes: 2.7 GB.
    "shared.png": png(
        (
            b"eXIf",
            b"II*\0\x08\0\0\0"
            + struct.pack("<H", 15_000)
            + b"".join(struct.pack("<HHII", tag, 7, 180_000, 8) for tag in range(40_100, 55_100))
            + b"\0\0\0\0",
        )
    ),
}  # fmt: skip


def test_hostile_texts_take_no_longer_than_others(tmp_path: Path) -> None:
    """Whole program, real model: with patterns that try again and again this run would take days."""
    for name, data in HOSTILE.items():
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    lite = str(ROOT / "config" / "lite_config.yml")
    call = [sys.executable, "-m", "anonymise", "-i", "in", "-o", "out", "-k", lite]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        call, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in HOSTILE:
        text = (tmp_path / "out" / name).with_suffix(".json").read_text("utf-8")
        assert problems_of(text) == ()
        assert "Kari" not in text


SIZES = ("FullPanoWidthPixels", "FullPanoHeightPixels", "CroppedAreaImageWidthPixels", "CroppedAreaImageHeightPixels")
OFFSETS = ("CroppedAreaLeftPixels", "CroppedAreaTopPixels")
NO_PLACE = frozenset({"null island.jpg"})
WITH_EXIF = ("rawprofile.png", "rawapp1.png", "exif6.png", "exiflate6.png", "exifprefix.png", "text.png", "xmp.png")
SHARED_TIMES = {
    **dict.fromkeys(("gpsonly", "zeros", "blank"), "2021-05-04T08:11:12Z"),
    **dict.fromkeys(("datetime", "slash", "dot", "leading", "pad", "undef"), "2021-05-04T10:11:12"),
    "subsec": "2021-05-04T10:11:12.123+02:00",
    "iso": "2021-05-04T10:11:12+02:00",
    "noseconds": "2021-05-04T10:11:00",
    "h24": "2021-05-05T00:00:00",
}


# The odd files of the measuring material; what is right for each stands in their README.


@pytest.fixture(scope="module")
def done_cases(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of one run over the folders b, c, d and f."""
    files = shared / "cases" / "files"
    if not files.is_dir():
        pytest.skip("the odd files are not here (ANONYMISE_SHARED)")
    folder = tmp_path_factory.mktemp("cases")
    for source in (source for name in "bcdf" for source in (files / name).iterdir()):
        copy = folder / "in" / source.parent.name / source.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())
        os.utime(copy, (OLD, OLD))
    storage.prepare_root(folder / "out")
    loaded = config.load(overrides=["enable_async=False"])
    anonymise(loaded, Places(folder / "in", folder / "out"), RedMasker(), SerialWorkers())
    return folder / "out"


def read_back(image: Path) -> tuple[dict[str, str | None], Metadata, bytes]:
    output = image.read_bytes()
    metadata = read_metadata(images.embedded(output), ImageSource.of(image, (1, 1)))
    return json.loads(image.with_suffix(".json").read_text("utf-8")), metadata, output


def test_shared_files_have_time_and_position_in_record_and_output(done_cases: Path) -> None:
    found = [*(done_cases / "b").glob("*.jpg"), *(done_cases / "d" / name for name in WITH_EXIF)]
    assert len(found) == 25
    for image in found:
        record, again, _ = read_back(image)
        place = None if image.name in NO_PLACE else BELOW if image.name.startswith("altref") else PLACE
        assert (record["exif_tid"], record["exif_gpsposisjon"]) == ("2023-06-01T12:00:00", place), image
        kept = f"srid=4326;POINT Z( {again.longitude} {again.latitude} {again.altitude} )"
        assert (again.time, None if again.longitude is None else kept) == ("2023-06-01T12:00:00", place), image


def test_shared_panoramas(done_cases: Path) -> None:
    found = [*(done_cases / "c").glob("*.jpg"), done_cases / "d" / "xmpz.png", done_cases / "d" / "xmp.png"]
    assert len(found) == 16
    for image in found:
        record, again, output = read_back(image)
        kept = images.embedded(output).xmp[0].decode()
        assert again.projection == "equirectangular", image
        assert all(f'GPano:{name}="' in kept for name in (*SIZES, *OFFSETS)), image
        assert b"KARI NORDMANN" not in output and "KARI" not in json.dumps(record), image


def test_shared_times(done_cases: Path) -> None:
    for image in (done_cases / "f").glob("*.jpg"):
        record, again, _ = read_back(image)
        assert record["exif_tid"] == again.time == SHARED_TIMES[image.stem], image


def test_a_text_ends_at_its_first_nul(tmp_path: Path) -> None:
    """Behind it, some cameras leave what was in their memory."""
    camera, time = (2, len(raw := b"Camera 7\0KARI\xff"), raw), (2, len(raw := b"2021:05:04 10:11:12\0KARI"), raw)
    result = Result(tmp_path, with_exif({272: camera}, {36867: time}, dict(GPS) | {1: (2, 4, b"N\0\xff\xfe")}))
    again = result.of_output
    assert (result.record["exif_camera"], result.record["exif_tid"]) == ("Camera 7", "2021-05-04T10:11:12")
    assert (again.camera, again.time, again.latitude) == ("Camera 7", "2021-05-04T10:11:12", "63.41")
    assert b"KARI" not in result.output


def test_what_the_output_does_not_keep_is_noted(tmp_path: Path) -> None:
    result = Result(tmp_path, with_exif({271: ascii_field("x" * 65)}, dict(TIMED) | {37521: ascii_field("12 o'clock")}))
    assert "ifd0 tags 271 are left out" in result.notes
    assert "exif tags 37521 are left out" in result.notes


@pytest.mark.parametrize("date", ["0001-01-01T00:00:00", "2020-02-31T10:00:00", "yesterday"])
def test_a_date_of_the_recorder_that_is_none(date: str, tmp_path: Path) -> None:
    xml = f'<ImageProperties Date="{date}"><Speed>12.5</Speed></ImageProperties>'.encode()
    result = Result(tmp_path, with_exif({40055: undefined_field(xml)}, TIMED))
    assert result.record["exif_tid"] == "2021-05-04T10:11:12"
    assert "@Date of ImageProperties is left out" in result.notes


@pytest.mark.parametrize("root", ["GeoTag", "GnssInfo"])
def test_a_position_of_the_recorder_that_is_none_gives_way_to_that_of_the_satellites(root: str, tmp_path: Path) -> None:
    prefix = "d" if root == "GeoTag" else ""
    place = f"<{root}><{prefix}Latitude>0</{prefix}Latitude><{prefix}Longitude>0.0</{prefix}Longitude></{root}>"
    name, tag = ("ImageProperties", 40055) if root == "GeoTag" else ("AdditionalInfoNorway2", 40056)
    blob = {tag: undefined_field(f"<{name}>{place}</{name}>".encode())}
    result = Result(tmp_path, with_exif(blob, TIMED, GPS))
    assert result.record["exif_gpsposisjon"] == PLACE
    assert "0, 0" in result.notes
