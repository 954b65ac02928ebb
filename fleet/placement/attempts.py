"""Attempts: place all versions in several ways, and return the best.

`attempt` places everything once. A greedy choice may take the only place that another version
could have had, so versions without a place are tried again, in this order:

1. with the next number of replicas: servers that would carry large parts of a load may be taken,
   and weaker servers free;
2. before all others, again and again: versions that are hard to place rise to the front (Joslin
   and Clements 1999, "squeaky wheel" optimisation).
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

from fleet.placement.buy import buy
from fleet.placement.consolidate import cost
from fleet.placement.fill import fill, place_first, restart, spare
from fleet.placement.items import Item
from fleet.placement.keep import close_empty, keep
from fleet.placement.live_servers import placement_state_of
from fleet.placement.overload import ease, note_loads, overfilled, put_back, relieve
from fleet.placement.repack import empty
from fleet.placement.state import PlacementState, SearchLimits
from fleet.resources import State
from fleet.rollouts import RolloutTargets
from fleet.spec import FleetSpec

TRIES = 24
"""Upper bound of the attempts besides the first."""
OTHERS = 400
"""Upper bound of the versions placed in the search for a cheaper way, summed over the ways."""
ROOMIER = 0.85
"""Part of the declared utilization up to which servers are filled where that is no dearer."""
MOST_OTHERS = 6
"""Upper bound of the other ways that are tried."""
SURCHARGES = (0.25, 0.5)
"""Parts of its price that a kind of device costs more where all its devices are in use; effort
`fast` tries the first alone."""
RELIEFS = 3
"""Upper bound of the times that overloaded servers are relieved in an attempt."""
WORK = 4_000
"""Upper bound of the versions placed in all attempts, roughly."""


def attempt(
    fleet: FleetSpec, targets: RolloutTargets, live: State, search: SearchLimits
) -> tuple[PlacementState, list[Item]]:
    """Place all versions that can be placed; return the state, and the versions without a place.

    Versions that wait for a silent server or a host are not among the latter. Where no attempt
    places everything, the state is that of the first attempt in which promises choose no devices.
    """
    numbers: dict[str, int] = {}
    state, failed = _once(fleet, targets, live, search, numbers)
    if failed and search.promises and any(its.promised for its in fleet.adapters.values()):
        return attempt(fleet, targets, live, replace(search, promises=False))
    lacking, size = failed, max(len(state.items), 1)
    if not failed:
        return _cheapest(state, search), []
    while others := {item.alias for item in lacking if numbers.get(item.alias, 0) < item.others}:
        numbers |= {alias: numbers.get(alias, 0) + 1 for alias in others}
        other, lacking = _once(fleet, targets, live, search, numbers)
        if not lacking:
            return other, []
    first: tuple[str, ...] = ()
    tried = {first}
    for _ in range(min(TRIES, WORK // size + 1)):
        if not lacking or lacking[0].adapter in first[:1]:
            break  # done, or not even an empty fleet has a place for it
        front = tuple(item.adapter for item in lacking)
        first = (*front, *(name for name in first if name not in front))
        if first in tried:
            break
        tried.add(first)
        other, lacking = _once(fleet, targets, live, search, numbers, first)
        if not lacking:
            return other, []
    return state, failed


def _cheapest(state: PlacementState, search: SearchLimits) -> PlacementState:
    """Return the cheapest of some other ways to place a small fleet, or the given state.

    The orders buy in another sequence, as an order may have taken devices that another order needs
    more; kinds of which all devices are in use cost a surcharge, so that the orders that gain most
    by them get them; or an adapter that is new has another number of replicas.
    """
    tries, best = min(OTHERS // max(len(state.items), 1), MOST_OTHERS), search
    if not tries or not state.groups:
        return state
    several = {
        item.alias
        for item in state.items.values()
        if item.others and (search.repack or not item.prior)
    }
    ways: list[tuple[int, dict[str, int]]] = [(group, {}) for group in range(1, state.groups)]
    ways += [(0, {alias: 1}) for alias in sorted(several)]
    fleet, targets, live, floors = state.fleet, state.targets, state.live, state.floors
    taken = _taken(state)
    for part in SURCHARGES[: 1 if search.effort == "fast" else None] if taken else ():
        dearer = replace(search, surcharges=tuple((kind, part) for kind in taken))
        other, lacking = _once(fleet, targets, live, dearer, {})
        if not lacking and cost(other) < cost(state):
            state, best = other, dearer
    halves = {
        item.alias: item.others
        for item in state.items.values()
        if item.alias in several and item.replicas > max(fleet.adapters[item.alias].replicas, 1)
    }
    if halves and search.effort != "fast":
        ways.insert(0, (0, halves))
        tries += 1
    for first_group, numbers in ways[: tries - 1]:
        other, lacking = _once(fleet, targets, live, best, numbers, (), first_group)
        if not lacking and cost(other) < cost(state):
            state = other
    # More room on every server, where that costs nothing and no running version has to move.
    if not any(draft.live for draft in state.drafts.values()):
        policy = replace(fleet.policy, utilization=ROOMIER * fleet.policy.utilization)
        other, lacking = _once(replace(fleet, policy=policy), targets, live, best, {})
        if not lacking and cost(other) <= cost(state):
            state = as_declared(other, fleet)
    state.floors = floors  # of the declared prices and utilization
    return state


def _taken(state: PlacementState) -> list[str]:
    """Return the kinds of which all devices are in use, unless these are all kinds."""
    free: dict[str, bool] = {}
    for host in state.fleet.hosts.values():
        for device in host.devices:
            unused = not state.hardware.on_device.get((host.name, device.name))
            free[device.kind] = free.get(device.kind, False) or unused
    return sorted(kind for kind, left in free.items() if not left) if any(free.values()) else []


def as_declared(state: PlacementState, fleet: FleetSpec) -> PlacementState:
    """Return a state that was placed under another policy, with the declared fleet."""
    state.fleet = state.hardware.fleet = fleet
    return state


def _once(
    fleet: FleetSpec,
    targets: RolloutTargets,
    live: State,
    search: SearchLimits,
    numbers: Mapping[str, int],
    first: tuple[str, ...] = (),
    first_group: int = 0,
) -> tuple[PlacementState, list[Item]]:
    """Place the versions named in `first`, and then all others.

    Where a version left an overloaded server, found no other place and cannot go back, or a server
    would get more load than it has as a version needs fewer servers, all are placed again, and the
    version stays on its servers; in the end no running server is relieved.
    """
    staying: set[str] = set()
    for again in range(RELIEFS + 1):
        state = placement_state_of(fleet, targets, live, numbers, search, staying)
        shut_out = _filled(state, search, first, first_group, staying)
        ease(state)
        shut_out |= overfilled(state)
        if not shut_out:
            break
        staying |= state.items.keys() if again + 1 == RELIEFS else shut_out
    return state, [item for item in state.missing() if not state.may_wait(item)]


def _filled(
    state: PlacementState,
    search: SearchLimits,
    first: tuple[str, ...],
    first_group: int,
    staying: Collection[str],
) -> set[str]:
    """Place all versions; return those that left an overloaded server and cannot go back."""
    note_loads(state)
    if search.repack:
        empty(state, search.staying)
    else:
        keep(state)
        relieve(state, staying)
        close_empty(state)
    place_first(state, first)
    for item in state.missing():
        if item.rank == 0:
            why = "it is not in fleet.lock, so it can only stay where it is"
            state.unplaced[item.adapter] = why
    fill(state)
    buy(state, search, first_group)
    spare(state)
    restart(state)
    return put_back(state)
