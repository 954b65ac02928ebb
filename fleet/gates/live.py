"""Live gates: the new version's requests against the old one's, window by window."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fleet.conditions import RATIOS, RISES, Gate
from fleet.gates.clusters import Side, design_effects
from fleet.gates.intervals import newcombe, normal_cdf, wilson
from fleet.gates.sequential import rate_test, share_test
from fleet.gates.tally import Window, counts_of
from fleet.gates.verdict import Counts, Finding, Verdict, percent, points

LEAST_BAD = 5
"""Bad events of the new version below which nothing fails."""
LEAST_DIFFERENCE = 0.005
"""Difference of rates below which nothing fails."""
LATE = 0.05
"""Part of the requests that may exceed a limit for the 95th percentile."""
MISMATCH = 0.001
"""Below this p-value the split of the traffic is not the one that was wanted."""
MATERIAL = 1.25
"""How many times more or less than the wanted share is a fault: users who stay on one version
make a split uneven by chance, and the tests count with the share that there was.
"""
LEAST_VARIANCE = 5.0
"""Of the split, below which it is too small to be checked."""
RISE, RATIO, RATE, ALONE = "share_of_bad", "share_of_slow", "rate_of_bad", "no_neighbours"
Series = Mapping[str, Any]
"""Counts by window, and a few of the whole stage; `recompute` answers for others."""
Limits = Mapping[str, float]


def judge_live(
    gate: Gate, windows: Sequence[Window], *, alone: bool = False, missing: Sequence[str] = ()
) -> Finding:
    """Judge a stage by all its windows, oldest first. May be asked at any time.

    FAIL holds from the first window at which it did. PASS and INCONCLUSIVE are what the counts
    say now; whether the stage may end is for others to decide.

    Args:
        gate: What is asked.
        windows: Counts of the stage; for a neighbour gate those of other adapters on servers
            with the new version, and on servers without it.
        alone: No other adapter shares a server with the new version, so that a neighbour gate
            has nothing to protect.
        missing: Why requests of this stage may be lacking, a sentence for each gateway. What is
            there may still fail the version; nothing passes it.
    """
    counts = dict(counts_of(gate, windows))
    if missing:
        counts["missing"] = float(len(missing))
    limits = {
        "margin": gate.margin,
        "tolerate": gate.tolerate,
        "alpha": gate.false_alarm,
        "least_requests": float(gate.min_requests),
    }
    if alone and gate.metric == "neighbour_ratio":
        return judge_alone(gate.name, gate.metric, {}, {})
    if gate.metric in RISES:
        found = judge_rise(gate.name, gate.metric, counts, limits)
    elif gate.metric in RATIOS:
        found = judge_ratio(gate.name, gate.metric, counts, limits)
    else:
        limits["limit"] = gate.margin if gate.metric == "error_rate" else LATE
        found = judge_rate(gate.name, gate.metric, counts, limits)
    return replace(found, reason="; ".join((found.reason, *missing))) if missing else found


def judge_alone(gate: str, metric: str, counts: Counts, limits: Limits) -> Finding:
    """Pass a neighbour gate where nobody could be disturbed."""
    reason = "no other adapter shares a server with it"
    return Finding(
        gate, metric, Verdict.PASS, ALONE, None, None, None, None, counts, limits, reason
    )


def judge_rise(gate: str, metric: str, counts: Series, limits: Limits) -> Finding:
    """Judge rates against the old version's: share test for FAIL, Newcombe bound for PASS."""
    mine, other = Side.of(counts), Side.of(counts, "_stable")
    effect, effect_other = design_effects((mine, other))
    lower, upper = newcombe(
        mine.bad / effect,
        mine.requests / effect,
        other.bad / effect_other,
        other.requests / effect_other,
    )
    passes = upper <= limits["margin"] and other.requests > 0
    about = (
        f"{mine.bad:g} of {mine.requests:g} bad, the old version {other.bad:g} of "
        f"{other.requests:g} (95 % sure: at most {points(upper)} more)"
    )
    estimate = mine.rate - other.rate if mine.requests and other.requests else None
    limit, independent = points(limits["margin"]), mine.requests / effect
    made = Judgement(RISE, estimate, lower, upper, passes, about, limit, independent)
    return conclude(gate, metric, made, _shares(counts, limits["tolerate"]), counts, limits)


