"""What every network gives, whatever it runs on."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from anonymise.core.detections import RgbImage

__all__ = ["Found", "Network"]


@dataclass(frozen=True, slots=True)
class Found:
    """The n objects that a network found in one image.

    Attributes:
        boxes: float (n, 4), [ymin, xmin, ymax, xmax] as shares of the image's height and width.
        scores: float (n,), 0 to 1.
        labels: int (n,), class ids.
        masks: float (n, mask height, mask width), probabilities inside the box; None for networks that find boxes only.

    Raises:
        ValueError: the arrays do not fit together.
    """

    boxes: NDArray[np.floating]
    scores: NDArray[np.floating]
    labels: NDArray[np.integer]
    masks: NDArray[np.floating] | None = None

    def __post_init__(self) -> None:
        n = len(self.scores)
        shapes_fit = self.boxes.shape == (n, 4) and self.scores.shape == (n,) and self.labels.shape == (n,)
        if not shapes_fit or (self.masks is not None and (self.masks.ndim != 3 or len(self.masks) != n)):
            raise ValueError(f"boxes {self.boxes.shape}, scores {self.scores.shape}, labels {self.labels.shape}")


class Network(Protocol):
    """A model that is loaded and ready."""

    def __call__(self, images: Iterable[RgbImage]) -> Iterator[tuple[Found, ...]]:
        """What is in each of the images, which may have different sizes; once for each way in which it looks at them.

        Images are taken while the work proceeds, so that the next ones can be made while the network is busy.
        """
        ...
