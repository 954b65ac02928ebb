"""Result: sums a search up as its servers, bindings, reasons, figures and warnings.

`lower_bound` is an hourly price that no placement undercuts, by the bounds of the packer.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from fleet.capacity import DeviceMemory, memory_of
from fleet.hardware import NO_BASIS, Basis, DeviceSpec, HostSpec
from fleet.names import adapter_address
from fleet.packing import (
    PRICE_UNIT,
    Effort,
    Instance,
    PricedBase,
    Stock,
    configuration_bound,
    whole_servers_bound,
)
from fleet.packing import lower_bound as price_bound
from fleet.placement.model.devices import Devices
from fleet.placement.model.items import ACTIVE_UNIT, Item, slots_for_cached
from fleet.placement.model.server_types import (
    DevicePool,
    ServerType,
    every_server_type,
    pool_of,
    prices,
    rank_bucket_of,
    server_table,
    stock_of,
)
from fleet.placement.model.servers import FULL, ServerDraft, percent
from fleet.placement.model.state import PlacementResult, PlacementState, Status
from fleet.placement.phases.consolidate import cost
from fleet.placement.phases.overload import remedies
from fleet.plan import BoundBasis, DeviceUse
from fleet.resources import Server
from fleet.spec import FleetSpec
from fleet.vllm import flags_for, lora_dtype, slot_bytes


def lower_bound(state: PlacementState, effort: Effort) -> tuple[float, BoundBasis]:
    """Return an hourly price that no placement undercuts, with its basis.

    No rule holds, and versions on attached servers are free. A base is priced on its own, as if
    every kind of device were there without end; with effort `fast`, as if no two adapters ever
    slowed each other down. Of few versions all bases share the devices that are declared, and their
    servers are whole. Where a base was bought for in a single order, the packer's proof counts if
    it is more. Servers of that proof keep their canary slots free. Promises do not count.
    """
    basis: BoundBasis = "resources" if effort == "fast" else "configurations"
    least, bases, kinds = 0, [], []
    for name, base in state.fleet.bases.items():
        bought = [
            item
            for item in state.items.values()
            if item.base == name and item.rank and rank_bucket_of(base, item)
            if (on := state.bound[item.adapter])
            if all(server in state.drafts and state.drafts[server].devices for server in on)
        ]
        wide = {len(draft.devices) for draft in state.drafts.values() if draft.base is base}
        server_types = every_server_type(state.fleet, base, wide)
        if not bought or not any(server_type.price for server_type in server_types):
            continue
        priced = _priced(state, bought, server_types, effort)
        if any(item.cached for item in bought):
            basis = "resources"  # of one base at least
            least += priced.floor
        else:
            bases.append(priced)
            kinds.append(server_types)
    alone = sum(base.floor for base in bases)
    whole = 0 if effort == "fast" else whole_servers_bound(_sharing(state.fleet, bases, kinds))
    if whole and basis == "configurations":
        basis = "whole servers"
    return round((least + max(alone, whole)) / PRICE_UNIT, 6), basis


def _priced(
    state: PlacementState, items: list[Item], server_types: list[ServerType], effort: Effort
) -> PricedBase:
    """Return the items of a base, as few copies as are declared, with a bound of their own."""
    base = state.fleet.bases[items[0].base]
    ranks = sorted({rank_bucket_of(base, item) for item in items})
    aliases = {item.alias: item for item in items}.values()  # versions of an alias share its load
    least = {alias.alias: state.fleet.adapters[alias.alias].replicas for alias in aliases}
    copies = [alias for alias in aliases for _ in range(min(least[alias.alias], alias.replicas))]
    table, spread = server_table(state, base, server_types, ranks, len(copies), spare=0)
    names = {name: index for index, name in enumerate(sorted({item.alias for item in copies}))}
    divisible = np.array([item.retries > 0 or item.replicas > least[item.alias] for item in copies])
    loads = [
        # Replicas' loads are rounded up; the parts of a load that is divided add up to this.
        np.maximum(item.load.tokens - int(is_divisible), 0)
        * item.replicas
        // max(least[item.alias], 1)
        for item, is_divisible in zip(copies, divisible, strict=True)
    ]
    instance = Instance(
        np.array(loads, dtype=np.int64),
        np.array([ranks.index(rank_bucket_of(base, item)) for item in copies], dtype=np.int64),
        np.array([names[item.alias] for item in copies], dtype=np.int64),
        table,
        prices([server_type.price for server_type in server_types]),
        np.array([item.load.active for item in copies]) / ACTIVE_UNIT,
        spread,
    )
    floor = max(price_bound(instance), state.floors.get(base.name, 0))
    if effort != "fast" and not any(item.cached for item in copies):
        floor = max(floor, configuration_bound(instance, divisible))
    return PricedBase(instance, divisible, floor)


def _sharing(
    fleet: FleetSpec, bases: Sequence[PricedBase], kinds: Sequence[list[ServerType]]
) -> list[PricedBase]:
    """Return the bases with all declared devices as their stock."""
    server_types = [server_type for base_types in kinds for server_type in base_types]
    places: dict[DevicePool, list[tuple[HostSpec, tuple[DeviceSpec, ...]]]] = defaultdict(list)
    for host in fleet.hosts.values():
        for device in host.devices:
            places[pool_of(device)].append((host, (device,)))
    for server_type in server_types:
        server_type.places = places[pool_of(server_type.device)]
    stock = stock_of(server_types)
    first = 0
    shared = []
    for base, base_types in zip(bases, kinds, strict=True):
        mine = slice(first, first := first + len(base_types))
        part = Stock(stock.pool[mine], stock.units[mine], stock.free)
        shared.append(base._replace(instance=replace(base.instance, stock=part)))
    return shared


def _device_use(
    draft: ServerDraft, loaded: set[str], foreign: frozenset[str], hardware: Devices
) -> DeviceUse:
    """Return a server's slots, memory and load before, during and after the apply.

    The server lists the `loaded` versions now; those in `foreign` are not ours and stay.
    """
    after = during = frozenset(draft.residents)
    if draft.live is not None and draft.fixed:
        after |= foreign
        during = after | (draft.names if _is_tight(draft, loaded) else loaded)
    memory = _memory(draft, hardware)
    rate = hardware.throughput(draft, draft.slots, draft.rank).basis
    used = hardware.used(draft) * hardware.fleet.policy.utilization / FULL
    total = sum(device.memory_bytes for device in draft.devices) if draft.devices else None
    shared = slots_for_cached([item for item in draft.residents.values() if item.cached])
    is_known = total is not None and memory.weights is not None and memory.slots is not None

    def times(amount: int | None) -> int | None:
        return None if amount is None else amount * (len(draft.devices) or 1)

    return DeviceUse(
        server=draft.name,
        host=draft.host,
        devices=tuple(device.name for device in draft.devices),
        total_bytes=total,
        weights_bytes=times(memory.weights),
        slot_bytes=times(memory.slots),
        kv_bytes=times(memory.kv),
        reserve_bytes=times(memory.reserve) if draft.devices else None,
        slots=draft.slots,
        slots_before=len(loaded - draft.cached) + shared,
        slots_during=len(during - draft.cached) + shared,
        slots_after=len(after - draft.cached) + shared,
        basis=str((Basis("uncalibrated") if rate == NO_BASIS else rate) if is_known else NO_BASIS),
        load=() if rate == NO_BASIS else tuple(round(part, 3) for part in used.tolist()),
        memory_basis=str(memory.basis),
    )


def _memory(draft: ServerDraft, hardware: Devices) -> DeviceMemory:
    """Return a server's memory by part; of an attached server, only what its flags say."""
    if draft.devices:
        return memory_of(hardware.shape(draft, draft.slots, draft.rank))
    shape = draft.base.shape
    attached = hardware.fleet.hosts[draft.host].attached
    vllm = next((declared.vllm for declared in attached if declared.name == draft.name), "")
    slot = slot_bytes(shape, draft.rank, lora_dtype(draft.base), vllm=vllm) if shape else None
    pool = None if slot is None else slot * draft.slots
    basis = NO_BASIS if pool is None else Basis("uncalibrated")
    return DeviceMemory(shape.weight_bytes if shape else None, pool, 0, None, None, basis)


