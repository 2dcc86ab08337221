"""The images of a run on a cluster: which wait, which worker may have one, and what becomes of those that fail.

Nothing here knows Dask, and everything is called in the leader's thread.
"""

import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from anonymise.batch.outcomes import Failed, Outcome
from anonymise.batch.paths import Paths
from anonymise.batch.resume import Begun
from anonymise.cluster.members import Host, Worker
from anonymise.core.errors import StopError
from anonymise.core.plaintext import printable
from anonymise.corrections.source import CorrectedSource

__all__ = ["Attempt", "Image", "Images"]

log = logging.getLogger(__name__)

_PER_THREAD = 2
"""Images that a worker has at a time for each of its threads, so that none waits for the leader."""

_ATTEMPTS = 2
"""Of an image that fails, the second on another machine where there is one; as on one machine."""

_LOSSES = 3
"""Workers that may die of an image, before it is the image; the last one has nothing else to do."""

_TROUBLES = 3
"""Machines that may be in trouble with an image, before the run stops."""

_FAILURES_IN_A_ROW = 20
"""After which a machine gets no more images, while others succeed."""


@dataclass(eq=False, slots=True)
class Image:
    """An image that is to be done; the runner has its future. It `is_claimed` while a result of it is published."""

    paths: Paths
    begun: Begun
    corrections: CorrectedSource | None
    future: "Future[Outcome]"
    n_failed: int = 0
    n_lost: int = 0
    n_troubles: int = 0
    avoid: set[str] = field(default_factory=set)
    attempts: "list[Attempt]" = field(default_factory=list)
    is_claimed: bool = False


@dataclass(eq=False, slots=True)
class Attempt:
    """One call about an image, at one worker."""

    image: Image
    worker: Worker
    number: int
    future: Any = None
    began: float | None = None


class Images:
    """The images that have no outcome yet.

    Args:
        hosts: name → machine, of all that there were.

    Attributes:
        stopped: why no image is begun any more.
    """

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        self.stopped: StopError | None = None
        self._hosts = hosts
        self._left: set[Image] = set()
        self._waiting: deque[Image] = deque()
        self._alone: deque[Image] = deque()
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._left)

    def __contains__(self, image: Image) -> bool:
        return image in self._left

    def add(self, image: Image) -> None:
        """Takes an image in."""
        if self.stopped is not None:
            image.future.set_exception(self.stopped)
            return
        self._left.add(image)
        self._waiting.append(image)

    def stop(self, error: StopError) -> None:
        """Gives up all images but those whose result is being published."""
        self.stopped = self.stopped or error
        for image in self._left:
            if not image.is_claimed:
                image.future.set_exception(self.stopped)
        self._left = {image for image in self._left if image.is_claimed}
        self._waiting.clear()
        self._alone.clear()

    def assigned(self, ready: Callable[[], list[Worker]]) -> Iterator[Attempt]:
        """Gives images to workers that have room.

        Args:
            ready: gives the workers that may be given images.
        """
        while self._waiting and self._waiting[0] not in self._left:  # a silent worker was not frozen
            self._waiting.popleft()
        while self._alone and (worker := _chosen(self._alone[0], ready(), most=1)) is not None:
            worker.is_alone = True
            yield self._begun(self._alone.popleft(), worker)
        while self._waiting and (worker := _chosen(self._waiting[0], ready())) is not None:
            yield self._begun(self._waiting.popleft(), worker)

    def _begun(self, image: Image, worker: Worker) -> Attempt:
        attempt = Attempt(image, worker, next(self._numbers))
        worker.attempts.append(attempt)
        image.attempts.append(attempt)
        return attempt

    @staticmethod
    def ended(attempt: Attempt) -> bool:
        """Takes note that an attempt is over at its worker; False if it had been given up."""
        if attempt not in attempt.worker.attempts:
            return False
        attempt.worker.attempts.remove(attempt)
        attempt.worker.is_alone = False
        attempt.image.attempts.remove(attempt)
        return True

    def settle(self, image: Image, outcome: Outcome) -> None:
        """Gives an image its outcome, the first one only."""
        if image in self._left:
            self._left.remove(image)
            image.future.set_result(outcome)

    def again(self, image: Image) -> None:
        """Lets an image be done once more, unless it is being done elsewhere."""
        if image not in self._left or image.is_claimed or image.attempts or self._waits(image):
            return
        if self.stopped is not None:
            self._left.discard(image)
            image.future.set_exception(self.stopped)
        elif image.n_lost >= _LOSSES - 1:
            self._alone.append(image)
        else:
            self._waiting.appendleft(image)

    def failed(self, image: Image, host: Host, result: "Outcome | str") -> None:
        """An image has failed on a machine, or, where the result is a text, the machine is in trouble."""
        host.failures += 1
        image.avoid.add(host.name)
        others = [other for other in self._hosts.values() if other is not host and not other.is_out]
        if host.failures >= _FAILURES_IN_A_ROW and any(other.n_done and not other.failures for other in others):
            host.is_out = True
            log.warning("%s gets no more images: %d failed one after the other", printable(host.name), host.failures)
        if isinstance(result, str):
            image.n_troubles += 1
            log.warning("%s: trouble at %s: %s", image.paths.source, printable(host.name), printable(result))
            if image.n_troubles < _TROUBLES:
                self.again(image)
            else:
                self.stop(StopError(f"The workers cannot go on, the last one ({host.name}) because: {result}"))
            return
        image.n_failed += 1
        if image.n_failed < _ATTEMPTS:
            self.again(image)
        else:
            self.settle(image, result)

    def lost(self, image: Image) -> None:
        """The process of a worker has died while it worked on an image."""
        image.n_lost += 1
        if image.n_lost < _LOSSES:
            self.again(image)
        elif not image.is_claimed:
            reason = f"{_LOSSES} worker processes died on it: out of memory, or a crash in a library"
            self.settle(image, Failed(image.paths.source, "worker", reason))

    def lose(self, worker: Worker) -> None:
        """A worker has gone. One of the images that it worked on may be why."""
        for index, attempt in enumerate(tuple(worker.attempts)):
            self.ended(attempt)
            if index < worker.n_threads:
                self.lost(attempt.image)
            else:
                self.again(attempt.image)
        fetching, worker.fetching = worker.fetching, []
        for attempt in fetching:
            attempt.future.cancel()  # it would be waited for
            self.again(attempt.image)

    def share(self, worker: Worker) -> None:
        """Lets others do the images of a silent worker, too."""
        for image in (attempt.image for attempt in worker.attempts):
            if image.is_claimed or image not in self._left or self._waits(image):
                continue
            if all(other.worker.is_silent for other in image.attempts):
                self._waiting.append(image)

    def _waits(self, image: Image) -> bool:
        return image in self._waiting or image in self._alone


def _chosen(image: Image, ready: list[Worker], most: int | None = None) -> Worker | None:
    """The worker with the least to do; None if none has room."""
    ready = [w for w in ready if w.host is not None and w.host.name not in image.avoid] or ready
    room = (w for w in ready if len(w.attempts) < (most or _PER_THREAD * w.n_threads) and not w.is_alone)
    return min(room, key=lambda worker: len(worker.attempts) / worker.n_threads, default=None)
