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
from operator import itemgetter

from fleet.gates import (
    LEAST_ITEMS,
    USUAL_DISCORDANCE,
    USUAL_EFFECT,
    UsualRate,
    Verdict,
    catching,
    certifiable,
    differed,
    harm,
    items_needed,
    paired_power,
    percent_text,
    points_text,
)
from fleet.history import History
from fleet.names import version_of
from fleet.plan import NO_EVIDENCE, Chances, GateDue, PlanNote, RolloutAhead
from fleet.policies import NEWEST, RATIOS, REPLAY, RISES, GateSpec, GoldenFacts
from fleet.resources import FULL
from fleet.rollouts.evidence import gates_of, golden_of
from fleet.rollouts.situation import first_weight_of
from fleet.rollouts.stage_traffic import (
    ENOUGH,
    LiveStages,
    Passes,
    by_traffic,
    counts_of,
    live_setting,
    simulate,
    stage_traffic,
    stages_from,
)
from fleet.rollouts.targets import AliasTarget, Phase
from fleet.spec import AdapterSpec, FleetSpec

_MOVES = (Phase.EVALUATING, Phase.STARTED, Phase.ADVANCED)


def outlook(target: AliasTarget, chances: Chances) -> PlanNote:
    """Return the likely ends of a rollout as a note."""
    text = (
        f"if {version_of(target.target)} is no worse, it is promoted by itself "
        f"with {percent_text(chances.promoted)}, held for people with {percent_text(chances.held)}"
        f", failed by mistake with {percent_text(chances.failed)}"
    )
    return PlanNote(text, target.alias)


def rollout_ahead(
    fleet: FleetSpec,
    target: AliasTarget,
    gates: tuple[GateDue, ...],
    chances: Chances | None,
    history: History | None,
) -> RolloutAhead | None:
    """Return the stages that follow the plan's own; None: the plan begins or moves no rollout.

    Chances are unknown where traffic is to decide and no demand is declared. Without `history`
    nothing is said of the traffic.
    """
    if target.phase not in _MOVES:
        return None
    adapter, now = fleet.adapters[target.alias], dict(target.shares).get(target.target, 0)
    rollout = fleet.rollouts[adapter.rollout]
    first = first_weight_of(rollout, adapter)
    later = [weight for weight in rollout.weights if weight > max(now, 0 if now else first)]
    weights = (*(() if now else (first,)), *later)
    if not weights:
        return None
    unsure = [gate for gate in gates if gate.status in (NO_EVIDENCE, Verdict.INCONCLUSIVE)]
    blind = adapter.demand is None and any(not fleet.gates[gate.gate].offline for gate in unsure)
    traffic = stage_traffic(fleet, target.alias, history, now or first) if history else None
    other_shares = [share for share in target.shares if share[0] != target.target and share[1]]
    return RolloutAhead(
        target.target,
        max(other_shares, key=itemgetter(1))[0] if other_shares else "",
        now,
        weights,
        rollout.bake.total_seconds(),
        begins=target.phase is not Phase.ADVANCED,
        golden=tuple(gate.gate for gate in unsure if fleet.gates[gate.gate].offline),
        gated=bool(rollout.gates),
        closed=tuple(window.text for window in rollout.no_promote),
        chances=None if blind or chances is None else _rounded(chances),
        longest_s=rollout.longest_bake.total_seconds(),
        needed=traffic.needed if traffic else None,
        needed_s=traffic.needed_s if traffic else None,
    )


def _rounded(chances: Chances) -> Chances:
    """Return chances to a tenth of a percent, which are the same on every machine."""
    return Chances(*(round(part, 3) for part in (chances.promoted, chances.held, chances.failed)))


USUAL_FLAWED = 0.02
"""Part of the replayed requests on which two versions differ, where no evaluation has told."""
SENSITIVE = 8
"""Part of the limit at which an alarm is proposed."""
SAMPLES = (3, 5, 10)
SHARES = (25, 50)
NO_DEMAND = "no demand is declared, so nothing can be said of it"
_STANDS_STILL = (Phase.UNDECIDED, Phase.PAUSED, Phase.DOUBTED)


