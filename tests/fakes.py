"""Stand-ins for what is slow, and small pictures."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from anonymise.batch.outcomes import Done, Failed, Outcome, Progress, Report, Skipped
from anonymise.config import Config
from anonymise.core.detections import Box, Detections, Instance, RgbImage, Size, full_mask
from anonymise.core.errors import StopError
from anonymise.core.projection import projection_of
from anonymise.detection.processor import ImageProcessor
from anonymise.models import Masker

_Kind = TypeVar("_Kind", bound=Outcome)

PERSON, CAR, BUS = 1, 3, 6


class RedMasker:
    """A masker that takes every red rectangle for a car: what it finds depends on the pixels that it is given.

    It lets tests of the pipeline draw the objects that are to be found.
    """

    def __init__(self, identity: str = "red") -> None:
        self.n_images = 0
        self.identity = identity

    def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
        for image in images:
            self.n_images += 1
            yield (self._cars(image),)

    @staticmethod
    def _cars(image: RgbImage) -> tuple[Instance, ...]:
        red, green = image[..., 0].astype(int), image[..., 1].astype(int)
        n, _, stats, _ = cv2.connectedComponentsWithStats(((red - green) > 100).astype(np.uint8))
        boxes = [Box(int(x), int(y), int(x + w), int(y + h)) for x, y, w, h, _ in stats[1:n]]
        return tuple(Instance(CAR, 0.9, box, full_mask(box)) for box in boxes)


def street(size: tuple[int, int] = (160, 120), cars: Sequence[Box] = (Box(40, 40, 90, 80),), seed: int = 0) -> RgbImage:
    """A textured picture (width, height) with red rectangles that `RedMasker` finds.

    The rectangles have a fine pattern, so that a test can see whether any of it survives.
    """
    width, height = size
    random = np.random.default_rng(seed)
    grey = random.integers(60, 200, (height // 8 + 1, width // 8 + 1), np.uint8)
    picture = cv2.cvtColor(cv2.resize(grey, (width, height), interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2RGB)
    for car in cars:
        picture[car.slices] = (250, 30, 30)
        pattern = random.integers(0, 2, (car.height, car.width), np.uint8) * 90
        picture[car.slices][..., 2] += pattern
    drawn: RgbImage = picture
    return drawn


def write_image(path: Path, picture: NDArray[np.integer], quality: int = 95) -> Path:
    """Writes an RGB or grey picture of 8 or 16 bits in the format of the file's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    # Not cv2.imwrite: on Windows it cannot write names outside of the local code page.
    done, data = cv2.imencode(path.suffix.lower(), stored, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    path.write_bytes(data.tobytes())
    return path


def read_image(path: Path) -> RgbImage:
    decoded = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    picture: RgbImage = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    return picture


class Ran(Progress):
    """What a run reported, and each of its outcomes, by path."""

    def __init__(self) -> None:
        self._outcomes: dict[Path, Outcome] = {}
        self.report: Report | None = None

    def finished(self, outcome: Outcome) -> None:
        self._outcomes[outcome.source] = outcome

    def changed(self, outcome: Outcome) -> None:
        self._outcomes[outcome.source] = outcome

    def _of(self, kind: type[_Kind]) -> list[_Kind]:
        return [outcome for _, outcome in sorted(self._outcomes.items()) if isinstance(outcome, kind)]

    @property
    def done(self) -> list[Done]:
        return self._of(Done)

    @property
    def skipped(self) -> list[Skipped]:
        return self._of(Skipped)

    @property
    def failed(self) -> list[Failed]:
        assert self.report is not None
        assert list(self.report.failed) == self._of(Failed)
        return self._of(Failed)

    @property
    def stopped(self) -> StopError | None:
        assert self.report is not None
        return self.report.stopped

    @property
    def objects(self) -> dict[str, int]:
        assert self.report is not None
        return dict(self.report.objects)


def found_in(picture: RgbImage, masker: Masker, loaded: Config) -> Detections:
    """What a masker finds in an upright picture, as a configuration has it look."""
    projection, _ = projection_of(loaded.projection, Size(picture.shape[1], picture.shape[0]), {})
    return ImageProcessor(masker, loaded.detection).detect(picture, projection)
