"""What a run on a cluster costs its leader: ``python -m benchmarks.cluster [--images N] [--dask N] [--folder FOLDER]``.

The walk, the journal, the leader and the runner are real; the work is none. First a run over empty files whose workers
answer at once, in this process, and the same run again, which finds everything finished; then fewer images through a
real Dask scheduler, whose workers answer at once; then through one, and through four worker processes that wait a tenth
of a second for each image, as for a GPU that is not there: what the leader lets four of them do at most.
"""

import argparse
import contextlib
import logging
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from anonymise import load_config
from anonymise.batch import runs, storage
from anonymise.batch.outcomes import Done, Report
from anonymise.batch.paths import Places
from anonymise.batch.storage import prepare
from anonymise.cluster import worker
from anonymise.cluster.leader import Leader
from anonymise.cluster.publishing import Publisher
from anonymise.cluster.worker import Answer, Item, Joined, Setup
from anonymise.config import Config
from anonymise.core.sources import Source
from anonymise.models import Masker

__all__ = ["main"]

_FOLDER_SIZE = 1000


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000, help="in this process (default: 1000000)")
    parser.add_argument("--dask", type=int, default=20_000, help="through a scheduler (default: 20000)")
    parser.add_argument("--workers", type=int, default=64, help="workers that answer at once (default: 64)")
    parser.add_argument("--folder", type=Path, help="where the empty files and the journal are written")
    parser.add_argument("--waiting", type=int, default=300, help="for each process that waits (default: 300)")
    arguments = parser.parse_args()
    logging.getLogger("anonymise").setLevel(logging.ERROR)
    for n, through in ((arguments.images, _without_dask), (arguments.dask, _through_dask)):
        if n:
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                places = _images(Path(folder), n)
                print(f"\n{n} images, {_HOW[through]}", flush=True)
                _measure("the run", places, n, through, arguments.workers)
                if through is _without_dask:
                    _measure("again, all finished", places, 0, through, arguments.workers)
    if arguments.waiting:
        one, four = (_pace_of_waiting(n, n * arguments.waiting, arguments.folder) for n in (1, 4))
        print(f"\nfour processes that wait: {four / one:.2f} times the pace of one ({four:.1f} and {one:.1f} images/s)")


def _pace_of_waiting(n_workers: int, n_images: int, parent: Path | None) -> float:
    with tempfile.TemporaryDirectory(dir=parent) as folder, _dask(n_workers, 1) as (client, _):
        report, seconds = _run(_images(Path(folder), n_images), client, answer_after_a_wait)
        assert report.n_done == n_images, report
        return n_images / seconds


def _images(folder: Path, n: int) -> Places:
    for first in range(0, n, _FOLDER_SIZE):
        below = folder / "in" / f"FV{first // _FOLDER_SIZE:05}"
        below.mkdir(parents=True)
        for number in range(first, min(n, first + _FOLDER_SIZE)):
            (below / f"FV{first // _FOLDER_SIZE:05}_S1D1_m{number:07}_f1.jpg").touch()
    places = Places(folder / "in", folder / "out")
    prepare(places, load_config().files)
    return places


def _measure(what: str, places: Places, n_done: int, through: "Callable[[int], Any]", n_workers: int) -> None:
    process = psutil.Process()
    before, cpu = process.memory_info().rss, time.process_time()
    with through(n_workers) as (client, scheduler):
        report, seconds = _run(places, client)
        memory = 0 if scheduler is None else scheduler.memory_info().rss
        scheduler_cpu = 0.0 if scheduler is None else scheduler.cpu_times().user + scheduler.cpu_times().system
    assert report.n_done == n_done, report
    n = report.n_done + report.n_skipped
    cpu = time.process_time() - cpu
    print(
        f"{what:20} {seconds:7.1f} s {n / seconds:8.0f} images/s, CPU of the leader {1000 * cpu / n:6.2f} ms an image, "
        f"memory {process.memory_info().rss / 1e6:5.0f} MB ({before / 1e6:.0f} before, highest "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f})"
    )
    if scheduler is not None:
        print(f"{'scheduler':20} {memory / 1e6:5.0f} MB, CPU {1000 * scheduler_cpu / n:.2f} ms an image")


