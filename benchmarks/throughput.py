"""Throughput of the main job: images per second, peak memory of the process tree, time of each stage.

    python -m benchmarks.throughput [--images 20] [--size 2692x1032] [--config config/lite_config.yml] [--set KEY=VALUE]

Draws its own street images, so that anyone can repeat it. Each case is a run of ``python -m anonymise`` of its own, so
its time includes the start: importing, loading the model, starting the workers.
"""

import argparse
import ast
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import psutil

from anonymise.detections import Size
from samples.scene import draw_street

ROOT = Path(__file__).parents[1]

CASES: dict[str, list[str]] = {
    "full image only": ["use_cutouts=False"],
    "windows of the configuration": [],
    "windows, without workers": ["enable_async=False"],
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One run.

    Attributes:
        wall_s: whole process, start included.
        steady_s: from the first to the last image.
        peak_mib: resident memory of all processes of the run together, at its highest.
        stages: stage → seconds, summed over all images and workers.
    """

    wall_s: float
    steady_s: float
    peak_mib: float
    stages: dict[str, float]


def main() -> None:
    """Runs all cases and prints a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, default=20)
    arguments.add_argument("--size", default="2692x1032", help="WIDTHxHEIGHT")
    arguments.add_argument("--config", default="config/lite_config.yml")
    arguments.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = arguments.parse_args()
    width, height = map(int, args.size.split("x"))

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "in").mkdir()
        for seed in range(args.images):
            picture = draw_street(seed, Size(width, height), cars=4, people=4)
            cv2.imwrite(str(folder / "in" / f"{seed:04}.jpg"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        print(f"{args.images} images of {width}x{height}, {args.config}, {os.cpu_count()} CPU cores")
        print(f"{'':32}{'images/s':>10}{'of these':>12}{'peak MiB':>10}   seconds per image by stage")
        for name, overrides in CASES.items():
            measured = measure(folder, args.config, [*overrides, *args.set], name.replace(" ", "_"))
            stages = ", ".join(f"{stage} {s / args.images:.3f}" for stage, s in measured.stages.items())
            print(
                f"{name:32}{args.images / measured.wall_s:>10.2f}{args.images / measured.steady_s:>12.2f}"
                f"{measured.peak_mib:>10.0f}   {stages}"
            )
        print("images/s: of the whole process; of these: without the start, as the program's summary counts it")


def measure(folder: Path, config: str, overrides: list[str], name: str) -> Measured:
    """One run over ``folder / in``, into a new output folder."""
    command = [sys.executable, "-m", "anonymise", "-i", str(folder / "in"), "-o", str(folder / name), "-k", config]
    command += ["-l", str(folder / f"{name}_log"), *(part for key in overrides for part in ("--set", key))]
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    peak = _Peak(process.pid)
    output, _ = process.communicate()
    wall_s = time.perf_counter() - started
    peak_mib = peak.stop()
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} failed with exit code {process.returncode}:\n{output}")
    (log,) = (folder / f"{name}_log").iterdir()
    lines = {line.partition("anonymise.cli: ")[2] for line in log.read_text("utf-8").splitlines()}
    (stages,) = (line.partition(": ")[2] for line in lines if line.startswith("Stage times"))
    (rate,) = (line for line in output.splitlines() if line.startswith("Time:"))
    per_second = float(rate.split(", ")[1].split()[0])
    n_images = len(list((folder / "in").iterdir()))
    return Measured(wall_s, n_images / per_second, peak_mib, ast.literal_eval(stages))


class _Peak:
    """Watches the resident memory of a process and all its children; memory that they share counts for each."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._highest = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stopped.wait(0.05):
            try:
                tree = [self._process, *self._process.children(recursive=True)]
                self._highest = max(self._highest, sum(p.memory_info().rss for p in tree))
            except psutil.NoSuchProcess:
                continue

    def stop(self) -> float:
        """Ends the watch; the highest sum in MiB."""
        self._stopped.set()
        self._thread.join()
        return self._highest / 2**20


if __name__ == "__main__":
    main()
