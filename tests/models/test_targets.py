"""Faces and plates through the whole program: found, counted, drawn in their colours, saved, and drawn again."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from anonymise import config
from anonymise.batch import storage
from anonymise.batch.paths import Places
from anonymise.batch.runs import anonymise, redraw
from anonymise.batch.workers import SerialWorkers
from anonymise.core.classes import label_of
from anonymise.core.detections import Box, Instance, RgbImage, full_mask
from anonymise.metadata.record.schema import problems_of
from tests.fakes import read_image, street, write_image

_FACES = [Box(10, 10, 30, 34), Box(60, 10, 80, 34)]
_PLATE = Box(100, 80, 130, 90)


class FacesAndPlates:
    """Two models: the first finds two faces, the second a plate."""

    identity = "faces and plates"

    def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
        faces = tuple(Instance(label_of("face"), 0.9, box, full_mask(box)) for box in _FACES)
        plates = (Instance(label_of("plate"), 0.8, _PLATE, full_mask(_PLATE)),)
        return ((faces, plates) for _ in images)


def test_faces_and_plates_are_counted_drawn_and_saved_like_everything_else(tmp_path: Path) -> None:
    for folder in ("out", "archive", "again"):
        storage.prepare_root(tmp_path / folder)
    write_image(tmp_path / "in" / "1.png", street())
    places = Places(tmp_path / "in", tmp_path / "out", tmp_path / "archive")
    values = ["appearance=color", "mask_dilation_pixels=0", "archive_instances=True"]
    loaded = config.load(overrides=values, has_archive=True)
    report = anonymise(loaded, places, FacesAndPlates(), SerialWorkers())
    assert (report.n_done, dict(report.objects)) == (1, {"face": 2, "plate": 1})

    text = (tmp_path / "out" / "1.json").read_text("utf-8")
    assert problems_of(text) == ()
    record = json.loads(text)
    assert record["detekterte_objekter"] == {"face": "2", "plate": "1"}
    drawn = read_image(tmp_path / "out" / "1.png")
    colors = loaded.appearance.mask_colors
    for box, name in ((_FACES[0], "face"), (_FACES[1], "face"), (_PLATE, "plate")):
        assert (drawn[box.slices] == colors[name]).all(), name
    assert colors["face"] != colors["plate"]

    saved = json.loads((tmp_path / "archive" / "1_instances.json").read_text("utf-8"))
    assert [entry["category"] for entry in saved["instances"]] == ["face", "face", "plate"]
    redraw(loaded, Places(tmp_path / "archive", tmp_path / "again"), SerialWorkers())
    assert np.array_equal(read_image(tmp_path / "again" / "1.png"), drawn)
