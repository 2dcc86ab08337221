"""Gives images to the workers of a Dask cluster, and takes the first result of each.

Each call is bound to one worker, so the leader always knows which process has which image: Dask carries the calls, and
tells which workers there are. All state belongs to one thread; everything else sends it events.
"""

import contextlib
import itertools
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ParamSpec, TypeVar

import distributed

from anonymise.batch.outcomes import Done, Failed, Outcome
from anonymise.batch.paths import Paths
from anonymise.batch.resume import Begun
from anonymise.batch.runner import Failure, Task
from anonymise.batch.storage import read_input
from anonymise.batch.tasks import ImageTask, Subject, outcome_of
from anonymise.cluster import worker as remote
from anonymise.cluster.members import Host, Members, Worker
from anonymise.cluster.publishing import Publisher, UntrueError
from anonymise.cluster.worker import Answer, Item, Setup
from anonymise.core.errors import AnonymiseError, StopError, TimeLimitError
from anonymise.core.plaintext import plural, printable
from anonymise.corrections.source import CorrectedSource
from anonymise.images import check_kind

__all__ = ["Attempt", "Leader"]

log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_T = TypeVar("_T")

LOOK_SECONDS = 1.0
"""Between two looks at which workers there are."""

LINE_SECONDS = 20.0
"""Between two lines about the cluster in the log."""

ENDING_SECONDS = 60.0
"""That images in work may take once the operator has asked the run to end."""

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
class _Image:
    """An image that is to be done; the runner has its future."""

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

    image: _Image
    worker: Worker
    number: int
    future: Any = None
    began: float | None = None


@dataclass(frozen=True, slots=True)
class _Call:
    """What the runner submits for an image."""

    paths: Paths
    begun: Begun
    corrections: CorrectedSource | None

    def __call__(self) -> Outcome:
        raise AssertionError("only a leader can do this")


