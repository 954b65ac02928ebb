"""Result: from the state of the search to the placement that the rest of planning reads.

Figures of a placement for its reader: bytes, slots and load of every server.

What a placement says: servers, bindings, reasons and figures.

server_of.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from fleet.capacity import DeviceMemory, memory_of
from fleet.names import Address, adapter_address
from fleet.placement.consolidate import cost
from fleet.placement.devices import Devices
from fleet.placement.items import slots_for_cached
from fleet.placement.server_table import lower_bound
from fleet.placement.servers import FULL, ServerDraft, percent
from fleet.placement.state import PlacementState
from fleet.plan import DeviceUse
from fleet.resources import Server
from fleet.vllm import flags_for, lora_dtype, slot_bytes


def device_use(
    draft: ServerDraft, loaded: frozenset[str], foreign: frozenset[str], hardware: Devices
) -> DeviceUse:
    """Return a server's slots, memory and load before, during and after the apply.

    Args:
        draft: The packed server.
        loaded: Versions that it lists now.
        foreign: Those of them that are not ours and stay.
        hardware: What it stands on.
    """
    restarts = draft.live is None or not draft.fixed
    placed = frozenset(draft.residents)
    after = placed if restarts else placed | foreign
    during = after
    if not restarts:
        during = after | (draft.names if is_tight(draft, loaded) else loaded)
    memory = _memory(draft, hardware)
    found = hardware.throughput(draft, draft.slots, draft.rank)
    used = hardware.used(draft)
    total = sum(device.memory_bytes for device in draft.devices) if draft.devices else None
    shared = slots_for_cached([item for item in draft.residents.values() if item.cached])
    known = total is not None and memory.weights is not None and memory.slots is not None
    tensor_parallel = len(draft.devices) or 1
    utilization = hardware.fleet.policy.utilization
    return DeviceUse(
        server=draft.name,
        host=draft.host,
        devices=tuple(device.name for device in draft.devices),
        total_bytes=total,
        weights_bytes=_times(memory.weights, tensor_parallel),
        slot_bytes=_times(memory.slots, tensor_parallel),
        kv_bytes=_times(memory.kv, tensor_parallel),
        reserve_bytes=_times(memory.reserve, tensor_parallel) if draft.devices else None,
        slots=draft.slots,
        slots_before=len(loaded - draft.cached) + shared,
        slots_during=len(during - draft.cached) + shared,
        slots_after=len(after - draft.cached) + shared,
        basis=("uncalibrated" if found.basis == "unknown" else found.basis) if known else "unknown",
        load=tuple(round(int(part) * utilization / FULL, 3) for part in used)
        if found.basis != "unknown"
        else (),
        memory_basis=memory.basis,
    )


def _memory(draft: ServerDraft, hardware: Devices) -> DeviceMemory:
    """Return a server's memory by part; of one that others run, only what its flags say."""
    if draft.devices:
        return memory_of(hardware.shape(draft, draft.slots, draft.rank))
    shape = draft.base.shape
    attached = hardware.fleet.hosts[draft.host].attached
    vllm = next((declared.vllm for declared in attached if declared.name == draft.name), "")
    slot = slot_bytes(shape, draft.rank, lora_dtype(draft.base), vllm=vllm) if shape else None
    pool = None if slot is None else slot * draft.slots
    basis = "unknown" if pool is None else "uncalibrated"
    return DeviceMemory(shape.weight_bytes if shape else None, pool, 0, None, None, basis)


def _times(amount: int | None, tensor_parallel: int) -> int | None:
    return None if amount is None else amount * tensor_parallel


def is_tight(draft: ServerDraft, loaded: frozenset[str]) -> bool:
    """Say whether what goes must be unloaded before what comes is loaded."""
    listed = (loaded | draft.names) - draft.cached
    return draft.fixed and len(listed) + draft.blocked > draft.slots


def slot_warnings(uses: Iterable[DeviceUse]) -> Iterator[str]:
    """Yield a line on servers without a free slot, and one on those without a budget."""
    listed = tuple(uses)
    short = [
        f"`{change.server}` {change.slots_during}/{change.slots}"
        for change in listed
        if change.slots and change.slots_during >= change.slots
    ]
    if short:
        yield f"no LoRA slot is left for a canary during the apply on {_some(short)}"
    unknown = [
        f"`{change.server}`" for change in listed if change.devices and change.slot_bytes is None
    ]
    if unknown:
        yield (
            f"memory of {_some(unknown)} is not budgeted: the base's shape or architecture "
            "is unknown"
        )


