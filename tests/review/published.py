"""Folders with published pictures, by real runs with a model that finds red rectangles."""

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from anonymise import config as configuration
from anonymise.batch import runs, storage
from anonymise.batch.paths import Places
from anonymise.batch.workers import SerialWorkers
from anonymise.config import Config
from anonymise.core.detections import Instance, RgbImage
from tests.fakes import Ran, RedMasker, write_image

PLAIN = ("mask_dilation_pixels=0", "enable_async=False", "file_access_timeout_seconds=0", "score_threshold=0.5")
"""Settings with which small pictures are done at once, and what is found is exactly what is hidden."""

FLAGS = ("remote_instances=True", "archive_instances=True")


class Unsure(RedMasker):
    """Is not sure of red rectangles that are less than 20 pixels wide."""

    def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
        for (found,) in super().detect(images):
            yield (tuple(replace(i, score=0.52 if i.box.width < 20 else 0.9) for i in found),)


def settings(*overrides: str) -> Config:
    return configuration.load(overrides=[*PLAIN, *overrides], has_archive=True)


def publish(folder: Path, pictures: Mapping[str, RgbImage | bytes], *overrides: str, model: str = "red") -> Ran:
    """Runs over pictures: ``folder/in`` → ``folder/out``, originals in ``folder/archive``."""
    for name, picture in pictures.items():
        file = folder / "in" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(picture, bytes):
            file.write_bytes(picture)
        else:
            write_image(file, np.asarray(picture))
    loaded = settings(*overrides)
    places = Places(folder / "in", folder / "out", folder / "archive")
    for root in places.results:
        storage.prepare_root(root)
    ran = Ran()
    ran.report = runs.anonymise(loaded, places, Unsure(model), SerialWorkers(), ran)
    return ran


def on_its_side(picture: RgbImage, orientation: int = 6) -> bytes:
    """A JPEG file of a picture that viewers turn."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", exif=exif.tobytes(), quality=95)
    return file.getvalue()
