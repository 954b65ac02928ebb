"""Free devices: where servers can still be opened, by type of server."""

from collections.abc import Iterator

from fleet.hardware import BaseSpec, DeviceSpec, HostSpec
from fleet.placement.items import Item, pinned_to
from fleet.placement.server_types import HostDevices, ServerType, ServerTypeKey, cuts_of
from fleet.placement.servers import ServerDraft
from fleet.placement.state import PlacementState


def kinds_for(
    board: PlacementState, base: BaseSpec, rank: int, hosts: frozenset[str]
) -> list[ServerType]:
    """Return the kinds on which a server of a base holds at least one version of `rank`."""
    found: dict[ServerTypeKey, ServerType] = {}
    for kind, seat in _seats(board, base, rank, hosts):
        found.setdefault(kind.label, kind).seats.append(seat)
    for free in found.values():
        free.seats.sort(key=lambda seat: not _divided(board, seat))
    return [found[label] for label in sorted(found)]


def _seats(
    board: PlacementState, base: BaseSpec, rank: int, hosts: frozenset[str]
) -> Iterator[tuple[ServerType, HostDevices]]:
    for name, host in sorted(board.fleet.hosts.items()):
        if name not in hosts:
            continue
        usable = [device for device in host.devices if device.state == "active"]
        for kind, devices in cuts_of(board.fleet, base, rank, usable):
            named = f"{base.name}-{name}-{devices[0].name}"
            free = all(_open(board, base, host, device, kind.parts) for device in devices)
            if free and not board.hardware.waits_for(named, host, devices):
                yield kind, (host, devices)


def _open(
    board: PlacementState, base: BaseSpec, host: HostSpec, device: DeviceSpec, parts: int
) -> bool:
    """Say whether one more server may stand on a device."""
    name = f"{base.name}-{host.name}-{device.name}"
    if name in board.bins or name in board.live.unknown_servers:
        return False
    there = board.hardware.on[host.name, device.name]
    if base.kv_cache_bytes is not None:
        return all(draft.base.kv_cache_bytes is not None or draft.parts > 1 for draft in there)
    if parts == 1:
        return not there
    return len(there) < parts and all(draft.parts == parts for draft in there)


def _divided(board: PlacementState, seat: HostDevices) -> bool:
    host, devices = seat
    return any(board.hardware.on[host.name, device.name] for device in devices)


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
            item, ServerDraft("", base, host.name, (device,) * (base.tensor_parallel or 1), 0)
        )
        is None
        for device in host.devices
    )