def _some(names: list[str], shown: int = 5) -> str:
    text = ", ".join(names[:shown])
    return f"{text} and {len(names) - shown} more" if len(names) > shown else text


def load_warnings(state: PlacementState) -> Iterator[str]:
    """Yield a line on servers that carry more than they may."""
    over = []
    for name, draft in sorted(state.drafts.items()):
        used = state.hardware.used(draft)
        if draft.residents and int(used.max()) > FULL:
            part = int(used.max()) * state.fleet.policy.utilization / FULL
            over.append(f"`{name}` {percent(part)} at {int(used.argmax()):02}:00 UTC")
    if over:
        yield (
            f"more load than the declared {percent(state.fleet.policy.utilization)} of throughput "
            f"on {_some(over)}"
        )


Status = Literal["optimal", "feasible"]


@dataclass(frozen=True, slots=True)
class PlacementResult:
    """The servers, and the versions on them. Mappings are sorted by key."""

    servers: Mapping[str, Server]
    """The servers that should exist, without those that do not answer."""
    bindings: Mapping[str, tuple[str, ...]]
    """Full adapter name to the servers that should hold it, sorted; may name unknown ones."""
    why: Mapping[Address, str]
    """By adapter address: why it is there, for newly placed ones."""
    server_why: Mapping[str, str]
    """By server: why it is opened or started with other flags."""
    capacity: tuple[DeviceUse, ...]
    unplaced: Mapping[str, str]
    """Full adapter name to why it is nowhere, or on fewer servers than it should be."""
    tight: frozenset[str]
    """Servers where a load must wait until versions without traffic are unloaded."""
    warnings: tuple[str, ...]
    forced: Mapping[str, str]
    """Full adapter name to why it cannot stay where it is."""
    optional: Mapping[str, str]
    """Full adapter name to what moving it saves, though it could stay."""
    price: float
    """Of all devices in use, an hour."""
    bound: float
    """No placement of these versions costs less."""
    status: Status
    """`optimal`: the price is the bound."""


def server_of(draft: ServerDraft) -> Server:
    """Return the server of a draft: the live server where its flags stay."""
    if draft.live is not None and (not draft.devices or draft.fixed):
        return draft.live
    flags = flags_for(
        draft.base, draft.slots, draft.rank,
        tensor_parallel=len(draft.devices) or 1, servers_per_device=draft.parts,
        listed=len(draft.names),
    )  # fmt: skip
    devices = tuple(device.name for device in draft.devices)
    return Server(draft.name, draft.base.name, draft.host, devices, draft.port, flags.digest, flags)


def result(state: PlacementState) -> PlacementResult:
    """Return what a search has decided."""
    servers = _servers(state)
    listed: dict[str, set[str]] = defaultdict(set)
    for adapter, names in state.targets.loaded.items():
        for adapter_name in names:
            listed[adapter_name].add(adapter)
    uses = tuple(
        device_use(
            state.drafts[server], frozenset(listed[server]), _foreign(state, state.drafts[server]),
            state.hardware,
        )
        for server in servers
    )  # fmt: skip
    price, bound = round(cost(state), 6), lower_bound(state)
    status: Status = "optimal" if price <= bound + 1e-6 else "feasible"
    return PlacementResult(
        servers=servers,
        bindings={name: tuple(sorted(state.bound[name])) for name in state.items},
        why=dict(sorted(state.why.items())),
        server_why=dict(sorted(state.opened.items())),
        capacity=uses,
        tight=frozenset(
            server
            for server in servers
            if is_tight(state.drafts[server], frozenset(listed[server]))
        ),
        unplaced=dict(sorted(state.unplaced.items())),
        warnings=(*slot_warnings(uses), *load_warnings(state), *state.notes),
        forced=dict(sorted(state.forced.items())),
        optional=dict(sorted(state.optional.items())),
        price=price,
        bound=min(bound, price),
        status=status,
    )


def _servers(state: PlacementState) -> dict[str, Server]:
    servers: dict[str, Server] = {}
    for name, draft in sorted(state.drafts.items()):
        if draft.residents or not draft.devices:
            servers[name] = server_of(draft)
            if draft.live is not None and draft.changed and not draft.fixed:
                state.opened[name] = draft.changed
        elif _foreign(state, draft) and draft.live is not None:
            servers[name] = draft.live
    return servers


def _foreign(state: PlacementState, draft: ServerDraft) -> frozenset[str]:
    """Return what a server lists that is neither ours nor wanted."""
    names = draft.names - draft.residents.keys()
    ours = state.targets.owned
    return frozenset(
        adapter_name
        for adapter_name in names
        if adapter_address(adapter_name, draft.name) not in ours
    )
