"""What a store of corrections costs: a run without one, with an empty one, and with 100,000 rows; and the store itself.

python -m benchmarks.corrections [--images 100] [--rows 100000]

The runs are over drawn pictures, in one process, with a model that takes no time, so that the share of the store is the
largest it can be. They take turns, and seconds are those of the processor, because machines are busy with other things.
The check of the store before a run is a line of its own. The last lines are runs over images that are all finished.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from anonymise import config
from anonymise.batch import runs
from anonymise.batch.paths import Places
from anonymise.batch.workers import SerialWorkers
from anonymise.config import Config
from anonymise.core.detections import Size
from anonymise.corrections.store import Correction, Store
from anonymise.testing import FakeModel
from samples.__main__ import write_samples

_ROUNDS = 3


def main() -> None:
    """Prints seconds and ratios."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, default=100)
    arguments.add_argument("--rows", type=int, default=100_000)
    args = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _fill(folder / "full", args.rows)
        Store(folder / "empty", create=True).close()
        list(write_samples(folder / "in", count=args.images, size=Size(1280, 720)))
        _runs(folder)


def _fill(folder: Path, n_rows: int) -> None:
    rows = [
        Correction(
            relative=f"elsewhere/{n % (n_rows // 5)}.jpg",
            width=1920,
            height=1080,
            kind="add",
            category="face",
            shape=json.dumps({"box": [n % 1800, n // 1800 % 1000, 50, 60]}),
            source="external",
            batch=f"batch {n % 10}",
            author="benchmark",
        )
        for n in range(n_rows)
    ]
    with Store(folder, create=True) as store:
        _timed(f"{n_rows} rows added", lambda: store.add(rows, "benchmark"))
        print(f"{'memory of the process':40} {psutil.Process().memory_info().rss / 1e6:9.0f} MB")
        _timed("counts and waiting images", lambda: (store.counts(), store.waiting()))
        _timed("digests of all images (--corrected)", store.digests)
        _timed("check before a run", store.check)
        _timed("asked about 10,000 other images", lambda: [store.of_image(f"{n}.jpg") for n in range(10_000)])
        _timed("verify", store.fault)
        _timed("export", lambda: sum(map(len, store.exported())))


def _timed(what: str, work: Callable[[], object]) -> None:
    started = time.perf_counter()
    work()
    print(f"{what:40} {time.perf_counter() - started:9.3f} s")


def _runs(folder: Path) -> None:
    stores = {"no store": None, "an empty store": folder / "empty", "the full store": folder / "full"}
    for force, n_rounds in ((True, _ROUNDS), (False, 4 * _ROUNDS)):
        settings = {name: _settings(store, force=force) for name, store in stores.items()}
        seconds: dict[str, list[float]] = {name: [] for name in stores}
        for _ in range(n_rounds):
            for name, loaded in settings.items():
                started = time.process_time()
                report = runs.anonymise(loaded, Places(folder / "in", folder / "out"), FakeModel(), SerialWorkers())
                seconds[name].append(time.process_time() - started)
                assert not report.failed
                assert bool(report.n_skipped) is not force
        base = statistics.median(seconds["no store"])
        for name, measured in seconds.items():
            least, middle = min(measured), statistics.median(measured)
            what = f"{'all done' if force else 'all finished'}, {name}"
            ratio = least / min(seconds["no store"])
            print(f"{what:40} {middle:9.3f} s   {middle / base:6.3f}   least {least:.3f} s   {ratio:6.3f}")


def _settings(store: Path | None, *, force: bool) -> Config:
    keys = [f"force_remask={force}", "enable_async=False"]
    keys += [] if store is None else [f"corrections={json.dumps(str(store))}"]
    return config.load(overrides=keys)


if __name__ == "__main__":
    main()
