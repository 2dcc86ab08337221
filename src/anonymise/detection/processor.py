"""Where in an image the model looks, and how what it found there becomes the image's detections."""

from collections import deque
from collections.abc import Iterable, Iterator

import cv2

from anonymise import images
from anonymise.config import Config
from anonymise.core.detections import Box, Detections, Instance, RgbImage, Size
from anonymise.core.projection import PLANAR, Projection, panorama
from anonymise.core.wraparound import grown_around, split_at_seam
from anonymise.detection.close_ups import CloseUps
from anonymise.detection.merging import merge
from anonymise.detection.tiles import CloseUp, close_up, windows
from anonymise.detection.views import detect_around
from anonymise.metadata.gpano import read_gpano
from anonymise.models import CloseMasker, Masker
from anonymise.redaction import ellipse_around, superellipse

__all__ = ["ImageProcessor", "projection_of"]

_Passes = tuple[tuple[Instance, ...], ...]
"""What is found in one picture: one tuple for each model, and for each way in which the picture is shown to it."""


def projection_of(data: bytes, config: Config) -> tuple[Projection, tuple[str, ...]]:
    """How the pixels of an image lie around the camera when it stands upright, and what is odd about that.

    Args:
        data: bytes of the image file, whose GPano says where on the sphere a part of a panorama is.
        config: says whether the images are panoramas.

    Raises:
        UnreadableImage: the file has no size.
    """
    if not config.record.is_360:
        return PLANAR, ()
    header = images.header(data)
    stored = Size(header.width, header.height)
    gpano = read_gpano(images.embedded(data).xmp, [])  # what cannot be read is noted with the record
    return panorama(images.upright_size(stored, header.orientation), gpano)


class ImageProcessor:
    """Looks for what is to be hidden: in the full image, its windows, and the perspective views of a 360° image."""

    def __init__(self, masker: Masker, config: Config) -> None:
        self._masker = masker
        self._config = config
        # wbf takes the average of boxes. All else is closer to the objects if each box loses its corners first.
        self._averages = config.merging.merging_method == "wbf"
        self._close_ups: CloseUps | None = None
        if isinstance(masker, CloseMasker) and (masker.parts or masker.verifier):
            self._close_ups = CloseUps(masker, config.model)

    def detect(self, image: RgbImage, projection: Projection | None = None) -> Detections:
        """All objects in an image that stands upright: merged over all passes, outlined and grown as configured.

        Args:
            image: uint8 (height, width, 3).
            projection: how its pixels lie around the camera; None is what the configuration and the shape say.

        Raises:
            ModelError: the model cannot be run.
        """
        size = Size(image.shape[1], image.shape[0])
        if projection is None:
            projection = panorama(size, {})[0] if self._config.record.is_360 else PLANAR
        found = self._flat(image, size) if projection.sphere is None else self._around(image, size, projection)
        return Detections(size, found)

    def _flat(self, image: RgbImage, size: Size) -> tuple[Instance, ...]:
        config = self._config
        looks = (Box(0, 0, size.width, size.height), *windows(size, config.windows))
        found = self._found(image[look.slices] for look in looks)
        # The first is the full image by the first model.
        passes = [
            [self._before_merging(instance.moved(look.left, look.top), size) for instance in one]
            for look, passes_of_look in zip(looks, found, strict=True)
            for one in passes_of_look
        ]
        if self._close_ups is not None:

            def take(instance: Instance, factor: float) -> CloseUp:
                picture, back = close_up(image, instance.box, factor)
                return CloseUp(picture, lambda found: tuple(self._before_merging(i, size) for i in back(found)))

            passes = self._close_ups(passes, take)
        merged = [self._after_merging(instance, size) for instance in merge(passes, config.merging)]
        return tuple(self._grown(instance, size) for instance in merged)

    def _around(self, image: RgbImage, size: Size, projection: Projection) -> tuple[Instance, ...]:
        config = self._config

        def outline(instance: Instance, is_cut: bool) -> Instance:
            # In the picture, as a box is no box any more on the sphere. What an edge cuts keeps its corners there.
            return instance if is_cut else self._before_merging(instance)

        found = detect_around(
            image, self._found, config.windows, config.views, config.merging, projection, outline, self._close_ups
        )
        if not projection.wraps:
            return tuple(self._grown(self._after_merging(instance, size), size) for instance in found)
        merged = [self._after_merging(instance) for instance in found]
        return split_at_seam([grown_around(instance, self._grown, size) for instance in merged], size.width)

    def _before_merging(self, instance: Instance, size: Size | None = None) -> Instance:
        return instance if self._averages else self._outlined(instance, size)

    def _after_merging(self, instance: Instance, size: Size | None = None) -> Instance:
        return self._outlined(instance, size) if self._averages else instance

    def _outlined(self, instance: Instance, size: Size | None) -> Instance:
        appearance = self._config.appearance
        if appearance.outline != "superellipse":
            return instance
        return superellipse(instance, appearance.outline_exponent, size)

    def _grown(self, instance: Instance, size: Size) -> Instance:
        # After merging: grown masks of neighbours would touch and become one object. The margin comes first, so that
        # what it has grown is still a box, which an ellipse goes around.
        grown = instance.dilated(self._config.run.mask_dilation_pixels, size)
        return ellipse_around(grown, size) if self._config.appearance.outline == "ellipse" else grown

    def _found(self, pictures: Iterable[RgbImage]) -> Iterator[_Passes]:
        """What is found in each picture, and in its mirror image if that is wanted."""
        if not self._config.windows.mirror_image:
            return self._masker.detect(pictures)
        return self._found_in_both(pictures)

    def _found_in_both(self, pictures: Iterable[RgbImage]) -> Iterator[_Passes]:
        widths: deque[int] = deque()

        def both() -> Iterator[RgbImage]:
            for picture in pictures:
                widths.append(picture.shape[1])
                yield picture
                yield cv2.flip(picture, 1)

        found = self._masker.detect(both())
        for plain, mirrored in zip(found, found, strict=True):
            width = widths.popleft()
            yield *plain, *(tuple(instance.mirrored(width) for instance in one) for one in mirrored)