def _is_tight(draft: ServerDraft, loaded: set[str]) -> bool:
    """Say whether versions must be unloaded before others are loaded."""
    listed = (loaded | draft.names) - draft.cached
    return draft.fixed and len(listed) + draft.blocked > draft.slots


def _warnings(state: PlacementState, uses: tuple[DeviceUse, ...]) -> Iterator[str]:
    """Yield warnings of servers without a free slot, without a budget, and of those overloaded."""
    short = [
        f"`{use.server}` {use.slots_during}/{use.slots}"
        for use in uses
        if use.slots and use.slots_during >= use.slots
    ]
    if short:
        yield f"no LoRA slot is left for a canary during the apply on {_some(short)}"
    unknown = [use.server for use in uses if use.devices and use.slot_bytes is None]
    shapeless = [name for name in unknown if state.drafts[name].base.shape is None]
    if shapeless:
        bases = _quoted(sorted({state.drafts[name].base.name for name in shapeless}))
        yield (
            f"memory of {_quoted(shapeless)} is not budgeted: neither config.json nor fleet.lock "
            f"tells the dimensions of base {bases}. Put its config.json into its `model` folder; "
            "weights are not needed"
        )
    if strange := [name for name in unknown if name not in shapeless]:
        yield f"memory of {_quoted(strange)} is not budgeted: the base's architecture is unknown"
    over = []
    for name, draft in sorted(state.drafts.items()):
        used = state.hardware.used(draft)
        if draft.residents and int(used.max()) > FULL:
            part = state.hardware.peak_percent(used)
            over.append(f"`{name}` {part} at {int(used.argmax()):02}:00 UTC")
    if over:
        yield (
            f"more load than the declared {percent(state.fleet.policy.utilization)} of throughput "
            f"on {_some(over)}"
        )
        yield from remedies(state)


