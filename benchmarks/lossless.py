"""Time of the lossless rewriting of a JPEG, next to that of decoding and encoding it again.

    python -m benchmarks.lossless [--repeat N]

Masks are ellipses over about 5 % of the picture, filled with a blur. The bound is 4 times.
"""

import argparse
import time
from collections.abc import Callable

import cv2
import numpy as np

from anonymise import images
from anonymise.core.detections import Mask, RgbImage

SIZES = ((2692, 1032), (8192, 4096))
QUALITY = 90
BOUND = 4.0


def main() -> int:
    """Prints one line for each size and coding; returns 1 where the bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeat", type=int, default=5, help="the fastest of so many runs counts")
    repeat = parser.parse_args().repeat
    options = images.ImageOptions(
        jpeg_quality="lossless",
        output_metadata="redacted",
        max_decoded_pixels=1 << 28,
        thumbnail=False,
        projection="auto",
    )
    print(f"{'size':>11} {'coding':>11} {'masked':>7} {'decode+encode':>14} {'lossless':>9} {'ratio':>6} {'file':>6}")
    worst = 0.0
    for width, height in SIZES:
        scene = _scene(width, height)
        for coding, flags in (
            ("baseline", []),
            ("optimised", [cv2.IMWRITE_JPEG_OPTIMIZE, 1]),
            ("progressive", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        ):
            parameters = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, *flags]
            data = cv2.imencode(".jpg", cv2.cvtColor(scene, cv2.COLOR_RGB2BGR), parameters)[1].tobytes()
            pixels = images.decode(data, max_pixels=1 << 28).pixels
            changed = _masks(width, height)
            image = np.where(changed[..., None], cv2.blur(pixels, (61, 61)), pixels)

            def again(data: bytes = data, parameters: list[int] = parameters) -> None:
                cv2.imencode(".jpg", cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), parameters)

            def lossless(data: bytes = data, image: RgbImage = image, changed: Mask = changed) -> bytes:
                return images.rewrite(data, image, changed, options).data

            plain_s, lossless_s = _fastest(again, repeat), _fastest(lossless, repeat)
            growth = len(lossless()) / len(data) - 1
            worst = max(worst, lossless_s / plain_s)
            print(
                f"{width:>6}×{height:<4} {coding:>11} {changed.mean():>7.1%} {plain_s * 1000:>11.1f} ms "
                f"{lossless_s * 1000:>6.1f} ms {lossless_s / plain_s:>6.2f} {growth:>+6.1%}"
            )
    print(f"worst ratio {worst:.2f}, bound {BOUND:.0f}")
    return int(worst > BOUND)


def _scene(width: int, height: int) -> RgbImage:
    """Smooth shapes, edges and the noise of a sensor."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 255, (height // 16, width // 16, 3), np.uint8)
    scene = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = random.integers(-4, 5, (height, width, 1), np.int16)
    noisy: RgbImage = np.clip(scene + noise, 0, 255).astype(np.uint8)
    return noisy


def _masks(width: int, height: int) -> Mask:
    """Ellipses of several sizes, spread over the picture."""
    random = np.random.default_rng(1)
    mask = np.zeros((height, width), np.uint8)
    while np.count_nonzero(mask) < 0.05 * mask.size:
        centre = int(random.integers(0, width)), int(random.integers(0, height))
        radius = int(random.integers(height // 60, height // 12))
        cv2.ellipse(mask, centre, (radius, 2 * radius), 0, 0, 360, 1, -1)
    return mask.astype(bool)


def _fastest(function: Callable[[], object], repeat: int) -> float:
    """Seconds of the fastest of several runs."""
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    raise SystemExit(main())
