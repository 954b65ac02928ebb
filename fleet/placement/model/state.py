"""State: limits of a search, its servers and bindings so far, and the result that plans read."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from fleet.hardware import DeviceSpec, HostSpec
from fleet.names import Address, adapter_address, base_of_server, server_name
from fleet.packing import Effort
from fleet.placement.model.devices import Devices
from fleet.placement.model.items import Ints, Item
from fleet.placement.model.servers import DeviceId, ServerDraft
from fleet.plan import BoundBasis, DeviceUse, Saving
from fleet.resources import Server, State
from fleet.rollouts import RolloutTargets, Upgrade
from fleet.spec import FleetSpec


@dataclass(frozen=True, slots=True)
class SearchLimits:
    """Effort of a search, and its limit of optional moves."""

    effort: Effort = "fast"
    max_moves: int = 0
    """Optional moves: of versions that could stay where they are."""
    repack: bool = False
    """Place everything as if nothing were running; every difference is then an optional move."""
    promises: bool = True
    """Whether promised latencies choose devices, at the price of places for others."""
    staying: frozenset[str] = frozenset()
    """Live servers that stay even so, with the versions that they list."""
    surcharges: tuple[tuple[str, float], ...] = ()
    """By kind of device: the part of its price that the choice of servers adds."""


@dataclass(slots=True, eq=False)
class PlacementState:
    """Versions, servers and bindings during a search."""

    fleet: FleetSpec
    targets: RolloutTargets
    live: State
    items: dict[str, Item]
    hardware: Devices
    drafts: dict[str, ServerDraft]
    places: Mapping[str, tuple[str, HostSpec, DeviceSpec]]
    """By name that a server would get: its base, host and first device."""
    unplaced: dict[str, str]
    anti_affinity: Mapping[str, frozenset[str]]
    """By alias: aliases that must not share a server with the alias."""
    abandoned: frozenset[str] = frozenset()
    """Servers that do not answer, and whose device drains or is no longer declared."""
    bound: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """By version: the servers that hold the version."""
    why: dict[Address, str] = field(default_factory=dict)
    opened: dict[str, str] = field(default_factory=dict)
    """By server: why the server is opened or restarted."""
    forced: dict[str, str] = field(default_factory=dict)
    """By version: why the version cannot stay where it is."""
    optional: dict[str, str] = field(default_factory=dict)
    """By version that could stay: the saving by its move."""
    relieved: dict[str, str] = field(default_factory=dict)
    """By version: the overloaded server that the version was taken off."""
    loads_now: dict[str, Ints] = field(default_factory=dict)
    """By server that runs: the part of its limit that its load takes now, by hour."""
    floors: dict[str, int] = field(default_factory=dict)
    """By base with a single order: the price that no packing undercuts, by the packer's proof."""
    groups: int = 0
    """Largest number of orders that were bought for in a round."""
    notes: list[str] = field(default_factory=list)
    given_up: dict[str, ServerDraft] = field(default_factory=dict)
    """By server: live servers that were closed to place everything afresh."""
    turns: dict[Address, tuple[Address, ...]] = field(default_factory=dict)
    """By version and server: the versions that have to go before the version is loaded."""
    beside: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """By version: servers that hold it without traffic, as an upgrade wants it."""

    def missing(self) -> list[Item]:
        """Return the versions that lack a replica, hardest first."""
        lacking = [
            item
            for name, item in self.items.items()
            if self.missing_replicas(item) > 0 and name not in self.unplaced
        ]
        return sorted(lacking, key=hardest_first)

    def missing_replicas(self, item: Item) -> int:
        """Return the number of replicas of a version that are still without a place."""
        return item.replicas - len(self.bound[item.adapter])

    def open_groups(self) -> Iterable[list[ServerDraft]]:
        """Return the managed servers that hold versions and are not closed, by base and name."""
        groups: dict[str, list[ServerDraft]] = defaultdict(list)
        for draft in by_name(self.drafts.values()):
            if draft.devices and not draft.closed and draft.residents:
                groups[draft.base.name].append(draft)
        return groups.values()

    def has_room_for(self, draft: ServerDraft, item: Item) -> bool:
        """Say whether a server has a slot for a version, and its host the memory."""
        spare = 0 if draft.fixed else self.fleet.policy.canary_slots
        return draft.has_slot_for(item, spare) and not self.hardware.host_shortage(
            draft, item, draft.slots
        )

    def device_ids(self, item: Item) -> set[DeviceId]:
        """Return the devices that hold a replica already."""
        device_ids: set[DeviceId] = set()
        for name in self.bound[item.adapter]:
            if name in self.drafts:
                device_ids |= self.drafts[name].device_ids
            elif name in self.places:
                _, host, device = self.places[name]
                device_ids.add((host.name, device.name))
        return device_ids

    def bind(self, item: Item, draft: ServerDraft, why: str) -> None:
        """Put a version on a server."""
        draft.add(item)
        self.bound[item.adapter].append(draft.name)
        if why:
            pinned = f"pinned to `{item.pin}`; " if item.pin else ""
            self.why[adapter_address(item.adapter, draft.name)] = pinned + why

    def release(self, item: Item, draft: ServerDraft) -> None:
        """Take a version off a server again."""
        draft.remove(item)
        self.bound[item.adapter].remove(draft.name)
        self.why.pop(adapter_address(item.adapter, draft.name), None)

    def open(
        self, base: str, host: HostSpec, devices: tuple[DeviceSpec, ...], parts: int = 1
    ) -> ServerDraft:
        """Open a new server on free devices, without slots yet."""
        name = server_name(base, host.name, devices[0].name)
        port = self.hardware.port(name, host, devices[0])
        draft = ServerDraft(name, self.fleet.bases[base], host.name, devices, port, parts=parts)
        self.drafts[name] = draft
        self.hardware.put(draft)
        return draft

    def close(self, draft: ServerDraft) -> None:
        """Take a server away again, with its memory."""
        if draft.devices:
            self.hardware.drop(draft)
        del self.drafts[draft.name]

    def may_wait(self, item: Item) -> bool:
        """Say whether a version without a place waits for a silent server or for a host.

        The route of a version that waits stays as it is, so that a server of the route which starts
        again has to load the version again. Where the host lacks the memory for that, no waiting
        helps.
        """
        return bool(self.live.away_hosts or self.silent_servers(item)) and not any(
            self.hardware.host_shortage(draft, item, draft.slots)
            for draft in self.drafts.values()
            if draft.changed and not draft.fixed and item.adapter in draft.held
        )

    def awaits(self, item: Item) -> bool:
        """Say whether a silent server may come back with room: until then nothing starts for it."""
        return not self.abandoned.issuperset(self.silent_servers(item))

    def silent_servers(self, item: Item) -> tuple[str, ...]:
        """Return the servers that could hold a version and do not answer, sorted."""
        if not self.live.unknown_servers:
            return ()
        hosts = self.fleet.hosts.values()
        attached = {server.name: server.base for host in hosts for server in host.attached}
        return tuple(
            name
            for name in sorted(self.live.unknown_servers)
            if name == item.pin or attached.get(name, base_of_server(name)) == item.base
        )


def hardest_first(item: Item) -> tuple[bool, int, int, str]:
    """Order items: pinned items first, then by rank and load, both falling, then by name."""
    return (item.pin is None, -item.rank, -item.peak, item.adapter)


def by_name(drafts: Iterable[ServerDraft]) -> list[ServerDraft]:
    """Return servers sorted by name."""
    return sorted(drafts, key=lambda draft: draft.name)


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
