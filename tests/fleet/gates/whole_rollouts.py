"""Plays whole rollouts of a drawn client through the judges that are used, quarter hour by quarter.

Stages of 10 % and 50 %, then all; each at least a day and at most two, in hours that count by their
traffic. A rollout fails at the first look at which a gate does, and goes on at the first look after
its bake at which all gates pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from fleet.gates import (
    HOUR,
    Baseline,
    Verdict,
    Window,
    arms,
    confidence,
    count_windows,
    judge_live,
)
from fleet.gates.own_control import usual_of
from fleet.gates.rows import alarming, late
from fleet.policies import RATIOS, GateSpec
from fleet.rollouts.progress import MOST, is_over
from fleet.traffic import Sticky
from tests.fleet.gates.request_traffic import MONDAY, Client, Harm, Requests, draw
from tests.fleet.gates.simulation import Array, Paths, naive_test, naive_window

BEFORE, TIMES, BAKE, MAX_BAKE = 28 * 24, 168, 24, 48
"""Hours: of what is usual, of the usual times, and of a stage, at least and at most."""
LOOKS = 4
"""Looks an hour."""
SHARES = (0.1, 0.5)
TENTH = 9
GATES = (
    GateSpec("errors", "error_rate_rise", 2, "pp", alarm_at=0.25),
    GateSpec("format", "format_drop", 3, "pp", alarm_at=0.25),
    GateSpec("first", "first_token_ratio", 1.5, "x", alarm_at=1.2),
    GateSpec("token", "token_time_ratio", 1.5, "x", alarm_at=1.2),
)


@dataclass(frozen=True)
class End:
    """How a rollout ended: `promoted`, `rolled_back` or `held`, when, and by which gates."""

    how: str
    hours: float
    gates: tuple[str, ...] = ()
    after_tenth: float | None = None
    """Hours from the new version's tenth request to the end; None: fewer were answered."""


def play(
    rng: np.random.Generator,
    client: Client,
    harm: Harm,
    shares: Sequence[float] = SHARES,
    gates: Sequence[GateSpec] = GATES,
    max_bake: int = MAX_BAKE,
) -> End:
    """Let a rollout run to its end."""
    most = MOST * max_bake
    weights = [round(100 * share) for share in shares]
    drawn = draw(rng, client, harm, before=BEFORE, after=most * len(shares))
    known = _known(drawn, gates)
    at, tenth = 0.0, np.inf
    for share in shares:
        part = drawn.between(at, at + most)
        mine = drawn.hour[part][drawn.bucket[part] < share]
        tenth = min(tenth, mine[TENTH] if len(mine) > TENTH else np.inf)
        asked = np.searchsorted(drawn.hour[part] - at, np.arange(most + 1))
        last = next(
            hour
            for hour, requests in enumerate(asked)
            if is_over(max_bake * HOUR, hour * HOUR, requests, known.hourly)
        )
        looks, how, which = _stage(
            gates, _windows(drawn, at, at + last, share, gates, known), at, last, known,
            confidence(round(100 * share), weights), max_bake,
        )  # fmt: skip
        at += looks / LOOKS
        if how:
            return End(how, at, which, float(at - tenth) if tenth < at else None)
    return End("promoted", at)


def _known(drawn: Requests, gates: Sequence[GateSpec]) -> Baseline:
    """Return what `baseline` and `with_usual` make of the rows before, but sooner."""
    week, before = drawn.between(-TIMES, 0), drawn.between(-BEFORE, 0)
    answered = ~drawn.bad["errors"][0]
    first, token = (
        float(np.quantile(each[week][answered[week]], 0.95, method="inverted_cdf"))
        for each in (drawn.first, drawn.token)
    )
    users = [f"u{unit}" for unit in drawn.unit[before]]
    days = (-drawn.hour[before] / 24).astype(int)
    told = {"errors": drawn.bad["errors"][0], "format": drawn.bad["format"][0]}
    for gate in gates:
        for limit, kind in ((gate.margin, late(gate.name)), (gate.alarm, alarming(gate.name))):
            if gate.metric in RATIOS and limit is not None:
                times, pinned = (
                    (drawn.first, first)
                    if gate.metric == "first_token_ratio"
                    else (drawn.token, token)
                )
                told[kind] = times > limit * pinned
    usual = {
        kind: usual_of(
            (user, int(day), bool(is_bad))
            for user, day, is_bad, known in zip(
                users, days, bad[before], answered[before] | (kind == "errors"), strict=True
            )
            if known
        )
        for kind, bad in told.items()
    }
    hours = -float(drawn.hour[before][0])
    return Baseline(None, first, token, len(users), usual, len(users) / hours)


