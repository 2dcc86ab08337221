"""The runs over all images: the main job, drawing again, previews only, records only.

The model runs in this process; another one decodes images ahead of it, and everything after it runs in workers. They
get the image's file as it was read, and its pixels in memory that they share.
"""

import hashlib
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import PurePath

from anonymise.anonymiser import model_source, objects_of, read_image
from anonymise.batch.jobs import Job, Work, finish, make_preview, make_record
from anonymise.batch.journal import SAVED, Journal, has_journal
from anonymise.batch.loader import Loaded, Loader
from anonymise.batch.outcomes import Outcome, Progress, Report
from anonymise.batch.paths import Paths, Places, TreeWalker, expected_files
from anonymise.batch.recorder import FilesBook, JournalBook, known_failures
from anonymise.batch.runner import Book, Found, Task, ahead, outcome_of, problem_outcome, run
from anonymise.batch.sharing import PixelMemory, SharedPixels
from anonymise.batch.storage import holds_files, prepare, read_input
from anonymise.batch.tracked import noted
from anonymise.batch.workers import SerialWorkers, Workers
from anonymise.config import Config, FileKind, FileOptions, Place, StorageOptions
from anonymise.core import saved_instances as instances
from anonymise.core.detections import Size
from anonymise.core.errors import DrawError, ImageError, InstancesError, StorageError, UsageError
from anonymise.core.sources import DetectionSource, Source
from anonymise.database.sender import Sender
from anonymise.images import check_kind, header
from anonymise.models import Masker
from anonymise.redaction.static import StaticMask

__all__ = ["SavedInstances", "anonymise", "check_static_mask", "make_previews", "make_records", "redraw"]


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
    model = model_source(masker, config)
    return _finish_each(model, model.fingerprint, config, places, workers, reader, progress, sender)


def redraw(
    config: Config,
    places: Places,
    workers: Workers,
    progress: Progress | None = None,
    sender: Sender | None = None,
    reader: Workers | None = None,
) -> Report:
    """The main job again with what an earlier run found: the input is its archive, with the saved instances.

    Images whose saved instances and settings are those that they were finished with are skipped. The saved instances
    in the input folder are read and never written. The arguments are those of `anonymise`.
    """
    reading = replace(config, files=config.files.model_copy(update={"local_instances": False}))
    return _finish_each(SavedInstances(places), None, reading, places, workers, reader, progress, sender)


class SavedInstances:
    """The saved instances in the input folder as a source of detections.

    Args:
        places: the folders.
    """

    def __init__(self, places: Places) -> None:
        self._places = places

    def of(self, name: str) -> Source:
        """The saved instances of one image, as their file is now.

        Raises:
            InstancesError: they cannot be read.
        """
        file = Paths(PurePath(name), self._places).file(FileKind.INSTANCES, Place.LOCAL)
        assert file is not None  # there is always an input folder
        try:
            data = file.read_bytes()
        except FileNotFoundError as error:
            raise InstancesError(f"there is no {file}; anonymise with archive_instances: True first") from error
        except OSError as error:
            raise InstancesError(f"{file} cannot be read: {error.strerror or error}") from error
        sha256 = hashlib.sha256(data).hexdigest()
        return Source(SAVED + sha256, lambda image: instances.parse(data, file, image.size), sha256)


