"""Estimates the requests that the gates of a stage get, how many they need, and for how long."""

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache

from fleet.capacity import hourly_rpm
from fleet.gates import UsualRate, confidence, passing
from fleet.history import History
from fleet.resources import FULL
from fleet.rollout_policy import GateSpec
from fleet.rollouts.forecast import DAY_S, ENOUGH, counts_of, usual_of
from fleet.spec import FleetSpec

_MOST = 20_000
"""Upper bound of the requests that a gate is said to need."""


@dataclass(frozen=True, slots=True)
class StageTraffic:
    """The expected traffic of the new version in a stage, by recorded or declared demand."""

    requests: int
    """In the longest bake."""
    chance: float
    """Chance that a healthy version passes every live gate with the requests."""
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
    rollout, daily = fleet.rollouts[adapter.rollout], 60 * sum(hourly_rpm(adapter.demand))
    gates = [fleet.gates[name] for name in rollout.gates]
    live = [gate for gate in gates if not gate.offline and gate.metric != "neighbour_ratio"]
    if not live or not daily or not 0 < share < FULL:
        return None
    total = daily * rollout.longest_bake.total_seconds() / DAY_S
    requests, others = round(total * share / FULL), round(total * (1 - share / FULL))
    counts, chance, most = counts_of(history, alias), 1.0, 0
    sure = confidence(share, rollout.weights)
    for gate in live:
        usual = usual_of(gate, adapter, counts.get(gate.name, {}))
        chance *= passing(gate, requests, others, usual, sure)
        most = max(most, _needed(gate, share, usual, sure))
    needed = most if most < _MOST else None
    minutes = most * DAY_S / 60 * FULL / (daily * share)
    needed_s = None if needed is None else 60.0 * math.ceil(minutes)
    return StageTraffic(requests, chance, needed, needed_s)


@lru_cache(maxsize=4096)
def _needed(gate: GateSpec, share: int, usual: UsualRate | None, sure: float) -> int:
    """Return the fewest requests with which a healthy version passes 4 times in 5."""
    begin = gate.min_requests

    def passes(requests: int) -> bool:
        others = round(requests * (FULL / share - 1))
        return passing(gate, requests, others, usual, sure) >= ENOUGH

    return begin + bisect_left(range(begin, _MOST), True, key=passes)
