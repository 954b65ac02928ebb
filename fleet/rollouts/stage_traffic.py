"""Estimates the requests of a stage, and the requests that its gates need."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from fleet.capacity import hourly_rpm
from fleet.gates import (
    BAD,
    USUAL_EFFECT,
    Counts,
    UsualRate,
    confidence,
    healthy_rate,
    seen,
)
from fleet.history import History
from fleet.policies import RISES, GateSpec, RolloutPolicy
from fleet.resources import FULL
from fleet.rollouts.simulation import LiveStages, requests_needed, simulate
from fleet.spec import AdapterSpec, FleetSpec
from fleet.traffic import Sticky

ENOUGH = 0.8
"""Chance of a PASS below which something is proposed."""
_HOUR = timedelta(hours=1)
_DAY = 24


@dataclass(frozen=True, slots=True)
class StageTraffic:
    """The expected traffic of the new version in a stage, by recorded or declared demand."""

    requests: int
    """In the longest bake."""
    chance: float
    """Chance that a healthy version passes every live gate in the longest bake."""
    needed: int | None
    """Requests with which a healthy version passes every live gate 4 times in 5; None: too many."""
    needed_s: float | None
    """Seconds until the needed requests have come, by the traffic of whole days; full minutes."""


def stage_traffic(
    fleet: FleetSpec, alias: str, history: History, share: int
) -> StageTraffic | None:
    """Return the traffic of a stage at a share in percent; None: nothing is known or asked of it.

    A share of 100 leaves no old version to compare with, and is judged otherwise.
    """
    adapter = fleet.adapters[alias]
    rollout = fleet.rollouts[adapter.rollout]
    gates = (gate for gate in (fleet.gates[name] for name in rollout.gates) if by_traffic(gate))
    known, stages = counts_of(history, alias), stages_from(rollout, share)
    setting = live_setting(adapter, rollout, gates, known, stages)
    if setting is None or not 0 < share < FULL:
        return None
    part = setting.hourly * share / FULL
    found = round(part * setting.longest), simulate(setting).chance(stages=1)
    whole = setting.hourly * setting.longest
    needed = requests_needed(setting.gates, setting.stages[0], whole, setting.users, ENOUGH)
    return StageTraffic(*found, needed, needed and 60.0 * math.ceil(60 * needed / part))


def by_traffic(gate: GateSpec) -> bool:
    """Say whether the alias's own requests decide a gate."""
    return not gate.offline and gate.metric != "neighbour_ratio"


def stages_from(rollout: RolloutPolicy, percent: int) -> tuple[int, ...]:
    """Return the shares at which gates judge traffic, from the share `percent` on."""
    begun = (percent,) if percent else ()
    return (*begun, *(weight for weight in rollout.weights if percent < weight < FULL))


def live_setting(
    adapter: AdapterSpec,
    rollout: RolloutPolicy,
    gates: Iterable[GateSpec],
    counts: Mapping[str, Counts],
    stages: Iterable[int],
) -> LiveStages | None:
    """Return live gates with their traffic; None: no gate, or no traffic."""
    judged = tuple(
        (gate, usual_of(gate, adapter, counts.get(gate.name, {})) or assumed(gate))
        for gate in gates
    )
    shares = tuple((share, confidence(share, rollout.weights)) for share in stages)
    hourly = 60 * sum(hourly_rpm(adapter.demand)) / _DAY
    if not judged or not shares or not hourly:
        return None
    by_user = adapter.sticky in (Sticky.SESSION, Sticky.USER)
    users = adapter.demand.users if adapter.demand and by_user else None
    bake, longest = rollout.bake / _HOUR, rollout.longest_bake / _HOUR
    return LiveStages(judged, shares, hourly, bake, longest, users or 0)


def assumed(gate: GateSpec) -> UsualRate:
    """Return the usual rate where none was measured."""
    return UsualRate(healthy_rate(gate), USUAL_EFFECT)


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
