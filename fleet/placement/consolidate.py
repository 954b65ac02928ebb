"""Consolidate: moves that nobody needs and that save money, as many as were asked for.

Level: even out the peaks of servers, with versions that are new where they stand.
"""

from collections import defaultdict
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fleet.names import adapter_address
from fleet.placement.buy import buy
from fleet.placement.fill import fill, spare
from fleet.placement.items import ACTIVE_UNIT, RATE_UNIT, Item
from fleet.placement.keep import close_empty
from fleet.placement.servers import FULL, ServerDraft
from fleet.placement.state import PlacementState, SearchLimits, by_name, placement_state_of

ROUNDING = 1e-9
"""What a server may carry is looked at so much more generously before it is looked at exactly."""


def consolidate(board: PlacementState, max_moves: int) -> None:
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


def cost(board: PlacementState) -> float:
    """Return what the devices in use cost an hour, those that hold nothing left out."""
    used = {
        (bin_.host, device.name): device.price_per_hour
        for bin_ in board.bins.values()
        if bin_.residents
        for device in bin_.devices
    }
    return sum(used.values())


def _worth_most(board: PlacementState) -> list[ServerDraft]:
    """Return the servers that may be emptied, best price for each moved version first."""
    found = []
    for bin_ in by_name(board.bins.values()):
        movable = [item for item in bin_.residents.values() if item.pin is None]
        alone = not any(draft.residents for draft in board.hardware.others(bin_))
        if bin_.devices and alone and movable and len(movable) == len(bin_.residents):
            price = sum(device.price_per_hour for device in bin_.devices)
            found.append((-price / len(movable), len(movable), bin_.name, bin_))
    return [bin_ for *_, bin_ in sorted(found, key=lambda row: row[:3])]


@dataclass(slots=True)
class ServerPool:
    """The servers of one base, and what each may carry; none of that changes while they fill up."""

    bins: list[ServerDraft]
    limit: NDArray[np.float64]
    """Of each server, tokens a second in `RATE_UNIT`ths."""
    spread: NDArray[np.float64]
    stuck: set[tuple[str, str]] = field(default_factory=set)
    """Versions that no server takes, with where they are. Room only shrinks, so that lasts until
    a replica moves."""

    def drop(self, bin_: ServerDraft) -> None:
        """Take a server away."""
        stays = np.array([draft is not bin_ for draft in self.bins], dtype=bool)
        self.limit, self.spread = self.limit[stays], self.spread[stays]
        self.bins = [draft for draft in self.bins if draft is not bin_]

    def bearing(self, item: Item) -> list[ServerDraft]:
        """Return the servers whose load allows one more version, the fullest first."""
        crowd = 1 + self.spread[:, None] * np.maximum(
            (np.array([draft.active for draft in self.bins]) + item.asks.active) / ACTIVE_UNIT - 1,
            0,
        )
        tokens = np.array([draft.tokens for draft in self.bins]) + item.asks.tokens
        bears = (tokens * crowd).max(axis=1) <= self.limit * (1 + ROUNDING)
        found = [
            draft
            for draft, light in zip(self.bins, bears.tolist(), strict=True)
            if light or item.alias in draft.aliases
        ]
        return sorted(found, key=lambda draft: (len(draft.residents), draft.name), reverse=True)


def _pools(board: PlacementState) -> dict[str, ServerPool]:
    pools: dict[str, list[ServerDraft]] = {}
    for bin_ in by_name(board.bins.values()):
        pools.setdefault(bin_.base.name, []).append(bin_)
    return {name: _pool(board, bins) for name, bins in pools.items()}


def _pool(board: PlacementState, bins: list[ServerDraft]) -> ServerPool:
    found = [board.hardware.throughput(draft, draft.slots, draft.rank) for draft in bins]
    limit = np.array([max(throughput.limit, 0.0) for throughput in found]) * RATE_UNIT
    return ServerPool(bins, limit, np.array([throughput.spread for throughput in found]))


def _emptied(board: PlacementState, bin_: ServerDraft, most: int, pool: ServerPool) -> int:
    """Move every version off a server; return the number of moves, 0 where it does not work."""
    items = sorted(bin_.residents.values(), key=lambda item: (-item.rank, -item.peak, item.adapter))
    kept = [item for item in items if item.prior]
    if len(kept) > most or (items[0].adapter, bin_.name) in pool.stuck:
        return 0
    done: list[tuple[Item, ServerDraft]] = []
    price = sum(device.price_per_hour for device in bin_.devices)
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
    moved_on = {item.adapter for item in items}
    pool.stuck = {pair for pair in pool.stuck if pair[0] not in moved_on}
    pool.drop(bin_)
    board.opened.pop(bin_.name, None)
    board.close(bin_)
    return max(len(kept), 1)


