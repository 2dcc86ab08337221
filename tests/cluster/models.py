"""Models for workers, which do what a test has written into a folder."""

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from anonymise.config import Config
from anonymise.core.detections import Instance, RgbImage
from tests.fakes import RedMasker

IDENTITY = "red"


class Red(RedMasker):
    """Takes red rectangles for cars. A picture whose first pixel is nearly black may be poison.

    The folder in the environment variable ANONYMISE_TEST_FAULTS says more: ``slow`` has seconds for each image.
    """

    def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
        yield from super().detect(map(self._look, images))

    def _look(self, image: RgbImage) -> RgbImage:
        folder = os.environ.get("ANONYMISE_TEST_FAULTS")
        if folder is not None and image.shape[:2] != (240, 240):  # the reference picture
            faults = Path(folder)
            if (faults / "poison").exists() and image[:8, :8].max() < 40:
                os._exit(9)
            if (faults / "slow").exists():
                time.sleep(float((faults / "slow").read_text()))
        return image


def load(_: Config) -> Red:
    return Red(IDENTITY)