def _quoted(names: list[str]) -> str:
    return _some([f"`{name}`" for name in names])


def _some(names: list[str], limit: int = 5) -> str:
    text = ", ".join(names[:limit])
    return f"{text} and {len(names) - limit} more" if len(names) > limit else text


def server_of(draft: ServerDraft, host: HostSpec) -> Server:
    """Return the server of a draft: the live server where its flags stay."""
    if draft.live is not None and (not draft.devices or draft.fixed):
        return draft.live
    flags = flags_for(
        draft.base, draft.slots, draft.rank,
        tensor_parallel=len(draft.devices) or 1, servers_per_device=draft.parts,
        listed=len(draft.names), image=host.image,
    )  # fmt: skip
    devices = tuple(device.name for device in draft.devices)
    return Server(
        draft.name, draft.base.name, draft.host, devices, draft.port, flags.digest, flags,
        host.supervisor,
    )  # fmt: skip


def result(state: PlacementState, effort: Effort) -> PlacementResult:
    """Return the placement that a search has decided."""
    servers = _servers(state)
    listed: dict[str, set[str]] = defaultdict(set)
    for adapter, names in state.targets.loaded.items():
        for name in names:
            listed[name].add(adapter)
    drafts = [state.drafts[name] for name in servers]
    uses = tuple(
        _device_use(draft, listed[draft.name], _foreign(state, draft), state.hardware)
        for draft in drafts
    )
    price = round(cost(state), 6)
    bound, bound_by = lower_bound(state, effort)
    status: Status = "optimal" if price <= bound + 1e-6 else "feasible"
    return PlacementResult(
        servers=servers,
        bindings={name: tuple(sorted(state.bound[name])) for name in state.items},
        why=dict(sorted(state.why.items())),
        server_why=dict(sorted(state.opened.items())),
        capacity=uses,
        tight=frozenset(draft.name for draft in drafts if _is_tight(draft, listed[draft.name])),
        unplaced=dict(sorted(state.unplaced.items())),
        warnings=(*_warnings(state, uses), *state.notes),
        forced=dict(sorted(state.forced.items())),
        optional=dict(sorted(state.optional.items())),
        price=price,
        bound=min(bound, price),
        bound_by=bound_by,
        status=status,
        beside={
            name: tuple(sorted(server_names)) for name, server_names in sorted(state.beside.items())
        },
        upgrades=state.targets.upgrades,
        gives_way=frozenset(state.given_up),
        turns=dict(sorted(state.turns.items())),
    )


def _servers(state: PlacementState) -> dict[str, Server]:
    servers: dict[str, Server] = {}
    for name, draft in sorted(state.drafts.items()):
        if draft.residents or not draft.devices:
            servers[name] = server_of(draft, state.fleet.hosts[draft.host])
            if draft.live is not None and draft.changed and not draft.fixed:
                state.opened[name] = draft.changed
        elif _foreign(state, draft) and draft.live is not None:
            servers[name] = draft.live
    return servers


def _foreign(state: PlacementState, draft: ServerDraft) -> frozenset[str]:
    """Return the versions on a server that are neither ours nor wanted."""
    names = draft.names - draft.residents.keys()
    ours = state.targets.owned
    return frozenset(name for name in names if adapter_address(name, draft.name) not in ours)
