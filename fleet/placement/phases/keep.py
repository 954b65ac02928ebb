"""Keep: the servers that run now become drafts, and versions stay on them as far as valid.

`placement_state_of` makes the state from which a search starts; `keep` binds the versions.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import cache

from fleet.capacity import LatencyTarget, least_bytes, shape_of
from fleet.hardware import AttachedServerSpec, BaseSpec, DeviceSpec, HostSpec
from fleet.names import server_name
from fleet.placement.model.causes import Limit
from fleet.placement.model.devices import Devices
from fleet.placement.model.items import NOWHERE, Item, ReplicaSteps, items_of
from fleet.placement.model.rules import CLOSED, allows, anti_affinity_of, is_open_to, server_rules
from fleet.placement.model.server_types import limits_of, promises_in_reach
from fleet.placement.model.servers import ServerDraft, SlotShape
from fleet.placement.model.state import PlacementState, SearchLimits
from fleet.placement.phases.upgrades import without_hidden
from fleet.resources import Server, ServerFlags, State
from fleet.rollouts import RolloutTargets
from fleet.spec import AdapterSpec, FleetSpec, Spread
from fleet.vllm import flag_drift, host_bytes, known_flags, rank_bucket, servers_per_device_of

DRAINING = "is draining"
REMOVED = "is no longer declared"
USUAL = SearchLimits()

Place = tuple[str, HostSpec, DeviceSpec]
"""Base, host and device of a possible server."""


class _ReplicaPlaces:
    """The places that replicas of adapters could have on the hosts that rules allow."""

    def __init__(self, fleet: FleetSpec, hardware: Devices) -> None:
        self.fleet = fleet
        self.hardware = hardware
        self.hosts_of = cache(self._hosts_of)
        self.limits_of = cache(self._limits_of)

    def steps(self, declared: AdapterSpec, base: str, rank: int) -> ReplicaSteps:
        """Return the places of an adapter on a base; `NOWHERE` where there are none."""
        bucket = rank_bucket(rank)
        if base not in self.fleet.bases or bucket is None:
            return NOWHERE
        groups = frozenset((declared.name.client, declared.tier))
        hosts = self.hosts_of(declared.pin, frozenset(declared.avoid), groups)
        due = self.promise(declared, base)
        return self.limits_of(base, bucket, hosts, declared.spread, due)

    def promise(self, declared: AdapterSpec, base: str) -> LatencyTarget | None:
        """Return the promise of an adapter on a base."""
        return self.hardware.promise(declared, base)

    def _hosts_of(
        self, pin: str | None, avoid: frozenset[str], groups: frozenset[str]
    ) -> tuple[str, ...]:
        hosts = sorted(self.fleet.hosts.items())
        return tuple(name for name, host in hosts if is_open_to(host, pin, avoid, groups))

    def _limits_of(
        self,
        base: str,
        rank: int,
        hosts: tuple[str, ...],
        spread: Spread,
        due: LatencyTarget | None,
    ) -> ReplicaSteps:
        fleet = self.fleet
        allowed_hosts = [fleet.hosts[host] for host in hosts]
        return limits_of(
            fleet, fleet.bases[base], rank, self.hardware, allowed_hosts, due,
            one_per_host=spread == "host",
        )  # fmt: skip


def placement_state_of(
    fleet: FleetSpec,
    targets: RolloutTargets,
    live: State,
    failed: Mapping[str, int] | None = None,
    search: SearchLimits = USUAL,
    staying: Collection[str] = (),
) -> PlacementState:
    """Return the state with everything that is live, and nothing placed.

    `failed` counts, by alias, the numbers of replicas that were tried and found no place. Of a
    search that packs afresh, the numbers of replicas do not hold on to the present ones. Versions
    in `staying` leave no server of theirs.
    """
    all_servers = live.servers()
    targets, live = without_hidden(targets, live)
    hardware = Devices(fleet)
    mixes = hardware.request_mixes if search.promises else {}
    hardware.in_reach = promises_in_reach(fleet, mixes)
    places = {
        server_name(base, host.name, device.name): (base, host, device)
        for base in sorted(fleet.bases)
        for host in fleet.hosts.values()
        for device in host.devices
    }
    unplaced: dict[str, str] = {}
    versions = items_of(
        fleet, targets, _ReplicaPlaces(fleet, hardware), unplaced, failed or {},
        afresh=search.repack, staying=staying,
    )  # fmt: skip
    items = {item.adapter: item for item in sorted(versions, key=lambda item: item.adapter)}
    drafts = _open_live(fleet, targets, live, hardware)
    _reserve_devices(fleet, live, all_servers, places, hardware)
    attached = {server.name for host in fleet.hosts.values() for server in host.attached}
    abandoned = frozenset(
        name
        for name in live.unknown_servers.keys() - attached
        if name not in places or places[name][2].state == "draining"
    )
    _keep_former_slots(drafts.values(), hardware)
    return PlacementState(
        fleet, targets, live, items, hardware, drafts, places, unplaced, anti_affinity_of(items),
        abandoned,
    )  # fmt: skip


def _keep_former_slots(drafts: Iterable[ServerDraft], hardware: Devices) -> None:
    """Give servers that restart anyway their former slots, if these still fit."""
    for draft in drafts:
        if draft.changed and draft.live and (flags := draft.live.flags):
            slots = draft.base.slots or flags.max_loras
            rank = draft.base.max_lora_rank or flags.max_lora_rank
            if least_bytes(hardware.shape(draft, slots, rank)) <= hardware.free(draft):
                draft.slots, draft.rank = slots, rank


def _reserve_devices(
    fleet: FleetSpec,
    live: State,
    all_servers: Mapping[str, Server],
    places: Mapping[str, Place],
    hardware: Devices,
) -> None:
    """Keep the devices of servers that do not answer, or that the search does not see.

    `live` lacks the latter, which are in `all_servers`.
    """
    hidden_servers = all_servers.keys() - live.servers().keys()
    for name in sorted({*live.unknown_servers, *hidden_servers}):
        if name not in places:
            continue
        base, host, device = places[name]
        if name in hidden_servers:
            devices = tuple(_devices(fleet, all_servers[name]).values())
            port = all_servers[name].port
        else:
            devices = (device,)
            port = live.ports.get(name, device.port)
        whole_device_base = replace(fleet.bases[base], kv_cache_bytes=None)
        hardware.put(ServerDraft(name, whole_device_base, host.name, devices, port))


def _open_live(
    fleet: FleetSpec, targets: RolloutTargets, live: State, hardware: Devices
) -> dict[str, ServerDraft]:
    """Return the servers that exist and may go on, by name, with their devices' memory taken."""
    attached = {
        server.name: (host, server) for host in fleet.hosts.values() for server in host.attached
    }
    cached_versions = {
        adapter
        for target in targets.wanted.values()
        if fleet.adapters[target.alias].residency == "cached"
        for adapter, _ in target.shares
    }
    held_versions = _held_versions(targets)
    waiting_servers = {name for upgrade in targets.upgrades for name in upgrade.held}
    drafts: dict[str, ServerDraft] = {}
    for name, server in live.servers().items():
        if name in attached:
            draft = _attached(fleet, server, *attached[name])
        else:
            draft = _managed(fleet, server, hardware, keeps=name in waiting_servers)
            # A server that stops, whose versions are in use until its successor serves them.
            if draft is None and held_versions[name]:
                _note_stopping(fleet, server, hardware)
        if draft is not None:
            drafts[name] = draft
            draft.held = frozenset(held_versions[name])
            if draft.fixed:
                draft.names |= held_versions[name]
                draft.cached |= held_versions[name] & cached_versions
    used_servers = {*drafts, *(name for name, versions in held_versions.items() if versions)}
    hardware.listed_now = _listed_bytes(fleet, targets, live, used_servers)
    return drafts


