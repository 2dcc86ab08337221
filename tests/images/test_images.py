"""Reading and writing image files: what is accepted, what is refused, and what comes out."""

import io
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import cv2
import jpeglib
import numpy as np
import piexif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import ValidationError

from anonymise import images
from anonymise.core.detections import Box, Detections, Instance, RgbImage, Size, full_mask
from anonymise.core.errors import UnreadableImage
from anonymise.core.orientation import detections_to_stored, to_stored, to_upright
from anonymise.images import png

LIMIT = 10_000_000
LOSSLESS = images.ImageOptions(
    jpeg_quality="lossless", output_metadata="redacted", max_decoded_pixels=LIMIT, thumbnail=False, projection="auto"
)


def picture(width: int, height: int, seed: int = 0) -> RgbImage:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 255, (max(2, height // 8), max(2, width // 8), 3), np.uint8)
    smooth: RgbImage = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return smooth


def saved(picture: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def as_jpeg(width: int = 64, height: int = 48, **options: Any) -> bytes:
    return saved(Image.fromarray(picture(width, height)), **{"quality": 92, **options})


def with_orientation(orientation: int, kind: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(Image.fromarray(picture(48, 32)), kind, exif=exif)


def opencv(data: bytes, flags: int = cv2.IMREAD_UNCHANGED) -> NDArray[Any]:
    decoded: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    assert decoded is not None
    return decoded


def png_of(samples: NDArray[np.uint8 | np.uint16]) -> bytes:
    return bytes(cv2.imencode(".png", samples)[1])


def raw_png(width: int, height: int, data: bytes, colour_type: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    return png.assemble([png.Chunk(b"IHDR", header), png.Chunk(b"IDAT", data), png.Chunk(b"IEND", b"")])


# --- what is accepted ------------------------------------------------------------------------------------------------


def test_colour_jpeg() -> None:
    data = as_jpeg()
    image = images.decode(data, max_pixels=LIMIT)
    assert np.array_equal(image.pixels, opencv(data, cv2.IMREAD_COLOR_RGB))
    assert (image.orientation, image.kind) == (1, "jpeg")
    with pytest.raises(ValueError, match="read-only"):
        image.pixels[0, 0] = 0


def test_grey_is_converted() -> None:
    grey = Image.fromarray(picture(40, 30)).convert("L")
    for kind in ("JPEG", "PNG"):
        pixels = images.decode(saved(grey, kind), max_pixels=LIMIT).pixels
        assert pixels.shape == (30, 40, 3)
        assert (pixels == pixels[..., :1]).all()


def test_cmyk_is_converted_not_inverted() -> None:
    rgb = Image.fromarray(picture(40, 30))
    pixels = images.decode(saved(rgb.convert("CMYK"), quality=95), max_pixels=LIMIT).pixels
    assert np.abs(pixels.astype(int) - np.asarray(rgb)).mean() < 6


def test_sixteen_bits_are_rounded_to_eight() -> None:
    samples = np.array([[0, 128, 129, 255 * 257, 65535, 30000]], np.uint16)
    pixels = images.decode(png_of(np.repeat(samples[..., None], 3, 2)), max_pixels=LIMIT).pixels
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 255, 255, 117]


def test_palette_and_alpha() -> None:
    rgb = Image.fromarray(picture(40, 30))
    palette = rgb.quantize(32)
    assert np.array_equal(
        images.decode(saved(palette, "PNG"), max_pixels=LIMIT).pixels, np.asarray(palette.convert("RGB"))
    )
    rgba = rgb.convert("RGBA")
    rgba.putalpha(0)
    assert np.array_equal(images.decode(saved(rgba, "PNG"), max_pixels=LIMIT).pixels, np.asarray(rgb))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_one_pixel(kind: str) -> None:
    data = saved(Image.new("RGB", (1, 1), (200, 30, 90)), kind)
    pixels = images.decode(data, max_pixels=1).pixels
    assert np.abs(pixels[0, 0].astype(int) - (200, 30, 90)).max() < 6
    black = np.zeros_like(pixels)
    out = images.rewrite(data, black, np.ones((1, 1), bool), LOSSLESS).data
    assert images.decode(out, max_pixels=1).pixels.max() < 6


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_header_says_what_decoding_shows(kind: str) -> None:
    data = with_orientation(6, kind)
    image = images.decode(data, max_pixels=LIMIT)
    assert images.header(data) == (48, 32, image.kind, 6)
    assert image.pixels.shape == (32, 48, 3)
    assert image.orientation == 6


def test_mid_grey_picture_is_complete() -> None:
    assert images.decode(saved(Image.new("RGB", (64, 64), (128, 128, 128))), max_pixels=LIMIT).pixels.mean() == 128


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"not a picture at all, renamed to .jpg", "neither"),
        (b"\xff\xd8\xff\xe0", "truncated"),
        (b"\xff\xd8\xff\xd9", "without a picture"),
        (b"GIF89a" + bytes(100), "neither"),
        (png.SIGNATURE, "truncated"),
        (as_jpeg()[:700], "truncated"),
        (as_jpeg(progressive=True)[:700], "truncated"),
        (png_of(picture(40, 30))[:-20], "truncated"),
    ],
)
def test_no_picture(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImage, match=reason):
        images.decode(data, max_pixels=LIMIT)


@pytest.mark.parametrize("restart", [0, 4])
@pytest.mark.parametrize("keep", [0.55, 0.8, 0.97])
def test_truncated_with_an_end_marker(keep: float, restart: int) -> None:
    data = saved(Image.fromarray(picture(256, 192)), quality=92, restart_marker_blocks=restart)
    cut = data[: int(keep * len(data))].rstrip(b"\xff")
    with pytest.raises(UnreadableImage, match="truncated: data"):
        images.decode(cut + b"\xff\xd9", max_pixels=LIMIT)


def test_twelve_bits_are_named() -> None:
    data = bytearray(as_jpeg())
    data[data.find(b"\xff\xc0") + 4] = 12
    with pytest.raises(UnreadableImage, match="12 bit"):
        images.decode(bytes(data), max_pixels=LIMIT)


def test_size_limit_comes_before_decoding() -> None:
    bomb = raw_png(100_000, 100_000, zlib.compress(bytes(1000)))
    with pytest.raises(UnreadableImage, match="max_decoded_pixels"):
        images.decode(bomb, max_pixels=LIMIT)
    data = bytearray(as_jpeg())
    at = data.find(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65535, 65535)
    with pytest.raises(UnreadableImage, match="65535×65535"):
        images.decode(bytes(data), max_pixels=LIMIT)
    assert images.decode(as_jpeg(64, 48), max_pixels=64 * 48).pixels.size
    with pytest.raises(UnreadableImage, match="3071"):
        images.decode(as_jpeg(64, 48), max_pixels=64 * 48 - 1)


def test_large_panorama_is_no_bomb() -> None:
    """Pillow warns above 89 million pixels; here only our own limit counts."""
    data = bytes(cv2.imencode(".jpg", np.full((8192, 16384), 90, np.uint8))[1])
    assert images.decode(data, max_pixels=16384 * 8192).pixels.shape == (8192, 16384, 3)


def test_damaged_png() -> None:
    data = bytearray(png_of(picture(40, 30)))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(UnreadableImage, match="checksum"):
        images.decode(bytes(data), max_pixels=LIMIT)


def test_png_with_too_few_samples(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnreadableImage, match="damaged"):
        images.decode(raw_png(64, 64, zlib.compress(bytes(100))), max_pixels=LIMIT)
    capfd.readouterr()


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["JPEG", "PNG"]))
def test_damage_never_raises_anything_else(seed: int, kind: str) -> None:
    random = np.random.default_rng(seed)
    data = bytearray(with_orientation(3, kind))
    for _ in range(random.integers(1, 6)):
        data[random.integers(0, len(data))] = random.integers(0, 256)
    damaged = bytes(data[: random.integers(1, len(data) + 1)])
    try:
        image = images.decode(damaged, max_pixels=LIMIT)
    except UnreadableImage:
        return
    images.rewrite(damaged, image.pixels, np.ones(image.pixels.shape[:2], bool), LOSSLESS)


