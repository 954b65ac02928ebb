"""The packing as data to be drawn: hosts, devices, what fills them, who is on them, their day."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from fleet.capacity import NO_REQUEST_MIX, largest_batch, request_mix_of
from fleet.errors import FleetError, did_you_mean, problem
from fleet.hardware import DeviceSpec, HostSpec
from fleet.names import AdapterName, stands_on_device
from fleet.placement import AdapterAccount, PlacementResult, ServerAccount, placement_accounts
from fleet.spec import FleetSpec
from fleet.vllm import USABLE

PartName = Literal["base", "slots", "kv", "reserve", "unknown"]


@dataclass(frozen=True, slots=True)
class Part:
    """What one server takes of one device for one purpose."""

    name: PartName
    server: str
    bytes: int


@dataclass(frozen=True, slots=True)
class DeviceBox:
    """One device. The parts and what is free add up to its memory."""

    device: str
    kind: str
    memory_bytes: int
    price_per_hour: float
    parts: tuple[Part, ...]
    """Server by server, each as base, slots, KV cache, reserve."""

    @property
    def free_bytes(self) -> int:
        """What no server takes: a server never asks for all, see `fleet.vllm.USABLE`."""
        return self.memory_bytes - sum(each.bytes for each in self.parts)


@dataclass(frozen=True, slots=True)
class Block:
    """One adapter version on one server."""

    adapter: str
    alias: str
    client: str
    version: str
    rank: int
    cached: bool
    """Waits in host memory for a slot, and has none of its own."""


@dataclass(frozen=True, slots=True)
class ServerPanel:
    """One server with what it holds and its day."""

    server: str
    base: str
    slots: int
    """`max_loras`; 0: not known."""
    rank: int
    blocks: tuple[Block, ...]
    others: tuple[str, ...]
    """Slots that nobody has for himself: for each, whose it is, such as `shared`."""
    hours: tuple[float, ...]
    """Part of its throughput that is asked in each hour, UTC; empty: not known."""
    worst_hour: int
    limit: float
    """Part of its throughput that may be asked in any hour."""
    kv_tokens: int | None
    context: int
    """Tokens that a request keeps in the KV cache on average."""
    basis: str

    @property
    def requests(self) -> int | None:
        """Requests that run at a time by its KV cache, as far as the law counts on them."""
        return None if self.kv_tokens is None else largest_batch(self.kv_tokens, self.context)

    @property
    def pinned(self) -> tuple[Block, ...]:
        """Adapters with a slot of their own."""
        return tuple(each for each in self.blocks if not each.cached)

    @property
    def empty(self) -> int:
        """Slots that nobody has."""
        return max(self.slots - len(self.pinned) - len(self.others), 0)


@dataclass(frozen=True, slots=True)
class Panel:
    """Devices that have a server in common, and all servers on them."""

    boxes: tuple[DeviceBox, ...]
    """Empty where the servers are run by others."""
    tenants: tuple[ServerPanel, ...]


@dataclass(frozen=True, slots=True)
class HostRow:
    """One host."""

    host: str
    panels: tuple[Panel, ...]
    idle: tuple[str, ...]
    """Devices that no server stands on."""
    silent: tuple[str, ...]
    """Servers here that did not answer, and are not drawn."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A whole fleet, or a part of it."""

    fleet: str
    rows: tuple[HostRow, ...]

    @property
    def panels(self) -> tuple[Panel, ...]:
        """The panels of all hosts."""
        return tuple(panel for row in self.rows for panel in row.panels)

    @property
    def tenants(self) -> tuple[ServerPanel, ...]:
        """The servers of all hosts."""
        return tuple(each for panel in self.panels for each in panel.tenants)

    @property
    def boxes(self) -> tuple[DeviceBox, ...]:
        """The devices in use."""
        return tuple(each for panel in self.panels for each in panel.boxes)

    @property
    def clients(self) -> tuple[str, ...]:
        """Whose adapters are here, sorted."""
        return tuple(sorted({b.client for each in self.tenants for b in each.blocks}))


def sketch(fleet: FleetSpec, placement: PlacementResult, silent: Iterable[str] = ()) -> Drawing:
    """Return what there is to draw of a placement.

    Args:
        fleet: The declarations.
        placement: Where everything goes.
        silent: Servers that did not answer; named with their host, since their place is taken.
    """
    books = placement_accounts(fleet, placement)
    asked = sorted(silent)
    rows = (_row(fleet, placement, host, books, asked) for host in fleet.hosts.values())
    return Drawing(fleet.name, tuple(rows))


