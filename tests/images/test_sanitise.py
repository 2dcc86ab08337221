"""What leaves the machine: a picture and a text are planted in every hiding place, and looked for in the output."""

import base64
import io
import re
import struct
import zlib
from collections.abc import Mapping
from fractions import Fraction

import cv2
import numpy as np
import piexif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from anonymise import images
from anonymise.core.detections import RgbImage
from anonymise.images import exifwriter, jpegfile, jpegsegments, png
from anonymise.images.exifwriter import OutputMetadata
from anonymise.images.icc import clean_icc
from anonymise.images.jpegsegments import Segment
from anonymise.images.png import Chunk
from anonymise.images.sanitise import clean_segments, clean_xmp
from anonymise.metadata import Embedded, tags
from anonymise.metadata.gpano import read_gpano
from tests.roadimages import Fields, exif_block

MODES: list[OutputMetadata] = ["redacted", "none", "all"]
SECRET = "Kari Nordmann"
XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
GPANO = "http://ns.google.com/photos/1.0/panorama/"


def face() -> RgbImage:
    """A picture that nothing else looks like."""
    image = np.full((96, 96, 3), 30, np.uint8)
    cv2.circle(image, (48, 48), 40, (240, 190, 150), -1)
    for x in (34, 62):
        cv2.circle(image, (x, 40), 6, (20, 60, 200), -1)
    cv2.ellipse(image, (48, 64), (18, 9), 0, 0, 180, (200, 30, 40), 3)
    return image


