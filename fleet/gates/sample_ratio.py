"""Compares the seen split with the declared split, and weighs harm that a wrong split hides.

Each user, or each request where users are unknown, falls on a version by one draw of a keyed hash.
Shares that the draws do not bear out mean that requests are missing or come from elsewhere.
"""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from fleet.gates.own_control import names_users
from fleet.gates.sequential import Beside, rate_test, rise_test

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


MISPLACED = 0.001
"""Upper bound of the chance that more draws are misplaced or missing than are counted so."""
MOST_MISSING = 10**9


def best_cases(
    counts: Mapping[str, Any], limits: Mapping[str, float], tolerated: float, allowed: float
) -> Iterator[tuple[float, float, float]]:
    """Yield e-value, bad draws and difference of rates: with moved draws, then with missing ones.

    A draw is a user, or a request where users are unknown. A draw is bad with one bad request or
    more, so that a misplaced user counts once, however often the user asked.

    Args:
        counts: A finding's.
        limits: Its `misplaced`; and `limit`, where the rate is judged by itself.
        tolerated: The ratio of the two rates that is no finding yet.
        allowed: The difference of the two rates, of requests, that is no finding yet.
    """
    kind = "alarm_" if "alarm_people" in counts else ""
    bad, bad_other = (float(sum(counts[f"{kind}people{side}"])) for side in ("", "_stable"))
    draws, draws_other = (float(counts[f"{kind}units{side}"]) for side in ("", "_stable"))
    at_risk, at_risk_other = (
        float(sum(counts[f"{kind}at_risk{side}"])) for side in ("", "_stable")
    )
    moved = missing = moved_old = missing_old = 0
    for share, (got, total) in draws_of(counts).items():
        most_moved, most_missing = _too_many(got, total, share, limits["misplaced"])
        moved, missing = moved + most_moved, missing + most_missing
        most_moved, most_missing = _too_many(total - got, total, 1 - share, limits["misplaced"])
        moved_old, missing_old = moved_old + most_moved, missing_old + most_missing
    # Draws that the new version has too many were bad, those that the old one has were good.
    sure, shifted = max(0.0, bad - moved), moved - moved_old
    if not sure:
        yield 1.0, 0.0, 0.0
        return
    by_draw, by_any_draw = at_risk / draws, (at_risk + at_risk_other) / (draws + draws_other)
    for requests, hits, of, hits_other, total_other in (
        (by_any_draw, sure, draws - shifted, bad_other + bad - sure, draws_other + shifted),
        (by_draw, bad, draws + missing_old, bad_other + missing, draws_other + missing),
    ):
        of_other = max(hits_other, total_other)  # a kind may be told of fewer than were drawn
        # Of n requests of a user the chance of a bad one is at most n times that of a request.
        if "limit" in limits:
            (value,) = rate_test([(hits, of * requests)], limits["limit"])
            yield value, hits, hits / of / requests - limits["limit"]
            continue
        beside = Beside(hits, of, of, hits_other, of_other, of_other)
        (value,) = rise_test([beside], tolerated, allowed * requests)
        yield value, hits, hits / of - (hits_other / of_other if of_other else 1.0)


def first_windows(counts: Mapping[str, Any], last: int) -> dict[str, Any]:
    """Return the counts of the first windows of a stage; units come at the pace of the draws."""
    cut = {name: n[:last] if isinstance(n, Sequence) else n for name, n in counts.items()}
    for kind, side in product(("", "alarm_"), ("", "_stable")):
        if (units := f"{kind}units{side}") in counts:
            draws, seen = (sum(of[f"split{side}"]) for of in (counts, cut))
            by_pace = counts[units] * (seen / draws if draws else 1.0)
            cut[units] = max(sum(cut[f"{kind}people{side}"]), by_pace)
    return cut


def _too_many(got: float, total: float, share: float, chance: float) -> tuple[int, int]:
    """Return the most draws that a side can have too many: if moved, and if others are missing."""
    if not 0 < share < 1 or got <= share * total:
        return 0, 0

    def is_beyond(mine: float, both: float) -> bool:
        return e_value(mine, both, share) * chance >= 1

    lost, least, fewest = range(MOST_MISSING), int(got - share * total), int(got / share - total)
    return (
        bisect_left(range(int(got)), True, lo=least, key=lambda n: is_beyond(got - n, total)),
        bisect_left(lost, True, lo=fewest, key=lambda n: is_beyond(got, total + n)),
    )
