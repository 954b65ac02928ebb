"""Says how sure a PASS on traffic has to be: by stage, and by the requests so far."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from fleet.gates.intervals import normal_cdf
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
