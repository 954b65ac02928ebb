"""Consolidate: optional moves that save money, as many as are allowed; and evener peaks."""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fleet.names import adapter_address
from fleet.placement.model.items import ACTIVE_UNIT, RATE_UNIT, Item
from fleet.placement.model.rules import allows, takes
from fleet.placement.model.server_types import rank_bucket_of
from fleet.placement.model.servers import FULL, ServerDraft
from fleet.placement.model.state import PlacementState, by_name, hardest_first
from fleet.vllm import slots_bucket

JOINS = "a server that stands on several devices for a promise has room"
ROUNDING = 1e-9
"""Upper bound of the rounding error of a rough look at loads, as a part; an exact look follows."""


def consolidate(state: PlacementState, max_moves: int) -> int:
    """Empty servers whose versions all fit on others; return the number of moves.

    The largest saving for a move comes first. A server is emptied whole or not at all, and
    only where the money saved is real: its device is then free, or its price is 0 for all.
    """
    moves_left, pools = max_moves, _pools(state)
    while moves_left > 0:
        for draft in _worth_most(state):
            moves = _emptied(state, draft, moves_left, pools[draft.base.name])
            if moves:
                moves_left -= moves
                break
        else:
            break
    return max_moves - moves_left


def join(state: PlacementState, base: str) -> None:
    """Empty servers of a base that would be new, whose versions all fit on others."""
    pool = _pools(state)[base]
    while any(
        _emptied(state, draft, 0, pool, JOINS)
        for draft in _worth_most(state)
        if draft.base.name == base and not draft.live
    ):
        pass


def cost(state: PlacementState) -> float:
    """Return the price of the devices in use, an hour; devices without versions are left out."""
    used = {
        (draft.host, device.name): device.price_per_hour
        for draft in state.drafts.values()
        if draft.residents
        for device in draft.devices
    }
    return sum(used.values())


def _worth_most(state: PlacementState) -> list[ServerDraft]:
    """Return the servers that may be emptied, best price of a moved version first."""
    candidates = []
    for draft in state.drafts.values():
        items = draft.residents.values()
        alone = not any(other.residents for other in state.hardware.neighbours(draft))
        if draft.devices and alone and items and not any(item.is_held for item in items):
            price = sum(device.price_per_hour for device in draft.devices)
            candidates.append((-price / len(items), len(items), draft.name))
    return [state.drafts[name] for *_, name in sorted(candidates)]


@dataclass(slots=True)
class ServerPool:
    """Servers of a base with the loads that they may carry, which stay while they fill up."""

    drafts: list[ServerDraft]
    limit: NDArray[np.float64]
    """By server: tokens per second in `RATE_UNIT`ths."""
    spread: NDArray[np.float64]
    stuck: set[tuple[str, str]] = field(default_factory=set)
    """Versions that no server takes, with their servers. Room only shrinks, so that lasts until
    a replica moves."""

    def drop(self, draft: ServerDraft) -> None:
        """Take a server away."""
        stays = np.array([other is not draft for other in self.drafts], dtype=bool)
        self.limit, self.spread = self.limit[stays], self.spread[stays]
        self.drafts = [other for other in self.drafts if other is not draft]

    def bearing(self, item: Item) -> list[ServerDraft]:
        """Return the servers whose load allows a further version, the fullest first."""
        slowdown = 1 + self.spread[:, None] * np.maximum(
            (np.array([draft.active for draft in self.drafts]) + item.load.active) / ACTIVE_UNIT
            - 1,
            0,
        )
        tokens = np.array([draft.tokens for draft in self.drafts]) + item.load.tokens
        bears = (tokens * slowdown).max(axis=1) <= self.limit * (1 + ROUNDING)
        bearing = (
            draft
            for draft, light in zip(self.drafts, bears.tolist(), strict=True)
            if light or item.alias in draft.aliases
        )
        return sorted(bearing, key=lambda draft: (len(draft.residents), draft.name), reverse=True)


def _pools(state: PlacementState) -> dict[str, ServerPool]:
    groups: dict[str, list[ServerDraft]] = defaultdict(list)
    for draft in by_name(state.drafts.values()):
        groups[draft.base.name].append(draft)
    return {name: _pool(state, drafts) for name, drafts in groups.items()}


def _pool(state: PlacementState, drafts: list[ServerDraft]) -> ServerPool:
    rates = [state.hardware.throughput(draft, draft.slots, draft.rank) for draft in drafts]
    limit = np.array([max(rate.limit, 0.0) for rate in rates]) * RATE_UNIT
    return ServerPool(drafts, limit, np.array([rate.spread for rate in rates]))


