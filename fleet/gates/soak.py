"""Judges a version after the cut-over against the old version's days before the rollout.

A rise is measured against the rate that the old version had in the days before the rollout, a
time against its 95th percentile in those days. Days differ more than two versions at one time do,
so that more is forgiven here; and where others on the same servers fare as badly at that time, the
hour says nothing about the version.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fleet.gates.counts import BAD, Window, counts_of, late
from fleet.gates.decide import LEAST_BAD, LEAST_DIFFERENCE, Limits, Moment, Series, by_user
from fleet.gates.design_effect import SideCounts, design_effects
from fleet.gates.intervals import wilson
from fleet.gates.live import LATE, judge_fixed, judge_live, limits_of
from fleet.gates.sequential import EProcess
from fleet.gates.verdict import Finding, Verdict, percent_text
from fleet.rollout_policy import RATIOS, RISES, GateSpec

TIMES = 2.0
"""Least factor of the old 95th percentile that is a fault; a gate may ask for less beside it."""
BLOCK = 12
"""Windows after which another watch begins, so that a week of good hours hides no bad day."""
SINCE = "rate_of_bad_since"
LARGEST = 0.95
"""Upper bound of the limits of rates by which a soak can be judged."""


def soaking(gate: GateSpec) -> GateSpec:
    """Return the gate as judged once the version has all traffic."""
    if gate.metric not in RATIOS or gate.metric == "neighbour_ratio":
        return gate
    return replace(gate, threshold=max(TIMES, gate.threshold))


def judge_soaking(
    gate: GateSpec,
    windows: Sequence[Window],
    before: Sequence[Window],
    *,
    missing: Sequence[str] = (),
) -> Finding:
    """Judge a version that has all traffic. A FAIL stays from the window that showed harm.

    Args:
        gate: As `soaking` returns it; neighbours are judged as ever.
        windows: Counts since the cut-over; the old version has none in them.
        before: Counts of the old version before the rollout began.
        missing: As of `judge_live`.
    """
    if gate.metric not in RISES and gate.metric not in RATIOS:
        return judge_live(gate, windows, missing=missing)
    alone = GateSpec(gate.name, "error_rate", 0, "%")
    kind = BAD.get(gate.metric) or late(gate.name)
    counts = counts_of(alone, windows, kind)
    limits = limits_of(gate) | {"limit": LATE}
    past = ""
    if gate.metric in RISES:
        side = SideCounts.of(counts_of(alone, before, kind), "_stable")
        (effect,) = design_effects((side,))
        usual = wilson(side.bad / effect, side.requests / effect)[1]
        limits |= {"usual": usual}
        limits["limit"] = min(LARGEST, max(usual * gate.tolerate, usual + gate.margin))
        past = f"; the old version had {side.bad:g} of {side.requests:g} before the rollout"
        if side.requests < gate.min_requests:
            empty = judge_since(gate.name, gate.metric, counts_of(alone, (), kind), limits)
            return replace(empty, reason=f"nothing to compare with{past}")
    if missing:
        counts["missing"] = float(len(missing))
    found = judge_since(gate.name, gate.metric, counts, limits)
    return replace(found, reason="; ".join((found.reason + past, *missing)))


def judge_since(gate: str, metric: str, counts: Series, limits: Limits) -> Finding:
    """Judge a rate against a fixed limit, from the cut-over on and from every later block on.

    The watch that begins with block `j`, from 1, has the part `1 / (j (j + 1))` of the allowed
    false alarms; the parts add up to 1, however long the soak.
    """
    moments = watches(counts, limits["limit"])
    return judge_fixed(SINCE, gate, metric, moments, counts, limits)


def watches(counts: Series, limit: float) -> Iterator[Moment]:
    """Yield the strongest watch's moment after every window."""
    names = ("first", "at_risk") if by_user(counts) else ("bad", "requests")
    begun: list[tuple[float, EProcess, list[float]]] = []
    for number, window in enumerate(
        zip(*(counts[name] for name in (*names, "bad", "requests")), strict=True)
    ):
        if number % BLOCK == 0:
            part = len(begun) + 1
            begun.append((1 / (part * (part + 1)), EProcess(1.0), [0.0, 0.0, 0.0]))
        found = []
        for part_of, evidence, sums in begun:
            value = part_of * evidence.add(window[0], window[1], limit / (1 - limit))
            for place, more in enumerate((window[0], window[2], window[3])):
                sums[place] += more
            above = sums[1] / sums[2] - limit if sums[2] else 0.0
            enough = sums[0] >= LEAST_BAD and above >= LEAST_DIFFERENCE
            found.append((enough, value, sums[0], above))
        _, value, seen, above = max(found)
        yield value, seen, above


def blameless(
    gate: GateSpec, finding: Finding, windows: Sequence[Window], around: Sequence[Window]
) -> tuple[Window, ...]:
    """Return the windows in which others on the version's servers did not fare as badly.

    `around`: counts of other aliases, as a neighbour gate has them, in windows of the same
    beginnings and lengths.
    """
    kind = BAD.get(gate.metric) or late(gate.name)
    limit = finding.parameters["limit"]
    bad = {
        window.start
        for window in around
        if window.canary.bad.get(kind, 0) >= LEAST_BAD
        and window.canary.bad[kind] > limit * window.canary.total(kind)
    }
    return tuple(window for window in windows if window.start not in bad)


def spared(finding: Finding, again: Finding, hours: int) -> Finding:
    """Return a finding without the windows in which everybody fared badly, and say so."""
    if finding.verdict is not Verdict.FAIL or not hours:
        return finding
    share = percent_text(finding.estimate or 0.0)
    return replace(
        again,
        reason=f"{again.reason}; without {hours} windows in which others on its servers fared as "
        f"badly ({share} with them)",
    )
