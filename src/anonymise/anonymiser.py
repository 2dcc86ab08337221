"""Bytes in, anonymised bytes and detections out: the one way to find and to hide something in an image.

The folder run, drawing again, the evaluation, records, benchmarks and samples all come through here. Nothing here knows
folders, a journal or other processes. `Anonymiser` needs a model; `Redactor` and `Describer` do not, and can be sent to
another process.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import NamedTuple

import numpy as np

from anonymise import images
from anonymise import metadata as exif
from anonymise import redaction as draw
from anonymise.config import Config
from anonymise.core import projection
from anonymise.core.classes import LABELS
from anonymise.core.detections import Detections, Mask, RgbImage, Size
from anonymise.core.orientation import to_upright, upright_size
from anonymise.core.projection import PLANAR, Projection
from anonymise.core.sources import DetectionSource, InputImage
from anonymise.detection.model_source import ModelSource
from anonymise.metadata import record
from anonymise.metadata.gpano import read_gpano
from anonymise.metadata.record import Record
from anonymise.metadata.sources.path import FILE
from anonymise.models import Masker, load_masker
from anonymise.redaction import Layer
from anonymise.redaction.static import StaticMask

__all__ = [
    "AnonymisedImage",
    "Anonymiser",
    "Describer",
    "Description",
    "Redactor",
    "model_source",
    "objects_of",
    "projection_of",
    "read_image",
    "timed",
]


def read_image(
    data: bytes,
    config: Config,
    *,
    pixels: RgbImage | None = None,
    name: str = "",
    path: PurePath | None = None,
    modified: float | None = None,
) -> InputImage:
    """Reads an image file.

    Args:
        data: bytes of a JPEG or PNG file.
        config: says which images are too large, and whether they are panoramas.
        pixels: uint8 (height, width, 3), pixels of the file where they were decoded before; None decodes it.
        name: as in `InputImage`.
        path: as in `InputImage`; None takes ``name``.
        modified: as in `InputImage`.

    Raises:
        UnreadableImage: the file is empty, truncated, damaged, too large, or of another format.
    """
    if pixels is None:
        decoded = images.decode(data, max_pixels=config.images.max_decoded_pixels)
        pixels, orientation = decoded.pixels, decoded.orientation
    else:
        orientation = images.header(data).orientation
    around, notes = projection_of(data, config)
    path = PurePath(name) if path is None else path
    return InputImage(data, pixels, orientation, around, name, path, modified, notes)


def projection_of(data: bytes, config: Config) -> tuple[Projection, tuple[str, ...]]:
    """How the pixels of an image lie around the camera when it stands upright, and what is odd about that.

    Args:
        data: bytes of the image file, whose GPano may say that it is a panorama, or which part of one.
        config: says what the images are, or that GPano decides.

    Raises:
        UnreadableImage: the file has no size.
    """
    if config.projection == "planar":
        return PLANAR, ()
    header = images.header(data)
    stored = Size(header.width, header.height)
    gpano = read_gpano(images.embedded(data).xmp, [])  # what cannot be read is noted with the record
    return projection.projection_of(config.projection, upright_size(stored, header.orientation), gpano)


def model_source(masker: Masker, config: Config) -> ModelSource:
    """A model as a source of detections, as the configuration has it look."""
    return ModelSource(masker, config.detection, config.model_fingerprint(masker.identity))


@dataclass(frozen=True, slots=True)
class AnonymisedImage:
    """An image in which everything that was found is hidden.

    Attributes:
        data: bytes of the anonymised file, of the same format as the original.
        detections: what was found, in stored pixels.
        record: JSON record of the road metadata; None where it was not asked for.
        notes: what the operator should know although the image succeeded, one line each.
        pixels: uint8 (height, width, 3), the anonymised pixels as they are stored.
        orientation: EXIF orientation, 1 to 8.
        hidden: bool (height, width), true where something was drawn; with ``draw_mask: False``, where it would be.
        seconds: stage → time that it took.
    """

    data: bytes
    detections: Detections
    record: Record | None
    notes: tuple[str, ...]
    pixels: RgbImage
    orientation: int
    hidden: Mask
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def objects(self) -> dict[str, int]:
        """Class name → number of objects found."""
        return objects_of(self.detections)

    def mask(self) -> bytes:
        """The mask as a PNG file of the stored size: 0 where something was hidden, 255 elsewhere."""
        return images.encode_png(np.where(self.hidden, np.uint8(0), np.uint8(255)))

    def preview(self, dim: tuple[int, int], center: tuple[float, float]) -> bytes:
        """A part of the image as it is shown, as a JPEG file.

        Args:
            dim: width and height of the part in pixels; it is smaller where the image is.
            center: middle of the part, as fractions of the image's height and width.
        """
        upright = to_upright(self.pixels, self.orientation)
        return images.encode_jpeg(draw.preview(upright, Size(*dim), draw.Center(*center)))


def objects_of(detections: Detections) -> dict[str, int]:
    """Class name → number of objects."""
    return {LABELS[label]: n for label, n in detections.counts().items()}


class Redactor:
    """Hides what was found in images.

    Args:
        config: says what hidden regions look like and how files are written.
    """

    def __init__(self, config: Config) -> None:
        self._appearance = config.appearance
        self._static = config.static_mask
        self._output = config.images

    def redact(
        self,
        image: InputImage,
        detections: Detections,
        *,
        static: Detections | None = None,
        record: Record | None = None,
        notes: tuple[str, ...] = (),
    ) -> AnonymisedImage:
        """Draws over what was found, and writes the anonymised file.

        Args:
            image: the image. Pixels that may be written to are drawn on, which saves a copy.
            detections: what is hidden, in stored pixels.
            static: what else is hidden, as ``static_mask`` has it for this size; None hides nothing else.
            record: record that the result carries.
            notes: notes that the result carries besides its own.

        Raises:
            DrawError: the detections are those of an image of another size.
            UnreadableImage: the file is damaged.
        """
        seconds: dict[str, float] = {}
        with timed(seconds, "draw"):
            drawn = draw.draw(
                image.pixels,
                detections,
                self._appearance,
                static=None if static is None else Layer(static, self._static.appearance(self._appearance)),
                wraps=image.wraps,
                in_place=image.pixels.flags.writeable,
            )
        with timed(seconds, "encode"):
            written = images.rewrite(image.data, drawn.image, drawn.changed, self._output)
        return AnonymisedImage(
            data=written.data,
            detections=detections,
            record=record,
            notes=(*notes, *image.notes, *written.notes),
            pixels=drawn.image,
            orientation=image.orientation,
            hidden=drawn.changed if self._appearance.draw_mask else detections.union(),
            seconds=seconds,
        )


class Description(NamedTuple):
    """What an image's metadata say.

    Attributes:
        record: the JSON record.
        notes: what was odd about the metadata, one line each.
        has_file_time: whether the record holds the time of the file, because the image has none.
    """

    record: Record
    notes: tuple[str, ...]
    has_file_time: bool


class Describer:
    """Reads what images say about the road. Looks at no pixel.

    Args:
        config: says what the record holds besides.
    """

    def __init__(self, config: Config) -> None:
        self._options = config.record
        self._older = config.run.force_older_exif
        self._version = record.version_text(config.record.application_version, config.changed)

    def describe(
        self,
        data: bytes,
        size: Size,
        path: PurePath,
        modified: float | None,
        *,
        objects: Mapping[str, int] | None,
        preview_name: str | None = None,
    ) -> Description:
        """The record of one image.

        Args:
            data: bytes of the file.
            size: size of the stored pixels.
            path: path whose folders and name may tell the road; it need not exist.
            modified: time of the file's last change, in seconds since the epoch; None if it is not known.
            objects: class name → number of objects; None where nobody looked for any.
            preview_name: name of the preview's file; None where there is none.

        Raises:
            UsageError: the position sidecar cannot be read.
        """
        changed = None if modified is None else exif.file_time(modified)
        source = exif.ImageSource.of(path, size, modified=changed, older=self._older)
        # Each process reads the file once; a sidecar here would travel to the workers with every image.
        metadata = exif.read_metadata(images.embedded(data), source, record.read_sidecar(self._options))
        entry = record.build_record(
            metadata, detections=objects, preview_name=preview_name, version=self._version, options=self._options
        )
        notes = metadata.problems
        if metadata.time is None:
            notes += ("nobody knows when the image was taken: the date of its file is none",)
        return Description(entry, notes, metadata.origins.get("time") == FILE)


class Anonymiser:
    """Finds and hides people and vehicles, or what else the configuration names.

    The model is loaded once, when this is made. Not thread-safe: networks keep buffers of their own, so threads take
    turns with a lock, or have an `Anonymiser` each.

    Args:
        config: configuration, as `load_config` gives it.
        model: the model; None loads the one that the configuration names, and fetches it where it is missing.
        source: what says what must be hidden, instead of a model; `corrections.source.corrected` makes one that also
            knows the corrections of a store.

    Raises:
        ModelError: the model is not available.
        UsageError: the static mask or the position sidecar cannot be read.
    """

    def __init__(self, config: Config, *, model: Masker | None = None, source: DetectionSource | None = None) -> None:
        self._config = config
        self._static = StaticMask.of_options(config.static_mask, config.images.max_decoded_pixels)
        self._source = source or model_source(model or load_masker(config.model, progress=False), config)
        self._redactor = Redactor(config)
        self._describer = Describer(config)
        record.read_sidecar(config.record)  # raises what is wrong

    def detect(self, data: bytes, *, name: str = "") -> Detections:
        """Everything that must be hidden in an image, in stored pixels.

        Args:
            data: bytes of a JPEG or PNG file.
            name: name of the image.

        Raises:
            UnreadableImage: the file is empty, truncated, damaged, too large, or of another format.
            ModelError: the model cannot be run.
        """
        return self._find(read_image(data, self._config, name=name))

    def redact(self, data: bytes, detections: Detections, *, name: str = "") -> AnonymisedImage:
        """Hides detections in an image.

        Args:
            data: bytes of a JPEG or PNG file.
            detections: what is hidden, in stored pixels, as `detect` gives it.
            name: name of the image. Its folders may tell the road to the record.

        Raises:
            UnreadableImage: the file is empty, truncated, damaged, too large, or of another format.
            DrawError: the detections, or the static mask, are those of an image of another size.
        """
        return self._redacted(read_image(data, self._config, name=name), detections)

    def anonymise(self, data: bytes, *, name: str = "") -> AnonymisedImage:
        """Finds and hides: `detect` and `redact` of one image.

        The arguments and errors are theirs.
        """
        image = read_image(data, self._config, name=name)
        return self._redacted(image, self._find(image))

    def _find(self, image: InputImage) -> Detections:
        return self._source.of(image.name).find(image)

    def _redacted(self, image: InputImage, detections: Detections) -> AnonymisedImage:
        described = self._describer.describe(
            image.data, image.size, image.path, image.modified, objects=objects_of(detections)
        )
        static = self._static.of(image.size) if self._static is not None else None
        return self._redactor.redact(image, detections, static=static, record=described.record, notes=described.notes)


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Notes how long a stage took."""
    started = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - started
