"""Where in an image the model looks, and how what it found there becomes the image's detections."""

from anonymise.config import Config
from anonymise.detections import Box, Detections, Instance, RgbImage, Size, merge
from anonymise.masker import Masker
from anonymise.seam import dilated_around, split_at_seam
from anonymise.sphere import detect_around
from anonymise.windows import windows

__all__ = ["ImageProcessor"]


class ImageProcessor:
    """Looks for what is to be hidden: in the full image, its windows, and the perspective views of a 360° image."""

    def __init__(self, masker: Masker, config: Config) -> None:
        self._masker = masker
        self._config = config

    def detect(self, image: RgbImage) -> Detections:
        """All objects in an image that stands upright, merged over all passes, grown by the configured margin.

        Raises:
            ModelError: the model cannot be run.
        """
        size = Size(image.shape[1], image.shape[0])
        around = self._config.record.is_360
        found = self._around(image, size) if around else self._flat(image, size)
        return Detections(size, found)

    def _flat(self, image: RgbImage, size: Size) -> tuple[Instance, ...]:
        config = self._config
        boxes = windows(size, config.windows)
        looks = (Box(0, 0, size.width, size.height), *boxes)
        found = self._masker.detect(image[look.slices] for look in looks)
        # The first is the full image by the first model.
        passes = [
            [instance.moved(look.left, look.top) for instance in one]
            for look, by_model in zip(looks, found, strict=True)
            for one in by_model
        ]
        merged = merge(passes, config.run.merge_min_overlap)
        # After merging: grown masks of neighbours would touch and become one object.
        return tuple(instance.dilated(config.run.mask_dilation_pixels, size) for instance in merged)

    def _around(self, image: RgbImage, size: Size) -> tuple[Instance, ...]:
        config = self._config
        merged = detect_around(image, self._masker.detect, config.windows, config.views, config.run.merge_min_overlap)
        grown = [dilated_around(instance, config.run.mask_dilation_pixels, size) for instance in merged]
        return split_at_seam(grown, size.width)
