"""The model as a source of detections."""

from anonymise.core.detections import Detections
from anonymise.core.orientation import detections_to_stored, to_upright
from anonymise.core.sources import InputImage, Source
from anonymise.detection.processor import DetectionOptions, ImageProcessor
from anonymise.models import Masker

__all__ = ["ModelSource"]


class ModelSource:
    """Shows images to the model as they stand upright, and brings what it finds back to the stored pixels.

    Args:
        masker: the model.
        options: where the model looks, and what its findings come to.
        fingerprint: text that changes with the model and the options.
    """

    def __init__(self, masker: Masker, options: DetectionOptions, fingerprint: str) -> None:
        self._processor = ImageProcessor(masker, options)
        self._source = Source(fingerprint, self._find)

    @property
    def fingerprint(self) -> str:
        """Fingerprint for every image."""
        return self._source.fingerprint

    def of(self, name: str) -> Source:  # noqa: ARG002 - the same for every image
        """The model."""
        return self._source

    def _find(self, image: InputImage) -> Detections:
        found = self._processor.detect(to_upright(image.pixels, image.orientation), image.projection)
        return detections_to_stored(found, image.orientation)
