"""Networks that give raw scores and boxes for a fixed set of anchors, such as SSDLite."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from anonymise.detections import RgbImage
from anonymise.masker.network import Found

__all__ = ["Run", "SsdNetwork"]

Run = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Runs the graph: uint8 (batch, side, side, 3) → scores (batch, anchors, classes), boxes (batch, anchors, 4).

Scores have no background class; class id = column + 1. Boxes are [ymin, xmin, ymax, xmax] as shares of the image.
"""


class SsdNetwork:
    """Resizes images for the graph, runs it in batches, and keeps the best boxes of each class.

    Args:
        run: the graph.
        side: of the graph's square input in pixels.
        score_threshold: boxes with lower scores are dropped.
        nms_iou_threshold: of two boxes of one class that overlap more than this (intersection over union), the one
            with the lower score is dropped.
        batch_size: images that go through the graph at once.
    """

    def __init__(
        self, run: Run, *, side: int, score_threshold: float, nms_iou_threshold: float, batch_size: int
    ) -> None:
        self._run = run
        self._side = side
        self._score_threshold = score_threshold
        self._nms_iou_threshold = nms_iou_threshold
        self._batch_size = batch_size

    def __call__(self, images: Sequence[RgbImage]) -> list[Found]:
        """What is in each of the images."""
        found = []
        for start in range(0, len(images), self._batch_size):
            batch = np.stack([self._resized(image) for image in images[start : start + self._batch_size]])
            scores, boxes = self._run(batch)
            found += [self._best(*item) for item in zip(scores, boxes, strict=True)]
        return found

    def _resized(self, image: RgbImage) -> RgbImage:
        height, width = image.shape[:2]
        # Averaging over areas keeps small objects that point sampling would alias away.
        shrinks = height > self._side and width > self._side
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        resized: RgbImage = cv2.resize(image, (self._side, self._side), interpolation=interpolation)
        return resized

    def _best(self, scores: NDArray[np.float32], boxes: NDArray[np.float32]) -> Found:
        """Per-class non-maximum suppression of one image's anchors."""
        anchors, classes = np.nonzero(scores >= self._score_threshold)
        candidates, candidate_scores = boxes[anchors], scores[anchors, classes]
        kept = np.zeros(0, np.int64)
        if len(anchors):
            corner_and_size = np.concatenate([candidates[:, :2], candidates[:, 2:] - candidates[:, :2]], axis=1)
            best = cv2.dnn.NMSBoxesBatched(
                corner_and_size.tolist(),
                candidate_scores.tolist(),
                classes.tolist(),
                self._score_threshold,
                self._nms_iou_threshold,
            )
            kept = np.asarray(best, np.int64)
        return Found(candidates[kept], candidate_scores[kept], classes[kept] + 1)