def _windows(
    drawn: Requests,
    start: float,
    end: float,
    share: float,
    gates: Sequence[GateSpec],
    known: Baseline,
) -> tuple[Window, ...]:
    begin, stop = (MONDAY + timedelta(hours=hour) for hour in (start, end))
    return count_windows(
        drawn.rows(start, end, share), arms("a", "new", "old"), gates, {"a": known}, begin, stop,
        length=HOUR / LOOKS, percent=round(100 * share), sticky=Sticky.USER,
    )  # fmt: skip


def _stage(
    gates: Sequence[GateSpec],
    windows: Sequence[Window],
    start: float,
    longest: int,
    known: Baseline,
    z: float,
    max_bake: int,
) -> tuple[int, str, tuple[str, ...]]:
    """Return the looks of a stage, how the rollout ended in it (empty: it goes on), and by what."""
    begin, last = MONDAY + timedelta(hours=start), longest * LOOKS

    def others(look: int, verdict: Verdict) -> tuple[str, ...]:
        """Return the gates that say otherwise at a look."""
        seen = [each for each in windows if each.start < begin + look * HOUR / LOOKS]
        return tuple(
            gate.name
            for gate in gates
            if judge_live(gate, seen, known=known, z=z, longest=max_bake).verdict is not verdict
        )

    def failing(look: int) -> tuple[str, ...]:
        sound = others(look, Verdict.FAIL)
        return tuple(gate.name for gate in gates if gate.name not in sound)

    failed = _first(failing, last)
    for look in range(BAKE * LOOKS, min(failed, last + 1), LOOKS):
        if not others(look, Verdict.PASS):
            return look, "", ()
    if failed <= last:
        return failed, "rolled_back", failing(failed)
    return last, "held", others(last, Verdict.PASS)


def _first(failing: Callable[[int], tuple[str, ...]], last: int) -> int:
    """Return the first look at which a gate fails; beyond `last`: none does.

    A FAIL stays from the window that showed it, so that halving finds the first.
    """
    if not failing(last):
        return last + 1
    low, high = 1, last
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if failing(middle) else (middle + 1, high)
    return low


def play_naive(rng: np.random.Generator, client: Client, harm: Harm) -> tuple[End, End]:
    """Let the same rollout run by two rules of thumb, which promote when a bake is over.

    A pooled z test after each hour (p < 0.05), and a single hour with more than 5 % bad requests.
    """
    drawn = draw(rng, client, harm, before=TIMES, after=BAKE * len(SHARES))
    counted = [
        _hourly(drawn, stage * BAKE, share, kind)
        for stage, share in enumerate(SHARES)
        for kind in ("errors", "format")
    ]
    rules: tuple[Callable[[Paths], Array], ...] = (naive_test, naive_window)
    ends = []
    for rule in rules:
        hours = [float(rule(each)[0]) + (n // 2) * BAKE for n, each in enumerate(counted)]
        failed = min(hours)
        ends.append(End("rolled_back", failed) if np.isfinite(failed) else End("promoted", BAKE))
    return ends[0], ends[1]


def _hourly(drawn: Requests, start: float, share: float, kind: str) -> Paths:
    part = drawn.between(start, start + BAKE)
    hour = np.floor(drawn.hour[part] - start).astype(int)
    mine = drawn.bucket[part] < share
    bad = np.where(mine, drawn.bad[kind][1][part], drawn.bad[kind][0][part])

    def counts(which: npt.NDArray[np.bool_]) -> Array:
        found: Array = np.bincount(hour, which, BAKE)[None, :].astype(float)
        return found

    return Paths(counts(bad & mine), counts(mine), counts(bad & ~mine), counts(~mine))
