"""How long detection takes with one configuration and with another, image by image in turns.

    python -m benchmarks.paired [-k CONFIG.yml ...] [--set KEY=VALUE ...] --against KEY=VALUE ...

``--against`` are the keys in which the other configuration differs. Both see each image of the measuring sets
(ANONYMISE_SHARED) once to prepare for its size, then in turns; every sixth street frame and every third of COCO stand
for the others. Time is that of the CPU, all threads together, as other programs disturb it less than the clock.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from anonymise import config, images
from anonymise.detection.processor import ImageProcessor
from anonymise.models import load_masker
from benchmarks.accuracy import COMPLETE
from benchmarks.shared import SHARED

_EVERY = {"street": 6, "coco_val": 3}
_TURNS = 2


def main() -> None:
    """Prints milliseconds an image for each set, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", "--config", type=Path, action="append", metavar="CONFIG.yml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--against", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--only", nargs="+", default=COMPLETE, metavar="SET")
    parser.add_argument("--shared", type=Path, default=SHARED, help="the folder of the shared pictures")
    arguments = parser.parse_args()
    files = arguments.config or [Path("lite_config.yml")]
    processors = []
    for overrides in (arguments.set, [*arguments.set, *arguments.against]):
        settings = config.load(files, overrides)
        processors.append(ImageProcessor(load_masker(settings.model, progress=False), settings.detection))
    print("| set | images | ms | against | ratio |\n| --- | --- | --- | --- | --- |")
    ratios = []
    for name in arguments.only:
        inside = arguments.shared / ("images" if name == "street" else "data") / name / "images"
        pictures = sorted(inside.iterdir())[:: _EVERY.get(name, 1)] if inside.is_dir() else []
        if not pictures:
            continue
        spent = np.array([_times(processors, file) for file in pictures])
        ratios.append(spent[:, 0].sum() / spent[:, 1].sum())
        mine, other = spent.mean(axis=0) * 1000
        print(f"| {name} | {len(pictures)} | {mine:.0f} | {other:.0f} | {ratios[-1]:.2f} |", flush=True)
    if not ratios:
        raise SystemExit(f"Nothing is measured: {arguments.shared} has no measuring sets (--shared, ANONYMISE_SHARED).")
    print(f"\nmean of the sets' ratios: {np.mean(ratios):.2f}")


def _times(processors: list[ImageProcessor], file: Path) -> list[float]:
    """CPU seconds of each of the processors for an image."""
    pixels = images.decode(file.read_bytes(), max_pixels=10**9).pixels
    for processor in processors:
        processor.detect(pixels)
    spent = np.zeros((_TURNS, len(processors)))
    for turn in range(_TURNS):
        for number in range(len(processors))[:: 1 if turn % 2 else -1]:
            started = time.process_time()
            processors[number].detect(pixels)
            spent[turn, number] = time.process_time() - started
    found: list[float] = spent.min(axis=0).tolist()
    return found


if __name__ == "__main__":
    main()
