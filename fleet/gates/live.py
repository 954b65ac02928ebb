"""Judges live gates: the new version's requests against the old one's, window by window."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fleet.gates.decide import (
    ALONE,
    LEAST_BAD,
    RATE,
    RISE,
    Counts,
    Estimate,
    Finding,
    Limits,
    Moment,
    Series,
    Verdict,
    conclude,
    enough_people,
    percent_text,
    points_text,
)
from fleet.gates.intervals import newcombe, wilson
from fleet.gates.own_control import BY_WINDOW, CONSTANTS, SideCounts
from fleet.gates.rows import Window, alarming, counts_of, kind_of
from fleet.gates.sample_ratio import MATERIAL, MISMATCH, MISPLACED
from fleet.gates.sequential import Z_ONE, Beside, quantile, rate_test, rise_test, sure_text
from fleet.gates.windows import UNKNOWN, Baseline
from fleet.policies import RATIOS, RISES, GateSpec

BROKEN = 0.5
"""Share of bad requests above which an old version is nothing to compare with."""
MOST, LEAST_ANSWERS, LEAST_EVENTS, LEAST_USERS, SOUND = 0.5, 10, 3, 2, 0.1
"""A version needs no test that has failed more than half of 10 requests or more, at three times
apart or of two users, while at most a tenth is bad of the old version's, now and before."""
LATE = 0.05
"""Part of the requests that may exceed a limit for the 95th percentile."""
OUT, LEAST_USUAL = 5.0, 0.005
"""Factor on the usual rate, and least usual rate, above which the old version has an outage.

Such an hour says nothing for a version.
"""


def judge_live(
    gate: GateSpec,
    windows: Sequence[Window],
    *,
    known: Baseline = UNKNOWN,
    z: float = Z_ONE,
    longest: float | None = None,
    alone: bool = False,
    missing: Sequence[str] = (),
) -> Finding:
    """Judge a stage by all its windows, oldest first. May be asked at any time.

    FAIL holds from the first window at which it did, if the split was right so far. PASS and
    INCONCLUSIVE are what the counts say now; whether the stage may end is for others to decide.

    Args:
        gate: Metric and limit.
        windows: Counts of the stage; for a neighbour gate those of other adapters on servers
            with the new version, and on servers without it.
        known: The old version before the rollout, by which users are their own control.
        z: Normal quantile of a PASS at the end of the stage, see `confidence`.
        longest: Hours of usual traffic in which the stage may be looked at; None: it is looked at
            once.
        alone: No other adapter shares a server with the new version, so that a neighbour gate
            has nothing to protect.
        missing: Why requests of this stage may be lacking, a sentence for each gateway. The
            requests that are there may still fail the version; nothing passes it.
    """
    if alone and gate.metric == "neighbour_ratio":
        return judge_alone(gate.name, gate.metric, {}, {})
    counts = counts_of(gate, windows) | facts(gate, known)
    if missing:
        counts["missing"] = float(len(missing))
    limits = limits_of(gate, z) | {"mismatch": MISMATCH, "material": MATERIAL}
    limits |= {"misplaced": MISPLACED, "each_window": 1.0}
    if longest is not None:
        limits["longest"] = longest
    if gate.metric in RISES or gate.metric in RATIOS:
        found = judge_rise(gate.name, gate.metric, counts, limits)
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


def facts(gate: GateSpec, known: Baseline) -> dict[str, float]:
    """Return the facts of the time before the rollout that a finding keeps."""
    found = {"hourly": round(known.hourly, 3)} if known.hourly else {}
    usual = known.usual.get(kind_of(gate))
    if usual is not None and usual.requests:
        found |= {"usual": round(usual.mean, 6), "dispersion": round(usual.dispersion, 3)}
        found |= {"alike": round(usual.alike, 6), "usual_requests": float(usual.requests)}
    if usual is not None and usual.believed != CONSTANTS:
        found |= {f"believed_{name}": value for name, value in usual.believed._asdict().items()}
    alarm = known.usual.get(alarming(gate.name))
    return found | ({"alarm_usual": round(alarm.mean, 6)} if alarm and alarm.requests else {})