# With Huffman tables of its own, so that no other JPEG has a piece of it.
FACE_JPEG = cv2.imencode(
    ".jpg", cv2.cvtColor(face(), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
)[1].tobytes()
FACE_PNG = cv2.imencode(".png", cv2.cvtColor(face(), cv2.COLOR_RGB2BGR))[1].tobytes()


def street(width: int = 160, height: int = 120) -> bytes:
    random = np.random.default_rng(5)
    coarse = random.integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    return images.encode_jpeg(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def options(mode: OutputMetadata) -> images.ImageOptions:
    return images.ImageOptions(
        jpeg_quality="lossless", output_metadata=mode, max_decoded_pixels=10**7, thumbnail=False, projection="auto"
    )


def passed_through(data: bytes, mode: OutputMetadata = "redacted") -> bytes:
    image = images.decode(data, max_pixels=10**7)
    return images.rewrite(data, image.pixels, np.zeros(image.pixels.shape[:2], bool), options(mode)).data


def with_segments(*segments: Segment, after: bytes = b"") -> bytes:
    file = jpegfile.parse(street())
    return jpegsegments.assemble(file.picture, [*file.colour_segments(), *segments]) + after


def app(number: int, payload: bytes) -> Segment:
    return Segment(0xE0 + number, payload)


def xmp(properties: str) -> bytes:
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        f'xmlns:GPano="{GPANO}" xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/" '
        'xmlns:xmpGImg="http://ns.adobe.com/xap/1.0/g/img/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        f'xmlns:GImage="http://ns.google.com/photos/1.0/image/" {properties}</rdf:Description></rdf:RDF></x:xmpmeta>'
    ).encode()


def exif_bytes(**directories: dict[int, object]) -> bytes:
    """An EXIF segment as piexif writes it, with a thumbnail of the face."""
    tables: dict[str, object] = {"0th": {}, "Exif": {}, "GPS": {}, "1st": {259: 6}, "thumbnail": FACE_JPEG}
    return bytes(piexif.dump({**tables, **directories}))


def tiff(ifd0: Mapping[int, tuple[int, bytes]], exif: Mapping[int, tuple[int, bytes]] | None = None) -> bytes:
    """An EXIF block with any tags, little-endian."""

    def counted(fields: Mapping[int, tuple[int, bytes]]) -> Fields:
        return {tag: (kind, len(data) // tags.TYPE_BYTES[kind], data) for tag, (kind, data) in fields.items()}

    return exif_block(counted(ifd0), counted(exif or {}))


def icc_tagged(extra: dict[bytes, bytes], instead: bool = False) -> bytes:
    """The sRGB profile with more tags in it, behind those of the same kind or in place of them."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    count = int.from_bytes(profile[128:132], "big")
    entries = [profile[132 + 12 * n : 144 + 12 * n] for n in range(count)]
    body = profile[132 + 12 * count :]
    kept = [entry for entry in entries if not (instead and entry[:4] in extra)]
    moved = 12 * (len(kept) + len(extra) - count)
    table = b"".join(e[:4] + struct.pack(">I", int.from_bytes(e[4:8], "big") + moved) + e[8:] for e in kept)
    at = 132 + 12 * (len(kept) + len(extra)) + len(body)
    for kind, value in extra.items():
        table += kind + struct.pack(">II", at, len(value))
        body += value
        at += len(value)
    whole = profile[4:128] + struct.pack(">I", len(kept) + len(extra)) + table + body
    return struct.pack(">I", len(whole) + 4) + whole


def icc_segments(profile: bytes) -> list[Segment]:
    return [app(2, b"ICC_PROFILE\0\1\1" + profile)]


def raw_exif(block: bytes) -> Segment:
    return app(1, b"Exif\0\0" + block)


BASE64 = base64.b64encode(FACE_JPEG).decode()
EXTENDED = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + struct.pack(">II", len(FACE_JPEG), 0)

HIDING_PLACES: dict[str, bytes] = {
    "EXIF thumbnail": with_segments(app(1, exif_bytes())),
    "JFIF thumbnail": with_segments(app(0, b"JFIF\0\1\1\0\0\1\0\1\x10\x10" + FACE_JPEG[:768])),
    "JFXX": with_segments(app(0, b"JFXX\0\x10" + FACE_JPEG)),
    "MPF": with_segments(app(2, b"MPF\0MM\0*" + FACE_JPEG), after=FACE_JPEG),
    "FlashPix": with_segments(app(2, b"FPXR\0" + FACE_JPEG)),
    "ICC lookalike": with_segments(app(2, b"ICC_PROFILE\0\1\1" + FACE_JPEG)),
    "ICC private tag": with_segments(*icc_segments(icc_tagged({b"hide": FACE_JPEG}))),
    "ICC padding": with_segments(*icc_segments(icc_tagged({}) + FACE_JPEG)),
    "trailing JPEG": with_segments(after=FACE_JPEG),
    "trailing video": with_segments(after=b"\0\0\0\x18ftypmp42" + FACE_JPEG),
    "MakerNote": with_segments(app(1, exif_bytes(Exif={0x927C: b"Maker\0" + FACE_JPEG}))),
    "UserComment": with_segments(app(1, exif_bytes(Exif={0x9286: b"ASCII\0\0\0" + FACE_JPEG}))),
    "Make": with_segments(raw_exif(tiff({0x010F: (2, FACE_JPEG + b"\0")}))),
    "orientation": with_segments(raw_exif(tiff({0x0112: (1, FACE_JPEG)}))),
    "DateTime": with_segments(raw_exif(tiff({0x0132: (2, FACE_JPEG + b"\0")}))),
    "EXIF version": with_segments(raw_exif(tiff({}, {0x9000: (7, FACE_JPEG)}))),
    "SubIFD": with_segments(raw_exif(tiff({0x014A: (4, FACE_JPEG[: len(FACE_JPEG) // 4 * 4])}))),
    "recorder's XML": with_segments(
        raw_exif(tiff({40055: (1, f"<ImageProperties><Icon>{BASE64}</Icon></ImageProperties>".encode())}))
    ),
    "gap in EXIF": with_segments(raw_exif(tiff({0x010F: (2, b"Ricoh\0")}) + FACE_JPEG)),
    "Photoshop": with_segments(
        app(13, b"Photoshop 3.0\08BIM\x04\x0c\0\0" + struct.pack(">I", len(FACE_JPEG)) + FACE_JPEG)
    ),
    "extended XMP": with_segments(app(1, EXTENDED + FACE_JPEG)),
    "XMP depth map": with_segments(app(1, XMP_PREFIX + xmp(f'GDepth:Data="{BASE64}">'))),
    "XMP image": with_segments(app(1, XMP_PREFIX + xmp(f"><GImage:Data>{BASE64}</GImage:Data>"))),
    "XMP thumbnail": with_segments(app(1, XMP_PREFIX + xmp(f"><xmpGImg:image>{BASE64}</xmpGImg:image>"))),
    "XMP, other property": with_segments(app(1, XMP_PREFIX + xmp(f'dc:source="{BASE64}">'))),
    "XMP, GPano property": with_segments(app(1, XMP_PREFIX + xmp(f'GPano:ProjectionType="{BASE64}">'))),
    "unknown segments": with_segments(*(app(n, b"unknown\0" + FACE_JPEG) for n in range(3, 16))),
    "Adobe": with_segments(app(14, b"Adobe\0\x64\0\0\0\0\1" + FACE_JPEG)),
    "comment": with_segments(Segment(0xFE, FACE_JPEG)),
    "base64 comment": with_segments(Segment(0xFE, BASE64.encode())),
    "behind the last block": with_segments()[:-2] + BASE64.encode() + b"\xff\xd9",
    "reserved marker": with_segments(Segment(0xF0, FACE_JPEG)),
}

PNG_PLACES: dict[str, list[Chunk]] = {
    "eXIf": [Chunk(b"eXIf", exif_bytes()[6:])],
    "text": [Chunk(b"tEXt", b"Thumbnail\0" + BASE64.encode())],
    "compressed text": [Chunk(b"zTXt", b"Raw profile type APP1\0\0" + zlib.compress(FACE_JPEG))],
    "international text": [Chunk(b"iTXt", b"Comment\0\0\0\0\0" + BASE64.encode())],
    "XMP": [Chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(f'GDepth:Data="{BASE64}">'))],
    "compressed XMP": [Chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp(f'GDepth:Data="{BASE64}">')))],
    "profile": [Chunk(b"iCCP", b"x\0\0" + zlib.compress(FACE_JPEG))],
    "profile's private tag": [Chunk(b"iCCP", b"x\0\0" + zlib.compress(icc_tagged({b"hide": FACE_JPEG})))],
    "unknown chunk": [Chunk(b"prVW", FACE_PNG)],
    "too long gAMA": [Chunk(b"gAMA", FACE_PNG)],
}


def pictures_in(data: bytes) -> list[RgbImage]:
    """Every picture that can be decoded from anywhere in the bytes, also from base64, but for the file itself."""
    found = []
    coded = re.finditer(rb"(?:/9j/|iVBORw0KGgo)[A-Za-z0-9+/]+", data)
    texts = [base64.b64decode(match[0] + b"=" * (-len(match[0]) % 4)) for match in coded]
    inflated = [_inflated(data[m.start() :]) for m in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", data)]
    for body in (data[1:], *texts, *inflated):
        for match in re.finditer(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n", body):
            picture = cv2.imdecode(np.frombuffer(body[match.start() :], np.uint8), cv2.IMREAD_COLOR)
            if picture is not None:
                found.append(picture)
    return found


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, 1 << 20)
    except zlib.error:
        return b""


def traces_of(needle: bytes, data: bytes) -> int:
    """How many of the needle's 12-byte pieces stand in the data."""
    return sum(needle[i : i + 12] in data for i in range(24, len(needle) - 12, 12))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("place", HIDING_PLACES)
def test_no_picture_leaves_a_jpeg(place: str, mode: OutputMetadata, capfd: pytest.CaptureFixture[str]) -> None:
    data = HIDING_PLACES[place]
    assert traces_of(FACE_JPEG, data) + traces_of(BASE64.encode(), data) > 10
    out = passed_through(data, mode)
    assert traces_of(FACE_JPEG[300:], out) == traces_of(BASE64.encode()[400:], out) == 0
    assert pictures_in(out) == []
    assert np.array_equal(images.decode(out, max_pixels=10**6).pixels, images.decode(street(), max_pixels=10**6).pixels)
    capfd.readouterr()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("place", PNG_PLACES)
def test_no_picture_leaves_a_png(place: str, mode: OutputMetadata) -> None:
    pixels = images.decode(street(), max_pixels=10**6).pixels
    head, *rest = png.parse(cv2.imencode(".png", pixels)[1].tobytes())
    data = png.assemble([head, *PNG_PLACES[place], *rest]) + FACE_PNG
    out = passed_through(data, mode)
    assert traces_of(FACE_JPEG[300:], out) == traces_of(FACE_PNG, out) == traces_of(BASE64.encode()[400:], out) == 0
    assert pictures_in(out) == []
    assert out.endswith(b"IEND\xaeB`\x82")


def test_the_search_finds_planted_pictures() -> None:
    """The tests above can fail: every place is one where a search finds something."""
    for place, data in HIDING_PLACES.items():
        if place not in ("JFIF thumbnail", "SubIFD"):  # these hold a piece only
            assert pictures_in(data), place


# --- text ------------------------------------------------------------------------------------------------------------

IFD0_TEXTS = {
    0x010E: 2,
    0x013B: 2,
    0x8298: 2,
    0x013C: 2,
    0x010D: 2,
    0x0131: 2,
    0xC62F: 2,
    0xFDE8: 2,
    0x9C9C: 1,
    0x9C9D: 1,
    0x9C9E: 1,
}
EXIF_TEXTS = {
    0x9286: 7,
    0x927C: 7,
    0xA430: 2,
    0xA431: 2,
    0xA435: 2,
    0xA420: 2,
    0xA436: 2,
    0xA437: 2,
    0xFDEA: 2,
    0x9999: 2,
}


def encoded(kind: int) -> bytes:
    return {1: SECRET.encode("utf-16-le"), 2: SECRET.encode() + b"\0", 7: b"ASCII\0\0\0" + SECRET.encode()}[kind]


def everything() -> bytes:
    """A JPEG that names the driver in every text field, beside what is to be kept."""
    xml = (
        f"<ImageProperties><Driver>{SECRET}</Driver><Comment>{SECRET} drives</Comment>"
        "<VCRoad>EV134</VCRoad></ImageProperties>"
    )
    reflink = (
        f"<AdditionalInfoNorway2><Operator>{SECRET}</Operator><RoadIdent>EV134</RoadIdent></AdditionalInfoNorway2>"
    )
    kept = {
        0x010F: (2, b"Ricoh\0"),
        0x0110: (2, b"Theta\0"),
        0x0112: (3, b"\6\0"),
        0x011A: (5, struct.pack("<II", 96, 1)),
    }
    block = tiff(
        {
            **{tag: (kind, encoded(kind)) for tag, kind in IFD0_TEXTS.items()},
            **kept,
            40055: (1, b"\xef\xbb\xbf" + xml.encode()),
            40056: (7, reflink.encode()),
        },
        {**{tag: (kind, encoded(kind)) for tag, kind in EXIF_TEXTS.items()}, 0x9003: (2, b"2018:06:21 11:01:05\0")},
    )
    packet = xmp(f'dc:creator="{SECRET}" GPano:StitchingSoftware="{SECRET}" GPano:FullPanoWidthPixels="8192">')
    return with_segments(
        raw_exif(block),
        app(1, XMP_PREFIX + packet),
        app(13, b"Photoshop 3.0\08BIM\x04\x04\0\0\0\0\0\x10" + SECRET.encode()),
        Segment(0xFE, SECRET.encode()),
        after=SECRET.encode(),
    )


@pytest.mark.parametrize("mode", ["redacted", "none"])
def test_no_name_leaves(mode: OutputMetadata) -> None:
    out = passed_through(everything(), mode)
    for spelling in (SECRET.encode(), SECRET.encode("utf-16-le"), SECRET.encode("utf-16-be"), b"Nordmann"):
        assert spelling in everything() or spelling[:2] == b"\0K"
        assert spelling not in out


def test_what_is_kept() -> None:
    out = passed_through(everything())
    (block,), (packet,) = images.embedded(out).exif, images.embedded(out).xmp
    fields = tags.read_fields(block)
    assert fields.problems == ()
    assert fields.ifd0[0x010F].text() == "Ricoh"
    assert fields.exif[0x9003].text() == "2018:06:21 11:01:05"
    assert fields.ifd0[0x011A].numbers() == (Fraction(96),)
    assert images.header(out).orientation == 6
    assert b"<Driver>FJERNET</Driver>" in fields.ifd0[40055].data
    assert b"<VCRoad>EV134</VCRoad>" in fields.ifd0[40055].data
    assert b"<Operator>FJERNET</Operator>" in fields.ifd0[40056].data
    assert read_gpano((packet,), []) == {"FullPanoWidthPixels": "8192"}
    with Image.open(io.BytesIO(out)) as opened:
        assert opened.getexif()[0x0110] == "Theta"


def test_all_keeps_the_texts() -> None:
    out = passed_through(everything(), "all")
    fields = images.embedded(out).fields
    assert fields.ifd0[0x013B].text() == SECRET
    assert fields.ifd0[0x9C9D].utf16_text() == SECRET
    assert SECRET.encode() in fields.exif[0x9286].data
    assert SECRET.encode() in fields.ifd0[40055].data
    assert 0x927C not in fields.exif
    assert b"dc:creator" in out


def test_none_keeps_what_shows_the_picture_right() -> None:
    out = passed_through(everything(), "none")
    fields = images.embedded(out).fields
    assert set(fields.ifd0) == {0x0112}
    assert not fields.exif
    assert images.embedded(out).xmp == ()


def test_position_and_density_stay() -> None:
    gps: dict[int, object] = {0: (2, 2, 0, 0), 1: b"N", 2: ((59, 1), (45, 1), (47441, 1000)), 17: (1234, 10)}
    file = jpegfile.parse(with_segments(app(1, exif_bytes(GPS=gps))))
    jfif = Segment(0xE0, b"JFIF\0\1\1\1\1\x2c\1\x2c\0\0")
    out = passed_through(jpegsegments.assemble(file.picture, [jfif, *file.segments[1:]]))
    assert piexif.load(out)["GPS"] == gps
    assert piexif.load(out)["thumbnail"] is None
    with Image.open(io.BytesIO(out)) as opened:
        assert opened.info["dpi"] == (300, 300)
    with Image.open(io.BytesIO(passed_through(out, "none"))) as opened:
        assert "dpi" not in opened.info


def test_malformed_exif_does_not_fail_the_image() -> None:
    for block in (
        b"",
        b"II*\0",
        b"garbage" * 9,
        b"MM\0*\xff\xff\xff\xff",
        tiff({40055: (1, b"<ImageProperties><Driver>")}),
    ):
        data = with_segments(raw_exif(block))
        image = images.decode(data, max_pixels=10**6)
        out = images.rewrite(data, image.pixels, np.zeros(image.pixels.shape[:2], bool), options("redacted"))
        assert any(note.startswith("EXIF") for note in out.notes)
        assert images.embedded(out.data).exif == ()


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.sampled_from(MODES))
def test_any_exif_block_gives_a_valid_one(block: bytes, mode: OutputMetadata) -> None:
    for head in (b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b""):
        cleaned, _ = exifwriter.clean_exif(Embedded((head + block,)), mode, None)
        if cleaned is not None:
            assert tags.read_fields(cleaned).problems == ()


# --- colour profiles and XMP -----------------------------------------------------------------------------------------


def test_profile_still_works() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    notes: list[str] = []
    cleaned = clean_icc(profile, b"RGB ", notes)
    assert cleaned is not None
    assert notes == []
    patches = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8))
    lab = ImageCms.createProfile("LAB")
    before, after = (
        ImageCms.profileToProfile(patches, ImageCms.ImageCmsProfile(io.BytesIO(p)), lab, outputMode="LAB")
        for p in (profile, cleaned)
    )
    assert before is not None
    assert after is not None
    assert before.tobytes() == after.tobytes()
    assert clean_icc(cleaned, b"RGB ", notes) == cleaned


