"""Small road images for tests, drawn here: JPEG with EXIF, XMP and the recorder's XML."""

import io
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from anonymise.metadata.record import RecordOptions

SHARED = Path(os.environ.get("ANONYMISE_SHARED", Path(__file__).parents[1].parent / "shared"))

DRIVER, CAR, COMMENT = "Kari Nordmann", "EK12345", "Syk sjåfør i dag"

PROPERTIES = f"""\ufeff<?xml version="1.0" encoding="utf-8"?><ImageProperties Date="2020-06-02T09:42:46.3948628">\
<ImageName>C:\\DATA\\FV00013\\S1\\D1\\F1_2020_06_02\\FV00013_S1D1_m00014_f1.jpg</ImageName><Speed>12.5</Speed>\
<Heading>302.295333221872</Heading>\
<VegComValues><VCArea>DRAGSVIK FK</VCArea><VCCountyNo>46</VCCountyNo><VCRoad>FV013</VCRoad>\
<VCHP>S1D1</VCHP><VCLane>1</VCLane><VCLaneName>1</VCLaneName><VCMeter>14.344072423939158</VCMeter></VegComValues>\
<BaseLinePosition>1306</BaseLinePosition><BaseLineTickInterval>227</BaseLineTickInterval>\
<BaseLineTickOffset>0</BaseLineTickOffset>\
<TiltPoint>1341</TiltPoint><Tilt>-0.031</Tilt>\
<GeoTag><dLatitude>61.214710343813685</dLatitude>\
<dLongitude>6.5663939242382572</dLongitude><dAltitude>48.856250803013438</dAltitude></GeoTag><Surroundings><Driver>{DRIVER}</Driver>\
<CarID>{CAR}</CarID><Comment>{COMMENT}</Comment></Surroundings><Comment/></ImageProperties>"""

REFLINK = """<?xml version="1.0" encoding="utf-8"?><AdditionalInfoNorway2><RoadInfo><ReflinkId>384067</ReflinkId>\
<ReflinkPosition>0.027226146823267947</ReflinkPosition><RoadIdent>EV6 S58D2 M1024 KD2 m12</RoadIdent></RoadInfo>\
<GnssInfo><Latitude>60.5</Latitude><Longitude>7.25</Longitude><Altitude>100.5</Altitude><Roll>0.29</Roll><Pitch>1.59</Pitch>\
<Heading>10.25</Heading><Speed>19.4375</Speed>\
<GeoidalSeparation>45.25</GeoidalSeparation><NorthRmsError>0.02</NorthRmsError>\
</GnssInfo><ImageInfo><roadtype>Enkel bilveg</roadtype><meter>12.3456</meter><fylke>50</fylke>\
<StorageFile>D:\\2022\\360\\EV00006\\S58\\D2\\F1_2022_05_11\\EV00006_S58D2_m01024_KD2_m00012_f1.jpg</StorageFile></ImageInfo>\
</AdditionalInfoNorway2>"""

Fields = Mapping[int, tuple[int, int, bytes]]
"""Tag → TIFF type, number of values, bytes of the values (little-endian)."""


def options(**changes: object) -> RecordOptions:
    """Options as the default configuration has them, but for ``changes``."""
    values: dict[str, object] = {
        "data_eier": None,
        "fylkesnummer": None,
        "force_fylke": False,
        "image_type": "Planar",
        "exif_mappenavn": "Vegbilder/{relative_input_dir}",
        "exif_top_dir": "tilSladding",
        "remove_imagetype_filepath": False,
        "flip_wkt": False,
        "application_version": "0.2",
        "table_name": None,
        "table_primary_key": None,
        "position_sidecar": None,
        "position_sidecar_clock_offset_seconds": 0,
    }
    return RecordOptions.model_validate(values | changes)


def ascii_field(text: str) -> tuple[int, int, bytes]:
    """A TIFF field of type ASCII."""
    raw = text.encode("utf-8") + b"\0"
    return 2, len(raw), raw