def _target(
    board: PlacementState, source: ServerDraft, item: Item, pool: ServerPool
) -> ServerDraft | None:
    """Return an open server that takes a version as it is, the fullest first."""
    fitting = (
        draft
        for draft in pool.bearing(item)
        if draft is not source
        and not draft.closed
        and (draft.residents or not draft.devices)
        and item.rank <= draft.rank
        and draft.has_room(item)
        and board.admits(draft, item)
        and board.hardware.carries(draft, item, (draft.slots, draft.rank))
    )
    return next(fitting, None)


def repacked(board: PlacementState, search: SearchLimits) -> PlacementState:
    """Place everything afresh; return that board where it is cheaper, else the given one.

    What is on servers that do not answer stays, and so do servers that others run.
    """
    fresh = placement_state_of(board.fleet, board.wanted, board.live)
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


def _reuse(fresh: PlacementState, board: PlacementState) -> None:
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


TRIES = 4
"""Moves that are looked for on each server, on average, before the search gives up."""
GAIN = 20_000
"""Least improvement of the higher of two peaks, in millionths of a server."""


def level(board: PlacementState) -> None:
    """Move newly placed versions from the busiest servers to quieter ones of the same base.

    Kept versions stay, flags stay, and no server is opened; so neither cost nor moves grow.
    """
    groups: dict[str, list[ServerDraft]] = defaultdict(list)
    for bin_ in by_name(board.bins.values()):
        if bin_.devices and not bin_.closed and bin_.residents:
            groups[bin_.base.name].append(bin_)
    for group in groups.values():
        peaks = {draft.name: _peak(board, draft) for draft in group}
        settled: set[str] = set()
        for _ in range(TRIES * len(group)):
            busiest = max(
                (draft for draft in group if draft.name not in settled),
                key=lambda draft: (peaks[draft.name], draft.name),
                default=None,
            )
            if busiest is None or not peaks[busiest.name]:
                break
            if not _relieved(board, busiest, group, peaks):
                settled.add(busiest.name)


def _relieved(
    board: PlacementState, busiest: ServerDraft, group: list[ServerDraft], peaks: dict[str, int]
) -> bool:
    """Move the one version whose move lowers the higher of two peaks most; say whether any."""
    quiet = sorted(group, key=lambda draft: (peaks[draft.name], draft.name))[:8]
    best: tuple[int, str, str] | None = None
    hour = int(board.hardware.used(busiest).argmax())
    movable = [
        item
        for name, item in sorted(busiest.residents.items())
        if not item.prior and busiest.aliases[item.alias] == 1 and int(item.asks.tokens[hour]) > 0
        and item.pin is None and name not in busiest.held
    ]  # fmt: skip
    movable.sort(key=lambda item: (-int(item.asks.tokens[hour]), item.adapter))
    for item in movable[:8]:
        before = peaks[busiest.name]
        for other in quiet:
            if other is busiest or peaks[other.name] >= before - GAIN:
                continue
            after = int(board.hardware.used(other, item).max())
            fits = item.rank <= other.rank and other.has_room(item, _kept(board, other))
            fits = fits and not board.hardware.host_shortage(other, item, other.slots)
            if after < before - GAIN and fits and _admitted(board, busiest, other, item):
                found = (after, item.adapter, other.name)
                best = found if best is None or found < best else best
    if best is None:
        return False
    item, other = board.items[best[1]], board.bins[best[2]]
    why = board.why.get(adapter_address(item.adapter, busiest.name), "")
    board.release(item, busiest)
    board.bind(item, other, why and "evens out the servers' busiest hours")
    peaks[busiest.name], peaks[other.name] = _peak(board, busiest), _peak(board, other)
    return True


def _kept(board: PlacementState, bin_: ServerDraft) -> int:
    return 0 if bin_.fixed else board.fleet.policy.canary_slots


def _peak(board: PlacementState, bin_: ServerDraft) -> int:
    return int(board.hardware.used(bin_).max())


def _admitted(board: PlacementState, source: ServerDraft, other: ServerDraft, item: Item) -> bool:
    """Say whether rules let a version change over, its replica on `source` left out."""
    board.bound[item.adapter].remove(source.name)
    allowed = board.admits(other, item)
    board.bound[item.adapter].append(source.name)
    return allowed
