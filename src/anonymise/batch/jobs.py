"""What a worker does with one image: hide, write the results, write the record."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from anonymise import images
from anonymise import redaction as draw
from anonymise.anonymiser import Describer, Redactor, objects_of, timed
from anonymise.batch import originals, storage
from anonymise.batch.paths import ExpectedFile, Paths, expected_files
from anonymise.batch.sharing import SharedPixels
from anonymise.batch.tasks import Work
from anonymise.batch.tracked import input_content
from anonymise.batch.workers import collected_log
from anonymise.batch.writer import Writer, is_original
from anonymise.config import FileKind, FileOptions, Place, PreviewOptions, StorageOptions
from anonymise.core import saved_instances as instances
from anonymise.core.detections import Detections, RgbImage, Size
from anonymise.core.errors import ImageError, RecordError, StorageError, UsageError
from anonymise.core.orientation import to_upright
from anonymise.core.projection import Projection
from anonymise.core.sources import InputImage
from anonymise.database.table import load_table, table_file
from anonymise.metadata import record
from anonymise.metadata.record import RecordOptions

__all__ = [
    "ExifWorker",
    "Job",
    "JobOptions",
    "SaveWorker",
    "delete_input",
    "finish",
    "make_preview",
    "make_record",
]


@dataclass(frozen=True, slots=True)
class Job:
    """An image in which everything that is to be hidden is known.

    Attributes:
        paths: paths of the image.
        data: its file, as it was read.
        detections: in pixels as they are stored in the file.
        modified: time of the file's last change, in seconds since the epoch.
        orientation: EXIF orientation, 1 to 8.
        projection: how the pixels of the upright image lie around the camera.
        notes: what is odd about the image, one line each.
        mtime_ns: time of the last change in nanoseconds, as the file system has it, for the archive's copy.
        pixels: decoded file, uint8 (height, width, 3) in this process's own memory, or in shared memory, which is drawn
            on; None if they have to be decoded.
        static: what is hidden in every image of the run, in pixels as they are stored; None hides nothing more.
        own_instances: SHA-256 of the files of saved instances that runs wrote; no others are replaced.
    """

    paths: Paths
    data: bytes
    detections: Detections
    modified: float
    orientation: int
    projection: Projection
    notes: tuple[str, ...] = ()
    pixels: SharedPixels | RgbImage | None = None
    static: Detections | None = None
    own_instances: frozenset[str] = frozenset()
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What a worker reads of the configuration.

    Attributes:
        files: which files an image has.
        writer: takes the files.
        storage: how long a share is waited for.
        preview: size and place of the preview.
        max_pixels: number of pixels above which an image is refused.
        redactor: hides what was found.
        describer: makes records.
        record: table of the database that records must satisfy.
        wants_row: whether the record of a finished image becomes a row of the database.
    """

    files: FileOptions
    writer: Writer
    storage: StorageOptions
    preview: PreviewOptions
    max_pixels: int
    redactor: Redactor
    describer: Describer
    record: RecordOptions
    wants_row: bool


class Recorded(NamedTuple):
    """What came of reading an image's metadata.

    Attributes:
        notes: what was odd about them.
        text: the record; None where none is wanted.
        has_file_time: whether the record holds the time of the file, because the image has none.
    """

    notes: tuple[str, ...] = ()
    text: str | None = None
    has_file_time: bool = False


