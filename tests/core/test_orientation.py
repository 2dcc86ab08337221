"""What turns a picture for viewers turns it for the model, wherever in the file it stands; and the output with it."""

import io
import json
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from anonymise import config
from anonymise.batch import storage
from anonymise.batch.paths import Places
from anonymise.batch.runs import anonymise, make_records
from anonymise.batch.workers import SerialWorkers
from anonymise.core.detections import Box, Instance, RgbImage
from tests.fakes import Ran, RedMasker, street

CAR = Box(40, 40, 90, 80)
XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"


class UprightMasker(RedMasker):
    """Finds red cars only where they stand on their wheels: in pictures that are wider than high, in the left half."""

    def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
        for image in images:
            self.n_images += 1
            height, width = image.shape[:2]
            yield (tuple(car for car in self._cars(image) if width > height and car.box.left < width // 2),)


def exif_block(orientation: int | None, order: str = "<") -> bytes:
    """An EXIF block with a time, a position and, if there is one, an orientation."""
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    exif[0x0110] = "Camera 7"
    exif.get_ifd(0x8769)[0x9003] = "2023:06:01 12:00:00"
    exif.get_ifd(0x8825).update({1: "N", 2: (63.0, 24.0, 36.0), 3: "E", 4: (10.0, 23.0, 18.0)})
    exif.endian = order
    return exif.tobytes()[6:]


def xmp_packet(orientation: int) -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{orientation}"/>'
        "</rdf:RDF></x:xmpmeta>"
    ).encode()


def app1(payload: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload


def exif_segment(block: bytes) -> bytes:
    return app1(b"Exif\0\0" + block)


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def as_jpeg(picture: RgbImage, progressive: bool = False) -> bytes:
    flags = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)]
    return cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), flags)[1].tobytes()


def as_png(picture: RgbImage, before: bytes = b"", after: bytes = b"") -> bytes:
    data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
    end = data.index(b"IEND") - 4
    return data[:33] + before + data[33:end] + after + data[end:]


def at_start(picture: RgbImage, segments: bytes, progressive: bool = False) -> bytes:
    data = as_jpeg(picture, progressive)
    return data[:2] + segments + data[2:]


def before_scan(picture: RgbImage, segments: bytes, progressive: bool = False) -> bytes:
    data = as_jpeg(picture, progressive)
    at = data.index(b"\xff\xda")
    return data[:at] + segments + data[at:]


def raw_profile(kind: str, payload: bytes, form: str = "zTXt", after: bool = False) -> Callable[[RgbImage], bytes]:
    """A PNG with metadata as ImageMagick writes them."""
    lines = payload.hex()
    wrapped = "\n".join(lines[at : at + 72] for at in range(0, len(lines), 72))
    text = f"\n{'generic profile' if kind == 'APP1' else kind}\n{len(payload):8}\n{wrapped}\n".encode()
    keyword = f"Raw profile type {kind}".encode()
    one = {
        "zTXt": chunk(b"zTXt", keyword + b"\0\0" + zlib.compress(text)),
        "tEXt": chunk(b"tEXt", keyword + b"\0" + text),
        "iTXt": chunk(b"iTXt", keyword + b"\0\1\0\0\0" + zlib.compress(text)),
    }[form]
    return lambda picture: as_png(picture, b"" if after else one, one if after else b"")


