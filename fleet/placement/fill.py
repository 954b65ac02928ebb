"""Fill: put versions on servers that are open, each where it fits best."""

from collections.abc import Callable, Iterable

import numpy as np

from fleet.placement.bins import FULL, Bin, percent
from fleet.placement.items import Item
from fleet.placement.search import Board, hardest_first

Cut = tuple[int, int]
Works = Callable[[Bin, Item], Cut | None]


def fill(board: Board, among: Iterable[Item] | None = None) -> None:
    """Use the room that open servers have, canary slots left free.

    Args:
        board: Everything.
        among: What looks for room; None: all that lacks a place.
    """
    spare = board.fleet.policy.canary_slots

    def works(bin_: Bin, item: Item) -> Cut | None:
        if bin_.fixed:
            fits = item.rank <= bin_.rank and bin_.has_room(item)
            return _carried(board, bin_, item, (bin_.slots, bin_.rank) if fits else None)
        return _carried(board, bin_, item, board.hardware.grown(bin_, item, spare))

    _place_all(board, works, "room", among)


def spare(board: Board) -> None:
    """Use slots that were kept for canaries, where nothing else is left."""

    def works(bin_: Bin, item: Item) -> Cut | None:
        if bin_.fixed:
            return None
        return _carried(board, bin_, item, board.hardware.grown(bin_, item, 0))

    _place_all(board, works, "takes a slot kept spare for canaries")


def restart(board: Board) -> None:
    """Restart running servers with more slots or rank, where their device has the memory.

    While a server of its base is silent, nothing is restarted for a version.
    """
    canaries = board.fleet.policy.canary_slots

    def works(bin_: Bin, item: Item) -> Cut | None:
        if not bin_.devices or board.waits(item):
            return None
        for kept in (canaries, 0):
            cut = _carried(board, bin_, item, board.hardware.grown(bin_, item, kept))
            if cut is not None:
                return cut
        return None

    _place_all(board, works, "the server restarts with more room")


def _place_all(board: Board, works: Works, why: str, among: Iterable[Item] | None = None) -> None:
    pools: dict[str, list[Bin]] = {}
    for bin_ in board.bins.values():
        pools.setdefault(bin_.base.name, []).append(bin_)
    useless: dict[tuple[str, int], set[str]] = {}
    for item in board.missing() if among is None else sorted(among, key=hardest_first):
        pool = pools.get(item.base, [])
        while pool and len(board.bound[item.adapter]) < item.replicas:
            hopeless = useless.setdefault((item.base, item.rank), set())
            found = _best(board, pool, item, works, hopeless)
            if found is None:
                break
            bin_, cut = found
            _take(bin_, item, cut)
            board.bind(item, bin_, _reason(board, bin_) if why == "room" else why)


def _best(
    board: Board, pool: list[Bin], item: Item, works: Works, useless: set[str]
) -> tuple[Bin, Cut] | None:
    """Return the server that a version fits best, with the slots and rank it then has.

    Servers of the lowest sufficient rank come first, so that no slot is wider than it must be;
    among them the one whose load is most unlike the version's, so that peaks do not meet.
    """
    ranked = sorted(pool, key=lambda each: _order(each, item))
    for bin_ in ranked:
        if bin_.closed or bin_.name in useless or not board.admits(bin_, item):
            continue
        cut = works(bin_, item)
        if cut is not None:
            return bin_, cut
        if not item.peak and not item.cached:
            useless.add(bin_.name)  # nothing lighter of this rank will find room either
    return None


def _order(bin_: Bin, item: Item) -> tuple[bool, int, float, str]:
    if not item.peak or not int(bin_.tokens.max()):
        return (bin_.rank < item.rank, bin_.rank, 0.0, bin_.name)
    together = bin_.tokens + item.asks.tokens
    alike = float(together.max()) / float(bin_.tokens.max() + item.peak)
    return (bin_.rank < item.rank, bin_.rank, round(alike, 6), bin_.name)


def _carried(board: Board, bin_: Bin, item: Item, cut: Cut | None) -> Cut | None:
    return cut if cut is not None and board.hardware.carries(bin_, item, cut) else None


def _take(bin_: Bin, item: Item, cut: Cut) -> None:
    """Give a server its slots and rank; a running one then restarts."""
    if bin_.fixed and cut != (bin_.slots, bin_.rank):
        had = f"{bin_.slots} slots of rank {bin_.rank}"
        bin_.fixed = False
        bin_.names = set(bin_.residents)
        bin_.most_listed = None
        bin_.changed = (
            f"`{item.adapter}` of rank {item.rank} finds no room, and the server has {had}"
        )
    bin_.slots, bin_.rank = cut


def _reason(board: Board, bin_: Bin) -> str:
    used = board.hardware.used(bin_)
    if not np.any(used):
        return "first server with a free slot"
    hour = int(used.argmax())
    part = int(used.max()) * board.fleet.policy.utilization / FULL
    return f"has a free slot; its worst hour is {hour:02}:00 UTC, {percent(part)} of its throughput"
