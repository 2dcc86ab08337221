"""Networks that find boxes, as the catalog describes them, whatever runs them."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from anonymise.detections import RgbImage, Size
from anonymise.labels import kind_of
from anonymise.masker.catalog import DetectorModel, ScalableSize
from anonymise.masker.fitting import Fit, fit_of, fitted
from anonymise.masker.layouts import Candidates, Tensors, decode
from anonymise.masker.network import Found

__all__ = ["DetectorNetwork", "Run"]

Run = Callable[[Iterable[RgbImage]], Iterator[Tensors]]
"""Runs a network on pictures of a size that it takes, uint8 (height, width, 3), as it gets on with the work.

What the network wants in place of such pictures (order of axes and channels, mean and deviation) is the runtime's work.
"""

_NONE_OF_INTEREST = np.inf

_NOTHING = Found(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

_MAX_ENLARGEMENT = 1.6
"""Of an image, by its sides, in a picture that is larger than another one: beyond, nothing more is found at the same
over-blur; see ``docs/accuracy.md``."""

_COINCIDE = 0.9
"""Intersection over union of boxes of one object, which differ by a pixel or two."""


class DetectorNetwork:
    """Fits images to the network's input, runs it, and keeps the best boxes of each class.

    Args:
        run: the network.
        model: its entry in the catalog.
        thresholds: class id → score that its boxes must reach; other classes are left out.
        nms_iou_threshold: of two boxes of one class that overlap more than this (intersection over union), the one
            with the lower score is dropped.
        scales: of the pictures' sides, each a look of its own; several for networks that take pictures of many sizes
            only. The catalog's entry may have its own instead.

    Raises:
        ModelError: the network's outputs do not fit the entry.
    """

    def __init__(
        self,
        run: Run,
        model: DetectorModel,
        *,
        thresholds: Mapping[int, float],
        nms_iou_threshold: float,
        scales: Sequence[float] = (1.0,),
    ) -> None:
        self._run = run
        self._model = model
        self._scales = model.input.scales or scales
        self._labels = np.array([label or 0 for label in model.columns], np.int64)
        self._thresholds = np.array(
            [thresholds.get(label or 0, _NONE_OF_INTEREST) for label in model.columns], np.float32
        )
        self._kinds = np.array([kind_of(label) for label in self._labels.tolist()])
        self._nms_iou_threshold = nms_iou_threshold
        # Better at the start than at the first image.
        next(self([np.zeros((64, 64, 3), np.uint8)]))

    def __call__(self, images: Iterable[RgbImage]) -> Iterator[tuple[Found, ...]]:
        """What is in each of the images, at each of the scales."""
        waiting: deque[tuple[Fit | None, ...]] = deque()

        def pictures() -> Iterator[RgbImage]:
            for image in images:
                fits = self._fits(Size(image.shape[1], image.shape[0]))
                waiting.append(fits)
                yield from (fitted(image, fit, self._model.input.padding) for fit in fits if fit is not None)

        results = self._run(pictures())
        # The runtime has begun with the pictures of an image, and of the next, when it gives the first result.
        for first in results:
            tensors = itertools.chain([first], results)
            yield tuple(_NOTHING if fit is None else self._found(next(tensors), fit) for fit in waiting.popleft())

    def _fits(self, image: Size) -> tuple[Fit | None, ...]:
        """Where an image lies in its pictures; None where it is not looked at, which the smallest scale never is."""
        wanted = self._model.input
        is_limited = wanted.scales is None and isinstance(wanted.size, ScalableSize)
        smallest = min(self._scales)
        fits: list[Fit | None] = []
        for scale in self._scales:
            fit = fit_of(image, wanted, scale)
            is_useful = scale == smallest or not is_limited or fit.enlargement <= _MAX_ENLARGEMENT
            # Pictures of an open size are the same at all scales from its largest on.
            fits.append(fit if is_useful and fit not in fits else None)
        return tuple(fits)

    def _found(self, tensors: Tensors, fit: Fit) -> Found:
        candidates = decode(self._model.output, tensors, fit.picture, self._thresholds)
        kept = self._best(candidates)
        labels = self._labels[candidates.columns[kept]]
        return Found(fit.in_image(candidates.boxes[kept]), candidates.scores[kept], labels)

    def _best(self, candidates: Candidates) -> NDArray[np.int64]:
        """Numbers of the candidates that non-maximum suppression leaves of each class.

        Boxes of several vehicles that coincide are one, of the class with the best score: a network that scores each
        class for itself says of some cars that they are trucks, too, and they would be counted twice.
        """
        boxes, scores, columns = candidates
        if not len(scores):
            return np.zeros(0, np.int64)
        corner_and_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        kept = np.arange(len(scores))
        for kinds, threshold in ((columns, self._nms_iou_threshold), (self._kinds[columns], _COINCIDE)):
            boxes_and_more = corner_and_size[kept].tolist(), scores[kept].tolist(), kinds[kept].tolist()
            kept = kept[np.asarray(cv2.dnn.NMSBoxesBatched(*boxes_and_more, 0.0, threshold), np.int64)]
        return kept