def forecast_rollouts(
    fleet: FleetSpec, target: AliasTarget, history: History
) -> tuple[tuple[GateDue, ...], Chances | None]:
    """Return the plan's gates of an alias with their power, and the likely ends of the rollout.

    The chances are None where nothing can be said.
    """
    if not target.gates or target.phase is Phase.ROLLED_BACK:
        return target.gates, None
    adapter = fleet.adapters[target.alias]
    rollout = fleet.rollouts[adapter.rollout]
    earlier_counts = counts_of(history, target.alias)
    forecasts, promoted, failed = [], 1.0, 0.0
    gates = {gate.name: gate for gate in gates_of(fleet, adapter)}
    unsure = {due.gate for due in target.gates if not _is_sure(due, gates[due.gate])}
    live = [gate for gate in gates.values() if gate.name in unsure and by_traffic(gate)]
    stages = stages_from(rollout, dict(target.shares).get(target.target, 0))
    traffic = live_setting(adapter, rollout, live, earlier_counts, stages)
    if live and stages:
        promoted = simulate(traffic).chance() if traffic else 0.0
    for due in target.gates:
        gate, text = gates[due.gate], ""
        if gate.name in unsure and gate.offline:
            golden = _Golden(fleet, adapter, gate, differed(earlier_counts.get(gate.name, {})))
            chance, mistaken = golden.unchanged(gate.samples)
            promoted, failed = promoted * chance, 1 - (1 - failed) * (1 - mistaken)
            text = golden.text()
        elif gate in live and stages:
            text = _Live(traffic, live.index(gate)).text() if traffic else NO_DEMAND
        forecasts.append(replace(due, power=text) if text else due)
    if target.phase in _STANDS_STILL:
        return tuple(forecasts), None
    return tuple(forecasts), Chances(promoted, max(0.0, 1 - promoted - failed), failed)


def _is_sure(due: GateDue, gate: GateSpec) -> bool:
    accepted = due.status not in (NO_EVIDENCE, *Verdict)
    return accepted or (due.status == Verdict.PASS and gate.offline)


@dataclass(frozen=True, slots=True)
class _Golden:
    """A gate that a golden set decides, or captured requests."""

    fleet: FleetSpec
    adapter: AdapterSpec
    gate: GateSpec
    seen_rates: tuple[float, float | None] | None
    """Part of the items that differed when they were last asked, as of `differed`; None: never."""

    @property
    def facts(self) -> GoldenFacts:
        path, replayed = golden_of(self.adapter, self.gate), self.gate.metric == REPLAY
        return self.fleet.golden.get(path, GoldenFacts("", NEWEST if replayed and not path else 0))

    @property
    def differ(self) -> float:
        """The part of the items on which two versions differ."""
        usual = USUAL_FLAWED if self.gate.metric == REPLAY else USUAL_DISCORDANCE
        return usual if self.seen_rates is None else self.seen_rates[0]

    @property
    def lasting(self) -> float:
        """The part of the items that differs from answer to answer; not known: none."""
        return (self.seen_rates and self.seen_rates[1]) or 0.0

    def unchanged(self, samples: int) -> tuple[float, float]:
        """Return the chances that an unchanged version passes and fails."""
        items, margin = self.facts.independent, self.gate.margin
        return paired_power(items, self.differ, samples, margin, 0.0, self.lasting)

    def text(self) -> str:
        """Return the power of the golden set, and the advice to raise the power."""
        gate, facts, differing = self.gate, self.facts, self.differ
        items = facts.independent
        if not items:
            path = golden_of(self.adapter, gate)
            lack = f"{path} holds no item" if path else "there is no golden set"
            return f"{lack}, so this gate can never pass"
        passes, fails = self.unchanged(gate.samples)
        drop = min(max(differing, USUAL_DISCORDANCE), 2 * gate.margin)
        _, caught = paired_power(items, differing, gate.samples, gate.margin, drop, self.lasting)
        basis = "taken as usual" if self.seen_rates is None else "as last time"
        if self.seen_rates and self.seen_rates[1] is not None:
            chance, lasting = percent_text(differing - self.lasting), percent_text(self.lasting)
            basis += f": {chance} by the chance of an answer, {lasting} every time"
        unsure = 1 - passes - fails
        kind = "items" if facts.digest else "captured requests"
        groups = f" in {items} groups" if facts.repeated else ""
        text = (
            f"{facts.items} {kind}{groups} x {gate.samples}, {percent_text(differing)} differ "
            f"({basis}): an unchanged version gets PASS {percent_text(passes)}, "
            f"INCONCLUSIVE {percent_text(unsure)}; a drop of {points_text(drop)} gets FAIL "
            f"{percent_text(caught)}"
        )
        if passes >= ENOUGH:
            return text
        return f"{text}. To be surer: {', or '.join(self._fixes())}"

    def _fixes(self) -> Iterator[str]:
        gate, items, differing = self.gate, self.facts.independent, self.differ
        more = {n: self.unchanged(n)[0] for n in SAMPLES if n > gate.samples}
        split = self.seen_rates is not None and self.seen_rates[1] is not None
        if enough := [n for n, passes in more.items() if passes >= ENOUGH]:
            unknown = self.seen_rates is not None and not split
            yield f"samples: {enough[0]}" + (" if what differs is chance" if unknown else "")
        elif more and split:
            yield f"samples: {max(more)} (PASS {percent_text(more[max(more)])})"
        lacking = items_needed(differing, gate.samples, gate.margin, self.lasting) - items
        yield f"{max(1, math.ceil(lacking / 10)) * 10} more items"
        if items >= LEAST_ITEMS:
            limit = certifiable(items, differing, gate.samples, self.lasting)
            yield f"max: {math.ceil(100 * limit)}pp"


