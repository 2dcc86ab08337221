"""A run over all images of a folder: walks, has every task run, sums up the outcomes."""

import itertools
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from anonymise.batch import runner
from anonymise.batch.chosen import image_at, image_of, walker_over
from anonymise.batch.outcomes import Done, Failed, Outcome, Progress, Report, Skipped
from anonymise.batch.paths import Paths, Places
from anonymise.batch.recorder import Recorder
from anonymise.batch.runner import Limits
from anonymise.batch.storage import clear_temporary_files
from anonymise.batch.tasks import ImageResult, ImageTask, outcome_of
from anonymise.batch.walker import TreeWalker, WalkProblem
from anonymise.batch.workers import Executor
from anonymise.config import FileOptions, RunOptions
from anonymise.core import transient
from anonymise.core.errors import StopError

__all__ = ["FolderOptions", "Found", "run_over"]

log = logging.getLogger(__name__)

Found = Paths | WalkProblem
"""What the walk over the input folder gives."""


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """The options that a run over a folder reads.

    Attributes:
        files: which files are images.
        run: when the images are looked for, and how many may fail.
        seconds_per_image: time that a worker may take for one image; None sets no limit.
    """

    files: FileOptions
    run: RunOptions
    seconds_per_image: float | None


def run_over(
    places: Places,
    options: FolderOptions,
    tasks: Callable[[Iterable[Found]], Generator[ImageTask | ImageResult]],
    executor: Executor,
    recorder: Recorder,
    progress: Progress,
) -> Report:
    """Walks over the input folder, has every task run, and reports.

    Args:
        places: the folders.
        options: options of the run.
        tasks: turns what the walk gives into tasks, or into results where no work is needed or possible.
        executor: runs the tasks.
        recorder: records every outcome.
        progress: told how many images there are, and of every outcome.
    """
    started = time.perf_counter()
    if n_swept := transient.sweep():
        log.warning("Removed raw pixels that a killed run left in memory or temporary files: %d", n_swept)
    walker = walker_over(places, options.files)
    tally = _Tally(places, options.run.max_failures_in_a_row, recorder, progress)
    images = _Images(places, options.run, recorder, progress)
    ending = runner.run(tasks(images.of(walker)), executor, tally, Limits(options.seconds_per_image))
    progress.ended()
    if ending.has_killed:
        clear_temporary_files((places.input, *places.results))
    interrupted = ending.interrupted or progress.wants_to_stop()
    n_left = 0 if images.n_known is None else images.n_known - tally.n_images
    return Report(
        n_done=tally.n_done,
        n_skipped=tally.n_skipped,
        failed=tuple(sorted(tally.failed.values(), key=lambda failed: str(failed.source))),
        objects=dict(tally.objects.most_common()),
        stage_seconds=dict(tally.seconds),
        n_folders=walker.n_folders,
        n_passed_over=walker.n_passed_over,
        seconds=time.perf_counter() - started,
        stopped=ending.stopped,
        interrupted=interrupted,
        rows=recorder.rows(),
        left_out=dict(walker.left_out.most_common()),
        has_looked=tally.has_looked,
        n_left=None if (ending.stopped is not None or interrupted) and images.n_known is None else n_left,
    )


class _Images:
    """The images of a run, in the order in which they are worked on.

    Attributes:
        n_known: number of images; None if it was not known before the work started.
    """

    def __init__(self, places: Places, options: RunOptions, recorder: Recorder, progress: Progress) -> None:
        self._places = places
        self._lazy = options.lazy_paths
        self._recorder = recorder
        self._progress = progress
        self.n_known: int | None = None

    def of(self, walker: TreeWalker) -> Iterator[Found]:
        """The images, until the operator wants to stop."""
        found = self._until_stopped(walker.walk())
        if not self._lazy:
            found = self._all_known(found)
        yield from self._until_stopped(self._known_failures_last(found))

    def _until_stopped(self, found: Iterable[Found]) -> Iterator[Found]:
        return itertools.takewhile(lambda _: not self._progress.wants_to_stop(), found)

    def _all_known(self, found: Iterable[Found]) -> Iterator[Found]:
        """The same images, after all of them have been found."""
        # Kept as texts: half a million paths as objects take a few hundred megabytes.
        known = [paths.key if isinstance(paths, Paths) else paths for paths in found]
        keys = [key for key in known if isinstance(key, str)]
        if not self._progress.wants_to_stop():
            self.n_known = len(keys)
        self._progress.found(len(keys))
        self._recorder.expect(keys)
        return (image_of(PurePath(key), self._places) if isinstance(key, str) else key for key in known)

    def _known_failures_last(self, found: Iterable[Found]) -> Iterator[Found]:
        """The same images; those that failed before come when all others have had their turn."""
        put_off: list[str] = []
        for item in found:
            if isinstance(item, Paths) and self._recorder.failed_before(item.key):
                put_off.append(item.key)
            else:
                yield item
        yield from (image_of(PurePath(key), self._places) for key in put_off)


class _Tally:
    """The observer of a run: sums up the outcomes, and passes them to the recorder and the progress."""

    def __init__(self, places: Places, max_in_a_row: int | None, recorder: Recorder, progress: Progress) -> None:
        self._places = places
        self._limit = max_in_a_row
        self._recorder = recorder
        self._progress = progress
        self._failures_in_a_row = 0
        self.n_images = 0
        self.n_done = 0
        self.n_skipped = 0
        self.failed: dict[Path, Failed] = {}
        self.objects: Counter[str] = Counter()
        self.has_looked = False
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def completed(self, result: ImageResult) -> Iterator[ImageTask]:
        """Counts an outcome.

        Raises:
            StopError: too many images failed one after the other.
        """
        outcome = outcome_of(result)
        if result.item.is_follow_up:
            if isinstance(outcome, Failed):  # only that is news
                self.failed[outcome.source] = outcome
                self._progress.changed(outcome)
            return
        stop = self._added(outcome)
        yield from self._recorder.record(outcome)
        if stop is not None:
            raise stop

    def close(self) -> Iterable[ImageTask]:
        """The last tasks of the recorder."""
        return self._recorder.close()

    def _added(self, outcome: Outcome) -> StopError | None:
        """Counts an outcome; gives why the run must stop where too many images failed one after the other."""
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
        if self._recorder.failed_before(image_at(failed.source, self._places).key):
            return None
        self._failures_in_a_row += 1
        if self._failures_in_a_row != self._limit:
            return None
        return StopError(
            f"{self._limit} images failed one after the other (max_failures_in_a_row), the last one because: "
            f"{failed.reason}. If only these images are broken, start again: they come last then."
        )
