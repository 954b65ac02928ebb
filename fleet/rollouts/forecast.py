"""Forecasts the verdicts of the gates of a rollout before the rollout begins.

Estimates from the size of the golden sets, from what differed between versions before, and from
the declared demand; for the reader alone, and outside of what a plan's id covers.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice

from fleet.capacity import hourly_rpm
from fleet.gates import (
    BAD,
    LEAST_ITEMS,
    USUAL_DISCORDANCE,
    Counts,
    UsualRate,
    Verdict,
    catching,
    certifiable,
    confidence,
    harm,
    healthy_rate,
    items_needed,
    paired_power,
    passing,
    percent_text,
    points_text,
    seen,
)
from fleet.history import History
from fleet.plan import NO_EVIDENCE, GateDue
from fleet.prospects import Chances
from fleet.resources import FULL
from fleet.rollout_policy import (
    NEWEST,
    RATIOS,
    REPLAY,
    RISES,
    GateSpec,
    GoldenFacts,
    RolloutPolicy,
)
from fleet.rollouts.evidence import gates_of, golden_of
from fleet.rollouts.targets import AliasTarget, Phase
from fleet.spec import AdapterSpec, FleetSpec

USUAL_FLAWED = 0.02
"""Part of the replayed requests on which two versions differ, where no evaluation has told."""
ENOUGH = 0.8
"""Chance of a PASS below which something is proposed."""
SENSITIVE = 8
"""Part of the limit at which an alarm is proposed."""
SAMPLES = (3, 5, 10)
SHARES = (25, 50)
DAY_S = 86_400
_STANDS_STILL = (Phase.UNDECIDED, Phase.PAUSED, Phase.DOUBTED)


def forecast_rollouts(
    fleet: FleetSpec, wanted: AliasTarget, history: History
) -> tuple[tuple[GateDue, ...], Chances | None]:
    """Return the plan's gates of an alias with their power, and the likely ends of the rollout.

    The chances are None where nothing can be said.
    """
    if not wanted.gates or wanted.phase is Phase.ROLLED_BACK:
        return wanted.gates, None
    adapter = fleet.adapters[wanted.alias]
    rollout = fleet.rollouts[adapter.rollout]
    known = counts_of(history, wanted.alias)
    made, promoted, failed = [], 1.0, 0.0
    gates = {gate.name: gate for gate in gates_of(fleet, adapter)}
    for due in wanted.gates:
        gate = gates[due.gate]
        counts = known.get(gate.name, {})
        usual = None if gate.offline else usual_of(gate, adapter, counts)
        share = dict(wanted.shares).get(wanted.target, 0)
        its = _Gate(fleet, adapter, rollout, gate, share, usual)
        differ = _discordance(counts)
        chance, mistaken = its.offline(differ) if gate.offline else (its.live(), 0.0)
        accepted = due.status not in (NO_EVIDENCE, *Verdict)
        sure = accepted or (due.status == Verdict.PASS and gate.offline)
        if not sure:
            promoted, failed = promoted * chance, 1 - (1 - failed) * (1 - mistaken)
            text = its.golden_text(differ) if gate.offline else its.live_text()
            due = replace(due, power=text)  # noqa: PLW2901 (the same gate, told more of)
        made.append(due)
    if wanted.phase in _STANDS_STILL:
        return tuple(made), None
    return tuple(made), Chances(promoted, max(0.0, 1 - promoted - failed), failed)


def counts_of(history: History, alias: str) -> dict[str, Counts]:
    """Return the counts of the newest evidence about an alias, by gate."""
    return {item.gate: item.finding.counts for item in history.evidence.get(alias, ())}


def usual_of(gate: GateSpec, adapter: AdapterSpec, counts: Counts) -> UsualRate | None:
    """Return the usual rate of a live gate by earlier evidence, else as recorded; None: unknown."""
    return seen(gate, counts) or _recorded(gate, adapter)


def _recorded(gate: GateSpec, adapter: AdapterSpec) -> UsualRate | None:
    """Return the recorded rate of a gate's kind of bad requests; None: too little."""
    demand, kind = adapter.demand, BAD.get(gate.metric)
    if kind is None or demand is None or demand.faults is None:
        return None
    bad, told = demand.faults.seen(kind)
    return seen(
        gate,
        {"bad_stable": (bad,), "requests_stable": (told,)}
        if gate.metric in RISES
        else {"bad": (bad,), "requests": (told,)},
    )


