"""Computes intervals and exact tests for rates and paired scores. Probabilities are fractions."""

import math
from functools import lru_cache

CONFIDENCE = 0.95
"""Confidence of every bound. Bounds are one-sided."""
Z = 1.6448536269514722
"""Normal quantile of `CONFIDENCE`."""


def wilson(bad: float, total: float, z: float = Z) -> tuple[float, float]:
    """Return the bounds of a rate, every side by itself; (0, 1) without observations.

    Source:
        Wilson 1927, JASA 22:209-212.
    """
    if total <= 0:
        return 0.0, 1.0
    rate, spread = bad / total, z * z / total
    middle = rate + spread / 2
    half = z * math.sqrt(rate * (1 - rate) / total + spread / (4 * total))
    lower, upper = (middle - half) / (1 + spread), (middle + half) / (1 + spread)
    return max(0.0, lower), min(1.0, upper)


def newcombe(
    bad: float, total: float, bad_other: float, total_other: float, z: float = Z
) -> tuple[float, float]:
    """Return the bounds of `bad/total - bad_other/total_other`, every side by itself.

    Source:
        Newcombe 1998, Statistics in Medicine 17:873-890, method 10.
    """
    if total <= 0 or total_other <= 0:
        return -1.0, 1.0
    rate, other = bad / total, bad_other / total_other
    lower, upper = wilson(bad, total, z)
    lower_other, upper_other = wilson(bad_other, total_other, z)
    difference = rate - other
    return (
        difference - math.hypot(rate - lower, upper_other - other),
        difference + math.hypot(upper - rate, other - lower_other),
    )


def bonett_price(worse: float, better: float, pairs: float, z: float = Z) -> tuple[float, float]:
    """Return the bounds of the drop between paired yes-or-no scores, every side by itself.

    Args:
        worse: Pairs that only the old version got right.
        better: Pairs that only the new version got right.
        pairs: All pairs.
        z: Normal quantile of the confidence.

    Source:
        Bonett and Price 2012, JEBS 37:479-488: adjusted Wald, one pair added to each side.
    """
    up, down, total = (worse + 1) / (pairs + 2), (better + 1) / (pairs + 2), pairs + 2
    drop = up - down
    half = z * math.sqrt((up + down - drop * drop) / total)
    return drop - half, drop + half


def mcnemar(worse: int, better: int) -> float:
    """Return the exact p-value for `worse` exceeding `better` by chance, single-sided.

    Source:
        McNemar 1947, in its exact form: the upper tail of a binomial with probability 1/2.
    """
    return upper_tail(worse, worse + better, 0.5)


def upper_tail(least: int, trials: int, chance: float) -> float:
    """Return the probability of `least` or more successes, of a binomial distribution."""
    if least <= 0:
        return 1.0
    if least > trials or chance <= 0:
        return 0.0
    if chance >= 1:
        return 1.0
    if least <= trials * chance:  # the shorter tail is summed
        return 1.0 - _terms(trials - least + 1, trials, 1 - chance)
    return _terms(least, trials, chance)


def _terms(least: int, trials: int, chance: float) -> float:
    """Sum the terms from `least` up; they fall from there, so that the sum ends early."""
    odds = chance / (1 - chance)
    term = math.exp(
        math.lgamma(trials + 1) - math.lgamma(least + 1) - math.lgamma(trials - least + 1)
        + least * math.log(chance) + (trials - least) * math.log1p(-chance)
    )  # fmt: skip
    total = 0.0
    for successes in range(least, trials + 1):
        total += term
        term *= (trials - successes) / (successes + 1) * odds
        if term < total * 1e-16:
            break
    return min(1.0, total)


def normal_cdf(value: float) -> float:
    """Return the probability below `value` of the standard normal distribution."""
    return 0.5 * math.erfc(-value / math.sqrt(2))


@lru_cache(maxsize=4096)
def t_quantile(degrees: int, confidence: float = CONFIDENCE) -> float:
    """Return Student's t quantile, `confidence` above 0.5, by bisection.

    Raises:
        ValueError: fewer than one degree of freedom.
    """
    if degrees < 1:
        raise ValueError("a t quantile needs at least one degree of freedom")
    low, high = 0.0, 1.0
    while t_cdf(high, degrees) < confidence:
        low, high = high, high * 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, degrees) < confidence else (low, middle)
    return (low + high) / 2


def t_cdf(value: float, degrees: int) -> float:
    """Return the probability below `value` of Student's t distribution.

    Source:
        Abramowitz and Stegun 26.7.3 and 26.7.4: finite sums for whole degrees of freedom.
    """
    angle = math.atan2(value, math.sqrt(degrees))
    cosine, sine = math.cos(angle), math.sin(angle)
    first, term, total = (2, 1.0, 1.0) if degrees % 2 == 0 else (3, cosine, cosine)
    for degree in range(first, degrees - 1, 2):
        term *= (degree - 1) / degree * cosine * cosine
        total += term
    if degrees % 2 == 0:
        return 0.5 + sine * total / 2
    inner = angle if degrees == 1 else angle + sine * total
    return 0.5 + inner / math.pi
