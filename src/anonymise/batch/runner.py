"""Runs tasks over all images of a folder: looks ahead, keeps the workers busy, gathers the outcomes.

What a task does is no concern of this module. A failure is a value: what goes wrong with one image is caught in
`outcome_of`, reported, and the run goes on.
"""

import itertools
import logging
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath
from typing import TypeVar

from anonymise.batch.jobs import Work
from anonymise.batch.outcomes import Done, Failed, Outcome, Progress, Report, Skipped
from anonymise.batch.paths import Paths, Places, TreeWalker, WalkProblem
from anonymise.batch.storage import clear_temporary_files
from anonymise.batch.workers import WorkerDied, Workers, each_alone
from anonymise.config import Config
from anonymise.core import transient
from anonymise.core.errors import ImageError, RecordError, StopError, TimeLimitError

__all__ = ["Book", "Found", "Task", "ahead", "outcome_of", "problem_outcome", "run"]

log = logging.getLogger(__name__)

_S = TypeVar("_S")
_T = TypeVar("_T")

Found = Paths | WalkProblem
"""What the walk over the input folder gives."""

_TRIES = 2
"""How often each step of an image is tried; shares have hiccups."""


@dataclass(frozen=True, slots=True)
class Task:
    """Work on one image that is ready for a worker, and what is known about the image by then.

    Attributes:
        paths: of the image.
        work: what the worker calls.
        again: what it calls if it has to be tried again; None is the same.
        release: is told when the first try has ended, with its result, or None if it was never made.
        stage: how the log calls it.
        objects: class name → number of objects that were found in the image; None where nobody looked.
        seconds: stage → time that it took so far.
        is_follow_up: whether the image had its outcome already; only a failure changes that.
    """

    paths: Paths
    work: Callable[[], Work]
    again: Callable[[], Work] | None = None
    release: Callable[[Future[Work] | None], None] | None = None
    stage: str = "write"
    objects: Mapping[str, int] | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    is_follow_up: bool = False


class Book:
    """Is told of every outcome, and may answer with more tasks; this one writes nothing down.

    Args:
        known_failures: `Paths.key` of the images that failed in an earlier run.
    """

    def __init__(self, known_failures: Collection[str] = ()) -> None:
        self._known_failures = frozenset(known_failures)

    def failed_before(self, key: str) -> bool:
        """Whether an earlier run failed on an image, so that another failure is no news."""
        return key in self._known_failures

    def expect(self, keys: Iterable[str]) -> None:
        """All images are known by `Paths.key` before the work starts."""

    def note(self, outcome: Outcome) -> Iterable[Task]:  # noqa: ARG002 - for those who write it down
        """An image has its outcome."""
        return ()

    def close(self) -> Iterable[Task]:
        """All images have their outcomes."""
        return ()

    def rows(self) -> Mapping[str, int] | None:
        """What became of rows for the database → how many; None if there are none."""
        return None


def run(
    config: Config,
    places: Places,
    tasks: Callable[[Iterable[Found]], Generator[Task | Outcome]],
    workers: Workers,
    progress: Progress,
    book: Book,
) -> Report:
    """Walks over the input folder, has every task done, and reports.

    Args:
        config: the configuration.
        places: the folders.
        tasks: turns what the walk gives into tasks, or into outcomes where no work is needed or possible.
        workers: do the tasks.
        progress: is told how many images there are, and of every outcome.
        book: likewise, and keeps it.
    """
    started = time.perf_counter()
    if n_swept := transient.sweep():
        log.warning("Removed raw pixels that a killed run left in memory or temporary files: %d", n_swept)
    walker = TreeWalker(places, config.files)
    gathering = _Gathering(config.run.max_failures_in_a_row, progress, places, book)
    flight = _Flight(workers, config.seconds_per_image)
    stopped: StopError | None = None
    interrupted = False
    n_known: int | None = None

    def settle(arrived: Iterable[tuple[Task | None, Outcome]]) -> None:
        for task, outcome in arrived:
            if task is not None and task.is_follow_up:
                gathering.change(outcome)
                continue
            stop = gathering.add(outcome)
            for follow_up in book.note(outcome):
                settle(flight.launch(follow_up))
            if stop is not None:
                raise stop

    def until_stopped(found: Iterable[Found]) -> Iterator[Found]:
        return itertools.takewhile(lambda _: not progress.wants_to_stop(), found)

    def work() -> None:
        nonlocal n_known
        found: Iterable[Found] = until_stopped(walker.walk())
        if not config.run.lazy_paths:
            # Kept as texts: half a million paths as objects take a few hundred megabytes.
            known = [paths.key if isinstance(paths, Paths) else paths for paths in found]
            keys = [key for key in known if isinstance(key, str)]
            if not progress.wants_to_stop():
                n_known = len(keys)
            progress.found(len(keys))
            book.expect(keys)
            found = (Paths(PurePath(key), places) if isinstance(key, str) else key for key in known)
        ready = tasks(until_stopped(_known_failures_last(found, book, places)))
        # Closed at once also where the run stops, so that nothing goes on being read.
        with closing(ready):
            for task in ready:
                settle([(None, task)] if not isinstance(task, Task) else flight.launch(task))

    def land() -> None:
        settle(flight.land())

    def close() -> None:
        for follow_up in book.close():
            settle(flight.launch(follow_up))

    # What is under way when the run ends early is finished all the same.
    steps = deque([work, land, close, land])
    while steps:
        step = steps.popleft()
        try:
            step()
        except StopError as error:
            stopped = stopped or error
            if step is land:  # those that are left may fare better
                steps.appendleft(land)
        except KeyboardInterrupt:  # at once
            interrupted = True
            flight.abandon()
            break
    progress.ended()
    if flight.has_killed:
        clear_temporary_files((places.input, *places.results))
    ended_early = stopped is not None or interrupted or progress.wants_to_stop()
    n_left = 0 if n_known is None else n_known - gathering.n_images
    return Report(
        n_done=gathering.n_done,
        n_skipped=gathering.n_skipped,
        failed=tuple(sorted(gathering.failed.values(), key=lambda failed: str(failed.source))),
        objects=dict(gathering.objects.most_common()),
        stage_seconds=dict(gathering.seconds),
        n_folders=walker.n_folders,
        n_passed_over=walker.n_passed_over,
        seconds=time.perf_counter() - started,
        stopped=stopped,
        interrupted=interrupted or progress.wants_to_stop(),
        rows=book.rows(),
        left_out=dict(walker.left_out.most_common()),
        has_looked=gathering.has_looked,
        n_left=None if ended_early and n_known is None else n_left,
    )


