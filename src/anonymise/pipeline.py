"""The run over all images: look for what is to be hidden here, hand the rest to the workers, gather what came of it.

The model runs in this process; everything after it runs in workers, which get the image's file as it was read, not its
pixels. A failure is a value: what goes wrong with one image is caught in `_outcome_of`, reported, and the run goes on.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from anonymise import instances
from anonymise.config import Config, RunOptions
from anonymise.detections import Detections, RgbImage, Size, merge
from anonymise.draw import StaticMaskOptions, static_mask
from anonymise.errors import DrawError, ImageError, InstancesError, StopError, UsageError
from anonymise.images import SourceImage, decode, detections_to_stored, header, to_upright
from anonymise.jobs import Job, Work, finish, make_preview, make_record
from anonymise.labels import COCO
from anonymise.masker import Masker
from anonymise.paths import FileKind, FileOptions, Paths, Place, Places, TreeWalker, WalkProblem, expected_files
from anonymise.storage import read
from anonymise.windows import WindowOptions, windows
from anonymise.workers import WorkerDied, Workers

__all__ = [
    "Done",
    "Failed",
    "ImageProcessor",
    "Outcome",
    "Report",
    "Skipped",
    "anonymise",
    "make_previews",
    "make_records",
    "redraw",
]

log = logging.getLogger(__name__)

_S = TypeVar("_S")
_T = TypeVar("_T")

_TRIES = 2
"""How often a worker is started on one image."""


@dataclass(frozen=True, slots=True)
class Done:
    """An image that is finished.

    Attributes:
        source: the input image.
        objects: COCO class name → number of objects that were found in it.
        notes: what the operator should know about it although it succeeded.
        seconds: stage → time that it took.
    """

    source: Path
    objects: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """An image, or a folder, that could not be done.

    Attributes:
        source: the input image or folder.
        stage: what was being done.
        reason: for the operator.
    """

    source: Path
    stage: str
    reason: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that needed no work.

    Attributes:
        source: the input image or folder.
        reason: for the operator.
        finished: whether it is an image whose files are all there, rather than something that is none.
    """

    source: Path
    reason: str
    finished: bool = True


Outcome = Done | Failed | Skipped


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did.

    Attributes:
        outcomes: of all images, and of the folders with problems, by path.
        n_folders: folders with images.
        n_passed_over: previews and masks in the input folder, which are not images to work on.
        seconds: the whole time.
        stopped: why the run could not go on, None if it could.
        interrupted: whether the operator stopped it.
    """

    outcomes: tuple[Outcome, ...]
    n_folders: int
    n_passed_over: int
    seconds: float
    stopped: StopError | None = None
    interrupted: bool = False

    @property
    def done(self) -> tuple[Done, ...]:
        """The images that were finished by this run."""
        return tuple(o for o in self.outcomes if isinstance(o, Done))

    @property
    def failed(self) -> tuple[Failed, ...]:
        """The images and folders that could not be done."""
        return tuple(o for o in self.outcomes if isinstance(o, Failed))

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The images that were finished before."""
        return tuple(o for o in self.outcomes if isinstance(o, Skipped) and o.finished)

    def objects(self) -> dict[str, int]:
        """COCO class name → number of objects that were found, over all images."""
        total: Counter[str] = Counter()
        for outcome in self.done:
            total.update(outcome.objects)
        return dict(total.most_common())

    def stage_seconds(self) -> dict[str, float]:
        """Stage → time that it took, summed over all images and workers."""
        total: Counter[str] = Counter()
        for outcome in self.done:
            total.update(outcome.seconds)
        return dict(total)


class ImageProcessor:
    """Looks for what is to be hidden: in the full image, and in its windows if the configuration says so."""

    def __init__(self, masker: Masker, window_options: WindowOptions, run_options: RunOptions) -> None:
        self._masker = masker
        self._windows = window_options
        self._run = run_options

    def detect(self, image: RgbImage) -> Detections:
        """All objects in an image that stands upright, those of its windows merged, grown by the configured margin.

        Raises:
            ModelError: the model cannot be run.
        """
        size = Size(image.shape[1], image.shape[0])
        boxes = windows(size, self._windows)
        full, *parts = self._masker.detect([image, *(image[box.slices] for box in boxes)])
        moved = [[i.moved(box.left, box.top) for i in part] for box, part in zip(boxes, parts, strict=True)]
        found = Detections(size, merge([full, *moved], self._run.merge_min_overlap))
        # After merging: grown masks of neighbours would touch and become one object.
        return found.dilated(self._run.mask_dilation_pixels)


