"""Gather the content of a drawing: hosts, devices and their parts, servers, adapters, loads."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from fleet.capacity import NO_REQUEST_MIX, largest_batch, request_mix_of
from fleet.errors import FleetError, did_you_mean
from fleet.hardware import NO_BASIS, DeviceSpec, HostSpec
from fleet.names import AdapterName
from fleet.placement import AdapterAccount, PlacementResult, ServerAccount, placement_accounts
from fleet.spec import FleetSpec
from fleet.vllm import USABLE

PartName = Literal["base", "slots", "kv", "reserve", "unknown"]


@dataclass(frozen=True, slots=True)
class Part:
    """A server's memory on a device for a single purpose."""

    name: PartName
    server: str
    bytes: int


@dataclass(frozen=True, slots=True)
class DeviceBox:
    """A device. Parts and free bytes add up to the memory."""

    device: str
    kind: str
    memory_bytes: int
    price_per_hour: float
    parts: tuple[Part, ...]
    """Parts server by server, in the order base, slots, KV cache, reserve."""

    @property
    def free_bytes(self) -> int:
        """Bytes that no server takes: servers leave a part free, see `fleet.vllm.USABLE`."""
        return self.memory_bytes - sum(part.bytes for part in self.parts)


@dataclass(frozen=True, slots=True)
class AdapterBlock:
    """An adapter version on a server."""

    adapter: str
    alias: str
    client: str
    version: str
    rank: int
    cached: bool
    """Whether the version waits in host memory for a shared slot."""


@dataclass(frozen=True, slots=True)
class ServerPanel:
    """A server with adapters, slots and load by the hour."""

    server: str
    base: str
    slots: int
    """`max_loras`; 0: not known."""
    rank: int
    blocks: tuple[AdapterBlock, ...]
    others: tuple[str, ...]
    """Labels of slots without a pinned adapter, such as `shared`."""
    hours: tuple[float, ...]
    """Share of throughput that is asked for, by hour, UTC; empty: not known."""
    worst_hour: int
    limit: float
    """Upper bound of the share of throughput in any hour."""
    kv_tokens: int | None
    context: int
    """Mean tokens of a request in the KV cache."""
    basis: str

    @property
    def requests(self) -> int | None:
        """Requests at a time by the KV cache, up to the largest batch of the decode law."""
        return None if self.kv_tokens is None else largest_batch(self.kv_tokens, self.context)

    @property
    def pinned(self) -> tuple[AdapterBlock, ...]:
        """Adapters with a pinned slot."""
        return tuple(block for block in self.blocks if not block.cached)

    @property
    def empty(self) -> int:
        """Slots without any adapter."""
        return max(self.slots - len(self.pinned) - len(self.others), 0)


@dataclass(frozen=True, slots=True)
class DeviceGroup:
    """Devices that have a server in common, and all servers on them."""

    boxes: tuple[DeviceBox, ...]
    """Empty where the servers are run by others."""
    panels: tuple[ServerPanel, ...]


@dataclass(frozen=True, slots=True)
class HostRow:
    """A host."""

    host: str
    groups: tuple[DeviceGroup, ...]
    idle: tuple[str, ...]
    """Devices without a server."""
    silent: tuple[str, ...]
    """Servers here that did not answer, and are not drawn."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A fleet, or a part of a fleet."""

    fleet: str
    rows: tuple[HostRow, ...]

    @property
    def groups(self) -> tuple[DeviceGroup, ...]:
        """The groups of all hosts."""
        return tuple(group for row in self.rows for group in row.groups)

    @property
    def panels(self) -> tuple[ServerPanel, ...]:
        """The servers of all hosts."""
        return tuple(panel for group in self.groups for panel in group.panels)

    @property
    def boxes(self) -> tuple[DeviceBox, ...]:
        """The devices in use."""
        return tuple(box for group in self.groups for box in group.boxes)

    @property
    def clients(self) -> tuple[str, ...]:
        """Clients of the adapters, sorted."""
        return tuple(sorted({b.client for panel in self.panels for b in panel.blocks}))


def drawing_of(fleet: FleetSpec, placement: PlacementResult, silent: Iterable[str] = ()) -> Drawing:
    """Return the drawing of a placement.

    `silent` servers did not answer; the drawing names them, since their devices are taken.
    """
    accounts = placement_accounts(fleet, placement)
    asked = sorted(silent)
    rows = (_row(fleet, placement, host, accounts, asked) for host in fleet.hosts.values())
    return Drawing(fleet.name, tuple(rows))