# --- orientation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_as_pillow_has_it(orientation: int) -> None:
    data = with_orientation(orientation, "PNG")
    image = images.decode(data, max_pixels=LIMIT)
    assert image.orientation == orientation
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    upright = to_upright(image.pixels, orientation)
    assert np.array_equal(upright, expected)
    assert np.array_equal(to_stored(upright, orientation), image.pixels)


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 8), st.integers(1, 30), st.integers(1, 30), st.data())
def test_masks_land_on_the_stored_pixels(orientation: int, width: int, height: int, data: st.DataObject) -> None:
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = Box(left, top, data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height)))
    seed = data.draw(st.integers(0, 2**32 - 1))
    mask = np.random.default_rng(seed).random((box.height, box.width)) < 0.5
    upright = Detections(Size(width, height), (Instance(1, 0.5, box, mask), Instance(3, 0.7, box, full_mask(box))))
    stored = detections_to_stored(upright, orientation)
    assert np.array_equal(to_upright(stored.union(), orientation), upright.union())
    for before, after in zip(upright.instances, stored.instances, strict=True):
        assert (after.label, after.score, after.area()) == (before.label, before.score, before.area())
        assert after.fills_box == before.fills_box


def test_invalid_orientation_is_upright() -> None:
    assert images.decode(with_orientation(9), max_pixels=LIMIT).orientation == 1


