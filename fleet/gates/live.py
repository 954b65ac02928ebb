"""Judges live gates: the new version's requests against the old one's, window by window."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fleet.gates.counts import Window, counts_of
from fleet.gates.decide import (
    ALONE,
    BOTH,
    BOTH_BY_USER,
    RATE,
    RATIO,
    RISE,
    Estimate,
    Limits,
    Moment,
    Series,
    by_user,
    conclude,
)
from fleet.gates.design_effect import SideCounts, design_effects
from fleet.gates.intervals import newcombe, wilson
from fleet.gates.sample_ratio import MATERIAL, MISMATCH
from fleet.gates.sequential import rate_test, share_test
from fleet.gates.verdict import Counts, Finding, Verdict, percent_text, points_text
from fleet.rollout_policy import RATIOS, RISES, GateSpec

BROKEN = 0.5
"""Share of bad requests above which an old version is nothing to compare with."""
ALL, LEAST_USERS = 0.9, 2
"""Share of bad requests, and least number of users with the share, that need no test."""
LATE = 0.05
"""Part of the requests that may exceed a limit for the 95th percentile."""


def judge_live(
    gate: GateSpec, windows: Sequence[Window], *, alone: bool = False, missing: Sequence[str] = ()
) -> Finding:
    """Judge a stage by all its windows, oldest first. May be asked at any time.

    FAIL holds from the first window at which it did. PASS and INCONCLUSIVE are what the counts
    say now; whether the stage may end is for others to decide.

    Args:
        gate: Metric and limit.
        windows: Counts of the stage; for a neighbour gate those of other adapters on servers
            with the new version, and on servers without it.
        alone: No other adapter shares a server with the new version, so that a neighbour gate
            has nothing to protect.
        missing: Why requests of this stage may be lacking, a sentence for each gateway. The
            requests that are there may still fail the version; nothing passes it.
    """
    counts = dict(counts_of(gate, windows))
    if missing:
        counts["missing"] = float(len(missing))
    limits = limits_of(gate) | {"mismatch": MISMATCH, "material": MATERIAL}
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
    """Pass a neighbour gate where no other adapter shares a server."""
    reason = "no other adapter shares a server with it"
    return Finding(
        gate, metric, Verdict.PASS, ALONE, None, None, None, None, counts, limits, reason
    )


def judge_rise(gate: str, metric: str, counts: Series, limits: Limits) -> Finding:
    """Judge rates against the old version's: share test for FAIL, Newcombe bound for PASS."""
    mine, other = SideCounts.of(counts), SideCounts.of(counts, "_stable")
    effect, effect_other = design_effects((mine, other))
    lower, upper = newcombe(
        mine.bad / effect,
        mine.requests / effect,
        other.bad / effect_other,
        other.requests / effect_other,
    )
    # Beside an old version that is broken itself nothing looks worse.
    sound = other.requests > 0 and other.bad <= BROKEN * other.requests
    passes = upper <= limits["margin"] and sound
    about = (
        f"{mine.bad:g} of {mine.requests:g} bad, the old version {other.bad:g} of "
        f"{other.requests:g} (95 % sure: at most {points_text(upper)} more)"
        + ("" if sound or not other.requests else ", which is broken itself and shows nothing")
    )
    estimate = mine.rate - other.rate if mine.requests and other.requests else None
    limit, independent = points_text(limits["margin"]), mine.requests / effect
    made = Estimate(
        RISE,
        estimate,
        lower,
        upper,
        passes,
        about,
        limit,
        independent,
        _collapsed(mine, other, limits["least_requests"]),
    )
    return conclude(gate, metric, made, _shares(counts, limits["tolerate"]), counts, limits)


