"""The workers of a cluster: which there are, which of them may work, and what each machine has done."""

import contextlib
import itertools
import logging
import pickle
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from anonymise.cluster import worker as remote
from anonymise.cluster.publishing import Publisher
from anonymise.cluster.worker import Joined, Setup
from anonymise.core.plaintext import plural, printable

if TYPE_CHECKING:
    import distributed

    from anonymise.cluster.images import Attempt

__all__ = ["SILENT_SECONDS", "Host", "Members", "Worker"]

log = logging.getLogger(__name__)

SILENT_SECONDS = 15.0
"""Without a heartbeat, after which the images of a worker are given to others, too."""

_MAX_SCORE_DIFFERENCE = 0.02
"""Of what two workers find in the reference picture."""


@dataclass(eq=False, slots=True)
class Host:
    """A machine, and what it has done. `failures` are those in a row; one that `is_out` gets no more images."""

    name: str
    n_done: int = 0
    n_lost: int = 0
    seconds: float = 0.0
    since: float = field(default_factory=time.monotonic)
    n_threads: int = 0
    failures: int = 0
    is_out: bool = False


@dataclass(eq=False, slots=True)
class Worker:
    """A worker process, with the images that it works on, and those whose answers are being fetched.

    `host` is None until it has joined; `is_alone` while it does an image that may kill it.
    """

    address: str
    n_threads: int
    host: Host | None = None
    is_refused: bool = False
    joining: Any = None
    last_seen: float = 0.0
    seen: float = field(default_factory=time.monotonic)
    is_alone: bool = False
    attempts: list["Attempt"] = field(default_factory=list)
    fetching: list["Attempt"] = field(default_factory=list)

    @property
    def is_silent(self) -> bool:
        """Whether it may be frozen, or cut off."""
        return time.monotonic() - self.seen > SILENT_SECONDS

    @property
    def is_ready(self) -> bool:
        """Whether it may be given images."""
        return self.host is not None and not self.is_refused and not self.host.is_out and not self.is_silent