def _run(places: Places, client: Any, answer: Callable[[str, Item], Answer] | None = None) -> tuple[Report, float]:
    config = load_config(keys={"lazy_paths": False})
    publisher = Publisher(config, places)
    setup = Setup(publisher.run, config, False, {}, {}, "", "", _no_model)
    with (
        mock.patch.object(Publisher, "sees", lambda *_: True),
        # The files of finished images are not there; as many calls to the system are made.
        mock.patch.object(storage, "is_written", lambda _: Path(__file__).stat().st_size > 0),
        mock.patch.object(worker, "anonymise", answer or answer_at_once),
        mock.patch.object(worker, "join", join_at_once),
    ):
        leader = Leader(client, setup, publisher, seconds=600.0, wait_seconds=60, wants_to_stop=lambda: False)
        try:
            assert leader.wait_for_worker() is None
            started = time.perf_counter()
            report = runs.distribute(config, places, _Model(), "model:0123456789abcdef", leader)
            return report, time.perf_counter() - started
        finally:
            leader.close()
            publisher.close()


def _no_model(_: Config) -> Masker:
    raise AssertionError


class _Model:
    def of(self, name: str) -> Source:  # noqa: ARG002
        return Source("model:0123456789abcdef", lambda _: _no_model(None))  # type: ignore[arg-type, return-value]


def answer_at_once(_: str, item: Item) -> Answer:
    """What a worker says that has nothing to do."""
    seconds = dict.fromkeys(("read", "decode", "model", "record", "draw", "encode", "write"), 0.01)
    done = Done(Path(item.relative), {"car": 3, "person": 2}, (), seconds, None, {"input": 64 * "0"})
    return Answer("host", 0.1, done)


def answer_after_a_wait(run: str, item: Item) -> Answer:
    """What a worker says that has waited for a model elsewhere."""
    time.sleep(0.1)
    return answer_at_once(run, item)


def join_at_once(_: bytes) -> Joined:
    """A worker without a model."""
    return Joined("host")


class _Future:
    status = "finished"

    def __init__(self, value: object) -> None:
        self._value = value

    def result(self, timeout: float) -> object:  # noqa: ARG002
        return self._value

    def add_done_callback(self, callback: Callable[[object], object]) -> None:
        callback(self)


class _Client:
    """Stands in for a cluster whose workers answer before they are asked."""

    status = "running"

    def __init__(self, n_workers: int) -> None:
        self._addresses = [f"tcp://10.0.{n // 250}.{n % 250}:1" for n in range(n_workers)]

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:  # noqa: ARG002
        return {"workers": {a: {"nthreads": 1, "last_seen": time.time()} for a in self._addresses}}

    def submit(self, function: Callable[..., object], *arguments: object, **_: object) -> _Future:
        return _Future(function(*arguments))


@contextlib.contextmanager
def _without_dask(n_workers: int) -> Iterator[tuple[Any, None]]:
    yield _Client(n_workers), None


def _through_dask(_: int) -> "contextlib.AbstractContextManager[tuple[Any, psutil.Process]]":
    return _dask(2, 16)


@contextlib.contextmanager
def _dask(n_workers: int, n_threads: int) -> Iterator[tuple[Any, psutil.Process]]:
    import distributed
    from distributed.deploy.subprocess import SubprocessCluster

    # The scheduler in a process of its own, as a cluster has it.
    cluster = SubprocessCluster(
        host="127.0.0.1",
        scheduler_kwargs={"dashboard": False},
        n_workers=n_workers,
        threads_per_worker=n_threads,
        worker_kwargs={"dashboard": False},
        silence_logs=logging.CRITICAL,
    )
    with cluster, distributed.Client(cluster) as client:  # type: ignore[no-untyped-call]
        scheduler = next(
            child for child in psutil.Process().children(recursive=True) if "scheduler" in " ".join(child.cmdline())
        )
        yield client, scheduler


_HOW: Mapping[Any, str] = {
    _without_dask: "by workers that answer at once",
    _through_dask: "through a scheduler in a process of its own, two worker processes with 16 threads",
}


if __name__ == "__main__":
    main()
