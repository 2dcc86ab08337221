"""The runs over all images: the main job, drawing again, previews only, records only.

The model runs in this process; everything after it runs in workers, which get the image's file as it was read, not its
pixels.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from anonymise import instances
from anonymise.bookkeeping import JournalBook
from anonymise.config import Config
from anonymise.db.sender import Sender
from anonymise.detections import Detections, Size
from anonymise.draw import StaticMaskOptions, static_mask
from anonymise.engine import Book, Found, Task, ahead, outcome_of, problem_outcome, run
from anonymise.errors import DrawError, ImageError, InstancesError, UnreadableImage, UsageError
from anonymise.images import SourceImage, decode, detections_to_stored, header, to_upright
from anonymise.jobs import Job, Work, finish, make_preview, make_record
from anonymise.journal import Journal
from anonymise.labels import LABELS
from anonymise.masker import Masker
from anonymise.outcomes import Outcome, Progress, Report, Skipped
from anonymise.paths import FileKind, FileOptions, Paths, Place, Places, TreeWalker
from anonymise.processor import ImageProcessor
from anonymise.storage import read
from anonymise.workers import Workers

__all__ = ["anonymise", "make_previews", "make_records", "redraw"]


def anonymise(
    config: Config,
    places: Places,
    masker: Masker,
    workers: Workers,
    progress: Progress | None = None,
    sender: Sender | None = None,
) -> Report:
    """The main job over a whole folder.

    Args:
        config: the configuration.
        places: the folders.
        masker: finds what is to be hidden.
        workers: do everything after that.
        progress: is told how many images there are, and of every outcome.
        sender: sends the rows of finished images to the database, with ``write_exif_to_db``.
    """
    processor = ImageProcessor(masker, config)

    def look(loaded: "_Loaded") -> Detections:
        orientation = loaded.image.orientation
        return detections_to_stored(processor.detect(to_upright(loaded.image.pixels, orientation)), orientation)

    return _finish_each(look, masker.identity, config, places, workers, progress, sender)


def redraw(
    config: Config, places: Places, workers: Workers, progress: Progress | None = None, sender: Sender | None = None
) -> Report:
    """The main job again with what an earlier run found: the input is its archive, with the saved instances."""

    def look(loaded: "_Loaded") -> Detections:
        file = loaded.paths.file(FileKind.INSTANCES, Place.LOCAL)
        assert file is not None  # there is always an input folder
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InstancesError(f"{file} cannot be read; anonymise with archive_instances: True first") from error
        found = instances.loads(text)
        height, width = loaded.image.pixels.shape[:2]
        if found.size != (width, height):
            raise InstancesError(f"{file} is of an image of {found.size.width}x{found.size.height} pixels")
        return found

    return _finish_each(look, "saved instances", config, places, workers, progress, sender)


def _finish_each(
    look: Callable[["_Loaded"], Detections],
    model: str,
    config: Config,
    places: Places,
    workers: Workers,
    progress: Progress | None,
    sender: Sender | None,
) -> Report:
    """Finishes each image in the workers once ``look`` has said here what is to be hidden in it.

    Args:
        look: what is to be hidden in an image, in pixels as they are stored.
        model: a text that changes with what ``look`` would find.
        config: the configuration.
        places: the folders.
        workers: do the rest.
        progress: is told of everything.
        sender: sends rows.
    """
    static = _StaticMask(config.static_mask, config.images.max_decoded_pixels)
    static.check(places, config.files)

    def task(loaded: "_Loaded") -> Task:
        started = time.perf_counter()
        detections = look(loaded)
        seconds = {"read": loaded.seconds, "model": time.perf_counter() - started}
        objects = {LABELS[label]: n for label, n in detections.counts().items()}
        job = Job(loaded.paths, loaded.data, detections, loaded.modified, static.of(detections.size))
        return Task(loaded.paths, partial(finish, job, config), objects=objects, seconds=seconds)

    access = config.storage
    journal = Journal(
        places.output,
        config.digest(model),
        retry_seconds=access.file_access_retry_seconds,
        timeout_seconds=access.file_access_timeout_seconds,
    )
    book = JournalBook(journal, config, places, sender)

    def load(found: Found) -> "_Loaded | Outcome":
        if not isinstance(found, Paths):
            return problem_outcome(found)
        return outcome_of(found.source, "read", partial(_load, found, config, book))

    def tasks(found: Iterable[Found]) -> Iterator[Task | Outcome]:
        for loaded in ahead(load, found, depth=2 if config.run.enable_async else 0):
            if isinstance(loaded, _Loaded):
                yield outcome_of(loaded.paths.source, "model", partial(task, loaded))
            else:
                yield loaded

    # The book is closed, and so the journal committed, in the run, which reports it if that fails.
    return run(config, places, tasks, workers, progress or Progress(), book)


class _StaticMask:
    """The areas that are hidden in every image of a run.

    Raises:
        UsageError: the file cannot be read.
    """

    def __init__(self, options: StaticMaskOptions, max_pixels: int) -> None:
        self._options = options
        self._of_size: dict[Size, Detections] = {}
        if options.static_mask is not None:
            try:
                pixels = decode(Path(options.static_mask).read_bytes(), max_pixels=max_pixels).pixels
            except (OSError, ImageError) as error:
                raise UsageError(f"static_mask {options.static_mask} cannot be read: {error}") from error
            self._keep = pixels.max(axis=2)

    def of(self, size: Size) -> Detections | None:
        """The areas in images of a size.

        Raises:
            DrawError: the mask has another size, and may not be scaled.
        """
        if self._options.static_mask is None:
            return None
        if size not in self._of_size:
            self._of_size[size] = static_mask(self._keep, size, resize=self._options.static_mask_resize)
        return self._of_size[size]

    def check(self, places: Places, options: FileOptions) -> None:
        """Looks whether the mask fits the first image, so that a run of many does not fail image by image.

        Raises:
            UsageError: it does not fit.
        """
        if self._options.static_mask is None:
            return
        for paths in TreeWalker(places, options).walk():
            try:
                if isinstance(paths, Paths):
                    first = header(paths.source.read_bytes())
                    self.of(Size(first.width, first.height))
                    return
            except DrawError as error:
                raise UsageError(str(error)) from error
            except (OSError, ImageError):
                continue  # the run reports it


def make_previews(config: Config, places: Places, workers: Workers, progress: Progress | None = None) -> Report:
    """Cuts the previews again from the anonymised images that an earlier run wrote; no model is needed."""
    return _each(make_preview, config, places, workers, progress)


def make_records(config: Config, places: Places, workers: Workers, progress: Progress | None = None) -> Report:
    """Writes the records only; no model is needed."""
    return _each(make_record, config, places, workers, progress)


def _each(
    work: Callable[[Paths, Config], Work], config: Config, places: Places, workers: Workers, progress: Progress | None
) -> Report:
    """Does something in the workers with each image that needs no preparation here."""

    def tasks(found: Iterable[Found]) -> Iterator[Task | Outcome]:
        for paths in found:
            yield Task(paths, partial(work, paths, config)) if isinstance(paths, Paths) else problem_outcome(paths)

    return run(config, places, tasks, workers, progress or Progress(), Book())


@dataclass(frozen=True, slots=True)
class _Loaded:
    """An image that is ready for the model."""

    paths: Paths
    data: bytes
    image: SourceImage
    modified: float
    seconds: float


def _load(paths: Paths, config: Config, book: JournalBook) -> _Loaded | Skipped:
    started = time.perf_counter()
    try:
        identity = book.begin(paths)
    except OSError as error:
        raise UnreadableImage(f"the file cannot be read: {error.strerror or error}") from error
    if identity is None:
        return Skipped(paths.source, "finished by an earlier run; force_remask: True does it again")
    data = read(paths.source, paths.places.input, config.storage)
    image = decode(data, max_pixels=config.images.max_decoded_pixels)
    return _Loaded(paths, data, image, identity.mtime_ns / 1e9, time.perf_counter() - started)