def test_profile_survives_a_file() -> None:
    profile = clean_icc(icc_tagged({}), b"RGB ", [])
    assert profile is not None
    for out in (
        passed_through(with_segments(*icc_segments(icc_tagged({})))),
        passed_through(_png_with(Chunk(b"iCCP", b"x\0\0" + zlib.compress(icc_tagged({}))))),
    ):
        with Image.open(io.BytesIO(out)) as opened:
            assert opened.info["icc_profile"] == profile


def _png_with(*chunks: Chunk) -> bytes:
    head, *rest = png.parse(FACE_PNG)
    return png.assemble([head, *chunks, *rest])


def icc_texts() -> list[dict[bytes, bytes]]:
    """Tags in which a name may stand, some of which have another purpose."""
    text = SECRET.encode() + b"\0"
    wide = SECRET.encode("utf-16-be")
    mac = bytes((len(text),)) + text.ljust(67, b"\0")
    description = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text
    records = b"enUS" + struct.pack(">2I", len(wide), 40) + b"noNO" + struct.pack(">2I", len(wide), 40)
    localised = b"mluc\0\0\0\0" + struct.pack(">2I", 2, 12) + records + wide
    plain = b"text\0\0\0\0" + text
    texts = {
        "description": description + struct.pack(">2I", 0, len(wide) // 2) + wide + b"\0\0" + mac,
        "localised": localised,
        "plain": plain,
    }
    kinds = (b"desc", b"cprt", b"dmdd", b"dmnd", b"vued", b"tech", b"wtpt", b"chad", b"A2B0", b"cicp", b"vcgt", b"own ")
    by_kind = [{kind: value} for kind in kinds for value in texts.values()]
    behind = [{b"wtpt": b"XYZ \0\0\0\0" + bytes(12) + text}, {b"chad": b"sf32\0\0\0\0" + bytes(36) + text}]
    inside = [{b"wtpt": b"XYZ \0\0\0\0" + text[:12]}, {b"cicp": b"cicp" + text[:8]}]
    return by_kind + behind + inside


@pytest.mark.parametrize("mode", MODES)
def test_no_name_leaves_in_a_colour_profile(mode: OutputMetadata) -> None:
    for tags_with_names in icc_texts():
        profile = bytearray(icc_tagged(tags_with_names, instead=True))
        for at in (4, 48, 52, 80, 100):  # software, device, model, creator, reserved
            profile[at : at + 4] = SECRET.encode()[:4]
        for data in (
            with_segments(*icc_segments(bytes(profile))),
            _png_with(Chunk(b"iCCP", SECRET.encode() + b"\0\0" + zlib.compress(bytes(profile)))),
        ):
            with Image.open(io.BytesIO(passed_through(data, mode))) as opened:
                out = opened.info.get("icc_profile", b"")
            assert out, "the profile itself stays"
            for spelling in (
                SECRET.encode(),
                SECRET.encode("utf-16-be"),
                SECRET.encode()[:4],
                b"\0".join((b"K", b"a")),
            ):
                assert spelling not in out


def test_known_names_of_colour_spaces_stay() -> None:
    name = b"Adobe RGB (1998)\0"
    described = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78)
    cleaned = clean_icc(icc_tagged({b"desc": described}, instead=True), b"RGB ", [])
    assert cleaned is not None
    assert ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(cleaned))).strip() == "Adobe RGB (1998)"