# --- what comes out --------------------------------------------------------------------------------------------------


def test_nothing_found_nothing_lost() -> None:
    for data in (as_jpeg(75, 53), as_jpeg(75, 53, progressive=True), png_of(picture(75, 53)), with_orientation(8)):
        image = images.decode(data, max_pixels=LIMIT)
        out = images.rewrite(data, image.pixels, np.zeros(image.pixels.shape[:2], bool), LOSSLESS)
        again = images.decode(out.data, max_pixels=LIMIT)
        assert np.array_equal(again.pixels, image.pixels)
        assert again.orientation == image.orientation
        assert out.notes == ()


def restarting(**options: Any) -> bytes:
    flags = [cv2.IMWRITE_JPEG_RST_INTERVAL, 1, cv2.IMWRITE_JPEG_PROGRESSIVE, int(options.get("progressive", False))]
    return cv2.imencode(".jpg", picture(100, 75), flags)[1].tobytes()


ENDING_EARLY = {
    "baseline": as_jpeg(100, 75),
    "4:4:4": as_jpeg(100, 75, subsampling=0),
    "progressive": as_jpeg(100, 75, progressive=True),
    "grey": saved(Image.fromarray(picture(100, 75)).convert("L")),
    "CMYK": saved(Image.fromarray(picture(100, 75)).convert("CMYK")),
    "restarts": restarting(),
    "restarts, progressive": restarting(progressive=True),
    "mid grey": saved(Image.new("RGB", (100, 75), (128, 128, 128))),
    "one block": as_jpeg(8, 8),
}
TRAILERS = {
    "nothing": b"",
    "half an end marker": b"\xff",
    "zeros": bytes(100),
    "a camera's own data": b"\0\0\1\x0a\x0e\0\0\0Panorama_Shot_InfoSEFT" + bytes(range(255)),
    "another JPEG": as_jpeg(),
    "a frame header": b"\xff\xc0\0\x0bxxxxxxxxx",
    "a scan header": b"\xff\xda\0\x08\1\1\0\0\x3f\0",
    "a segment that is cut off": b"\xff\xe1\xff\xffExif",
}


