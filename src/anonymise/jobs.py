"""What a worker does with one image: hide, write the results, write the record."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from anonymise import draw, exif, images, instances, record, storage
from anonymise.config import Config
from anonymise.detections import Detections, RgbImage, Size
from anonymise.errors import ImageError, RecordError
from anonymise.labels import LABELS
from anonymise.paths import ExpectedFile, FileKind, Paths, Place, expected_files
from anonymise.processor import projection_of
from anonymise.resources import CONFIG_FOLDER
from anonymise.sharing import SharedPixels
from anonymise.workers import collected_log

__all__ = [
    "ExifWorker",
    "Job",
    "SaveWorker",
    "Work",
    "delete_input",
    "finish",
    "make_preview",
    "make_record",
]


@dataclass(frozen=True, slots=True)
class Job:
    """An image in which everything that is to be hidden is known.

    Attributes:
        paths: of the image.
        data: its file, as it was read.
        detections: in pixels as they are stored in the file.
        modified: time of the file's last change, in seconds since the epoch.
        pixels: of the file, uint8 (height, width, 3) in this process's own memory, or in shared memory, which is drawn
            on; None if they have to be decoded.
        static: what is hidden in every image of the run, in pixels as they are stored; None hides nothing more.
    """

    paths: Paths
    data: bytes
    detections: Detections
    modified: float
    pixels: SharedPixels | RgbImage | None = None
    static: Detections | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """What a worker did.

    Attributes:
        notes: what the operator should know although it succeeded.
        seconds: stage → time that it took.
        record: the image's record as JSON text, if it is to become a row of the database.
    """

    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    record: str | None = None


class ExifWorker:
    """Writes the JSON record of an image to the places that the configuration names."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def __call__(
        self, paths: Paths, data: bytes, size: Size, modified: float, objects: Mapping[str, int] | None
    ) -> tuple[tuple[str, ...], str | None]:
        """Writes the record; returns what was odd about the image's metadata, and the record's text.

        Args:
            paths: of the image.
            data: its file, as it was read.
            size: of its pixels as they are stored.
            modified: time of the file's last change, in seconds since the epoch.
            objects: class name → number of objects; None where nobody looked for any.

        Raises:
            RecordError: the record lacks what the database insists on.
            WriteError, StorageError: it cannot be written.
        """
        config = self._config
        expected = expected_files(paths, config.files)
        files = [file for file in expected if file.kind is FileKind.JSON]
        if not files and not config.database.write_exif_to_db:
            return (), None
        source = exif.ImageSource.of(
            paths.source,
            size,
            modified=exif.file_time(modified),
            older=config.run.force_older_exif,
        )
        metadata = exif.read_metadata(images.embedded(data), source)
        has_preview = any(file.kind is FileKind.PREVIEW for file in expected)
        entry = record.build_record(
            metadata,
            detections=objects,
            preview_name=paths.preview_name if has_preview else None,
            version=record.version_text(config.record.application_version, config.changed),
            options=config.record,
        )
        if config.record.table_name is not None:
            table = CONFIG_FOLDER / "db_tables" / f"{config.record.table_name}.yml"
            try:
                record.check_not_null(entry, *record.required_keys(table, config.record.table_primary_key))
            except RecordError as error:
                raise RecordError(str(error), record.dumps(entry)) from error
        text = record.dumps(entry)
        _write(files, text.encode("utf-8"), config)
        return metadata.problems, text


class SaveWorker:
    """Draws over what was found, and writes the image, the preview, the masks and the archive copy."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def __call__(self, job: Job, seconds: dict[str, float]) -> tuple[str, ...]:
        """Writes the files; returns what was odd about the image.

        Args:
            job: the image.
            seconds: takes the time of each stage.

        Raises:
            UnreadableImage: the image cannot be decoded.
            DrawError: a region cannot be hidden.
            WriteError, StorageError: a file cannot be written.
        """
        config, paths = self._config, job.paths
        pixels = _pixels(job, config, seconds)
        with _timed(seconds, "draw"):
            static = None
            if job.static is not None:
                static = draw.Layer(job.static, config.static_mask.appearance(config.appearance))
            projection, notes = projection_of(job.data, config)
            # Of an image that is stored on its side, the edges that meet are the upper and the lower one.
            orientation = images.header(job.data).orientation
            wraps = projection.wraps and images.upright_size(job.detections.size, orientation) == job.detections.size
            in_place = pixels.flags.writeable
            drawn = draw.draw(pixels, job.detections, config.appearance, static=static, wraps=wraps, in_place=in_place)
        with _timed(seconds, "encode"):
            rewritten = images.rewrite(job.data, drawn.image, drawn.changed, config.images)
        expected = expected_files(paths, config.files)
        image_files = [file for file in expected if file.kind is FileKind.IMAGE]
        if originals := [file for file in image_files if file.place is Place.ARCHIVE]:
            with _timed(seconds, "archive"):
                _write(originals, job.data, config)
        if previews := [f for f in expected if f.kind is FileKind.PREVIEW]:
            with _timed(seconds, "preview"):
                upright = images.to_upright(drawn.image, images.header(job.data).orientation)
                _write(previews, _encoded_preview(upright, config), config)
        if found := [f for f in expected if f.kind is FileKind.INSTANCES]:
            text = instances.dumps(job.detections, paths.relative.name)
            _write(found, text.encode("utf-8"), config)
        if masks := [f for f in expected if f.kind in (FileKind.MASK, FileKind.COLMAP_MASK)]:
            with _timed(seconds, "mask"):
                hidden = drawn.changed if config.appearance.draw_mask else job.detections.union()
                _write(masks, images.encode_png(np.where(hidden, np.uint8(0), np.uint8(255))), config)
        with _timed(seconds, "write"):
            # Last: an image that is published has all its files.
            _write([file for file in image_files if file not in originals], rewritten.data, config)
        return (*notes, *rewritten.notes)


def _pixels(job: Job, config: Config, seconds: dict[str, float]) -> RgbImage:
    """The job's pixels; writeable if nobody else needs them as they are."""
    if isinstance(job.pixels, SharedPixels):
        return job.pixels.open()
    if job.pixels is not None:
        return job.pixels
    with _timed(seconds, "decode"):
        return images.decode(job.data, max_pixels=config.images.max_decoded_pixels).pixels


