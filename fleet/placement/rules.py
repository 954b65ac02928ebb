"""Rules: what keeps a version out of the places where a server of its base is or could be."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fleet.capacity import ServerShape, hourly_rpm, least_bytes, memory_of
from fleet.hardware import DeviceSpec, DeviceState, HostSpec
from fleet.placement.causes import Limit, Obstacle, size
from fleet.placement.items import RATE_UNIT, Item, alias_conflict
from fleet.placement.server_types import TENSOR_PARALLEL_SIZES
from fleet.placement.servers import FULL, DeviceId, ServerDraft
from fleet.placement.state import PlacementState, by_name
from fleet.vllm import RANKS, rank_bucket, slots_bucket


def places_of(state: PlacementState, item: Item) -> Iterator[tuple[str, tuple[Obstacle, ...]]]:
    """Yield every place with what keeps a version out of it; none: the search overlooked it."""
    for draft in by_name(state.drafts.values()):
        if draft.base.name == item.base and draft.name not in state.bound[item.adapter]:
            found = (*_rules(state, item, draft), *_lacking(state, item, draft))
            yield draft.name, found
    for _, host in sorted(state.fleet.hosts.items()):
        for device in host.devices:
            name = f"{item.base}-{host.name}-{device.name}"
            if name not in state.drafts and name not in state.live.unknown_servers:
                yield f"{host.name}/{device.name}", tuple(_new(state, item, host, device))


def _rules(state: PlacementState, item: Item, draft: ServerDraft) -> Iterator[Obstacle]:
    """Yield the declared rules that keep a version off an open server."""
    host = state.fleet.hosts[draft.host]
    yield from _preferences(state, item, host, draft.name, draft.device_ids)
    for device in draft.devices:
        yield from _state(f"{host.name}/{device.name}", device.state)
    for attached in host.attached:
        if attached.name == draft.name:
            yield from _state(attached.name, attached.state)
    if draft.isolation_group not in (None, item.isolation_group):
        ours, theirs = item.isolation_group or "shared", draft.isolation_group or "shared"
        text = f"`{draft.name}` holds adapters of isolation `{theirs}`, and this is of `{ours}`"
        yield Obstacle(Limit.ISOLATION, draft.name, text)
    slow = state.too_slow(item, draft)
    if slow is not None and draft.name not in item.prior:
        yield replace(slow, where=draft.name)
    if alias_conflict(state.anti_affinity, item, set(draft.residents)):
        anti_affinity = state.anti_affinity[item.alias]
        beside = sorted(
            resident.alias
            for resident in draft.residents.values()
            if resident.alias in anti_affinity
        )
        text = f"`{draft.name}` holds `{beside[0]}`, from which it stays apart"
        yield Obstacle(Limit.APART, draft.name, text, len(beside))


def _preferences(
    state: PlacementState, item: Item, host: HostSpec, name: str, device_ids: frozenset[DeviceId]
) -> Iterator[Obstacle]:
    """Yield what declarations say about a place, whatever versions are on it."""
    if item.pin not in (None, name, host.name):
        yield Obstacle(Limit.PIN, name, f"it is pinned to `{item.pin}`")
    if item.avoid.intersection((name, host.name)):
        which = name if name in item.avoid else host.name
        yield Obstacle(Limit.AVOID, name, f"it avoids `{which}`")
    if host.reserved_for and item.groups.isdisjoint(host.reserved_for):
        text = f"host `{host.name}` is reserved for {', '.join(host.reserved_for)}"
        yield Obstacle(Limit.RESERVED, name, text)
    taken = state.device_ids(item)
    if not taken.isdisjoint(device_ids):
        text = f"`{name}` is on a device that has a replica of it"
        yield Obstacle(Limit.REPLICAS, name, text, item.replicas, len(taken))
    elif item.spread == "host" and any(place[0] == host.name for place in taken):
        hosts = len({place[0] for place in taken})
        text = f"host `{host.name}` has a replica of it"
        yield Obstacle(Limit.HOSTS, name, text, item.replicas, hosts)


def _state(place: str, state: DeviceState) -> Iterator[Obstacle]:
    match state:
        case "cordoned":
            yield Obstacle(Limit.CORDONED, place, f"`{place}` is cordoned")
        case "draining":
            yield Obstacle(Limit.DRAINING, place, f"`{place}` is draining")
        case "active":
            pass


def _lacking(state: PlacementState, item: Item, draft: ServerDraft) -> Iterator[Obstacle]:
    """Yield what an open server lacks for one more version."""
    if draft.device is None:
        if item.rank > draft.rank:
            text = f"`{draft.name}`, which someone else runs, takes rank {draft.rank} at most"
            yield Obstacle(Limit.RANK, draft.name, text, item.rank, draft.rank)
        if not draft.has_slot_for(item):
            yield _full(draft, item)
        return
    high = too_high(state, item, draft.name)
    if high is not None:
        yield high
        return
    shape = state.hardware.shape_with(draft, item, 0)
    if shape is None:
        yield _cramped(state, item, draft)
    else:
        yield from _unlisted(state, item, draft, shape[0])
        yield from _load(state, item, draft, shape)


def _unlisted(
    state: PlacementState, item: Item, draft: ServerDraft, slots: int
) -> Iterator[Obstacle]:
    """Yield the main memory that a host lacks for what a server would list."""
    found = state.hardware.host_shortage(draft, item, slots)
    if found is not None:
        yield found.obstacle


def too_high(state: PlacementState, item: Item, where: str) -> Obstacle | None:
    """Return the obstacle of a rank above what servers of its base may have."""
    limit = state.fleet.bases[item.base].max_lora_rank or RANKS[-1]
    if item.rank <= limit and rank_bucket(item.rank) is not None:
        return None
    text = f"servers of `{item.base}` reserve slots of at most rank {limit}"
    return Obstacle(Limit.RANK, where, text, item.rank, limit)


def _full(draft: ServerDraft, item: Item) -> Obstacle:
    kept = ", 1 of them kept empty on a CPU" if draft.blocked else ""
    versions = "1 version" if len(draft.names) == 1 else f"{len(draft.names)} versions"
    slots = "1 slot" if draft.slots == 1 else f"{draft.slots} slots"
    text = f"`{draft.name}` has {versions} in {slots}{kept}"
    return Obstacle(Limit.SLOTS, draft.name, text, draft.slots_needed(item), draft.slots)


def _cramped(state: PlacementState, item: Item, draft: ServerDraft) -> Obstacle:
    """Say why a server of ours cannot have one more slot, or a larger rank."""
    full = _full(draft, item)
    declared = draft.base.slots
    if declared is not None and draft.slots_needed(item) > declared:
        text = f"{full.text}, and base `{item.base}` declares max_loras {declared}"
        return replace(full, text=text)
    rank = max(draft.rank, draft.base.max_lora_rank or rank_bucket(item.rank) or 0)
    slots = declared or max(draft.slots, slots_bucket(draft.slots_needed(item)) or 0)
    need = least_bytes(state.hardware.shape(draft, slots, rank)) - state.hardware.free(draft)
    if slots < draft.slots_needed(item):
        return replace(full, text=f"{full.text}, the most there are")
    text = f"{full.text} of rank {draft.rank}; {slots} of rank {rank} need {size(need)} more"
    if draft.slots_needed(item) <= draft.slots and item.rank > draft.rank:
        return Obstacle(Limit.RANK, draft.name, text, item.rank, draft.rank)
    return replace(full, text=text)


def _load(
    state: PlacementState, item: Item, draft: ServerDraft, shape: tuple[int, int]
) -> Iterator[Obstacle]:
    """Yield the hour in which a server would carry too much."""
    used = state.hardware.used(draft, item, shape)
    hour = int(used.argmax())
    if int(used[hour]) <= FULL:
        return
    need = float(draft.tokens[hour] + draft.added_load(item).tokens[hour]) / RATE_UNIT
    have = (
        need * FULL / int(used[hour]) if state.hardware.throughput(draft, *shape).limit > 0 else 0.0
    )
    busiest = sorted(
        {other.alias: other for other in (*draft.residents.values(), item)}.values(),
        key=lambda other: (-int(other.load.tokens[hour]), other.alias),
    )
    named = ", ".join(
        f"{other.alias}{_in_batch(state, other, hour)} {tokens / RATE_UNIT:.0f}"
        for other in busiest[:3]
        if (tokens := int(other.load.tokens[hour]))
    )
    text = (
        f"`{draft.name}` would be asked for {need:.0f} tokens/s at {hour:02}:00 UTC and may carry "
        f"{have:.0f} ({named})"
    )
    yield Obstacle(Limit.THROUGHPUT, draft.name, text, need, have, hour)


def _in_batch(state: PlacementState, item: Item, hour: int) -> str:
    """Say of an adapter that it is busy in an hour only because of its batch window."""
    declared = state.fleet.adapters.get(item.alias)
    demand = declared.demand if declared else None
    if demand is None or demand.batch is None or demand.observed is not None:
        return ""
    usual = hourly_rpm(replace(demand, batch=None))[hour]
    return "" if usual else " (batch window)"


def _new(
    state: PlacementState, item: Item, host: HostSpec, device: DeviceSpec
) -> Iterator[Obstacle]:
    """Yield what keeps a new server for a version off a device."""
    base, place = state.fleet.bases[item.base], f"{host.name}/{device.name}"
    name = f"{item.base}-{host.name}-{device.name}"
    yield from _preferences(state, item, host, name, frozenset(((host.name, device.name),)))
    yield from _state(place, device.state)
    found = alone_on(state, item, host, device)
    if found is not None:
        yield replace(found, where=place)
        return
    trial = ServerDraft("", base, host.name, (device,) * (base.tensor_parallel or 1), 0)
    slow = state.too_slow(item, trial)
    if slow is not None:
        yield replace(slow, where=place)
    yield from _unlisted(state, item, trial, base.slots or slots_bucket(1) or 1)
    there = state.hardware.on_device[host.name, device.name]
    if there and not (base.kv_cache_bytes is not None and _in_bytes(there)):
        text = f"`{place}` is taken by {', '.join(f'`{draft.name}`' for draft in there)}"
        yield Obstacle(Limit.DEVICES, place, text)
    elif there:
        text = f"`{place}` has no memory left beside {', '.join(f'`{e.name}`' for e in there)}"
        yield Obstacle(Limit.MEMORY, place, text)


def _in_bytes(there: list[ServerDraft]) -> bool:
    return all(draft.base.kv_cache_bytes is not None for draft in there)


def alone_on(
    state: PlacementState, item: Item, host: HostSpec, device: DeviceSpec
) -> Obstacle | None:
    """Return what keeps a version off an empty device; None: the version fits there."""
    base, place = state.fleet.bases[item.base], f"{host.name}/{device.name}"
    high = too_high(state, item, place)
    if high is not None:
        return high
    alike = [other for other in host.devices if other.kind == device.kind]
    sizes = (base.tensor_parallel,) if base.tensor_parallel else TENSOR_PARALLEL_SIZES
    possible = [number for number in sizes if number <= len(alike) and _splits(state, item, number)]
    if not possible:
        tensor_parallel = sizes[0]
        text = (
            f"a server of `{base.name}` stands on {tensor_parallel} devices, and `{host.name}` has "
            f"{len(alike)} of `{device.kind}`"
        )
        return Obstacle(Limit.TENSOR_PARALLEL, place, text, tensor_parallel, len(alike))
    found: Obstacle | None = None
    for tensor_parallel in possible:
        found = _alone(state, item, device, tensor_parallel, place)
        if found is None or found.limit is Limit.THROUGHPUT:
            return found
    return found


def _splits(state: PlacementState, item: Item, tensor_parallel: int) -> bool:
    shape = state.fleet.bases[item.base].shape
    return shape is None or shape.num_attention_heads % tensor_parallel == 0


def _alone(
    state: PlacementState, item: Item, device: DeviceSpec, tensor_parallel: int, place: str
) -> Obstacle | None:
    base = state.fleet.bases[item.base]
    needed = 1 + device.kind.startswith("cpu")
    slots = base.slots or slots_bucket(needed) or needed
    rank = base.max_lora_rank or rank_bucket(item.rank) or 0
    if slots < needed:
        text = f"base `{base.name}` declares max_loras {slots}, and a CPU keeps 1 of them empty"
        return Obstacle(Limit.SLOTS, place, text, needed, slots)
    shape = ServerShape(base, device, tensor_parallel, 1, slots, rank, shared=False)
    free_bytes, need = int(device.memory_bytes * shape.memory_share), least_bytes(shape)
    if need > free_bytes:
        return _too_small(shape, need, free_bytes, place)
    trial = ServerDraft(place, base, "", (device,) * tensor_parallel, 0)
    used = state.hardware.used(trial, item, (slots, rank))
    if int(np.max(used)) > FULL:
        (found,) = _load(state, item, trial, (slots, rank))
        return found
    return None


def _too_small(shape: ServerShape, need: int, free_bytes: int, place: str) -> Obstacle:
    """Say which part of a server's memory is the one that does not fit."""
    parts = memory_of(shape)
    weights, slots = parts.weights or 0, parts.slots or 0
    least = need - weights - slots - parts.reserve
    several = f"{shape.tensor_parallel} x " if shape.tensor_parallel > 1 else ""
    text = (
        f"{several}`{place}` has {size(free_bytes)} and it needs {size(need)} "
        f"(weights {size(weights)}, "
        f"{shape.slots} slots of rank {shape.rank} {size(slots)}, KV cache {size(least)}, reserve "
        f"{size(parts.reserve)}): {size(need - free_bytes)} short"
    )
    if weights + parts.reserve > free_bytes:
        limit = Limit.MEMORY
    elif weights + slots + parts.reserve > free_bytes:
        limit = Limit.SLOTS
    else:
        limit = Limit.KV_CACHE
    return Obstacle(limit, place, text, need, free_bytes)
