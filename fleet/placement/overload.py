"""Overload: takes versions off servers that carry too much, the heaviest that find a place.

Where no version finds a place, half of the heaviest may: the version gets a further replica.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from math import ceil

from fleet.names import adapter_address
from fleet.placement.fill import fill, open_for
from fleet.placement.items import RATE_UNIT, WASTEFUL, Item, ItemLoad
from fleet.placement.rules import allows
from fleet.placement.servers import FULL, ServerDraft, percent
from fleet.placement.state import PlacementState, by_name


def relieve(state: PlacementState) -> None:
    """Take the heaviest versions off overloaded servers, as few as possible.

    A running server is relieved only where it carries more than half-way between the load that a
    new placement may take and all that it could carry: a small change of demand moves nothing. A
    server that is gone and starts again may take as much as a new server.
    """
    for draft in by_name(state.drafts.values()):
        while (hour := _worst(state, draft)) is not None:
            item = next(_movable(draft, hour), None)
            if item is None:
                break
            state.forced[item.adapter] = _reason(state, draft, hour)
            state.release(item, draft)
            state.relieved[item.adapter] = draft.name


def put_back(state: PlacementState) -> None:
    """Leave versions on an overloaded server where no other place is found for them."""
    for item in state.missing():
        draft = state.drafts.get(state.relieved.get(item.adapter, ""))
        if draft is None or item.adapter in draft.residents or not draft.has_slot_for(item):
            continue
        if not draft.live or state.hardware.host_shortage(draft, item, draft.slots):
            continue
        if item.rank <= draft.rank and allows(state, draft, item):
            state.bind(item, draft, "")
            del state.forced[item.adapter]


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
    further = replace(item, replicas=parts, load=load)
    had = {server.name: _exchanged(state, server, item, further) for server in holding}
    if not _placed_elsewhere(state, further):
        for server in holding:
            _exchanged(state, server, further, item)
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
    return not state.silent_servers(item) and open_for(state, item, Counter())


def _worst(state: PlacementState, draft: ServerDraft) -> int | None:
    """Return the busiest hour of an overloaded server; None: the server carries its load."""
    slack = int(FULL * (1 + state.fleet.policy.utilization) / 2 / state.fleet.policy.utilization)
    used = state.hardware.used(draft)
    return int(used.argmax()) if int(used.max()) > (slack if draft.live else FULL) else None


def _reason(state: PlacementState, draft: ServerDraft, hour: int) -> str:
    part = state.hardware.peak_percent(state.hardware.used(draft))
    return f"`{draft.name}` is overloaded at {hour:02}:00 UTC, {part} of its throughput"


def _movable(draft: ServerDraft, hour: int) -> Iterator[Item]:
    """Yield the versions whose leaving relieves an hour, those that relieve most first."""
    movable = (
        item
        for _, item in sorted(draft.residents.items())
        if item.pin is None and draft.aliases[item.alias] == 1 and int(item.load.tokens[hour]) > 0
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
