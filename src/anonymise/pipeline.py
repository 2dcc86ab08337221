"""The runs over all images: the main job, drawing again, previews only, records only.

The model runs in this process; another one decodes images ahead of it, and everything after it runs in workers. They
get the image's file as it was read, and its pixels in memory that they share.
"""

import time
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from anonymise import instances
from anonymise.bookkeeping import JournalBook, known_failures
from anonymise.config import Config
from anonymise.db.sender import Sender
from anonymise.detections import Detections, RgbImage, Size
from anonymise.draw import StaticMaskOptions, static_mask
from anonymise.engine import Book, Found, Task, ahead, outcome_of, problem_outcome, run
from anonymise.errors import DrawError, ImageError, InstancesError, UsageError
from anonymise.images import check_kind, decode, detections_to_stored, header, to_upright
from anonymise.jobs import Job, Work, finish, make_preview, make_record
from anonymise.journal import Journal
from anonymise.labels import LABELS
from anonymise.loading import Loaded, Loader
from anonymise.masker import Masker
from anonymise.outcomes import Outcome, Progress, Report
from anonymise.paths import FileKind, FileOptions, Paths, Place, Places, TreeWalker
from anonymise.processor import ImageProcessor, projection_of
from anonymise.sharing import PixelMemory, SharedPixels
from anonymise.storage import StorageOptions, prepare, read_input
from anonymise.workers import SerialWorkers, Workers

__all__ = ["anonymise", "check_static_mask", "make_previews", "make_records", "redraw"]


def anonymise(
    config: Config,
    places: Places,
    masker: Masker,
    workers: Workers,
    progress: Progress | None = None,
    sender: Sender | None = None,
    reader: Workers | None = None,
) -> Report:
    """The main job over a whole folder.

    Args:
        config: the configuration.
        places: the folders.
        masker: finds what is to be hidden.
        workers: do everything after that.
        progress: is told how many images there are, and of every outcome.
        sender: sends the rows of finished images to the database, with ``write_exif_to_db``.
        reader: decodes images; None does it in this process, which then ends where a damaged file crashes a codec.
    """
    processor = ImageProcessor(masker, config)

    def look(loaded: Loaded, pixels: RgbImage) -> Detections:
        projection, _ = projection_of(loaded.data, config)
        upright = processor.detect(to_upright(pixels, loaded.orientation), projection)
        return detections_to_stored(upright, loaded.orientation)

    return _finish_each(look, masker.identity, config, places, workers, reader, progress, sender)


def redraw(
    config: Config,
    places: Places,
    workers: Workers,
    progress: Progress | None = None,
    sender: Sender | None = None,
    reader: Workers | None = None,
) -> Report:
    """The main job again with what an earlier run found: the input is its archive, with the saved instances.

    The arguments are those of `anonymise`.
    """

    def look(loaded: Loaded, pixels: RgbImage) -> Detections:  # noqa: ARG001 - nobody looks again
        file = loaded.paths.file(FileKind.INSTANCES, Place.LOCAL)
        assert file is not None  # there is always an input folder
        if not file.exists():
            raise InstancesError(f"there is no {file}; anonymise with archive_instances: True first")
        return instances.load(file, loaded.size)

    return _finish_each(look, "saved instances", config, places, workers, reader, progress, sender)


def _finish_each(
    look: Callable[[Loaded, RgbImage], Detections],
    model: str,
    config: Config,
    places: Places,
    workers: Workers,
    reader: Workers | None,
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
        reader: decodes; None does it here.
        progress: is told of everything.
        sender: sends rows.
    """
    prepare(places, config.files)
    static = _StaticMask(config.static_mask, config.images.max_decoded_pixels)
    static.check(places, config.files, config.storage)

    memory = PixelMemory(config.run.image_memory_megabytes << 20)

    def task(loaded: Loaded) -> Task:
        started = time.perf_counter()
        detections = look(loaded, loader.pixels(loaded))
        seconds = {**loaded.seconds, "model": time.perf_counter() - started}
        objects = {LABELS[label]: n for label, n in detections.counts().items()}
        again = Job(loaded.paths, loaded.data, detections, loaded.modified, static=static.of(detections.size))
        if not workers.in_process and not isinstance(loaded.pixels, SharedPixels):
            return Task(loaded.paths, partial(finish, again, config), objects=objects, seconds=seconds)
        job = replace(again, pixels=loaded.pixels)
        return Task(
            loaded.paths,
            work=partial(finish, job, config),
            again=partial(finish, again, config),  # what the first try has drawn on is no original any more
            release=partial(loader.release, loaded),
            objects=objects,
            seconds=seconds,
        )

    access = config.storage
    journal = Journal(
        places.output,
        config.digest(model),
        retry_seconds=access.file_access_retry_seconds,
        timeout_seconds=access.file_access_timeout_seconds,
    )
    book = JournalBook(journal, config, places, sender)
    loader = Loader(config, book, reader or SerialWorkers(), memory)

    def load(found: Found) -> Loaded | Outcome:
        if not isinstance(found, Paths):
            return problem_outcome(found)
        return outcome_of(found.source, "read", partial(loader.load, found))

    def tasks(found: Iterable[Found]) -> Generator[Task | Outcome]:
        depth = 2 if config.run.enable_async else 0
        with closing(ahead(load, found, depth)) as loading, ExitStack() as stack:
            stack.callback(memory.let_go)  # before the thread that reads ahead is waited for
            for loaded in loading:
                if not isinstance(loaded, Loaded):
                    yield loaded
                    continue
                ready = outcome_of(loaded.paths.source, "model", partial(task, loaded))
                if not isinstance(ready, Task):
                    loader.release(loaded)
                yield ready

    # The book is closed, and so the journal committed, in the run, which reports it if that fails.
    with closing(memory):
        return run(config, places, tasks, workers, progress or Progress(), book)


def check_static_mask(config: Config, places: Places | None) -> None:
    """Looks whether the static mask can be read, and whether it fits the first image.

    Raises:
        UsageError: it does not.
    """
    mask = _StaticMask(config.static_mask, config.images.max_decoded_pixels)
    if places is not None:
        mask.check(places, config.files, config.storage)


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

    def check(self, places: Places, options: FileOptions, access: StorageOptions) -> None:
        """Looks whether the mask fits the first image, so that a run of many does not fail image by image.

        Raises:
            UsageError: it does not fit.
        """
        if self._options.static_mask is None:
            return
        for paths in TreeWalker(places, options).walk():
            try:
                if isinstance(paths, Paths):
                    first = header(read_input(paths.source, places.input, access, check_kind))
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
    prepare(places, config.files)

    def tasks(found: Iterable[Found]) -> Generator[Task | Outcome]:
        for paths in found:
            yield Task(paths, partial(work, paths, config)) if isinstance(paths, Paths) else problem_outcome(paths)

    return run(config, places, tasks, workers, progress or Progress(), Book(known_failures(places.output)))
