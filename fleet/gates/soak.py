"""Judges a version after the cut-over by the days before, and judges recorded findings again.

A rise is measured against the rate that the old version had in the days before the rollout, a
time against its 95th percentile in those days. Days differ more than two versions at one time do,
so that more is forgiven here; and where others on the same servers fare as badly at that time, the
hour says nothing about the version.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from fleet.gates import decide, live, offline
from fleet.gates.decide import (
    LEAST_BAD,
    LEAST_DIFFERENCE,
    Counts,
    Finding,
    Limits,
    Moment,
    Series,
    Verdict,
    enough_people,
    percent_text,
)
from fleet.gates.intervals import Z, wilson
from fleet.gates.live import LATE, facts, judge_fixed, judge_live, limits_of
from fleet.gates.own_control import Usual
from fleet.gates.rows import Window, counts_of, kind_of
from fleet.gates.sequential import EProcess
from fleet.gates.windows import Baseline
from fleet.policies import RATIOS, RISES, GateSpec

TIMES = 2.0
"""Least factor of the old 95th percentile that is a fault; a gate may ask for less beside it."""
BLOCK = 12
"""Windows after which another watch begins, so that a week of good hours hides no bad day."""
SINCE = "rate_since_by_own_control"
LARGEST = 0.95
"""Upper bound of the limits of rates by which a soak can be judged."""


def soaking(gate: GateSpec) -> GateSpec:
    """Return the gate as judged once the version has all traffic."""
    if gate.metric not in RATIOS or gate.metric == "neighbour_ratio":
        return gate
    return replace(gate, threshold=max(TIMES, gate.threshold))


def judge_soaking(
    gate: GateSpec, windows: Sequence[Window], known: Baseline, *, missing: Sequence[str] = ()
) -> Finding:
    """Judge a version that has all traffic. A FAIL stays from the window that showed harm.

    Args:
        gate: As `soaking` returns it; neighbours are judged as ever.
        windows: Counts since the cut-over; the old version has none in them.
        known: The old version before the rollout began.
        missing: As of `judge_live`.
    """
    if gate.metric not in RISES and gate.metric not in RATIOS:
        return judge_live(gate, windows, known=known, z=Z, missing=missing)
    alone, kind = GateSpec(gate.name, "error_rate", 0, "%"), kind_of(gate)
    usual = known.usual.get(kind, Usual(0.0))
    counts = counts_of(alone, windows, kind) | facts(gate, known)
    limits = limits_of(gate, Z) | {"limit": LATE}
    past = ""
    if gate.metric in RISES:
        worth = usual.requests / usual.dispersion
        most = wilson(usual.mean * worth, worth, Z)[1]
        limits |= {"usual": most}
        limits["limit"] = min(LARGEST, max(most * gate.tolerate, most + gate.margin))
        bad = round(usual.mean * (usual.requests + 1) - 0.5)
        past = f"; the old version had {bad} of {usual.requests} before the rollout"
        if usual.requests < gate.min_requests:
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
    begun: list[tuple[float, EProcess, list[float]]] = []
    dispersion = counts.get("dispersion", 1.0)
    windows = zip(*(counts[name] for name in ("hits", "at_risk", "people")), strict=True)
    for number, window in enumerate(windows):
        if number % BLOCK == 0:
            part = len(begun) + 1
            begun.append((1 / (part * (part + 1)), EProcess(1.0), [0.0, 0.0, 0.0]))
        found = []
        hits, at_risk, _ = window
        for part_of, evidence, sums in begun:
            odds = limit / (1 - limit)
            value = part_of * evidence.add(hits / dispersion, at_risk / dispersion, odds)
            for place, more in enumerate(window):
                sums[place] += more
            bad, requests, people = sums
            above = bad / requests - limit if requests else 0.0
            seen = bad if enough_people(people, bad, requests) else 0.0
            found.append((seen >= LEAST_BAD and above >= LEAST_DIFFERENCE, value, seen, above))
        _, value, seen, above = max(found)
        yield value, seen, above


def blameless(
    gate: GateSpec, finding: Finding, windows: Sequence[Window], around: Sequence[Window]
) -> tuple[Window, ...]:
    """Return the windows in which others on the version's servers did not fare as badly.

    `around`: counts of other aliases, as a neighbour gate has them, in windows of the same
    beginnings and lengths.
    """
    kind = kind_of(gate)
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


RULES: Mapping[str, Callable[..., Finding]] = MappingProxyType(
    {
        offline.BINARY: offline.judge_binary,
        offline.GRADED: offline.judge_graded,
        decide.RISE: live.judge_rise,
        decide.RATE: live.judge_rate,
        decide.ALONE: live.judge_alone,
        SINCE: judge_since,
    }
)
"""By name of the rule: (gate, metric, counts, limits) to a finding."""
EARLIER = frozenset(
    {
        "share_by_own_control",
        "share_of_bad",
        "share_of_slow",
        "share_of_slow_or_late",
        "rate_of_bad",
        "rate_of_bad_since",
    }
)
"""Rules of earlier releases, which took no user as their own control. Their findings are void: no
share grows by them, and they are not computed again."""


def recheck_verdict(document: Mapping[str, Any]) -> Finding:
    """Judge the counts of a plain finding again, whatever verdict the finding claims.

    A finding by a rule of an earlier release is returned as it is.

    Raises:
        ValueError: it is not a finding, its rule is not known, or its counts do not fit it.
    """
    claimed = Finding.of(document)
    if claimed.rule in EARLIER:
        return claimed
    rule = RULES.get(claimed.rule)
    if rule is None:
        raise ValueError(f"no rule is called {claimed.rule!r}")
    if any(_more(claimed.counts, side) for side in ("", "_stable")):
        raise ValueError("it counts more bad requests than requests")
    try:
        return rule(claimed.gate, claimed.metric, claimed.counts, claimed.parameters)
    except (KeyError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise ValueError(f"the counts do not fit the rule {claimed.rule!r}: {error}") from error


def _more(counts: Counts, side: str) -> bool:
    bad, requests = (counts.get(f"{name}{side}", ()) for name in ("bad", "requests"))
    if not isinstance(bad, Sequence) or not isinstance(requests, Sequence):
        return False
    return any(more > of for more, of in zip(bad, requests, strict=False))