def around_server(drawing: Drawing, server: str) -> Drawing:
    """Return the part of a drawing with a server and the servers on the same devices.

    Raises:
        FleetError: FC5011, there is no such server.
    """
    rows = tuple(
        replace(row, groups=groups, idle=(), silent=())
        for row in drawing.rows
        if (groups := tuple(g for g in row.groups if any(p.server == server for p in g.panels)))
    )
    if not rows:
        names = [panel.server for panel in drawing.panels]
        detail = f"`{server}` is no server that fleet {drawing.fleet} should have."
        hint = did_you_mean(server, names) or "without --server all are drawn"
        command = "fleetctl draw"
        raise FleetError.of("FC5011", "No such resource", detail, hint=hint, command=command)
    return replace(drawing, rows=rows)


def _row(
    fleet: FleetSpec,
    placement: PlacementResult,
    host: HostSpec,
    accounts: Mapping[str, ServerAccount],
    silent: list[str],
) -> HostRow:
    here = [account for account in accounts.values() if account.host == host.name]
    devices = {device.name: device for device in host.devices}
    used = {name for account in here for name in account.devices}
    uses = {use.server: use.slots_after for use in placement.capacity}
    contexts = {base: mix.context for base, mix in request_mix_of(fleet.adapters.values()).items()}
    groups = tuple(
        DeviceGroup(
            tuple(_box(devices[name], group) for name in names if name in devices),
            tuple(_panel(fleet, a, contexts, uses.get(a.server, 0)) for a in group),
        )
        for names, group in _groups(here)
    )
    attached = {server.name for server in host.attached}
    used |= {
        name
        for name in devices
        if any(server.endswith(f"-{host.name}-{name}") for server in silent)
    }
    return HostRow(
        host.name,
        groups,
        tuple(name for name in devices if name not in used),
        tuple(s for s in silent if s in attached or f"-{host.name}-" in s),
    )


def _groups(here: list[ServerAccount]) -> list[tuple[list[str], list[ServerAccount]]]:
    """Group servers that share a device, directly or through others."""
    groups: list[tuple[list[str], list[ServerAccount]]] = []
    for account in here:
        joined = [group for group in groups if set(group[0]) & set(account.devices)]
        names = sorted({*account.devices, *(name for group in joined for name in group[0])})
        servers = [*(server for group in joined for server in group[1]), account]
        groups = [*(group for group in groups if group not in joined), (names, servers)]
    return sorted(groups, key=lambda group: (group[0], group[1][0].server))


def _box(device: DeviceSpec, group: list[ServerAccount]) -> DeviceBox:
    here = [account for account in group if device.name in account.devices]
    parts: list[Part] = []
    for account in here:
        sizes: tuple[tuple[PartName, int | None], ...] = (
            ("base", account.weights_bytes),
            ("slots", account.slot_bytes),
            ("kv", account.kv_bytes),
            ("reserve", account.reserve_bytes),
        )
        known = [Part(name, account.server, size) for name, size in sizes if size]
        parts += known
        if any(size is None for _, size in sizes):
            share = int(device.memory_bytes * USABLE) // len(here)
            rest = share - sum(part.bytes for part in known)
            parts.append(Part("unknown", account.server, max(rest, 0)))
    return DeviceBox(
        device.name, device.kind, device.memory_bytes, device.price_per_hour, tuple(parts)
    )


def _panel(
    fleet: FleetSpec, account: ServerAccount, contexts: Mapping[str, int], taken: int
) -> ServerPanel:
    limit = fleet.policy.utilization
    known = account.basis != NO_BASIS
    more = max(taken - account.pinned, 0)
    shared = min(more, account.cached)
    others = ("shared",) * shared + ("not ours",) * (more - shared)
    return ServerPanel(
        server=account.server,
        base=account.base,
        slots=account.slots,
        rank=account.rank,
        blocks=tuple(_block(resident) for resident in account.residents),
        others=others + ("kept by vLLM",) * account.kept,
        hours=tuple(account.utilization(hour) * limit for hour in range(24)) if known else (),
        worst_hour=account.worst_hour,
        limit=limit,
        kv_tokens=account.kv_tokens,
        context=contexts.get(account.base, NO_REQUEST_MIX.context),
        basis=str(account.basis),
    )


def _block(resident: AdapterAccount) -> AdapterBlock:
    name = AdapterName.parse(resident.adapter)
    return AdapterBlock(
        resident.adapter, name.alias, name.client, str(name.version), resident.rank, resident.cached
    )