def judge_ratio(gate: str, metric: str, counts: Series, limits: Limits) -> Finding:
    """Judge a 95th percentile: share test on slow requests, Wilson bound on late ones."""
    sides = [Side.of(counts, prefix="late")]
    if "late_units" in counts:
        sides.append(Side.of(counts, "_stable", "late"))
    late, effect = sides[0], design_effects(sides)[0]
    independent, margin = late.requests / effect, limits["margin"]
    lower, upper = wilson(late.bad / effect, independent)
    about = f"{late.bad:g} of {late.requests:g} took over {margin:g} times the old p95"
    estimate = late.rate if late.requests else None
    passes, limit = upper <= LATE, f"p95 {margin:g} x"
    made = Judgement(RATIO, estimate, lower, upper, passes, about, limit, independent)
    return conclude(gate, metric, made, _shares(counts, limits["tolerate"]), counts, limits)


def judge_rate(gate: str, metric: str, counts: Series, limits: Limits) -> Finding:
    """Judge a rate against a fixed one: sequential test for FAIL, Wilson bound for PASS."""
    side, limit = Side.of(counts), limits["limit"]
    (effect,) = design_effects((side,))
    independent = side.requests / effect
    lower, upper = wilson(side.bad / effect, independent)
    about = (
        f"{side.bad:g} of {side.requests:g} over the limit (95 % sure: at most {percent(upper)})"
    )
    estimate, text = side.rate if side.requests else None, f"{percent(limit)} of them"
    made = Judgement(RATE, estimate, lower, upper, upper <= limit, about, text, independent)
    return conclude(gate, metric, made, _rates(counts, limit), counts, limits)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the counts say now."""

    rule: str
    estimate: float | None
    lower: float
    upper: float
    passes: bool
    about: str
    limit: str
    independent: float
    """Requests of the new version, as many as they are worth where users ask again and again."""


Moment = tuple[float, float, float]
"""After a window: the e-value, users with a bad request, by how much the rate is too high."""
_BOTH = ("bad", "requests", "bad_stable", "requests_stable")
_BOTH_BY_USER = ("first", "at_risk", "first_stable", "at_risk_stable")


def _shares(counts: Series, tolerate: float) -> Iterator[Moment]:
    """Yield the share test's moments; the difference is the Mantel-Haenszel one."""
    whole = list(zip(*(counts[each] for each in _BOTH), strict=True))
    names = _BOTH_BY_USER if by_user(counts) else _BOTH
    tested = list(zip(*(counts[each] for each in names), strict=True))
    seen = above = weight = 0.0
    for value, hits, (bad, total, other, total_other) in zip(
        share_test(tested, tolerate), tested, whole, strict=True
    ):
        seen += hits[0]
        both = total + total_other
        above += (bad * total_other - other * total) / both if both else 0.0
        weight += total * total_other / both if both else 0.0
        yield value, seen, above / weight if weight else 0.0


def _rates(counts: Series, limit: float) -> Iterator[Moment]:
    whole = list(zip(counts["bad"], counts["requests"], strict=True))
    names = ("first", "at_risk") if by_user(counts) else ("bad", "requests")
    tested = list(zip(*(counts[each] for each in names), strict=True))
    seen = bad = total = 0.0
    for value, hits, window in zip(rate_test(tested, limit), tested, whole, strict=True):
        seen += hits[0]
        bad += window[0]
        total += window[1]
        yield value, seen, bad / total - limit if total else 0.0


def by_user(counts: Series) -> bool:
    """Say whether requests are counted by user; without users there is nothing to count by."""
    return "first" in counts


