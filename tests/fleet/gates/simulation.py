"""Many rollouts at once, in numpy: what the gates' rules do in the long run.

The e-process here is the one of `fleet.gates.sequential`, over all replications at once; a test
holds the two equal. Rules of thumb that others use are here too, to show what they would do.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from fleet.gates.decide import LEAST_BAD, LEAST_DIFFERENCE, Finding
from fleet.gates.offline import judge_paired
from fleet.gates.sequential import GRID, MOSTLY, SURE, ratios
from fleet.policies import GateSpec
from fleet.rollouts.stage_traffic import wilson_bounds

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Paths:
    """Counts, one row a replication, one column a window."""

    bad: Array
    requests: Array
    bad_stable: Array
    requests_stable: Array


def paths(
    rng: np.random.Generator,
    replications: int,
    canary_per_window: float,
    rates: tuple[float, float],
    *,
    share: float = 0.1,
    windows: int = 48,
) -> Paths:
    """Draw Poisson requests, and bad ones among them, at the rates (canary, stable)."""
    size = (replications, windows)
    requests = rng.poisson(canary_per_window, size)
    stable = rng.poisson(canary_per_window * (1 - share) / share, size)
    return Paths(
        rng.binomial(requests, rates[0]).astype(float),
        requests.astype(float),
        rng.binomial(stable, rates[1]).astype(float),
        stable.astype(float),
    )


def e_values(counts: Paths, tolerated: float) -> Array:
    """Return the share test's e-value after each window, by replication."""
    grid = np.array(ratios(tolerated))
    odds = np.divide(
        counts.requests,
        counts.requests_stable,
        out=np.zeros_like(counts.requests),
        where=counts.requests_stable > 0,
    )
    logs = np.zeros((len(odds), GRID))
    found = np.ones_like(odds)
    for window in range(odds.shape[1]):
        hits, other, ratio = counts.bad[:, window], counts.bad_stable[:, window], odds[:, window]
        told = ratio > 0
        safe = np.where(told, ratio, 1.0)
        trials = np.where(told, hits + other, 0.0)
        base = trials * np.log1p(tolerated * safe)
        rise = np.where(told, hits, 0.0)[:, None] * np.log(grid / tolerated)
        logs += rise - trials[:, None] * np.log1p(grid * safe[:, None]) + base[:, None]
        largest = logs.max(axis=1)
        found[:, window] = np.exp(np.minimum(largest, 690)) * np.exp(logs - largest[:, None]).mean(
            axis=1
        )
    return found


def rise_values(counts: Paths, tolerated: float, allowed: float) -> Array:
    """Return the e-value of a rise after each window: of share test and rate test."""
    bad, requests, other, of_other = _sums(counts)
    _, most = wilson_bounds(other, np.maximum(of_other, 1), SURE)
    limit = (most + allowed)[..., None]
    told = (limit < 1) & (of_other > 0)[..., None]
    odds = np.where(told, limit / np.where(told, 1 - limit, 1), 1.0)
    grid = np.array(ratios(1.0))
    trials = np.log1p(grid * odds) - np.log1p(odds)
    logs = np.where(told, bad[..., None] * np.log(grid) - requests[..., None] * trials, 0.0)
    largest = np.minimum(690, logs.max(axis=-1, keepdims=True))
    beyond = np.exp(largest[..., 0]) * np.exp(logs - largest).mean(axis=-1)
    made: Array = MOSTLY * e_values(counts, tolerated) + (1 - MOSTLY) * beyond
    return made


def failed(counts: Paths, tolerated: float, allowed: float, alpha: float) -> Array:
    """Return by replication the window after which the gate of a rise fails, or infinity."""
    return first(_found(rise_values(counts, tolerated, allowed), counts, alpha))


def flagged(counts: Paths, tolerated: float, alpha: float, *, guarded: bool = True) -> Array:
    """Return by replication the window after which the share test fails, or infinity."""
    return first(
        _found(e_values(counts, tolerated), counts, alpha)
        if guarded
        else e_values(counts, tolerated) * alpha >= 1
    )


def _found(values: Array, counts: Paths, alpha: float) -> npt.NDArray[np.bool_]:
    enough = np.cumsum(counts.bad, axis=1) >= LEAST_BAD
    made: npt.NDArray[np.bool_] = (
        (values * alpha >= 1) & enough & (_difference(counts) >= LEAST_DIFFERENCE)
    )
    return made


def first(hit: npt.NDArray[np.bool_]) -> Array:
    """Return the number of the first column that is true, from 1, or infinity."""
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1.0, np.inf)


def _difference(counts: Paths) -> Array:
    bad, requests, other, of_other = _sums(counts)
    made: Array = bad / np.maximum(requests, 1) - other / np.maximum(of_other, 1)
    return made