@dataclass(frozen=True, slots=True)
class _Live:
    """A gate that traffic decides."""

    setting: LiveStages
    place: int
    """Of the gate in the setting."""

    @property
    def gate(self) -> GateSpec:
        return self.setting.gates[self.place][0]

    @property
    def usual(self) -> UsualRate:
        return self.setting.gates[self.place][1]

    @property
    def passes(self) -> Passes:
        return simulate(self.setting)

    def text(self) -> str:
        """Return the power of the declared traffic, and the advice to raise the power."""
        setting, gate, usual = self.setting, self.gate, self.usual
        share, passes = setting.stages[0][0], self.passes.of_gate(self.place)
        total = setting.hourly * setting.longest
        requests, stable = round(total * share / FULL), round(total * (1 - share / FULL))
        text = (
            f"{requests} requests at {share} % in {_span(timedelta(hours=setting.longest), ' ')}, "
            f"{self._basis()}: a healthy version gets PASS {percent_text(passes)}; "
            f"{_harm(gate, usual)} is caught with at least "
            f"{percent_text(catching(gate, requests, stable, usual))}"
        )
        if half := self._half(requests, stable):
            text += f", half the time within {half} requests"
        fixes = list(self._fixes(share)) if passes < ENOUGH else []
        text = f"{text}. To be surer: {', or '.join(fixes)}" if fixes else text
        return text + self._earlier(requests, stable)

    def _earlier(self, requests: int, stable: int) -> str:
        """Propose an alarm where harm is hardly found; empty: there is one, or no need for one."""
        gate, chance = self.gate, catching(self.gate, requests, stable, self.usual)
        if gate.alarm is not None or gate.metric not in RISES or chance >= ENOUGH:
            return ""
        alarm = replace(gate, alarm_at=gate.threshold / SENSITIVE)
        caught = percent_text(catching(alarm, requests, stable, self.usual))
        return f". To catch it sooner: alarm: {alarm.alarm_at:g}{gate.unit} ({caught})"

    def _basis(self) -> str:
        """Return the usual rate and its source, as text."""
        usual, bad = self.usual, "bad" if self.gate.metric in RISES else "beyond the limit"
        if not usual.requests:
            return f"{percent_text(usual.rate)} {bad} (taken as usual)"
        text = f"{percent_text(usual.rate)} {bad} (as seen on {usual.requests} requests)"
        if usual.effect <= USUAL_EFFECT:
            return text
        return f"{text}, of users who ask often, so that {usual.effect:.1f} of theirs count as one"

    def _half(self, requests: int, stable: int) -> int:
        """Return after how many requests half of the harmful versions are caught; 0: never."""
        if catching(self.gate, requests, stable, self.usual) < 0.5:  # noqa: PLR2004 (half)
            return 0

        def caught(number: int) -> bool:
            part = round(stable * number / requests)
            return catching(self.gate, number, part, self.usual) >= 0.5  # noqa: PLR2004 (half)

        return 1 + bisect_left(range(1, requests), True, key=caught)

    def _fixes(self, share: int) -> Iterator[str]:
        (_, sure), *later = self.setting.stages
        for more in SHARES:
            larger = tuple(stage for stage in later if stage[0] > more)
            setting = replace(self.setting, stages=((more, sure), *larger))
            if more > share and simulate(setting).of_gate(self.place) >= ENOUGH:
                yield f"low_traffic: {more}%"
                break
        longest = timedelta(hours=self.setting.longest)
        bakes = (
            f"max_bake: {_span(times * longest)}"
            for times in (2, 3, 4)
            if self.passes.of_gate(self.place, times) >= ENOUGH
        )
        yield from islice(bakes, 1)


def _span(length: timedelta, gap: str = "") -> str:
    """Return a time as a whole number of its largest unit, hours at most: `48h`, `90m`."""
    seconds = length.total_seconds()
    for unit, whole in (("h", 3600), ("min" if gap else "m", 60)):
        if seconds % whole == 0:
            return f"{seconds / whole:.0f}{gap}{unit}"
    return f"{seconds:g}{gap}s"


def _harm(gate: GateSpec, usual_rate: UsualRate) -> str:
    """Name the harmful version that the chance of being caught is about."""
    usual, harmful = harm(gate, usual_rate)
    if gate.metric in RATIOS:
        return "twice the p95"
    kind = "a rise" if gate.metric in RISES else "a rate"
    return f"{kind} from {percent_text(usual)} to {percent_text(harmful)}"
