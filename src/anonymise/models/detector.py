"""Networks that find boxes, as the catalog describes them, whatever runs them."""

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from anonymise.core.classes import kind_of
from anonymise.core.detections import RgbImage, Size
from anonymise.models.catalog import DetectorModel, ScalableSize
from anonymise.models.fitting import Fit, fit_of, fitted
from anonymise.models.layouts import Candidates, Tensors, decode
from anonymise.models.network import Found

__all__ = ["DetectorNetwork", "Run"]

Run = Callable[[Iterable[RgbImage]], Iterator[Tensors]]
"""Runs a network on pictures of a size that it takes, uint8 (height, width, 3); takes them while it works.

What the network wants in place of such pictures (order of axes and channels, mean and deviation) is the runtime's work.
"""

_NONE_OF_INTEREST = np.inf

_NOTHING = Found(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

_MAX_ENLARGEMENT = 1.6
"""Of an image, by its sides, in a picture that is larger than another one: beyond, nothing more is found at the same
over-blur."""

_AT_EDGE = 0.02
"""An object that is no farther from an edge than this fraction of its height is cut by it, most likely."""

_COINCIDE = 0.9
"""Intersection over union of boxes of one object, which differ by a pixel or two."""


class _Look(NamedTuple):
    """A picture of an image, or of some of its rows.

    Attributes:
        top: the first row that is seen.
        height: height of the image.
        fit: where the rows lie in the picture.
    """

    top: int
    height: int
    fit: Fit

    @property
    def bottom(self) -> int:
        """The first row below those that are seen."""
        return self.top + self.fit.image.height

    def in_image(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes (n, 4), [ymin, xmin, ymax, xmax] in pixels of the picture, as fractions of the image."""
        inside = self.fit.in_image(boxes)
        inside[:, ::2] = (self.top + inside[:, ::2] * self.fit.image.height) / self.height
        return inside

    def is_cut(self, boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Whether boxes as `in_image` gives them reach rows that are not seen."""
        margin = _AT_EDGE * (boxes[:, 2] - boxes[:, 0])
        above = (boxes[:, 0] - margin < self.top / self.height) & (self.top > 0)
        return above | ((boxes[:, 2] + margin > self.bottom / self.height) & (self.bottom < self.height))


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
        band: the rows of an image, as fractions of its height, that are seen at the largest of several scales; objects
            that are cut there are left out. None is all rows.

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
        band: tuple[float, float] | None = None,
    ) -> None:
        self._run = run
        self._model = model
        self._scales = model.input.scales or scales
        self._band = None if model.input.scales or len(scales) == 1 else band
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
        waiting: deque[tuple[_Look | None, ...]] = deque()

        def pictures() -> Iterator[RgbImage]:
            for image in images:
                looks = self._looks(Size(image.shape[1], image.shape[0]))
                waiting.append(looks)
                for look in looks:
                    if look is not None:
                        yield fitted(image[look.top : look.bottom], look.fit, self._model.input.padding)

        results = self._run(pictures())
        # The runtime has begun with the pictures of an image, and of the next, when it gives the first result.
        for first in results:
            tensors = itertools.chain([first], results)
            yield tuple(_NOTHING if look is None else self._found(next(tensors), look) for look in waiting.popleft())

    def _looks(self, image: Size) -> tuple[_Look | None, ...]:
        """The pictures of an image at each scale; None where it is not looked at, which the smallest scale never is."""
        wanted = self._model.input
        is_limited = wanted.scales is None and isinstance(wanted.size, ScalableSize)
        looks: list[_Look | None] = []
        for scale in self._scales:
            top, bottom = 0, image.height
            if self._band is not None and scale == max(self._scales):
                top, bottom = math.floor(self._band[0] * image.height), math.ceil(self._band[1] * image.height)
            part = Size(image.width, bottom - top)
            # The area of the picture follows from the scale, and the rows take their share of it.
            share = math.sqrt(part.height / image.height) if isinstance(wanted.size, ScalableSize) else 1.0
            look = _Look(top, image.height, fit_of(part, wanted, scale * share))
            is_useful = scale == min(self._scales) or not is_limited or look.fit.enlargement <= _MAX_ENLARGEMENT
            # Pictures of an open size are the same at all scales from its largest on.
            looks.append(look if is_useful and look not in looks else None)
        return tuple(looks)

    def _found(self, tensors: Tensors, look: _Look) -> Found:
        candidates = decode(self._model.output, tensors, look.fit.picture, self._thresholds)
        kept = self._best(candidates)
        boxes = look.in_image(candidates.boxes[kept])
        whole = ~look.is_cut(boxes)
        kept = kept[whole]
        return Found(boxes[whole], candidates.scores[kept], self._labels[candidates.columns[kept]])

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
