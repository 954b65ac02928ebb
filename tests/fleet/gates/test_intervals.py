"""Our few lines of statistics against scipy and statsmodels."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from fleet.gates.intervals import (
    CONFIDENCE,
    Z,
    bonett_price,
    mcnemar,
    newcombe,
    normal_cdf,
    t_cdf,
    t_quantile,
    upper_tail,
    wilson,
)
from fleet.gates.offline import Z_FOUND, _squares, _sums

rates = st.integers(1, 3000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))


@given(rates)
def test_wilson_is_that_of_statsmodels(rate: tuple[int, int]) -> None:
    expected = proportion_confint(*rate, alpha=0.1, method="wilson")
    assert wilson(*rate) == pytest.approx(expected, abs=1e-9)


@given(rates, rates)
@settings(max_examples=60)
def test_newcombe_is_that_of_statsmodels(one: tuple[int, int], other: tuple[int, int]) -> None:
    expected = confint_proportions_2indep(*one, *other, method="newcomb", alpha=0.1)
    assert newcombe(*one, *other) == pytest.approx(expected, abs=1e-9)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_exact_one_sided_test(worse: int, better: int) -> None:
    if worse + better:
        expected = stats.binomtest(worse, worse + better, alternative="greater").pvalue
        assert mcnemar(worse, better) == pytest.approx(expected, rel=1e-9)
    else:
        assert mcnemar(0, 0) == 1


@given(rates, st.floats(0.001, 0.999))
def test_the_binomial_tail_is_that_of_scipy(rate: tuple[int, int], chance: float) -> None:
    expected = stats.binom.sf(rate[0] - 1, rate[1], chance)
    assert upper_tail(*rate, chance) == pytest.approx(expected, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize(
    ("least", "trials", "chance", "tail"),
    [(0, 5, 0.2, 1.0), (6, 5, 0.2, 0.0), (1, 5, 0.0, 0.0), (5, 5, 1.0, 1.0), (1, 1, 0.25, 0.25)],
)
def test_the_edges_of_a_tail(least: int, trials: int, chance: float, tail: float) -> None:
    assert upper_tail(least, trials, chance) == pytest.approx(tail)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 30, 299, 1000])
@pytest.mark.parametrize("confidence", [0.6, 0.95, 0.999])
def test_the_t_quantile_is_that_of_scipy(degrees: int, confidence: float) -> None:
    value = t_quantile(degrees, confidence)
    assert value == pytest.approx(stats.t.ppf(confidence, degrees), rel=1e-7)
    assert t_cdf(-value, degrees) == pytest.approx(1 - confidence)


def test_a_t_quantile_needs_a_degree_of_freedom() -> None:
    with pytest.raises(ValueError, match="at least one degree"):
        t_quantile(0)


def test_the_normal_distribution_is_that_of_scipy() -> None:
    assert pytest.approx(stats.norm.ppf(CONFIDENCE), rel=1e-12) == Z
    assert pytest.approx(stats.norm.ppf(0.8), rel=1e-12) == Z_FOUND
    for value in (-8.0, -1.96, 0.0, 0.5, 3.3):
        assert normal_cdf(value) == pytest.approx(stats.norm.cdf(value), rel=1e-12)


@pytest.mark.parametrize(
    ("worse", "better", "pairs", "bounds"),
    [  # (b + 1, c + 1, n + 2) put into the Wald interval, by hand
        (10, 0, 300, (0.014507, 0.051718)),
        (0, 0, 300, (-0.007703, 0.007703)),
        (3, 7, 100, (-0.094712, 0.016280)),
    ],
)
def test_bonett_price_adds_a_pair_to_each_side(
    worse: int, better: int, pairs: int, bounds: tuple[float, float]
) -> None:
    up, down, total = (worse + 1) / (pairs + 2), (better + 1) / (pairs + 2), pairs + 2
    half = stats.norm.ppf(0.95) * np.sqrt((up + down - (up - down) ** 2) / total)
    assert bonett_price(worse, better, pairs) == pytest.approx((up - down - half, up - down + half))
    assert bonett_price(worse, better, pairs) == pytest.approx(bounds, abs=1e-6)


def test_nothing_is_known_of_a_rate_without_observations() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert newcombe(0, 0, 1, 10) == (-1.0, 1.0)
    assert newcombe(1, 10, 0, 0) == (-1.0, 1.0)


def test_the_cluster_robust_error_is_that_of_statsmodels() -> None:
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(30), 4)
    drops = rng.normal(0.02, 0.1, 120) + np.repeat(rng.normal(0, 0.1, 30), 4)
    fitted = sm.OLS(drops, np.ones(120)).fit(
        cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": True}
    )
    ours = np.sqrt(_squares(list(drops), [str(each) for each in clusters]) * 30 / 29) / 120
    assert ours == pytest.approx(fitted.bse[0], rel=1e-9)


def test_without_clusters_the_error_is_the_usual_one() -> None:
    stable, canary = [0.5, 0.9, 0.7, 1.0], [0.4, 0.9, 0.2, 1.0]
    sums = _sums(stable, canary, ["a", "b", "c", "d"])
    error = np.sqrt(sums["drop_squares"] * 4 / 3) / 4
    assert error == pytest.approx(stats.sem(np.subtract(stable, canary)))
    assert (sums["items"], sums["clusters"]) == (4, 4)
    assert sums["good"] == pytest.approx(2.5)
