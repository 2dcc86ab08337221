"""Where detections come from: one protocol for the model, saved instances and all else that says what is hidden."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Protocol

from anonymise.core.detections import Detections, RgbImage, Size
from anonymise.core.projection import PLANAR, Projection

__all__ = ["CORRECTED", "DetectionSource", "InputImage", "Source", "uncorrected"]

CORRECTED = "+corrections:"
"""Begins the part of a fingerprint that stands for the corrections of an image."""


def uncorrected(fingerprint: str) -> str:
    """The fingerprint of a source without the corrections that were added to it."""
    return fingerprint.partition(CORRECTED)[0]


@dataclass(frozen=True, slots=True)
class InputImage:
    """A decoded image, and what is known of its file.

    Attributes:
        data: bytes of the file.
        pixels: uint8 (height, width, 3), in the orientation in which the file stores them.
        orientation: EXIF orientation, 1 to 8.
        projection: how the pixels of the upright image lie around the camera.
        name: name by which the caller knows the image; in a folder run its path below the input folder, with ``/``.
        path: path that the metadata are read from; its folders and name may tell the road. It need not exist.
        modified: time of the file's last change, in seconds since the epoch; None if it is not known.
        notes: what is odd about the image, one line each.
    """

    data: bytes
    pixels: RgbImage
    orientation: int = 1
    projection: Projection = PLANAR
    name: str = ""
    path: PurePath = field(default_factory=PurePath)
    modified: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> Size:
        """Size of the stored pixels."""
        return Size(self.pixels.shape[1], self.pixels.shape[0])

    @property
    def wraps(self) -> bool:
        """Whether the left and the right edge of the stored pixels meet."""
        return self.projection.wraps_as_stored(self.orientation)


@dataclass(frozen=True, slots=True)
class Source:
    """What must be hidden in one image, as one model, file or person says it.

    Attributes:
        fingerprint: text that changes whenever `find` could give something else. It is asked before the image is
            read, so that finished images need not be.
        find: image → detections in stored pixels. Raises `ImageError` where it cannot tell, `ModelError` where the
            model cannot be run.
        saved: SHA-256 of the saved instances that this is; None for everything else.
        corrections: end of the fingerprint that stands for the corrections of the image, empty where it has none; None
            where nobody asked for any.
    """

    fingerprint: str
    find: Callable[[InputImage], Detections]
    saved: str | None = None
    corrections: str | None = None

    def known_as(self, fingerprint: str) -> str:
        """The fingerprint of this source, if without corrections of its own it were the one of this fingerprint."""
        return fingerprint if self.corrections is None else uncorrected(fingerprint) + self.corrections


class DetectionSource(Protocol):
    """Something that says what must be hidden in images."""

    def of(self, name: str) -> Source:
        """What it says about one image.

        Both members of the answer are of one moment: what `find` gives is what the fingerprint stands for, also if a
        file has changed in between.

        Args:
            name: as in `InputImage`.

        Raises:
            ImageError: it cannot tell for this image.
        """
        ...