def undefined_field(raw: bytes) -> tuple[int, int, bytes]:
    """A TIFF field of type UNDEFINED."""
    return 7, len(raw), raw


def rational_field(*values: tuple[int, int]) -> tuple[int, int, bytes]:
    """A TIFF field of unsigned rationals, given as (numerator, denominator)."""
    return 5, len(values), b"".join(struct.pack("<II", *value) for value in values)


def exif_block(ifd0: Fields, exif: Fields | None = None, gps: Fields | None = None) -> bytes:
    """A TIFF structure with up to three directories."""
    parts = [b"II*\0" + struct.pack("<I", 8)]
    extra = [(tag, fields) for tag, fields in ((34665, exif), (34853, gps)) if fields]
    main = dict(ifd0) | {tag: (4, 1, b"\0\0\0\0") for tag, _ in extra}
    position = 8 + _directory_length(main)
    for tag, fields in extra:
        main[tag] = (4, 1, struct.pack("<I", position))
        position += _directory_length(fields)
    position = 8
    for fields in (main, *(fields for _, fields in extra)):
        parts.append(_directory(fields, position))
        position += _directory_length(fields)
    return b"".join(parts)


def _directory_length(fields: Fields) -> int:
    return 2 + 12 * len(fields) + 4 + sum(len(raw) for _, _, raw in fields.values() if len(raw) > 4)


def _directory(fields: Fields, position: int) -> bytes:
    entries, values = [struct.pack("<H", len(fields))], b""
    start = position + 2 + 12 * len(fields) + 4
    for tag, (kind, count, raw) in sorted(fields.items()):
        if len(raw) > 4:
            entries.append(struct.pack("<HHII", tag, kind, count, start + len(values)))
            values += raw
        else:
            entries.append(struct.pack("<HHI", tag, kind, count) + raw.ljust(4, b"\0"))
    return b"".join([*entries, b"\0\0\0\0", values])


def jpeg(exif: bytes | None = None, xmp: bytes | None = None, size: tuple[int, int] = (64, 48)) -> bytes:
    """A grey JPEG of ``size`` (width, height) with an EXIF block and an XMP packet."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (90, 90, 90)).save(buffer, "JPEG")
    segments = []
    if exif is not None:
        segments.append(b"Exif\0\0" + exif)
    if xmp is not None:
        segments.append(b"http://ns.adobe.com/xap/1.0/\0" + xmp)
    markers = b"".join(b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body for body in segments)
    plain = buffer.getvalue()
    return plain[:2] + markers + plain[2:]


def road_jpeg(
    properties: str | bytes | None = PROPERTIES,
    reflink: str | bytes | None = None,
    *,
    ifd0: Fields | None = None,
    exif: Fields | None = None,
    gps: Fields | None = None,
    xmp: bytes | None = None,
    size: tuple[int, int] = (64, 48),
) -> bytes:
    """A JPEG with the recorder's XML in the tags 40055 and 40056."""
    fields = dict(ifd0 or {})
    for tag, xml in ((40055, properties), (40056, reflink)):
        if xml is not None:
            fields[tag] = undefined_field(xml.encode("utf-8") if isinstance(xml, str) else xml)
    return jpeg(exif_block(fields, exif, gps), xmp, size)


def gps_fields(
    lat: Sequence[tuple[int, int]] = ((59, 1), (45, 1), (47441, 1000)),
    lon: Sequence[tuple[int, int]] = ((9, 1), (53, 1), (56092, 1000)),
    alt: tuple[int, int] | None = (5172, 100),
    refs: tuple[str, str] = ("N ", "E "),
) -> dict[int, tuple[int, int, bytes]]:
    """A GPS directory with a position."""
    fields = {
        1: ascii_field(refs[0]),
        2: rational_field(*lat),
        3: ascii_field(refs[1]),
        4: rational_field(*lon),
    }
    return fields if alt is None else fields | {6: rational_field(alt)}
