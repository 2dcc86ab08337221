import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonymise.evaluation.intervals import bootstrap_ratios, newcombe, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe, Two-sided confidence intervals for the single proportion, Statistics in Medicine 17 (1998), table I
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_published(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials, 0.95) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    # Newcombe, Interval estimation for the difference between independent proportions, the same volume, table II
    [((56, 70), (48, 80), 0.0524, 0.3339), ((9, 10), (3, 10), 0.1705, 0.8090), ((10, 10), (0, 10), 0.6075, 1.0)],
)
def test_newcombe_as_published(first: tuple[int, int], second: tuple[int, int], low: float, high: float) -> None:
    assert newcombe(first, second, 0.95) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_holds_the_share_and_is_symmetric(counted: tuple[int, int], confidence: float) -> None:
    successes, trials = counted
    low, high = wilson(successes, trials, confidence)
    assert 0 <= low <= successes / trials + 1e-12
    assert successes / trials - 1e-12 <= high <= 1
    assert wilson(trials - successes, trials, confidence) == pytest.approx((1 - high, 1 - low))


def test_a_share_of_nothing_has_no_interval() -> None:
    with pytest.raises(ValueError, match="no trials"):
        wilson(0, 0, 0.95)


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    """Images with a random number of pixels, of which a share that varies from image to image is covered."""
    rng = np.random.default_rng(7)
    n_studies, n_images, truth = 400, 60, 0.8
    totals = rng.gamma(2.0, 500.0, (n_images, n_studies))
    # The share does not depend on the number of pixels, so its mean is the ratio's true value.
    covered = totals * rng.beta(8, 2, (n_images, n_studies))
    ends = bootstrap_ratios(covered, totals, samples=600, confidence=0.9, seed=0)
    rate = np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1]))
    # 0.9 less what the percentile method loses on few images; three standard errors of the rate are 0.045.
    assert 0.84 < rate < 0.945


def test_the_bootstrap_of_a_mean_has_the_width_of_the_normal_approximation() -> None:
    values = np.random.default_rng(1).random((200, 1))
    ((low, high),) = bootstrap_ratios(values, np.ones_like(values), samples=4000, confidence=0.95, seed=3)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 200**0.5, rel=0.06)
    assert low < values.mean() < high


def test_the_bootstrap_is_repeatable_and_does_not_mix_ratios() -> None:
    rng = np.random.default_rng(2)
    hits, totals = rng.random((30, 5)), np.ones((30, 5))
    together = bootstrap_ratios(hits, totals, samples=250, confidence=0.9, seed=4)
    alone = bootstrap_ratios(hits[:, 2:3], totals[:, 2:3], samples=250, confidence=0.9, seed=4)
    assert together[2:3] == pytest.approx(alone)
    again = bootstrap_ratios(hits, totals, samples=250, confidence=0.9, seed=4)
    assert np.array_equal(together, again)
    assert not np.array_equal(together, bootstrap_ratios(hits, totals, samples=250, confidence=0.9, seed=5))


def test_ratios_of_nothing_are_unknown_and_do_no_harm() -> None:
    hits = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    totals = np.array([[2.0, 0.0], [0.0, 0.0], [2.0, 0.0]])  # an image that adds nothing to either
    known, unknown = bootstrap_ratios(hits, totals, samples=100, confidence=0.9, seed=0)
    assert known.tolist() == [0.5, 0.5]
    assert np.isnan(unknown).all()
    assert bootstrap_ratios(np.zeros((0, 2)), np.zeros((0, 2)), samples=100, confidence=0.9, seed=0).shape == (2, 2)
