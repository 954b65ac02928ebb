"""Result: from the board to the placement that the rest of planning reads.

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
    bin_: ServerDraft, loaded: frozenset[str], foreign: frozenset[str], hardware: Devices
) -> DeviceUse:
    """Return a server's slots, memory and load before, during and after the apply.

    Args:
        bin_: The packed server.
        loaded: Versions that it lists now.
        foreign: Those of them that are not ours and stay.
        hardware: What it stands on.
    """
    restarts = bin_.live is None or not bin_.fixed
    placed = frozenset(bin_.residents)
    after = placed if restarts else placed | foreign
    during = after
    if not restarts:
        during = after | (bin_.names if is_tight(bin_, loaded) else loaded)
    memory = _memory(bin_, hardware)
    found = hardware.throughput(bin_, bin_.slots, bin_.rank)
    used = hardware.used(bin_)
    total = sum(device.memory_bytes for device in bin_.devices) if bin_.devices else None
    shared = slots_for_cached([item for item in bin_.residents.values() if item.cached])
    known = total is not None and memory.weights is not None and memory.slots is not None
    cards = len(bin_.devices) or 1
    utilization = hardware.fleet.policy.utilization
    return DeviceUse(
        server=bin_.name,
        host=bin_.host,
        devices=tuple(device.name for device in bin_.devices),
        total_bytes=total,
        weights_bytes=_times(memory.weights, cards),
        slot_bytes=_times(memory.slots, cards),
        kv_bytes=_times(memory.kv, cards),
        reserve_bytes=_times(memory.reserve, cards) if bin_.devices else None,
        slots=bin_.slots,
        slots_before=len(loaded - bin_.cached) + shared,
        slots_during=len(during - bin_.cached) + shared,
        slots_after=len(after - bin_.cached) + shared,
        basis=("uncalibrated" if found.basis == "unknown" else found.basis) if known else "unknown",
        load=tuple(round(int(part) * utilization / FULL, 3) for part in used)
        if found.basis != "unknown"
        else (),
        memory_basis=memory.basis,
    )


def _memory(bin_: ServerDraft, hardware: Devices) -> DeviceMemory:
    """Return a server's memory by part; of one that others run, only what its flags say."""
    if bin_.devices:
        return memory_of(hardware.shape(bin_, bin_.slots, bin_.rank))
    shape = bin_.base.shape
    attached = hardware.fleet.hosts[bin_.host].attached
    vllm = next((declared.vllm for declared in attached if declared.name == bin_.name), "")
    slot = slot_bytes(shape, bin_.rank, lora_dtype(bin_.base), vllm=vllm) if shape else None
    pool = None if slot is None else slot * bin_.slots
    basis = "unknown" if pool is None else "uncalibrated"
    return DeviceMemory(shape.weight_bytes if shape else None, pool, 0, None, None, basis)


def _times(amount: int | None, cards: int) -> int | None:
    return None if amount is None else amount * cards


def is_tight(bin_: ServerDraft, loaded: frozenset[str]) -> bool:
    """Say whether what goes must be unloaded before what comes is loaded."""
    listed = (loaded | bin_.names) - bin_.cached
    return bin_.fixed and len(listed) + bin_.blocked > bin_.slots


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


def load_warnings(board: PlacementState) -> Iterator[str]:
    """Yield a line on servers that carry more than they may."""
    over = []
    for name, bin_ in sorted(board.bins.items()):
        used = board.hardware.used(bin_)
        if bin_.residents and int(used.max()) > FULL:
            part = int(used.max()) * board.fleet.policy.utilization / FULL
            over.append(f"`{name}` {percent(part)} at {int(used.argmax()):02}:00 UTC")
    if over:
        yield (
            f"more load than the declared {percent(board.fleet.policy.utilization)} of throughput "
            f"on {_some(over)}"
        )


Status = Literal["optimal", "feasible"]


@dataclass(frozen=True, slots=True)
class PlacementResult:
    """Where everything wanted goes. Mappings are sorted by key."""

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


def server_of(bin_: ServerDraft) -> Server:
    """Return the server that a packed bin stands for: the live one where its flags stay."""
    if bin_.live is not None and (not bin_.devices or bin_.fixed):
        return bin_.live
    flags = flags_for(
        bin_.base, bin_.slots, bin_.rank,
        tensor_parallel=len(bin_.devices) or 1, parts=bin_.parts, listed=len(bin_.names),
    )  # fmt: skip
    devices = tuple(device.name for device in bin_.devices)
    return Server(bin_.name, bin_.base.name, bin_.host, devices, bin_.port, flags.digest, flags)


def result(board: PlacementState) -> PlacementResult:
    """Return what a search has decided."""
    servers = _servers(board)
    listed: dict[str, set[str]] = defaultdict(set)
    for adapter, names in board.wanted.loaded.items():
        for adapter_name in names:
            listed[adapter_name].add(adapter)
    uses = tuple(
        device_use(
            board.bins[server], frozenset(listed[server]), _foreign(board, board.bins[server]),
            board.hardware,
        )
        for server in servers
    )  # fmt: skip
    price, bound = round(cost(board), 6), lower_bound(board)
    status: Status = "optimal" if price <= bound + 1e-6 else "feasible"
    return PlacementResult(
        servers=servers,
        bindings={name: tuple(sorted(board.bound[name])) for name in board.items},
        why=dict(sorted(board.why.items())),
        server_why=dict(sorted(board.opened.items())),
        capacity=uses,
        tight=frozenset(
            server for server in servers if is_tight(board.bins[server], frozenset(listed[server]))
        ),
        unplaced=dict(sorted(board.unplaced.items())),
        warnings=(*slot_warnings(uses), *load_warnings(board), *board.notes),
        forced=dict(sorted(board.forced.items())),
        optional=dict(sorted(board.optional.items())),
        price=price,
        bound=min(bound, price),
        status=status,
    )


def _servers(board: PlacementState) -> dict[str, Server]:
    servers: dict[str, Server] = {}
    for name, bin_ in sorted(board.bins.items()):
        if bin_.residents or not bin_.devices:
            servers[name] = server_of(bin_)
            if bin_.live is not None and bin_.changed and not bin_.fixed:
                board.opened[name] = bin_.changed
        elif _foreign(board, bin_) and bin_.live is not None:
            servers[name] = bin_.live
    return servers


def _foreign(board: PlacementState, bin_: ServerDraft) -> frozenset[str]:
    """Return what a server lists that is neither ours nor wanted."""
    names = bin_.names - bin_.residents.keys()
    ours = board.wanted.owned
    return frozenset(
        adapter_name
        for adapter_name in names
        if adapter_address(adapter_name, bin_.name) not in ours
    )
