"""The steps of an image before its files are written: is it to be done, read it, find what must be hidden."""

import time
from dataclasses import dataclass, replace
from functools import partial

from anonymise.anonymiser import Describer, Redactor, objects_of, read_image
from anonymise.batch.folder import Found
from anonymise.batch.jobs import Job, JobOptions, finish
from anonymise.batch.loader import Loaded, Loader
from anonymise.batch.outcomes import Outcome, Skipped
from anonymise.batch.paths import Paths
from anonymise.batch.recorder import JournalRecorder
from anonymise.batch.resume import Begun
from anonymise.batch.runner import Failure, Success, Task, attempt
from anonymise.batch.sharing import SharedPixels
from anonymise.batch.tasks import ImageTask, Subject, problem_result
from anonymise.batch.writer import ToPlaces, Writer
from anonymise.config import Config
from anonymise.redaction.static import StaticMask

__all__ = ["Finishing", "Prepared", "begun_or_skipped", "job_options"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image that is to be done, in memory.

    Attributes:
        begun: what is known of it.
        loaded: its file and pixels.
    """

    begun: Begun
    loaded: Loaded


class Finishing:
    """Takes images up to the task that writes their files.

    Args:
        config: the configuration.
        loader: reads and decodes.
        static: what is hidden in every image; None hides nothing more.
        in_process: whether the task is done in this process.
        writer: takes the files; None writes them to their places.
    """

    def __init__(
        self,
        config: Config,
        loader: Loader,
        static: StaticMask | None,
        *,
        in_process: bool,
        writer: Writer | None = None,
    ) -> None:
        self._config = config
        self._options = job_options(config, writer)
        self._loader = loader
        self._in_process = in_process
        self._static = static

    def prepared(
        self, recorder: JournalRecorder, found: Found
    ) -> Success[Subject, Prepared | Outcome] | Failure[Subject]:
        """An image in memory, unless it is finished; in the thread that reads ahead of the model."""
        if not isinstance(found, Paths):
            return problem_result(found)
        return attempt(Subject(found.source, "read"), partial(self._prepare, recorder, found))

    def _prepare(self, recorder: JournalRecorder, paths: Paths) -> Prepared | Outcome:
        started = time.perf_counter()
        begun = begun_or_skipped(recorder, paths)
        if isinstance(begun, Skipped):
            return begun
        deciding = time.perf_counter() - started
        loaded = self._loader.load(paths)
        seconds = {**loaded.seconds, "read": loaded.seconds["read"] + deciding}
        return Prepared(begun, replace(loaded, seconds=seconds))

    def found(self, image: Prepared) -> ImageTask | Failure[Subject]:
        """The task for the workers, once it is known what must be hidden."""
        result = attempt(Subject(image.loaded.paths.source, "model"), partial(self._find, image))
        if isinstance(result, Success):
            return result.value
        self._loader.release(image.loaded)
        return result

    def _find(self, prepared: Prepared) -> ImageTask:
        begun, loaded = prepared.begun, prepared.loaded
        started = time.perf_counter()
        image = read_image(loaded.data, self._config, pixels=self._loader.pixels(loaded), name=loaded.paths.key)
        detections = begun.source.find(image)
        job = Job(
            loaded.paths,
            loaded.data,
            detections,
            begun.identity.mtime_ns / 1e9,
            image.orientation,
            image.projection,
            image.notes,
            static=None if self._static is None else self._static.of(detections.size),
            own_instances=frozenset(begun.instances),
            mtime_ns=begun.identity.mtime_ns,
        )
        seconds = {**loaded.seconds, "model": time.perf_counter() - started}
        subject = Subject(loaded.paths.source, objects=objects_of(detections), seconds=seconds)
        if not self._in_process and not isinstance(loaded.pixels, SharedPixels):
            return Task(subject, partial(finish, job, self._options))
        return Task(
            subject,
            partial(finish, replace(job, pixels=loaded.pixels), self._options),
            retry=partial(finish, job, self._options),  # what the first attempt has drawn on is no original any more
            release=partial(self._loader.release, loaded),
        )


def begun_or_skipped(recorder: JournalRecorder, paths: Paths) -> Begun | Skipped:
    """Begins an image, unless it is finished.

    Raises:
        ImageError, StorageError: as `JournalRecorder.begin`.
    """
    begun = recorder.begin(paths)
    return begun or Skipped(paths.source, "finished by an earlier run; force_remask: True does it again")


def job_options(config: Config, writer: Writer | None = None) -> JobOptions:
    """What workers read of a configuration.

    Args:
        config: the configuration.
        writer: takes the files; None writes them to their places.
    """
    return JobOptions(
        files=config.files,
        writer=writer or ToPlaces(config.storage),
        storage=config.storage,
        preview=config.preview,
        max_pixels=config.images.max_decoded_pixels,
        redactor=Redactor(config),
        describer=Describer(config),
        record=config.record,
        wants_row=config.database.write_exif_to_db,
    )
