"""Obstacles: what keeps a version out of each place that a server of its base is or could be."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fleet.capacity import ServerShape, hourly_rpm, least_bytes, memory_of
from fleet.hardware import DeviceSpec, DeviceState, HostSpec
from fleet.names import server_name
from fleet.placement.causes import Limit, Obstacle, size
from fleet.placement.host_memory import unlisted
from fleet.placement.items import RATE_UNIT, Item, alias_conflict
from fleet.placement.server_types import CARDS
from fleet.placement.servers import FULL, DeviceId, ServerDraft
from fleet.placement.state import PlacementState, by_name
from fleet.vllm import RANKS, rank_bucket, slots_bucket


def places_of(board: PlacementState, item: Item) -> Iterator[tuple[str, tuple[Obstacle, ...]]]:
    """Yield every place with what keeps a version out of it; none: the search overlooked it."""
    for bin_ in by_name(board.bins.values()):
        if bin_.base.name == item.base and bin_.name not in board.bound[item.adapter]:
            found = (*_rules(board, item, bin_), *_room(board, item, bin_))
            yield bin_.name, found
    for _, host in sorted(board.fleet.hosts.items()):
        for device in host.devices:
            name = server_name(item.base, host.name, device.name)
            if name not in board.bins and name not in board.live.unknown_servers:
                yield f"{host.name}/{device.name}", tuple(_new(board, item, host, device))


def _rules(board: PlacementState, item: Item, bin_: ServerDraft) -> Iterator[Obstacle]:
    """Yield the declared rules that keep a version off an open server."""
    host = board.fleet.hosts[bin_.host]
    yield from _wishes(board, item, host, bin_.name, bin_.spots)
    for device in bin_.devices:
        yield from _state(f"{host.name}/{device.name}", device.state)
    for attached in host.attached:
        if attached.name == bin_.name:
            yield from _state(attached.name, attached.state)
    if bin_.party not in (None, item.party):
        ours, theirs = item.party or "shared", bin_.party or "shared"
        text = f"`{bin_.name}` holds adapters of isolation `{theirs}`, and this is of `{ours}`"
        yield Obstacle(Limit.ISOLATION, bin_.name, text)
    slow = board.too_slow(item, bin_)
    if slow is not None and bin_.name not in item.prior:
        yield replace(slow, where=bin_.name)
    if alias_conflict(board.enemies, item, set(bin_.residents)):
        enemies = board.enemies[item.alias]
        beside = sorted(each.alias for each in bin_.residents.values() if each.alias in enemies)
        text = f"`{bin_.name}` holds `{beside[0]}`, from which it stays apart"
        yield Obstacle(Limit.APART, bin_.name, text, len(beside))


def _wishes(
    board: PlacementState, item: Item, host: HostSpec, name: str, spots: frozenset[DeviceId]
) -> Iterator[Obstacle]:
    """Yield what declarations say about a place, whoever is on it."""
    if item.pin not in (None, name, host.name):
        yield Obstacle(Limit.PIN, name, f"it is pinned to `{item.pin}`")
    if item.avoid.intersection((name, host.name)):
        which = name if name in item.avoid else host.name
        yield Obstacle(Limit.AVOID, name, f"it avoids `{which}`")
    if host.reserved_for and item.groups.isdisjoint(host.reserved_for):
        text = f"host `{host.name}` is reserved for {', '.join(host.reserved_for)}"
        yield Obstacle(Limit.RESERVED, name, text)
    taken = board.spots(item)
    if not taken.isdisjoint(spots):
        text = f"`{name}` is on a device that has a replica of it"
        yield Obstacle(Limit.REPLICAS, name, text, item.replicas, len(taken))
    elif item.spread == "host" and any(each[0] == host.name for each in taken):
        hosts = len({each[0] for each in taken})
        text = f"host `{host.name}` has a replica of it"
        yield Obstacle(Limit.HOSTS, name, text, item.replicas, hosts)


def _state(spot: str, state: DeviceState) -> Iterator[Obstacle]:
    match state:
        case "cordoned":
            yield Obstacle(Limit.CORDONED, spot, f"`{spot}` is cordoned")
        case "draining":
            yield Obstacle(Limit.DRAINING, spot, f"`{spot}` is draining")
        case "active":
            pass


def _room(board: PlacementState, item: Item, bin_: ServerDraft) -> Iterator[Obstacle]:
    """Yield what an open server lacks for one more version."""
    if bin_.device is None:
        if item.rank > bin_.rank:
            text = f"`{bin_.name}`, which someone else runs, takes rank {bin_.rank} at most"
            yield Obstacle(Limit.RANK, bin_.name, text, item.rank, bin_.rank)
        if not bin_.has_room(item):
            yield _full(bin_, item)
        return
    high = too_high(board, item, bin_.name)
    if high is not None:
        yield high
        return
    cut = board.hardware.grown(bin_, item, 0)
    if cut is None:
        yield _cramped(board, item, bin_)
    else:
        yield from unlisted(board.hardware, item, bin_, cut[0])
        yield from _load(board, item, bin_, cut)


def too_high(board: PlacementState, item: Item, where: str) -> Obstacle | None:
    """Return the obstacle of a rank above what servers of its base may have."""
    limit = board.fleet.bases[item.base].max_lora_rank or RANKS[-1]
    if item.rank <= limit and rank_bucket(item.rank) is not None:
        return None
    text = f"servers of `{item.base}` reserve slots of at most rank {limit}"
    return Obstacle(Limit.RANK, where, text, item.rank, limit)


def _full(bin_: ServerDraft, item: Item) -> Obstacle:
    kept = ", 1 of them kept empty on a CPU" if bin_.blocked else ""
    versions = "1 version" if len(bin_.names) == 1 else f"{len(bin_.names)} versions"
    slots = "1 slot" if bin_.slots == 1 else f"{bin_.slots} slots"
    text = f"`{bin_.name}` has {versions} in {slots}{kept}"
    return Obstacle(Limit.SLOTS, bin_.name, text, bin_.slots_needed(item), bin_.slots)


def _cramped(board: PlacementState, item: Item, bin_: ServerDraft) -> Obstacle:
    """Say why a server of ours cannot have one more slot, or a larger rank."""
    full = _full(bin_, item)
    declared = bin_.base.slots
    if declared is not None and bin_.slots_needed(item) > declared:
        text = f"{full.text}, and base `{item.base}` declares max_loras {declared}"
        return replace(full, text=text)
    rank = max(bin_.rank, bin_.base.max_lora_rank or rank_bucket(item.rank) or 0)
    slots = declared or max(bin_.slots, slots_bucket(bin_.slots_needed(item)) or 0)
    need = least_bytes(board.hardware.shape(bin_, slots, rank)) - board.hardware.free(bin_)
    if slots < bin_.slots_needed(item):
        return replace(full, text=f"{full.text}, the most there are")
    text = f"{full.text} of rank {bin_.rank}; {slots} of rank {rank} need {size(need)} more"
    if bin_.slots_needed(item) <= bin_.slots and item.rank > bin_.rank:
        return Obstacle(Limit.RANK, bin_.name, text, item.rank, bin_.rank)
    return replace(full, text=text)


def _load(
    board: PlacementState, item: Item, bin_: ServerDraft, cut: tuple[int, int]
) -> Iterator[Obstacle]:
    """Yield the hour in which a server would carry too much."""
    used = board.hardware.used(bin_, item, cut)
    hour = int(used.argmax())
    if int(used[hour]) <= FULL:
        return
    need = float(bin_.tokens[hour] + bin_.asks_more(item).tokens[hour]) / RATE_UNIT
    have = need * FULL / int(used[hour]) if board.hardware.throughput(bin_, *cut).limit > 0 else 0.0
    who = sorted(
        {each.alias: each for each in (*bin_.residents.values(), item)}.values(),
        key=lambda each: (-int(each.asks.tokens[hour]), each.alias),
    )
    named = ", ".join(
        f"{each.alias}{_in_batch(board, each, hour)} {int(each.asks.tokens[hour]) / RATE_UNIT:.0f}"
        for each in who[:3]
        if int(each.asks.tokens[hour])
    )
    text = (
        f"`{bin_.name}` would be asked for {need:.0f} tokens/s at {hour:02}:00 UTC and may carry "
        f"{have:.0f} ({named})"
    )
    yield Obstacle(Limit.THROUGHPUT, bin_.name, text, need, have, hour)


def _in_batch(board: PlacementState, item: Item, hour: int) -> str:
    """Say of an adapter that it is busy in an hour only because of its batch window."""
    declared = board.fleet.adapters.get(item.alias)
    demand = declared.demand if declared else None
    if demand is None or demand.batch is None or demand.observed is not None:
        return ""
    usual = hourly_rpm(replace(demand, batch=None))[hour]
    return "" if usual else " (batch window)"


def _new(
    board: PlacementState, item: Item, host: HostSpec, device: DeviceSpec
) -> Iterator[Obstacle]:
    """Yield what keeps a new server for a version off a device."""
    base, spot = board.fleet.bases[item.base], f"{host.name}/{device.name}"
    name = server_name(item.base, host.name, device.name)
    yield from _wishes(board, item, host, name, frozenset(((host.name, device.name),)))
    yield from _state(spot, device.state)
    found = alone_on(board, item, host, device)
    if found is not None:
        yield replace(found, where=spot)
        return
    trial = ServerDraft("", base, host.name, (device,) * (base.tensor_parallel or 1), 0)
    slow = board.too_slow(item, trial)
    if slow is not None:
        yield replace(slow, where=spot)
    yield from unlisted(board.hardware, item, trial, base.slots or slots_bucket(1) or 1)
    there = board.hardware.on[host.name, device.name]
    if there and not (base.kv_cache_bytes is not None and _in_bytes(there)):
        text = f"`{spot}` is taken by {', '.join(f'`{each.name}`' for each in there)}"
        yield Obstacle(Limit.DEVICES, spot, text)
    elif there:
        text = f"`{spot}` has no memory left beside {', '.join(f'`{e.name}`' for e in there)}"
        yield Obstacle(Limit.MEMORY, spot, text)


def _in_bytes(there: list[ServerDraft]) -> bool:
    return all(each.base.kv_cache_bytes is not None for each in there)


def alone_on(
    board: PlacementState, item: Item, host: HostSpec, device: DeviceSpec
) -> Obstacle | None:
    """Return what keeps a version off a device that nobody else is on; None: it fits there."""
    base, spot = board.fleet.bases[item.base], f"{host.name}/{device.name}"
    high = too_high(board, item, spot)
    if high is not None:
        return high
    alike = [each for each in host.devices if each.kind == device.kind]
    wanted = (base.tensor_parallel,) if base.tensor_parallel else CARDS
    possible = [each for each in wanted if each <= len(alike) and _splits(board, item, each)]
    if not possible:
        cards = wanted[0]
        text = (
            f"a server of `{base.name}` stands on {cards} devices, and `{host.name}` has "
            f"{len(alike)} of `{device.kind}`"
        )
        return Obstacle(Limit.TENSOR_PARALLEL, spot, text, cards, len(alike))
    found: Obstacle | None = None
    for cards in possible:
        found = _alone(board, item, device, cards, spot)
        if found is None or found.limit is Limit.THROUGHPUT:
            return found
    return found


def _splits(board: PlacementState, item: Item, cards: int) -> bool:
    shape = board.fleet.bases[item.base].shape
    return shape is None or shape.num_attention_heads % cards == 0


def _alone(
    board: PlacementState, item: Item, device: DeviceSpec, cards: int, spot: str
) -> Obstacle | None:
    base = board.fleet.bases[item.base]
    needed = 1 + device.kind.startswith("cpu")
    slots = base.slots or slots_bucket(needed) or needed
    rank = base.max_lora_rank or rank_bucket(item.rank) or 0
    if slots < needed:
        text = f"base `{base.name}` declares max_loras {slots}, and a CPU keeps 1 of them empty"
        return Obstacle(Limit.SLOTS, spot, text, needed, slots)
    shape = ServerShape(base, device, cards, 1, slots, rank, shared=False)
    room, need = int(device.memory_bytes * shape.memory_share), least_bytes(shape)
    if need > room:
        return _too_small(shape, need, room, spot)
    trial = ServerDraft("", base, "", (device,) * cards, 0)
    used = board.hardware.used(trial, item, (slots, rank))
    if int(np.max(used)) > FULL:
        (found,) = _load(board, item, replace_name(trial, spot), (slots, rank))
        return found
    return None


def replace_name(bin_: ServerDraft, name: str) -> ServerDraft:
    """Name a server that is only tried."""
    bin_.name = name
    return bin_


def _too_small(shape: ServerShape, need: int, room: int, spot: str) -> Obstacle:
    """Say which part of a server's memory is the one that does not fit."""
    parts = memory_of(shape)
    weights, slots = parts.weights or 0, parts.slots or 0
    least = need - weights - slots - parts.reserve
    cards = f"{shape.tensor_parallel} x " if shape.tensor_parallel > 1 else ""
    text = (
        f"{cards}`{spot}` has {size(room)} and it needs {size(need)} (weights {size(weights)}, "
        f"{shape.slots} slots of rank {shape.rank} {size(slots)}, KV cache {size(least)}, reserve "
        f"{size(parts.reserve)}): {size(need - room)} short"
    )
    if weights + parts.reserve > room:
        limit = Limit.MEMORY
    elif weights + slots + parts.reserve > room:
        limit = Limit.SLOTS
    else:
        limit = Limit.KV_CACHE
    return Obstacle(limit, spot, text, need, room)