def _known_failures_last(found: Iterable[Found], book: Book, places: Places) -> Iterator[Found]:
    """The same images; those that failed before come when all others have had their turn."""
    put_off: list[str] = []
    for item in found:
        if isinstance(item, Paths) and book.failed_before(item.key):
            put_off.append(item.key)
        else:
            yield item
    yield from (Paths(PurePath(key), places) for key in put_off)


class _Gathering:
    """The sum of the outcomes so far."""

    def __init__(self, max_failures_in_a_row: int | None, progress: Progress, places: Places, book: Book) -> None:
        self._limit = max_failures_in_a_row
        self._progress = progress
        self._places = places
        self._book = book
        self._failures_in_a_row = 0
        self.n_images = 0
        self.n_done = 0
        self.n_skipped = 0
        self.failed: dict[Path, Failed] = {}
        self.objects: Counter[str] = Counter()
        self.has_looked = False
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def add(self, outcome: Outcome) -> StopError | None:
        """Counts an outcome; returns why the run must stop where too many images failed one after the other."""
        self._progress.finished(outcome)
        if isinstance(outcome, Done):
            self._failures_in_a_row = 0
            self.n_images += 1
            self.n_done += 1
            if outcome.objects is not None:
                self.has_looked = True
                self.objects.update(outcome.objects)
            for stage, seconds in outcome.seconds.items():
                self.seconds[stage] += seconds
        elif isinstance(outcome, Skipped):
            self.n_skipped += outcome.finished
            self.n_images += outcome.finished
        else:
            return self._failed(outcome)
        return None

    def _failed(self, failed: Failed) -> StopError | None:
        self.failed[failed.source] = failed
        if failed.stage == "walk":
            return None
        self.n_images += 1
        # Otherwise the same broken images would stop every run before it gets to the good ones.
        if self._book.failed_before(failed.source.relative_to(self._places.input).as_posix()):
            return None
        self._failures_in_a_row += 1
        if self._failures_in_a_row != self._limit:
            return None
        return StopError(
            f"{self._limit} images failed one after the other (max_failures_in_a_row), the last one because: "
            f"{failed.reason}. If only these images are broken, start again: they come last then."
        )

    def change(self, outcome: Outcome) -> None:
        """A follow-up is done; only its failure is news."""
        if isinstance(outcome, Failed):
            self.failed[outcome.source] = outcome
            self._progress.changed(outcome)


def problem_outcome(problem: WalkProblem) -> Outcome:
    """What a problem of the walk means for the run."""
    if problem.hides_images:
        return Failed(problem.path, "walk", problem.reason)
    return Skipped(problem.path, problem.reason, finished=False)


