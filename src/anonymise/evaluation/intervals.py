"""How sure a share is that was counted on a sample of images or objects."""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Interval", "bootstrap_ratios", "newcombe", "wilson"]

_AT_ONCE = 100
"""Samples drawn at a time, so that memory stays at so many numbers an image, however many samples are wanted."""


class Interval(NamedTuple):
    """The ends of a confidence interval."""

    low: float
    high: float


def bootstrap_ratios(
    numerators: NDArray[np.float64], denominators: NDArray[np.float64], *, samples: int, confidence: float, seed: int
) -> NDArray[np.float64]:
    """Confidence intervals of ratios of sums over images, by the percentile bootstrap.

    Images are drawn with replacement, as many as there are, because what one image shows belongs together. The ends
    are quantiles of the ratios in these samples (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13).
    A sample whose denominator is zero says nothing about that ratio and is left out of it.

    Args:
        numerators: (images, ratios).
        denominators: (images, ratios).
        samples: how many to draw.
        confidence: confidence of the interval, such as 0.95.
        seed: same seed, same intervals.

    Returns:
        float64 (ratios, 2): low and high; NaN where the denominators are all zero.
    """
    n, n_ratios = numerators.shape
    intervals = np.full((n_ratios, 2), np.nan)
    known = denominators.sum(axis=0) > 0
    if n == 0 or not known.any():
        return intervals
    numerators, denominators = numerators[:, known], denominators[:, known]
    rng = np.random.default_rng(seed)
    ratios = np.empty((samples, int(known.sum())))
    for start in range(0, samples, _AT_ONCE):
        stop = min(start + _AT_ONCE, samples)
        counts = rng.multinomial(n, np.full(n, 1 / n), size=stop - start).astype(np.float64)
        below = counts @ denominators
        ratios[start:stop] = np.where(below > 0, counts @ numerators / np.where(below > 0, below, 1), np.nan)
    tail = (1 - confidence) / 2
    intervals[known] = np.nanquantile(ratios, [tail, 1 - tail], axis=0).T
    return intervals


def wilson(successes: int, trials: int, confidence: float) -> Interval:
    """The score interval of a share (E. B. Wilson, JASA 22, 1927); unlike others it holds for few trials too.

    Raises:
        ValueError: there are no trials.
    """
    if trials < 1:
        raise ValueError("no trials, no share")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def newcombe(first: tuple[int, int], second: tuple[int, int], confidence: float) -> Interval:
    """The interval of the difference of two shares (R. G. Newcombe, Statistics in Medicine 17, 1998, method 10).

    Args:
        first: (successes, trials) of the share that the other is taken from.
        second: (successes, trials) of the other.
        confidence: confidence of the interval.
    """
    p1, p2 = first[0] / first[1], second[0] / second[1]
    (low1, high1), (low2, high2) = wilson(*first, confidence), wilson(*second, confidence)
    difference = p1 - p2
    return Interval(difference - math.hypot(p1 - low1, high2 - p2), difference + math.hypot(high1 - p1, p2 - low2))
