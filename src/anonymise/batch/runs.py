"""The runs over all images: the main job, drawing again, previews only, records only.

The model runs in this process; another one decodes images ahead of it, and everything after it runs in workers. They
get the image's file as it was read, and its pixels in memory that they share.
"""

import hashlib
import logging
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePath
from typing import Protocol

from anonymise.anonymiser import model_source
from anonymise.batch.finishing import Finishing, Prepared, begun_or_skipped, job_options
from anonymise.batch.folder import FolderOptions, Found, run_over
from anonymise.batch.jobs import JobOptions, make_preview, make_record
from anonymise.batch.journal import SAVED, Journal, has_journal
from anonymise.batch.loader import Loader, LoaderOptions
from anonymise.batch.outcomes import Progress, Report, Skipped
from anonymise.batch.paths import Paths, Places, expected_files
from anonymise.batch.recorder import FileRecorder, JournalRecorder, Recorder, RecorderOptions, known_failures
from anonymise.batch.resume import Begun, Resumption
from anonymise.batch.runner import Failure, Success, Task, attempt, prefetch
from anonymise.batch.shards import clear_staging
from anonymise.batch.sharing import PixelMemory
from anonymise.batch.storage import holds_files, prepare, read_input
from anonymise.batch.tasks import ImageResult, ImageTask, Subject, Work, problem_result
from anonymise.batch.tracked import noted
from anonymise.batch.walker import TreeWalker
from anonymise.batch.workers import Executor, SerialWorkers
from anonymise.config import Config, FileKind, FileOptions, Place, StorageOptions
from anonymise.core import saved_instances as instances
from anonymise.core.detections import Size
from anonymise.core.errors import DrawError, ImageError, InstancesError, StorageError, UsageError
from anonymise.core.sources import DetectionSource, Source
from anonymise.corrections.source import CorrectedSource, corrected
from anonymise.database.sender import Sender
from anonymise.images import check_kind, header
from anonymise.metadata import PositionSidecar
from anonymise.metadata.record import read_sidecar
from anonymise.models import Masker
from anonymise.redaction.static import StaticMask

log = logging.getLogger(__name__)

__all__ = [
    "SavedInstances",
    "anonymise",
    "check_static_mask",
    "distribute",
    "each_image",
    "make_previews",
    "make_records",
    "redraw",
]


