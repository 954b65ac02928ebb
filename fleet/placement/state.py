"""What a search may do, and what it has done so far.

Stock: the devices on which servers can still be opened, by kind and cut.

hosts_for.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

from fleet.hardware import BaseSpec, DeviceSpec, HostSpec
from fleet.names import Address, adapter_address, base_of_server, server_name
from fleet.packing import Effort
from fleet.placement.causes import Obstacle
from fleet.placement.devices import Devices
from fleet.placement.items import (
    NOWHERE,
    Item,
    ReplicaSteps,
    admits,
    alias_conflict,
    conflicts,
    items_of,
    pinned_to,
)
from fleet.placement.latency_slo import too_slow
from fleet.placement.live_servers import open_live
from fleet.placement.server_types import HostDevices, ServerType, ServerTypeKey, cuts_of, limits_of
from fleet.placement.servers import DeviceId, ServerDraft
from fleet.resources import State
from fleet.rollouts import RolloutTargets
from fleet.spec import AdapterSpec, FleetSpec, Spread
from fleet.vllm import rank_bucket


@dataclass(frozen=True, slots=True)
class SearchLimits:
    """How hard to look, and how much may move that need not."""

    effort: Effort = "fast"
    max_moves: int = 0
    """Optional moves: of versions that could stay where they are."""
    repack: bool = False
    """Place everything as if nothing were running; each difference is then an optional move."""


@dataclass(slots=True, eq=False)
class PlacementState:
    """Everything that a search moves about."""

    fleet: FleetSpec
    wanted: RolloutTargets
    live: State
    items: dict[str, Item]
    hardware: Devices
    bins: dict[str, ServerDraft]
    places: Mapping[str, tuple[str, HostSpec, DeviceSpec]]
    unplaced: dict[str, str]
    enemies: Mapping[str, frozenset[str]]
    """By alias: aliases that must not share a server with it."""
    bound: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """By version: the servers that hold it."""
    why: dict[Address, str] = field(default_factory=dict)
    opened: dict[str, str] = field(default_factory=dict)
    """By server: why it is opened or restarted."""
    forced: dict[str, str] = field(default_factory=dict)
    """By version: why it cannot stay where it is."""
    optional: dict[str, str] = field(default_factory=dict)
    """By version: what moving it saves, though it could stay."""
    relieved: dict[str, str] = field(default_factory=dict)
    """By version: the overloaded server that it was taken off."""
    floors: dict[str, int] = field(default_factory=dict)
    """By base that was bought for in one piece: what the packer proved no packing undercuts."""
    groups: int = 0
    """Groups of versions that were bought for, each on its own."""
    notes: list[str] = field(default_factory=list)

    def missing(self) -> list[Item]:
        """Return the versions that lack a replica, hardest first."""
        lacking = [
            each
            for name, each in self.items.items()
            if len(self.bound[name]) < each.replicas and name not in self.unplaced
        ]
        return sorted(lacking, key=hardest_first)

    def admits(self, bin_: ServerDraft, item: Item) -> bool:
        """Say whether rules let a version onto a server, whatever the room."""
        if item.pin not in (None, bin_.name, bin_.host) or bin_.name in item.avoid:
            return False
        if not item.admitted_by(self.fleet.hosts[bin_.host]):
            return False
        if bin_.party not in (None, item.party):
            return False
        if alias_conflict(self.enemies, item, set(bin_.residents)):
            return False
        if self.too_slow(item, bin_) is not None and bin_.name not in item.prior:
            return False
        return self.apart(item, bin_.host, bin_.spots)

    def too_slow(self, item: Item, bin_: ServerDraft) -> Obstacle | None:
        """Return what keeps a version off a server that misses its promise even while idle."""
        declared = self.fleet.adapters.get(item.alias)
        if declared is None or not declared.promised or bin_.device is None:
            return None
        rank = bin_.base.max_lora_rank or rank_bucket(item.rank) or 0
        return too_slow(self.fleet, declared, bin_.base, bin_.device, len(bin_.devices), rank)

    def apart(self, item: Item, host: str, spots: frozenset[DeviceId]) -> bool:
        """Say whether no replica of a version is on these devices, or this host if it matters."""
        taken = self.spots(item)
        if item.spread == "host" and any(each[0] == host for each in taken):
            return False
        return taken.isdisjoint(spots)

    def spots(self, item: Item) -> set[DeviceId]:
        """Return the devices that hold a replica already."""
        found: set[DeviceId] = set()
        for name in self.bound[item.adapter]:
            if name in self.bins:
                found |= self.bins[name].spots
            elif name in self.places:
                _, host, device = self.places[name]
                found.add((host.name, device.name))
        return found

    def bind(self, item: Item, bin_: ServerDraft, why: str) -> None:
        """Put a version on a server."""
        bin_.add(item)
        self.bound[item.adapter].append(bin_.name)
        if why:
            pinned = f"pinned to `{item.pin}`; " if item.pin else ""
            self.why[adapter_address(item.adapter, bin_.name)] = pinned + why

    def release(self, item: Item, bin_: ServerDraft) -> None:
        """Take a version off a server again."""
        bin_.remove(item)
        self.bound[item.adapter].remove(bin_.name)
        self.why.pop(adapter_address(item.adapter, bin_.name), None)

    def open(
        self, base: str, host: HostSpec, devices: tuple[DeviceSpec, ...], parts: int = 1
    ) -> ServerDraft:
        """Stand a new server on free devices, without slots yet."""
        name = server_name(base, host.name, devices[0].name)
        port = self.hardware.port(name, host, devices[0])
        bin_ = ServerDraft(name, self.fleet.bases[base], host.name, devices, port, parts=parts)
        self.bins[name] = bin_
        self.hardware.put(bin_)
        return bin_

    def close(self, bin_: ServerDraft) -> None:
        """Take a server away again, with its memory."""
        if bin_.devices:
            self.hardware.drop(bin_)
        del self.bins[bin_.name]

    def waits(self, item: Item) -> bool:
        """Say whether a server that could hold a version is silent and may be back soon."""
        return bool(silent_servers(self.fleet, self.live, item))


def placement_state_of(
    fleet: FleetSpec, wanted: RolloutTargets, live: State, failed: Mapping[str, int] | None = None
) -> PlacementState:
    """Return the board with everything live on it, and nothing placed.

    Args:
        fleet: The declarations.
        wanted: The versions that every alias should have.
        live: What runs.
        failed: By alias, how many numbers of replicas were tried and found no place.
    """
    hardware = Devices(fleet)
    places = {
        server_name(base, host.name, device.name): (base, host, device)
        for base in sorted(fleet.bases)
        for host in fleet.hosts.values()
        for device in host.devices
    }
    unplaced: dict[str, str] = {}

    @cache
    def carried(base: str, rung: int, hosts: tuple[str, ...], spread: Spread) -> ReplicaSteps:
        there = [fleet.hosts[each] for each in hosts]
        return limits_of(fleet, fleet.bases[base], rung, hardware, there, apart=spread == "host")

    @cache
    def open_to(groups: frozenset[str], avoid: frozenset[str], pin: str | None) -> tuple[str, ...]:
        return tuple(
            name
            for name, host in sorted(fleet.hosts.items())
            if admits(host, groups, avoid) and pinned_to(pin, name)
        )

    def limits(declared: AdapterSpec, base: str, rank: int) -> ReplicaSteps:
        rung = rank_bucket(rank)
        if base not in fleet.bases or rung is None:
            return NOWHERE
        groups = frozenset((declared.name.client, declared.tier))
        hosts = open_to(groups, frozenset(declared.avoid), declared.pin)
        return carried(base, rung, hosts, declared.spread)

    items = {each.adapter: each for each in items_of(fleet, wanted, limits, unplaced, failed or {})}
    items = dict(sorted(items.items()))
    bins = open_live(fleet, wanted, live, places, hardware)
    return PlacementState(
        fleet, wanted, live, items, hardware, bins, places, unplaced, conflicts(items)
    )  # fmt: skip


def silent_servers(fleet: FleetSpec, live: State, item: Item) -> tuple[str, ...]:
    """Return the servers that could hold a version and do not answer, quoted and sorted."""
    if not live.unknown_servers:
        return ()
    attached = {each.name: each.base for host in fleet.hosts.values() for each in host.attached}
    return tuple(
        f"`{name}`"
        for name in sorted(live.unknown_servers)
        if name == item.pin or attached.get(name, base_of_server(name)) == item.base
    )


def hardest_first(item: Item) -> tuple[bool, int, int, str]:
    """Order items: pinned ones, then by rank and load, both falling, then by name."""
    return (item.pin is None, -item.rank, -item.peak, item.adapter)


def by_name(bins: Iterable[ServerDraft]) -> list[ServerDraft]:
    """Return servers sorted by name."""
    return sorted(bins, key=lambda each: each.name)


def kinds_for(
    board: PlacementState, base: BaseSpec, rank: int, hosts: frozenset[str]
) -> list[ServerType]:
    """Return the kinds on which a server of a base holds at least one version of `rank`."""
    found: dict[ServerTypeKey, ServerType] = {}
    for kind, seat in _seats(board, base, rank, hosts):
        found.setdefault(kind.label, kind).seats.append(seat)
    for each in found.values():
        each.seats.sort(key=lambda seat: not _divided(board, seat))
    return [found[label] for label in sorted(found)]


def _seats(
    board: PlacementState, base: BaseSpec, rank: int, hosts: frozenset[str]
) -> Iterator[tuple[ServerType, HostDevices]]:
    for name, host in sorted(board.fleet.hosts.items()):
        if name not in hosts:
            continue
        usable = [each for each in host.devices if each.state == "active"]
        for kind, devices in cuts_of(board.fleet, base, rank, usable):
            named = server_name(base.name, name, devices[0].name)
            free = all(_open(board, base, host, each, kind.parts) for each in devices)
            if free and not board.hardware.waits_for(named, host, devices):
                yield kind, (host, devices)


def _open(
    board: PlacementState, base: BaseSpec, host: HostSpec, device: DeviceSpec, parts: int
) -> bool:
    """Say whether one more server may stand on a device."""
    name = server_name(base.name, host.name, device.name)
    if name in board.bins or name in board.live.unknown_servers:
        return False
    there = board.hardware.on[host.name, device.name]
    if base.kv_cache_bytes is not None:
        return all(each.base.kv_cache_bytes is not None or each.parts > 1 for each in there)
    if parts == 1:
        return not there
    return len(there) < parts and all(each.parts == parts for each in there)


def _divided(board: PlacementState, seat: HostDevices) -> bool:
    host, devices = seat
    return any(board.hardware.on[host.name, each.name] for each in devices)


def hosts_for(board: PlacementState, item: Item) -> Iterator[str]:
    """Yield the hosts with devices on which rules let one more replica of a version."""
    taken = {spot[0] for spot in board.spots(item)} if item.spread == "host" else set()
    for name, host in sorted(board.fleet.hosts.items()):
        admitted = item.admitted_by(host) and pinned_to(item.pin, name)
        if host.devices and admitted and name not in taken and _quick(board, item, host):
            yield name


def _quick(board: PlacementState, item: Item, host: HostSpec) -> bool:
    """Say whether a new server on some device of a host would answer within what is promised."""
    base = board.fleet.bases[item.base]
    return any(
        board.too_slow(
            item, ServerDraft("", base, host.name, (each,) * (base.tensor_parallel or 1), 0)
        )
        is None
        for each in host.devices
    )
