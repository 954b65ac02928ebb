"""Estimates how likely a gate is to decide, before any request. Estimates, never a verdict."""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from fleet.gates.decide import LEAST_BAD, LEAST_DIFFERENCE
from fleet.gates.intervals import Z, bonett_price, mcnemar, normal_cdf, t_quantile, upper_tail
from fleet.gates.live import LATE
from fleet.gates.offline import LEAST_ITEMS, PSEUDO_ITEMS, SIGNIFICANT, Z_FOUND
from fleet.gates.own_control import SideCounts
from fleet.gates.sequential import Beside, rate_test, rise_test
from fleet.policies import ABSOLUTE, RATIOS, RISES, GateSpec

USUAL_RATE = {"error_rate_rise": 0.01, "error_rate": 0.005, "format_drop": 0.03}
"""Rates of a healthy version where none was measured; other kinds: 3 %."""
SPREAD = 0.6
"""Standard deviation of the logarithm of a latency in chat traffic."""
QUINTILES = (-1.2816, -0.5244, 0.0, 0.5244, 1.2816)
"""Middles of five equally likely parts of a normal distribution."""
USUAL_DISCORDANCE = 0.1
"""Part of the items on which two versions differ, where no evaluation has told."""
WIDTH = 6
"""Standard deviations of a binomial that are summed on either side."""


@lru_cache(maxsize=4096)
def paired_power(
    items: int, discordance: float, samples: int, margin: float, drop: float, lasting: float = 0.0
) -> tuple[float, float]:
    """Return the chances that an offline gate says PASS, and FAIL.

    Args:
        items: Size of the golden set.
        discordance: Part of the items that one version gets right and the other wrong.
        samples: Answers asked for each item. Several shrink the noise of sampling.
        margin: The gate's limit.
        drop: How much worse the new version really is; at most `discordance`.
        lasting: The part of `discordance` that several answers do not shrink, as both versions
            answer these items otherwise each time.

    With a single sample: exact, over all splits of the discordant items. With several: exact over
    the number of items that broke wholly, the kind of drop that is hardest to tell; the noise of
    sampling is taken to be normal.
    """
    if items < LEAST_ITEMS:
        return 0.0, 0.0
    if samples > 1:
        return _graded(items, _noise(max(discordance, 1e-6), samples, lasting), margin, drop)
    discordance = max(discordance, drop, 1e-6)
    chance = (discordance + drop) / (2 * discordance)
    passes = fails = 0.0
    for differing, weight in _binomial(items, discordance):
        largest = _largest(differing, items, margin)
        least = max(largest + 1, _significant(differing))
        passes += weight * (1 - upper_tail(largest + 1, differing, chance))
        fails += weight * upper_tail(least, differing, chance)
    return passes, fails


def _noise(discordance: float, samples: int, lasting: float) -> float:
    """Return the variance of an item's difference, by means of several answers."""
    return lasting + (discordance - lasting) / samples


def _binomial(trials: int, chance: float) -> Iterator[tuple[int, float]]:
    """Yield the likely counts of a binomial distribution with their probabilities."""
    middle, deviation = trials * chance, math.sqrt(trials * chance * (1 - chance))
    first = max(0, math.floor(middle - WIDTH * deviation))
    last = min(trials, math.ceil(middle + WIDTH * deviation) + 1)
    before = upper_tail(first, trials, chance)
    for count in range(first, last + 1):
        after = upper_tail(count + 1, trials, chance)
        yield count, before - after
        before = after


def _graded(items: int, noise: float, margin: float, drop: float) -> tuple[float, float]:
    """Return the chances of PASS and FAIL on means of several answers.

    `noise`: the variance of an item's difference between two versions that are alike.
    """
    passes = fails = 0.0
    added, spread = round(2 * PSEUDO_ITEMS), math.sqrt(items * noise)
    for broken, weight in _binomial(items, drop):
        squares = broken * (1 - broken / items) + items * noise
        seen, more = _half(squares, items), _half(squares + added, items + added)
        within = min(margin * (items + added) - more, margin * items - seen)
        passes += weight * normal_cdf((within - broken) / spread)
        fails += weight * normal_cdf((broken - max(seen, margin * items - seen, within)) / spread)
    return passes, fails