def _finish_each(
    source: DetectionSource,
    model: str | None,
    config: Config,
    places: Places,
    workers: Workers,
    reader: Workers | None,
    progress: Progress | None,
    sender: Sender | None,
) -> Report:
    """Finishes each image in the workers once its source has said here what is to be hidden in it.

    Args:
        source: says what must be hidden.
        model: fingerprint that it has for all images; None if each has its own.
        config: the configuration.
        places: the folders.
        workers: do the rest.
        reader: decodes; None does it here.
        progress: is told of everything.
        sender: sends rows.
    """
    prepare(places, config.files)
    static = StaticMask.of_options(config.static_mask, config.images.max_decoded_pixels)
    check_static_mask(static, places, config.files, config.storage)

    memory = PixelMemory(config.run.image_memory_megabytes << 20)

    def task(loaded: Loaded) -> Task:
        started = time.perf_counter()
        image = read_image(loaded.data, config, pixels=loader.pixels(loaded), name=loaded.paths.key)
        detections = loaded.begun.source.find(image)
        seconds = {**loaded.seconds, "model": time.perf_counter() - started}
        objects = objects_of(detections)
        again = Job(
            loaded.paths,
            loaded.data,
            detections,
            loaded.modified,
            static=None if static is None else static.of(detections.size),
            own_instances=frozenset(loaded.begun.instances),
            mtime_ns=loaded.begun.identity.mtime_ns,
        )
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
        config.settings_fingerprint(None if static is None else static.fingerprint),
        source=model,
        usual=[noted(file) for file in expected_files(Paths(PurePath("any.jpg"), places), config.files)],
        retry_seconds=access.file_access_retry_seconds,
        timeout_seconds=access.file_access_timeout_seconds,
    )
    _check_archive(places, journal, config)
    book = JournalBook(journal, config, places, sender, source)
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


def check_static_mask(mask: StaticMask | None, places: Places, options: FileOptions, access: StorageOptions) -> None:
    """Looks whether the static mask fits the first image, so that a run of many does not fail image by image.

    Raises:
        UsageError: it does not fit.
    """
    if mask is None:
        return
    for paths in TreeWalker(places, options).walk():
        try:
            if isinstance(paths, Paths):
                first = header(read_input(paths.source, places.input, access, check_kind))
                mask.of(Size(first.width, first.height))
                return
        except DrawError as error:
            raise UsageError(str(error)) from error
        except (OSError, ImageError):
            continue  # the run reports it


def _check_archive(places: Places, journal: Journal, config: Config) -> None:
    """Makes sure that originals are not deleted on the strength of an archive that is not there.

    Raises:
        StorageError: earlier runs wrote to the archive, and it is empty.
    """
    archive = places.archive
    if archive is None or not config.storage.delete_input or not journal.has_written_below(str(archive)):
        return
    if not holds_files(archive):
        raise StorageError(
            f"The archive folder {archive} is empty, although earlier runs wrote to it, and delete_input is True. Is "
            "its disk or share mounted? If the archive was moved away, give another folder (-a)."
        )


def make_previews(config: Config, places: Places, workers: Workers, progress: Progress | None = None) -> Report:
    """Cuts the previews again from the anonymised images that an earlier run wrote; no model is needed."""
    return _each(make_preview, config, places, workers, progress, FileKind.PREVIEW)


def make_records(config: Config, places: Places, workers: Workers, progress: Progress | None = None) -> Report:
    """Writes the records only; no model is needed."""
    return _each(make_record, config, places, workers, progress, FileKind.JSON)


def _each(
    work: Callable[[Paths, Config], Work],
    config: Config,
    places: Places,
    workers: Workers,
    progress: Progress | None,
    kind: FileKind | None = None,
) -> Report:
    """Does something in the workers with each image that needs no preparation here.

    Args:
        work: what to do.
        config: the configuration.
        places: the folders.
        workers: do it.
        progress: is told of everything.
        kind: what it writes, which the journal notes where there is one; None writes nothing.
    """
    prepare(places, config.files)

    def tasks(found: Iterable[Found]) -> Generator[Task | Outcome]:
        for paths in found:
            yield Task(paths, partial(work, paths, config)) if isinstance(paths, Paths) else problem_outcome(paths)

    book = Book(known_failures(places.output))
    if kind is not None and has_journal(places.output):
        access = config.storage
        journal = Journal(
            places.output,
            "",
            retry_seconds=access.file_access_retry_seconds,
            timeout_seconds=access.file_access_timeout_seconds,
        )
        book = FilesBook(journal, kind, config, places)
    return run(config, places, tasks, workers, progress or Progress(), book)
