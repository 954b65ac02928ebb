"""Result: the placement that the rest of planning reads: servers, bindings, reasons, figures."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from fleet.capacity import DeviceMemory, memory_of
from fleet.hardware import NO_BASIS, Basis, HostSpec
from fleet.names import Address, adapter_address
from fleet.packing import Effort
from fleet.placement.consolidate import cost
from fleet.placement.devices import Devices
from fleet.placement.items import slots_for_cached
from fleet.placement.overload import remedies
from fleet.placement.price_bound import lower_bound
from fleet.placement.servers import FULL, ServerDraft, percent
from fleet.placement.state import PlacementState
from fleet.plan import BoundBasis, DeviceUse, Saving
from fleet.resources import Server
from fleet.rollouts import Upgrade
from fleet.vllm import flags_for, lora_dtype, slot_bytes


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
    known = total is not None and memory.weights is not None and memory.slots is not None

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
        basis=str((Basis("uncalibrated") if rate == NO_BASIS else rate) if known else NO_BASIS),
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


def _some(names: list[str], shown: int = 5) -> str:
    text = ", ".join(names[:shown])
    return f"{text} and {len(names) - shown} more" if len(names) > shown else text


Status = Literal["optimal", "feasible"]


@dataclass(frozen=True, slots=True)
class PlacementResult:
    """The servers, and the versions on them. Mappings are sorted by key."""

    servers: Mapping[str, Server]
    """The servers that should exist, without those that do not answer."""
    bindings: Mapping[str, tuple[str, ...]]
    """By version: the servers that should hold it, sorted; may name unknown servers."""
    why: Mapping[Address, str]
    """By adapter address of a newly placed version: why the version is there."""
    server_why: Mapping[str, str]
    """By server: why the server is opened or started with other flags."""
    capacity: tuple[DeviceUse, ...]
    unplaced: Mapping[str, str]
    """By version: why the version is on no server, or on fewer servers than declared."""
    tight: frozenset[str]
    """Servers where a load must wait until versions without traffic are unloaded."""
    warnings: tuple[str, ...]
    forced: Mapping[str, str]
    """By version: why the version cannot stay where it is."""
    optional: Mapping[str, str]
    """By version that could stay: the saving by its move."""
    price: float
    """Price of all devices in use, an hour."""
    bound: float
    """Lower bound of the price of these versions."""
    status: Status
    """`optimal`: the price is the bound."""
    beside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By version: servers of upgrades that hold the version without traffic, sorted."""
    upgrades: tuple[Upgrade, ...] = ()
    """Upgrades as there is room for them, by base."""
    bound_by: BoundBasis = "resources"
    """How the bound was found."""
    saving: Saving | None = None
    """A large saving by optional moves that were not asked for."""
    gives_way: frozenset[str] = frozenset()
    """Live servers that stop before a server starts on their devices."""
    turns: Mapping[Address, tuple[Address, ...]] = field(default_factory=dict)
    """By adapter address: the adapters that are unloaded before the adapter is loaded."""


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
        beside={name: tuple(sorted(there)) for name, there in sorted(state.beside.items())},
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
    names, ours = draft.names - draft.residents.keys(), state.targets.owned
    return frozenset(name for name in names if adapter_address(name, draft.name) not in ours)