@pytest.mark.parametrize("trailer", TRAILERS)
@pytest.mark.parametrize("kind", ENDING_EARLY)
def test_a_missing_end_marker_is_no_harm(kind: str, trailer: str) -> None:
    """Panoramas of some telephones have none, and their own data in its place."""
    whole = ENDING_EARLY[kind]
    data = whole[:-2] + TRAILERS[trailer]
    if trailer in ("a scan header", "another JPEG", "a frame header") and kind.endswith("progressive"):
        pytest.skip("nobody can tell what belongs to the picture")
    image = images.decode(data, max_pixels=LIMIT)
    assert np.array_equal(image.pixels, images.decode(whole, max_pixels=LIMIT).pixels)
    out = images.rewrite(data, image.pixels, np.zeros(image.pixels.shape[:2], bool), LOSSLESS)
    assert any("end marker" in note for note in out.notes)
    assert out.data.endswith(b"\xff\xd9")
    assert b"Panorama_Shot" not in out.data


@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
@pytest.mark.parametrize("kind", ENDING_EARLY)
def test_missing_data_are_refused_or_were_not_needed(kind: str, end: bytes) -> None:
    whole = ENDING_EARLY[kind]
    pixels = images.decode(whole, max_pixels=LIMIT).pixels
    n_refused = 0
    for n_cut in range(1, 40):
        try:
            image = images.decode(whole[: -2 - n_cut] + end, max_pixels=LIMIT)
        except UnreadableImage as error:
            n_refused += "truncated" in str(error)
        else:
            assert end or np.array_equal(image.pixels, pixels)
    assert n_refused > 0 or end


def test_a_png_without_its_end_is_no_harm() -> None:
    whole = png_of(picture(40, 30))
    for cut in (12, 4, 1, 14, 16):  # IEND, parts of it, and of the checksum of the picture's chunk
        data = whole[:-cut]
        image = images.decode(data, max_pixels=LIMIT)
        assert np.array_equal(image.pixels, images.decode(whole, max_pixels=LIMIT).pixels)
        out = images.rewrite(data, image.pixels, np.zeros((30, 40), bool), LOSSLESS)
        assert "end" in out.notes[0]
        assert images.decode(out.data, max_pixels=LIMIT).pixels.shape == (30, 40, 3)
    for cut in (20, 40, 300):
        with pytest.raises(UnreadableImage, match="truncated"):
            images.decode(whole[:-cut], max_pixels=LIMIT)


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "P"])
def test_a_transparent_colour_stays_transparent(mode: str) -> None:
    source = Image.fromarray(picture(40, 30)).convert(mode)
    transparent = source.getpixel((3, 3))
    data = saved(source, "PNG", transparency=transparent if mode != "1" else 1)
    pixels = images.decode(data, max_pixels=LIMIT).pixels
    changed = np.zeros((30, 40), bool)
    changed[20:, 20:] = True
    out = images.rewrite(data, np.where(changed[..., None], 0, pixels).astype(np.uint8), changed, LOSSLESS).data
    alpha = [np.asarray(Image.open(io.BytesIO(file)).convert("RGBA"))[..., 3] for file in (data, out)]
    assert alpha[0].min() == 0
    assert np.array_equal(alpha[0], alpha[1])


def test_cmyk_without_changes_is_encoded_again_as_well() -> None:
    """Copied data may hold more than the picture: unused codes, bytes behind the last scan."""
    data = saved(Image.fromarray(picture(40, 32)).convert("CMYK"))
    image = images.decode(data, max_pixels=LIMIT)
    out = images.rewrite(data, image.pixels, np.zeros((32, 40), bool), LOSSLESS)
    assert "CMYK" in out.notes[0]
    assert np.abs(images.decode(out.data, max_pixels=LIMIT).pixels.astype(int) - image.pixels).mean() < 3


def test_cmyk_with_changes_is_encoded_again_and_says_so() -> None:
    data = saved(Image.fromarray(picture(40, 32)).convert("CMYK"))
    pixels = images.decode(data, max_pixels=LIMIT).pixels
    changed = np.zeros((32, 40), bool)
    changed[8:16, 8:16] = True
    image = np.where(changed[..., None], 0, pixels).astype(np.uint8)
    out = images.rewrite(data, image, changed, LOSSLESS)
    assert "CMYK" in out.notes[0]
    assert "quality 95" in out.notes[0]
    assert np.abs(images.decode(out.data, max_pixels=LIMIT).pixels.astype(int) - image).mean() < 3