def anonymise(
    config: Config, places: Places, masker: Masker, workers: Workers, progress: "Progress | None" = None
) -> Report:
    """The main job over a whole folder.

    Args:
        config: the configuration.
        places: the folders.
        masker: finds what is to be hidden.
        workers: do everything after that.
        progress: is told how many images there are, and of every outcome.
    """
    processor = ImageProcessor(masker, config.windows, config.run)

    def look(loaded: "_Loaded") -> Detections:
        orientation = loaded.image.orientation
        return detections_to_stored(processor.detect(to_upright(loaded.image.pixels, orientation)), orientation)

    return _finish_each(look, config, places, workers, progress)


def redraw(config: Config, places: Places, workers: Workers, progress: "Progress | None" = None) -> Report:
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

    return _finish_each(look, config, places, workers, progress)


def _finish_each(
    look: Callable[["_Loaded"], Detections],
    config: Config,
    places: Places,
    workers: Workers,
    progress: "Progress | None",
) -> Report:
    """Finishes each image in the workers once ``look`` has said here what is to be hidden in it."""
    static = _StaticMask(config.static_mask, config.images.max_decoded_pixels)
    static.check(places, config.files)

    def task(loaded: "_Loaded") -> "_Task":
        started = time.perf_counter()
        detections = look(loaded)
        seconds = {"read": loaded.seconds, "model": time.perf_counter() - started}
        counts = {COCO[label]: n for label, n in detections.counts().items()}
        job = Job(loaded.paths, loaded.data, detections, loaded.modified, static.of(detections.size))
        return _Task(loaded.paths, partial(finish, job, config), counts, seconds)

    def tasks(found: Iterable[Paths | WalkProblem]) -> Iterator["_Task | Outcome"]:
        for loaded in _ahead(partial(_load, config=config), found, depth=2 if config.run.enable_async else 0):
            if isinstance(loaded, _Loaded):
                yield _outcome_of(loaded.paths.source, "model", partial(task, loaded))
            else:
                yield loaded

    return _run(config, places, tasks, workers, progress or Progress())


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


def make_previews(config: Config, places: Places, workers: Workers, progress: "Progress | None" = None) -> Report:
    """Cuts the previews again from the anonymised images that an earlier run wrote; no model is needed."""
    return _each(make_preview, config, places, workers, progress)


def make_records(config: Config, places: Places, workers: Workers, progress: "Progress | None" = None) -> Report:
    """Writes the records only; no model is needed."""
    return _each(make_record, config, places, workers, progress)


def _each(
    work: Callable[[Paths, Config], Work], config: Config, places: Places, workers: Workers, progress: "Progress | None"
) -> Report:
    """Does something in the workers with each image that needs no preparation here."""

    def tasks(found: Iterable[Paths | WalkProblem]) -> Iterator["_Task | Outcome"]:
        for paths in found:
            yield _Task(paths, partial(work, paths, config)) if isinstance(paths, Paths) else _problem(paths)

    return _run(config, places, tasks, workers, progress or Progress())