def _held_versions(targets: RolloutTargets) -> dict[str, set[str]]:
    """Return the versions that a server lists for the length of the apply, by server."""
    versions_by_server: dict[str, set[str]] = defaultdict(set)
    for adapter, servers in targets.loaded.items():
        for server in servers:
            if (adapter, server) not in targets.freeable:
                versions_by_server[server].add(adapter)
    return versions_by_server


def _listed_bytes(
    fleet: FleetSpec, targets: RolloutTargets, live: State, used_servers: Collection[str]
) -> dict[str, dict[str, int]]:
    """Return the bytes that servers may list now, by host that declares its memory.

    Servers that are not in `used_servers` are left out: they stop before anything is loaded.
    """
    bytes_by_host: dict[str, dict[str, int]] = {
        name: {} for name, host in sorted(fleet.hosts.items()) if host.memory_bytes is not None
    }
    if not bytes_by_host:
        return bytes_by_host
    largest_bytes: dict[str, int] = defaultdict(int)
    for adapter, servers in targets.loaded.items():
        if facts := fleet.versions.get(adapter):
            for name in servers:
                largest_bytes[name] = max(largest_bytes[name], facts.bytes)
    for name, server in live.servers().items():
        base = fleet.bases.get(server.base)
        flags = known_flags(base, server, _image(fleet, server)) if base else server.flags
        # Attached servers have no devices, and their lists are not counted.
        if name not in used_servers or not server.devices or flags is None:
            continue
        if server.host in bytes_by_host:
            bytes_by_host[server.host][name] = host_bytes(
                flags.max_cpu_loras, largest_bytes[name], flags.tensor_parallel
            )
    return bytes_by_host


