"""How long each detector takes for a picture, from the pixels to the instances.

    python -m benchmarks.models [NAME ...] [--size 480x360] [--set KEY=VALUE]

Draws its own street images. The best of several rounds counts: what else runs on the computer only ever adds to it.
"""

import argparse
import time

from anonymise import config
from anonymise.core.classes import LABELS
from anonymise.core.detections import Size
from anonymise.core.resources import CATALOG
from anonymise.models import load_masker
from anonymise.models.catalog import load_catalog
from samples.scene import draw_street

_PICTURES = 40
_ROUNDS = 10


def main() -> None:
    """Prints milliseconds a picture for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["Lite", "Nano", "CenterFace"], metavar="NAME")
    parser.add_argument("--size", default="480x360", help="WIDTHxHEIGHT")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    pictures = [draw_street(seed, Size(width, height), cars=3, people=3) for seed in range(_PICTURES)]
    catalog = load_catalog(CATALOG)
    for name in arguments.names:
        classes = [LABELS[label] for label in sorted(catalog[name].labels)]
        settings = [f"model_type={name}", f"mask_classes=[{', '.join(classes)}]", *arguments.set]
        masker = load_masker(config.load(overrides=settings).model, progress=False)
        best = float("inf")
        for _ in range(_ROUNDS):
            started = time.perf_counter()
            for _found in masker.detect(pictures):
                pass
            best = min(best, time.perf_counter() - started)
        print(f"{name:12}{best / _PICTURES * 1000:8.1f} ms a picture of {width}x{height}")


if __name__ == "__main__":
    main()
