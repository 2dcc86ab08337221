"""Gives images to the workers of a Dask cluster, and takes the first result of each.

Each call is bound to one worker, so the leader always knows which process has which image: Dask carries the calls, and
tells which workers there are. All state belongs to one thread; everything else sends it events.
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ParamSpec, TypeVar

import distributed

from anonymise.batch.outcomes import Done, Outcome
from anonymise.batch.paths import Paths
from anonymise.batch.resume import Begun
from anonymise.batch.runner import Failure, Task
from anonymise.batch.storage import read_input
from anonymise.batch.tasks import ImageTask, Subject, outcome_of
from anonymise.cluster import worker as remote
from anonymise.cluster.images import Attempt, Image, Images
from anonymise.cluster.members import Members, Worker
from anonymise.cluster.publishing import Publisher, UntrueError
from anonymise.cluster.worker import Answer, Item, Setup
from anonymise.core.errors import AnonymiseError, StopError, TimeLimitError
from anonymise.core.plaintext import plural
from anonymise.corrections.source import CorrectedSource
from anonymise.images import check_kind

__all__ = ["Leader"]

log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_T = TypeVar("_T")

LOOK_SECONDS = 1.0
"""Between two looks at which workers there are."""

LINE_SECONDS = 20.0
"""Between two lines about the cluster in the log."""

ENDING_SECONDS = 60.0
"""That images in work may take once the operator has asked the run to end."""


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
        self._asked_to_stop: float | None = None
        self._had_workers = time.monotonic()
        self._next_line = self._had_workers + LINE_SECONDS
        self._next_look = 0.0
        self._events: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="publish")
        self._members = Members(client, setup, publisher, self._threads, self._events.put)
        self._images = Images(self._members.hosts)
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
        image = Image(function.paths, function.begun, function.corrections, future)
        self._events.put(partial(self._images.add, image))
        return future

    def restart(self) -> None:
        """Nothing: workers come and go by themselves."""

    def kill(self) -> None:
        """Gives up everything that is in work."""
        self._events.put(partial(self._images.stop, StopError("given up")))

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
            if time.monotonic() > deadline or self._wants_to_stop() or self._images.stopped is not None:
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
                for attempt in self._images.assigned(self._members.ready):
                    self._start(attempt)
            except Exception as error:
                log.debug("The leader failed", exc_info=error)
                self._images.stop(StopError(f"the leader failed: {type(error).__name__}: {error}"))

    def _look(self) -> None:
        """Sees which workers there are, and does what time has made due."""
        now = time.monotonic()
        self._next_look = now + LOOK_SECONDS
        for worker in self._members.look():
            self._lose(worker)
        if self._client.status == "closed":
            gone = "The scheduler of the cluster has gone; start the run again, it goes on from here."
            self._images.stop(StopError(gone))
        for worker in tuple(self._members.workers.values()):
            self._watch(worker, now)
        if self._members.ready():
            self._had_workers = now
        elif self._images and now - self._had_workers > self._wait_seconds:
            self._images.stop(StopError(f"{self._why_none()} (cluster_wait_seconds). The next run goes on from here."))
        if self._asked_to_stop is None and self._wants_to_stop():
            self._asked_to_stop = now
        if self._asked_to_stop is not None and now - self._asked_to_stop > ENDING_SECONDS and self._images:
            left = plural(len(self._images), "image")
            self._images.stop(StopError(f"{left} in work did not end; the next run does them."))
        if now >= self._next_line:
            self._next_line = now + LINE_SECONDS
            self._members.tell(len(self._images))

    def _why_none(self) -> str:
        return f"No worker of the cluster can be used since {self._wait_seconds:g} s{self._members.refusals()}"

    # --- images -----------------------------------------------------------------------------------------------------

    def _start(self, attempt: Attempt) -> None:
        image = attempt.image
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
        if self._images.ended(attempt):
            self._taken(attempt, None, result)

    def _send(self, attempt: Attempt, item: Item, data: Any = None) -> None:
        if attempt in attempt.worker.attempts:  # its worker has not gone meanwhile
            arguments = (self._publisher.run, item, *([] if data is None else [data]))
            attempt.future = self._members.submit(attempt.worker, "image", remote.anonymise, *arguments)
            attempt.future.add_done_callback(lambda _: self._events.put(partial(self._ended, attempt)))

    def _ended(self, attempt: Attempt) -> None:
        worker, error = attempt.worker, None
        if attempt.future.status != "finished":
            error = attempt.future.exception(timeout=5) if attempt.future.status == "error" else "cancelled"
        if isinstance(error, distributed.KilledWorker):
            if self._members.workers.pop(worker.address, None) is not None:
                self._lose(worker)
        elif self._images.ended(attempt):
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
            self._images.stop(result)
        elif isinstance(result, Done):
            if host is not None:
                host.n_done += 1
                host.failures = 0
            self._images.settle(image, result)
        elif host is None:  # it is to join again
            self._images.again(image)
        elif result == remote.NOT_JOINED:
            self._members.begin_joining(worker)
            self._images.lost(image)
        else:
            self._images.failed(image, host, result)

    # --- workers that go, or are silent -----------------------------------------------------------------------------

    def _lose(self, worker: Worker) -> None:
        self._images.lose(worker)
        self._members.note_lost(worker)

    def _watch(self, worker: Worker, now: float) -> None:
        """Gives the images of a silent worker to others, too, and ends a worker that takes too long."""
        if worker.is_silent:
            self._images.share(worker)
            return
        for attempt in worker.attempts[: worker.n_threads]:
            attempt.began = attempt.began or now
            if self._seconds is not None and now - attempt.began > self._seconds:
                self._end(worker, attempt)
                return

    def _end(self, worker: Worker, late: Attempt) -> None:
        error = TimeLimitError.after(self._seconds or 0.0)
        for attempt in tuple(worker.attempts):
            self._images.ended(attempt)
            if attempt is late and not late.image.is_claimed:
                self._images.settle(late.image, outcome_of(Failure(Subject(late.image.paths.source), error)))
            else:
                self._images.again(attempt.image)
        worker.is_refused = True  # if nothing can end it, it is used no more
        self._threads.submit(self._client.restart_workers, [worker.address], timeout=60, raise_for_error=False)