def _attached(
    fleet: FleetSpec, server: Server, host: HostSpec, declared: AttachedServerSpec
) -> ServerDraft | None:
    base = fleet.bases.get(declared.base)
    if base is None or server.base != declared.base:
        return None
    return ServerDraft(
        server.name, base, host.name, (), server.port, declared.max_loras,
        declared.max_lora_rank, fixed=True, live=server, closed=declared.state in CLOSED,
        leaving=DRAINING if declared.state == "draining" else "",
    )  # fmt: skip


def _managed(
    fleet: FleetSpec, server: Server, hardware: Devices, *, keeps: bool
) -> ServerDraft | None:
    """Return a draft of a managed server; None where its device is no longer declared.

    `keeps`: the server keeps its settings for now, whatever is declared.
    """
    declared = _devices(fleet, server)
    if not server.devices or any(name not in declared for name in server.devices):
        return None
    devices = tuple(declared[name] for name in server.devices)
    base = fleet.bases.get(server.base)
    if base is None:
        draft = ServerDraft(
            server.name, _undeclared(server), server.host, devices, server.port, fixed=True,
            parts=servers_per_device_of(server.flags) if server.flags else 1, live=server,
        )  # fmt: skip
        hardware.put(draft)
        return draft
    if base.tensor_parallel not in (None, len(devices)):
        return None  # a server on other devices takes its place
    host = fleet.hosts[server.host]
    flags = known_flags(base, server, host.image)
    changed = flag_drift(base, flags, server.digest, image=host.image)
    if server.supervisor != host.supervisor:
        changed = changed or "declared otherwise: supervisor"
    changed = "" if keeps else changed
    states = {device.state for device in devices}
    leaving = DRAINING if "draining" in states else ""
    draft = ServerDraft(
        server.name, base, server.host, devices, server.port, fixed=not changed, changed=changed,
        closed=not states.isdisjoint(CLOSED),
        leaving=REMOVED if server.host in fleet.removed else leaving,
        live=replace(server, flags=flags) if flags else server,
    )  # fmt: skip
    if flags is not None:
        draft.parts = servers_per_device_of(flags)
        if not _suits(base, devices, flags):
            draft.closed, draft.leaving = True, draft.leaving or "is not what it was started for"
        if draft.fixed:
            draft.slots, draft.rank = flags.max_loras, flags.max_lora_rank
            draft.most_listed = flags.max_cpu_loras
    hardware.put(draft)
    return draft


def _image(fleet: FleetSpec, server: Server) -> str:
    host = fleet.hosts.get(server.host)
    return host.image if host else ""


def _devices(fleet: FleetSpec, server: Server) -> dict[str, DeviceSpec]:
    """Return the devices of a server that are declared, by name, in the order of the host."""
    host = fleet.hosts.get(server.host)
    devices = host.devices if host else ()
    return {device.name: device for device in devices if device.name in server.devices}


