"""Executors: make calls now or in other processes, through one protocol.

`SerialWorkers` make the same calls in the same order in this process, so that everything can be run and debugged
without concurrency. An executor on other machines is another class with the members of `Executor`.
"""

import contextlib
import ctypes
import functools
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, wait
from multiprocessing import connection
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, ParamSpec, Protocol, TypeVar

import cv2

from anonymise.core.errors import TimeLimitError

__all__ = [
    "STOP_SIGNALS",
    "Executor",
    "ProcessWorkers",
    "SerialWorkers",
    "WorkerDied",
    "alone",
    "collected_log",
    "has_ended",
    "held_signals",
    "new_workers",
]

log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_T = TypeVar("_T")

_NICENESS = 10
"""Of workers. A model on all cores waits for the thread whose core a worker has taken, so it comes first: behind a slow
one an image took 1.12 times what the model takes alone, and 1.07 times with this."""

_MOST_PROCESSES_ON_WINDOWS = 61
"""It cannot wait for more processes at once (MAXIMUM_WAIT_OBJECTS, of which two are taken)."""

STOP_SIGNALS: tuple[int, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)
"""Signals that ask a run to end. Terminals, systemd and ``timeout`` send them to every process of the run. Only the
main process acts on them, because it alone knows what is under way."""

WorkerDied = BrokenExecutor
"""Raised by the futures of all calls in flight when a worker dies, whichever call it was working on. An executor that
knows which one it was raises it from that future only."""


