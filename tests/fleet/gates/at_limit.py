"""Plays versions that are exactly at their limit through the bound of a PASS, hour after hour."""

import numpy as np

from fleet.gates.sequential import Z_EARLY, Z_LAST, quantile
from fleet.rollouts.stage_traffic import newcombe_uppers

LONGEST, REPLICATIONS = 48, 4000
USUAL, MARGIN, LEAST_REQUESTS = 0.01, 0.02, 20
EARLY, LAST = 0.1, 0.5
"""Shares of the stages."""
Z_95 = 1.6448536269514722


def passed(
    share: float, z: float, hourly: int, first: int, *, longest: int = LONGEST, fixed: bool = False
) -> float:
    """Return how often a stage is passed that is looked at every hour from the first look on.

    `z`: the normal quantile at the end; `fixed`: the quantile is the same at all looks.
    """
    rng = np.random.default_rng(1)
    looks = np.arange(first, longest + 1)
    asked = [np.floor(hourly * part * looks).astype(int) for part in (share, 1 - share)]
    new = [np.diff(total, prepend=0) for total in asked]
    mine, other = (
        np.cumsum(rng.binomial(number, rate, (REPLICATIONS, looks.size)), axis=1).astype(float)
        for number, rate in zip(new, (USUAL + MARGIN, USUAL), strict=True)
    )
    limits = {"z": z} if fixed else {"z": z, "longest": float(longest)}
    now = [
        quantile({"requests": (of,), "requests_stable": (more,), "hourly": hourly}, limits)
        for of, more in zip(*asked, strict=True)
    ]
    upper = newcombe_uppers(mine, asked[0], other, asked[1], np.array(now))
    return float(((upper <= MARGIN) & (asked[0] >= LEAST_REQUESTS)).any(axis=1).mean())


def promoted(hourly: int, bake: int, longest: int = LONGEST, *, fixed: bool = False) -> float:
    """Return how often a rollout of two stages is promoted, whose requests are independent.

    `fixed`: by one-sided bounds of 80 and 95 % at all looks.
    """
    early = passed(EARLY, Z_EARLY, hourly, bake, longest=longest, fixed=fixed)
    z = Z_95 if fixed else Z_LAST
    return early * passed(LAST, z, hourly, bake, longest=longest, fixed=fixed)
