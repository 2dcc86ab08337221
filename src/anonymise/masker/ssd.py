"""Networks that give raw scores and boxes for a fixed set of anchors, such as SSDLite."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from anonymise.detections import RgbImage
from anonymise.masker.network import Found

__all__ = ["Output", "Run", "SsdNetwork"]

Output = tuple[NDArray[np.float32], NDArray[np.float32]]
"""What the graph gives for one image: scores (anchors, classes), boxes (anchors, 4).

Scores have no background class; class id = column + 1. Boxes are [ymin, xmin, ymax, xmax] as shares of the image.
"""

Run = Callable[[Iterable[RgbImage]], Iterator[Output]]
"""Runs the graph on images of its input size, uint8 (side, side, 3), which it takes as it gets on with the work."""


class SsdNetwork:
    """Resizes images for the graph, runs it, and keeps the best boxes of each class.

    Args:
        run: the graph.
        side: of the graph's square input in pixels.
        score_threshold: boxes with lower scores are dropped.
        nms_iou_threshold: of two boxes of one class that overlap more than this (intersection over union), the one
            with the lower score is dropped.
    """

    def __init__(self, run: Run, *, side: int, score_threshold: float, nms_iou_threshold: float) -> None:
        self._run = run
        self._side = side
        self._score_threshold = score_threshold
        self._nms_iou_threshold = nms_iou_threshold

    def __call__(self, images: Iterable[RgbImage]) -> Iterator[Found]:
        """What is in each of the images."""
        shares: deque[NDArray[np.float32]] = deque()

        def inputs() -> Iterator[RgbImage]:
            for image in images:
                seen = _halvable(image, self._side)
                shares.append(np.divide(seen.shape[:2], image.shape[:2], dtype=np.float32))
                yield _resized(seen, self._side)

        for scores, boxes in self._run(inputs()):
            yield self._best(scores, boxes * np.tile(shares.popleft(), 2))

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


def _halvable(image: RgbImage, side: int) -> RgbImage:
    """The image without the rows and columns, less than one of the graph's input, that keep it from being halved."""
    height, width = (length >> n << n for length, n in zip(image.shape[:2], _halvings(image, side), strict=True))
    return image[:height, :width]


def _halvings(image: RgbImage, side: int) -> tuple[int, int]:
    """How often the height and the width can be halved and still be at least ``side``."""
    height, width = (max(1, length // side).bit_length() - 1 for length in image.shape[:2])
    return height, width


def _resized(image: RgbImage, side: int) -> RgbImage:
    """The image as a square of ``side`` pixels.

    Sampling alone would alias small objects away, so the size is halved while that is possible; OpenCV averages the
    pixels of exact halves quickly. The rest is bilinear: averaging there takes six times as long, blurs, and finds less
    (pedestrians on the street frames: 0.909 instead of 0.917 of their pixels).
    """
    n_rows, n_columns = _halvings(image, side)
    for step in range(max(n_rows, n_columns)):
        height, width = image.shape[0] >> (step < n_rows), image.shape[1] >> (step < n_columns)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    resized: RgbImage = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
    return resized
