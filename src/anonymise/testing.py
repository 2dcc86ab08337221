"""A model for tests of programs that use this package: it finds what it is told to find, at once."""

from collections.abc import Callable, Iterable, Iterator

from anonymise.core.classes import label_of
from anonymise.core.detections import Box, Instance, RgbImage, Size, full_mask

__all__ = ["FakeModel", "Objects"]

Objects = Iterable[tuple[str, tuple[int, int, int, int]]]
"""Class name, and left, top, right and bottom in pixels of the upright image."""


class FakeModel:
    """A model that needs no weights.

    ``Anonymiser(config, model=FakeModel([("person", (10, 20, 40, 90))]))`` finds a person there in every image.

    Args:
        objects: what it finds; or a function that is given the upright image, uint8 (height, width, 3), and says what
            is in it. What lies outside of an image is cut off.
        score: score of everything that is found, 0 to 1.
    """

    identity = "fake"

    def __init__(self, objects: Objects | Callable[[RgbImage], Objects] = (), *, score: float = 0.9) -> None:
        self._find = objects if callable(objects) else _always(tuple(objects))
        self._score = score

    def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
        """The objects of each image, as one pass of one network."""
        for image in images:
            yield (tuple(self._instances(image)),)

    def _instances(self, image: RgbImage) -> Iterator[Instance]:
        size = Size(image.shape[1], image.shape[0])
        whole = Box(0, 0, size.width, size.height)
        for name, corners in self._find(image):
            box = whole.intersection(Box(*corners))
            if box is not None:
                yield Instance(label_of(name), self._score, box, full_mask(box))


def _always(objects: Objects) -> Callable[[RgbImage], Objects]:
    return lambda _: objects
