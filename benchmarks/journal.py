"""What the journal costs per image: ``python -m benchmarks.journal [--images N] [--folder FOLDER]``.

Every image is started and done, as in a run; then the journal is opened again, as by the next run, and asked for each.
"""

import argparse
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

from anonymise.batch.journal import Identity, Journal, JournalReader, Written, journal_file

__all__ = ["main"]

_FILES = (
    Written("remote", "image"),
    Written("remote", "json"),
    Written("remote", "preview"),
    Written("archive", "image", "/mnt/archive/originals"),
)
_OBJECTS = {"person": 3, "car": 7, "truck": 1}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.journal", description=__doc__)
    parser.add_argument("--images", type=int, default=500_000, help="number of images (default: 500000)")
    parser.add_argument("--folder", type=Path, help="where the journal is written, such as a share")
    arguments = parser.parse_args(argv)
    names = [f"2026/FV00013/S1D1/F1_2026_06_02/FV00013_S1D1_m{n:06d}_f1" for n in range(arguments.images)]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        output = Path(folder)
        print(f"{len(names)} images; microseconds per image\n")
        _show("started and done, 500 changes a batch", len(names), _write(output, names))
        size = journal_file(output).stat().st_size
        started = time.perf_counter()
        journal = Journal(output, "digest")
        _show("opened by the next run", len(names), time.perf_counter() - started)
        started = time.perf_counter()
        found = sum(
            journal.finished(name + ".jpg", Identity(n, n), "model:0123456789abcdef") for n, name in enumerate(names)
        )
        _show("asked whether it is finished", len(names), time.perf_counter() - started)
        assert found == len(names)
        started = time.perf_counter()
        with JournalReader(output) as reader:
            for name in names[:20_000]:
                reader.entry(name + ".jpg")
        _show("looked up by check_folders", len(names[:20_000]), time.perf_counter() - started)
        tracemalloc.start()
        with Journal(output, "digest"):
            memory, _ = tracemalloc.get_traced_memory()
        print(f"\n{size / len(names):.0f} bytes of disk and {memory / len(names):.0f} bytes of memory per image")


def _write(output: Path, names: Sequence[str]) -> float:
    """Seconds for the run over all images."""
    started = time.perf_counter()
    with Journal(output, "digest") as journal:
        for n, name in enumerate(names):
            journal.started(name + ".jpg", Identity(n, n))
            journal.done(name + ".jpg", _FILES, _OBJECTS, source="model:0123456789abcdef", content=f"{n:064x}")
    return time.perf_counter() - started


def _show(what: str, n: int, seconds: float) -> None:
    print(f"{what:40} {1e6 * seconds / n:8.1f} µs {n / seconds:12,.0f} images/s")


if __name__ == "__main__":
    main()
