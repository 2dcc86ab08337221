"""What corrections hide: a plate across the seam of a 360° picture, and what is straight below the camera.

python -m samples.corrections SHEET
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from anonymise import Anonymiser, load_config
from anonymise.anonymiser import model_source
from anonymise.core.detections import RgbImage, Size
from anonymise.core.projection import Projection
from anonymise.corrections.source import CorrectedSource
from anonymise.corrections.store import Correction, Store
from anonymise.detection.gnomonic import View, halved, render
from anonymise.reports.angles import Picture, Viewer, outline
from anonymise.testing import FakeModel
from samples.contact_sheet import contact_sheet
from samples.scene import draw_panorama

__all__ = ["main"]

_SIZE = Size(4096, 2048)
_PLATE = {"box": [4065, 1164, 63, 17]}
"""Of the car on the seam: 31 pixels at the right edge, 32 at the left one."""

_BELOW = View(yaw=0.0, pitch=-np.pi / 2, fov=np.radians(100))
_CAMERA_M = 1.9


def main(sheet: Path) -> None:
    """Draws a panorama, corrects it, and writes a sheet of both parts before and after."""
    before = _with_operator(draw_panorama(3, _SIZE).image)
    rows = [("plate", _PLATE, "reviewer"), ("person", _reported(yaw=28.6, pitch=-86.0, radius=26.5), "passer-by")]
    after = _hidden(before, rows)
    pairs = [
        (_at_seam(before), _at_seam(after), "A plate across the seam, which is in the middle here"),
        (_below(before), _below(after), "A report at the nadir, seen straight down"),
    ]
    sheet.write_bytes(_encoded(contact_sheet(pairs, 800), sheet.suffix, cv2.IMWRITE_JPEG_QUALITY, 80))


def _encoded(picture: RgbImage, suffix: str, *options: int) -> bytes:
    done, data = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    assert done
    return bytes(data.tobytes())


def _hidden(picture: RgbImage, rows: Sequence[tuple[str, dict[str, Any], str]]) -> RgbImage:
    """The picture with corrections and nothing else: the model finds nothing."""
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder), create=True) as store:
        corrections = [
            Correction(
                relative="1.png",
                width=_SIZE.width,
                height=_SIZE.height,
                kind="add",
                category=category,
                shape=json.dumps(shape),
                source="review",
                batch="sample",
                author=author,
            )
            for category, shape, author in rows
        ]
        store.add(corrections, "samples")
        config = load_config(keys={"projection": "equirectangular"})
        source = CorrectedSource(model_source(FakeModel(), config), store, config.outlines)
        return Anonymiser(config, source=source).anonymise(_encoded(picture, ".png"), name="1.png").pixels


def _reported(yaw: float, pitch: float, radius: float) -> dict[str, Any]:
    """What one click becomes, in degrees."""
    picture = Picture(_SIZE, Projection((_SIZE.width, _SIZE.height), wraps=True))
    points, _ = outline([[yaw, pitch]], Viewer("pannellum"), picture, radius=radius)
    return {"polygon": points.tolist()}


def _with_operator(picture: RgbImage) -> RgbImage:
    """Somebody who carries the camera, seen from above."""
    lines, columns = np.mgrid[0 : _SIZE.height, 0 : _SIZE.width].astype(np.float32) + 0.5
    pitch = (lines / _SIZE.height - 0.5) * np.pi
    yaw = (columns / _SIZE.width - 0.5) * 2 * np.pi
    distance = np.where(pitch > 0.1, _CAMERA_M / np.tan(np.maximum(pitch, 0.1)), np.inf)
    x, z = distance * np.sin(yaw), distance * np.cos(yaw)
    drawn = picture.copy()
    for (left, ahead), (width, depth), colour in (
        ((0, 0), (0.75, 0.4), (200, 60, 40)),
        ((-0.45, 0.3), (0.16, 0.3), (190, 55, 36)),
        ((0.45, 0.3), (0.16, 0.3), (190, 55, 36)),
        ((0, 0.05), (0.3, 0.34), (92, 62, 42)),
    ):
        with np.errstate(invalid="ignore"):
            drawn[((x - left) / width) ** 2 + ((z - ahead) / depth) ** 2 < 1] = colour
    return drawn


def _at_seam(picture: RgbImage) -> RgbImage:
    return np.roll(picture, _SIZE.width // 2, axis=1)[1040:1250, 1908:2188]


def _below(picture: RgbImage) -> RgbImage:
    return render(halved(picture, 2), _BELOW, 480)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
