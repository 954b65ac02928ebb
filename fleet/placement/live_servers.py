"""Live servers: the servers that run now, as drafts to start from."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace

from fleet.capacity import least_bytes, shape_of
from fleet.hardware import AttachedServerSpec, BaseSpec, DeviceSpec, HostSpec
from fleet.placement.devices import Devices
from fleet.placement.servers import ServerDraft
from fleet.resources import Server, ServerFlags, State
from fleet.rollouts import RolloutTargets
from fleet.spec import FleetSpec
from fleet.vllm import flag_drift, host_bytes, known_flags, servers_per_device_of

Places = Mapping[str, tuple[str, HostSpec, DeviceSpec]]
"""By name that a server would get: its base, host and first device."""


def open_live(
    fleet: FleetSpec, targets: RolloutTargets, live: State, places: Places, hardware: Devices
) -> dict[str, ServerDraft]:
    """Return the servers that exist and may go on, by name, with their devices' memory taken.

    Servers that do not answer take their device and are not returned.
    """
    attached = {
        server.name: (host, server) for host in fleet.hosts.values() for server in host.attached
    }
    cached = _cached(fleet, targets)
    held = _held(targets)
    drafts: dict[str, ServerDraft] = {}
    for name, server in live.servers().items():
        if name in attached:
            draft = _attached(fleet, server, *attached[name])
        else:
            draft = _managed(fleet, server, hardware)
            if draft is None and held[name]:
                _goes(fleet, server, hardware)
        if draft is not None:
            drafts[name] = draft
            draft.held = frozenset(held[name])
            if draft.fixed:
                draft.names |= held[name]
                draft.cached |= held[name] & cached
    for name in sorted(live.unknown_servers):
        if name in places:
            base, host, device = places[name]
            whole = replace(fleet.bases[base], kv_cache_bytes=None)
            hardware.put(ServerDraft(name, whole, host.name, (device,), device.port))
    for draft in drafts.values():
        if draft.changed and draft.live and draft.live.flags:
            _resize(draft, draft.live.flags, hardware)
    used = {*drafts, *(name for name, its in held.items() if its)}
    hardware.listed_now = _listed(fleet, targets, live, used)
    return drafts


def _listed(
    fleet: FleetSpec, targets: RolloutTargets, live: State, used: Collection[str]
) -> dict[str, dict[str, int]]:
    """Return what servers may list now, in bytes, by host that declares its memory.

    Those that are of no use any more are left out: they stop before anything is loaded.
    """
    limited = {name for name, host in fleet.hosts.items() if host.memory_bytes is not None}
    found: dict[str, dict[str, int]] = {name: {} for name in sorted(limited)}
    largest: dict[str, int] = defaultdict(int)
    for adapter, servers in targets.loaded.items() if limited else ():
        facts = fleet.versions.get(adapter)
        for server_name in servers if facts else ():
            largest[server_name] = max(largest[server_name], facts.bytes if facts else 0)
    for name, server in live.servers().items() if limited else ():
        base = fleet.bases.get(server.base)
        flags = known_flags(base, server) if base else server.flags
        if name in used and server.host in limited and server.devices and flags is not None:
            its = host_bytes(flags.max_cpu_loras, largest[name], flags.tensor_parallel)
            found[server.host][name] = its
    return found


def _held(targets: RolloutTargets) -> dict[str, set[str]]:
    """Return the versions that a server lists for the length of the apply, by server."""
    held: dict[str, set[str]] = defaultdict(set)
    for adapter, servers in targets.loaded.items():
        for server in servers:
            if (adapter, server) not in targets.freeable:
                held[server].add(adapter)
    return held


def _cached(fleet: FleetSpec, targets: RolloutTargets) -> frozenset[str]:
    """Return the versions that take no LoRA slot of their own."""
    return frozenset(
        adapter
        for target in targets.wanted.values()
        if fleet.adapters[target.alias].residency == "cached"
        for adapter, _ in target.shares
    )


def _attached(
    fleet: FleetSpec, server: Server, host: HostSpec, declared: AttachedServerSpec
) -> ServerDraft | None:
    base = fleet.bases.get(declared.base)
    if base is None or server.base != declared.base:
        return None
    return ServerDraft(
        server.name, base, host.name, (), server.port, declared.max_loras,
        declared.max_lora_rank, fixed=True, live=server,
        closed=declared.state != "active",
        leaving="is draining" if declared.state == "draining" else "",
    )  # fmt: skip


def _managed(fleet: FleetSpec, server: Server, hardware: Devices) -> ServerDraft | None:
    """Return a draft of a managed server; None where its device is no longer declared."""
    host = fleet.hosts.get(server.host)
    devices = {device.name: device for device in host.devices} if host else {}
    if not server.devices or any(device not in devices for device in server.devices):
        return None
    declared_devices = tuple(devices[device] for device in server.devices)
    base = fleet.bases.get(server.base)
    if base is None:
        draft = ServerDraft(
            server.name,
            _undeclared(server),
            server.host,
            declared_devices,
            server.port,
            live=server,
        )
        draft.fixed = True
        if server.flags is not None:
            draft.parts = servers_per_device_of(server.flags)
        hardware.put(draft)
        return draft
    if base.tensor_parallel not in (None, len(declared_devices)):
        return None  # a server on other devices takes its place
    flags = known_flags(base, server)
    changed = flag_drift(base, flags, server.digest)
    draft = ServerDraft(
        server.name, base, server.host, declared_devices, server.port, live=server, changed=changed
    )
    states = {device.state for device in declared_devices}
    draft.closed, draft.leaving = (
        states != {"active"},
        "is draining" if "draining" in states else "",
    )
    if flags is not None:
        draft.parts = servers_per_device_of(flags)
        if not _suits(base, declared_devices, flags):
            draft.closed, draft.leaving = True, draft.leaving or "is not what it was started for"
    hardware.put(draft)
    draft.fixed = not changed
    if flags is not None:
        draft.live = replace(server, flags=flags)
        if draft.fixed:
            draft.slots, draft.rank = flags.max_loras, flags.max_lora_rank
            draft.most_listed = flags.max_cpu_loras
    return draft


def _suits(base: BaseSpec, declared_devices: tuple[DeviceSpec, ...], flags: ServerFlags) -> bool:
    """Say whether a running server would start again on its devices as they are declared."""
    if len({(device.kind, device.memory_bytes) for device in declared_devices}) > 1:
        return False
    shape = shape_of(base, declared_devices[0], flags)
    return least_bytes(shape) <= int(declared_devices[0].memory_bytes * shape.memory_share)


def _goes(fleet: FleetSpec, server: Server, hardware: Devices) -> None:
    """Note a server that another one replaces, on those of its devices that are declared."""
    host = fleet.hosts.get(server.host)
    declared_devices = (
        tuple(device for device in host.devices if device.name in server.devices) if host else ()
    )
    for device in declared_devices:
        draft = ServerDraft(
            server.name,
            _undeclared(server),
            server.host,
            declared_devices,
            server.port,
            live=server,
        )
        hardware.stopping[server.host, device.name] = draft


def _resize(draft: ServerDraft, flags: ServerFlags, hardware: Devices) -> None:
    """Start a server that restarts anyway with the slots it had, if they still fit."""
    slots = draft.base.slots or flags.max_loras
    rank = draft.base.max_lora_rank or flags.max_lora_rank
    if least_bytes(hardware.shape(draft, slots, rank)) <= hardware.free(draft):
        draft.slots, draft.rank = slots, rank


def _undeclared(server: Server) -> BaseSpec:
    """Stand in for a base that is no longer declared and whose versions are still in use."""
    model = server.flags.model if server.flags else ""
    return BaseSpec(server.base, model, "auto", None, None, 0, None, None, (), None)
