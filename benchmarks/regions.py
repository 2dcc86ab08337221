"""What an import of regions costs: ``python -m benchmarks.regions [--rows 100000] [--pictures 20000]``.

The pictures are small and drawn; each command is a process of its own, and its memory the most that it had.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anonymise.images import encode_jpeg

__all__ = ["main"]

_COLUMNS = [f"{corner}_{axis}" for corner in ("left_top", "right_top", "left_bottom", "right_bottom") for axis in "xy"]
_MEASURED = """import resource, sys
from anonymise.commands.regions import main
code = main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
print(round(used.ru_utime + used.ru_stime, 1), used.ru_maxrss // 1024, file=sys.stderr)
sys.exit(code)"""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regions", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="number of regions (%(default)s)")
    parser.add_argument("--pictures", type=int, default=20_000, help="number of pictures (%(default)s)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        table = _written(root, arguments.rows, arguments.pictures)
        settings = ["--set", f"corrections={json.dumps(str(root / 'store'))}"]
        batch = ["--batch", "benchmark", *settings]
        print(f"{arguments.rows} regions of {arguments.pictures} pictures; seconds, of the processor too, MB\n")
        for action in (
            ["import", str(table), "-i", str(root / "in"), *batch, "--dry-run"],
            ["import", str(table), "-i", str(root / "in"), *batch],
            ["import", str(table), "-i", str(root / "in"), *batch],
            ["status", *batch],
            ["undo", *batch],
        ):
            _measure(action)


def _written(root: Path, n_rows: int, n_pictures: int) -> Path:
    """Pictures below ``in``, and the table of their regions, which is given back."""
    data = encode_jpeg(np.full((40, 80, 3), 128, np.uint8), quality=90)
    for n in range(n_pictures):
        file = root / "in" / f"{2016 + n % 5}" / f"M{n // 1000}" / f"pano_{n:06d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    table = root / "regions.csv"
    with table.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["region_type", *_COLUMNS, "detected_by", "pano_id"])
        for n in range(n_rows):
            picture = n % n_pictures
            # No two of a picture may be the same after scaling, as doubled rows are not put in.
            left, top = (37 * picture + 1600 * (n // n_pictures)) % 8000, 1500 + 11 * n % 1000
            corners = [left, top, left + 60, top, left, top + 20, left + 60, top + 20]
            writer.writerow(["NG"[n % 2], *corners, "benchmark", f"M{picture // 1000}_pano_{picture:06d}"])
    return table


def _measure(action: list[str]) -> None:
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", _MEASURED, *action], capture_output=True, text=True)
    seconds = time.perf_counter() - started
    name = action[0] + (" --dry-run" if "--dry-run" in action else "")
    if done.returncode:
        sys.exit(done.stderr)
    cpu, memory = done.stderr.split()[-2:]
    told = [line for line in done.stdout.splitlines() if line.startswith("imported") or action[0] in ("status", "undo")]
    print(f"{name:20}{seconds:8.1f}{cpu:>8}{memory:>8}   {' '.join(' '.join(told).split())}")


if __name__ == "__main__":
    main()
