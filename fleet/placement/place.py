"""Place: keep what is valid, fill what is open, buy what is missing, and improve if asked to.

    survey -> keep -> relieve -> fill -> buy -> level -> promises -> (consolidate) -> result

Nothing moves without need. Work grows with versions plus servers, not with their product.
"""

from dataclasses import replace

from fleet.declared import Fleet
from fleet.errors import PlacementError
from fleet.pace import Paced
from fleet.placement.attempt import attempt
from fleet.placement.consolidate import consolidate, cost, repacked
from fleet.placement.exchanges import keep_promises
from fleet.placement.infeasible import diagnose
from fleet.placement.level import level
from fleet.placement.outcome import Placement
from fleet.placement.result import result
from fleet.placement.search import Board, Search, silent_servers
from fleet.resources import State

USUAL = Search()


def place(fleet: Fleet, wanted: Paced, live: State, search: Search = USUAL) -> Placement:
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
    if fleet.policy.share_devices and any(each.live is None for each in board.bins.values()):
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


def _cheaper_whole(board: Board, search: Search) -> Board:
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
