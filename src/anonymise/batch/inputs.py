"""Whether the input images can be read at all: what an operator checks before a long run."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path

from anonymise.batch.paths import Paths
from anonymise.batch.storage import read_input
from anonymise.batch.walker import WalkProblem
from anonymise.batch.workers import Executor, WorkerDied, alone, has_ended
from anonymise.config import StorageOptions
from anonymise.core.errors import TimeLimitError, UnreadableImage
from anonymise.images import decode

__all__ = ["CheckedInput", "Fault", "check_input", "check_inputs"]


class Fault(Enum):
    """What is wrong with an input."""

    EMPTY = "empty"
    TRUNCATED = "truncated"
    UNDECODABLE = "undecodable"
    """Damaged, too large, or no picture of a kind that is supported."""

    UNREADABLE = "unreadable"
    """The file or folder itself cannot be read."""

    CLASH = "name clash"
    """Its results would overwrite those of another image."""


@dataclass(frozen=True, slots=True)
class CheckedInput:
    """What came of looking at an image, or at a folder that could not be entered.

    Attributes:
        path: path of the image.
        fault: what is wrong; None if nothing is.
        reason: the fault in words, for the operator; empty if there is none.
    """

    path: Path
    fault: Fault | None = None
    reason: str = ""


def check_input(path: Path, root: Path, max_pixels: int, options: StorageOptions) -> CheckedInput:
    """Reads an image file and decodes it whole.

    Args:
        path: path of the image.
        root: the input folder; while it is out of reach, this waits.
        max_pixels: a picture with more is refused.
        options: say how long to wait.

    Raises:
        StorageError: the input folder stays out of reach.
    """
    try:
        data = read_input(path, root, options)
    except UnreadableImage as error:
        return CheckedInput(path, Fault.UNREADABLE, str(error))
    try:
        decode(data, max_pixels=max_pixels)
    except UnreadableImage as error:
        reason = str(error)
        if not data:
            return CheckedInput(path, Fault.EMPTY, reason)
        return CheckedInput(path, Fault.TRUNCATED if reason.startswith("truncated") else Fault.UNDECODABLE, reason)
    return CheckedInput(path)


def check_inputs(
    found: Iterable[Paths | WalkProblem],
    workers: Executor,
    *,
    max_pixels: int,
    options: StorageOptions,
    seconds: float | None = None,
) -> Iterator[CheckedInput]:
    """Checks images, several at a time; yields what came of each, in their order.

    Args:
        found: the images, and what hides images from the walk.
        workers: read and decode them. A codec that crashes on an image is that image's fault.
        max_pixels: a picture with more is refused.
        options: say how long to wait for an input folder that is out of reach.
        seconds: that another process may take for one image; None is any time.

    Raises:
        StorageError: the input folder stays out of reach.
    """
    waiting: deque[tuple[Paths, Future[CheckedInput]]] = deque()

    def check(paths: Paths) -> Callable[[], CheckedInput]:
        return partial(check_input, paths.source, paths.places.input, max_pixels, options)

    def start(paths: Paths) -> Future[CheckedInput]:
        try:
            return workers.submit(check(paths))
        except WorkerDied as error:
            died: Future[CheckedInput] = Future()
            died.set_exception(error)
            return died

    def next_checked() -> Iterator[CheckedInput]:
        first, future = waiting[0]
        is_late = not has_ended(future, seconds)
        if not is_late and not isinstance(future.exception(), WorkerDied):
            waiting.popleft()
            yield future.result()
            return
        if is_late:
            assert seconds is not None  # else it has ended
            waiting.popleft()
            workers.kill()
            yield CheckedInput(first.source, Fault.UNDECODABLE, str(TimeLimitError.after(seconds)))
        # Where one died, nobody knows on which one: each that was under way again, alone.
        suspects = [paths for paths, _ in waiting]
        waiting.clear()
        workers.restart()
        for paths in suspects:
            again = alone(workers, check(paths), seconds)
            match again.exception():
                case WorkerDied():
                    yield CheckedInput(paths.source, Fault.UNDECODABLE, "the decoder crashed or ran out of memory")
                case TimeLimitError() as error:
                    yield CheckedInput(paths.source, Fault.UNDECODABLE, str(error))
                case _:
                    yield again.result()

    for item in found:
        if isinstance(item, Paths):
            waiting.append((item, start(item)))
            # Two for each worker, so that none is idle, and memory stays flat however long the folder.
            if len(waiting) >= 2 * workers.n_parallel:
                yield from next_checked()
        elif item.hides_images:
            yield CheckedInput(item.path, Fault.CLASH if item.is_clash else Fault.UNREADABLE, item.reason)
    while waiting:
        yield from next_checked()