class ExifWorker:
    """Writes the JSON record of an image to the places that the configuration names."""

    def __init__(self, options: JobOptions) -> None:
        self._options = options

    def __call__(
        self, paths: Paths, data: bytes, size: Size, modified: float, objects: Mapping[str, int] | None
    ) -> Recorded:
        """Writes the record.

        Args:
            paths: paths of the image.
            data: its file, as it was read.
            size: size of its pixels as they are stored.
            modified: time of the file's last change, in seconds since the epoch.
            objects: class name → number of objects; None where nobody looked for any.

        Raises:
            RecordError: the record lacks what the database insists on.
            WriteError, StorageError: it cannot be written.
        """
        options = self._options
        expected = expected_files(paths, options.files)
        files = [file for file in expected if file.kind is FileKind.JSON]
        if not files and not options.wants_row:
            return Recorded()
        has_preview = any(file.kind is FileKind.PREVIEW for file in expected)
        try:
            described = options.describer.describe(
                data,
                size,
                paths.source,
                modified,
                objects=objects,
                preview_name=paths.preview_name if has_preview else None,
            )
        except UsageError as error:  # the position sidecar was there when the run began
            raise StorageError(str(error)) from error
        if options.record.table_name is not None:
            needed = _required_keys(table_file(options.record.table_name), options.record.table_primary_key)
            try:
                record.check_not_null(described.record, *needed)
            except RecordError as error:
                raise RecordError(str(error), record.dumps(described.record)) from error
        text = record.dumps(described.record)
        _write(files, text.encode("utf-8"), options.writer, paths.source)
        return Recorded(described.notes, text, bool(files) and described.has_file_time)


@cache
def _required_keys(table: Path, primary_key: str | None) -> tuple[tuple[str, ...], str]:
    """What the table of a file insists on; each process reads it once."""
    return load_table(table.stem, table.parent).required_keys(primary_key)


class SaveWorker:
    """Draws over what was found, and writes the image, the preview, the masks and the archive copy."""

    def __init__(self, options: JobOptions) -> None:
        self._options = options

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
        options, paths = self._options, job.paths
        pixels = _pixels(job, options.max_pixels, seconds)
        image = InputImage(job.data, pixels, job.orientation, job.projection, paths.key, notes=job.notes)
        hidden = options.redactor.redact(image, job.detections, static=job.static)
        seconds |= hidden.seconds
        expected = expected_files(paths, options.files)
        # The original is safe before anything is published.
        if copies := [file for file in expected if is_original(file)]:
            with timed(seconds, "archive"):
                for file in copies:
                    options.writer.write(file, job.data, paths.source, job.mtime_ns)
        if previews := [f for f in expected if f.kind is FileKind.PREVIEW]:
            with timed(seconds, "preview"):
                dim = options.preview.preview_dim
                assert dim is not None  # the configuration's rules see to it
                _write(previews, hidden.preview(dim, options.preview.preview_center), options.writer, paths.source)
        if found := [f for f in expected if f.kind is FileKind.INSTANCES]:
            _write(found, _encoded_instances(job), options.writer, paths.source)
        if masks := [f for f in expected if f.kind in (FileKind.MASK, FileKind.COLMAP_MASK)]:
            with timed(seconds, "mask"):
                _write(masks, hidden.mask(), options.writer, paths.source)
        with timed(seconds, "write"):
            # Last: an image that is published has all its files.
            published = [file for file in expected if (file.kind, file.place) == (FileKind.IMAGE, Place.REMOTE)]
            _write(published, hidden.data, options.writer, paths.source)
        return hidden.notes


def _pixels(job: Job, max_pixels: int, seconds: dict[str, float]) -> RgbImage:
    """The job's pixels; writeable if nobody else needs them as they are."""
    if isinstance(job.pixels, SharedPixels):
        return job.pixels.open()
    if job.pixels is not None:
        return job.pixels
    with timed(seconds, "decode"):
        return images.decode(job.data, max_pixels=max_pixels).pixels


def finish(job: Job, options: JobOptions) -> Work:
    """Everything that is left to do with an image once it is known what to hide.

    Raises:
        ImageError: this image cannot be finished.
        StorageError: the run cannot go on.
    """
    seconds: dict[str, float] = {}
    with collected_log() as logged:
        # Before anything is written.
        saved = _check_replaceable(job, options)
        with timed(seconds, "record"):
            objects = objects_of(job.detections)
            recorded = ExifWorker(options)(job.paths, job.data, job.detections.size, job.modified, objects)
        notes = recorded.notes + SaveWorker(options)(job, seconds)
    mtime_ns = job.mtime_ns if job.mtime_ns is not None else int(job.modified * 1e9)
    time = mtime_ns // 10**9 if recorded.has_file_time else None
    contents = {"input": input_content(hashlib.sha256(job.data).hexdigest(), time), **saved}
    record = recorded.text if options.wants_row else None
    return Work((*notes, *logged), seconds, record, contents)


