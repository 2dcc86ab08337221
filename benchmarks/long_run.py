"""Memory over a long run, and what the journal costs.

    python -m benchmarks.long_run [--images 5000]

Draws that many small images and runs the main job over them with a masker that costs nothing, so that everything else
is what is measured. Prints the resident memory of the process tree along the way, its slope, and the journal's share.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil

from anonymise import config
from anonymise.batch import runs as pipeline
from anonymise.batch.journal import Journal
from anonymise.batch.outcomes import Outcome, Progress
from anonymise.batch.paths import Places
from anonymise.batch.storage import prepare_root
from anonymise.batch.workers import ProcessWorkers
from anonymise.core.detections import Box, Instance, RgbImage, full_mask

_EVERY = 250


class _MiddleMasker:
    """Finds a car in the middle of every image."""

    identity = "middle"

    def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
        return ((self._middle(image),) for image in images)

    @staticmethod
    def _middle(image: RgbImage) -> tuple[Instance, ...]:
        height, width = image.shape[:2]
        box = Box(width // 4, height // 4, width * 3 // 4, height * 3 // 4)
        return (Instance(3, 0.9, box, full_mask(box)),)


class _Watch(Progress):
    """Takes the memory of the process tree every so many images."""

    def __init__(self) -> None:
        self.samples: list[tuple[int, float]] = []
        self._n_images = 0

    def finished(self, outcome: Outcome) -> None:  # noqa: ARG002
        self._n_images += 1
        if self._n_images % _EVERY == 0:
            main = psutil.Process()
            tree = [main, *main.children(recursive=True)]
            self.samples.append((self._n_images, sum(p.memory_info().rss for p in tree) / 2**20))


def main() -> None:
    """Runs and prints."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, default=5000)
    n_images = arguments.parse_args().images
    journal_s = _time_spent_in_journal()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "in").mkdir()
        prepare_root(folder / "out")
        for seed in range(n_images):
            noise = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), np.uint8)
            cv2.imwrite(str(folder / "in" / f"{seed:05}.jpg"), cv2.resize(noise, (320, 240)))
        watch = _Watch()
        workers = ProcessWorkers(2)
        report = pipeline.anonymise(
            config.load(), Places(folder / "in", folder / "out"), _MiddleMasker(), workers, watch
        )
        workers.close()
    for images, mebibytes in watch.samples:
        print(f"{images:6} images {mebibytes:8.1f} MiB")
    # The first samples are of a program that is still warming up.
    settled = np.array(watch.samples[len(watch.samples) // 4 :])
    slope = np.polyfit(settled[:, 0], settled[:, 1], 1)[0]
    print(f"slope {slope * 1000 * 1024:.0f} KiB per 1000 images, {report.n_done} done, {len(report.failed)} failed")
    print(f"{report.n_done / report.seconds:.0f} images/s; journal {journal_s[0]:.2f} s of {report.seconds:.1f} s "
          f"({journal_s[0] / report.seconds:.1%})")  # fmt: skip


def _time_spent_in_journal() -> list[float]:
    """Sums the time of the journal's calls, in a list with one number, from now on."""
    spent = [0.0]

    def timed(name: str) -> None:
        original = getattr(Journal, name)

        def call(self: Journal, *args: object, **values: object) -> object:
            started = time.perf_counter()
            try:
                return original(self, *args, **values)
            finally:
                spent[0] += time.perf_counter() - started

        setattr(Journal, name, call)

    for name in ("started", "done", "failed", "finished", "finished_otherwise"):
        timed(name)
    return spent


if __name__ == "__main__":
    main()
