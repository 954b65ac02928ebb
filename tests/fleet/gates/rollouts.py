"""Whole rollouts in simulation: errors, format and latency judged together, hour by hour.

The client of the guide: peak requests per minute from 09 to 18, a twentieth of that otherwise;
stages of 10 % and 50 %, each at least 24 and at most 48 hours. Latencies swing from hour to hour,
a little for both versions and a little for the new one alone: without that nothing fails by chance.
"""

from dataclasses import dataclass
from math import log
from typing import Literal

import numpy as np
from scipy import stats

from fleet.gates.live import LATE
from tests.fleet.gates.simulation import (
    Array,
    Paths,
    flagged,
    newcombe_upper,
    slow_or_late,
    wilson_bounds,
)

Latency = float
SIGMA = 0.6
"""Of the logarithm of a request's latency."""
SWING, OWN_SWING = 0.06, 0.1
"""Of the logarithm of an hour's latencies: of both versions alike, and of the new one alone."""
Z95 = 1.6448536269514722
MIN_HOURS, MAX_HOURS = 24, 48
LEAST = 50
RISE_MARGINS = (0.02, 0.03)
"""Of the gates of errors and of format."""
MARGIN = 1.5
"""Of the latency gate, in old 95th percentiles."""
END = Literal["promoted", "rolled_back", "held"]


@dataclass(frozen=True)
class World:
    """What is true of the new version; the old one has 1 % errors and 3 % bad format."""

    errors: float = 0.01
    format: float = 0.03
    slower: float = 1.0
    """How many times longer its requests take."""


@dataclass(frozen=True)
class Outcome:
    """Shares of rollouts in percent, and the median hour of a rollback."""

    promoted: float
    rolled_back: float
    held: float
    hours: float


def simulate(
    rng: np.random.Generator,
    world: World,
    peak_rpm: float,
    replications: int,
    shares: tuple[float, ...] = (0.1, 0.5),
    alpha: float = 0.01,
) -> Outcome:
    """Let many rollouts run to their ends."""
    active = np.ones(replications, dtype=bool)
    rolled, held = np.zeros(replications, dtype=bool), np.zeros(replications, dtype=bool)
    hours = np.full(replications, np.nan)
    clock = np.zeros(replications)
    for share in shares:
        fails, passes = _stage(rng, world, peak_rpm, replications, share, alpha)
        ends = np.minimum(passes, MAX_HOURS)
        failing = active & (fails <= ends)
        hours[failing] = (clock + fails)[failing]
        rolled |= failing
        stuck = active & ~failing & ~np.isfinite(passes)
        held |= stuck
        active &= ~failing & ~stuck
        clock += np.where(np.isfinite(passes), passes, MAX_HOURS)
    late = hours[np.isfinite(hours)]
    return Outcome(
        100 * active.mean(), 100 * rolled.mean(), 100 * held.mean(),
        float(np.median(late)) if len(late) else np.nan,
    )  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """The counts of one stage in many rollouts."""

    errors: Paths
    format: Paths
    slow: Paths
    late: Paths
    """Of the same requests as `slow`."""


def _stage(
    rng: np.random.Generator,
    world: World,
    peak_rpm: float,
    replications: int,
    share: float,
    alpha: float,
) -> tuple[Array, Array]:
    """Return the hour at which a gate fails, and that at which all pass; infinity: never."""
    return ends(stage(rng, world, peak_rpm, replications, share), alpha)


def stage(
    rng: np.random.Generator, world: World, peak_rpm: float, replications: int, share: float
) -> Stage:
    """Draw a stage of every rollout."""
    hour = (9 + np.arange(MAX_HOURS)) % 24
    rate = 60 * peak_rpm * np.where((hour >= 9) & (hour < 18), 1.0, 0.05)
    size = (replications, MAX_HOURS)
    canary = rng.poisson(np.broadcast_to(rate * share, size))
    stable = rng.poisson(np.broadcast_to(rate * (1 - share), size))
    swing = rng.normal(0, SWING, size)
    shift = swing + rng.normal(0, OWN_SWING, size) + log(world.slower)

    def counts(mine: Array | float, other: Array | float) -> Paths:
        return Paths(
            rng.binomial(canary, mine).astype(float), canary.astype(float),
            rng.binomial(stable, other).astype(float), stable.astype(float),
        )  # fmt: skip

    slow, late = (
        [stats.norm.sf(Z95 + (log(times) - each) / SIGMA) for each in (shift, swing)]
        for times in (1.0, MARGIN)
    )
    rises = [counts(world.errors, 0.01), counts(world.format, 0.03)]
    times = counts(*slow)
    beyond = Paths(
        rng.binomial(times.bad.astype(int), late[0] / slow[0]).astype(float), times.requests,
        rng.binomial(times.bad_stable.astype(int), late[1] / slow[1]).astype(float),
        times.requests_stable,
    )  # fmt: skip
    return Stage(rises[0], rises[1], times, beyond)


def ends(drawn: Stage, alpha: float) -> tuple[Array, Array]:
    """Return the hour at which a gate fails, and that at which all pass; infinity: never.

    In numpy what the gates' own rules say one by one; a test holds the two equal.
    """
    rises = (drawn.errors, drawn.format)
    fails = np.min(
        [*(flagged(each, 1.25, alpha) for each in rises),
         slow_or_late(drawn.slow, drawn.late, alpha)],
        axis=0,
    )  # fmt: skip
    canary = drawn.late.requests.cumsum(axis=1)
    good = canary >= LEAST
    for each, margin in zip(rises, RISE_MARGINS, strict=True):
        total = np.maximum(each.requests.cumsum(axis=1), 1)
        other = np.maximum(each.requests_stable.cumsum(axis=1), 1)
        upper = newcombe_upper(
            each.bad.cumsum(axis=1), total, each.bad_stable.cumsum(axis=1), other
        )
        good &= upper <= margin
    good &= wilson_bounds(drawn.late.bad.cumsum(axis=1), np.maximum(canary, 1))[1] <= LATE
    good[:, : MIN_HOURS - 1] = False
    passes = np.where(good.any(axis=1), good.argmax(axis=1) + 1.0, np.inf)
    return fails, passes
