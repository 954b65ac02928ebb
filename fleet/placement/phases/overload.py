"""Overload: takes versions off servers that carry too much, the heaviest that find a place.

Where no version finds a place, half of the heaviest may: the version gets a further replica. No
running server gets more load than it has now, or may have: the plan's own check asks the same.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from math import ceil

import numpy as np

from fleet.names import adapter_address, alias_of
from fleet.placement.model.items import (
    NOTHING,
    RATE_UNIT,
    WASTEFUL,
    Ints,
    Item,
    ItemLoad,
    item_load,
)
from fleet.placement.model.rules import allows
from fleet.placement.model.servers import FULL, ServerDraft, percent
from fleet.placement.model.state import PlacementState, by_name
from fleet.placement.phases.fill import bind_if_it_fits, fill, open_for


def note_loads(state: PlacementState) -> None:
    """Note the load of running servers now, with all versions that are or should be loaded."""
    numbers: Counter[str] = Counter()
    loaded = state.targets.loaded.items()
    for name, servers in (*loaded, *((item.adapter, item.prior) for item in state.items.values())):
        numbers[alias_of(name)] = max(numbers[alias_of(name)], len(servers))
    drafts: dict[str, ServerDraft] = {}
    for name, draft in state.drafts.items():
        if draft.live and (flags := draft.live.flags):
            drafts[name] = ServerDraft(
                name, draft.base, draft.host, draft.devices, draft.port,
                flags.max_loras, flags.max_lora_rank, draft.parts,
            )  # fmt: skip
    for item in state.items.values():
        load = item_load(state.fleet.adapters[item.alias], numbers[item.alias])
        for name in drafts.keys() & {*item.prior}:
            drafts[name].add(replace(item, load=load))
    state.loads_now = {name: state.hardware.used(draft) for name, draft in drafts.items()}


def relieve(state: PlacementState, staying: Collection[str] = ()) -> None:
    """Take the heaviest versions off overloaded servers, as few as possible.

    A running server is relieved only where it carries more than half-way between the load that a
    new placement may take and all that it could carry: a small change of demand moves nothing. A
    server that is gone and starts again may take as much as a new server, and so may a server that
    would get more load than it has. Versions in `staying` are left on running servers. A version
    that needs fewer servers than it has stays on those with room.
    """
    for draft in by_name(state.drafts.values()):
        bound = staying if draft.live and draft.fixed else ()
        while (hour := _worst(state, draft)) is not None:
            movable = [item for item in _movable(draft, hour) if item.adapter not in bound]
            if not movable:
                break
            if not any(_stays_elsewhere(state, item, draft) for item in movable):
                state.forced[movable[0].adapter] = _reason(state, draft, hour)
                state.release(movable[0], draft)
                state.relieved[movable[0].adapter] = draft.name


def _stays_elsewhere(state: PlacementState, item: Item, draft: ServerDraft) -> bool:
    """Let a version leave a server for another server of the version; say whether a server can."""
    state.release(item, draft)
    for other in (state.drafts[name] for name in item.prior if name in state.drafts):
        stays = other is not draft and other.live and not other.leaving
        if stays and other.base is draft.base and bind_if_it_fits(state, other, item, (0,), ""):
            return True
    state.bind(item, draft, "")
    return False


def put_back(state: PlacementState) -> set[str]:
    """Leave versions on an overloaded server where no other place is found for them.

    Returns the versions that cannot go back, as the room that they left was given to others.
    """
    shut_out: set[str] = set()
    for item in state.missing():
        source = state.relieved.get(item.adapter)
        draft = state.drafts.get(source) if source else None
        if source is None or (draft and not draft.live):
            continue
        if draft and _goes_back(state, item, draft):
            state.bind(item, draft, "")
            del state.forced[item.adapter]
        if state.missing_replicas(item):
            shut_out.add(item.adapter)
    return shut_out


def _goes_back(state: PlacementState, item: Item, draft: ServerDraft) -> bool:
    """Say whether a server takes a version again, with no more load than now in any hour."""
    if item.adapter in draft.residents or not draft.has_slot_for(item) or item.rank > draft.rank:
        return False
    if state.hardware.host_shortage(draft, item, draft.slots) or not allows(state, draft, item):
        return False
    return bool((state.hardware.used(draft, item) <= _most(state, draft)).all())


def _most(state: PlacementState, draft: ServerDraft) -> Ints:
    """Return the load that a server may have by hour: that of a new server, or that of now."""
    now = state.loads_now.get(draft.name, NOTHING.tokens) if draft.live else NOTHING.tokens
    return np.maximum(now, FULL)


def overfilled(state: PlacementState) -> set[str]:
    """Return the versions that would need more of their servers, for these to get no more load."""
    return {
        name
        for draft in state.drafts.values()
        if draft.live and (state.hardware.used(draft) > _most(state, draft)).any()
        for name, item in draft.residents.items()
        if item.replicas < len(item.prior)
    }


def ease(state: PlacementState) -> None:
    """Move any versions off servers that are overloaded still, the heaviest that find a place.

    Then give the heaviest versions further replicas on other servers.
    """
    for draft in by_name(state.drafts.values()):
        tried: set[str] = set()
        was_closed, draft.closed = draft.closed, True
        while (hour := _worst(state, draft)) is not None:
            item = next((i for i in _movable(draft, hour) if i.adapter not in tried), None)
            if item is None:
                break
            tried.add(item.adapter)
            reason = _reason(state, draft, hour)
            state.release(item, draft)
            if _placed_elsewhere(state, item):
                state.forced[item.adapter] = reason
            else:
                state.bind(item, draft, "")
        while (hour := _worst(state, draft)) is not None:
            if not any(_divided(state, item, draft, hour) for item in _movable(draft, hour)):
                break
        draft.closed = was_closed


def _divided(state: PlacementState, item: Item, draft: ServerDraft, hour: int) -> bool:
    """Give a version a further replica on another server; say whether a server took it.

    Only a version that takes a good part of its server, whose replicas the next plan keeps, and the
    only version of its alias.
    """
    limit = state.hardware.throughput(draft, draft.slots, draft.rank).limit
    servers = [state.drafts.get(name) for name in state.bound[item.adapter]]
    holding = [server for server in servers if server is not None]
    alone = sum(other.alias == item.alias for other in state.items.values()) == 1
    large = item.peak > WASTEFUL * limit * RATE_UNIT
    if not (large and alone and len(holding) == len(servers) == item.replicas):
        return False
    why = _reason(state, draft, hour)
    parts = item.replicas + 1
    load = ItemLoad(-(-item.load.tokens * item.replicas // parts), item.load.active)
    divided = replace(item, replicas=parts, load=load)
    had = {server.name: _exchanged(state, server, item, divided) for server in holding}
    if not _placed_elsewhere(state, divided):
        for server in holding:
            _exchanged(state, server, divided, item)
            if had[server.name]:
                state.why[adapter_address(item.adapter, server.name)] = had[server.name]
        return False
    added = next(name for name in state.bound[item.adapter] if name not in had)
    state.why[adapter_address(item.adapter, added)] = f"a further replica, as {why}"
    return True


def _exchanged(state: PlacementState, draft: ServerDraft, item: Item, new: Item) -> str:
    """Put a version with another load in its place; return why it was there."""
    why = state.why.get(adapter_address(item.adapter, draft.name), "")
    state.release(item, draft)
    state.items[item.adapter] = new
    state.bind(new, draft, "")
    return why


def _placed_elsewhere(state: PlacementState, item: Item) -> bool:
    """Put a version on an open server, or else on a new server; say whether there is one."""
    fill(state, [item])
    if not state.missing_replicas(item):
        return True
    return not state.awaits(item) and open_for(state, item, Counter())


def _worst(state: PlacementState, draft: ServerDraft) -> int | None:
    """Return the busiest hour of an overloaded server; None: the server carries its load."""
    slack = int(FULL * (1 + state.fleet.policy.utilization) / 2 / state.fleet.policy.utilization)
    used = state.hardware.used(draft)
    over = np.where(used > np.minimum(_most(state, draft), slack), used, 0)
    return int(over.argmax()) if over.any() else None


def _reason(state: PlacementState, draft: ServerDraft, hour: int) -> str:
    part = state.hardware.peak_percent(state.hardware.used(draft)[hour : hour + 1])
    return f"`{draft.name}` is overloaded at {hour:02}:00 UTC, {part} of its throughput"


def _movable(draft: ServerDraft, hour: int) -> Iterator[Item]:
    """Yield the versions whose leaving relieves an hour, those that relieve most first."""
    movable = (
        item
        for _, item in sorted(draft.residents.items())
        if not item.is_held and draft.aliases[item.alias] == 1 and int(item.load.tokens[hour]) > 0
    )
    return iter(sorted(movable, key=lambda item: -int(item.load.tokens[hour])))


def remedies(state: PlacementState) -> Iterator[str]:
    """Yield the servers that nothing relieves, with the declarations that would."""
    for draft in by_name(state.drafts.values()):
        hour = _worst(state, draft)
        if hour is None or not draft.live or draft.device is None:
            continue
        heaviest, why = next(_movable(draft, hour), None), _reason(state, draft, hour)
        if heaviest is None:
            yield f"{why}, and its versions are pinned or in rollouts there"
            continue
        rate = state.hardware.throughput(draft, draft.slots, draft.rank)
        part = heaviest.peak / RATE_UNIT / rate.limit if rate.limit > 0 else 0.0
        if part > 1:
            number = ceil(part * heaviest.replicas)
            more = number - heaviest.replicas
            servers = "a further server" if more == 1 else f"{more} further servers"
            yield (
                f"{why}, and no device is free for more replicas: {servers} on "
                f"`{draft.device.kind}` would give `{heaviest.alias}` {number}"
            )
        else:
            yield (
                f"{why}, and no other server or free device takes a version: a further server on "
                f"`{draft.device.kind}` would take `{heaviest.alias}`, "
                f"{percent(part * state.fleet.policy.utilization)}"
            )
