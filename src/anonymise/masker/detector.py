"""Networks that find boxes, as the catalog describes them, whatever runs them."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from anonymise.detections import RgbImage, Size
from anonymise.labels import TARGETS, label_of
from anonymise.masker.catalog import DetectorModel
from anonymise.masker.fitting import Fit, fit_of, fitted
from anonymise.masker.layouts import Candidates, Tensors, decode
from anonymise.masker.network import Found

__all__ = ["DetectorNetwork", "Look", "Run"]

Run = Callable[[Iterable[RgbImage]], Iterator[Tensors]]
"""Runs a network on pictures of a size that it takes, uint8 (height, width, 3), as it gets on with the work.

What the network wants in place of such pictures (order of axes and channels, mean and deviation) is the runtime's work.
"""

_NONE_OF_INTEREST = np.inf

_VEHICLES = [label_of(name) for name in TARGETS["vehicle"]]

_COINCIDE = 0.9
"""Intersection over union of boxes of one object, which differ by a pixel or two."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a network sees images.

    Attributes:
        scale: of the pictures' sides, for networks of a `ScalableSize`.
        max_enlargement: by their sides; in images that would be larger in their pictures nothing is looked for.
    """

    scale: float = 1.0
    max_enlargement: float = math.inf


class DetectorNetwork:
    """Fits images to the network's input, runs it, and keeps the best boxes of each class.

    Args:
        run: the network.
        model: its entry in the catalog.
        thresholds: class id → score that its boxes must reach; other classes are left out.
        nms_iou_threshold: of two boxes of one class that overlap more than this (intersection over union), the one
            with the lower score is dropped.
        look: how it sees images; None is as they fit it.

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
        look: Look | None = None,
    ) -> None:
        self._run = run
        self._model = model
        self._look = Look()
        self._labels = np.array([label or 0 for label in model.columns], np.int64)
        self._thresholds = np.array(
            [thresholds.get(label or 0, _NONE_OF_INTEREST) for label in model.columns], np.float32
        )
        self._kinds = np.where(np.isin(self._labels, _VEHICLES), _VEHICLES[0], self._labels)
        self._nms_iou_threshold = nms_iou_threshold
        # Better at the start than at the first image.
        next(self([np.zeros((64, 64, 3), np.uint8)]))
        self._look = look or self._look

    def __call__(self, images: Iterable[RgbImage]) -> Iterator[Found]:
        """What is in each of the images."""
        fits: deque[Fit] = deque()

        def pictures() -> Iterator[RgbImage]:
            for image in images:
                fits.append(fit_of(Size(image.shape[1], image.shape[0]), self._model.input, self._look.scale))
                if self._is_seen(fits[-1]):
                    yield fitted(image, fits[-1], self._model.input.padding)

        def unseen() -> Iterator[Found]:
            while fits and not self._is_seen(fits[0]):
                fits.popleft()
                yield Found(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

        for tensors in self._run(pictures()):
            yield from unseen()
            fit = fits.popleft()
            candidates = decode(self._model.output, tensors, fit.picture, self._thresholds)
            kept = self._best(candidates)
            yield Found(
                fit.in_image(candidates.boxes[kept]), candidates.scores[kept], self._labels[candidates.columns[kept]]
            )

        yield from unseen()

    def _is_seen(self, fit: Fit) -> bool:
        return fit.enlargement <= self._look.max_enlargement

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
