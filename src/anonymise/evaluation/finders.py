"""What was hidden in the images of an evaluation: by the model, by the masks of a run, or by its saved instances."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from anonymise.anonymiser import model_source, read_image
from anonymise.config import Config
from anonymise.core import saved_instances as instances
from anonymise.core.detections import Detections, Instance, RgbImage, Size
from anonymise.core.errors import ImageError, UnreadableImage
from anonymise.evaluation.tally import check_size
from anonymise.evaluation.truth import FileIndex, Found, Truth
from anonymise.models import CloseMasker, Masker, ModelOptions, load_masker

__all__ = ["Finder", "Memory", "by_instances", "by_masks", "by_model"]

Finder = Callable[[Truth], Found]
"""Tells what was hidden in an image, from its ground truth's name and size; raises `ImageError` where it cannot."""


def by_masks(masks: FileIndex[Path], missing: list[str]) -> Finder:
    """The exported masks of a run: PNG, 0 where the image was anonymised, 255 elsewhere.

    Args:
        masks: the files.
        missing: takes the names of the images without a mask, in which nothing counts as hidden.
    """

    def find(truth: Truth) -> Found:
        file = masks.find(truth.name)
        if file is None:
            missing.append(truth.name)
            return Found(np.zeros((truth.size.height, truth.size.width), np.bool_))
        encoded = np.frombuffer(_read(file), np.uint8)
        mask = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE) if encoded.size else None
        if mask is None:
            raise ImageError(f"the mask {file} cannot be decoded")
        check_size(truth, Size(mask.shape[1], mask.shape[0]))
        return Found(mask < 128)

    return find


def by_instances(files: FileIndex[Path], config: Config, missing: list[str]) -> Finder:
    """The saved instances of a run (``archive_instances``).

    Args:
        files: the files.
        config: gives the thresholds of the curves.
        missing: takes the names of the images without such a file, in which nothing counts as found.
    """

    def find(truth: Truth) -> Found:
        file = files.find(truth.name)
        if file is None:
            missing.append(truth.name)
            detections = Detections(truth.size)
        else:
            detections = instances.load(file, truth.size)
        return Found.of(detections, config.evaluation.evaluation_thresholds)

    return find


def by_model(config: Config, files: FileIndex[Path], *, curves: bool, progress: bool) -> Finder:
    """The configured model, run on each image as in the main job.

    For the curves the model looks once and keeps what it finds from the lowest threshold on. Everything that comes
    after the model is then done again at each threshold, so that the masks are those of a run with that threshold.

    Args:
        config: configuration of the run.
        files: the images.
        curves: whether the model is asked for everything from the lowest of ``evaluation_thresholds`` on.
        progress: whether fetching the model shows a bar.

    Raises:
        ModelError: the model is not available.
    """
    thresholds = config.evaluation.evaluation_thresholds
    wanted = config.model.score_threshold
    lowest = min(thresholds[0], *(wanted.values() if isinstance(wanted, Mapping) else [wanted]))
    options = config.model.model_copy(update={"score_threshold": lowest}) if curves else config.model
    masker = load_masker(options, progress=progress)

    def find(truth: Truth) -> Found:
        file = files.find(truth.name)
        if file is None:
            raise ImageError("there is no such image, or several in different folders, in the folder of images (-i)")
        data = _read(file)
        image = read_image(data, config)
        check_size(truth, image.size)
        memory = Memory(masker, takes_pictures=config.windows.mirror_image)

        def detect(threshold: float | Mapping[str, float]) -> Detections:
            options = config.model.model_copy(update={"score_threshold": threshold})
            memory.options = options
            return model_source(memory, replace(config, model=options)).of(truth.name).find(image)

        found = Found.of(detect(wanted))
        if not curves:
            return found
        levels = np.zeros(found.hidden.shape, np.uint8)
        for level, threshold in enumerate(thresholds, start=1):
            levels[detect(threshold).union()] = level
        return replace(found, levels=levels)

    return find


class Memory:
    """A masker that looks at one image once, and then gives what it found as with any higher threshold.

    Args:
        masker: finds everything from the lowest threshold on.
        takes_pictures: whether pictures must be taken even where their findings are known.

    Attributes:
        options: which findings are of use; None is all.
    """

    identity = ""

    def __init__(self, masker: Masker, *, takes_pictures: bool) -> None:
        self._masker = masker
        self._takes_pictures = takes_pictures
        close = masker if isinstance(masker, CloseMasker) else None
        self.parts = _Remembered(close.parts) if close and close.parts else None
        self.verifier = _Remembered(close.verifier) if close and close.verifier else None
        self._seen: list[tuple[tuple[Instance, ...], ...]] = []
        self._has_looked = False
        self.options: ModelOptions | None = None

    def detect(self, pictures: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
        """The instances of each picture, as `Masker.detect` gives them; the first call alone runs the model."""
        if self._has_looked:
            # Pictures are only taken where someone counts them: a view of a 360° image takes long to make.
            seen = zip(self._seen, pictures, strict=True) if self._takes_pictures else ((p, None) for p in self._seen)
            for passes, _ in seen:
                yield self._kept(passes)
            return
        for passes in self._masker.detect(pictures):
            self._seen.append(passes)
            yield self._kept(passes)
        self._has_looked = True

    def _kept(self, passes: tuple[tuple[Instance, ...], ...]) -> tuple[tuple[Instance, ...], ...]:
        options = self.options
        if options is None:
            return passes
        return tuple(tuple(i for i in one if i.score >= options.sought_from(i.label)) for one in passes)


class _Remembered:
    """A masker that looks at each picture once: at the same close-ups whatever the threshold that asks for them."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._seen: dict[bytes, tuple[tuple[Instance, ...], ...]] = {}
        self.identity = masker.identity

    def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
        pictures = [*images]
        keys = [hashlib.sha256(picture.tobytes()).digest() for picture in pictures]
        new = {key: picture for key, picture in zip(keys, pictures, strict=True) if key not in self._seen}
        self._seen.update(zip(new, self._masker.detect(new.values()), strict=True))
        return (self._seen[key] for key in keys)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"{file} cannot be read: {error.strerror or error}") from error
