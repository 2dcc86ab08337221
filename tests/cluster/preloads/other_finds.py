"""Makes the model of a worker find something else, on a machine called ``other``."""

import socket
from collections.abc import Iterable, Iterator

from anonymise.core.detections import Box, Instance, RgbImage, full_mask
from tests.cluster.models import Red


def detect(self: Red, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
    for _image in images:
        yield ((Instance(1, 0.9, Box(0, 0, 9, 9), full_mask(Box(0, 0, 9, 9))),),)


Red.detect = detect  # type: ignore[method-assign]
socket.gethostname = lambda: "other"
