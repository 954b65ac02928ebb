"""Estimates the requests of a stage and those that its gates need, by rollouts played often."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fleet.capacity import hourly_rpm
from fleet.gates import BAD, USUAL_EFFECT, Counts, UsualRate, confidence, healthy_rate, seen
from fleet.gates.decide import LEAST_BAD
from fleet.gates.live import LATE
from fleet.history import History
from fleet.policies import RATIOS, RISES, GateSpec, RolloutPolicy
from fleet.resources import FULL
from fleet.spec import AdapterSpec, FleetSpec
from fleet.traffic import Sticky

REPLICATIONS, SEED = 500, 1
LOOKS, LATER, LONGER = 16, 6, 4.0
"""Number of looks until `max_bake` and of later ones, and the end of these. Unit: `max_bake`."""
FEWEST, MOST, SIZES = 20, 20_000, 48
"""Bounds of the requests that gates are said to need, and the number of sizes that are tried."""
MANY_USERS = 1000
"""Upper bound of the users that are drawn."""
ACTIVE = 1.0
"""Standard deviation of the logarithm of users' activity: a few ask most."""
Array = npt.NDArray[np.float64]


Gates = tuple[tuple[GateSpec, UsualRate], ...]
Stage = tuple[int, float]


@dataclass(frozen=True, slots=True)
class LiveStages:
    """The live gates, stages and traffic of a rollout."""

    gates: Gates
    """Gates, with the usual rate of their bad requests."""
    stages: tuple[Stage, ...]
    """Shares, ascending, with the normal quantile of a PASS. Unit: percent."""
    hourly: float
    """Requests an hour of both versions, nights included; above 0."""
    bake: float
    longest: float
    """Lengths of a stage. Unit: hours."""
    users: int = 0
    """Number of named users; 0: many."""


@dataclass(frozen=True)
class Passes:
    """The times at which stages passed. Unit: hours since their begin; infinity: never."""

    longest: float
    together: Array
    """First looks after `bake` at which all gates pass; of shape (stages, replications)."""
    single: Array
    """The same of single gates; of shape (gates, stages, replications)."""

    def chance(self, stages: int | None = None) -> float:
        """Return the chance of a PASS in all stages, or the first ones, in the longest bake."""
        return float((self.together[:stages] <= self.longest).all(axis=0).mean())

    def of_gate(self, place: int, times: float = 1.0) -> float:
        """Return the chance of a PASS of a single gate in all stages.

        `times`: if the longest bake were so many times as long.
        """
        return float((self.single[place] <= times * self.longest).all(axis=0).mean())


@lru_cache(maxsize=2048)
def simulate(setting: LiveStages) -> Passes:
    """Play the rollout of a healthy version."""
    rng = np.random.default_rng(SEED)
    hours, split = _looks(setting), _users(rng, setting.users)
    baked = hours >= min(setting.bake, setting.longest)
    together, single = [], []
    for stage in setting.stages:
        whole = setting.hourly * setting.longest
        passes = _stage(rng, setting.gates, stage, setting.hourly * hours, whole, split)
        together.append(_first(np.logical_and.reduce(passes) & baked, hours))
        single.append([_first(alone & baked, hours) for alone in passes])
    return Passes(setting.longest, np.array(together), np.swapaxes(np.array(single), 0, 1))


@lru_cache(maxsize=2048)
def requests_needed(
    gates: Gates, stage: Stage, whole: float, users: int, chance: float
) -> int | None:
    """Return the number of requests for a PASS of a healthy version; None: too many.

    Args:
        gates: As of `LiveStages`.
        stage: As of `LiveStages`; the share is above 0.
        whole: Requests of both versions in the longest bake.
        users: As of `LiveStages`.
        chance: Of a PASS.
    """
    rng = np.random.default_rng(SEED)
    sizes = np.geomspace(FEWEST, MOST, SIZES)
    passes = _stage(rng, gates, stage, sizes * FULL / stage[0], whole, _users(rng, users))
    ordered = np.sort(_first(np.logical_and.reduce(passes), sizes))
    quantile = float(ordered[math.ceil(chance * REPLICATIONS) - 1])
    return None if math.isinf(quantile) else round(quantile)


def _stage(
    rng: np.random.Generator,
    gates: Gates,
    stage: Stage,
    total: Array,
    whole: float,
    split: tuple[Array, Array],
) -> list[npt.NDArray[np.bool_]]:
    """Return the verdicts of gates by replication and look.

    `total`: requests until looks; `whole`: those of the longest bake. See `live.quantile`.
    """
    (share, at_end), (bucket, active) = stage, split
    z = at_end / np.sqrt(np.minimum(1, total / whole))
    mine = (active * (bucket < share / FULL)).sum(axis=1) if active.size else share / FULL
    # The parts of all users may sum to a little more than 1: no version gets less than nothing.
    mine = np.minimum(1, np.broadcast_to(mine, REPLICATIONS))[:, None]
    requests_by_side = total * mine, total * (1 - mine)
    return [_passes(rng, gate, usual, requests_by_side, z) for gate, usual in gates]


