"""Where in an image the model looks, and how what it found there becomes the image's detections."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2

from anonymise.core.detections import Box, Detections, Instance, RgbImage, Size
from anonymise.core.projection import PLANAR, Projection
from anonymise.core.wraparound import grown_around, split_at_seam
from anonymise.detection.close_ups import CloseUps
from anonymise.detection.dark import equalised, is_dark
from anonymise.detection.merging import MergeOptions, merge
from anonymise.detection.outlines import OutlineOptions, ellipse_around, superellipse
from anonymise.detection.riders import covered, riders
from anonymise.detection.tiles import CloseUp, TakeCloseUp, WindowOptions, close_up, windows
from anonymise.detection.views import ViewOptions, detect_around
from anonymise.models import CloseMasker, Masker, ModelOptions
from anonymise.models.options import of_class

__all__ = ["DetectionOptions", "ImageProcessor"]

_Passes = tuple[tuple[Instance, ...], ...]
"""What is found in one picture: one tuple for each model, and for each way in which the picture is shown to it."""


@dataclass(frozen=True, slots=True)
class DetectionOptions:
    """The sections of the configuration that say what is found and where it is looked for.

    Attributes:
        always_whole: whether the model looks at the whole of panoramas, too, even where views or windows replace it.
            Options for planar images count on that, and GPano may call a planar image a panorama.
    """

    model: ModelOptions
    tiles: WindowOptions
    views: ViewOptions
    merging: MergeOptions
    outlines: OutlineOptions
    always_whole: bool = False


class ImageProcessor:
    """Looks for what is to be hidden: in the full image, its windows, and the perspective views of a 360° image."""

    def __init__(self, masker: Masker, options: DetectionOptions) -> None:
        self._masker = masker
        self._options = options
        # wbf takes the average of boxes. All else is closer to the objects if each box loses its corners first.
        self._averages = options.merging.merging_method == "wbf"
        self._close_ups: CloseUps | None = None
        self._verifier: Masker | None = None
        if isinstance(masker, CloseMasker) and (masker.parts or masker.verifier):
            self._close_ups = CloseUps(masker, options.model)
            self._verifier = masker.verifier

    def detect(self, image: RgbImage, projection: Projection = PLANAR) -> Detections:
        """All objects in an image that stands upright: merged over all passes, outlined and grown as configured.

        Args:
            image: uint8 (height, width, 3).
            projection: how its pixels lie around the camera.

        Raises:
            ModelError: the model cannot be run.
        """
        size = Size(image.shape[1], image.shape[0])
        doubtful: list[Instance] = []
        if projection.sphere is None:
            found = self._flat(image, size, doubtful)
        else:
            found = self._around(image, size, projection, doubtful)
        return Detections(size, found, split_at_seam(doubtful, size.width) if self._options.model.keep_doubtful else ())

    def _flat(self, image: RgbImage, size: Size, doubtful: list[Instance]) -> tuple[Instance, ...]:
        options = self._options
        whole = Box(0, 0, size.width, size.height)
        looks = [(look, image) for look in (whole, *windows(size, options.tiles))]
        below = options.model.dark_below
        shown = equalised(image) if below is not None and is_dark(image, below) else image
        if shown is not image and self._verifier is None:
            looks.append((whole, shown))
        found = self._found(picture[look.slices] for look, picture in looks)
        # The first is the full image by the first model.
        passes = [
            [self._before_merging(instance.moved(look.left, look.top), size) for instance in one]
            for (look, _), passes_of_look in zip(looks, found, strict=True)
            for one in passes_of_look
        ]
        if shown is not image and self._verifier is not None:
            passes += self._seen_by(self._verifier, shown, size)

        def take(instance: Instance, factor: float) -> CloseUp:
            plain = close_up(shown, instance.box, factor)
            return plain._replace(back=lambda i: tuple(self._before_merging(part, size) for part in plain.back(i)))

        kept, regions = self._reconsidered(passes, take, doubtful)
        merged = [self._after_merging(instance, size) for instance in merge(kept, options.merging)]
        upright = [self._outlined(region, size) for region in regions]
        return tuple(self._grown(instance, size) for instance in covered(merged, upright))

    def _around(
        self, image: RgbImage, size: Size, projection: Projection, doubtful: list[Instance]
    ) -> tuple[Instance, ...]:
        options = self._options

        def outline(instance: Instance, is_cut: bool) -> Instance:
            # In the picture, as a box is no box any more on the sphere. What an edge cuts keeps its corners there.
            return instance if is_cut else self._before_merging(instance)

        regions: list[Instance] = []

        def reconsider(passes: Sequence[Sequence[Instance]], take: TakeCloseUp) -> Sequence[Sequence[Instance]]:
            kept, upright = self._reconsidered(passes, take, doubtful)
            regions.extend(self._outlined(region, None) for region in upright)
            return kept

        found = detect_around(
            image,
            self._found,
            options.tiles,
            options.views,
            options.merging,
            projection,
            outline,
            reconsider if self._close_ups or options.model.rider_score_threshold else None,
            whole=options.always_whole,
        )
        if not projection.wraps:
            merged = covered([self._after_merging(instance, size) for instance in found], regions)
            return tuple(self._grown(instance, size) for instance in merged)
        merged = covered([self._after_merging(instance) for instance in found], regions)
        return split_at_seam([grown_around(instance, self._grown, size) for instance in merged], size.width)

    def _seen_by(self, masker: Masker, picture: RgbImage, size: Size) -> list[list[Instance]]:
        """What is of use of what a model finds in one more picture of the whole image."""
        lowest = self._options.model.sought_from
        return [
            [self._before_merging(instance, size) for instance in one if instance.score >= lowest(instance.label)]
            for passes in masker.detect([picture])
            for one in passes
        ]

    def _reconsidered(
        self, passes: Sequence[Sequence[Instance]], take: TakeCloseUp, doubtful: list[Instance]
    ) -> tuple[Sequence[Sequence[Instance]], list[Instance]]:
        """What is to be hidden after close-ups, and the regions around riders."""
        kept = passes if self._close_ups is None else self._close_ups(passes, take, doubtful)
        options = self._options.model
        if options.rider_score_threshold is None:
            return kept, []
        if self._close_ups is None:
            kept = [[i for i in one if i.score >= of_class(options.score_threshold, i.label)] for one in passes]
        hidden = {id(instance): instance for one in kept for instance in one}
        others = [i for one in passes for i in one if id(i) not in hidden and i.label in options.ridden]
        return kept, riders([*hidden.values()], others, options.rider_score_threshold)

    def _before_merging(self, instance: Instance, size: Size | None = None) -> Instance:
        return instance if self._averages else self._outlined(instance, size)

    def _after_merging(self, instance: Instance, size: Size | None = None) -> Instance:
        return self._outlined(instance, size) if self._averages else instance

    def _outlined(self, instance: Instance, size: Size | None) -> Instance:
        outlines = self._options.outlines
        if outlines.outline != "superellipse":
            return instance
        return superellipse(instance, outlines.outline_exponent, size)

    def _grown(self, instance: Instance, size: Size) -> Instance:
        # After merging: grown masks of neighbours would touch and become one object. The margin comes first, so that
        # what it has grown is still a box, which an ellipse goes around.
        grown = instance.dilated(self._options.outlines.mask_dilation_pixels, size)
        return ellipse_around(grown, size) if self._options.outlines.outline == "ellipse" else grown

    def _found(self, pictures: Iterable[RgbImage]) -> Iterator[_Passes]:
        """What is found in each picture, and in its mirror image if that is wanted."""
        if not self._options.tiles.mirror_image:
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