def _half(squares: float, items: int) -> float:
    """Return the distance of the bound of a sum from the sum, as in `offline.judge_graded`."""
    return t_quantile(items - 1) * math.sqrt(squares * items / (items - 1))


def _largest(differing: int, items: int, margin: float) -> int:
    """Return the most items that may be worse and PASS, of those that differ; -1: none."""

    def beyond(worse: int) -> bool:
        return bonett_price(worse, differing - worse, items)[1] > margin

    return _first(range(differing + 1), beyond) - 1


@lru_cache(maxsize=4096)
def _significant(differing: int) -> int:
    return _first(
        range(differing + 1), lambda worse: mcnemar(worse, differing - worse) < SIGNIFICANT
    )


def _first(numbers: range, holds: Callable[[int], bool]) -> int:
    """Return the least number from which on a condition holds; the range's end: for none."""
    return numbers.start + bisect_left(numbers, True, key=holds)


def certifiable(items: int, discordance: float, samples: int, lasting: float = 0.0) -> float:
    """Return the smallest margin that an unchanged version keeps 4 times in 5.

    With a discordance of 0: the smallest margin that any version can keep.
    """
    items, noise = max(2, items), _noise(discordance, samples, lasting)
    differing, added = items * noise, round(2 * PSEUDO_ITEMS)
    upper = (
        _half(differing + added, items + added) / (items + added)
        if samples > 1
        else bonett_price(differing / 2, differing / 2, items)[1]
    )
    return upper + Z_FOUND * math.sqrt(noise / items)


def least_limit(items: int, samples: int) -> int:
    """Return the smallest limit in whole points that a set shows where the usual part differs."""
    return math.ceil(100 * certifiable(items, USUAL_DISCORDANCE, samples))


def items_needed(discordance: float, samples: int, margin: float, lasting: float = 0.0) -> int:
    """Return the items with which an unchanged version passes 4 times in 5."""

    def enough(items: int) -> bool:
        return certifiable(items, discordance, samples, lasting) <= margin

    low, high = 0, 1
    while not enough(high):
        low, high = high, 2 * high
    return _first(range(low + 1, high), enough)


def differed(counts: Mapping[str, Any]) -> tuple[float, float | None] | None:
    """Return the part of the items on which two versions differed; None: the counts do not tell.

    Beside it the part that lasts from answer to answer; None: items were asked once.
    """
    if "worse" in counts:
        return (counts["worse"] + counts["better"] + 1) / (counts["items"] + 2), None
    if "by_chance" not in counts:
        return None
    independent = counts["clusters"] / counts["items"] ** 2
    by_chance, seen = counts["by_chance"] * independent, counts["drop_squares"] * independent
    lasting = max(0.0, seen - by_chance / counts["samples"])
    return lasting + by_chance, lasting


@dataclass(frozen=True, slots=True)
class UsualRate:
    """The usual rate of an alias, by the count of a gate."""

    rate: float
    """The bad part of the requests."""
    effect: float = 1.0
    """By how much requests are to be divided to count as independent, where users ask again."""
    requests: int = 0
    """Requests behind the rate; 0: it is assumed."""


USUAL_EFFECT = 1.4
"""The effect where none was measured: of new users whose sessions have four requests."""
LEAST_SEEN = 200
"""Least number of requests of which a seen rate is used; below, the rate is assumed."""


