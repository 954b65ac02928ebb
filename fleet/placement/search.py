"""Attempt: place everything once; where that leaves something out, again with that first.

A greedy choice may take the one place that another version could have had. What found no place
is then put before all others and the rest is placed anew, again and again: what is hard to place
rises to the front (Joslin and Clements 1999, "squeaky wheel" optimisation).

Before that, what found no place with one number of replicas is tried with the next: the servers
that would carry large parts of its load may be taken, and weaker ones free.

Place: keep what is valid, fill what is open, buy what is missing, and improve if asked to.

    survey -> keep -> relieve -> fill -> buy -> level -> promises -> (consolidate) -> result

Nothing moves without need. Work grows with versions plus servers, not with their product.
"""

from collections.abc import Mapping
from dataclasses import replace

from fleet.errors import PlacementError
from fleet.placement.buy import buy
from fleet.placement.consolidate import consolidate, cost, level, repacked
from fleet.placement.fill import fill, place_first, restart, spare
from fleet.placement.infeasible import diagnose
from fleet.placement.items import Item
from fleet.placement.keep import close_empty, keep, put_back, relieve
from fleet.placement.latency_swaps import keep_promises
from fleet.placement.result import PlacementResult, result
from fleet.placement.state import PlacementState, SearchLimits, placement_state_of, silent_servers
from fleet.resources import State
from fleet.rollouts import RolloutTargets
from fleet.spec import FleetSpec

TRIES = 24
"""Most attempts beside the first."""
OTHERS = 400
"""Versions placed in looking for a cheaper way, in each one all of them."""
ROOMIER = 0.85
"""Part of the declared utilization that servers are asked for where that is no dearer."""
MOST_OTHERS = 6
"""Most ways that are looked for."""
WORK = 4_000
"""Versions placed in all of them, after which no further one begins."""


def attempt(
    fleet: FleetSpec, wanted: RolloutTargets, live: State, search: SearchLimits
) -> tuple[PlacementState, list[Item]]:
    """Place what can be placed; return the board, and what found no place and waits for nobody.

    Where no attempt places everything, the board is that of the first.
    """
    board, failed = _once(fleet, wanted, live, search, (), {})
    numbers: dict[str, int] = {}
    lacking, size = failed, max(len(board.items), 1)
    if not failed:
        return _cheapest(board, search, min(OTHERS // size, MOST_OTHERS)), []
    while others := {item.alias for item in lacking if numbers.get(item.alias, 0) < item.others}:
        for alias in sorted(others):
            numbers[alias] = numbers.get(alias, 0) + 1
        other, lacking = _once(fleet, wanted, live, search, (), numbers)
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
        other, lacking = _once(fleet, wanted, live, search, first, numbers)
        if not lacking:
            return other, []
    return board, failed


def _cheapest(board: PlacementState, search: SearchLimits, tries: int) -> PlacementState:
    """Return the cheapest of some other ways to place a small fleet, or the given one.

    The groups buy in another order, as one may have taken what another one needs more; or an
    adapter that is new has another number of replicas.
    """
    if not tries or not board.groups:
        return board
    several = sorted({
        item.alias for item in board.items.values() if item.others and not item.prior
    })  # fmt: skip
    turns: list[tuple[int, dict[str, int]]] = [(turn, {}) for turn in range(1, board.groups)]
    for turn, numbers in (turns + [(0, {alias: 1}) for alias in several])[: tries - 1]:
        other, lacking = _once(
            board.fleet, board.wanted, board.live, search, (), numbers, turn=turn
        )
        if not lacking and cost(other) < cost(board):
            board = other
    return _roomier(board, search)


def _roomier(board: PlacementState, search: SearchLimits) -> PlacementState:
    """Return a placement that leaves more room on each server, where that costs nothing.

    Only the first one of a fleet: what runs would have to move.
    """
    if any(draft.live for draft in board.bins.values()):
        return board
    fleet = board.fleet
    policy = replace(fleet.policy, utilization=ROOMIER * fleet.policy.utilization)
    roomy = replace(fleet, policy=policy)
    other, lacking = _once(roomy, board.wanted, board.live, search, (), {})
    if lacking or cost(other) > cost(board):
        return board
    other.fleet = other.hardware.fleet = fleet
    return other


def _once(
    fleet: FleetSpec,
    wanted: RolloutTargets,
    live: State,
    search: SearchLimits,
    first: tuple[str, ...],
    numbers: Mapping[str, int],
    turn: int = 0,
) -> tuple[PlacementState, list[Item]]:
    """Place what is named first before everything else, and then everything else."""
    board = placement_state_of(fleet, wanted, live, numbers)
    keep(board)
    relieve(board)
    close_empty(board)
    place_first(board, first)
    for item in board.missing():
        if item.rank == 0:
            board.unplaced[item.adapter] = (
                "it is not in fleet.lock, so it can only stay where it is"
            )
    fill(board)
    buy(board, search, turn)
    spare(board)
    restart(board)
    put_back(board)
    failed = [item for item in board.missing() if not silent_servers(fleet, live, item)]
    return board, failed


USUAL = SearchLimits()


def place(
    fleet: FleetSpec, wanted: RolloutTargets, live: State, search: SearchLimits = USUAL
) -> PlacementResult:
    """Decide where every wanted version goes.

    Invariants: a version that is loaded in a valid place stays there unless `search` asks for
    more; no server gets more versions than slots, more load in any hour than it may carry, nor
    a device more bytes than it has; replicas share no device; on servers that do not answer
    nothing changes. The order of declarations does not matter.

    Raises:
        PlacementError: FC2001 to FC2006, each naming the constraint that binds.
    """
    board, failed = attempt(fleet, wanted, live, search)
    if failed:
        raise PlacementError(*diagnose(failed, board))
    if fleet.policy.share_devices and any(draft.live is None for draft in board.bins.values()):
        board = _cheaper_whole(board, search)
    for item in board.missing():
        silent = silent_servers(fleet, live, item)
        board.unplaced[item.adapter] = (
            f"{', '.join(silent)} does not answer, and no other server of `{item.base}` has room"
        )
    level(board)
    keep_promises(board)
    if search.repack:
        board = repacked(board, search)
    elif search.max_moves:
        consolidate(board, search.max_moves)
    return result(board)


def _cheaper_whole(board: PlacementState, search: SearchLimits) -> PlacementState:
    """Return what dividing no further device leads to, where that is cheaper than a board.

    A part of a device is bought at its part of the price, and the rest may find no taker.
    """
    fleet = board.fleet
    undivided = replace(fleet, policy=replace(fleet.policy, share_devices=False))
    whole, failed = attempt(undivided, board.wanted, board.live, search)
    if failed or cost(whole) >= cost(board):
        return board
    whole.fleet = whole.hardware.fleet = fleet
    return whole