# --- coded data ------------------------------------------------------------------------------------------------------


def segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def coded(kind: str) -> bytes:
    picture = Image.fromarray(face())
    buffer = io.BytesIO()
    picture.convert({"CMYK": "CMYK", "grey": "L"}.get(kind, "RGB")).save(
        buffer, "JPEG", quality=90, progressive=kind == "progressive"
    )
    return buffer.getvalue()


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("kind", ["baseline", "progressive", "grey", "CMYK"])
def test_no_name_leaves_between_the_codes(kind: str, changed: bool) -> None:
    """Tables that nothing uses, bytes behind the last code, segments between scans and behind the end."""
    data, name = coded(kind), SECRET.encode()
    unused = b"".join(
        (
            segment(0xC4, bytes((0x13, *(0,) * 7, len(name), *(0,) * 8)) + name),  # a Huffman table
            segment(0xDB, b"\3" + name.ljust(64, b"\1")),  # a quantisation table
            segment(0xFE, name),
            segment(0xED, name),
            segment(0xF0, name),
        )
    )
    first, end = data.index(b"\xff\xda"), data.rindex(b"\xff\xd9")
    inside = data[:first] + unused + data[first:end] + name + unused + name + data[end:] + name + unused
    image = images.decode(inside, max_pixels=10**6)
    assert np.array_equal(image.pixels, images.decode(data, max_pixels=10**6).pixels)
    mask = np.zeros(image.pixels.shape[:2], bool)
    mask[:8, :8] = changed
    out = images.rewrite(inside, np.where(mask[..., None], 0, image.pixels).astype(np.uint8), mask, options("redacted"))
    assert name not in out.data
    if kind != "CMYK":
        assert np.array_equal(images.decode(out.data, max_pixels=10**6).pixels[20:, 20:], image.pixels[20:, 20:])