def test_arithmetic_coding_becomes_huffman_coding_without_loss(tmp_path: Path) -> None:
    (tmp_path / "huffman.jpg").write_bytes(as_jpeg(64, 48))
    with jpeglib.version("turbo210"):
        jpeglib.read_dct(str(tmp_path / "huffman.jpg")).write_dct(
            str(tmp_path / "arithmetic.jpg"), flags=["+ARITH_CODE"]
        )
    data = (tmp_path / "arithmetic.jpg").read_bytes()
    assert b"\xff\xc9" in data
    pixels = images.decode(data, max_pixels=LIMIT).pixels
    assert np.array_equal(pixels, images.decode(as_jpeg(64, 48), max_pixels=LIMIT).pixels)
    changed = np.zeros((48, 64), bool)
    out = images.rewrite(data, pixels, changed, LOSSLESS)
    assert out.notes == ()
    assert np.array_equal(images.decode(out.data, max_pixels=LIMIT).pixels, pixels)
    changed[:16, :16] = True
    out = images.rewrite(data, np.zeros_like(pixels), changed, LOSSLESS)
    after = images.decode(out.data, max_pixels=LIMIT).pixels
    assert after[:14, :14].max() == 0
    assert np.array_equal(after[18:, 18:], pixels[18:, 18:])


def test_asked_quality() -> None:
    data = as_jpeg(256, 192, quality=95)
    pixels = images.decode(data, max_pixels=LIMIT).pixels
    nothing = np.zeros(pixels.shape[:2], bool)
    sizes = [
        len(images.rewrite(data, pixels, nothing, LOSSLESS.model_copy(update={"jpeg_quality": q})).data)
        for q in (20, 60, 90)
    ]
    assert sizes == sorted(sizes)
    assert sizes[-1] < len(data)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_keeps_depth_and_alpha(channels: int, dtype: type) -> None:
    random = np.random.default_rng(1)
    samples: NDArray[Any] = random.integers(0, np.iinfo(dtype).max, (20, 30, channels)).astype(dtype).squeeze()
    data = png_of(samples)
    image = images.decode(data, max_pixels=LIMIT).pixels.copy()
    changed = np.zeros((20, 30), bool)
    changed[5:9, 6:12] = True
    image[changed] = 77
    out = opencv(images.rewrite(data, image, changed, LOSSLESS).data)
    assert out.dtype == dtype
    assert np.array_equal(out[~changed], samples[~changed])
    colours = out[..., :3] if channels == 4 else out
    assert (colours[changed] == 77 * (257 if dtype == np.uint16 else 1)).all()
    if channels == 4:
        assert np.array_equal(out[..., 3], samples[..., 3])


def test_grey_png_takes_a_colour() -> None:
    data = png_of(np.full((8, 8), 200, np.uint8))
    image = images.decode(data, max_pixels=LIMIT).pixels.copy()
    changed = np.zeros((8, 8), bool)
    changed[2:4, 2:4] = True
    image[changed] = (255, 0, 0)
    out = images.rewrite(data, image, changed, LOSSLESS).data
    assert np.array_equal(images.decode(out, max_pixels=LIMIT).pixels, image)


def test_palette_png_without_changes() -> None:
    palette = Image.fromarray(picture(40, 30)).quantize(16)
    data = saved(palette, "PNG")
    pixels = images.decode(data, max_pixels=LIMIT).pixels
    out = images.rewrite(data, pixels, np.zeros((30, 40), bool), LOSSLESS).data
    assert np.array_equal(images.decode(out, max_pixels=LIMIT).pixels, pixels)


