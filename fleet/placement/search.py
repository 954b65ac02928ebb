"""Search: keep valid places, fill open servers, buy missing servers, and improve if asked to.

Nothing moves without need. Work grows with versions plus servers, not with their product.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from fleet.errors import Diagnostic, PlacementError
from fleet.placement.attempts import as_declared, attempt
from fleet.placement.consolidate import consolidate, cost, level, shrink
from fleet.placement.fill import substitute
from fleet.placement.items import Item
from fleet.placement.keep import keep
from fleet.placement.latency_swaps import keep_promises
from fleet.placement.live_servers import placement_state_of
from fleet.placement.overload import ease
from fleet.placement.repack import find_way, relocate, reuse
from fleet.placement.result import PlacementResult, result
from fleet.placement.state import PlacementState, SearchLimits, hardest_first
from fleet.placement.unplaced import diagnose
from fleet.placement.upgrades import add_upgrade_servers, restarting, without_room
from fleet.placement.widen import widen
from fleet.plan import Saving
from fleet.resources import State
from fleet.rollouts import RolloutTargets
from fleet.spec import FleetSpec

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
        found = diagnose(failed, state)
        raise PlacementError(*_advised(found, fleet, targets, live, search))
    if short := add_upgrade_servers(state, targets, live):
        return place(fleet, without_room(targets, short), live, search)
    placement = result(state, search.effort)
    asked = search.repack or search.max_moves
    if asked or targets.upgrades or _peak(placement) > BUSY * fleet.policy.utilization:
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
    before, moves = cost(state), sum(map(len, state.bound.values()))
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
            left = (n for n, item in fresh.items.items() if {*item.prior} - {*fresh.bound[n]})
            fresh.optional = dict.fromkeys(left, why)
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
    found: Iterable[Diagnostic],
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
        yield from found
        return
    for diagnostic in found:
        yield replace(
            diagnostic,
            hint=f"With the new settings of base `{bases[0]}` all versions fit, and no device is "
            "free for a canary. To let servers restart in their place, which nothing judges",
            command=f"fleetctl upgrade advance {bases[0]} --reason TEXT",
        )