def anonymise(
    config: Config,
    places: Places,
    masker: Masker,
    workers: Executor,
    progress: Progress | None = None,
    sender: Sender | None = None,
    reader: Executor | None = None,
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
    return _finish_each(model, model.fingerprint, _Run(config, places, workers, progress, sender, reader))


def redraw(
    config: Config,
    places: Places,
    workers: Executor,
    progress: Progress | None = None,
    sender: Sender | None = None,
    reader: Executor | None = None,
) -> Report:
    """The main job again with what an earlier run found: the input is its archive, with the saved instances.

    Images whose saved instances and settings are those that they were finished with are skipped. The saved instances
    in the input folder are read and never written. The arguments are those of `anonymise`.
    """
    reading = replace(config, files=config.files.model_copy(update={"local_instances": False}))
    return _finish_each(SavedInstances(places), None, _Run(reading, places, workers, progress, sender, reader))


def distribute(
    config: Config,
    places: Places,
    source: DetectionSource,
    fingerprint: str,
    elsewhere: "Elsewhere",
    progress: Progress | None = None,
    sender: Sender | None = None,
) -> Report:
    """The main job, with everything between the decision about an image and its publication done elsewhere.

    Args:
        config: the configuration.
        places: the folders.
        source: its fingerprints say what is finished; it is not asked what must be hidden.
        fingerprint: that of the model, which all images have.
        elsewhere: makes the tasks, and does them.
        progress: as for `anonymise`.
        sender: as for `anonymise`.
    """
    return _finish_each(
        source, fingerprint, _Run(config, places, elsewhere.executor, progress, sender, None, elsewhere)
    )


class Elsewhere(Protocol):
    """Where images are done that this process neither reads nor decodes."""

    @property
    def executor(self) -> Executor:
        """Does the tasks, and those that follow from them."""
        ...

    def task(self, paths: Paths, begun: Begun, corrections: CorrectedSource | None) -> ImageTask:
        """The task for an image; its result is the image's outcome, published.

        Args:
            paths: paths of the image.
            begun: what is known of it.
            corrections: the corrections of the run, if there are any.
        """
        ...


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


@dataclass(frozen=True, slots=True)
class _Run:
    """What a run works with; the members are the arguments of `anonymise`."""

    config: Config
    places: Places
    workers: Executor
    progress: Progress | None
    sender: Sender | None
    reader: Executor | None
    elsewhere: Elsewhere | None = None


def _finish_each(source: DetectionSource, model: str | None, run: _Run) -> Report:
    """Finishes each image in the workers once its source has said here what is to be hidden in it.

    Args:
        source: says what must be hidden.
        model: fingerprint that it has for all images; None if each has its own.
        run: what the run works with.
    """
    with_corrections = corrected(source, run.config.run.corrections, run.config.outlines)
    if not isinstance(with_corrections, CorrectedSource):
        return _finished(source, None, model, run)
    with closing(with_corrections) as corrections:
        report = _finished(corrections, corrections, model, run)
        is_whole = run.places.only is None and not report.interrupted and report.stopped is None
        if is_whole and (left := corrections.store.waiting("accepted")):
            reason = "the input folder has no such image, or they came during the run"
            log.warning("Corrections of %d images are not drawn, such as %s: %s", len(left), min(left), reason)
        last = corrections.store.last_hash() or "none"
        log.info("Corrections: %d drawn or undone by this run; last event of the store %s", corrections.n_drawn, last)
        return replace(report, n_stale=corrections.n_stale)


def _finished(source: DetectionSource, corrections: CorrectedSource | None, model: str | None, run: _Run) -> Report:
    config, places = run.config, run.places
    prepare(places, config.files)
    static = StaticMask.of_options(config.static_mask, config.images.max_decoded_pixels)
    check_static_mask(static, places, config.files, config.storage)
    sidecar = read_sidecar(config.record)
    journal = _journal(config, places, static, sidecar, model)
    _check_archive(places, journal, config.storage)
    if journal.has_corrections and corrections is None:
        raise UsageError(
            f"Earlier runs drew corrections into {places.output}, and this run would take them out again. Name their "
            "folder (corrections: FOLDER). To give them up, undo them there and run once."
        )
    resumption = Resumption(journal, source, config.files, force=config.run.force_remask)
    recorder = JournalRecorder(
        journal,
        resumption,
        places,
        RecorderOptions(config.files, config.storage, config.run, config.database.db_max_n_accumulated_rows),
        run.sender,
        corrections if config.appearance.draw_mask else None,  # else nothing is hidden
    )
    folder, progress = _folder_options(config), run.progress or Progress()
    if run.elsewhere is not None:
        tasks = partial(_tasks_elsewhere, run.elsewhere, recorder, corrections)
        folder = replace(folder, seconds_per_image=None)  # who does them knows when they begin
        return run_over(places, folder, tasks, run.workers, recorder, progress)
    clear_staging((places.input, *places.results), places.shard)
    loading = LoaderOptions(config.storage, config.images.max_decoded_pixels, config.seconds_per_image)
    depth = 2 if config.run.enable_async else 0
    # The recorder is closed, and so the journal committed, in the run, which reports it if that fails.
    with closing(PixelMemory(config.run.image_memory_megabytes << 20)) as memory:
        finishing = Finishing(
            config,
            Loader(loading, run.reader or SerialWorkers(), memory),
            static,
            in_process=run.workers.in_process,
        )

        def tasks_here(found: Iterable[Found]) -> Generator[ImageTask | ImageResult]:
            prepared = prefetch(partial(finishing.prepared, recorder), found, depth)
            with closing(prepared), ExitStack() as stack:
                stack.callback(memory.let_go)  # before the thread that reads ahead is waited for
                for result in prepared:
                    if isinstance(result, Failure):
                        yield result
                    elif isinstance(result.value, Prepared):
                        yield finishing.found(result.value)
                    else:
                        yield Success(result.item, result.value)

        return run_over(places, folder, tasks_here, run.workers, recorder, progress)


def _tasks_elsewhere(
    elsewhere: Elsewhere, recorder: JournalRecorder, corrections: CorrectedSource | None, found: Iterable[Found]
) -> Generator[ImageTask | ImageResult]:
    for paths in found:
        if not isinstance(paths, Paths):
            yield problem_result(paths)
            continue
        result = attempt(Subject(paths.source, "read"), partial(begun_or_skipped, recorder, paths))
        if isinstance(result, Failure):
            yield result
        elif isinstance(result.value, Skipped):
            yield Success(result.item, result.value)
        else:
            yield elsewhere.task(paths, result.value, corrections)


def _folder_options(config: Config) -> FolderOptions:
    return FolderOptions(config.files, config.run, config.seconds_per_image)


def _journal(
    config: Config, places: Places, static: StaticMask | None, sidecar: PositionSidecar | None, model: str | None
) -> Journal:
    return Journal(
        places.output,
        config.settings_fingerprint(
            None if static is None else static.fingerprint, None if sidecar is None else sidecar.fingerprint
        ),
        shard=places.shard,
        source=model,
        usual=[noted(file) for file in expected_files(Paths(PurePath("any.jpg"), places), config.files)],
        retry_seconds=config.storage.file_access_retry_seconds,
        timeout_seconds=config.storage.file_access_timeout_seconds,
    )


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


def _check_archive(places: Places, journal: Journal, options: StorageOptions) -> None:
    """Makes sure that originals are not deleted on the strength of an archive that is not there.

    Raises:
        StorageError: earlier runs wrote to the archive, and it is empty.
    """
    archive = places.archive
    if archive is None or not options.delete_input or not journal.has_written_below(str(archive)):
        return
    if not holds_files(archive):
        raise StorageError(
            f"The archive folder {archive} is empty, although earlier runs wrote to it, and delete_input is True. Is "
            "its disk or share mounted? If the archive was moved away, give another folder (-a)."
        )


def make_previews(config: Config, places: Places, workers: Executor, progress: Progress | None = None) -> Report:
    """Cuts the previews again from the anonymised images that an earlier run wrote; no model is needed."""
    return each_image(make_preview, config, places, workers, progress, FileKind.PREVIEW)


def make_records(config: Config, places: Places, workers: Executor, progress: Progress | None = None) -> Report:
    """Writes the records only; no model is needed."""
    return each_image(make_record, config, places, workers, progress, FileKind.JSON)


def each_image(
    work: Callable[[Paths, JobOptions], Work],
    config: Config,
    places: Places,
    workers: Executor,
    progress: Progress | None = None,
    kind: FileKind | None = None,
) -> Report:
    """Does something in the workers with each image that needs no preparation here.

    Args:
        work: what is done.
        config: the configuration.
        places: the folders.
        workers: do it.
        progress: told how many images there are, and of every outcome.
        kind: kind of file that it writes, which the journal notes where there is one; None writes nothing.
    """
    prepare(places, config.files)
    options = job_options(config)

    def tasks(found: Iterable[Found]) -> Generator[ImageTask | ImageResult]:
        for paths in found:
            if isinstance(paths, Paths):
                yield Task(Subject(paths.source), partial(work, paths, options))
            else:
                yield problem_result(paths)

    recorder = Recorder(known_failures(places.output))
    if kind is not None and has_journal(places.output):
        access = config.storage
        journal = Journal(
            places.output,
            "",
            shard=places.shard,
            retry_seconds=access.file_access_retry_seconds,
            timeout_seconds=access.file_access_timeout_seconds,
        )
        recorder = FileRecorder(journal, kind, config.files, places)
    return run_over(places, _folder_options(config), tasks, workers, recorder, progress or Progress())