def _sums(counts: Paths) -> Iterator[Array]:
    """Yield the counts until the end of each window."""
    return (np.cumsum(getattr(counts, name), axis=1) for name in Paths.__annotations__)


def naive_test(counts: Paths, p_value: float = 0.05) -> Array:
    """Return when a pooled z test, repeated after each window, first calls the canary worse."""
    bad, total = counts.bad.cumsum(axis=1), counts.requests.cumsum(axis=1)
    other, total_other = counts.bad_stable.cumsum(axis=1), counts.requests_stable.cumsum(axis=1)
    total, total_other = np.maximum(total, 1), np.maximum(total_other, 1)
    pooled = (bad + other) / (total + total_other)
    error = np.sqrt(pooled * (1 - pooled) * (1 / total + 1 / total_other))
    z = np.divide(bad / total - other / total_other, error, out=np.zeros_like(bad), where=error > 0)
    return first(z > stats.norm.isf(p_value))


def naive_window(counts: Paths, limit: float = 0.05) -> Array:
    """Return when a single window's error rate first exceeds a fixed limit."""
    return first(counts.bad > limit * np.maximum(counts.requests, 1e-9))


def golden_runs(
    rng: np.random.Generator, replications: int, items: int, discordance: float, drop: float
) -> tuple[Array, Array]:
    """Draw items that only the old version, and only the new version, got right."""
    worse, better = (discordance + drop) / 2, (discordance - drop) / 2
    drawn = rng.multinomial(items, [worse, better, 1 - discordance], replications)
    return drawn[:, 0].astype(float), drawn[:, 1].astype(float)


def graded_runs(
    rng: np.random.Generator,
    replications: int,
    items: int,
    samples: int,
    drop: float,
    *,
    borderline: float = 0.05,
    size: int = 1,
) -> Iterator[Finding]:
    """Judge sets, at 3 pp, of which a part of the items is broken wholly, and others wobble.

    Of the borderline items an answer is right with a chance of its own, the same for both
    versions; of the others always. Items of one group of `size` break together.
    """
    gate = GateSpec("g", "accuracy_drop", 3, "pp", samples=samples)
    names = [str(each // size) for each in range(items)]
    broken_share = drop / (1 - borderline / 2)
    for _ in range(replications):
        chance = np.where(rng.random(items) < borderline, rng.beta(0.5, 0.5, items), 1.0)
        broken = np.repeat(rng.random(items // size) < broken_share, size)
        stable = rng.binomial(samples, chance) / samples
        canary = rng.binomial(samples, np.where(broken, 0.0, chance)) / samples
        yield judge_paired(gate, stable.tolist(), canary.tolist(), clusters=names)


def shares_of(judge: Callable[[int, int], str], worse: Array, better: Array) -> dict[str, float]:
    """Return how often each verdict came out, in percent; equal counts are judged once."""
    pairs, repeats = np.unique(np.stack([worse, better], axis=1), axis=0, return_counts=True)
    found: dict[str, float] = {"PASS": 0.0, "FAIL": 0.0, "INCONCLUSIVE": 0.0}
    for (more, less), count in zip(pairs, repeats, strict=True):
        found[judge(int(more), int(less))] += 100 * count / len(worse)
    return found


@dataclass(frozen=True)
class Latencies:
    """Slow requests by window, and what a point rule would see: each window's p95, in old p95s."""

    slow: Paths
    p95: Array


def latencies(
    rng: np.random.Generator, replications: int, per_hour: int, slower: float, *, hours: int = 48
) -> Latencies:
    """Draw lognormal latencies of both sides under a load that both share and that swings."""
    sigma, z95 = 0.6, stats.norm.isf(0.05)
    load = np.zeros((replications, hours))
    for hour in range(hours):
        before = load[:, hour - 1] if hour else 0.0
        load[:, hour] = 0.7 * before + rng.normal(0, 0.15, replications)
    stable = per_hour * 9
    chance = stats.norm.sf(z95 - load / sigma)
    chance_canary = stats.norm.sf(z95 - (load + np.log(slower)) / sigma)
    draws = rng.normal(0, sigma, (replications, hours, per_hour))
    worst = np.quantile(draws, 0.95, axis=2) + load + np.log(slower)
    ones = np.ones((replications, hours))
    slow = Paths(
        rng.binomial(per_hour, chance_canary).astype(float), per_hour * ones,
        rng.binomial(stable, chance).astype(float), stable * ones,
    )  # fmt: skip
    return Latencies(slow, np.exp(worst - sigma * z95))


def point_rule(p95: Array, times: float, in_a_row: int = 1) -> Array:
    """Return when the hourly p95 first exceeds a multiple of the old one, so often in a row."""
    over = p95 > times
    hit = over.copy()
    for back in range(1, in_a_row):
        hit[:, back:] &= over[:, :-back]
        hit[:, :back] = False
    return first(hit)
