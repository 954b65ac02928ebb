"""Splits in simulation: many stages at once, looked at after each hour, by the rule itself."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from fleet.gates.sample_ratio import MATERIAL, MISMATCH, mismatch
from tests.fleet.gates.simulation import Array

LOOKS = 48
LIMITS = {"mismatch": MISMATCH, "material": MATERIAL}
Hourly = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Draws on the new version, and all draws, one row a stage, one column an hour."""


@dataclass(frozen=True)
class Crowd:
    """Users of whom a few ask most of the time; each stays on one version."""

    users: int
    requests: int
    """Of all users in the whole stage; how many each asks is log-normal."""
    heavy: float = 2.0
    """Of the logarithm of a user's requests; 2: a hundredth of the users ask 36 % of it all."""


def requests(
    rng: np.random.Generator, stages: int, per_hour: float, share: float, hours: int = LOOKS
) -> Hourly:
    """Draw requests that are split one by one."""
    both = rng.poisson(per_hour, (stages, hours))
    return rng.binomial(both, share), both


def users(
    rng: np.random.Generator, stages: int, crowd: Crowd, share: float, hours: int = LOOKS
) -> tuple[Hourly, Hourly]:
    """Draw stages of users; returns their arrivals, and their requests as if each were a draw."""
    shape = (stages, hours)
    arrived = (np.zeros(shape, np.int64), np.zeros(shape, np.int64))
    asked = (np.zeros(shape, np.int64), np.zeros(shape, np.int64))
    for stage in range(stages):
        weight = rng.lognormal(0, crowd.heavy, crowd.users)
        many = rng.poisson(crowd.requests * weight / weight.sum())
        who = np.repeat(np.arange(crowd.users), many)
        hour = rng.integers(0, hours, len(who))
        mine = rng.random(crowd.users) < share
        first = np.full(crowd.users, hours)
        np.minimum.at(first, who, hour)
        seen = first < hours
        for which, weights in ((0, mine[seen]), (1, np.ones(seen.sum()))):
            arrived[which][stage] = np.bincount(first[seen], weights, hours)
        for which, weights in ((0, mine[who]), (1, np.ones(len(who)))):
            asked[which][stage] = np.bincount(hour, weights, hours)
    return arrived, asked


def voided(drawn: Hourly, percent: int, limits: dict[str, float] = LIMITS) -> Array:
    """Return by stage the first look at which the rule voids its evidence, or infinity."""
    return np.array([_first(mine, both, percent, limits) for mine, both in _stages(drawn)])


def _stages(drawn: Hourly) -> Iterator[tuple[list[int], list[int]]]:
    yield from zip(*(np.cumsum(each, axis=1).tolist() for each in drawn), strict=True)


def _first(mine: list[int], both: list[int], percent: int, limits: dict[str, float]) -> float:
    for look, (got, total) in enumerate(zip(mine, both, strict=True), 1):
        counts = {"percent": (percent,), "split": (got,), "split_stable": (total - got,)}
        if mismatch(counts, limits):
            return float(look)
    return float("inf")


def naive(drawn: Hourly, percent: int) -> Array:
    """Return the first look at which a usual test of the split so far has a p-value below 0.001."""
    mine, both = (np.cumsum(each, axis=1) for each in drawn)
    share = percent / 100
    off = np.abs(mine - both * share) / np.sqrt(np.maximum(both * share * (1 - share), 1e-9))
    hit = off > stats.norm.isf(MISMATCH / 2)
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1.0, np.inf)