def seen(gate: GateSpec, counts: Mapping[str, Any]) -> UsualRate | None:
    """Return the old version's rate by the counts of earlier evidence; None: too little.

    A version that has passed is as good as the old one, but only the old one was so before.
    """
    suffix = "_stable" if "requests_stable" in counts and gate.metric not in ABSOLUTE else ""
    if f"bad{suffix}" not in counts:
        return None
    bad, requests = (math.fsum(counts[f"{name}{suffix}"]) for name in ("bad", "requests"))
    if requests < LEAST_SEEN:
        return None
    rate, effect = round(max(bad, 0.5) / requests, 4), counts.get("dispersion", USUAL_EFFECT)
    if f"spread{suffix}" in counts:
        effect = SideCounts.of(counts, suffix).effect(counts)
    return UsualRate(max(rate, 0.0001), round(effect, 2), int(requests))


def healthy_rate(gate: GateSpec) -> float:
    """Return the bad part that is assumed of a healthy version, by the gate's own count."""
    if gate.metric in RATIOS:
        return 1 - normal_cdf(Z + math.log(max(gate.margin, 1.0)) / SPREAD)
    if gate.metric in RISES or gate.metric == "error_rate":
        return min(USUAL_RATE.get(gate.metric, 0.03), gate.margin / 2 if gate.unit == "%" else 1)
    return 0.005


def _others(rate: float, requests: int) -> tuple[float, ...]:
    """Return five equally likely counts of the old version's bad requests."""
    deviation = math.sqrt(requests * rate * (1 - rate))
    counts = (round(requests * rate + quintile * deviation) for quintile in QUINTILES)
    return tuple(float(min(requests, max(0, count))) for count in counts)


def harm(gate: GateSpec, known: UsualRate | None = None) -> tuple[float, float]:
    """Return the rates of a healthy and of a harmful version, as the gate's test counts them.

    Harmful: twice the margin above the usual rate; a p95 of twice the old one; a rate of
    requests beyond a fixed limit of four times what it may be.
    """
    if gate.metric in RATIOS:
        times = math.log(gate.margin if gate.alarm is None else gate.alarm)
        healthy = 1 - normal_cdf(Z + times / SPREAD)
        return healthy, 1 - normal_cdf(Z + (times - math.log(2)) / SPREAD)
    if gate.metric in RISES:
        rate = (known or UsualRate(healthy_rate(gate))).rate
        return rate, min(1.0, rate + 2 * gate.margin)
    limit = gate.margin if gate.metric == "error_rate" else LATE
    return limit, min(1.0, 4 * limit)


@lru_cache(maxsize=4096)
def catching(gate: GateSpec, requests: int, others: int, known: UsualRate | None = None) -> float:
    """Return the least chance that a harmful version has failed a live gate by then.

    Taken after all the requests at once; a test that is looked at on the way catches some more.
    """
    healthy, harmful = harm(gate, known)
    effect = known.effect if known else USUAL_EFFECT
    requests, others = int(requests / effect), int(others / effect)
    if requests < 1 or others < 1:
        return 0.0
    absolute = gate.metric not in RATIOS and gate.metric not in RISES
    alarm = gate.margin if gate.alarm is None else gate.alarm
    rise = LATE - healthy if gate.metric in RATIOS else alarm
    rise = max(rise, (gate.tolerate - 1) * healthy)
    tolerated = (healthy + rise) / healthy

    def told(bad_other: float, bad: int) -> bool:
        if bad < LEAST_BAD:
            return False
        if absolute:
            (value,) = rate_test([(bad, requests)], healthy)
            return value * gate.false_alarm >= 1 and bad / requests - healthy >= LEAST_DIFFERENCE
        seen = Beside(bad, requests, requests * healthy, bad_other, others, others * healthy)
        (value,) = rise_test([seen], tolerated, rise)
        above = bad / requests - bad_other / others
        return value * gate.false_alarm >= 1 and above >= LEAST_DIFFERENCE

    total = 0.0
    for bad_other in _others(healthy, others):
        least = _first(range(requests + 1), partial(told, bad_other))
        total += upper_tail(least, requests, harmful)
    return total / len(QUINTILES)