def outcome_of(source: Path, stage: str, function: Callable[[], _T], tries: int = _TRIES) -> _T | Failed:
    """What ``function`` returns, or how it failed at the last try; what stops the run is not caught."""
    try:
        return function()
    except StopError:
        raise
    except Exception as error:  # whatever it is, it concerns one image
        if tries > 1 and not isinstance(error, TimeLimitError):
            return outcome_of(source, stage, function, tries - 1)
        if isinstance(error, ImageError):
            return Failed(source, stage, str(error), error.record if isinstance(error, RecordError) else None)
        log.debug("%s: unexpected error in the stage %s", source, stage, exc_info=error)
        return Failed(source, stage, f"unexpected {type(error).__name__}: {error}")


def ahead(function: Callable[[_S], _T], items: Iterable[_S], depth: int) -> Generator[_T]:
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


_Arrived = Iterator[tuple[Task, Outcome]]


class _Flight:
    """Tasks that workers are busy with; so few at a time that memory stays flat however long the folder.

    Args:
        workers: do the tasks.
        seconds: that a worker may take for one task; None is any time.

    Attributes:
        has_killed: whether workers were killed, which may have left unfinished files.
    """

    def __init__(self, workers: Workers, seconds: float | None) -> None:
        self._workers = workers
        self._seconds = seconds
        self._began: dict[Future[Work], float] = {}
        # One task waits for each that is worked on, so that no worker is idle while the model runs.
        self._limit = 2 * workers.n_parallel
        self._pending: dict[Future[Work], tuple[Task, int]] = {}
        self.has_killed = False

    def launch(self, task: Task) -> _Arrived:
        """Starts a task as soon as there is room; yields the outcomes that came in meanwhile."""
        while len(self._pending) >= self._limit:
            yield from self._landed()
        yield from self._start(task, tries=1)

    def land(self) -> _Arrived:
        """Yields the outcomes of all tasks that are still under way."""
        while self._pending:
            yield from self._landed()

    def abandon(self) -> None:
        """Ends the processes, and gives up all tasks that are still under way."""
        self.has_killed = True
        self._pending.clear()
        self._workers.kill()

    def _start(self, task: Task, tries: int) -> _Arrived:
        work = task.again if task.again is not None and tries > 1 else task.work
        try:
            future = self._workers.submit(work)
        except WorkerDied:
            if task.release is not None and tries == 1:
                task.release(None)
            yield from self._recovered([task])
            return
        self._pending[future] = task, tries
        if task.release is not None and tries == 1:
            future.add_done_callback(task.release)

    def _landed(self) -> _Arrived:
        # Workers take the tasks in their order, so the first ones are those that are worked on.
        now = time.monotonic()
        busy = itertools.islice(self._pending, self._workers.n_parallel)
        self._began = {future: self._began.get(future, now) for future in busy}
        patience = None if self._seconds is None else max(0.0, min(self._began.values()) + self._seconds - now)
        done = wait(self._pending, timeout=patience, return_when=FIRST_COMPLETED).done
        if not done:
            yield from self._without_the_late()
            return
        future = next(iter(done))
        task, tries = self._pending.pop(future)
        match future.exception():
            case WorkerDied():
                yield from self._recovered([task])
            case Exception() as error if tries < _TRIES and not isinstance(error, StopError):
                yield from self._start(task, tries + 1)
            case _:
                yield task, _result(task, future)

    def _without_the_late(self) -> _Arrived:
        """Ends the processes, of which one takes too long for its task; the other tasks are done again."""
        assert self._seconds is not None  # else nothing is late
        now = time.monotonic()
        late = {future for future, began in self._began.items() if now >= began + self._seconds}
        if not late:  # clocks are not that exact
            return
        pending = dict(self._pending)
        self._pending.clear()
        self.has_killed = True
        self._workers.kill()
        self._workers.restart()
        for future, (task, _) in pending.items():
            if future in late:
                yield task, Failed(task.paths.source, task.stage, str(TimeLimitError.after(self._seconds)))
            else:
                yield from self._start(task, tries=_TRIES)

    def _recovered(self, tasks: list[Task]) -> _Arrived:
        """After a worker died: each task that was under way again, alone."""
        # One process that dies takes the others with it, whatever they are writing.
        tasks = [*tasks, *(task for task, _ in self._pending.values())]
        self._pending.clear()
        self.has_killed = True
        for task, future in zip(
            tasks,
            each_alone(self._workers, [task.again or task.work for task in tasks], self._seconds),
            strict=True,
        ):
            if isinstance(future.exception(), WorkerDied):
                reason = "the worker process died on it twice: out of memory, or a crash in a library"
                yield task, Failed(task.paths.source, task.stage, reason)
            else:
                yield task, _result(task, future)


def _result(task: Task, future: Future[Work]) -> Outcome:
    work = outcome_of(task.paths.source, task.stage, partial(future.result), tries=1)
    if isinstance(work, Failed):
        return work
    seconds = {**task.seconds, **work.seconds}
    return Done(task.paths.source, task.objects, work.notes, seconds, work.record, work.contents)