def _suits(base: BaseSpec, devices: tuple[DeviceSpec, ...], flags: ServerFlags) -> bool:
    """Say whether a running server would start again on its devices as they are declared."""
    if len({(device.kind, device.memory_bytes) for device in devices}) > 1:
        return False
    shape = shape_of(base, devices[0], flags)
    return least_bytes(shape) <= int(devices[0].memory_bytes * shape.memory_share)


def _note_stopping(fleet: FleetSpec, server: Server, hardware: Devices) -> None:
    """Note a server that another server replaces, on those of its devices that are declared."""
    devices = tuple(_devices(fleet, server).values())
    draft = ServerDraft(
        server.name, _undeclared(server), server.host, devices, server.port, live=server
    )
    for device in devices:
        hardware.stopping[server.host, device.name] = draft


def _undeclared(server: Server) -> BaseSpec:
    """Stand in for a base that is no longer declared and whose versions are still in use."""
    model = server.flags.model if server.flags else ""
    return BaseSpec(server.base, model, "auto", None, None, 0, None, None, (), None)


def keep(state: PlacementState) -> None:
    """Bind every version to its present servers, as far as rules, slots and rank still allow.

    Load does not count here: a server that carries too much is relieved afterwards, see `overload`.
    Servers that do not answer come last.
    """
    spare = state.fleet.policy.canary_slots
    for item in state.items.values():
        for name in item.prior:
            if len(state.bound[item.adapter]) >= item.replicas:
                break
            if name in state.live.unknown_servers:
                continue
            draft = state.drafts.get(name) or _reopen(state, name, item)
            if draft is None or draft.base.name != item.base:
                continue
            if draft.leaving:
                where = f"{draft.host}/{draft.devices[0].name}" if draft.devices else name
                state.forced.setdefault(item.adapter, f"`{where}` {draft.leaving}")
                continue
            if not allows(state, draft, item):
                continue
            shape: SlotShape | None = (draft.slots, draft.rank)
            if item.rank > draft.rank or not draft.has_slot_for(item):
                shape = None if draft.fixed else state.hardware.shape_with(draft, item, spare)
            if shape is not None and not state.hardware.host_shortage(draft, item, shape[0]):
                draft.slots, draft.rank = shape
                state.bind(item, draft, "")
        count_silent(state, item)


def count_silent(state: PlacementState, item: Item) -> None:
    """Count replicas on servers that do not answer, where too few others hold a version.

    A version that is on a server that answers needs a place on such a server.
    """
    bound = state.bound[item.adapter]
    silent = state.live.unknown_servers
    needed = max(len(bound), not silent.keys() >= {*item.prior})
    usable = [
        name
        for name in item.prior
        if name in silent and name not in state.abandoned
        if name not in state.places or not any(server_rules(item, state.places[name][1], name))
    ]
    bound += usable[: max(item.replicas - needed, 0)]


def _reopen(state: PlacementState, name: str, item: Item) -> ServerDraft | None:
    """Open a server that is gone again, where its device is still free for a server."""
    if name not in state.places:
        return None
    base, host, device = state.places[name]
    if base != item.base or device.state in CLOSED or state.fleet.bases[base].tensor_parallel:
        return None
    waits = state.hardware.waits_for(name, host, (device,))
    if waits or Limit.PIN in server_rules(item, host, name):
        return None
    draft = state.open(base, host, (device,))
    shapes = (
        state.hardware.shape_with(draft, item, spare)
        for spare in (state.fleet.policy.canary_slots, 0)
    )
    shape = next(filter(None, shapes), None)
    if shape is None:
        state.close(draft)
        return None
    draft.slots, draft.rank = shape
    state.opened[name] = "it is gone, and its adapters belong on it"
    return draft


def close_empty(state: PlacementState) -> None:
    """Give back the devices of empty servers whose base needs no room."""
    needed = {item.base for item in state.missing()}
    for name, draft in list(state.drafts.items()):
        idle = not draft.held and not draft.names
        unneeded = draft.base.name not in needed or draft.closed
        if draft.live and draft.devices and idle and unneeded:
            state.hardware.drop(draft)
            state.hardware.listed_now.get(draft.host, {}).pop(name, None)
            del state.drafts[name]
