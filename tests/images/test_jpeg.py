"""Lossless replacement of regions, over the matrix of samplings, codings and sizes."""

import importlib.metadata
import io
import os
from pathlib import Path

import cv2
import jpeglib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from anonymise import images
from anonymise.core.detections import Mask, RgbImage
from anonymise.core.errors import UnreadableImage
from anonymise.images import dct, jpeg, jpegfile, jpegsegments

SHARED = Path(os.environ.get("ANONYMISE_SHARED", Path(__file__).parents[3] / "shared"))
SAMPLINGS = {"4:4:4": 0x111111, "4:2:2": 0x211111, "4:2:0": 0x221111, "4:4:0": 0x121111, "4:1:1": 0x411111, "grey": 0}
SIZES = [(64, 48), (67, 51), (1, 1), (16, 9), (131, 17)]


def picture(width: int, height: int, seed: int = 0) -> RgbImage:
    """A picture with shapes, colours and some noise, as a camera sees them."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 255, (max(2, height // 8), max(2, width // 8), 3), np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    noisy: RgbImage = np.clip(smooth + random.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)
    return noisy


def encode(
    pixels: RgbImage,
    sampling: str,
    progressive: bool = False,
    restart: int = 0,
    quality: int = 90,
    optimise: bool = False,
) -> bytes:
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)]
    flags += [cv2.IMWRITE_JPEG_RST_INTERVAL, restart, cv2.IMWRITE_JPEG_OPTIMIZE, int(optimise)]
    if sampling == "grey":
        return cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), flags)[1].tobytes()
    flags += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLINGS[sampling]]
    return cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), flags)[1].tobytes()


def opencv(data: bytes) -> RgbImage:
    decoded: RgbImage | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert decoded is not None
    return decoded


def coefficients(data: bytes, folder: Path) -> list[NDArray[np.int16]]:
    """The blocks of all components as jpeglib's own reader has them: (rows, columns, 8, 8)."""
    path = folder / "read.jpg"
    path.write_bytes(data)
    read = jpeglib.read_dct(str(path))
    planes: list[NDArray[np.int16] | None] = [read.Y, read.Cb, read.Cr]
    return [plane for plane in planes if plane is not None]


def replaced(data: bytes, image: RgbImage, changed: Mask) -> bytes:
    file = jpegfile.parse(data)
    return jpegsegments.assemble(jpeg.replace_regions(file, image, changed), file.colour_segments())