def judge_rise(gate: str, metric: str, counts: Series, limits: Limits) -> Finding:
    """Judge rates against the old version's: share test for FAIL, Newcombe bound for PASS.

    What is bad: a request that failed or is malformed, or (of times) one beyond the limit times the
    old 95th percentile. Each side is compared with what its own users were to be expected to have.
    """
    times = metric in RATIOS
    everything, all_other = SideCounts.of(counts), SideCounts.of(counts, "_stable")
    usual = max(1e-6, counts.get("usual", all_other.rate or LEAST_USUAL))
    out = _outages(counts, usual)
    mine, other = SideCounts.of(counts, "", out), SideCounts.of(counts, "_stable", out)
    both = mine.requests + other.requests
    mean = (mine.expected + other.expected) / both if both else 0.0
    effect, effect_other = mine.effect(counts), other.effect(counts)
    independent, independent_other = mine.requests / effect, other.requests / effect_other
    rate, other_rate = (min(1.0, max(0.0, side.rate - side.above(mean))) for side in (mine, other))
    margin, z = _late_margin(usual, other) if times else limits["margin"], quantile(counts, limits)
    if times and metric == "neighbour_ratio" and not other.requests:  # no server without it
        lower, upper = wilson(rate * independent, independent, z)
        lower, upper = lower - usual, upper - usual
    else:
        lower, upper = newcombe(
            rate * independent, independent,
            other_rate * independent_other, independent_other, z,
        )  # fmt: skip
    # Beside an old version that is broken itself nothing looks worse.
    broken = all_other.bad > BROKEN * all_other.requests
    passes = upper <= margin and not broken
    what = f"took over {limits['margin']:g} times the old p95" if times else "bad"
    who = "elsewhere" if metric == "neighbour_ratio" else "the old version"
    sure = sure_text(z)
    about = (
        f"{everything.bad:g} of {everything.requests:g} {what}, {who} {all_other.bad:g} of "
        f"{all_other.requests:g} ({sure} sure: at most {points_text(upper)} more)"
        + (", which is broken itself and shows nothing" if broken else "")
        + (f"; without {len(out)} windows in which {who} was out of order" if out else "")
    )
    estimate = rate - other_rate if mine.requests and other.requests else None
    limit = f"p95 {limits['margin']:g} x" if times else points_text(margin)
    collapsed = _collapsed(counts, everything, all_other)
    tolerated, allowed = _allowed(counts, limits, usual, times=times)
    made = Estimate(
        RISE,
        estimate,
        lower,
        upper,
        passes,
        about,
        limit,
        independent,
        collapsed,
        tolerated,
        allowed,
    )
    prefix = "alarm_" if f"alarm_{BY_WINDOW[0]}" in counts else ""
    return conclude(gate, metric, made, _rises(counts, made, prefix), counts, limits)


def _late_margin(usual: float, other: SideCounts) -> float:
    """Return by how much more requests may be late than of the old version at the same time.

    In calm hours few requests of either version are late, and so the margin is less.
    """
    load = min(1.0, (other.bad + LEAST_BAD) / (other.requests * usual + LEAST_BAD))
    return max(LATE / 2, LATE - usual) * load


def _allowed(counts: Series, limits: Limits, usual: float, *, times: bool) -> tuple[float, float]:
    """Return the factor on the usual bad requests, and the rise, that are no finding yet.

    A version fails that is surely beyond its alarm, or where there is none its limit.
    """
    if times:
        usual = counts.get("alarm_usual", usual)
        rise = LATE - usual
    else:
        rise = limits.get("alarm", limits["margin"])
    rise = max(rise, (limits["tolerate"] - 1) * usual)
    return (usual + rise) / usual, rise


def _outages(counts: Series, usual: float) -> frozenset[int]:
    """Return the windows in which the old version was out of order itself."""
    limit = OUT * max(usual, LEAST_USUAL)
    both = zip(counts["bad_stable"], counts["requests_stable"], strict=True)
    return frozenset(
        place for place, (bad, of) in enumerate(both) if bad >= LEAST_BAD and bad > limit * of
    )


