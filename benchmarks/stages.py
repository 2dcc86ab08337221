"""Every stage of the main job alone, in one process: the work that cannot be avoided."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from anonymise import config as configuration
from anonymise.anonymiser import Describer, Redactor, model_source, read_image
from anonymise.core.detections import Instance, RgbImage
from anonymise.images import dct, jpegfile
from anonymise.metadata import record
from anonymise.models import Masker, load_masker

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
    model, watching = model_source(masker, settings), model_source(watched, settings)
    redactor, describer = Redactor(settings), Describer(settings)
    costs: dict[str, list[Cost]] = {}

    def timed(stage: str, call: Callable[[], _T]) -> _T:
        clock, cpu = time.perf_counter(), time.process_time()
        result = call()
        costs.setdefault(stage, []).append(Cost(time.perf_counter() - clock, time.process_time() - cpu))
        return result

    def one(file: Path) -> None:
        data = file.read_bytes()
        image = timed("decode", lambda: read_image(data, settings, name=file.name))
        found = timed("detect", lambda: model.of(image.name).find(image))
        watching.of(image.name).find(image)
        timed("model", lambda: list(masker.detect(watched.shown)))
        writable = replace(image, pixels=image.pixels.copy())
        started = time.process_time()
        hidden = redactor.redact(writable, found)
        cpu = time.process_time() - started
        for stage, name in (("draw", "draw"), ("encode", "rewrite")):
            # One thread does both, so that the time of the clock tells how the cores' time is shared.
            share = hidden.seconds[stage] / sum(hidden.seconds.values())
            costs.setdefault(name, []).append(Cost(hidden.seconds[stage], cpu * share))
        parsed = jpegfile.parse(data)
        grids = parsed.frame.grids()
        planes = timed("dct read", lambda: dct.read(parsed.picture, grids))
        coding = dct.Coding.STANDARD if parsed.fixed_codes else dct.Coding.OPTIMISED
        timed("dct write", lambda: dct.write(planes, grids, parsed.frame.width, parsed.frame.height, coding))
        timed("record", lambda: record.dumps(describer.describe(data, image.size, file, None, objects={}).record))

    for file in files[:1]:
        one(file)
    costs.clear()
    for file in files:
        one(file)
    return {
        stage: Cost(*(sum(column) / len(each) for column in zip(*each, strict=True))) for stage, each in costs.items()
    }
