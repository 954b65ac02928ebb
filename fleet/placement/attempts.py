"""Attempts: place all versions in several ways, and return the best.

`attempt` places everything once. A greedy choice may take the only place that another version
could have had, so versions without a place are tried again, in this order:

1. with the next number of replicas: servers that would carry large parts of a load may be taken,
   and weaker servers free;
2. before all others, again and again: versions that are hard to place rise to the front (Joslin
   and Clements 1999, "squeaky wheel" optimisation).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

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
PLACEMENTS = 400
"""Upper bound of the versions placed in the search for a cheaper way, summed over the ways."""
ROOMIER = 0.85
"""Part of the declared utilization up to which servers are filled where that is no dearer."""
MOST_WAYS = 6
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
    # By alias, the numbers of replicas that were tried and had no place.
    failures: dict[str, int] = {}
    first_state, first_unplaced = _once(fleet, targets, live, search, failures)
    # Promises that choose devices may leave too few for other versions: they do not choose then.
    promised = any(adapter.promised for adapter in fleet.adapters.values())
    if first_unplaced and search.promises and promised:
        return attempt(fleet, targets, live, replace(search, promises=False))
    # Everything has a place: it may be had for less.
    if not first_unplaced:
        return _cheapest(first_state, search), []
    # Versions without a place try their next number of replicas.
    unplaced = first_unplaced
    while aliases := {item.alias for item in unplaced if failures.get(item.alias, 0) < item.others}:
        failures |= {alias: failures.get(alias, 0) + 1 for alias in aliases}
        state, unplaced = _once(fleet, targets, live, search, failures)
        if not unplaced:
            return state, []
    # Versions without a place come first in the next attempt, then those that came first before.
    front: tuple[str, ...] = ()
    tried_fronts = {front}
    for _ in range(min(TRIES, WORK // max(len(first_state.items), 1) + 1)):
        if not unplaced or unplaced[0].adapter in front[:1]:
            break  # done, or not even an empty fleet has a place for it
        unplaced_names = tuple(item.adapter for item in unplaced)
        front = (*unplaced_names, *(name for name in front if name not in unplaced_names))
        if front in tried_fronts:
            break
        tried_fronts.add(front)
        state, unplaced = _once(fleet, targets, live, search, failures, front)
        if not unplaced:
            return state, []
    return first_state, first_unplaced


@dataclass(frozen=True, slots=True)
class _SearchOrder:
    """Order and replicas of a further attempt."""

    first_group: int
    """Group of bases whose servers are bought first."""
    failures: dict[str, int]
    """By alias: numbers of replicas that count as tried, so that the next is taken."""


def _cheapest(first_state: PlacementState, search: SearchLimits) -> PlacementState:
    """Return the cheapest of some other ways to place a small fleet, or the given state.

    The orders buy in another sequence, as an order may have taken devices that another order needs
    more; kinds of which all devices are in use cost a surcharge, so that the orders that gain most
    by them get them; or an adapter that is new has another number of replicas.
    """
    state = first_state
    tries = min(PLACEMENTS // max(len(state.items), 1), MOST_WAYS)
    if not tries or not state.groups:
        return state
    fleet, targets, live = state.fleet, state.targets, state.live
    declared_floors = state.floors
    # Aliases whose number of replicas may change.
    aliases = {
        item.alias
        for item in state.items.values()
        if item.others and (search.repack or not item.prior)
    }
    # Kinds of which all devices are in use cost a surcharge.
    best_search = search
    kinds_in_use = _kinds_in_use(state)
    for surcharge in SURCHARGES[: 1 if search.effort == "fast" else None] if kinds_in_use else ():
        dearer = replace(search, surcharges=tuple((kind, surcharge) for kind in kinds_in_use))
        candidate, unplaced = _once(fleet, targets, live, dearer, {})
        if not unplaced and cost(candidate) < cost(state):
            state, best_search = candidate, dearer
    # Bases are bought in another order, or new versions have another number of replicas.
    ways = [_SearchOrder(group, {}) for group in range(1, first_state.groups)]
    ways += [_SearchOrder(0, {alias: 1}) for alias in sorted(aliases)]
    fewest = {
        item.alias: item.others
        for item in state.items.values()
        if item.alias in aliases and item.replicas > max(fleet.adapters[item.alias].replicas, 1)
    }
    if fewest and search.effort != "fast":
        ways.insert(0, _SearchOrder(0, fewest))
        tries += 1
    for way in ways[: tries - 1]:
        candidate, unplaced = _once(
            fleet, targets, live, best_search, way.failures, (), way.first_group
        )
        if not unplaced and cost(candidate) < cost(state):
            state = candidate
    # More room on every server, where that costs nothing and no running version has to move.
    if not any(draft.live for draft in state.drafts.values()):
        policy = replace(fleet.policy, utilization=ROOMIER * fleet.policy.utilization)
        candidate, unplaced = _once(replace(fleet, policy=policy), targets, live, best_search, {})
        if not unplaced and cost(candidate) <= cost(state):
            state = as_declared(candidate, fleet)
    state.floors = declared_floors  # of the declared prices and utilization
    return state


def _kinds_in_use(state: PlacementState) -> list[str]:
    """Return the kinds of which all devices are in use, unless these are all kinds."""
    has_free_device: dict[str, bool] = {}
    for host in state.fleet.hosts.values():
        for device in host.devices:
            is_free = not state.hardware.on_device.get((host.name, device.name))
            has_free_device[device.kind] = has_free_device.get(device.kind, False) or is_free
    if not any(has_free_device.values()):
        return []
    return sorted(kind for kind, is_free in has_free_device.items() if not is_free)


def as_declared(state: PlacementState, fleet: FleetSpec) -> PlacementState:
    """Return a state that was placed under another policy, with the declared fleet."""
    state.fleet = state.hardware.fleet = fleet
    return state


def _once(
    fleet: FleetSpec,
    targets: RolloutTargets,
    live: State,
    search: SearchLimits,
    failures: Mapping[str, int],
    front: tuple[str, ...] = (),
    first_group: int = 0,
) -> tuple[PlacementState, list[Item]]:
    """Place the versions named in `front`, and then all others.

    `failures` counts, by alias, the numbers of replicas that were tried and had no place.

    Where a version left an overloaded server, found no other place and cannot go back, or a server
    would get more load than it has as a version needs fewer servers, all are placed again, and the
    version stays on its servers; in the end no running server is relieved.
    """
    staying: set[str] = set()
    for relief in range(RELIEFS + 1):
        state = placement_state_of(fleet, targets, live, failures, search, staying)
        shut_out = _filled(state, search, front, first_group, staying)
        ease(state)
        shut_out |= overfilled(state)
        if not shut_out:
            break
        staying |= state.items.keys() if relief + 1 == RELIEFS else shut_out
    return state, [item for item in state.missing() if not state.may_wait(item)]


def _filled(
    state: PlacementState,
    search: SearchLimits,
    front: tuple[str, ...],
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
    place_first(state, front)
    for item in state.missing():
        if item.rank == 0:
            reason = "it is not in fleet.lock, so it can only stay where it is"
            state.unplaced[item.adapter] = reason
    fill(state)
    buy(state, search, first_group)
    spare(state)
    restart(state)
    return put_back(state)
