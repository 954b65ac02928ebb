"""Live gates: the new version's requests against the old one's, window by window."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fleet.conditions import RATIOS, RISES, Gate
from fleet.gates.intervals import newcombe, normal_cdf, wilson
from fleet.gates.sequential import rate_test, share_test
from fleet.gates.tally import Window, counts_of
from fleet.gates.verdict import Finding, Verdict, percent, points

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
Series = Mapping[str, Sequence[float]]
Limits = Mapping[str, float]


def judge_live(gate: Gate, windows: Sequence[Window], *, alone: bool = False) -> Finding:
    """Judge a stage by all its windows, oldest first. May be asked at any time.

    FAIL holds from the first window at which it did. PASS and INCONCLUSIVE are what the counts
    say now; whether the stage may end is for others to decide.

    Args:
        gate: What is asked.
        windows: Counts of the stage; for a neighbour gate those of other adapters on servers
            with the new version, and on servers without it.
        alone: No other adapter shares a server with the new version, so that a neighbour gate
            has nothing to protect.
    """
    counts = counts_of(gate, windows)
    limits = {
        "margin": gate.margin,
        "tolerate": gate.tolerate,
        "alpha": gate.false_alarm,
        "least_requests": float(gate.min_requests),
    }
    if alone and gate.metric == "neighbour_ratio":
        return judge_alone(gate.name, gate.metric, {}, {})
    if gate.metric in RISES:
        return judge_rise(gate.name, gate.metric, counts, limits)
    if gate.metric in RATIOS:
        return judge_ratio(gate.name, gate.metric, counts, limits)
    limits["limit"] = gate.margin if gate.metric == "error_rate" else LATE
    return judge_rate(gate.name, gate.metric, counts, limits)


def judge_alone(gate: str, metric: str, counts: Series, limits: Limits) -> Finding:
    """Pass a neighbour gate where nobody could be disturbed."""
    reason = "no other adapter shares a server with it"
    return Finding(
        gate, metric, Verdict.PASS, ALONE, None, None, None, None, counts, limits, reason
    )


def judge_rise(gate: str, metric: str, counts: Series, limits: Limits) -> Finding:
    """Judge rates against the old version's: share test for FAIL, Newcombe bound for PASS."""
    bad, requests = sum(counts["bad"]), sum(counts["requests"])
    other, requests_other = sum(counts["bad_stable"]), sum(counts["requests_stable"])
    lower, upper = newcombe(bad, requests, other, requests_other)
    passes = upper <= limits["margin"] and requests_other > 0
    about = (
        f"{bad:g} of {requests:g} bad, the old version {other:g} of {requests_other:g} "
        f"(95 % sure: at most {points(upper)} more)"
    )
    estimate = bad / requests - other / requests_other if requests and requests_other else None
    made = _Judged(RISE, estimate, lower, upper, passes, about, points(limits["margin"]))
    return _judge(gate, metric, made, _shares(counts, limits["tolerate"]), counts, limits)


def judge_ratio(gate: str, metric: str, counts: Series, limits: Limits) -> Finding:
    """Judge a 95th percentile: share test on slow requests, Wilson bound on late ones."""
    beyond, requests, margin = sum(counts["late"]), sum(counts["requests"]), limits["margin"]
    lower, upper = wilson(beyond, requests)
    about = f"{beyond:g} of {requests:g} took over {margin:g} times the old p95"
    estimate = beyond / requests if requests else None
    made = _Judged(RATIO, estimate, lower, upper, upper <= LATE, about, f"p95 {margin:g} x")
    return _judge(gate, metric, made, _shares(counts, limits["tolerate"]), counts, limits)


def judge_rate(gate: str, metric: str, counts: Series, limits: Limits) -> Finding:
    """Judge a rate against a fixed one: sequential test for FAIL, Wilson bound for PASS."""
    bad, requests, limit = sum(counts["bad"]), sum(counts["requests"]), limits["limit"]
    lower, upper = wilson(bad, requests)
    about = f"{bad:g} of {requests:g} over the limit (95 % sure: at most {percent(upper)})"
    estimate = bad / requests if requests else None
    made = _Judged(RATE, estimate, lower, upper, upper <= limit, about, f"{percent(limit)} of them")
    return _judge(gate, metric, made, _rates(counts, limit), counts, limits)


@dataclass(frozen=True, slots=True)
class _Judged:
    """What the counts say now."""

    rule: str
    estimate: float | None
    lower: float
    upper: float
    passes: bool
    about: str
    limit: str


Moment = tuple[float, float, float]
"""After a window: the e-value, bad events so far, by how much the rate is above the other."""


def _shares(counts: Series, tolerate: float) -> Iterator[Moment]:
    """Yield the share test's moments; the difference is the Mantel-Haenszel one."""
    windows = list(
        zip(
            counts["bad"],
            counts["requests"],
            counts["bad_stable"],
            counts["requests_stable"],
            strict=True,
        )
    )
    seen = above = weight = 0.0
    for value, (bad, total, other, total_other) in zip(
        share_test(windows, tolerate), windows, strict=True
    ):
        seen += bad
        both = total + total_other
        above += (bad * total_other - other * total) / both if both else 0.0
        weight += total * total_other / both if both else 0.0
        yield value, seen, above / weight if weight else 0.0


def _rates(counts: Series, limit: float) -> Iterator[Moment]:
    windows = list(zip(counts["bad"], counts["requests"], strict=True))
    seen = total = 0.0
    for value, (bad, requests) in zip(rate_test(windows, limit), windows, strict=True):
        seen += bad
        total += requests
        yield value, seen, seen / total - limit if total else 0.0


def _judge(
    gate: str,
    metric: str,
    made: _Judged,
    moments: Iterator[Moment],
    counts: Series,
    limits: Limits,
) -> Finding:
    value, failed = 1.0, False
    for value, bad, difference in moments:
        failed = (
            value * limits["alpha"] >= 1 and bad >= LEAST_BAD and difference >= LEAST_DIFFERENCE
        )
        if failed:
            break
    requests = sum(counts["requests"])
    split = _mismatch(counts)
    if split:
        verdict, why = Verdict.INCONCLUSIVE, split
    elif failed:
        verdict, why = Verdict.FAIL, f"worse, with an e-value of {value:.3g}"
    elif requests < limits["least_requests"]:
        least = f"{limits['least_requests']:g}"
        verdict, why = Verdict.INCONCLUSIVE, f"nothing passes on fewer than {least} requests"
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
        f"{made.about}: {why}",
    )


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
