"""Consolidate: moves that nobody needs and that save money, as many as were asked for."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fleet.placement.bins import FULL, Bin
from fleet.placement.buy import buy
from fleet.placement.fill import fill, spare
from fleet.placement.items import ACTIVE_UNIT, RATE_UNIT, Item
from fleet.placement.keep import close_empty
from fleet.placement.search import Board, Search, board_of, by_name

ROUNDING = 1e-9
"""What a server may carry is looked at so much more generously before it is looked at exactly."""


def consolidate(board: Board, max_moves: int) -> None:
    """Empty servers whose versions all fit on others, those first that save most for a move.

    A server is emptied whole or not at all, and only where the money saved is real: its device
    is then free, or its price is 0 for all.
    """
    left = max_moves
    pools = _pools(board)
    while left > 0:
        for bin_ in _worth_most(board):
            moves = _emptied(board, bin_, left, pools[bin_.base.name])
            if moves:
                left -= moves
                break
        else:
            return


def cost(board: Board) -> float:
    """Return what the devices in use cost an hour, those that hold nothing left out."""
    used = {
        (bin_.host, each.name): each.price_per_hour
        for bin_ in board.bins.values()
        if bin_.residents
        for each in bin_.devices
    }
    return sum(used.values())


def _worth_most(board: Board) -> list[Bin]:
    """Return the servers that may be emptied, best price for each moved version first."""
    found = []
    for bin_ in by_name(board.bins.values()):
        movable = [each for each in bin_.residents.values() if each.pin is None]
        alone = not any(each.residents for each in board.hardware.others(bin_))
        if bin_.devices and alone and movable and len(movable) == len(bin_.residents):
            price = sum(each.price_per_hour for each in bin_.devices)
            found.append((-price / len(movable), len(movable), bin_.name, bin_))
    return [bin_ for *_, bin_ in sorted(found, key=lambda each: each[:3])]


@dataclass(slots=True)
class Pool:
    """The servers of one base, and what each may carry; none of that changes while they fill up."""

    bins: list[Bin]
    limit: NDArray[np.float64]
    """Of each server, tokens a second in `RATE_UNIT`ths."""
    spread: NDArray[np.float64]
    stuck: set[tuple[str, str]] = field(default_factory=set)
    """Versions that no server takes, with where they are. Room only shrinks, so that lasts until
    a replica moves."""

    def drop(self, bin_: Bin) -> None:
        """Take a server away."""
        stays = np.array([each is not bin_ for each in self.bins], dtype=bool)
        self.limit, self.spread = self.limit[stays], self.spread[stays]
        self.bins = [each for each in self.bins if each is not bin_]

    def bearing(self, item: Item) -> list[Bin]:
        """Return the servers whose load allows one more version, the fullest first."""
        crowd = 1 + self.spread[:, None] * np.maximum(
            (np.array([each.active for each in self.bins]) + item.asks.active) / ACTIVE_UNIT - 1, 0
        )
        tokens = np.array([each.tokens for each in self.bins]) + item.asks.tokens
        bears = (tokens * crowd).max(axis=1) <= self.limit * (1 + ROUNDING)
        found = [
            each
            for each, light in zip(self.bins, bears.tolist(), strict=True)
            if light or item.alias in each.aliases
        ]
        return sorted(found, key=lambda each: (len(each.residents), each.name), reverse=True)


def _pools(board: Board) -> dict[str, Pool]:
    pools: dict[str, list[Bin]] = {}
    for bin_ in by_name(board.bins.values()):
        pools.setdefault(bin_.base.name, []).append(bin_)
    return {name: _pool(board, bins) for name, bins in pools.items()}


def _pool(board: Board, bins: list[Bin]) -> Pool:
    found = [board.hardware.throughput(each, each.slots, each.rank) for each in bins]
    limit = np.array([max(each.limit, 0.0) for each in found]) * RATE_UNIT
    return Pool(bins, limit, np.array([each.spread for each in found]))


def _emptied(board: Board, bin_: Bin, most: int, pool: Pool) -> int:
    """Move every version off a server; return the number of moves, 0 where it does not work."""
    items = sorted(bin_.residents.values(), key=lambda each: (-each.rank, -each.peak, each.adapter))
    kept = [each for each in items if each.prior]
    if len(kept) > most or (items[0].adapter, bin_.name) in pool.stuck:
        return 0
    done: list[tuple[Item, Bin]] = []
    price = sum(each.price_per_hour for each in bin_.devices)
    for item in items:
        board.release(item, bin_)
        target = _target(board, bin_, item, pool)
        if target is None:
            board.bind(item, bin_, "")
            for moved, other in reversed(done):
                board.release(moved, other)
                board.bind(moved, bin_, "")
            if not done:
                pool.stuck.add((item.adapter, bin_.name))
            return 0
        board.bind(item, target, f"frees `{bin_.name}`")
        done.append((item, target))
    for item in kept:
        board.optional[item.adapter] = f"frees `{bin_.name}`, which saves {price:g} an hour"
    moved_on = {each.adapter for each in items}
    pool.stuck = {each for each in pool.stuck if each[0] not in moved_on}
    pool.drop(bin_)
    board.opened.pop(bin_.name, None)
    board.close(bin_)
    return max(len(kept), 1)


def _target(board: Board, source: Bin, item: Item, pool: Pool) -> Bin | None:
    """Return an open server that takes a version as it is, the fullest first."""
    fitting = (
        each
        for each in pool.bearing(item)
        if each is not source
        and not each.closed
        and (each.residents or not each.devices)
        and item.rank <= each.rank
        and each.has_room(item)
        and board.admits(each, item)
        and board.hardware.carries(each, item, (each.slots, each.rank))
    )
    return next(fitting, None)


def repacked(board: Board, search: Search) -> Board:
    """Place everything afresh; return that board where it is cheaper, else the given one.

    What is on servers that do not answer stays, and so do servers that others run.
    """
    fresh = board_of(board.fleet, board.wanted, board.live)
    for bin_ in by_name(fresh.bins.values()):
        if bin_.devices:
            fresh.close(bin_)
    for item in fresh.items.values():
        for name in item.prior:
            if name in fresh.live.unknown_servers:
                fresh.bound[item.adapter].append(name)
    fill(fresh)
    buy(fresh, replace(search, repack=False))
    spare(fresh)
    close_empty(fresh)
    if fresh.missing() or cost(fresh) >= cost(board):
        board.notes.append("packing everything afresh saves nothing")
        return board
    saved = cost(board) - cost(fresh)
    for name, item in fresh.items.items():
        if item.prior and not set(fresh.bound[name]) & set(item.prior):
            fresh.optional[name] = f"packing everything afresh saves {saved:g} an hour in all"
    _reuse(fresh, board)
    return fresh


def _reuse(fresh: Board, board: Board) -> None:
    """Keep running servers as they are where they hold what is placed on them now."""
    for name, bin_ in fresh.bins.items():
        before = board.bins.get(name)
        if before is None or before.live is None or not before.fixed or not bin_.devices:
            continue
        same = before.devices == bin_.devices and before.base.name == bin_.base.name
        if same and before.rank >= bin_.rank and before.slots >= bin_.slots_needed():
            cut = (before.slots, before.rank)
            bin_.parts = before.parts
            if int(fresh.hardware.used(bin_, None, cut).max()) <= FULL:
                bin_.slots, bin_.rank = cut
                bin_.fixed, bin_.live, bin_.held = True, before.live, before.held
                bin_.most_listed = before.most_listed
                bin_.names |= before.held
                fresh.opened.pop(name, None)