class Leader:
    """An executor whose tasks about images are done by the workers of a cluster, and published here.

    Args:
        client: of the cluster.
        setup: what workers need to know of the run.
        publisher: publishes results.
        seconds: that a worker may take for one image; None sets no limit.
        wait_seconds: without any worker, after which the run stops.
        wants_to_stop: whether the operator has asked the run to end.
    """

    in_process = False

    def __init__(
        self,
        client: "distributed.Client",
        setup: Setup,
        publisher: Publisher,
        *,
        seconds: float | None,
        wait_seconds: float,
        wants_to_stop: Callable[[], bool],
    ) -> None:
        self._client = client
        self._setup = setup
        self._publisher = publisher
        self._seconds = seconds
        self._wait_seconds = wait_seconds
        self._wants_to_stop = wants_to_stop
        self._waiting: deque[_Image] = deque()
        self._alone: deque[_Image] = deque()
        self._images: set[_Image] = set()
        self._numbers = itertools.count()
        self._stopped: StopError | None = None
        self._asked_to_stop: float | None = None
        self._had_workers = time.monotonic()
        self._next_line = self._had_workers + LINE_SECONDS
        self._next_look = 0.0
        self._events: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="publish")
        self._members = Members(client, setup, publisher, self._threads, self._events.put)
        self._thread = threading.Thread(target=self._run, name="cluster leader", daemon=True)
        self._thread.start()

    # --- for the runner ---------------------------------------------------------------------------------------------

    @property
    def executor(self) -> "Leader":
        """This executor."""
        return self

    @property
    def n_parallel(self) -> int:
        """Number of images that the workers of this moment do at a time; at least 1."""
        return max(1, sum(worker.n_threads for worker in self._members.ready()))

    def task(self, paths: Paths, begun: Begun, corrections: CorrectedSource | None) -> ImageTask:
        """The task for an image, for this executor."""
        return Task(Subject(paths.source), _Call(paths, begun, corrections))

    def submit(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> "Future[_T]":
        """Gives an image to the cluster; makes any other call in a thread of this process."""
        if not isinstance(function, _Call):
            return self._threads.submit(function, *args, **kwargs)
        future: Future[Any] = Future()
        image = _Image(function.paths, function.begun, function.corrections, future)
        self._events.put(partial(self._add, image))
        return future

    def restart(self) -> None:
        """Nothing: workers come and go by themselves."""

    def kill(self) -> None:
        """Gives up everything that is in work."""
        self._events.put(partial(self._stop, StopError("given up")))

    def close(self) -> None:
        """Lets the workers forget the run."""
        self._events.put(None)
        self._thread.join()
        self._threads.shutdown(cancel_futures=True)
        with contextlib.suppress(Exception):  # Dask has many
            self._members.leave()
        self._members.tell_hosts()

    def wait_for_worker(self) -> str | None:
        """Waits until a worker has joined; returns why none has, if so."""
        deadline = time.monotonic() + self._wait_seconds
        while not self._members.has_joined.wait(0.2):
            if time.monotonic() > deadline or self._wants_to_stop() or self._stopped is not None:
                return self._why_none()
        return None

    # --- in the leader's thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            event: Callable[[], None] | None = self._look
            with contextlib.suppress(queue.Empty):
                if (seconds := self._next_look - time.monotonic()) > 0:
                    event = self._events.get(timeout=seconds)
            if event is None:
                return
            try:
                event()
                self._assign()
            except Exception as error:
                log.debug("The leader failed", exc_info=error)
                self._stop(StopError(f"the leader failed: {type(error).__name__}: {error}"))

    def _add(self, image: _Image) -> None:
        if self._stopped is not None:
            image.future.set_exception(self._stopped)
            return
        self._images.add(image)
        self._waiting.append(image)

    def _stop(self, error: StopError) -> None:
        self._stopped = self._stopped or error
        for image in self._images:
            if not image.is_claimed:
                image.future.set_exception(self._stopped)
        self._images = {image for image in self._images if image.is_claimed}
        self._waiting.clear()
        self._alone.clear()

    def _look(self) -> None:
        """Sees which workers there are, and does what time has made due."""
        now = time.monotonic()
        self._next_look = now + LOOK_SECONDS
        for worker in self._members.look():
            self._lose(worker)
        if self._client.status == "closed":
            self._stop(StopError("The scheduler of the cluster has gone; start the run again, it goes on from here."))
        for worker in tuple(self._members.workers.values()):
            self._watch(worker, now)
        if self._members.ready():
            self._had_workers = now
        elif self._images and now - self._had_workers > self._wait_seconds:
            self._stop(StopError(f"{self._why_none()} (cluster_wait_seconds). The next run goes on from here."))
        if self._asked_to_stop is None and self._wants_to_stop():
            self._asked_to_stop = now
        if self._asked_to_stop is not None and now - self._asked_to_stop > ENDING_SECONDS and self._images:
            self._stop(StopError(f"{plural(len(self._images), 'image')} in work did not end; the next run does them."))
        if now >= self._next_line:
            self._next_line = now + LINE_SECONDS
            self._members.tell(len(self._images))

    def _why_none(self) -> str:
        return f"No worker of the cluster can be used since {self._wait_seconds:g} s{self._members.refusals()}"

    # --- images -----------------------------------------------------------------------------------------------------

    def _assign(self) -> None:
        """Gives images to workers that have room."""
        while self._waiting and self._waiting[0] not in self._images:  # a silent worker was not frozen
            self._waiting.popleft()
        while self._alone and (worker := self._chosen(self._alone[0], most=1)) is not None:
            worker.is_alone = True
            self._start(self._alone.popleft(), worker)
        while self._waiting and (worker := self._chosen(self._waiting[0])) is not None:
            self._start(self._waiting.popleft(), worker)

    def _chosen(self, image: _Image, most: int | None = None) -> Worker | None:
        """The worker with the least to do; None if none has room."""
        ready = self._members.ready()
        ready = [w for w in ready if w.host is not None and w.host.name not in image.avoid] or ready
        room = (w for w in ready if len(w.attempts) < (most or _PER_THREAD * w.n_threads) and not w.is_alone)
        return min(room, key=lambda worker: len(worker.attempts) / worker.n_threads, default=None)

    def _start(self, image: _Image, worker: Worker) -> None:
        attempt = Attempt(image, worker, next(self._numbers))
        worker.attempts.append(attempt)
        image.attempts.append(attempt)
        rows = image.corrections.rows_of(image.paths.key) if image.corrections is not None else None
        item = Item(image.paths.key, attempt.number, image.begun.identity)
        item = item if rows is None else replace(item, corrections=rows)
        if self._publisher.staging:
            self._send(attempt, item)
        else:
            self._threads.submit(self._send_with_data, attempt, item)

    def _send_with_data(self, attempt: Attempt, item: Item) -> None:
        paths = attempt.image.paths
        try:
            data = read_input(paths.source, paths.places.input, self._setup.config.storage, check_kind)
            (sent,) = self._client.scatter([data], workers=[attempt.worker.address], hash=False)  # type: ignore[no-untyped-call]
        except AnonymiseError as error:
            outcome = outcome_of(Failure(Subject(paths.source, "read"), error))
            self._events.put(partial(self._unsent, attempt, outcome))
        except Exception as error:  # noqa: BLE001 - Dask has many
            self._events.put(partial(self._unsent, attempt, f"the image could not be sent: {error}"))
        else:
            self._events.put(partial(self._send, attempt, item, sent))

    def _unsent(self, attempt: Attempt, result: "Outcome | str") -> None:
        if self._remove(attempt):
            self._taken(attempt, None, result)

    def _send(self, attempt: Attempt, item: Item, data: Any = None) -> None:
        if attempt in attempt.worker.attempts:  # its worker has not gone meanwhile
            arguments = (self._publisher.run, item, *([] if data is None else [data]))
            attempt.future = self._members.submit(attempt.worker, "image", remote.anonymise, *arguments)
            attempt.future.add_done_callback(lambda _: self._events.put(partial(self._ended, attempt)))

    def _remove(self, attempt: Attempt) -> bool:
        """Ends an attempt at its worker; False if it has been given up."""
        if attempt not in attempt.worker.attempts:
            return False
        attempt.worker.attempts.remove(attempt)
        attempt.worker.is_alone = False
        attempt.image.attempts.remove(attempt)
        return True

    def _ended(self, attempt: Attempt) -> None:
        worker, error = attempt.worker, None
        if attempt.future.status != "finished":
            error = attempt.future.exception(timeout=5) if attempt.future.status == "error" else "cancelled"
        if isinstance(error, distributed.KilledWorker):
            if self._members.workers.pop(worker.address, None) is not None:
                self._lose(worker)
        elif self._remove(attempt):
            if error is not None:
                self._taken(attempt, None, f"its work failed: {error!r}")
            else:
                worker.fetching.append(attempt)
                self._threads.submit(self._fetch_answer, attempt)

    def _fetch_answer(self, attempt: Attempt) -> None:
        try:
            answer = attempt.future.result(timeout=60)
        except Exception as error:  # noqa: BLE001 - Dask has many
            self._events.put(partial(self._fetched, attempt, None, f"its result is lost: {error!r}"))
        else:
            self._events.put(partial(self._fetched, attempt, answer))

    def _fetched(self, attempt: Attempt, answer: Answer | None, trouble: str = "") -> None:
        """The first answer about an image is published; later ones are thrown away."""
        image = attempt.image
        is_known = attempt in attempt.worker.fetching
        if is_known:
            attempt.worker.fetching.remove(attempt)
        attempt.future = None  # lets Dask forget it
        if answer is None:
            if is_known:  # else its worker is lost, which is known already
                self._taken(attempt, None, trouble)
        elif image.is_claimed or image not in self._images:
            self._threads.submit(self._publisher.discard, answer)
        elif answer.outcome is None:
            self._taken(attempt, answer, answer.trouble)
        elif not isinstance(answer.outcome, Done):
            self._taken(attempt, answer, replace(answer.outcome, source=image.paths.source))
        else:
            image.is_claimed = True
            self._threads.submit(self._publish, attempt, answer)

    def _publish(self, attempt: Attempt, answer: Answer) -> None:
        """In a thread of its own."""
        image = attempt.image
        result: Outcome | StopError | str
        try:
            result = self._publisher.publish(image.paths, answer, frozenset(image.begun.instances))
            if image.corrections is not None:
                rows = image.corrections.rows_of(image.paths.key)
                image.corrections.note(image.paths.key, rows, list(answer.stale))
        except UntrueError as error:
            result = str(error)
        except StopError as error:
            result = error
        except Exception as error:  # noqa: BLE001 - nobody else would tell the runner
            result = StopError(f"{image.paths.source} could not be published: {type(error).__name__}: {error}")
        self._events.put(partial(self._published, attempt, answer, result))

    def _published(self, attempt: Attempt, answer: Answer, result: "Outcome | StopError | str") -> None:
        attempt.image.is_claimed = False
        self._taken(attempt, answer, result)

    def _taken(self, attempt: Attempt, answer: Answer | None, result: "Outcome | StopError | str") -> None:
        """An attempt has led to an outcome, or to trouble."""
        image, worker, host = attempt.image, attempt.worker, attempt.worker.host
        if host is not None and answer is not None:
            host.seconds += answer.seconds
        if isinstance(result, StopError):
            self._stop(result)
        elif isinstance(result, Done):
            if host is not None:
                host.n_done += 1
                host.failures = 0
            self._settle(image, result)
        elif host is None:  # it is to join again
            self._again(image)
        elif result == remote.NOT_JOINED:
            self._members.begin_joining(worker)
            self._lost(image)
        else:
            self._failed(image, host, result)

    def _failed(self, image: _Image, host: Host, result: "Outcome | str") -> None:
        host.failures += 1
        image.avoid.add(host.name)
        others = [other for other in self._members.hosts.values() if other is not host and not other.is_out]
        if host.failures >= _FAILURES_IN_A_ROW and any(other.n_done and not other.failures for other in others):
            host.is_out = True
            log.warning("%s gets no more images: %d failed one after the other", printable(host.name), host.failures)
        if isinstance(result, str):
            image.n_troubles += 1
            log.warning("%s: trouble at %s: %s", image.paths.source, printable(host.name), printable(result))
            if image.n_troubles < _TROUBLES:
                self._again(image)
            else:
                self._stop(StopError(f"The workers cannot go on, the last one ({host.name}) because: {result}"))
            return
        image.n_failed += 1
        if image.n_failed < _ATTEMPTS:
            self._again(image)
        else:
            self._settle(image, result)

    def _again(self, image: _Image) -> None:
        """Lets an image be done once more, unless it is being done elsewhere."""
        waits = image in self._waiting or image in self._alone
        if image not in self._images or image.is_claimed or image.attempts or waits:
            return
        if self._stopped is not None:
            self._images.discard(image)
            image.future.set_exception(self._stopped)
        elif image.n_lost >= _LOSSES - 1:
            self._alone.append(image)
        else:
            self._waiting.appendleft(image)

    def _settle(self, image: _Image, outcome: Outcome) -> None:
        if image in self._images:
            self._images.remove(image)
            image.future.set_result(outcome)

    # --- workers that go, or are silent -----------------------------------------------------------------------------

    def _lose(self, worker: Worker) -> None:
        """A worker has gone. One of the images that it worked on may be why."""
        for index, attempt in enumerate(tuple(worker.attempts)):
            self._remove(attempt)
            if index < worker.n_threads:
                self._lost(attempt.image)
            else:
                self._again(attempt.image)
        fetching, worker.fetching = worker.fetching, []
        for attempt in fetching:
            attempt.future.cancel()  # it would be waited for
            self._again(attempt.image)
        self._members.note_lost(worker)

    def _lost(self, image: _Image) -> None:
        image.n_lost += 1
        if image.n_lost < _LOSSES:
            self._again(image)
        elif not image.is_claimed:
            reason = f"{_LOSSES} worker processes died on it: out of memory, or a crash in a library"
            self._settle(image, Failed(image.paths.source, "worker", reason))

    def _watch(self, worker: Worker, now: float) -> None:
        """Gives the images of a silent worker to others, too, and ends a worker that takes too long."""
        if worker.is_silent:
            for attempt in worker.attempts:
                image = attempt.image
                if not image.is_claimed and all(other.worker.is_silent for other in image.attempts):
                    waits = image in self._waiting or image in self._alone
                    if image in self._images and not waits:
                        self._waiting.append(image)
            return
        for attempt in worker.attempts[: worker.n_threads]:
            attempt.began = attempt.began or now
            if self._seconds is not None and now - attempt.began > self._seconds:
                self._end(worker, attempt)
                return

    def _end(self, worker: Worker, late: Attempt) -> None:
        error = TimeLimitError.after(self._seconds or 0.0)
        for attempt in tuple(worker.attempts):
            self._remove(attempt)
            if attempt is late and not late.image.is_claimed:
                self._settle(late.image, outcome_of(Failure(Subject(late.image.paths.source), error)))
            else:
                self._again(attempt.image)
        worker.is_refused = True  # if nothing can end it, it is used no more
        self._threads.submit(self._client.restart_workers, [worker.address], timeout=60, raise_for_error=False)