class Executor(Protocol):
    """Makes calls. Functions must be importable by name, and their arguments and results picklable."""

    @property
    def n_parallel(self) -> int:
        """Number of calls that are made at the same time."""
        ...

    @property
    def in_process(self) -> bool:
        """Whether the calls are made in this process, so that arguments need not be pickled and memory is shared."""
        ...

    def submit(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Starts a call.

        Raises:
            WorkerDied: a worker died earlier, and `restart` has not been called since.
        """
        ...

    def restart(self) -> None:
        """Replaces all workers, after one died or after `kill`; returns when they are ready."""
        ...

    def kill(self) -> None:
        """Ends all workers at once, whatever they are doing."""
        ...

    def close(self) -> None:
        """Waits for the calls in flight, drops those that have not started, and ends the workers."""
        ...


def alone(executor: Executor, call: Callable[[], _T], seconds: float | None = None) -> Future[_T]:
    """Makes a call while the executor has nothing else to do, so that it is known which call kills a worker.

    The executor works again afterwards, whatever the call did.

    Args:
        executor: makes the call. No other call is in flight.
        call: the call.
        seconds: time that it may take; None is any time.

    Returns:
        A future that is done: with `WorkerDied` where the worker died, `TimeLimitError` where it was ended.
    """
    future = executor.submit(call)
    if has_ended(future, seconds):
        if isinstance(future.exception(), WorkerDied):
            executor.restart()
        return future
    assert seconds is not None  # else it has ended
    executor.kill()
    executor.restart()
    late: Future[_T] = Future()
    late.set_exception(TimeLimitError.after(seconds))
    return late


def has_ended(future: Future[_T], seconds: float | None) -> bool:
    """Waits until a call has ended, at most so long; returns whether it has."""
    return bool(wait([future], seconds).done)


class SerialWorkers:
    """Does each call at once, in this process."""

    n_parallel = 1
    in_process = True

    def submit(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Does the call before it returns."""
        future: Future[_T] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asks for the result
            future.set_exception(error)
        return future

    def restart(self) -> None:
        """Nothing: this process is alive."""

    def kill(self) -> None:
        """Nothing: no call is under way."""

    def close(self) -> None:
        """Nothing: every call is done."""


class ProcessWorkers:
    """Does calls in other processes, which start with nothing of this one (spawn), as on all systems."""

    in_process = False

    def __init__(self, n_parallel: int | None) -> None:
        """Starts no process yet.

        Args:
            n_parallel: number of processes; None is 2, or half the cores that this process may use where that is more:
                the model needs the others. On Windows there are at most 61.

        Raises:
            OSError, ImportError: the system has no semaphores to give, see `new_workers`.
        """
        n_wanted = n_parallel or max(2, _n_cores() // 2)
        self.n_parallel = min(n_wanted, _MOST_PROCESSES_ON_WINDOWS) if sys.platform == "win32" else n_wanted
        self._executor = self._started()

    def submit(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Hands the call to the next free process."""
        return self._executor.submit(_carried, function, args, kwargs)

    def restart(self) -> None:
        """New processes in place of the old ones, of which one died and the others are ended."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._executor = self._started()
        # The start of a process is no part of the time that its next call may take.
        wait([self._executor.submit(_nothing) for _ in range(self.n_parallel)])

    def kill(self) -> None:
        """Ends the processes at once, whatever they are doing."""
        for process in tuple(self._context.started):
            process.kill()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _started(self) -> ProcessPoolExecutor:
        self._context = _Context()
        with held_signals():
            return ProcessPoolExecutor(self.n_parallel, mp_context=self._context, initializer=_set_up_worker)

    def close(self) -> None:
        """Waits for the calls in flight, drops those that have not started, and ends the processes."""
        self._executor.shutdown(wait=True, cancel_futures=True)


def new_workers(n_parallel: int | None) -> Executor:
    """Other processes, or this one where the system cannot share anything between processes.

    Args:
        n_parallel: number of processes, as for `ProcessWorkers`.
    """
    return ProcessWorkers(n_parallel) if _has_semaphores() else SerialWorkers()


@functools.cache
def _has_semaphores() -> bool:
    try:
        with held_signals():
            multiprocessing.get_context("spawn").Lock()
    except (OSError, ImportError) as error:
        log.warning(
            "No work in other processes: the system gives no semaphores (%s; Linux keeps them in /dev/shm). All is "
            "done in this one, which takes longer, and a picture that crashes its codec ends it.",
            error,
        )
        return False
    return True


class _Process(SpawnProcess):
    """A worker that signals to all processes of the run do not reach, from its very start."""

    def start(self) -> None:
        with held_signals():
            super().start()

    def terminate(self) -> None:
        self.kill()  # it ignores what would end it politely


class _Context(SpawnContext):
    """Starts workers, and keeps them, so that they can be killed.

    concurrent.futures has no public way to its processes before Python 3.14.
    """

    def __init__(self) -> None:
        super().__init__()
        self.started: list[_Process] = []

    def Process(self, *args: Any, **kwargs: Any) -> _Process:  # type: ignore[override]  # noqa: N802 - as its base
        process = _Process(*args, **kwargs)
        self.started.append(process)
        return process


@contextlib.contextmanager
def held_signals() -> Iterator[None]:
    """Processes that are started meanwhile get no `STOP_SIGNALS` until they ask for them.

    The first semaphore starts such a process, too: Python's own, which removes shared memory that nobody else did.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _carried(function: Callable[..., _T], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _T:
    """Calls a function in a worker.

    Raises:
        RuntimeError: in place of an error that cannot be pickled and made again; to the main process it would look as
            if the worker had died.
    """
    try:
        return function(*args, **kwargs)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
        except Exception:  # noqa: BLE001 - whatever stands in its way
            raise RuntimeError(f"{type(error).__name__}: {error}") from None
        raise


class _Collector(logging.Handler):
    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append(record.getMessage())


@contextlib.contextmanager
def collected_log() -> Iterator[list[str]]:
    """In a worker process, gathers the warnings that are logged meanwhile, so that a call can return them.

    They go into the log of the main process that way: no file or queue is shared, which a worker that dies could leave
    locked. In the main process nothing is gathered, as the log takes them itself.
    """
    messages: list[str] = []
    if multiprocessing.parent_process() is None:
        yield messages
        return
    logger = logging.getLogger("anonymise")
    collector = _Collector(messages)
    logger.addHandler(collector)
    try:
        yield messages
    finally:
        logger.removeHandler(collector)


def _n_cores() -> int:
    # A container may give fewer cores than the machine has.
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _keep_freed_memory() -> None:
    """Lets glibc use large blocks again instead of giving them back to the system.

    Faulting the pages of an image's coefficients in again for each image costs more than the work on them. Elsewhere
    the system's own rule stays.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        m_trim_threshold, m_mmap_max = -1, -4  # malloc.h
        mallopt(m_mmap_max, 0)
        mallopt(m_trim_threshold, 2**31 - 1)


def _nothing() -> None:
    pass


def _set_up_worker() -> None:
    if hasattr(os, "nice"):  # not on Windows
        os.nice(_NICENESS)
    _keep_freed_memory()
    logging.getLogger("anonymise").addHandler(logging.NullHandler())
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    # The processes are the parallelism.
    cv2.setNumThreads(1)
    # A worker whose main process was killed would wait for its next call for ever, or finish one that nobody counts.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # only workers come here
    connection.wait([parent.sentinel])
    os._exit(1)
