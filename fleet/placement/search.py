"""Search: keep valid places, fill open servers, buy missing servers, and improve if asked to.

`attempt` places all versions in several ways, and returns the best; `place` evens out peaks, keeps
promises and repacks around the attempts. Nothing moves without need. Work grows with versions plus
servers, not with their product.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from fleet.errors import Diagnostic, PlacementError
from fleet.placement.model.items import Item
from fleet.placement.model.state import PlacementResult, PlacementState, SearchLimits, hardest_first
from fleet.placement.phases.buy import buy
from fleet.placement.phases.consolidate import consolidate, cost, level, shrink
from fleet.placement.phases.fill import fill, place_first, restart, spare, substitute
from fleet.placement.phases.keep import close_empty, keep, placement_state_of
from fleet.placement.phases.latency import keep_promises, widen
from fleet.placement.phases.overload import ease, note_loads, overfilled, put_back, relieve
from fleet.placement.phases.repack import empty, find_way, relocate, reuse
from fleet.placement.phases.upgrades import add_upgrade_servers, restarting, without_room
from fleet.placement.result import result
from fleet.placement.unplaced import diagnose
from fleet.plan import Saving
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
    while aliases := {
        item.alias for item in unplaced if failures.get(item.alias, 0) < item.retries
    }:
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
        if item.retries and (search.repack or not item.prior)
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
        item.alias: item.retries
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


ROUNDS = 4
"""Upper bound of the packings afresh; each leaves servers that the one before had no way for."""
BUSY = 0.75
"""Mean of the busiest hours, as part of the usable load, up to which a saving is looked for."""
WORTH = 0.1
"""Lower bound of a saving that plans tell, as part of the price."""


def substitutes(fleet: FleetSpec, targets: RolloutTargets, live: State) -> dict[str, str]:
    """Return servers with room for the versions whose traffic goes to silent servers alone.

    By full adapter name. Nothing else moves, starts or restarts.
    """
    state = placement_state_of(fleet, targets, live)
    keep(state)
    silent = live.unknown_servers.keys()
    unanswered = {
        share.adapter
        for route in live.routes().values()
        for share in route.shares
        if share.percent and silent >= set(share.servers) and share.adapter in state.items
    }
    return substitute(state, sorted((state.items[name] for name in unanswered), key=hardest_first))


USUAL = SearchLimits()


def place(
    fleet: FleetSpec, targets: RolloutTargets, live: State, search: SearchLimits = USUAL
) -> PlacementResult:
    """Return the servers of a fleet, and the versions on them.

    Invariants: a version that is loaded in a valid place stays there unless `search` asks for
    more; no server gets more versions than slots, more load in any hour than it may carry, nor
    a device more bytes than it has; replicas share no device; on servers that do not answer
    nothing changes. The order of declarations does not matter.

    Raises:
        PlacementError: FC2001 to FC2010, naming the limit that leaves no place.
    """
    state, failed = _placed(fleet, targets, live, replace(search, repack=False))
    if failed and (without := without_room(targets, targets.upgrades)) != targets:
        return place(fleet, without, live, search)
    if search.repack and not targets.upgrades:
        state, failed = _repacked(state, failed, search)
    elif search.max_moves and not failed:
        consolidate(state, search.max_moves)
    if failed:
        diagnostics = diagnose(failed, state)
        raise PlacementError(*_advised(diagnostics, fleet, targets, live, search))
    if short := add_upgrade_servers(state, targets, live):
        return place(fleet, without_room(targets, short), live, search)
    placement = result(state, search.effort)
    may_move = search.repack or search.max_moves
    if may_move or targets.upgrades or _peak(placement) > BUSY * fleet.policy.utilization:
        return placement
    return replace(placement, saving=_saving(state, placement.price - placement.bound))


def _peak(placement: PlacementResult) -> float:
    """Return the mean of the servers' busiest hours, as part of their throughput."""
    peaks = [max(use.load) for use in placement.capacity if use.load]
    return sum(peaks) / len(peaks) if peaks else 1.0


