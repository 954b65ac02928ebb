"""Fill: put versions on servers that are open, each where it fits best.

First: give versions that are hard to place a place before all others.
"""

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np

from fleet.placement.free_devices import hosts_for, kinds_for
from fleet.placement.items import Item
from fleet.placement.servers import FULL, ServerDraft, percent
from fleet.placement.state import PlacementState, by_name, hardest_first
from fleet.vllm import RANKS, rank_bucket

Cut = tuple[int, int]
Works = Callable[[ServerDraft, Item], Cut | None]


def fill(board: PlacementState, among: Iterable[Item] | None = None) -> None:
    """Use the room that open servers have, canary slots left free.

    Args:
        board: Everything.
        among: What looks for room; None: all that lacks a place.
    """
    spare = board.fleet.policy.canary_slots

    def works(bin_: ServerDraft, item: Item) -> Cut | None:
        if bin_.fixed:
            fits = item.rank <= bin_.rank and bin_.has_room(item)
            return _carried(board, bin_, item, (bin_.slots, bin_.rank) if fits else None)
        return _carried(board, bin_, item, board.hardware.grown(bin_, item, spare))

    _place_all(board, works, "room", among)


def spare(board: PlacementState) -> None:
    """Use slots that were kept for canaries, where nothing else is left."""

    def works(bin_: ServerDraft, item: Item) -> Cut | None:
        if bin_.fixed:
            return None
        return _carried(board, bin_, item, board.hardware.grown(bin_, item, 0))

    _place_all(board, works, "takes a slot kept spare for canaries")


def restart(board: PlacementState) -> None:
    """Restart running servers with more slots or rank, where their device has the memory.

    While a server of its base is silent, nothing is restarted for a version.
    """
    canaries = board.fleet.policy.canary_slots

    def works(bin_: ServerDraft, item: Item) -> Cut | None:
        if not bin_.devices or board.waits(item):
            return None
        for kept in (canaries, 0):
            cut = _carried(board, bin_, item, board.hardware.grown(bin_, item, kept))
            if cut is not None:
                return cut
        return None

    _place_all(board, works, "the server restarts with more room")


def _place_all(
    board: PlacementState, works: Works, why: str, among: Iterable[Item] | None = None
) -> None:
    pools: dict[str, list[ServerDraft]] = {}
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
    board: PlacementState, pool: list[ServerDraft], item: Item, works: Works, useless: set[str]
) -> tuple[ServerDraft, Cut] | None:
    """Return the server that a version fits best, with the slots and rank it then has.

    Servers of the lowest sufficient rank come first, so that no slot is wider than it must be;
    among them the one whose load is most unlike the version's, so that peaks do not meet.
    """
    ranked = sorted(pool, key=lambda draft: _order(draft, item))
    for bin_ in ranked:
        if bin_.closed or bin_.name in useless or not board.admits(bin_, item):
            continue
        cut = works(bin_, item)
        if cut is not None:
            return bin_, cut
        if not item.peak and not item.cached:
            useless.add(bin_.name)  # nothing lighter of this rank will find room either
    return None


def _order(bin_: ServerDraft, item: Item) -> tuple[bool, int, float, str]:
    if not item.peak or not int(bin_.tokens.max()):
        return (bin_.rank < item.rank, bin_.rank, 0.0, bin_.name)
    together = bin_.tokens + item.asks.tokens
    alike = float(together.max()) / float(bin_.tokens.max() + item.peak)
    return (bin_.rank < item.rank, bin_.rank, round(alike, 6), bin_.name)


def _carried(board: PlacementState, bin_: ServerDraft, item: Item, cut: Cut | None) -> Cut | None:
    return cut if cut is not None and board.hardware.carries(bin_, item, cut) else None


def _take(bin_: ServerDraft, item: Item, cut: Cut) -> None:
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


def _reason(board: PlacementState, bin_: ServerDraft) -> str:
    used = board.hardware.used(bin_)
    if not np.any(used):
        return "first server with a free slot"
    hour = int(used.argmax())
    part = int(used.max()) * board.fleet.policy.utilization / FULL
    return f"has a free slot; its worst hour is {hour:02}:00 UTC, {percent(part)} of its throughput"


WATCHED = 500
"""Versions that are asked which hosts they could go to."""


def place_first(board: PlacementState, names: tuple[str, ...]) -> None:
    """Place versions one after the other: on open servers, else where the fewest others could go.

    Of places that are wanted alike the cheapest is taken.
    """
    if not names:
        return
    wanted = Counter(
        host for item in board.missing()[:WATCHED] for host in set(hosts_for(board, item))
    )
    for name in names:
        item = board.items.get(name)
        while item is not None and len(board.bound[name]) < item.replicas:
            if not (_joined(board, item, wanted) or _opened(board, item, wanted)):
                break


def _joined(board: PlacementState, item: Item, wanted: Counter[str]) -> bool:
    """Put a version on an open server; say whether there was room."""
    for bin_ in sorted(by_name(board.bins.values()), key=lambda draft: wanted[draft.host]):
        if bin_.base.name == item.base and not bin_.closed and _taken(board, bin_, item):
            return True
    return False


def _opened(board: PlacementState, item: Item, wanted: Counter[str]) -> bool:
    """Open a server for a version; say whether there was a device for it."""
    base = board.fleet.bases[item.base]
    rank = base.max_lora_rank or rank_bucket(item.rank) or RANKS[-1]
    kinds = kinds_for(board, base, rank, frozenset(hosts_for(board, item)))
    seats = [
        (wanted[host.name], place, number, kind.parts, host, devices)
        for place, kind in enumerate(kinds)
        for number, (host, devices) in enumerate(kind.seats)
    ]
    for *_, parts, host, devices in sorted(seats, key=lambda seat: seat[:3]):
        bin_ = board.open(item.base, host, devices, parts)
        if _taken(board, bin_, item):
            board.opened[bin_.name] = "elsewhere, another version would find no place"
            return True
        board.close(bin_)
    return False


def _taken(board: PlacementState, bin_: ServerDraft, item: Item) -> bool:
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
