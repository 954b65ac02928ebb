"""First: give versions that are hard to place a place before all others."""

from collections import Counter

from fleet.budget import RANKS, rank_rung
from fleet.placement.bins import Bin
from fleet.placement.buy import hosts_for
from fleet.placement.items import Item
from fleet.placement.search import Board, by_name
from fleet.placement.stock import kinds_for

WATCHED = 500
"""Versions that are asked which hosts they could go to."""


def place_first(board: Board, names: tuple[str, ...]) -> None:
    """Place versions one after the other: on open servers, else where the fewest others could go.

    Of places that are wanted alike the cheapest is taken.
    """
    if not names:
        return
    wanted = Counter(
        host for each in board.missing()[:WATCHED] for host in set(hosts_for(board, each))
    )
    for name in names:
        item = board.items.get(name)
        while item is not None and len(board.bound[name]) < item.replicas:
            if not (_joined(board, item, wanted) or _opened(board, item, wanted)):
                break


def _joined(board: Board, item: Item, wanted: Counter[str]) -> bool:
    """Put a version on an open server; say whether there was room."""
    for bin_ in sorted(by_name(board.bins.values()), key=lambda each: wanted[each.host]):
        if bin_.base.name == item.base and not bin_.closed and _taken(board, bin_, item):
            return True
    return False


def _opened(board: Board, item: Item, wanted: Counter[str]) -> bool:
    """Open a server for a version; say whether there was a device for it."""
    base = board.fleet.bases[item.base]
    rank = base.max_lora_rank or rank_rung(item.rank) or RANKS[-1]
    kinds = kinds_for(board, base, rank, frozenset(hosts_for(board, item)))
    seats = [
        (wanted[host.name], place, number, kind.parts, host, devices)
        for place, kind in enumerate(kinds)
        for number, (host, devices) in enumerate(kind.seats)
    ]
    for *_, parts, host, devices in sorted(seats, key=lambda each: each[:3]):
        bin_ = board.open(item.base, host, devices, parts)
        if _taken(board, bin_, item):
            board.opened[bin_.name] = "elsewhere, another version would find no place"
            return True
        board.close(bin_)
    return False


def _taken(board: Board, bin_: Bin, item: Item) -> bool:
    """Bind a version where rules, slots and load allow."""
    if not board.admits(bin_, item):
        return False
    for kept in (board.fleet.policy.canary_slots, 0):
        if bin_.fixed:
            fits = item.rank <= bin_.rank and bin_.has_room(item)
            cut = (bin_.slots, bin_.rank) if fits else None
        else:
            cut = board.hardware.grown(bin_, item, kept)
        if cut is not None and board.hardware.carries(bin_, item, cut):
            bin_.slots, bin_.rank = cut
            board.bind(item, bin_, "elsewhere, another version would find no place")
            return True
    return False