SIX = exif_block(6)
TURNED: dict[str, Callable[[RgbImage], bytes]] = {
    "jpg plain": lambda p: at_start(p, exif_segment(SIX)),
    "jpg big-endian": lambda p: at_start(p, exif_segment(exif_block(6, ">"))),
    "jpg between frame and scan": lambda p: before_scan(p, exif_segment(SIX)),
    "jpg between frame and scan, progressive": lambda p: before_scan(p, exif_segment(SIX), progressive=True),
    "jpg behind stray bytes": lambda p: at_start(p, b"\0stray\0" + exif_segment(SIX)),
    "jpg behind fill bytes": lambda p: at_start(p, b"\xff\xff\xff" + exif_segment(SIX)),
    "jpg other byte in the prefix": lambda p: at_start(p, app1(b"Exif\0\xff" + SIX)),
    "jpg in two segments": lambda p: at_start(p, exif_segment(SIX[:60]) + exif_segment(SIX[60:])),
    "jpg second block with time and position": lambda p: at_start(
        p, exif_segment(SIX[:8] + b"\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0") + exif_segment(exif_block(1, ">"))
    ),
    "jpg XMP only": lambda p: at_start(p, exif_segment(exif_block(None)) + app1(XMP_PREFIX + xmp_packet(6))),
    "jpg XMP before EXIF": lambda p: at_start(p, app1(XMP_PREFIX + xmp_packet(6)) + exif_segment(exif_block(None))),
    "jpg XMP in UTF-16": lambda p: at_start(
        p,
        exif_segment(exif_block(None)) + app1(XMP_PREFIX + b"\xff\xfe" + xmp_packet(6).decode().encode("utf-16-le")),
    ),
    "jpg XMP that is malformed": lambda p: at_start(
        p, exif_segment(exif_block(None)) + app1(XMP_PREFIX + xmp_packet(6)[:-20])
    ),
    "jpg XMP in the second packet": lambda p: at_start(
        p, exif_segment(exif_block(None)) + app1(XMP_PREFIX + b"<a/>") + app1(XMP_PREFIX + xmp_packet(6))
    ),
    "png eXIf": lambda p: as_png(p, chunk(b"eXIf", SIX)),
    "png eXIf with prefix": lambda p: as_png(p, chunk(b"eXIf", b"Exif\0\0" + SIX)),
    "png late eXIf": lambda p: as_png(p, after=chunk(b"eXIf", SIX)),
    "png raw profile exif": raw_profile("exif", SIX),
    "png raw profile exif with prefix": raw_profile("exif", b"Exif\0\0" + SIX),
    "png raw profile exif, not compressed": raw_profile("exif", SIX, "tEXt"),
    "png raw profile exif, international": raw_profile("exif", SIX, "iTXt"),
    "png raw profile exif, late": raw_profile("exif", SIX, after=True),
    "png raw profile APP1": raw_profile("APP1", b"Exif\0\0" + SIX),
    "png XMP": lambda p: as_png(
        p, chunk(b"eXIf", exif_block(None)) + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp_packet(6))
    ),
    "png compressed XMP": lambda p: as_png(
        p,
        chunk(b"eXIf", exif_block(None))
        + chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp_packet(6))),
    ),
}


