"""Rules: the only statement, in the search, of the rules that keep a version out of a place.

`broken_rules` has the rules of an open server; `server_rules`, `is_open_to`, `replica_rules` those
of a host, of a server's name and of devices. `places_of` has the rules and amounts (slots, memory,
load) that keep a version out, place by place, as obstacles. `verify` states the rules again, on
purpose.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from fleet.capacity import ServerShape, hourly_rpm, least_bytes, memory_of
from fleet.hardware import DeviceSpec, DeviceState, HostSpec, is_cpu
from fleet.names import server_name
from fleet.placement.model.causes import Limit, Obstacle, size
from fleet.placement.model.items import RATE_UNIT, Item
from fleet.placement.model.latency_slo import too_slow
from fleet.placement.model.server_types import TENSOR_PARALLEL_SIZES
from fleet.placement.model.servers import FULL, DeviceId, ServerDraft
from fleet.placement.model.state import PlacementState, by_name
from fleet.vllm import RANKS, rank_bucket, slots_bucket

CLOSED: Mapping[DeviceState, Limit] = {"cordoned": Limit.CORDONED, "draining": Limit.DRAINING}
"""By state of a device or an attached server: the rule that keeps new versions out."""


def takes(state: PlacementState, draft: ServerDraft, item: Item) -> bool:
    """Say whether rules let a version onto a server that is new to the version."""
    return not draft.closed and allows(state, draft, item)


def allows(state: PlacementState, draft: ServerDraft, item: Item) -> bool:
    """Say whether rules let a version onto a server, or let the version stay on a closed server."""
    return next(broken_rules(state, draft, item), None) is None


def broken_rules(state: PlacementState, draft: ServerDraft, item: Item) -> Iterator[Limit]:
    """Yield the rules that keep a version off an open server, besides `CLOSED`."""
    yield from server_rules(item, state.fleet.hosts[draft.host], draft.name)
    if draft.isolation_group not in (None, item.isolation_group):
        yield Limit.ISOLATION
    if (excluded := state.anti_affinity.get(item.alias)) and not excluded.isdisjoint(draft.aliases):
        yield Limit.APART
    if draft.name not in item.prior and too_slow(state.fleet, item, draft.base, draft.devices):
        yield Limit.LATENCY
    yield from replica_rules(item, state.device_ids(item), draft.host, draft.device_ids)


def server_rules(item: Item, host: HostSpec, name: str) -> Iterator[Limit]:
    """Yield the rules that keep a version off a server, whatever the server holds."""
    if item.pin not in (None, name, host.name):
        yield Limit.PIN
    if name in item.avoid:
        yield Limit.AVOID
    yield from _host_rules(host, item.avoid, item.groups)


def _host_rules(host: HostSpec, avoid: frozenset[str], groups: frozenset[str]) -> Iterator[Limit]:
    if host.name in avoid:
        yield Limit.AVOID
    if host.reserved_for and groups.isdisjoint(host.reserved_for):
        yield Limit.RESERVED


def is_open_to(
    host: HostSpec, pin: str | None, avoid: frozenset[str], groups: frozenset[str]
) -> bool:
    """Say whether rules let a version onto some server of a host."""
    pinned = pin not in (None, host.name) and f"-{host.name}-" not in pin
    return not pinned and not any(_host_rules(host, avoid, groups))


def replica_rules(
    item: Item, replica_devices: set[DeviceId], host: str, device_ids: frozenset[DeviceId]
) -> Iterator[Limit]:
    """Yield the rules that keep a version off devices because of its other replicas."""
    if not replica_devices.isdisjoint(device_ids):
        yield Limit.REPLICAS
    elif item.spread == "host" and any(device_id[0] == host for device_id in replica_devices):
        yield Limit.HOSTS


def anti_affinity_of(items: Mapping[str, Item]) -> dict[str, frozenset[str]]:
    """Return the aliases that must not share a server with an alias, by alias, either way round."""
    clients: dict[str, set[str]] = {}
    for item in items.values():
        clients.setdefault(item.client, set()).add(item.alias)
    excluded: dict[str, set[str]] = {}
    for item in items.values():
        for other in item.apart:
            for alias in clients.get(other, {other}) - {item.alias}:
                excluded.setdefault(item.alias, set()).add(alias)
                excluded.setdefault(alias, set()).add(item.alias)
    return {alias: frozenset(aliases) for alias, aliases in excluded.items()}


def places_of(state: PlacementState, item: Item) -> Iterator[tuple[Obstacle, ...]]:
    """Yield the obstacles of every place of a version; no obstacle: the search overlooked it."""
    for draft in by_name(state.drafts.values()):
        if draft.base.name == item.base and draft.name not in state.bound[item.adapter]:
            yield (*_rules(state, item, draft), *_amounts(state, item, draft))
    for _, host in sorted(state.fleet.hosts.items()):
        for device in host.devices:
            name = server_name(item.base, host.name, device.name)
            if name not in state.drafts and name not in state.live.unknown_servers:
                yield tuple(_new(state, item, host, device, name))


def _rules(state: PlacementState, item: Item, draft: ServerDraft) -> Iterator[Obstacle]:
    """Yield the rules that keep a version off an open server."""
    host = state.fleet.hosts[draft.host]
    for device in draft.devices:
        yield from _closed(f"{host.name}/{device.name}", device.state)
    for attached in host.attached:
        if attached.name == draft.name:
            yield from _closed(attached.name, attached.state)
    for rule in broken_rules(state, draft, item):
        yield _rule(state, rule, item, host, draft.name, draft)


def _rule(
    state: PlacementState,
    rule: Limit,
    item: Item,
    host: HostSpec,
    name: str,
    draft: ServerDraft | None = None,
) -> Obstacle:
    need, have = 1, 0
    replica_devices = state.device_ids(item)
    match rule:
        case Limit.LATENCY if draft and (
            slow := too_slow(state.fleet, item, draft.base, draft.devices)
        ):
            return replace(slow, where=name)
        case Limit.ISOLATION if draft:
            ours, theirs = item.isolation_group or "shared", draft.isolation_group or "shared"
            text = f"`{name}` holds adapters of isolation `{theirs}`, and this is of `{ours}`"
        case Limit.APART if draft:
            beside = sorted(state.anti_affinity[item.alias].intersection(draft.aliases))
            text = f"`{name}` holds `{beside[0]}`, from which it stays apart"
            need = sum(draft.aliases[alias] for alias in beside)
        case Limit.PIN:
            text = f"it is pinned to `{item.pin}`"
        case Limit.AVOID:
            text = f"it avoids `{name if name in item.avoid else host.name}`"
        case Limit.RESERVED:
            text = f"host `{host.name}` is reserved for {', '.join(host.reserved_for)}"
        case Limit.HOSTS:
            text = f"host `{host.name}` has a replica of it"
            need, have = item.replicas, len({device_id[0] for device_id in replica_devices})
        case _:
            text = f"`{name}` is on a device that has a replica of it"
            need, have = item.replicas, len(replica_devices)
    return Obstacle(rule, name, text, need, have)


def _closed(place: str, state: DeviceState) -> Iterator[Obstacle]:
    if state in CLOSED:
        yield Obstacle(CLOSED[state], place, f"`{place}` is {state}")


def _amounts(state: PlacementState, item: Item, draft: ServerDraft) -> Iterator[Obstacle]:
    if draft.device is None:
        if item.rank > draft.rank:
            text = f"`{draft.name}`, an attached server, takes rank {draft.rank} at most"
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
        if short := state.hardware.host_shortage(draft, item, shape[0]):
            yield short
        yield from _load(state, item, draft, shape)


def too_high(state: PlacementState, item: Item, where: str) -> Obstacle | None:
    """Return the obstacle of a rank above the largest that servers of its base may have."""
    limit = state.fleet.bases[item.base].max_lora_rank or RANKS[-1]
    if item.rank <= limit and rank_bucket(item.rank) is not None:
        return None
    text = f"servers of `{item.base}` reserve slots of at most rank {limit}"
    return Obstacle(Limit.RANK, where, text, item.rank, limit)


def _full(draft: ServerDraft, item: Item) -> Obstacle:
    blocked = ", 1 of them kept empty on a CPU" if draft.blocked else ""
    versions = "1 version" if len(draft.names) == 1 else f"{len(draft.names)} versions"
    slots = "1 slot" if draft.slots == 1 else f"{draft.slots} slots"
    text = f"`{draft.name}` has {versions} in {slots}{blocked}"
    return Obstacle(Limit.SLOTS, draft.name, text, draft.slots_needed(item), draft.slots)


def _cramped(state: PlacementState, item: Item, draft: ServerDraft) -> Obstacle:
    """Return the obstacle that keeps a server of ours from a further slot, or a larger rank."""
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
    used = state.hardware.used(draft, item, shape)
    hour = int(used.argmax())
    if int(used[hour]) <= FULL:
        return
    need = float(draft.tokens[hour] + draft.added_load(item).tokens[hour]) / RATE_UNIT
    due = draft.promises | {item.promise} if item.promise else None
    limit = state.hardware.throughput(draft, *shape, due).limit
    have = need * FULL / int(used[hour]) if limit > 0 else 0.0
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
    """Mark an adapter that is busy in an hour only because of its batch window."""
    declared = state.fleet.adapters.get(item.alias)
    demand = declared.demand if declared else None
    if demand is None or demand.batch is None or demand.observed is not None:
        return ""
    usual = hourly_rpm(replace(demand, batch=None))[hour]
    return "" if usual else " (batch window)"


def _new(
    state: PlacementState, item: Item, host: HostSpec, device: DeviceSpec, name: str
) -> Iterator[Obstacle]:
    base = state.fleet.bases[item.base]
    place = f"{host.name}/{device.name}"
    device_ids = frozenset(((host.name, device.name),))
    replicas = replica_rules(item, state.device_ids(item), host.name, device_ids)
    for rule in (*server_rules(item, host, name), *replicas):
        yield _rule(state, rule, item, host, name)
    yield from _closed(place, device.state)
    obstacle = alone_on(state, item, host, device)
    if obstacle is not None:
        yield replace(obstacle, where=place)
        return
    trial = ServerDraft("", base, host.name, (device,) * (base.tensor_parallel or 1), 0)
    if slow := too_slow(state.fleet, item, base, trial.devices):
        yield replace(slow, where=place)
    if short := state.hardware.host_shortage(trial, item, base.slots or slots_bucket(1) or 1):
        yield short
    if neighbours := state.hardware.on_device[host.name, device.name]:
        names = ", ".join(f"`{draft.name}`" for draft in neighbours)
        if any(of.kv_cache_bytes is None for of in (base, *(draft.base for draft in neighbours))):
            yield Obstacle(Limit.DEVICES, place, f"`{place}` is taken by {names}")
        else:
            yield Obstacle(Limit.MEMORY, place, f"`{place}` has no memory left beside {names}")


def alone_on(
    state: PlacementState, item: Item, host: HostSpec, device: DeviceSpec
) -> Obstacle | None:
    """Return the obstacle of a version on an empty device; None: the version fits there."""
    base = state.fleet.bases[item.base]
    place = f"{host.name}/{device.name}"
    high = too_high(state, item, place)
    if high is not None:
        return high
    alike = sum(other.kind == device.kind for other in host.devices)
    heads = base.shape.num_attention_heads if base.shape else 0
    sizes = (base.tensor_parallel,) if base.tensor_parallel else TENSOR_PARALLEL_SIZES
    possible = [number for number in sizes if number <= alike and heads % number == 0]
    if not possible:
        text = (
            f"a server of `{base.name}` stands on {sizes[0]} devices, and `{host.name}` has "
            f"{alike} of `{device.kind}`"
        )
        return Obstacle(Limit.TENSOR_PARALLEL, place, text, sizes[0], alike)
    obstacle: Obstacle | None = None
    for tensor_parallel in possible:
        obstacle = _alone(state, item, device, tensor_parallel, place)
        if obstacle is None or obstacle.limit is Limit.THROUGHPUT:
            break
    return obstacle


def _alone(
    state: PlacementState, item: Item, device: DeviceSpec, tensor_parallel: int, place: str
) -> Obstacle | None:
    base = state.fleet.bases[item.base]
    needed = 1 + is_cpu(device.kind)
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
    return next(_load(state, item, trial, (slots, rank)), None)


def _too_small(shape: ServerShape, need: int, free_bytes: int, place: str) -> Obstacle:
    """Return the obstacle of the part of a server's memory that does not fit."""
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