def test_profile_of_other_samples_is_dropped() -> None:
    notes: list[str] = []
    assert clean_icc(icc_tagged({}), b"GRAY", notes) is None
    assert "samples" in notes[0]


def test_png_display_chunks_stay() -> None:
    out = passed_through(
        _png_with(Chunk(b"gAMA", struct.pack(">I", 45455)), Chunk(b"pHYs", struct.pack(">IIB", 1, 1, 1)))
    )
    kinds = [chunk.kind for chunk in png.parse(out)]
    assert kinds[:3] == [b"IHDR", b"gAMA", b"pHYs"]


def test_png_display_chunks_hold_no_text() -> None:
    name = (SECRET * 3).encode()
    sizes = {b"gAMA": 4, b"cHRM": 32, b"cICP": 4, b"mDCV": 24, b"cLLI": 8, b"pHYs": 9}
    out = passed_through(_png_with(*(Chunk(kind, name[:size]) for kind, size in sizes.items())))
    assert b"Kari" not in out


def test_gpano_as_elements_and_attributes() -> None:
    both = xmp('GPano:ProjectionType="equirectangular"><GPano:PoseHeadingDegrees>12.5</GPano:PoseHeadingDegrees>')
    cleaned = clean_xmp((both,), "redacted", [])
    assert cleaned is not None
    assert read_gpano((cleaned,), []) == {"ProjectionType": "equirectangular", "PoseHeadingDegrees": "12.5"}


