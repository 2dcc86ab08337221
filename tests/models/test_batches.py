from collections.abc import Callable, Sequence

import numpy as np
import pytest

from anonymise.core.detections import RgbImage
from anonymise.core.errors import ModelError
from anonymise.models.layouts import Tensors
from anonymise.models.tensorflow_backend import Batches

pytestmark = pytest.mark.slow


def pictures(n: int) -> list[RgbImage]:
    return [np.full((2, 2, 3), number, np.uint8) for number in range(n)]


def allocating(at_most: int, seen: list[int]) -> Callable[[Sequence[RgbImage]], list[Tensors]]:
    """A network that needs more memory than any machine has for batches of more than ``at_most``."""

    def call(batch: Sequence[RgbImage]) -> list[Tensors]:
        seen.append(len(batch))
        if len(batch) > at_most:
            np.ones((1 << 24, 1 << 24))
        return [[np.array([image[0, 0, 0]], np.float32)] for image in batch]

    return call


def test_batches_are_halved_until_they_fit_and_no_picture_is_lost() -> None:
    seen: list[int] = []
    batches = Batches(8)
    found = [int(tensors[0][0]) for tensors in batches.run(pictures(11), allocating(3, seen))]
    assert found == list(range(11))
    assert seen == [8, 4, 2, 2, 2, 2, 2, 1]
    assert batches.size == 2, "the next image begins with what fits"


def test_one_picture_that_does_not_fit_is_an_error_of_the_model() -> None:
    with pytest.raises(ModelError, match="Unable to allocate"):
        list(Batches(4).run(pictures(1), allocating(0, [])))
