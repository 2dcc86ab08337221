"""Times the drawing of fifty objects on a panorama: ``python -m benchmarks.draw [--objects 50] [--width 8192]``.

The picture is noise, the objects are ellipses of 20 to 1500 pixels, many of them overlapping. Printed is the median of
the whole call, and without the copy of the image that every drawing needs.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np

from anonymise.core.detections import Box, Detections, Instance, RgbImage, Size
from anonymise.redaction import Appearance, draw

__all__ = ["crowded"]


def crowded(size: Size, count: int, seed: int = 0) -> Detections:
    """Detections with elliptic masks, log-uniform in size, mostly near the middle of the height."""
    rng = np.random.default_rng(seed)
    instances: list[Instance] = []
    for _ in range(count):
        longest = int(np.exp(rng.uniform(np.log(20), np.log(1500))))
        width, height = longest, max(8, int(longest * rng.uniform(0.4, 1)))
        left = int(rng.integers(0, max(1, size.width - width)))
        top = int(np.clip(size.height * rng.normal(0.5, 0.08), 0, max(0, size.height - height)))
        box = Box(left, top, min(left + width, size.width), min(top + height, size.height))
        mask = np.zeros((box.height, box.width), np.uint8)
        middle = box.width // 2, box.height // 2
        cv2.ellipse(mask, middle, middle, 0, 0, 360, 1, -1)
        instances.append(Instance(int(rng.choice([1, 2, 3, 4, 6, 8])), 0.9, box, mask.astype(bool)))
    return Detections(size, tuple(instances))


def _median_ms(call: Callable[..., object], *arguments: object, repeats: int = 7) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call(*arguments)
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description="Times the drawing of objects.")
    parser.add_argument("--objects", type=int, default=50)
    parser.add_argument("--width", type=int, default=8192, help="of the image; the height is half of it")
    options = parser.parse_args()
    size = Size(options.width, options.width // 2)
    image: RgbImage = np.random.default_rng(0).integers(0, 256, (size.height, size.width, 3), np.uint8)
    detections = crowded(size, options.objects)
    copy = _median_ms(image.copy)
    covered = detections.union().mean()
    print(
        f"{size.width}×{size.height}, {options.objects} objects on {covered:.0%} of the pixels; a copy: {copy:.0f} ms"
    )
    for kind in ("blur", "mosaic", "solid", "color", "inpaint"):
        for feather in (0, 0.05):
            appearance = Appearance.model_validate(
                {
                    "draw_mask": True,
                    "appearance": kind,
                    "mask_color": None,
                    "mask_colors": {},
                    "blur": 15,
                    "gray_blur": True,
                    "normalized_gray_blur": True,
                    "feather": feather,
                    "inpaint_radius": 16,
                }
            )
            total = _median_ms(draw, image, detections, appearance)
            name = f"{kind}, feather {feather}" if feather else kind
            print(f"  {name:22} {total:6.0f} ms, of which drawing {total - copy:6.0f} ms")


if __name__ == "__main__":
    main()