class Progress:
    """Is told what happens in a run; this one does nothing with it."""

    def found(self, n_images: int) -> None:
        """All images are known before the work starts."""

    def finished(self, outcome: Outcome) -> None:
        """An image, or a folder with a problem, has its outcome."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """An image that is ready for the model."""

    paths: Paths
    data: bytes
    image: SourceImage
    modified: float
    seconds: float


@dataclass(frozen=True, slots=True)
class _Task:
    """Work on one image that is ready for a worker, and what is known about the image by then."""

    paths: Paths
    work: Callable[[], Work]
    objects: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


def _load(paths: Paths | WalkProblem, config: Config) -> _Loaded | Outcome:
    if isinstance(paths, WalkProblem):
        return _problem(paths)
    if not config.run.force_remask and all(file.path.is_file() for file in expected_files(paths, config.files)):
        return Skipped(paths.source, "finished by an earlier run; force_remask: True does it again")

    def load() -> _Loaded:
        started = time.perf_counter()
        data = read(paths.source, paths.places.input, config.storage)
        image = decode(data, max_pixels=config.images.max_decoded_pixels)
        modified = paths.source.stat().st_mtime
        return _Loaded(paths, data, image, modified, time.perf_counter() - started)

    return _outcome_of(paths.source, "read", load)


def _problem(problem: WalkProblem) -> Outcome:
    if problem.hides_images:
        return Failed(problem.path, "walk", problem.reason)
    return Skipped(problem.path, problem.reason, finished=False)


def _outcome_of(source: Path, stage: str, function: Callable[[], _T]) -> _T | Failed:
    """What ``function`` returns, or how it failed; what stops the run is not caught."""
    try:
        return function()
    except StopError:
        raise
    except ImageError as error:
        return Failed(source, stage, str(error))
    except Exception as error:
        log.debug("%s: unexpected error in the stage %s", source, stage, exc_info=error)
        return Failed(source, stage, f"unexpected {type(error).__name__}: {error}")


def _ahead(function: Callable[[_S], _T], items: Iterable[_S], depth: int) -> Iterator[_T]:
    """``map(function, items)`` whose next ``depth`` results are made in a thread while the caller works."""
    if depth == 0:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as executor:
        waiting: deque[Future[_T]] = deque()
        for item in items:
            waiting.append(executor.submit(function, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class _Flight:
    """Tasks that workers are busy with; so few at a time that memory stays flat however long the folder."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        # One task waits for each that is worked on, so that no worker is idle while the model runs.
        self._limit = 2 * workers.n_parallel
        self._pending: dict[Future[Work], tuple[_Task, int]] = {}

    def launch(self, task: _Task) -> Iterator[Outcome]:
        """Starts a task as soon as there is room; yields the outcomes that came in meanwhile."""
        while len(self._pending) >= self._limit:
            yield from self._landed()
        yield from self._start(task, tries=1)

    def land(self) -> Iterator[Outcome]:
        """Yields the outcomes of all tasks that are still under way."""
        while self._pending:
            yield from self._landed()

    def _start(self, task: _Task, tries: int) -> Iterator[Outcome]:
        try:
            self._pending[self._workers.submit(task.work)] = task, tries
        except WorkerDied:
            yield from self._recovered([task])

    def _landed(self) -> Iterator[Outcome]:
        future = next(iter(wait(self._pending, return_when=FIRST_COMPLETED).done))
        task, tries = self._pending.pop(future)
        match future.exception():
            case WorkerDied():
                yield from self._recovered([task])
            case Exception() as error if tries < _TRIES and not isinstance(error, StopError):
                yield from self._start(task, tries + 1)
            case _:
                yield _result(task, future)

    def _recovered(self, tasks: list[_Task]) -> Iterator[Outcome]:
        """After a worker died: each task that was under way again, alone, to see which one it was."""
        tasks = [*tasks, *(task for task, _ in self._pending.values())]
        self._pending.clear()
        self._workers.restart()
        for task in tasks:
            future = self._workers.submit(task.work)
            if isinstance(future.exception(), WorkerDied):
                reason = "the worker process died on it twice: out of memory, or a crash in a library"
                yield Failed(task.paths.source, "write", reason)
                self._workers.restart()
            else:
                yield _result(task, future)


def _result(task: _Task, future: Future[Work]) -> Outcome:
    work = _outcome_of(task.paths.source, "write", future.result)
    if isinstance(work, Failed):
        return work
    return Done(task.paths.source, task.objects, work.notes, {**task.seconds, **work.seconds})


def _run(
    config: Config,
    places: Places,
    tasks: Callable[[Iterable[Paths | WalkProblem]], Iterator[_Task | Outcome]],
    workers: Workers,
    progress: Progress,
) -> Report:
    started = time.perf_counter()
    walker = TreeWalker(places, config.files)
    outcomes: list[Outcome] = []
    stopped: StopError | None = None
    interrupted = False

    def finished(outcome: Outcome) -> None:
        outcomes.append(outcome)
        progress.finished(outcome)

    flight = _Flight(workers)
    try:
        found: Iterable[Paths | WalkProblem] = walker.walk()
        if not config.run.lazy_paths:
            found = list(found)
            progress.found(sum(isinstance(paths, Paths) for paths in found))
        for task in tasks(found):
            for outcome in [task] if isinstance(task, Outcome) else flight.launch(task):
                finished(outcome)
    except StopError as error:
        stopped = error
    except KeyboardInterrupt:
        interrupted = True
    try:
        for outcome in flight.land():
            finished(outcome)
    except StopError as error:
        stopped = stopped or error
    except KeyboardInterrupt:
        interrupted = True
    return Report(
        outcomes=tuple(sorted(outcomes, key=lambda outcome: str(outcome.source))),
        n_folders=walker.n_folders,
        n_passed_over=walker.n_passed_over,
        seconds=time.perf_counter() - started,
        stopped=stopped,
        interrupted=interrupted,
    )