def only(drawing: Drawing, server: str) -> Drawing:
    """Return the part of a drawing with one server and those on the same devices.

    Raises:
        FleetError: FC5011, there is no such server.
    """
    rows = tuple(
        replace(row, panels=panels, idle=(), silent=())
        for row in drawing.rows
        if (panels := tuple(p for p in row.panels if any(t.server == server for t in p.tenants)))
    )
    if not rows:
        names = [each.server for each in drawing.tenants]
        raise FleetError(
            problem(
                "FC5011",
                "No such resource",
                f"`{server}` is no server that fleet {drawing.fleet} should have.",
                hint=did_you_mean(server, names) or "without --server all are drawn",
                command="fleetctl draw",
            )
        )
    return replace(drawing, rows=rows)


def _row(
    fleet: FleetSpec,
    placement: PlacementResult,
    host: HostSpec,
    books: Mapping[str, ServerAccount],
    silent: list[str],
) -> HostRow:
    here = [each for each in books.values() if each.host == host.name]
    devices = {each.name: each for each in host.devices}
    used = {name for each in here for name in each.devices}
    uses = {each.server: each.slots_after for each in placement.capacity}
    contexts = {
        base: each.context for base, each in request_mix_of(fleet.adapters.values()).items()
    }

    def tenant(account: ServerAccount) -> ServerPanel:
        return _tenant(fleet, account, contexts, uses.get(account.server, 0))

    panels = tuple(
        Panel(
            tuple(_box(devices[name], group) for name in names if name in devices),
            tuple(tenant(each) for each in group),
        )
        for names, group in _groups(here)
    )
    attached = {each.name for each in host.attached}
    waiting = {
        name for name in devices for each in silent if stands_on_device(each, host.name, name)
    }
    return HostRow(
        host.name,
        panels,
        tuple(name for name in devices if name not in used | waiting),
        tuple(each for each in silent if each in attached or f"-{host.name}-" in each),
    )


def _groups(here: list[ServerAccount]) -> list[tuple[list[str], list[ServerAccount]]]:
    """Group servers that share a device, directly or through others."""
    groups: list[tuple[list[str], list[ServerAccount]]] = []
    for each in here:
        joined = [group for group in groups if set(group[0]) & set(each.devices)]
        names = sorted({*each.devices, *(name for group in joined for name in group[0])})
        servers = [*(server for group in joined for server in group[1]), each]
        groups = [group for group in groups if group not in joined]
        groups.append((names, servers))
    return sorted(groups, key=lambda group: (group[0], group[1][0].server))


def _box(device: DeviceSpec, group: list[ServerAccount]) -> DeviceBox:
    here = [each for each in group if device.name in each.devices]
    parts: list[Part] = []
    for each in here:
        sizes: tuple[tuple[PartName, int | None], ...] = (
            ("base", each.weights_bytes),
            ("slots", each.slot_bytes),
            ("kv", each.kv_bytes),
            ("reserve", each.reserve_bytes),
        )
        known = [Part(name, each.server, size) for name, size in sizes if size]
        parts += known
        if any(size is None for _, size in sizes):
            share = int(device.memory_bytes * USABLE) // len(here)
            rest = share - sum(part.bytes for part in known)
            parts.append(Part("unknown", each.server, max(rest, 0)))
    return DeviceBox(
        device.name, device.kind, device.memory_bytes, device.price_per_hour, tuple(parts)
    )  # fmt: skip


def _tenant(
    fleet: FleetSpec, account: ServerAccount, contexts: Mapping[str, int], taken: int
) -> ServerPanel:
    limit = fleet.policy.utilization
    known = account.basis != "unknown"
    blocks = tuple(_block(each) for each in account.residents)
    more = max(taken - account.pinned, 0)
    shared = min(more, account.cached)
    others = ("shared",) * shared + ("not ours",) * (more - shared)
    return ServerPanel(
        server=account.server,
        base=account.base,
        slots=account.slots,
        rank=account.rank,
        blocks=blocks,
        others=others + ("kept by vLLM",) * account.kept,
        hours=tuple(account.utilization(hour) * limit for hour in range(24)) if known else (),
        worst_hour=account.worst_hour,
        limit=limit,
        kv_tokens=account.kv_tokens,
        context=contexts.get(account.base, NO_REQUEST_MIX.context),
        basis=account.basis,
    )


def _block(resident: AdapterAccount) -> Block:
    name = AdapterName.parse(resident.adapter)
    return Block(
        resident.adapter, name.alias, name.client, str(name.version), resident.rank, resident.cached
    )  # fmt: skip