def test_an_exif_block_without_room_keeps_the_orientation(places: Places) -> None:
    """In several segments there is room for more than in the one of the output."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x9003] = "2023:06:01 12:00:00"
    exif[40055] = b"<ImageProperties>" + b"<A>road</A>" * 8000 + b"</ImageProperties>"
    block = exif.tobytes()[6:]
    parts = b"".join(exif_segment(block[at : at + 60_000]) for at in range(0, len(block), 60_000))
    (places.input / "a.jpg").write_bytes(at_start(np.ascontiguousarray(np.rot90(street())), parts))
    ran = run(places)
    assert ran.objects == {"car": 1}
    assert any("no room" in note for note in ran.done[0].notes)
    out = opened(places.output / "a.jpg").getexif()
    assert out[0x0112] == 6
    assert out.get_ifd(0x8769)[0x9003] == "2023:06:01 12:00:00"


def run(places: Places, *overrides: str) -> Ran:
    ran = Ran()
    chosen = [
        "enable_async=False",
        "mask_dilation_pixels=0",
        "remote_preview=True",
        "preview_dim=[160, 120]",
        *overrides,
    ]
    ran.report = anonymise(
        config.load(overrides=[*chosen, "preview_center=[0.5, 0.5]"]), places, UprightMasker(), SerialWorkers(), ran
    )
    return ran


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "in").mkdir()
    storage.prepare_root(tmp_path / "out")
    return Places(tmp_path / "in", tmp_path / "out")


def opened(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


@pytest.mark.parametrize("mode", ["redacted", "none", "all"])
@pytest.mark.parametrize("case", TURNED)
def test_a_turned_picture(places: Places, case: str, mode: str) -> None:
    upright = street()
    stored = np.ascontiguousarray(np.rot90(upright))  # orientation 6: it is shown turned clockwise
    source = places.input / f"a.{case[:3]}"
    source.write_bytes(TURNED[case](stored))
    ran = run(places, f"output_metadata={mode}", "remote_mask=True")
    assert not ran.failed
    assert ran.objects == {"car": 1}

    out = places.output / source.name
    shown = np.asarray(ImageOps.exif_transpose(opened(out)))
    assert shown.shape == upright.shape, "the output is shown as the input is"
    assert np.abs(shown[CAR.slices].astype(int) - upright[CAR.slices]).mean() > 30
    assert np.asarray(opened(out)).shape == stored.shape
    assert opened(out).getexif()[0x0112] == 6
    mask = np.asarray(opened(places.output / "a_mask.png"))
    assert mask.shape == stored.shape[:2], "masks lie on the stored picture"
    assert not np.rot90(mask, -1)[CAR.slices].any()
    preview = np.asarray(opened(places.output / "a_preview.jpg"))
    assert np.abs(preview.astype(int) - shown).mean() < 4, "previews stand upright"

    record = json.loads((places.output / "a.json").read_text("utf-8"))
    assert record["exif_tid"].startswith("2023-06-01T12:00:00")
    assert "10.388333333333334 63.41" in record["exif_gpsposisjon"]
    if mode != "none":
        exif = opened(out).getexif()
        assert exif.get_ifd(0x8769)[0x9003] == "2023:06:01 12:00:00"
        assert exif.get_ifd(0x8825)[2] == (63.0, 24.0, 36.0)


def between_scans(picture: RgbImage) -> bytes:
    data = as_jpeg(picture, progressive=True)
    at = data.index(b"\xff\xc4", data.index(b"\xff\xda"))
    return data[:at] + exif_segment(SIX) + data[at:]


NOT_TURNED: dict[str, Callable[[RgbImage], bytes]] = {
    "jpg between scans": between_scans,
    "jpg behind the end": lambda p: as_jpeg(p) + exif_segment(SIX),
    "jpg EXIF says upright, XMP says turned": lambda p: at_start(
        p, exif_segment(exif_block(1)) + app1(XMP_PREFIX + xmp_packet(6))
    ),
    "jpg second block says turned": lambda p: at_start(
        p, exif_segment(SIX[:8] + b"\1\0\x12\1\3\0\1\0\0\0\1\0\0\0\0\0\0\0") + exif_segment(SIX)
    ),
    "png behind the end": lambda p: as_png(p) + chunk(b"eXIf", SIX),
}


@pytest.mark.parametrize("mode", ["redacted", "all"])
@pytest.mark.parametrize("case", NOT_TURNED)
def test_what_no_viewer_sees_turns_nothing(places: Places, case: str, mode: str) -> None:
    """It must neither turn the model's picture nor be carried to where viewers see it."""
    upright = street()
    source = places.input / f"a.{case[:3]}"
    source.write_bytes(NOT_TURNED[case](upright))
    ran = run(places, f"output_metadata={mode}")
    assert ran.objects == {"car": 1}
    shown = np.asarray(ImageOps.exif_transpose(opened(places.output / source.name)))
    assert shown.shape == upright.shape
    assert np.abs(shown[CAR.slices].astype(int) - upright[CAR.slices]).mean() > 30


def test_records_alone_read_the_same(places: Places) -> None:
    for number, case in enumerate(TURNED):
        (places.input / f"{number}.{case[:3]}").write_bytes(TURNED[case](street()))
    report = make_records(config.load(overrides=["enable_async=False"]), places, SerialWorkers())
    assert report.n_done == len(TURNED)
    for record in places.output.glob("*.json"):
        assert json.loads(record.read_text("utf-8"))["exif_tid"].startswith("2023-06-01T12:00:00")
