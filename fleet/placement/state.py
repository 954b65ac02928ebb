"""State: what a search may do, and what it has done so far."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

from fleet.hardware import DeviceSpec, HostSpec
from fleet.names import Address, adapter_address, base_of_server, server_name
from fleet.packing import Effort
from fleet.placement.causes import Obstacle
from fleet.placement.devices import Devices
from fleet.placement.items import (
    NOWHERE,
    Item,
    ReplicaSteps,
    alias_conflict,
    conflicts,
    host_allows,
    items_of,
    pinned_to,
)
from fleet.placement.latency_slo import too_slow
from fleet.placement.live_servers import open_live
from fleet.placement.server_types import limits_of
from fleet.placement.servers import DeviceId, ServerDraft
from fleet.resources import State
from fleet.rollouts import RolloutTargets
from fleet.spec import AdapterSpec, FleetSpec, Spread
from fleet.vllm import rank_bucket


@dataclass(frozen=True, slots=True)
class SearchLimits:
    """Effort of a search, and how many optional moves it may make."""

    effort: Effort = "fast"
    max_moves: int = 0
    """Optional moves: of versions that could stay where they are."""
    repack: bool = False
    """Place everything as if nothing were running; each difference is then an optional move."""


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
    unplaced: dict[str, str]
    anti_affinity: Mapping[str, frozenset[str]]
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
            item
            for name, item in self.items.items()
            if len(self.bound[name]) < item.replicas and name not in self.unplaced
        ]
        return sorted(lacking, key=hardest_first)

    def allows(self, draft: ServerDraft, item: Item) -> bool:
        """Say whether rules let a version onto a server, whatever slots and memory it has."""
        if item.pin not in (None, draft.name, draft.host) or draft.name in item.avoid:
            return False
        if not item.may_be_on(self.fleet.hosts[draft.host]):
            return False
        if draft.isolation_group not in (None, item.isolation_group):
            return False
        if alias_conflict(self.anti_affinity, item, set(draft.residents)):
            return False
        if self.too_slow(item, draft) is not None and draft.name not in item.prior:
            return False
        return self.apart(item, draft.host, draft.device_ids)

    def too_slow(self, item: Item, draft: ServerDraft) -> Obstacle | None:
        """Return what keeps a version off a server that misses its promise even while idle."""
        declared = self.fleet.adapters.get(item.alias)
        if declared is None or not declared.promised or draft.device is None:
            return None
        rank = draft.base.max_lora_rank or rank_bucket(item.rank) or 0
        return too_slow(self.fleet, declared, draft.base, draft.device, len(draft.devices), rank)

    def apart(self, item: Item, host: str, device_ids: frozenset[DeviceId]) -> bool:
        """Say whether no replica of a version is on these devices, or this host if it matters."""
        taken = self.device_ids(item)
        if item.spread == "host" and any(device_id[0] == host for device_id in taken):
            return False
        return taken.isdisjoint(device_ids)

    def device_ids(self, item: Item) -> set[DeviceId]:
        """Return the devices that hold a replica already."""
        found: set[DeviceId] = set()
        for name in self.bound[item.adapter]:
            if name in self.drafts:
                found |= self.drafts[name].device_ids
            elif name in self.places:
                _, host, device = self.places[name]
                found.add((host.name, device.name))
        return found

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
        name = f"{base}-{host.name}-{devices[0].name}"
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

    def waits(self, item: Item) -> bool:
        """Say whether a server that could hold a version is silent and may be back soon."""
        return bool(silent_servers(self.fleet, self.live, item))


def placement_state_of(
    fleet: FleetSpec, targets: RolloutTargets, live: State, failed: Mapping[str, int] | None = None
) -> PlacementState:
    """Return the state with everything that is live, and nothing placed.

    Args:
        fleet: The declarations.
        targets: The versions that every alias should have.
        live: What runs.
        failed: By alias: numbers of replicas that were tried and found no place.
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
    def carried(base: str, bucket: int, hosts: tuple[str, ...], spread: Spread) -> ReplicaSteps:
        there = [fleet.hosts[host] for host in hosts]
        return limits_of(fleet, fleet.bases[base], bucket, hardware, there, apart=spread == "host")

    @cache
    def open_to(groups: frozenset[str], avoid: frozenset[str], pin: str | None) -> tuple[str, ...]:
        return tuple(
            name
            for name, host in sorted(fleet.hosts.items())
            if host_allows(host, groups, avoid) and pinned_to(pin, name)
        )

    def limits(declared: AdapterSpec, base: str, rank: int) -> ReplicaSteps:
        bucket = rank_bucket(rank)
        if base not in fleet.bases or bucket is None:
            return NOWHERE
        groups = frozenset((declared.name.client, declared.tier))
        hosts = open_to(groups, frozenset(declared.avoid), declared.pin)
        return carried(base, bucket, hosts, declared.spread)

    items = {
        item.adapter: item for item in items_of(fleet, targets, limits, unplaced, failed or {})
    }
    items = dict(sorted(items.items()))
    drafts = open_live(fleet, targets, live, places, hardware)
    return PlacementState(
        fleet, targets, live, items, hardware, drafts, places, unplaced, conflicts(items)
    )  # fmt: skip


def silent_servers(fleet: FleetSpec, live: State, item: Item) -> tuple[str, ...]:
    """Return the servers that could hold a version and do not answer, quoted and sorted."""
    if not live.unknown_servers:
        return ()
    attached = {
        attached.name: attached.base for host in fleet.hosts.values() for attached in host.attached
    }
    return tuple(
        f"`{name}`"
        for name in sorted(live.unknown_servers)
        if name == item.pin or attached.get(name, base_of_server(name)) == item.base
    )


def hardest_first(item: Item) -> tuple[bool, int, int, str]:
    """Order items: pinned ones, then by rank and load, both falling, then by name."""
    return (item.pin is None, -item.rank, -item.peak, item.adapter)


def by_name(drafts: Iterable[ServerDraft]) -> list[ServerDraft]:
    """Return servers sorted by name."""
    return sorted(drafts, key=lambda draft: draft.name)
