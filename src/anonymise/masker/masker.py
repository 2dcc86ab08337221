"""From what a network finds to the instances that are to be hidden."""

import itertools
import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from anonymise.detections import Box, Instance, RgbImage, Size, full_mask
from anonymise.errors import ModelError
from anonymise.labels import COCO
from anonymise.masker.catalog import BoxModel, InstanceModel, load_catalog
from anonymise.masker.fetch import ORIGIN, fetch, is_fetched
from anonymise.masker.network import Found, Network
from anonymise.masker.options import ModelOptions
from anonymise.masker.runtimes import load_network
from anonymise.resources import CATALOG, default_model_folder

__all__ = ["Masker", "ModelMasker", "load_masker", "model_folder", "model_identity"]

_MASK_THRESHOLD = 0.5
"""Pixels with a higher mask probability belong to the object, as in the Mask R-CNN paper (He et al. 2017, 3.1)."""


class Masker(Protocol):
    """Finds what is to be hidden."""

    @property
    def identity(self) -> str:
        """A text that is another for a model that may find something else."""
        ...

    def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
        """The objects of each image, in its own coordinates: one tuple of instances for each model.

        Images are taken as the work gets on, so that the next ones can be made while the model is busy.

        Raises:
            ModelError: the model cannot be run.
        """
        ...


class ModelMasker:
    """A `Masker` around one network or several, each of which sees every image."""

    def __init__(self, networks: Sequence[Network], options: ModelOptions, identity: str) -> None:
        self._networks = tuple(networks)
        self.identity = identity
        self._labels = frozenset(number for number, name in COCO.items() if name in options.mask_classes)
        self._score_threshold = options.score_threshold
        self._max_num_pixels = options.max_num_pixels

    def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
        """The objects of each image, in its own coordinates: one tuple of instances for each network."""
        sizes: deque[Size] = deque()

        def inputs() -> Iterator[RgbImage]:
            for image in images:
                sizes.append(Size(image.shape[1], image.shape[0]))
                yield self._small_enough(image)

        # What one network has taken and another has not yet is kept; as they advance together, that is little.
        shared = itertools.tee(inputs(), len(self._networks))
        for found in zip(*(network(own) for network, own in zip(self._networks, shared, strict=True)), strict=True):
            size = sizes.popleft()
            yield tuple(self._instances(one, size) for one in found)

    def _small_enough(self, image: RgbImage) -> RgbImage:
        height, width = image.shape[:2]
        scale = math.sqrt(self._max_num_pixels / (height * width))
        if scale >= 1:
            return image
        size = max(1, math.floor(width * scale)), max(1, math.floor(height * scale))
        smaller: RgbImage = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return smaller

    def _instances(self, found: Found, size: Size) -> tuple[Instance, ...]:
        """The objects of one image that are to be hidden, in its pixels, whatever size the network saw it in."""
        width, height = size
        instances = []
        for index in np.flatnonzero((found.scores >= self._score_threshold) & np.isin(found.labels, [*self._labels])):
            top, left, bottom, right = (found.boxes[index] * (height, width, height, width)).tolist()
            # Outwards to whole pixels: a pixel that the object touches is hidden.
            outer = (math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom))
            inside = (max(0, outer[0]), max(0, outer[1]), min(width, outer[2]), min(height, outer[3]))
            if inside[0] >= inside[2] or inside[1] >= inside[3]:
                continue
            box = Box(*inside)
            mask = full_mask(box)
            if found.masks is not None:
                mask = _paste(found.masks[index], Box(*outer), box)
                if not mask.any():
                    continue
            instances.append(Instance(int(found.labels[index]), float(found.scores[index]), box, mask))
        return tuple(instances)


def _paste(probabilities: NDArray[np.floating], box: Box, visible: Box) -> NDArray[np.bool_]:
    """The mask of the visible part of a box, from the network's small mask of the whole box."""
    resized = cv2.resize(probabilities.astype(np.float32), (box.width, box.height), interpolation=cv2.INTER_LINEAR)
    inside: NDArray[np.bool_] = resized > _MASK_THRESHOLD
    return inside[visible.within(box).slices]


def model_folder(options: ModelOptions) -> Path:
    """The folder that holds the fetched models."""
    return Path(options.model_folder) if options.model_folder else default_model_folder()


def load_masker(options: ModelOptions, *, progress: bool) -> ModelMasker:
    """The masker that the configuration asks for; fetches its model at first use.

    Raises:
        ModelError: the model cannot be had or loaded.
    """
    model = _catalogued(options)
    if model is None:
        folder, graph = Path(options.model_type), None
    else:
        folder = fetch(options.model_type, model, model_folder(options), progress=progress)
        graph = model.graph if isinstance(model, BoxModel) else None
    return ModelMasker([load_network(folder, graph, options)], options, _identity(folder))


def model_identity(options: ModelOptions) -> str | None:
    """The ``identity`` that the masker would have, without loading it; None while its model is not fetched.

    Raises:
        ModelError: there is no such model.
    """
    if _catalogued(options) is None:
        return _identity(Path(options.model_type))
    folder = model_folder(options)
    return _identity(folder / options.model_type) if is_fetched(options.model_type, folder) else None


def _catalogued(options: ModelOptions) -> BoxModel | InstanceModel | None:
    """The catalog's entry of the model; None for a folder of the operator's own."""
    models = load_catalog(CATALOG)
    name = options.model_type
    if name in models:
        return models[name]
    if Path(name).is_dir():
        return None
    raise ModelError(
        f"model_type {name!r} is neither a model of the catalog ({', '.join(models)}) nor the folder of a SavedModel."
    )


def _identity(folder: Path) -> str:
    """What a model folder holds: of fetched models their checksums, of others names, sizes and times of the files."""
    origin = folder / ORIGIN
    if origin.is_file():
        return str(json.loads(origin.read_text("utf-8"))["sha256"])
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return "\n".join(f"{p.relative_to(folder)} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in files)
