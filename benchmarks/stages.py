"""Every stage of the main job alone, in one process: the work that cannot be avoided."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple, TypeVar

from anonymise import config as configuration
from anonymise import draw, exif, images, record
from anonymise.detections import Instance, RgbImage, Size
from anonymise.images import dct, jpegfile
from anonymise.masker import Masker, load_masker
from anonymise.processor import ImageProcessor, projection_of

__all__ = ["Cost", "measure_stages"]

_T = TypeVar("_T")


class Cost(NamedTuple):
    """Seconds an image: by the clock, and of all cores together."""

    wall_s: float
    cpu_s: float


class _Watched:
    """A masker that keeps the pictures that it was shown."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self.identity = masker.identity
        self.shown: list[RgbImage] = []

    def detect(self, pictures: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
        self.shown = list(pictures)
        return self._masker.detect(self.shown)


def measure_stages(files: list[Path], config: str, overrides: Iterable[str] = ()) -> dict[str, Cost]:
    """The mean cost of each stage for some JPEG files, each file after a first round that is not counted.

    The stages that are done for each image are ``decode``, ``detect``, ``draw``, ``rewrite`` and ``record``; ``model``
    is the part of ``detect`` that the network takes on the same pictures, ``dct read`` and ``dct write`` are parts of
    ``rewrite``.
    """
    settings = configuration.load([Path(config)], list(overrides))
    masker = load_masker(settings.model, progress=False)
    watched = _Watched(masker)
    processor, watching = ImageProcessor(masker, settings), ImageProcessor(watched, settings)
    costs: dict[str, list[Cost]] = {}

    def timed(stage: str, call: Callable[[], _T]) -> _T:
        clock, cpu = time.perf_counter(), time.process_time()
        result = call()
        costs.setdefault(stage, []).append(Cost(time.perf_counter() - clock, time.process_time() - cpu))
        return result

    def one(file: Path) -> None:
        data = file.read_bytes()
        projection, _ = projection_of(data, settings)
        image = timed("decode", lambda: images.decode(data, max_pixels=10**9))
        found = timed("detect", lambda: processor.detect(image.pixels, projection))
        watching.detect(image.pixels, projection)
        timed("model", lambda: list(masker.detect(watched.shown)))
        pixels = image.pixels.copy()
        wraps = projection.wraps
        drawn = timed("draw", lambda: draw.draw(pixels, found, settings.appearance, wraps=wraps, in_place=True))
        timed("rewrite", lambda: images.rewrite(data, drawn.image, drawn.changed, settings.images))
        parsed = jpegfile.parse(data)
        grids = parsed.frame.grids()
        planes = timed("dct read", lambda: dct.read(parsed.picture, grids))
        coding = dct.Coding.STANDARD if parsed.fixed_codes else dct.Coding.OPTIMISED
        timed("dct write", lambda: dct.write(planes, grids, parsed.frame.width, parsed.frame.height, coding))
        size = Size(image.pixels.shape[1], image.pixels.shape[0])

        def write_record() -> str:
            source = exif.ImageSource.of(file, size, modified=datetime.now(timezone.utc), older=False)
            metadata = exif.read_metadata(images.embedded(data), source)
            return json.dumps(
                record.build_record(
                    metadata, detections={}, preview_name=None, version="benchmark", options=settings.record
                )
            )

        timed("record", write_record)

    for file in files[:1]:
        one(file)
    costs.clear()
    for file in files:
        one(file)
    return {
        stage: Cost(*(sum(column) / len(each) for column in zip(*each, strict=True))) for stage, each in costs.items()
    }