def judge_ratio(gate: str, metric: str, counts: Series, limits: Limits) -> Finding:
    """Judge a 95th percentile: share tests for FAIL, Wilson bound on late requests for PASS.

    Slow is above the old p95, which is soon told; late is beyond the margin, which still tells
    where times are so alike that a little load makes all requests of both versions slow.
    """
    late, other = SideCounts.of(counts, prefix="late"), SideCounts.of(counts, "_stable", "late")
    effect = design_effects((late, other) if "late_units" in counts else (late,))[0]
    independent, margin = late.requests / effect, limits["margin"]
    lower, upper = wilson(late.bad / effect, independent)
    about = f"{late.bad:g} of {late.requests:g} took over {margin:g} times the old p95"
    estimate = late.rate if late.requests else None
    passes, limit = upper <= LATE, f"p95 {margin:g} x"
    collapsed = _collapsed(late, other, limits["least_requests"])
    slow, beside = SideCounts.of(counts), SideCounts.of(counts, "_stable")
    who = "elsewhere" if metric == "neighbour_ratio" else "the old version"
    worse = (
        f"{slow.bad:g} of {slow.requests:g} took longer than the old p95, {who} {beside.bad:g} of "
        f"{beside.requests:g}"
    )
    made = Estimate(
        RATIO, estimate, lower, upper, passes, about, limit, independent, collapsed, worse
    )
    return conclude(gate, metric, made, _slow_or_late(counts, limits["tolerate"]), counts, limits)


def judge_rate(gate: str, metric: str, counts: Series, limits: Limits) -> Finding:
    """Judge a rate against a fixed limit: sequential test for FAIL, Wilson bound for PASS."""
    return judge_fixed(RATE, gate, metric, _rates(counts, limits["limit"]), counts, limits)


def judge_fixed(
    rule: str, gate: str, metric: str, moments: Iterator[Moment], counts: Series, limits: Limits
) -> Finding:
    """Judge a rate against a fixed limit: FAIL by the moments of a test, PASS by a Wilson bound."""
    side, limit = SideCounts.of(counts), limits["limit"]
    (effect,) = design_effects((side,))
    independent = side.requests / effect
    lower, upper = wilson(side.bad / effect, independent)
    most = percent_text(upper)
    about = f"{side.bad:g} of {side.requests:g} over the limit (95 % sure: at most {most})"
    estimate, text = side.rate if side.requests else None, f"{percent_text(limit)} of them"
    made = Estimate(rule, estimate, lower, upper, upper <= limit, about, text, independent)
    return conclude(gate, metric, made, moments, counts, limits)


def limits_of(gate: GateSpec) -> dict[str, float]:
    """Return the limits that every live rule has."""
    return {
        "margin": gate.margin,
        "tolerate": gate.tolerate,
        "alpha": gate.false_alarm,
        "least_requests": float(gate.min_requests),
    }


def _collapsed(mine: SideCounts, other: SideCounts, least: float) -> bool:
    """Say whether a version is broken for everybody, be they too few for any test.

    With 3 users no test of users ever fails a version, and they would be left with it for good.
    """
    enough = min(mine.requests, other.requests) >= least and mine.units >= LEAST_USERS
    return enough and mine.first == mine.units and mine.rate >= ALL and other.rate <= 1 - ALL


def _slow_or_late(counts: Series, tolerate: float) -> Iterator[Moment]:
    """Yield the moments of two share tests as a single test: a mean of e-values is an e-value."""
    late = requests = 0.0
    tests = (_shares(counts, tolerate), _shares(counts, tolerate, "late"))
    for slow, beyond, more, of in zip(*tests, counts["late"], counts["requests"], strict=True):
        late, requests = late + more, requests + of
        if late <= LATE * requests:  # the p95 is within its margin, and late ones no finding
            yield slow[0] / 2, *slow[1:]
        else:
            yield (slow[0] + beyond[0]) / 2, *max(slow, beyond)[1:]


def _shares(counts: Series, tolerate: float, kind: str = "bad") -> Iterator[Moment]:
    """Yield the share test's moments; the difference is the Mantel-Haenszel one."""
    names = [series.replace("bad", kind) for series in BOTH]
    whole = list(zip(*(counts[name] for name in names), strict=True))
    if by_user(counts):
        names = [series if kind == "bad" else f"{kind}_{series}" for series in BOTH_BY_USER]
    tested = list(zip(*(counts[name] for name in names), strict=True))
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
    tested = list(zip(*(counts[name] for name in names), strict=True))
    seen = bad = total = 0.0
    for value, hits, window in zip(rate_test(tested, limit), tested, whole, strict=True):
        seen += hits[0]
        bad += window[0]
        total += window[1]
        yield value, seen, bad / total - limit if total else 0.0