@pytest.mark.parametrize(
    "packet",
    [b"", b"<x", b'<!DOCTYPE a [<!ENTITY e "boom">]><a>&e;</a>', b"<" * 60_000, b"\xff" * 100],
)
@pytest.mark.parametrize("mode", ["redacted", "all"])
def test_malformed_xmp_is_dropped_with_a_note(packet: bytes, mode: OutputMetadata) -> None:
    notes: list[str] = []
    assert clean_xmp((packet,), mode, notes) is None
    assert len(notes) == 1


def test_xmp_values_are_checked() -> None:
    packet = xmp(
        f'GPano:PoseHeadingDegrees="{SECRET}" GPano:ProjectionType="&lt;a&gt;" GPano:UsePanoramaViewer="True">'
    )
    cleaned = clean_xmp((packet,), "redacted", [])
    assert cleaned is not None
    assert read_gpano((cleaned,), []) == {"UsePanoramaViewer": "True"}


def test_metadata_that_do_not_fit_are_left_out() -> None:
    """Redaction may lengthen the XML; a marker segment takes 65533 bytes and no more."""
    xml = "<a>" + "<Driver>x</Driver>" * 3500 + "</a>"
    segments, notes = clean_segments([raw_exif(tiff({40055: (1, xml.encode())}))], "redacted", None, b"RGB ", True)
    assert segments == []
    assert "no room" in notes[0]
