"""After the cut-over: no old version answers beside the new one, so the past is the measure.

A rise is measured against the rate that the old version had in the days before the rollout, a
time against its 95th percentile in those days. Days differ more than two versions at one time do,
so that more is forgiven here; and where others on the same servers fare as badly at that time, the
hour says nothing about the version.
"""

from collections.abc import Sequence
from dataclasses import replace

from fleet.conditions import RATIOS, RISES, Gate
from fleet.gates.clusters import Side, design_effects
from fleet.gates.intervals import wilson
from fleet.gates.live import LATE, LEAST_BAD, judge_live, judge_rate
from fleet.gates.tally import BAD, Window, counts_of, late
from fleet.gates.verdict import Finding, Verdict, percent

TIMES = 2.0
"""Least factor of the old 95th percentile that is a fault; a gate may ask for less beside it."""
LARGEST = 0.95
"""Limit of a rate beyond which nothing can be told from it."""


def soaking(gate: Gate) -> Gate:
    """Return the gate as it is asked once the version has all traffic."""
    if gate.metric not in RATIOS or gate.metric == "neighbour_ratio":
        return gate
    return replace(gate, threshold=max(TIMES, gate.threshold))


def judge_soaking(
    gate: Gate,
    windows: Sequence[Window],
    before: Sequence[Window],
    *,
    missing: Sequence[str] = (),
) -> Finding:
    """Judge a version that has all traffic. FAIL holds from the first window at which it did.

    Args:
        gate: As `soaking` returns it; neighbours are judged as ever.
        windows: Counts since the cut-over; the old version has none in them.
        before: Counts of the old version before the rollout began.
        missing: As of `judge_live`.
    """
    if gate.metric not in RISES and gate.metric not in RATIOS:
        return judge_live(gate, windows, missing=missing)
    alone = Gate(gate.name, "error_rate", 0, "%")
    kind = BAD.get(gate.metric) or late(gate.name)
    counts = counts_of(alone, windows, kind)
    limits = {
        "margin": gate.margin,
        "tolerate": gate.tolerate,
        "alpha": gate.false_alarm,
        "least_requests": float(gate.min_requests),
        "limit": LATE,
    }
    past = ""
    if gate.metric in RISES:
        side = Side.of(counts_of(alone, before, kind), "_stable")
        (effect,) = design_effects((side,))
        usual = wilson(side.bad / effect, side.requests / effect)[1]
        limits |= {"usual": usual}
        limits["limit"] = min(LARGEST, max(usual * gate.tolerate, usual + gate.margin))
        past = f"; the old version had {side.bad:g} of {side.requests:g} before the rollout"
        if side.requests < gate.min_requests:
            empty = judge_rate(gate.name, gate.metric, counts_of(alone, (), kind), limits)
            return replace(empty, reason=f"nothing to compare with{past}")
    if missing:
        counts["missing"] = float(len(missing))
    found = judge_rate(gate.name, gate.metric, counts, limits)
    return replace(found, reason="; ".join((found.reason + past, *missing)))


def blameless(
    gate: Gate, finding: Finding, windows: Sequence[Window], around: Sequence[Window]
) -> tuple[Window, ...]:
    """Return the windows in which others on the version's servers did not fare as badly.

    Args:
        gate: The gate, as it was asked.
        finding: What it says of all windows.
        windows: Those that it was asked of.
        around: Counts of other aliases, as a neighbour gate has them, in windows of the same
            beginnings and lengths.
    """
    kind = BAD.get(gate.metric) or late(gate.name)
    limit = finding.parameters["limit"]
    bad = {
        each.start
        for each in around
        if each.canary.bad.get(kind, 0) >= LEAST_BAD
        and each.canary.bad[kind] > limit * each.canary.total(kind)
    }
    return tuple(each for each in windows if each.start not in bad)


def spared(finding: Finding, again: Finding, hours: int) -> Finding:
    """Return a finding without the windows in which everybody fared badly, and say so."""
    if finding.verdict is not Verdict.FAIL or not hours:
        return finding
    share = percent(finding.estimate or 0.0)
    return replace(
        again,
        reason=f"{again.reason}; without {hours} windows in which others on its servers fared as "
        f"badly ({share} with them)",
    )
