"""Runs calls on an executor: tasks in, results out. Knows nothing of what the calls do.

Tasks are taken in their order, and only as many at a time as the executor has work for, so memory stays flat however
many there are. Results come as they are ready. An error is a value (`Failure`); only a `StopError` ends the run.
"""

import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from anonymise.batch.workers import Executor, WorkerDied, alone
from anonymise.core.errors import StopError, TimeLimitError

__all__ = ["Ending", "Failure", "Limits", "Observer", "Result", "Success", "Task", "attempt", "prefetch", "run"]

_Item = TypeVar("_Item")
_Value = TypeVar("_Value")
_ValueOut = TypeVar("_ValueOut", covariant=True)
_S = TypeVar("_S")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Task(Generic[_Item, _Value]):
    """A call that is ready for an executor.

    Attributes:
        item: what the call is about. It comes back with the result and stays in this process.
        call: the call; with the executor's rules for what can be sent.
        retry: the call of later attempts; None makes the same call again.
        release: called when the first attempt has ended, with its future, or with None if it was never submitted.
    """

    item: _Item
    call: Callable[[], _Value]
    retry: Callable[[], _Value] | None = None
    release: Callable[[Future[_Value] | None], None] | None = None


@dataclass(frozen=True, slots=True)
class Success(Generic[_Item, _ValueOut]):
    """The result of a call that returned.

    Attributes:
        item: item of the task.
        value: what the call returned.
    """

    item: _Item
    value: _ValueOut


@dataclass(frozen=True, slots=True)
class Failure(Generic[_Item]):
    """The result of a call that failed at its last attempt.

    Attributes:
        item: item of the task.
        error: error of the last attempt: what the call raised, `WorkerDied` where its worker died, or
            `TimeLimitError` where it was ended.
    """

    item: _Item
    error: Exception


