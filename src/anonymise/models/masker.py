"""From what a network finds to the instances that are to be hidden."""

import itertools
import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from anonymise.core.classes import LABELS
from anonymise.core.detections import Box, Instance, RgbImage, Size, full_mask
from anonymise.models.fetch import fetch
from anonymise.models.network import Found, Network
from anonymise.models.options import ModelOptions, of_class
from anonymise.models.origin import verify
from anonymise.models.runtimes import load_network
from anonymise.models.selection import Chosen, select

__all__ = ["CloseMasker", "Masker", "ModelMasker", "load_masker", "model_identity"]

log = logging.getLogger(__name__)

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

        Images are taken while the work proceeds, so that the next ones can be made while the model is busy.

        Raises:
            ModelError: the model cannot be run.
        """
        ...


@runtime_checkable
class CloseMasker(Masker, Protocol):
    """A `Masker` with others for close-ups of what it found.

    Attributes:
        parts: finds the parts of an object; None where no parts are looked for.
        verifier: finds the object once more; None where nothing is verified.
    """

    parts: Masker | None
    verifier: Masker | None


class ModelMasker:
    """A `CloseMasker` around one network or several, each of which sees every image.

    Args:
        networks: the models, ready to run.
        sought: class ids that are kept.
        options: thresholds, padding and the largest image.
        identity: as in `Masker`.
        thresholds: class id → score that detections must reach, instead of those of the options.
        parts: as in `CloseMasker`.
        verifier: as in `CloseMasker`.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        sought: frozenset[int],
        options: ModelOptions,
        identity: str,
        *,
        thresholds: Mapping[int, float] | None = None,
        parts: Masker | None = None,
        verifier: Masker | None = None,
    ) -> None:
        self._networks = tuple(networks)
        self.identity = identity
        self.parts = parts
        self.verifier = verifier
        self._thresholds = _by_class(options.score_threshold, sought) if thresholds is None else thresholds
        self._padding = _by_class(options.box_padding, sought)
        self._max_num_pixels = options.max_num_pixels

    def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
        """The objects of each image, in its own coordinates: one tuple of instances for each look of each network."""
        sizes: deque[Size] = deque()

        def inputs() -> Iterator[RgbImage]:
            for image in images:
                sizes.append(Size(image.shape[1], image.shape[0]))
                yield self._small_enough(image)

        # What one network has taken and another has not yet is kept; as they advance together, that is little.
        shared = itertools.tee(inputs(), len(self._networks))
        for found in zip(*(network(own) for network, own in zip(self._networks, shared, strict=True)), strict=True):
            size = sizes.popleft()
            yield tuple(self._instances(one, size) for looks in found for one in looks)

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
        thresholds = np.array([self._thresholds.get(label, math.inf) for label in found.labels.tolist()])
        instances = []
        for index in np.flatnonzero(found.scores >= thresholds):
            label = int(found.labels[index])
            top, left, bottom, right = (found.boxes[index] * (height, width, height, width)).tolist()
            if found.masks is None:
                more = self._padding[label] * (bottom - top), self._padding[label] * (right - left)
                top, left, bottom, right = top - more[0], left - more[1], bottom + more[0], right + more[1]
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
            instances.append(Instance(label, float(found.scores[index]), box, mask))
        return tuple(instances)


def _by_class(value: float | Mapping[str, float], labels: Iterable[int]) -> dict[int, float]:
    return {label: of_class(value, label) for label in labels}


def _paste(probabilities: NDArray[np.floating], box: Box, visible: Box) -> NDArray[np.bool_]:
    """The mask of the visible part of a box, from the network's small mask of the whole box."""
    resized = cv2.resize(probabilities.astype(np.float32), (box.width, box.height), interpolation=cv2.INTER_LINEAR)
    inside: NDArray[np.bool_] = resized > _MASK_THRESHOLD
    return inside[visible.within(box).slices]


_VERIFIED_FROM = 0.1
"""Score from which on the verifier's finds count; lower ones would not change a sum of two scores by much."""


def load_masker(options: ModelOptions, *, progress: bool) -> ModelMasker:
    """The masker that the configuration asks for; fetches its models at first use.

    Raises:
        ModelError: a model is not available, is damaged, or cannot be loaded.
    """
    selection = select(options)
    for warning in selection.warnings:
        log.warning(warning)
    for model in selection.all:
        if model.entry is not None:
            fetch(model.name, model.entry, model.folder.parent, progress=progress)
            verify(model.folder)
    thresholds = {label: options.sought_from(label) for label in selection.sought}
    load = partial(_loaded, options)
    parts = None
    if selection.parts:
        parts = load(
            selection.parts, _by_class(options.score_threshold, options.wholes), "in close-ups of what has them"
        )
    verifier = None
    if selection.verifier is not None:
        all_alike = dict.fromkeys(selection.sought, _VERIFIED_FROM)
        verifier = load([selection.verifier], all_alike, "in close-ups of what the others are not sure of")
    return load(
        selection.models, thresholds, "in every picture", selection.identity or "", parts=parts, verifier=verifier
    )


def _loaded(
    options: ModelOptions,
    models: Sequence[Chosen],
    thresholds: Mapping[int, float],
    where: str,
    identity: str = "",
    *,
    parts: Masker | None = None,
    verifier: Masker | None = None,
) -> ModelMasker:
    networks = []
    for model in models:
        names = ", ".join(LABELS[label] for label in sorted(model.labels & thresholds.keys()))
        log.info("Loading the model %s, which finds %s: %s", model.name, where, names)
        networks.append(load_network(model.folder, model.detector, options, thresholds))
    return ModelMasker(
        networks,
        frozenset(thresholds),
        options,
        identity,
        thresholds=thresholds,
        parts=parts,
        verifier=verifier,
    )


def model_identity(options: ModelOptions) -> str | None:
    """The ``identity`` that the masker would have, without loading it; None while a model is not fetched.

    Raises:
        ModelError: there is no such model.
    """
    return select(options).identity
