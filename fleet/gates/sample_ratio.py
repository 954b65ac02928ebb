"""Compares the seen split with the declared split: a sample ratio mismatch voids evidence.

Each user, or each request where users are unknown, falls on a version by one draw of a keyed hash.
Shares that the draws do not bear out mean that requests are missing or come from elsewhere.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from fleet.gates.own_control import names_users

MISMATCH = 0.001
"""Upper bound of the chance that a stage ever calls a correct split wrong, over all looks."""
MATERIAL = 0.05
"""Of the smaller side, how much may be missing or too much: so little moves no bound further than
its own uncertainty of 5 %, and a million requests would find a twentieth of that.
"""
BELIEF = 100.0
"""Draws that the alternative is worth: shares some 3 points beside a wanted 10 %."""

Draws = dict[float, tuple[float, float]]
"""By the share that was wanted, 0 to 1: how many fell on the new version, and on both."""


def mismatch(counts: Mapping[str, Any], limits: Mapping[str, float]) -> str:
    """Say that the split differs from the declared split; empty: the sides can be compared.

    Args:
        counts: A finding's; `split` and `split_stable` are draws, `percent` what was wanted.
        limits: Its `mismatch` and `material`; without them the split is not checked.
    """
    draws = draws_of(counts)
    got, total = (sum(draw[place] for draw in draws.values()) for place in (0, 1))
    expected = sum(share * both for share, (_, both) in draws.items())
    if "mismatch" not in limits:
        return ""
    material = limits["material"] * min(expected, total - expected)
    value = math.prod(e_value(mine, both, share) for share, (mine, both) in draws.items())
    if abs(got - expected) <= material or value * limits["mismatch"] < 1:
        return ""
    what = "users" if names_users(counts) else "requests"
    return (
        f"the new version got {got / total * 100:.3g} % of {total:.0f} {what} and not "
        f"{expected / total * 100:.3g} %"
    )


def sound_windows(counts: Mapping[str, Any], chance: float) -> int:
    """Return the number of windows before a split went wrong that is wrong by now.

    From there on the evidence is largest, or less by a factor of `1 / chance` at most.
    """
    logs = []
    for first in range(len(counts["percent"])):
        since = {name: counts[name][first:] for name in ("percent", "split", "split_stable")}
        logs.append(sum(_log_e_value(*draw, share) for share, draw in draws_of(since).items()))
    return next(n for n, log in enumerate(logs) if log >= max(logs) + math.log(chance))


def unchecked(counts: Mapping[str, Any]) -> str:
    """Say that a split cannot be checked, where requests name no users."""
    wanted = any(percent >= 0 for percent in counts.get("percent", ()))
    asked = any(counts["requests"]) or any(counts.get("requests_stable", ()))
    if not wanted or not asked or any(counts["split"]) or any(counts["split_stable"]):
        return ""
    return ", whose split is not checked, for nothing tells which are of one user"


def e_value(got: float, total: float, share: float) -> float:
    """Return the evidence that draws do not fall on the watched side with the chance `share`.

    If the draws have that chance, the evidence exceeds `1 / alpha` with a chance of at most
    `alpha`, over any number of looks. Upper bound of the value: 1e300.

    Source:
        Lindon and Malek 2022, Anytime-Valid Inference for Multinomial Count Data, NeurIPS: the
        ratio of a Dirichlet-multinomial mixture to the wanted multinomial; here of two outcomes.
    """
    return math.exp(min(690.0, _log_e_value(got, total, share)))


def _log_e_value(got: float, total: float, share: float) -> float:
    mine, other = BELIEF * share, BELIEF * (1 - share)
    if not total or not 0 < share < 1:
        return 0.0
    log = _log_beta(mine + got, other + total - got) - _log_beta(mine, other)
    return log - got * math.log(share) - (total - got) * math.log1p(-share)


def _log_beta(one: float, other: float) -> float:
    return math.lgamma(one) + math.lgamma(other) - math.lgamma(one + other)


def draws_of(counts: Mapping[str, Any]) -> Draws:
    """Return the draws of a finding."""
    found: Draws = defaultdict(lambda: (0.0, 0.0))
    for wanted, mine, other in zip(
        counts["percent"], counts["split"], counts["split_stable"], strict=True
    ):
        if wanted >= 0:
            got, total = found[wanted / 100]
            found[wanted / 100] = (got + mine, total + mine + other)
    return found