def _emptied(
    state: PlacementState, draft: ServerDraft, most: int, pool: ServerPool, why: str = ""
) -> int:
    """Move every version off a server; return the number of moves, 0 where it does not work."""
    items = sorted(draft.residents.values(), key=hardest_first)
    prior_items = [item for item in items if item.prior]
    if len(prior_items) > most or (items[0].adapter, draft.name) in pool.stuck:
        return 0
    done: list[tuple[Item, ServerDraft]] = []
    had = {item: state.why.get(adapter_address(item.adapter, draft.name), "") for item in items}
    price = sum(device.price_per_hour for device in draft.devices)
    for item in items:
        state.release(item, draft)
        target = _target(state, draft, item, pool)
        if target is None:
            state.bind(item, draft, had[item])
            for moved, other in reversed(done):
                state.release(moved, other)
                state.bind(moved, draft, had[moved])
            if not done:
                pool.stuck.add((item.adapter, draft.name))
            return 0
        state.bind(item, target, why or f"frees `{draft.name}`")
        done.append((item, target))
    for item in prior_items:
        state.optional[item.adapter] = f"frees `{draft.name}`, which saves {price:g} an hour"
    moved_on = {item.adapter for item in items}
    pool.stuck = {pair for pair in pool.stuck if pair[0] not in moved_on}
    pool.drop(draft)
    state.opened.pop(draft.name, None)
    state.close(draft)
    return max(len(prior_items), 1)


def _target(
    state: PlacementState, source: ServerDraft, item: Item, pool: ServerPool
) -> ServerDraft | None:
    """Return the fullest open server that takes a version without a restart."""
    keeps_promise = state.hardware.keeps(source, item)
    fitting = (
        draft
        for draft in pool.bearing(item)
        if draft is not source
        and (draft.residents or not draft.devices)
        and item.rank <= draft.rank
        and draft.has_slot_for(item)
        and takes(state, draft, item)
        and (not keeps_promise or state.hardware.keeps(draft, item))
        and state.hardware.carries(draft, item, (draft.slots, draft.rank))
    )
    return next(fitting, None)


TRIES = 4
"""Upper bound of the moves that are tried for a server, on average."""
GAIN = 20_000
"""Lower bound of the improvement of the higher of two peaks, in millionths of a server."""
WATCHED = 8
"""Upper bound of the versions of a server, and of the quieter servers, that are tried at once."""


def level(state: PlacementState) -> None:
    """Move newly placed versions from the busiest servers to quieter servers of the same base.

    Kept versions stay, flags stay, and no server is opened; so neither cost nor moves grow.
    """
    for group in state.open_groups():
        peaks = {draft.name: _peak(state, draft) for draft in group}
        settled: set[str] = set()
        for _ in range(TRIES * len(group)):
            busiest = max(
                (draft for draft in group if draft.name not in settled),
                key=lambda draft: (peaks[draft.name], draft.name),
                default=None,
            )
            if busiest is None or not peaks[busiest.name]:
                break
            if not _relieved(state, busiest, group, peaks):
                settled.add(busiest.name)


def _relieved(
    state: PlacementState, busiest: ServerDraft, group: list[ServerDraft], peaks: dict[str, int]
) -> bool:
    """Move the version whose move lowers the higher of two peaks most; say whether a move did."""
    most = peaks[busiest.name] - GAIN
    quiet = sorted(group, key=lambda draft: (peaks[draft.name], draft.name))[:WATCHED]
    quiet = [draft for draft in quiet if draft is not busiest and peaks[draft.name] < most]
    hour = int(state.hardware.used(busiest).argmax())
    movable = [
        item
        for item in busiest.residents.values()
        if busiest.is_movable(item) and int(item.load.tokens[hour]) > 0
    ]
    movable.sort(key=lambda item: (-int(item.load.tokens[hour]), item.adapter))
    moves = (
        (after, item.adapter, other.name)
        for item in movable[:WATCHED]
        for other in quiet
        if (after := int(state.hardware.used(other, item).max())) < most
        and item.rank <= other.rank
        and not state.hardware.breaks(other, item, (other.slots, other.rank))
        and state.has_room_for(other, item)
        and _admitted(state, busiest, other, item)
    )
    best = min(moves, default=None)
    if best is None:
        return False
    item, other = state.items[best[1]], state.drafts[best[2]]
    why = state.why.get(adapter_address(item.adapter, busiest.name), "")
    state.release(item, busiest)
    state.bind(item, other, why and "evens out the servers' busiest hours")
    peaks[busiest.name], peaks[other.name] = _peak(state, busiest), _peak(state, other)
    return True


def _peak(state: PlacementState, draft: ServerDraft) -> int:
    return int(state.hardware.used(draft).max())


def _admitted(state: PlacementState, source: ServerDraft, other: ServerDraft, item: Item) -> bool:
    """Say whether rules let a version change over, its replica on `source` left out."""
    state.bound[item.adapter].remove(source.name)
    allowed = allows(state, other, item)
    state.bound[item.adapter].append(source.name)
    return allowed


def shrink(state: PlacementState) -> None:
    """Take slots and rank from new servers that neither their versions nor canaries need.

    Declared values stay, and so do the flags of servers that run.
    """
    for draft in state.drafts.values():
        if draft.live or draft.held or not draft.devices or not draft.residents:
            continue
        ranks = (rank_bucket_of(draft.base, item) for item in draft.residents.values())
        needed = draft.slots_needed() + state.fleet.policy.canary_slots
        had = draft.slots, draft.rank
        draft.rank = min(max(ranks), draft.rank)
        draft.slots = draft.base.slots or min(slots_bucket(needed) or draft.slots, draft.slots)
        if _peak(state, draft) > FULL:
            draft.slots, draft.rank = had