class Members:
    """The workers. Everything is called in the leader's thread, to which `post` brings calls from others.

    Args:
        client: of the cluster.
        setup: what workers need to know of the run.
        publisher: says whether a worker writes to its folders.
        threads: for what has to wait.
        post: has a call made in the leader's thread.

    Attributes:
        workers: address → worker, of all that there are.
        hosts: name → machine, of all that there were.
        has_joined: set once a worker may be given images.
    """

    def __init__(
        self,
        client: "distributed.Client",
        setup: Setup,
        publisher: Publisher,
        threads: Executor,
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self._client = client
        self._config = setup.config.cluster
        self._setup = pickle.dumps(setup)
        self._publisher = publisher
        self._threads = threads
        self._post = post
        self._numbers = itertools.count()
        self._reference: Joined | None = None
        self._refusals: Counter[tuple[str, str]] = Counter()
        self._started = time.monotonic()
        self.workers: dict[str, Worker] = {}
        self.hosts: dict[str, Host] = {}
        self.has_joined = threading.Event()

    def ready(self) -> list[Worker]:
        """The workers that may be given images."""
        return [worker for worker in tuple(self.workers.values()) if worker.is_ready]

    def submit(self, worker: Worker, name: str, function: Callable[..., Any], *args: object) -> Any:
        """Has a call made by one worker, and by no other; returns Dask's future."""
        return self._client.submit(
            function, *args, key=f"{self._publisher.run}-{name}-{next(self._numbers)}", workers=[worker.address],
            allow_other_workers=False, pure=False, retries=0,
        )  # fmt: skip

    def look(self) -> list[Worker]:
        """Takes in which workers there are; returns those that have gone."""
        try:
            known = self._client.scheduler_info(n_workers=-1)["workers"]
        except Exception as error:
            log.debug("The scheduler does not answer", exc_info=error)
            return []
        gone = [self.workers.pop(address) for address in set(self.workers) - set(known)]
        for address, info in known.items():
            if (worker := self.workers.get(address)) is None:
                self.workers[address] = worker = Worker(address, info["nthreads"])
                self.begin_joining(worker)
            if info["last_seen"] != worker.last_seen:
                worker.last_seen, worker.seen = info["last_seen"], time.monotonic()
        return gone

    def note_lost(self, worker: Worker) -> None:
        """A worker has gone."""
        if worker.host is not None:
            worker.host.n_threads -= worker.n_threads
            worker.host.n_lost += 1
            log.warning("Worker %s on %s is lost", worker.address, printable(worker.host.name))

    def begin_joining(self, worker: Worker) -> None:
        """Checks a worker; it gets images once it has passed."""
        if worker.host is not None:
            worker.host.n_threads -= worker.n_threads
            worker.host = None
        self._ask(worker, self._compare_version, remote.program_version)

    def _ask(
        self, worker: Worker, then: Callable[[Worker, Any], None], function: Callable[..., Any], *args: Any
    ) -> None:
        worker.joining = self.submit(worker, "join", function, *args)
        worker.joining.add_done_callback(lambda future: self._fetch_later(worker, future, then))

    def _fetch_later(self, worker: Worker, future: Any, then: Callable[[Worker, Any], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the run is over, and nobody waits for this worker
            self._threads.submit(self._fetch, worker, future, then)

    def _fetch(self, worker: Worker, future: Any, then: Callable[[Worker, Any], None]) -> None:
        try:
            result = future.result(timeout=60)
        except Exception as error:  # noqa: BLE001 - whatever stands in its way, such as names of another version
            reason = f"it cannot do this program's work: {type(error).__name__}: {error}"
            self._post(partial(self._refuse, worker, worker.address, reason))
        else:
            self._post(partial(then, worker, result))

    def _compare_version(self, worker: Worker, version: str) -> None:
        if version != (own := remote.program_version()):
            self._refuse(worker, worker.address, f"it has version {version} of anonymise, and the leader {own}")
        else:
            self._ask(worker, self._admit, remote.join, self._setup)

    def _admit(self, worker: Worker, joined: Joined) -> None:
        reason = joined.refusal
        if reason is None and not self._publisher.sees(joined):
            reason = "what it writes to the output folder cannot be seen here"
        if reason is None and self._reference is not None:
            reason = self._difference(joined, self._reference)
        if reason is not None:
            self._refuse(worker, joined.host, reason)
            return
        self._reference = self._reference or joined
        worker.host = self.hosts.setdefault(joined.host, Host(joined.host))
        worker.host.n_threads += worker.n_threads
        worker.seen = time.monotonic()
        self.has_joined.set()
        log.info("Worker %s on %s has joined", worker.address, printable(joined.host))

    def _difference(self, joined: Joined, first: Joined) -> str | None:
        if joined.runtimes != first.runtimes and not self._config.cluster_mixed:
            return f"its model runs on {joined.runtimes}, that of {first.host} on {first.runtimes} (key cluster_mixed)"
        same = [one[0] for one in joined.found] == [one[0] for one in first.found] and all(
            abs(one[1] - other[1]) <= _MAX_SCORE_DIFFERENCE
            for one, other in zip(joined.found, first.found, strict=True)
        )
        return None if same else f"its model finds something else in the reference picture than that of {first.host}"

    def _refuse(self, worker: Worker, host: str, reason: str) -> None:
        if self.workers.get(worker.address) is not worker:
            return  # it has gone
        worker.is_refused = True
        if not self._refusals[host, reason]:
            log.warning("Worker %s is not used: %s", printable(f"{worker.address} on {host}"), printable(reason))
        self._refusals[host, reason] += 1

    def refusals(self) -> str:
        """Why workers are not used, a line each."""
        return "".join(f"\n  - {host}: {reason}" for host, reason in self._refusals)

    def tell(self, n_images: int) -> None:
        """A line for the log about the cluster, with so many images in work or waiting."""
        ready = self.ready()
        rate = sum(host.n_done for host in self.hosts.values()) / (time.monotonic() - self._started)
        machines = plural(len({worker.host for worker in ready}), "machine")
        workers = plural(len(ready), "worker")
        log.info("Cluster: %s on %s, %d images in work or waiting, %.1f images/s", workers, machines, n_images, rate)

    def tell_hosts(self) -> None:
        """A line for the log about each machine."""
        for host in self.hosts.values():
            share = host.seconds / max(1e-9, host.n_threads * (time.monotonic() - host.since))
            name, images = printable(host.name), plural(host.n_done, "image")
            log.info(
                "Host %s: %s in %.0f s of work, %.0f %% busy, %d lost",
                name,
                images,
                host.seconds,
                100 * share,
                host.n_lost,
            )

    def leave(self) -> None:
        """Lets the workers forget the run. Those that cannot be told forget it when the next one begins."""
        leaving = [self.submit(worker, "leave", remote.leave, self._publisher.run) for worker in self.ready()]
        end = time.monotonic() + 5
        for future in leaving:
            while not future.done() and time.monotonic() < end:
                time.sleep(0.02)