def _encoded_instances(job: Job) -> bytes:
    # In JSON, bytes of a file name that are no text become escapes, which give the same name when they are read.
    return instances.dumps(job.detections, job.paths.relative.name).encode("utf-8", "backslashreplace")


def _check_replaceable(job: Job, options: JobOptions) -> dict[str, str]:
    """Makes sure, before anything is written, that nothing is replaced that no run wrote.

    Returns:
        "instances" → SHA-256 of what is to be written, if anything is.

    Raises:
        WriteError, InstancesError: something would be.
    """
    contents = {}
    for file in expected_files(job.paths, options.files):
        if is_original(file):
            options.writer.check(file, job.data, job.paths.source, job.own_instances)
        elif file.kind is FileKind.INSTANCES:
            data = _encoded_instances(job)
            options.writer.check(file, data, job.paths.source, job.own_instances)
            contents["instances"] = hashlib.sha256(data).hexdigest()
    return contents


def delete_input(paths: Paths, options: FileOptions) -> Work:
    """Deletes the input image of a finished image, if everything is in its place.

    Raises:
        WriteError: it is not; the input stays.
    """
    archived = paths.file(FileKind.IMAGE, Place.ARCHIVE)
    assert archived is not None  # the configuration's rules see to it
    expected = [file.path for file in expected_files(paths, options)]
    originals.delete_verified_input(paths.source, paths.places.input, archived=archived, expected=expected)
    return Work()


def make_preview(paths: Paths, options: JobOptions) -> Work:
    """Cuts the previews of one image from its anonymised image, never from the original.

    Raises:
        ImageError: there is no anonymised image, or a preview cannot be written.
        StorageError: the run cannot go on.
    """
    files = [file for file in expected_files(paths, options.files) if file.kind is FileKind.PREVIEW]
    if not paths.output_image.is_file():
        raise ImageError(f"there is no anonymised image {paths.output_image} yet; anonymise it first")
    data = storage.read(paths.output_image, paths.places.output, options.storage, images.check_kind)
    image = images.decode(data, max_pixels=options.max_pixels)
    upright = to_upright(image.pixels, image.orientation)
    _write(files, _encoded_preview(upright, options.preview), options.writer, paths.source)
    return Work()


def make_record(paths: Paths, options: JobOptions) -> Work:
    """Writes the record of one image again, without looking at its pixels.

    What an earlier run found in the image stays in the record.

    Raises:
        ImageError: the image or an earlier record cannot be read, or the record cannot be written.
        StorageError: the run cannot go on.
    """
    data = storage.read_input(paths.source, paths.places.input, options.storage, images.check_kind)
    header = images.header(data)
    size = Size(header.width, header.height)
    modified = paths.source.stat().st_mtime
    return Work(ExifWorker(options)(paths, data, size, modified, _recorded_objects(paths, options.files)).notes)


def _recorded_objects(paths: Paths, options: FileOptions) -> dict[str, int] | None:
    for file in expected_files(paths, options):
        if file.kind is FileKind.JSON and file.path.is_file():
            try:
                found = record.loads(file.path.read_text("utf-8")).get("detekterte_objekter")
            except (OSError, UnicodeDecodeError, RecordError) as error:
                raise RecordError(f"the earlier record {file.path} cannot be read; move it away: {error}") from error
            if isinstance(found, dict):
                return {name: int(count) for name, count in found.items()}
    return None


def _encoded_preview(upright: RgbImage, options: PreviewOptions) -> bytes:
    dim = options.preview_dim
    assert dim is not None  # the configuration's rules see to it
    return images.encode_jpeg(draw.preview(upright, dim, options.preview_center))


def _write(files: list[ExpectedFile], data: bytes, writer: Writer, source: Path) -> None:
    """Writes the same bytes to each of the files."""
    for file in files:
        writer.write(file, data, source)
