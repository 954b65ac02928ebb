"""Tests counts in windows with an e-process, a test that may be looked at at any time.

Under the null hypothesis each bad event falls on the watched side with at most a known chance.
The e-process multiplies likelihood ratios over windows, mixed over a grid of alternatives; by
Ville's inequality the product ever exceeds `1 / alpha` with a probability of at most `alpha`,
however often the product is looked at, so that a window may end at any time.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from fleet.gates.intervals import normal_cdf, wilson
from fleet.resources import FULL

Z_EARLY, Z_LAST, Z_ONE = 0.8416212335729143, 1.959963984540054, 2.3263478740408408
"""Normal quantiles of a PASS at the end of the longest bake: in a stage after which others come, in
the last of these, and in the only stage of a rollout with gates.

A version at the limit passes with a chance of 40, 5 and 2 %, however often it is looked at.
"""
UNKNOWN_PART: Final = 0.5
"""Part of the evidence of a stage that is taken where the usual traffic is unknown."""
LEAST_PART: Final = 0.001
SUREST: Final = 0.999
"""Upper bound of the confidence that is told; never is a bound certain."""


def confidence(percent: int, weights: Iterable[int]) -> float:
    """Return the normal quantile of a PASS, at the end of the stage with a share.

    A version at the limit has to be lucky in every stage, on other requests each time; in the early
    ones little is at stake, and few requests tell.
    """
    stages = [weight for weight in weights if weight < FULL]
    if len(stages) <= 1:
        return Z_ONE
    return Z_EARLY if percent < max(stages) else Z_LAST


def quantile(counts: Mapping[str, Any], limits: Mapping[str, float]) -> float:
    """Return the normal quantile of a PASS now, of the requests so far.

    The boundary of O'Brien and Fleming (1979): `z / sqrt(t)`, where `t` is the part of the usual
    requests of the longest bake that have come, 1 at most. By the reflection principle a version at
    the limit ever passes with the chance `2 (1 - Phi(z))`, at whatever times it is looked at.
    """
    if "longest" not in limits:
        return limits["z"]
    part, usual = UNKNOWN_PART, counts.get("hourly", 0.0) * limits["longest"]
    if usual > 0:
        part = (sum(counts["requests"]) + sum(counts.get("requests_stable", ()))) / usual
    return limits["z"] / math.sqrt(min(1.0, max(LEAST_PART, part)))


def sure_text(z: float) -> str:
    """Return the confidence of a bound as text, `95 %` or `99.4 %`."""
    percent = 100 * min(SUREST, normal_cdf(z))
    return f"{percent:.3g} %" if percent > 99 else f"{percent:.0f} %"  # noqa: PLR2004 (a digit more)


GRID = 32
"""Alternatives in the mixture."""
MOSTLY = 0.9
"""Weight of the share test in the test of a rise."""
SURE = 2.0
"""Normal quantile of the bound of the other side's rate, from which a rise is counted."""
LARGEST_RATIO = 50.0
"""Of the alternatives to the tolerated ratio, from that up, evenly on a log scale."""


@lru_cache(maxsize=4096)
def ratios(tolerated: float) -> tuple[float, ...]:
    """Return the grid of alternatives above the tolerated ratio, ascending."""
    step = math.log(LARGEST_RATIO) / GRID
    return tuple(tolerated * math.exp(step * power) for power in range(1, GRID + 1))


class EProcess:
    """An e-process under way; `add` takes one window and returns the e-value so far."""

    def __init__(self, tolerated: float) -> None:
        """Begin with no evidence; `tolerated` is the ratio that is no finding yet."""
        self._tolerated = tolerated
        self._ratios = ratios(tolerated)
        self._logs = [0.0] * GRID

    def add(self, hits: float, trials: float, odds: float) -> float:
        """Take a window: `hits` of `trials` were on the watched side.

        `odds`: those that an event falls on the watched side where both sides are alike.
        """
        if trials > 0 and odds > 0:
            null = self._tolerated * odds
            base = hits * math.log(null) - trials * math.log1p(null)
            self._logs = [
                log + hits * math.log(ratio * odds) - trials * math.log1p(ratio * odds) - base
                for log, ratio in zip(self._logs, self._ratios, strict=True)
            ]
        return self.value

    @property
    def value(self) -> float:
        """The e-value, at most 1e300."""
        largest = max(self._logs)
        total = sum(math.exp(log - largest) for log in self._logs) / GRID
        return math.exp(min(690.0, largest + math.log(total)))


def share_test(
    windows: Iterable[tuple[float, float, float, float]], tolerated: float
) -> Iterator[float]:
    """Yield the e-value after every window for too many bad events of the watched side.

    Args:
        windows: Bad events and exposure of the watched side, then of the other. The exposure is
            the number of requests, or of bad events that were to be expected among these.
        tolerated: The ratio of the two rates that is no finding yet; 1 or more.

    Each bad event is the watched side's with chance `w r / (w r + 1 - w)` at most, where `w`
    is the window's share of the exposure: load that swings and shares that grow do not matter.
    """
    evidence = EProcess(tolerated)
    for bad, exposure, bad_other, exposure_other in windows:
        odds = exposure / exposure_other if exposure_other > 0 else 0.0
        yield evidence.add(bad, bad + bad_other, odds)


def rate_test(windows: Iterable[tuple[float, float]], limit: float) -> Iterator[float]:
    """Yield the e-value after every window for a rate of bad requests above `limit`.

    Windows are of bad requests and all requests; the limit is above 0 and below 1.
    """
    evidence = EProcess(1.0)
    for bad, requests in windows:
        yield evidence.add(bad, requests, limit / (1 - limit))


class Beside(NamedTuple):
    """Bad requests of two sides in a window, beside all requests and the usual bad ones."""

    bad: float
    requests: float
    usual: float
    bad_other: float
    requests_other: float
    usual_other: float


def rise_test(windows: Iterable[Beside], tolerated: float, allowed: float) -> Iterator[float]:
    """Yield the e-value after every window for a rise of the rate of the watched side.

    Args:
        windows: Of both sides, `usual` being the bad requests that were to be expected.
        tolerated: The ratio of the two rates that is no finding yet; 1 or more.
        allowed: The difference of the two rates that is no finding yet; 0 to 1.

    The weighted mean of two tests, which is an e-value again. The share test is exact, but where
    the other side has hardly a bad event it cannot tell a ratio from a larger one. There the rate
    test tells: its limit is what is allowed above the upper bound of the other side's rate so far.
    """
    sums = [0.0] * len(Beside._fields)
    listed = list(windows)
    shares = share_test(
        ((seen.bad, seen.usual, seen.bad_other, seen.usual_other) for seen in listed), tolerated
    )
    for value, more in zip(shares, listed, strict=True):
        sums = [before + added for before, added in zip(sums, more, strict=True)]
        yield MOSTLY * value + (1 - MOSTLY) * _beyond(Beside(*sums), allowed)


def _beyond(both: Beside, allowed: float) -> float:
    """Return the e-value for a rate beyond the other side's and a rise that is allowed."""
    if not both.requests or not both.usual_other:
        return 1.0
    most = wilson(both.bad_other, both.requests_other, SURE)[1]
    swing = most * both.requests_other / both.usual_other
    limit = swing * both.usual / both.requests + allowed
    if limit >= 1:
        return 1.0
    (value,) = rate_test([(both.bad, both.requests)], limit)
    return value