def inverted_ellipse(pixels: RgbImage) -> tuple[RgbImage, Mask]:
    """The picture with an ellipse in it whose every pixel is far from what was there."""
    height, width = pixels.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, (width // 2, height // 2), (max(1, width // 7), max(1, height // 5)), 20, 0, 360, 1, -1)
    changed = mask.astype(bool)
    grey = pixels.mean(axis=2, keepdims=True)
    return np.where(changed[..., None], np.where(grey < 128, 235, 20), pixels).astype(np.uint8), changed


def touched_by(changed: Mask, blocks: NDArray[np.int16]) -> Mask:
    """Which blocks of a component a changed pixel lies in, pixel by pixel."""
    rows, columns = blocks.shape[:2]
    height, width = changed.shape
    touched = np.zeros((rows, columns), bool)
    for y, x in zip(*np.nonzero(changed), strict=True):
        touched[y // step(height, rows), x // step(width, columns)] = True
    return touched


def step(pixels: int, blocks: int) -> int:
    """Pixels of one block: the factor, of those that exist, with which so many blocks cover the picture."""
    return next(8 * f for f in (1, 2, 4) if -(-pixels // (8 * f)) == blocks)


@pytest.mark.parametrize("restart", [0, 1, 3])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_untouched_blocks_stay_bit_for_bit(sampling: str, progressive: bool, restart: int, tmp_path: Path) -> None:
    for size in SIZES:
        data = encode(picture(*size), sampling, progressive, restart)
        image, changed = inverted_ellipse(opencv(data))
        out = replaced(data, image, changed)
        before, after = coefficients(data, tmp_path), coefficients(out, tmp_path)
        assert len(before) == len(after)
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            touched = touched_by(changed, old)
            assert old.shape == new.shape
            assert np.array_equal(old[~touched], new[~touched])
            if number == 0:
                assert (old[touched] != new[touched]).any(axis=(1, 2)).all()
        decoded = opencv(out)
        assert (decoded != opencv(data)).any(axis=2)[changed].all()
        assert np.abs(decoded.astype(int) - image)[changed].mean() < 25


def test_pixels_far_from_the_mask_decode_as_before() -> None:
    data = encode(picture(200, 160), "4:2:0")
    pixels = opencv(data)
    changed = np.zeros((160, 200), bool)
    changed[50:90, 70:110] = True
    image = np.where(changed[..., None], 0, pixels).astype(np.uint8)
    differs = (opencv(replaced(data, image, changed)) != pixels).any(axis=2)
    # MCUs of 16×16: rows 48 to 95, columns 64 to 111. Smoothed chroma reaches two pixels beyond.
    near = np.zeros_like(changed)
    near[46:98, 62:114] = True
    assert not differs[~near].any()
    assert differs[changed].all()


def test_new_pixels_do_not_depend_on_what_was_there() -> None:
    """What was under the mask is nowhere in the output: two originals that differ there alone come out the same."""
    for sampling in SAMPLINGS:
        base = encode(picture(96, 80), sampling, quality=95)
        pixels = opencv(base)
        changed = np.zeros((80, 96), bool)
        changed[32:48, 32:64] = True  # whole MCUs, so that the second original has the same blocks elsewhere
        other = np.where(changed[..., None], picture(96, 80, seed=9), pixels).astype(np.uint8)
        second = replaced(base, other, changed)
        black = np.where(changed[..., None], 0, pixels).astype(np.uint8)
        assert replaced(base, black, changed) == replaced(second, black, changed)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_nothing_changed_nothing_lost(sampling: str, tmp_path: Path) -> None:
    data = encode(picture(75, 53), sampling, restart=2)
    out = replaced(data, opencv(data), np.zeros((53, 75), bool))
    assert all(map(np.array_equal, coefficients(data, tmp_path), coefficients(out, tmp_path)))
    assert np.array_equal(opencv(data), opencv(out))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from(sorted(SAMPLINGS)), st.integers(0, 2**32 - 1))
def test_any_size_and_mask(width: int, height: int, sampling: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    data = encode(picture(width, height, seed), sampling)
    pixels = opencv(data)
    changed = random.random((height, width)) < random.choice([0.001, 0.02, 0.5])
    image = np.where(changed[..., None], 255 - pixels, pixels).astype(np.uint8)
    file, out = jpegfile.parse(data), jpegfile.parse(replaced(data, image, changed))
    assert (out.frame.width, out.frame.height) == (width, height)
    grids = file.frame.grids()
    for old, new, grid in zip(dct.read(file.picture, grids), dct.read(out.picture, grids), grids, strict=True):
        cell_h, cell_w = 8 * file.frame.max_v // grid.v, 8 * file.frame.max_h // grid.h
        padded = np.zeros((grid.rows * cell_h, grid.columns * cell_w), bool)
        padded[:height, :width] = changed
        touched = padded.reshape(grid.rows, cell_h, grid.columns, cell_w).any(axis=(1, 3))
        assert np.array_equal(old.table, new.table)
        assert np.array_equal(old.blocks[~touched], new.blocks[~touched])


@pytest.mark.parametrize("quality", [30, 75, 90, 98])
@pytest.mark.parametrize("coding", ["standard", "optimised", "progressive"])
def test_size_stays(coding: str, quality: int) -> None:
    data = encode(picture(640, 480), "4:2:0", coding == "progressive", 0, quality, coding == "optimised")
    pixels = opencv(data)
    changed = np.zeros((480, 640), bool)
    changed[100:200, 200:480] = True  # 9 %
    image = np.where(changed[..., None], cv2.blur(pixels, (41, 41)), pixels).astype(np.uint8)
    assert len(replaced(data, image, changed)) <= 1.05 * len(data)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_any_decoder_reads_it_without_a_warning(sampling: str, capfd: pytest.CaptureFixture[str]) -> None:
    for progressive in (False, True):
        data = encode(picture(90, 70), sampling, progressive)
        out = replaced(data, *inverted_ellipse(opencv(data)))
        by_pillow = np.asarray(Image.open(io.BytesIO(out)).convert("RGB"))
        assert np.abs(by_pillow.astype(int) - opencv(out)).max() <= 1
        file = jpegfile.parse(out)
        dct.read(file.picture, file.frame.grids())  # libjpeg-turbo, which writes its warnings to stderr
    assert capfd.readouterr() == ("", "")


def test_rgb_jpeg() -> None:
    """Components that are red, green and blue are neither converted nor mistaken for Y, Cb, Cr."""
    buffer = io.BytesIO()
    Image.fromarray(picture(64, 64)).save(buffer, "JPEG", quality=95, keep_rgb=True)
    data = buffer.getvalue()
    file = jpegfile.parse(data)
    assert file.is_rgb
    pixels = opencv(data)
    changed = np.zeros((64, 64), bool)
    changed[16:32, 16:32] = True
    image = np.where(changed[..., None], np.array([200, 100, 30], np.uint8), pixels).astype(np.uint8)
    out = opencv(replaced(data, image, changed))
    assert np.abs(out.astype(int) - image)[changed].max() <= 4
    assert np.array_equal(out[~changed], pixels[~changed])


def test_three_quantisation_tables() -> None:
    buffer = io.BytesIO()
    tables = [[k + 1] * 64 for k in (1, 4, 7)]
    Image.fromarray(picture(64, 48)).save(buffer, "JPEG", qtables=tables, subsampling=2)
    data = buffer.getvalue()
    image, changed = inverted_ellipse(opencv(data))
    out = jpegfile.parse(replaced(data, image, changed))
    assert [int(p.table[0]) for p in dct.read(out.picture, out.frame.grids())] == [2, 5, 8]


def test_component_ids_stay() -> None:
    data = bytearray(encode(picture(32, 32), "4:2:0"))
    for marker, offset, stride in ((b"\xff\xc0", 10, 3), (b"\xff\xda", 5, 2)):
        at = data.find(marker)
        for number in range(3):
            data[at + offset + stride * number] = 40 + number
    file = jpegfile.parse(bytes(data))
    out = jpegfile.parse(replaced(bytes(data), opencv(bytes(data)), np.ones((32, 32), bool)))
    assert [c.identifier for c in out.frame.components] == [40, 41, 42] == [c.identifier for c in file.frame.components]


@pytest.mark.parametrize("coding", dct.Coding)
def test_codings_hold_the_same_coefficients(coding: dct.Coding) -> None:
    file = jpegfile.parse(encode(picture(100, 60), "4:2:0"))
    grids = file.frame.grids()
    planes = dct.read(file.picture, grids)
    again = dct.read(dct.write(planes, grids, 100, 60, coding), grids)
    assert all(np.array_equal(a.blocks, b.blocks) for a, b in zip(planes, again, strict=True))


def test_broken_streams_raise_and_do_not_crash(capfd: pytest.CaptureFixture[str]) -> None:
    file = jpegfile.parse(encode(picture(64, 48), "4:2:0"))
    grids = file.frame.grids()
    for broken in (b"", b"no picture", file.picture[:40], file.picture[:300]):
        with pytest.raises(dct.CodecError, match="libjpeg"):
            dct.read(broken, grids)
    capfd.readouterr()  # libjpeg says why


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "æøå 10%"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    data = encode(picture(64, 48), "4:2:0")
    replaced(data, *inverted_ellipse(opencv(data)))
    with pytest.raises(dct.CodecError, match="libjpeg"):
        dct.read(b"no picture", jpegfile.parse(data).frame.grids())
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("progressive", [False, True])
def test_truncated_files_are_refused(progressive: bool, keep: float) -> None:
    data = encode(picture(64, 48), "4:2:0", progressive)
    with pytest.raises(UnreadableImage, match="truncated"):
        images.decode(data[: int(keep * len(data))], max_pixels=10**6)


def test_missing_scans_are_noticed() -> None:
    data = encode(picture(64, 48), "4:2:0", progressive=True)
    last = data.rfind(b"\xff\xda")
    cut = data.rfind(b"\xff\xc4", 0, last)
    with pytest.raises(UnreadableImage, match="scans"):
        jpegfile.parse(data[:cut] + b"\xff\xd9")


def test_road_images(tmp_path: Path) -> None:
    images = sorted((SHARED / "images" / "road").rglob("*.jpg"))
    if not images:
        pytest.skip(f"no road images in {SHARED}")
    for path in images:
        data = path.read_bytes()
        pixels = opencv(data)
        changed = np.zeros(pixels.shape[:2], bool)
        changed[500:700, 900:1500] = True
        image = np.where(changed[..., None], cv2.blur(pixels, (61, 61)), pixels).astype(np.uint8)
        out = replaced(data, image, changed)
        assert abs(len(out) / len(data) - 1) < 0.05
        for old, new in zip(coefficients(data, tmp_path), coefficients(out, tmp_path), strict=True):
            side = step(len(changed), len(old))
            touched = np.zeros(old.shape[:2], bool)
            touched[500 // side : -(-700 // side), 900 // side : -(-1500 // side)] = True
            assert np.array_equal(old[~touched], new[~touched])


def test_the_private_names_of_jpeglib_are_those_of_the_version_that_is_asked_for() -> None:
    """`images.dct` calls the C library of jpeglib 1.0 by names that may change with the next version."""
    from jpeglib._bind import CJpegLib

    assert importlib.metadata.version("jpeglib").startswith("1.0."), "read images/dct.py with the new version"
    assert "OPTIMIZE_CODING" in CJpegLib.MASKS
    library = CJpegLib._bind_lib(version="6b")
    assert all(hasattr(library, name) for name in ("read_jpeg_dct", "write_jpeg_dct"))
