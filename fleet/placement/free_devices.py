"""Free devices: where servers can still be opened, by type of server."""

from collections.abc import Iterator

from fleet.hardware import BaseSpec, DeviceSpec, HostSpec
from fleet.placement.items import Item, pinned_to
from fleet.placement.server_types import HostDevices, ServerType, ServerTypeKey, server_types_on
from fleet.placement.servers import ServerDraft
from fleet.placement.state import PlacementState


def server_types_for(
    state: PlacementState, base: BaseSpec, rank: int, hosts: frozenset[str]
) -> list[ServerType]:
    """Return the types of server of a base that hold at least one version of `rank`."""
    found: dict[ServerTypeKey, ServerType] = {}
    for server_type, place in _places(state, base, rank, hosts):
        found.setdefault(server_type.label, server_type).places.append(place)
    for free in found.values():
        free.places.sort(key=lambda place: not _divided(state, place))
    return [found[label] for label in sorted(found)]


def _places(
    state: PlacementState, base: BaseSpec, rank: int, hosts: frozenset[str]
) -> Iterator[tuple[ServerType, HostDevices]]:
    for name, host in sorted(state.fleet.hosts.items()):
        if name not in hosts:
            continue
        usable = [device for device in host.devices if device.state == "active"]
        for server_type, devices in server_types_on(state.fleet, base, rank, usable):
            named = f"{base.name}-{name}-{devices[0].name}"
            free = all(_open(state, base, host, device, server_type.parts) for device in devices)
            if free and not state.hardware.waits_for(named, host, devices):
                yield server_type, (host, devices)


def _open(
    state: PlacementState, base: BaseSpec, host: HostSpec, device: DeviceSpec, parts: int
) -> bool:
    """Say whether another server may be opened on a device."""
    name = f"{base.name}-{host.name}-{device.name}"
    if name in state.drafts or name in state.live.unknown_servers:
        return False
    there = state.hardware.on_device[host.name, device.name]
    if base.kv_cache_bytes is not None:
        return all(draft.base.kv_cache_bytes is not None or draft.parts > 1 for draft in there)
    if parts == 1:
        return not there
    return len(there) < parts and all(draft.parts == parts for draft in there)


def _divided(state: PlacementState, place: HostDevices) -> bool:
    host, devices = place
    return any(state.hardware.on_device[host.name, device.name] for device in devices)


def hosts_for(state: PlacementState, item: Item) -> Iterator[str]:
    """Yield the hosts with devices on which rules let one more replica of a version."""
    taken = (
        {device_id[0] for device_id in state.device_ids(item)} if item.spread == "host" else set()
    )
    for name, host in sorted(state.fleet.hosts.items()):
        admitted = item.may_be_on(host) and pinned_to(item.pin, name)
        if host.devices and admitted and name not in taken and _quick(state, item, host):
            yield name


def _quick(state: PlacementState, item: Item, host: HostSpec) -> bool:
    """Say whether a new server on some device of a host would keep the promised latency."""
    base = state.fleet.bases[item.base]
    return any(
        state.too_slow(
            item, ServerDraft("", base, host.name, (device,) * (base.tensor_parallel or 1), 0)
        )
        is None
        for device in host.devices
    )