def test_fresh_thumbnail_shows_the_anonymised_picture() -> None:
    data = as_jpeg(400, 300)
    image = np.full((300, 400, 3), (250, 10, 10), np.uint8)
    out = images.rewrite(data, image, np.ones((300, 400), bool), LOSSLESS.model_copy(update={"thumbnail": True})).data
    (block,) = images.embedded(out).exif
    at = block.find(b"\xff\xd8")
    thumbnail = images.decode(block[at:], max_pixels=LIMIT).pixels
    assert piexif.load(out)["thumbnail"] == block[at:]
    assert thumbnail.shape == (120, 160, 3)
    assert np.abs(thumbnail.astype(int) - (250, 10, 10)).max() < 8


def test_sizes_must_fit() -> None:
    with pytest.raises(ValueError, match="64×48"):
        images.rewrite(as_jpeg(64, 48), np.zeros((48, 63, 3), np.uint8), np.zeros((48, 64), bool), LOSSLESS)


def test_threads_do_not_disturb_each_other() -> None:
    sources = [as_jpeg(150 + 8 * n, 120, progressive=bool(n % 2)) for n in range(4)]
    mask = [np.ones((120, 150 + 8 * n), bool) for n in range(4)]
    drawn = [images.decode(s, max_pixels=LIMIT).pixels for s in sources]
    expected = [images.rewrite(s, p, m, LOSSLESS).data for s, p, m in zip(sources, drawn, mask, strict=True)]
    wrong: list[int] = []

    def work(n: int) -> None:
        for _ in range(10):
            same = images.rewrite(sources[n], drawn[n], mask[n], LOSSLESS).data == expected[n]
            wrong.extend([] if same else [n])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_previews_and_masks() -> None:
    image = picture(40, 30)
    assert images.header(images.encode_jpeg(image)) == (40, 30, "jpeg", 1)
    mask = np.where(image[..., 0] > 100, np.uint8(255), np.uint8(0))
    assert np.array_equal(opencv(images.encode_png(mask)), mask)


@pytest.mark.parametrize("quality", [0, 101, True, "high", 90.5])
def test_options_out_of_range(quality: object) -> None:
    with pytest.raises(ValidationError):
        images.ImageOptions.model_validate({**LOSSLESS.model_dump(), "jpeg_quality": quality})


def test_thousands_of_scans_are_refused() -> None:
    """Each of them passes over the whole picture, however few bytes it has."""
    data = as_jpeg(progressive=True)
    last, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    several = data[:end] + 50 * data[last:end] + data[end:]
    assert images.decode(several, max_pixels=LIMIT).pixels.shape == (48, 64, 3)
    thousands = data[:end] + 5000 * data[last:end] + data[end:]
    with pytest.raises(UnreadableImage, match="scans"):
        images.decode(thousands, max_pixels=LIMIT)


def test_the_limit_of_pixels_counts_their_bytes() -> None:
    plain, deep = png_of(picture(40, 30)), png_of(picture(40, 30).astype(np.uint16) * 257)
    assert images.header(plain, max_pixels=1200).width == 40
    assert images.header(deep, max_pixels=2400).width == 40
    for limit, file in ((1199, plain), (2399, deep)):
        with pytest.raises(UnreadableImage, match="max_decoded_pixels"):
            images.header(file, max_pixels=limit)
        with pytest.raises(UnreadableImage, match="max_decoded_pixels"):
            images.decode(file, max_pixels=limit)


def test_compressed_metadata_that_swell_are_left_out() -> None:
    """Some kilobytes can become gigabytes."""
    swelling = zlib.compress(b"0" * (64 << 20), 9)
    keywords = (b"Raw profile type exif\0\0", b"Raw profile type xmp\0\0")
    chunks = [png.Chunk(b"zTXt", keyword + swelling) for keyword in keywords for _ in range(1000)]
    chunks += [png.Chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + swelling), png.Chunk(b"iCCP", b"x\0\0" + swelling)]
    head, *rest = png.parse(png_of(picture(40, 30)))
    data = png.assemble([head, *chunks, *rest])
    image = images.decode(data, max_pixels=LIMIT)
    out = images.rewrite(data, image.pixels, np.zeros((30, 40), bool), LOSSLESS)
    assert any("longer than" in note for note in out.notes)
    assert len(out.data) < 10_000
