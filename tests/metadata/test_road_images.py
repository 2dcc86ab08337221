"""The main job over real road images: nothing personal leaves, and nothing is worse than it needs to be."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anonymise import config
from anonymise.batch import storage
from anonymise.batch.paths import Places
from anonymise.batch.runs import anonymise, make_records
from anonymise.batch.workers import SerialWorkers
from anonymise.core.detections import Instance, RgbImage
from tests.fakes import RedMasker, read_image

pytestmark = pytest.mark.slow

_PERSONAL = ("TESTSJAAFOERXXXXX", "AA00001", "Generell")


class FindsNothing(RedMasker):
    @staticmethod
    def _cars(image: RgbImage) -> tuple[Instance, ...]:
        return ()


def everything_below(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_file_that_is_written_names_the_driver_the_car_or_the_comment(shared: Path, tmp_path: Path) -> None:
    road = shared / "images" / "road"
    originals = b"".join(everything_below(road).values())
    assert all(text.encode() in originals for text in _PERSONAL)  # there is something to hide
    loaded = config.load(overrides=["remote_preview=True", "remote_instances=True"])
    storage.prepare_root(tmp_path / "out")
    report = anonymise(loaded, Places(road, tmp_path / "out"), RedMasker(), SerialWorkers())
    assert (report.n_done, report.failed) == (3, ())
    written = everything_below(tmp_path / "out")
    assert len([path for path in written if ".anonymise" not in path.parts]) == 12
    for path, content in written.items():
        for text in _PERSONAL:
            for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
                assert text.encode(encoding) not in content, (path.name, text)


def test_an_image_in_which_nothing_is_found_keeps_its_pixels(shared: Path, tmp_path: Path) -> None:
    road = shared / "images" / "road"
    storage.prepare_root(tmp_path / "out")
    anonymise(config.load(), Places(road, tmp_path / "out"), FindsNothing(), SerialWorkers())
    for path in road.rglob("*.jpg"):
        after = tmp_path / "out" / path.relative_to(road)
        assert np.array_equal(read_image(path), read_image(after))
        with Image.open(after) as image:
            assert image.getexif()[40055]  # the road data stay


@pytest.mark.parametrize("name", ["Fy06_Ev134_hp05_f1_m03173"])
def test_the_expected_record_comes_out_of_the_whole_program(shared: Path, tmp_path: Path, name: str) -> None:
    road = shared / "images" / "road"
    storage.prepare_root(tmp_path / "out")
    make_records(config.load(), Places(road, tmp_path / "out"), SerialWorkers())
    (written,) = (tmp_path / "out").rglob(f"{name}.json")
    record = json.loads(written.read_text("utf-8"))
    expected = json.loads((shared / "spec" / "expected" / "road_2018_m03173.json").read_text("utf-8"))
    assert record["versjon"].startswith("P0.2_K")
    assert list(record) == list(expected)
    assert {**record, "versjon": None} == expected