def conclude(
    gate: str,
    metric: str,
    made: Judgement,
    moments: Iterator[Moment],
    counts: Series,
    limits: Limits,
) -> Finding:
    """Return the finding: FAIL at the first moment that shows it, else what the counts say."""
    value, failed = 1.0, False
    for value, bad, difference in moments:
        failed = (
            value * limits["alpha"] >= 1 and bad >= LEAST_BAD and difference >= LEAST_DIFFERENCE
        )
        if failed:
            break
    requests, least = sum(counts["requests"]), f"{limits['least_requests']:g}"
    split = _mismatch(counts)
    if split:
        verdict, why = Verdict.INCONCLUSIVE, split
    elif failed:
        verdict, why = Verdict.FAIL, f"worse, with an e-value of {value:.3g}"
    elif counts.get("missing"):
        verdict, why = Verdict.INCONCLUSIVE, "nothing passes while a gateway is missing"
    elif requests < limits["least_requests"]:
        verdict, why = Verdict.INCONCLUSIVE, f"nothing passes on fewer than {least} requests"
    elif made.independent < limits["least_requests"]:
        verdict = Verdict.INCONCLUSIVE
        why = f"its users ask often, and nothing passes on fewer than {least} independent requests"
    elif made.passes:
        verdict, why = Verdict.PASS, f"within {made.limit}"
    else:
        verdict, why = Verdict.INCONCLUSIVE, f"neither worse nor surely within {made.limit}"
    return Finding(
        gate,
        metric,
        verdict,
        made.rule,
        made.estimate,
        made.lower if requests else None,
        made.upper if requests else None,
        value,
        counts,
        limits,
        f"{made.about}{_users(counts)}: {why}",
        _power(made.rule, counts, limits),
    )


def _power(rule: str, counts: Series, limits: Limits) -> str:
    """Say how many bad requests would have failed the version, had they come all at once."""
    names = ("at_risk", "first_stable", "at_risk_stable") if by_user(counts) else _BOTH[1:]
    requests, bad, others = (float(sum(counts.get(each, ()))) for each in names)
    compared = rule in (RISE, RATIO)
    if not requests or (compared and not others):
        return ""
    usual = bad / others if compared else limits["limit"]

    def fails(hits: int) -> bool:
        test = (
            share_test([(hits, requests, bad, others)], limits["tolerate"])
            if compared
            else rate_test([(hits, requests)], usual)
        )
        enough = hits >= LEAST_BAD and hits / requests - usual >= LEAST_DIFFERENCE
        return enough and next(test) * limits["alpha"] >= 1

    low, high = LEAST_BAD, int(requests) + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fails(middle) else (middle + 1, high)
    if low > requests:
        return "so few requests could not have failed it"
    return f"{low} of {requests:g} bad at once would have failed it ({percent(low / requests)})"


def _users(counts: Series) -> str:
    """Say how many users are behind the requests, and of how many nobody knows."""
    unnamed = counts.get("unnamed", 0)
    nobody = f"{unnamed:g} requests name no user and count one by one" if unnamed else ""
    if not by_user(counts):
        return f", {nobody}" if nobody else ""
    other = f" and {counts['units_stable']:g}" if "units_stable" in counts else ""
    users = f", of {counts['units']:g}{other} users"
    return f"{users} ({nobody})" if nobody else users


def _mismatch(counts: Series) -> str:
    """Say that the split is not the wanted one; then the two sides cannot be compared."""
    got = expected = total = variance = 0.0
    for wanted, mine, other in zip(
        counts["percent"], counts["split"], counts["split_stable"], strict=True
    ):
        if wanted >= 0:
            both, share = mine + other, wanted / 100
            got, total, expected = got + mine, total + both, expected + both * share
            variance += both * share * (1 - share)
    if variance < LEAST_VARIANCE:
        return ""
    p_value = 2 * normal_cdf(-abs(got - expected) / math.sqrt(variance))
    if p_value >= MISMATCH or expected / MATERIAL <= got <= expected * MATERIAL:
        return ""
    return (
        f"void, for the new version got {percent(got / total)} of the traffic and not "
        f"{percent(expected / total)}"
    )