def _discordance(counts: Counts) -> float | None:
    """Return the part of the items that differed when they were last asked; None: never."""
    numbers = [counts.get(key) for key in ("items", "worse", "better")]
    items, worse, better = (
        number if isinstance(number, float | int) else None for number in numbers
    )
    if items is None or worse is None or better is None:
        return None
    return (worse + better + 1) / (items + 2)


@dataclass(frozen=True, slots=True)
class _Gate:
    fleet: FleetSpec
    adapter: AdapterSpec
    rollout: RolloutPolicy
    gate: GateSpec
    percent: int
    """The new version's share after this plan."""
    usual: UsualRate | None
    """Rates of the old version in the last rollout; None: too little."""

    @property
    def golden(self) -> GoldenFacts:
        path, replayed = golden_of(self.adapter, self.gate), self.gate.metric == REPLAY
        return self.fleet.golden.get(path, GoldenFacts("", NEWEST if replayed and not path else 0))

    @property
    def usual_differ(self) -> float:
        """The part of the items on which two versions differ, where no evaluation has told."""
        return USUAL_FLAWED if self.gate.metric == REPLAY else USUAL_DISCORDANCE

    @property
    def items(self) -> int:
        """The items that count as independent."""
        return self.golden.independent

    @property
    def stages(self) -> tuple[int, ...]:
        """The shares at which gates judge traffic."""
        begun = (self.percent,) if self.percent else ()
        ahead = (weight for weight in self.rollout.weights if self.percent < weight < FULL)
        return (*begun, *ahead)

    def requests(self, share: int, bake: timedelta | None = None) -> tuple[int, int]:
        """Return the requests of both versions in a stage's longest bake."""
        days = (bake or self.rollout.longest_bake).total_seconds() / DAY_S
        total = 60 * sum(hourly_rpm(self.adapter.demand)) * days
        return round(total * share / FULL), round(total * (1 - share / FULL))

    def offline(self, differ: float | None) -> tuple[float, float]:
        """Return the chances that an unchanged version passes and fails."""
        known = self.usual_differ if differ is None else differ
        return paired_power(self.items, known, self.gate.samples, self.gate.margin, 0.0)

    def live(self, only: int | None = None, bake: timedelta | None = None) -> float:
        """Return the chance that a healthy version passes in every stage that is left."""
        if self.gate.metric == "neighbour_ratio":
            return 1.0
        chance = 1.0
        for share in (only,) if only else self.stages:
            sure = confidence(share, self.rollout.weights)
            chance *= passing(self.gate, *self.requests(share, bake), self.usual, sure)
        return chance

    def golden_text(self, differ: float | None) -> str:
        """Return the power of the golden set, and the advice to raise the power."""
        gate, items = self.gate, self.items
        if not items:
            path = golden_of(self.adapter, gate)
            lack = f"{path} holds no item" if path else "there is no golden set"
            return f"{lack}, so this gate can never pass"
        known = self.usual_differ if differ is None else differ
        passes, fails = self.offline(differ)
        drop = min(max(known, USUAL_DISCORDANCE), 2 * gate.margin)
        _, caught = paired_power(items, known, gate.samples, gate.margin, drop)
        basis = "taken as usual" if differ is None else "as last time"
        unsure = 1 - passes - fails
        asked = self.golden
        what = "items" if asked.digest else "captured requests"
        groups = f" in {items} groups" if asked.repeated else ""
        text = (
            f"{asked.items} {what}{groups} x {gate.samples}, {percent_text(known)} differ "
            f"({basis}): an unchanged version gets PASS {percent_text(passes)}, "
            f"INCONCLUSIVE {percent_text(unsure)}; a drop of {points_text(drop)} gets FAIL "
            f"{percent_text(caught)}"
        )
        if passes >= ENOUGH:
            return text
        return f"{text}. To be surer: {', or '.join(self._golden_fixes(known))}"

    def _golden_fixes(self, known: float) -> Iterator[str]:
        gate, items = self.gate, self.items
        for samples in SAMPLES:
            if (
                samples > gate.samples
                and paired_power(items, known, samples, gate.margin, 0.0)[0] >= ENOUGH
            ):
                yield f"samples: {samples}"
                break
        more = items_needed(known, gate.samples, gate.margin) - items
        yield f"{max(1, math.ceil(more / 10)) * 10} more items"
        if items >= LEAST_ITEMS:
            yield f"max: {math.ceil(100 * certifiable(items, known, gate.samples))}pp"

    def live_text(self) -> str:
        """Return the power of the declared traffic, and the advice to raise the power."""
        gate = self.gate
        if gate.metric == "neighbour_ratio" or not self.stages:
            return ""
        if not sum(hourly_rpm(self.adapter.demand)):
            return "no demand is declared, so nothing can be said of it"
        share = self.stages[0]
        requests, others = self.requests(share)
        longest = _span(self.rollout.longest_bake, " ")
        text = (
            f"{requests} requests at {share} % in {longest}, {self._basis()}: a healthy version "
            f"gets PASS {percent_text(self.live(share))}; {_harm(gate, self.usual)} is caught "
            f"with at least {percent_text(catching(gate, requests, others, self.usual))}"
        )
        if half := self._half(requests, others):
            text += f", half the time within {half} requests"
        fixes = list(self._live_fixes(share)) if self.live(share) < ENOUGH else []
        text = f"{text}. To be surer: {', or '.join(fixes)}" if fixes else text
        return text + self._earlier(requests, others)

    def _earlier(self, requests: int, others: int) -> str:
        """Propose an alarm where harm is hardly found; empty: there is one, or no need for one."""
        gate, found = self.gate, catching(self.gate, requests, others, self.usual)
        if gate.alarm is not None or gate.metric not in RISES or found >= ENOUGH:
            return ""
        alarm = replace(gate, alarm_at=gate.threshold / SENSITIVE)
        caught = percent_text(catching(alarm, requests, others, self.usual))
        return f". To catch it sooner: alarm: {alarm.alarm_at:g}{gate.unit} ({caught})"

    def _basis(self) -> str:
        """Return the usual rate and its source, as text."""
        known, bad = self.usual, "bad" if self.gate.metric in RISES else "beyond the limit"
        if known is None:
            return f"{percent_text(healthy_rate(self.gate))} {bad} (taken as usual)"
        text = f"{percent_text(known.rate)} {bad} (as seen on {known.requests} requests)"
        if known.effect <= 1.05:  # noqa: PLR2004 (a twentieth is no matter)
            return text
        return f"{text}, of users who ask often, so that {known.effect:.1f} of theirs count as one"

    def _half(self, requests: int, others: int) -> int:
        """Return after how many requests half of the harmful versions are caught; 0: never."""
        if catching(self.gate, requests, others, self.usual) < 0.5:  # noqa: PLR2004 (half)
            return 0

        def caught(number: int) -> bool:
            part = round(others * number / requests)
            return catching(self.gate, number, part, self.usual) >= 0.5  # noqa: PLR2004 (half)

        return 1 + bisect_left(range(1, requests), True, key=caught)

    def _live_fixes(self, share: int) -> Iterator[str]:
        larger = (more for more in SHARES if more > share and self.live(more) >= ENOUGH)
        yield from (f"low_traffic: {more}%" for more in islice(larger, 1))
        bakes = (self.rollout.longest_bake * times for times in (2, 3, 4))
        enough = (bake for bake in bakes if self.live(share, bake) >= ENOUGH)
        yield from (f"max_bake: {_span(bake)}" for bake in islice(enough, 1))


def _span(length: timedelta, gap: str = "") -> str:
    """Return a time as a whole number of its largest unit, hours at most: `48h`, `90m`."""
    seconds = length.total_seconds()
    for unit, whole in (("h", 3600), ("min" if gap else "m", 60)):
        if seconds % whole == 0:
            return f"{seconds / whole:.0f}{gap}{unit}"
    return f"{seconds:g}{gap}s"


def _harm(gate: GateSpec, known: UsualRate | None) -> str:
    """Name the harmful version that the chance of being caught is about."""
    usual, harmful = harm(gate, known)
    if gate.metric in RATIOS:
        return "twice the p95"
    what = "a rise" if gate.metric in RISES else "a rate"
    return f"{what} from {percent_text(usual)} to {percent_text(harmful)}"