def _saving(state: PlacementState, most: float) -> Saving | None:
    """Empty servers like `--max-moves`; return a saving worth telling."""
    before = cost(state)
    moves = consolidate(state, sum(map(len, state.bound.values())))
    saved = before - cost(state)
    worth = moves and WORTH * before <= saved <= most + 1e-6
    return Saving(moves, round(saved, 6)) if worth else None


def _placed(
    fleet: FleetSpec, targets: RolloutTargets, live: State, search: SearchLimits
) -> tuple[PlacementState, list[Item]]:
    """Place all versions and even out the peaks; return the versions without a place beside."""
    state, failed = attempt(fleet, targets, live, search)
    if failed:
        return state, failed
    if fleet.policy.share_devices and any(draft.live is None for draft in state.drafts.values()):
        # A part of a device is bought at its part of the price, and the rest may find no taker.
        undivided = replace(fleet, policy=replace(fleet.policy, share_devices=False))
        whole, failed = attempt(undivided, targets, live, search)
        if not failed and cost(whole) < cost(state):
            state = as_declared(whole, fleet)
    for item in state.missing():
        silent = state.silent_servers(item)
        names = ", ".join(f"`{name}`" for name in silent or live.away_hosts)
        why = f"{names} {'does not answer' if silent else 'is away'}"
        state.unplaced[item.adapter] = f"{why}, and no other server of `{item.base}` has room"
    level(state)
    keep_promises(state)
    widen(state)
    shrink(state)
    return state, []


def _repacked(
    state: PlacementState, failed: list[Item], search: SearchLimits
) -> tuple[PlacementState, list[Item]]:
    """Place everything afresh; return that where it is cheaper than emptying servers, else that."""
    before = cost(state)
    moves = sum(map(len, state.bound.values()))
    if not failed:
        consolidate(state, moves)
        ease(state)
    staying: set[str] = set()
    for _ in range(ROUNDS):
        fresh, lacking = _placed(
            state.fleet, state.targets, state.live, replace(search, staying=frozenset(staying))
        )
        stuck = _missed(fresh, state)
        in_vain = bool(stuck) and stuck <= staying
        if lacking or in_vain or (not failed and cost(fresh) >= cost(state)):
            break
        if not stuck:
            consolidate(fresh, moves)
            reuse(fresh)
            relocate(fresh)
            stuck = find_way(fresh)
        if not stuck:
            why = "packing everything afresh gives every version a place"
            if not failed:
                why = f"packing everything afresh saves {before - cost(fresh):g} an hour in all"
            moved = (n for n, item in fresh.items.items() if {*item.prior} - {*fresh.bound[n]})
            fresh.optional = dict.fromkeys(moved, why)
            return fresh, []
        staying |= stuck
    if not failed and cost(state) == before:
        state.notes.append("packing everything afresh saves nothing")
    return state, failed


def _missed(fresh: PlacementState, state: PlacementState) -> set[str]:
    """Return the live servers of versions that have a place now, and would wait afresh."""
    return {
        name
        for adapter, item in fresh.items.items()
        if fresh.missing_replicas(item) > 0
        and len(fresh.bound[adapter]) < len(state.bound[adapter])
        for name in item.prior
    }


def _advised(
    diagnostics: Iterable[Diagnostic],
    fleet: FleetSpec,
    targets: RolloutTargets,
    live: State,
    search: SearchLimits,
) -> Iterator[Diagnostic]:
    """Yield the diagnostics; where new settings are held back and would fit, with the way to them.

    Servers keep their settings until golden sets were asked, for which no device is free.
    """
    bases = [upgrade.base for upgrade in targets.upgrades if upgrade.held]
    if not bases or attempt(fleet, restarting(targets), live, search)[1]:
        yield from diagnostics
        return
    for diagnostic in diagnostics:
        yield replace(
            diagnostic,
            hint=f"With the new settings of base `{bases[0]}` all versions fit, and no device is "
            "free for a canary. To let servers restart in their place, which nothing judges",
            command=f"fleetctl upgrade advance {bases[0]} --reason TEXT",
        )
