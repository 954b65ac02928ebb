"""Whole rollouts in simulation: errors, format and latency judged together, hour by hour.

The client of the guide: peak requests per minute from 09 to 18, a twentieth of that otherwise;
stages of 10 % and 50 %, each at least 24 and at most 48 hours.
"""

from dataclasses import dataclass
from math import log
from typing import Literal

import numpy as np

from fleet.gates.intervals import normal_cdf
from fleet.gates.live import LATE
from tests.fleet.gates.simulation import Array, Paths, flagged, newcombe_upper, wilson_bounds

Latency = float
SIGMA = 0.6
"""Of the logarithm of a request's latency."""
Z95 = 1.6448536269514722
MIN_HOURS, MAX_HOURS = 24, 48
LEAST = 50
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


def _stage(
    rng: np.random.Generator,
    world: World,
    peak_rpm: float,
    replications: int,
    share: float,
    alpha: float,
) -> tuple[Array, Array]:
    """Return the hour at which a gate fails, and that at which all pass; infinity: never."""
    hour = (9 + np.arange(MAX_HOURS)) % 24
    rate = 60 * peak_rpm * np.where((hour >= 9) & (hour < 18), 1.0, 0.05)
    size = (replications, MAX_HOURS)
    canary = rng.poisson(np.broadcast_to(rate * share, size))
    stable = rng.poisson(np.broadcast_to(rate * (1 - share), size))
    shift = log(world.slower) / SIGMA
    slow = 1 - normal_cdf(Z95 - shift)
    beyond = 1 - normal_cdf(Z95 + log(1.5) / SIGMA - shift)
    kinds = [
        (world.errors, 0.01),
        (world.format, 0.03),
        (slow, LATE),
    ]
    drawn = [
        Paths(
            rng.binomial(canary, mine).astype(float), canary.astype(float),
            rng.binomial(stable, other).astype(float), stable.astype(float),
        )
        for mine, other in kinds
    ]  # fmt: skip
    fails = np.min([flagged(each, 1.25, alpha) for each in drawn], axis=0)
    late = rng.binomial(drawn[2].bad.astype(int), beyond / slow).astype(float)
    good = np.cumsum(canary, axis=1) >= LEAST
    for each, margin in zip(drawn[:2], (0.02, 0.03), strict=True):
        total = np.maximum(each.requests.cumsum(axis=1), 1)
        other = np.maximum(each.requests_stable.cumsum(axis=1), 1)
        upper = newcombe_upper(
            each.bad.cumsum(axis=1), total, each.bad_stable.cumsum(axis=1), other
        )
        good &= upper <= margin
    total = np.maximum(np.cumsum(canary, axis=1), 1).astype(float)
    good &= wilson_bounds(late.cumsum(axis=1), total)[1] <= LATE
    good[:, : MIN_HOURS - 1] = False
    passes = np.where(good.any(axis=1), good.argmax(axis=1) + 1.0, np.inf)
    return fails, passes