def judge_rate(gate: str, metric: str, counts: Series, limits: Limits) -> Finding:
    """Judge a rate against a fixed limit: sequential test for FAIL, Wilson bound for PASS."""
    return judge_fixed(RATE, gate, metric, _rates(counts, limits["limit"]), counts, limits)


def judge_fixed(
    rule: str, gate: str, metric: str, moments: Iterator[Moment], counts: Series, limits: Limits
) -> Finding:
    """Judge a rate against a fixed limit: FAIL by the moments of a test, PASS by a Wilson bound."""
    side, limit, z = SideCounts.of(counts), limits["limit"], quantile(counts, limits)
    independent = side.requests / side.effect(counts)
    lower, upper = wilson(side.rate * independent, independent, z)
    sure, most = sure_text(z), percent_text(upper)
    about = f"{side.bad:g} of {side.requests:g} over the limit ({sure} sure: at most {most})"
    estimate, text = side.rate if side.requests else None, f"{percent_text(limit)} of them"
    made = Estimate(rule, estimate, lower, upper, upper <= limit, about, text, independent)
    return conclude(gate, metric, made, moments, counts, limits)


def limits_of(gate: GateSpec, z: float) -> dict[str, float]:
    """Return the limits that every live rule has."""
    found = {
        "margin": gate.margin,
        "tolerate": gate.tolerate,
        "alpha": gate.false_alarm,
        "least_requests": float(gate.min_requests),
        "z": z,
    }
    return found if gate.alarm is None else found | {"alarm": gate.alarm}


def _collapsed(counts: Series, mine: SideCounts, other: SideCounts) -> bool:
    """Say whether a version is plainly broken, be there too little for any test.

    With a few users a test needs hours, in which they are left with it.
    """
    apart = sum(counts["hits"]) >= LEAST_EVENTS or mine.people >= LEAST_USERS
    enough = min(mine.requests, other.requests) >= LEAST_ANSWERS and apart
    usual = counts.get("usual", 0.0)
    return enough and mine.rate > MOST and max(other.rate, usual) <= SOUND


def _rises(counts: Series, made: Estimate, prefix: str = "") -> Iterator[Moment]:
    """Yield the moments of the test of a rise beyond the expected bad requests."""
    about = ("hits", "at_risk", "exposure")
    names = [f"{prefix}{name}{side}" for side in ("", "_stable") for name in about]
    windows = list(zip(*(counts[name] for name in names), strict=True))
    dispersion = counts.get("dispersion", 1.0)
    tested = [Beside(*(number / dispersion for number in window)) for window in windows]
    sums, people = [0.0] * len(names), 0.0
    for value, more, new in zip(
        rise_test(tested, made.tolerated, made.allowed),
        windows,
        counts[f"{prefix}people"],
        strict=True,
    ):
        sums = [before + added for before, added in zip(sums, more, strict=True)]
        people += new
        hits, at_risk, exposure, other, of_other, beside = sums
        above = (hits - exposure) / at_risk if at_risk else 0.0
        above -= (other - beside) / of_other if of_other else 0.0
        yield value, hits if enough_people(people, hits, at_risk) else 0.0, above


def _rates(counts: Series, limit: float) -> Iterator[Moment]:
    windows = list(zip(*(counts[name] for name in ("hits", "at_risk", "people")), strict=True))
    dispersion = counts.get("dispersion", 1.0)
    tested = [(hits / dispersion, at_risk / dispersion) for hits, at_risk, _ in windows]
    sums = [0.0] * 3
    for value, more in zip(rate_test(tested, limit), windows, strict=True):
        sums = [before + added for before, added in zip(sums, more, strict=True)]
        hits, at_risk, people = sums
        above = hits / at_risk - limit if at_risk else 0.0
        yield value, hits if enough_people(people, hits, at_risk) else 0.0, above