def finish(job: Job, config: Config) -> Work:
    """Everything that is left to do with an image once it is known what to hide.

    Raises:
        ImageError: this image cannot be finished.
        StorageError: the run cannot go on.
    """
    seconds: dict[str, float] = {}
    with collected_log() as logged:
        with _timed(seconds, "record"):
            objects = {LABELS[label]: n for label, n in job.detections.counts().items()}
            notes, text = ExifWorker(config)(job.paths, job.data, job.detections.size, job.modified, objects)
        notes += SaveWorker(config)(job, seconds)
    return Work((*notes, *logged), seconds, text if config.database.write_exif_to_db else None)


def delete_input(paths: Paths, config: Config) -> Work:
    """Deletes the input image of a finished image, if everything is in its place.

    Raises:
        WriteError: it is not; the input stays.
    """
    archived = paths.file(FileKind.IMAGE, Place.ARCHIVE)
    assert archived is not None  # the configuration's rules see to it
    expected = [file.path for file in expected_files(paths, config.files)]
    storage.delete_verified_input(paths.source, paths.places.input, archived=archived, expected=expected)
    return Work()


def make_preview(paths: Paths, config: Config) -> Work:
    """Cuts the previews of one image from its anonymised image, never from the original.

    Raises:
        ImageError: there is no anonymised image, or a preview cannot be written.
        StorageError: the run cannot go on.
    """
    files = [file for file in expected_files(paths, config.files) if file.kind is FileKind.PREVIEW]
    if not paths.output_image.is_file():
        raise ImageError(f"there is no anonymised image {paths.output_image} yet; anonymise it first")
    data = storage.read(paths.output_image, paths.places.output, config.storage, images.check_kind)
    image = images.decode(data, max_pixels=config.images.max_decoded_pixels)
    upright = images.to_upright(image.pixels, image.orientation)
    _write(files, _encoded_preview(upright, config), config)
    return Work()


def make_record(paths: Paths, config: Config) -> Work:
    """Writes the record of one image anew, without looking at its pixels.

    What an earlier run found in the image stays in the record.

    Raises:
        ImageError: the image or an earlier record cannot be read, or the record cannot be written.
        StorageError: the run cannot go on.
    """
    data = storage.read_input(paths.source, paths.places.input, config.storage, images.check_kind)
    header = images.header(data)
    size = Size(header.width, header.height)
    modified = paths.source.stat().st_mtime
    notes, _ = ExifWorker(config)(paths, data, size, modified, _recorded_objects(paths, config))
    return Work(notes)


def _recorded_objects(paths: Paths, config: Config) -> dict[str, int] | None:
    for file in expected_files(paths, config.files):
        if file.kind is FileKind.JSON and file.path.is_file():
            try:
                found = record.loads(file.path.read_text("utf-8")).get("detekterte_objekter")
            except (OSError, UnicodeDecodeError, RecordError) as error:
                raise RecordError(f"the earlier record {file.path} cannot be read; move it away: {error}") from error
            if isinstance(found, dict):
                return {name: int(count) for name, count in found.items()}
    return None


def _encoded_preview(upright: RgbImage, config: Config) -> bytes:
    dim = config.preview.preview_dim
    assert dim is not None  # the configuration's rules see to it
    return images.encode_jpeg(draw.preview(upright, dim, config.preview.preview_center))


def _write(files: list[ExpectedFile], data: bytes, config: Config) -> None:
    """Writes the same bytes to each of the files; the archive's copy of the original is read back."""
    for file in files:
        is_original = file.kind is FileKind.IMAGE and file.place is Place.ARCHIVE
        write = storage.write_verified_copy if is_original else storage.write_atomically
        write(file.path, data, file.root, config.storage)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - started