def _looks(setting: LiveStages) -> Array:
    """Return the times of the looks. Unit: hours."""
    last = setting.longest
    until = np.linspace(0, last, LOOKS + 1)[1:]
    later = last * np.geomspace(1, LONGER, LATER + 1)[1:]
    return np.union1d([min(setting.bake, last)], np.concatenate([until, later]))


def _users(rng: np.random.Generator, users: int) -> tuple[Array, Array]:
    """Draw the buckets of users in the split, and their parts of the traffic."""
    size = REPLICATIONS, min(users, MANY_USERS)
    active = rng.lognormal(0, ACTIVE, size)
    return rng.random(size), active / active.sum(axis=1, keepdims=True) if users else active


def _passes(
    rng: np.random.Generator,
    gate: GateSpec,
    usual: UsualRate,
    requests_by_side: tuple[Array, Array],
    z: Array,
) -> npt.NDArray[np.bool_]:
    """Return the verdicts of a gate by replication and look."""
    (bad, requests), (other, of_other) = (
        _counts(rng, number / usual.effect, usual.rate) for number in requests_by_side
    )
    enough = requests >= gate.min_requests
    if gate.metric in RISES or gate.metric in RATIOS:
        upper, limit = newcombe_uppers(bad, requests, other, of_other, z), np.array(gate.margin)
        if gate.metric in RATIOS:
            load = (other + LEAST_BAD) / (of_other * usual.rate + LEAST_BAD)
            limit = max(LATE / 2, LATE - usual.rate) * np.minimum(1.0, load)
        enough = enough & (of_other > 0)
    else:
        upper = wilson_bounds(bad, requests, z)[1]
        limit = np.array(gate.margin if gate.metric == "error_rate" else LATE)
    passed: npt.NDArray[np.bool_] = enough & (upper <= limit)
    return passed


def _counts(rng: np.random.Generator, requests: Array, rate: float) -> tuple[Array, Array]:
    """Draw bad requests until the looks, and return them with the requests."""
    whole = np.floor(np.broadcast_to(requests, (REPLICATIONS, requests.shape[-1])))
    new = np.diff(whole, axis=1, prepend=0).astype(np.int64)
    return np.cumsum(rng.binomial(new, rate), axis=1).astype(float), whole


def _first(passes: npt.NDArray[np.bool_], hours: Array) -> Array:
    return np.where(passes.any(axis=1), hours[passes.argmax(axis=1)], np.inf)


def newcombe_uppers(
    bad: Array, requests: Array, other: Array, of_other: Array, z: float | Array
) -> Array:
    """Return upper bounds of the difference of two rates, like `intervals.newcombe`."""
    requests, of_other = np.maximum(requests, 1), np.maximum(of_other, 1)
    lower, upper = wilson_bounds(other, of_other, z)[0], wilson_bounds(bad, requests, z)[1]
    rate, rate_other = bad / requests, other / of_other
    limits: Array = rate - rate_other + np.hypot(upper - rate, rate_other - lower)
    return limits


def wilson_bounds(bad: Array, requests: Array, z: float | Array) -> tuple[Array, Array]:
    """Return both bounds of a rate, like `intervals.wilson`."""
    requests = np.maximum(requests, 1)
    rate, spread = bad / requests, z * z / requests
    half = z * np.sqrt(rate * (1 - rate) / requests + spread / (4 * requests))
    return (rate + spread / 2 - half) / (1 + spread), (rate + spread / 2 + half) / (1 + spread)


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
    earlier_counts, stages = counts_of(history, alias), stages_from(rollout, share)
    setting = live_setting(adapter, rollout, gates, earlier_counts, stages)
    if setting is None or not 0 < share < FULL:
        return None
    part = setting.hourly * share / FULL
    outcome = round(part * setting.longest), simulate(setting).chance(stages=1)
    whole = setting.hourly * setting.longest
    needed = requests_needed(setting.gates, setting.stages[0], whole, setting.users, ENOUGH)
    return StageTraffic(*outcome, needed, needed and 60.0 * math.ceil(60 * needed / part))


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
    bad, counted = demand.faults.seen(kind)
    return seen(
        gate,
        {"bad_stable": (bad,), "requests_stable": (counted,)}
        if gate.metric in RISES
        else {"bad": (bad,), "requests": (counted,)},
    )
