"""Two thousand damaged pictures: each is done or reported, nothing hangs, nothing crashes, nothing raw comes out."""

import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anonymise import config
from anonymise.batch import storage
from anonymise.batch.paths import Places
from anonymise.batch.runs import anonymise
from anonymise.batch.workers import SerialWorkers
from anonymise.core.detections import Box
from tests.fakes import Ran, RedMasker, street

pytestmark = pytest.mark.slow

N_IMAGES = 2000


def seeds() -> list[tuple[str, bytes]]:
    """Small pictures in the codings that occur, with an ending each."""
    picture = Image.fromarray(street((64, 48), cars=[Box(10, 10, 40, 35)]))
    exif = Image.Exif()
    exif[0x0112], exif[0x9C9B] = 6, "title".encode("utf-16-le")
    forms: list[tuple[str, dict[str, object]]] = [
        ("jpg", {"quality": 90}),
        ("jpg", {"quality": 90, "progressive": True, "exif": exif}),
        ("jpg", {"quality": 75, "subsampling": 2, "restart_marker_blocks": 2}),
        ("png", {}),
        ("png", {"exif": exif, "optimize": True}),
    ]
    encoded = []
    for ending, options in forms:
        stream = io.BytesIO()
        picture.save(stream, "JPEG" if ending == "jpg" else "PNG", **options)
        encoded.append((ending, stream.getvalue()))
    for mode in ("L", "CMYK"):
        stream = io.BytesIO()
        picture.convert(mode).save(stream, "JPEG")
        encoded.append(("jpg", stream.getvalue()))
    return encoded


def damaged(data: bytes, dice: random.Random) -> bytes:
    """One of the ways in which files break: bits, blocks, lengths, ends."""
    broken = bytearray(data)
    for _ in range(dice.choice([1, 1, 2, 5, 30])):
        at = dice.randrange(len(broken))
        match dice.randrange(6):
            case 0:
                broken[at] ^= 1 << dice.randrange(8)
            case 1:
                broken[at] = dice.choice([0, 0xFF, 0x7F, 0xD8, 0xD9])
            case 2:
                del broken[at : at + dice.randrange(1, 40)]
            case 3:
                broken[at:at] = dice.randbytes(dice.randrange(1, 40))
            case 4:
                broken[at : at + 2] = dice.choice([b"\xff\xff", b"\x00\x00", b"\xff\xc0", b"\xff\xda", b"\x80\x00"])
            case _:
                broken = broken[: max(1, at)]
        if not broken:
            broken = bytearray(b"\x00")
    return bytes(broken)


def test_two_thousand_damaged_pictures(tmp_path: Path) -> None:
    dice = random.Random(11)
    originals = seeds()
    (tmp_path / "in").mkdir()
    storage.prepare_root(tmp_path / "out")
    for number in range(N_IMAGES):
        ending, data = dice.choice(originals)
        (tmp_path / "in" / f"{number:04}.{ending}").write_bytes(damaged(data, dice))
    loaded = config.load(overrides=["max_failures_in_a_row=null", "max_decoded_pixels=10000000", "remote_preview=True"])
    ran = Ran()
    ran.report = anonymise(loaded, Places(tmp_path / "in", tmp_path / "out"), RedMasker(), SerialWorkers(), ran)

    assert ran.stopped is None
    done, failed = ran.done, ran.failed
    assert len(done) + len(failed) == N_IMAGES
    assert len(done) > 200  # some damage does no harm ...
    assert len(failed) > 500  # ... and some does
    assert not [f for f in failed if "unexpected" in f.reason], "an error that nobody thought of"
    # What is done can be opened, and what failed left nothing.
    for outcome in done:
        with Image.open(tmp_path / "out" / outcome.source.name) as image:
            assert np.asarray(image).size
    written = {path.stem for path in (tmp_path / "out").glob("*.*") if path.is_file()}
    assert not written & {o.source.stem for o in failed}