Result = Success[_Item, _Value] | Failure[_Item]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a run.

    Attributes:
        seconds: time that an executor in other processes may take for one call; None sets no limit.
        attempts: number of times that a call which raises an error is made.
        in_flight: calls that are submitted at a time, for each call that the executor makes in parallel. With two, no
            worker is idle while the next task is prepared.
    """

    seconds: float | None = None
    attempts: int = 2
    in_flight: int = 2


class Observer(Protocol[_Item, _Value]):
    """Observer of a run. All its methods are called from the thread that runs."""

    def completed(self, result: Result[_Item, _Value]) -> Iterable[Task[_Item, _Value]]:
        """Called for each result; gives the tasks that follow from it.

        Raises:
            StopError: the run ends once everything that is under way has its result.
        """
        ...

    def close(self) -> Iterable[Task[_Item, _Value]]:
        """Called when all tasks have their results; gives the last tasks.

        Raises:
            StopError: as for `completed`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended.

    Attributes:
        stopped: the first error that stopped it; None if nothing did.
        interrupted: whether a KeyboardInterrupt ended it at once, with tasks given up.
        has_killed: whether workers died or were killed, which may have left unfinished files.
    """

    stopped: StopError | None
    interrupted: bool
    has_killed: bool


def run(
    tasks: Generator[Task[_Item, _Value] | Result[_Item, _Value]],
    executor: Executor,
    observer: Observer[_Item, _Value],
    limits: Limits = Limits(),
) -> Ending:
    """Runs all tasks. What is under way when the run ends early is finished all the same.

    Args:
        tasks: the tasks, and the results of what needs no call. It is closed where the run ends early.
        executor: makes the calls.
        observer: is given every result.
        limits: limits of the run.
    """
    in_flight = _InFlight[_Item, _Value](executor, limits)
    stopped: StopError | None = None

    def settle(results: Iterable[Result[_Item, _Value]]) -> None:
        for result in results:
            if isinstance(result, Failure) and isinstance(result.error, StopError):
                raise result.error
            follow_up(observer.completed(result))

    def follow_up(more: Iterable[Task[_Item, _Value]]) -> None:
        for task in more:
            settle(in_flight.submit(task))

    def take() -> None:
        # Closed at once also where the run stops, so that nothing more is prepared.
        with closing(tasks):
            for task in tasks:
                settle(in_flight.submit(task) if isinstance(task, Task) else [task])

    def drain() -> None:
        settle(in_flight.drain())

    steps = deque([take, drain, lambda: follow_up(observer.close()), drain])
    while steps:
        step = steps.popleft()
        try:
            step()
        except StopError as error:
            stopped = stopped or error
            if step is drain:  # those that are left may fare better
                steps.appendleft(drain)
        except KeyboardInterrupt:  # at once
            in_flight.abandon()
            return Ending(stopped, interrupted=True, has_killed=True)
    return Ending(stopped, interrupted=False, has_killed=in_flight.has_killed)


def attempt(
    item: _Item, function: Callable[[], _T], attempts: int = Limits().attempts
) -> Success[_Item, _T] | Failure[_Item]:
    """The result of a function that is called here and now, at most so many times.

    Raises:
        StopError: raised by the function.
    """
    try:
        return Success(item, function())
    except StopError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it concerns one item
        if attempts > 1 and not isinstance(error, TimeLimitError):
            return attempt(item, function, attempts - 1)
        return Failure(item, error)


def prefetch(function: Callable[[_S], _T], items: Iterable[_S], depth: int) -> Generator[_T]:
    """``map(function, items)`` whose next ``depth`` results are made in a thread while the caller works."""
    if depth == 0:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as executor:
        waiting: deque[Future[_T]] = deque()
        for item in items:
            waiting.append(executor.submit(function, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class _InFlight(Generic[_Item, _Value]):
    """Tasks that an executor works on.

    Attributes:
        has_killed: whether workers died or were killed.
    """

    def __init__(self, executor: Executor, limits: Limits) -> None:
        self._executor = executor
        self._limits = limits
        self._pending: dict[Future[_Value], tuple[Task[_Item, _Value], int]] = {}
        self._began: dict[Future[_Value], float] = {}
        self._suspects: deque[Task[_Item, _Value]] = deque()
        self._late: deque[Task[_Item, _Value]] = deque()
        self.has_killed = False

    def submit(self, task: Task[_Item, _Value]) -> Iterator[Result[_Item, _Value]]:
        """Submits a task as soon as there is room; yields the results that came in meanwhile."""
        while self._late or self._suspects or len(self._pending) >= self._max_pending():
            yield from self._next_result()
        self._start(task, n=1)

    def _max_pending(self) -> int:
        return self._limits.in_flight * self._executor.n_parallel  # which may change where machines come and go

    def drain(self) -> Iterator[Result[_Item, _Value]]:
        """Yields the results of all tasks that are still under way."""
        while self._late or self._suspects or self._pending:
            yield from self._next_result()

    def abandon(self) -> None:
        """Ends the workers, and gives up all tasks that are still under way."""
        self.has_killed = True
        for tasks in (self._pending, self._suspects, self._late):
            tasks.clear()
        self._executor.kill()

    def _start(self, task: Task[_Item, _Value], n: int) -> None:
        """Makes the attempt ``n`` of a task."""
        call = task.retry if task.retry is not None and n > 1 else task.call
        try:
            future = self._executor.submit(call)
        except WorkerDied:
            if task.release is not None and n == 1:
                task.release(None)
            self._suspect(task)
            return
        self._pending[future] = task, n
        if task.release is not None and n == 1:
            future.add_done_callback(task.release)

    def _next_result(self) -> Iterator[Result[_Item, _Value]]:
        """Waits for a result and yields it; or yields nothing, and does what is due before that."""
        seconds = self._limits.seconds
        if self._late:
            assert seconds is not None  # else nothing is late
            yield Failure(self._late.popleft().item, TimeLimitError.after(seconds))
            return
        if self._suspects:
            task = self._suspects.popleft()
            yield _result(task, alone(self._executor, task.retry or task.call, seconds))
            return
        # Workers take the tasks in their order, so the first ones are those that are worked on.
        now = time.monotonic()
        busy = itertools.islice(self._pending, self._executor.n_parallel)
        self._began = {future: self._began.get(future, now) for future in busy}
        patience = None if seconds is None else max(0.0, min(self._began.values()) + seconds - now)
        done = wait(self._pending, timeout=patience, return_when=FIRST_COMPLETED).done
        if not done:
            assert seconds is not None  # else nothing is late
            self._end_the_late(seconds)
            return
        future = next(iter(done))
        task, n = self._pending.pop(future)
        match future.exception():
            case WorkerDied():
                self._suspect(task)
            case Exception() as error if n < self._limits.attempts and not isinstance(error, StopError):
                self._start(task, n + 1)
            case _:
                yield _result(task, future)

    def _end_the_late(self, seconds: float) -> None:
        """Ends the workers, of which one takes too long for its task; the other tasks are started again."""
        now = time.monotonic()
        late = {future for future, began in self._began.items() if now >= began + seconds}
        if not late:  # clocks are not that exact
            return
        pending = dict(self._pending)
        self._pending.clear()
        self.has_killed = True
        self._executor.kill()
        self._executor.restart()
        for future, (task, _) in pending.items():
            if future in late:
                self._late.append(task)
            else:
                self._start(task, n=self._limits.attempts)

    def _suspect(self, task: Task[_Item, _Value]) -> None:
        """After a worker died: each task that was under way is to be run again, alone, to see which one it was."""
        # One worker that dies takes the others with it, whatever they are writing.
        self._suspects.extend([task, *(pending for pending, _ in self._pending.values())])
        self._pending.clear()
        self.has_killed = True
        self._executor.restart()


def _result(task: Task[_Item, _Value], future: Future[_Value]) -> Result[_Item, _Value]:
    error = future.exception()
    if error is None:
        return Success(task.item, future.result())
    if not isinstance(error, Exception):
        raise error
    return Failure(task.item, error)
