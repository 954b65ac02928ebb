"""Stock: the devices on which servers can still be opened, by kind and cut."""

from collections.abc import Iterator

from fleet.declared import Base, Device, Host
from fleet.placement.kinds import Kind, Label, Seat, cuts_of
from fleet.placement.search import Board


def kinds_for(board: Board, base: Base, rank: int, hosts: frozenset[str]) -> list[Kind]:
    """Return the kinds on which a server of a base holds at least one version of `rank`."""
    found: dict[Label, Kind] = {}
    for kind, seat in _seats(board, base, rank, hosts):
        found.setdefault(kind.label, kind).seats.append(seat)
    for each in found.values():
        each.seats.sort(key=lambda seat: not _divided(board, seat))
    return [found[label] for label in sorted(found)]


def _seats(
    board: Board, base: Base, rank: int, hosts: frozenset[str]
) -> Iterator[tuple[Kind, Seat]]:
    for name, host in sorted(board.fleet.hosts.items()):
        if name not in hosts:
            continue
        usable = [each for each in host.devices if each.state == "active"]
        for kind, devices in cuts_of(board.fleet, base, rank, usable):
            named = f"{base.name}-{name}-{devices[0].name}"
            free = all(_open(board, base, host, each, kind.parts) for each in devices)
            if free and not board.hardware.waits_for(named, host, devices):
                yield kind, (host, devices)


def _open(board: Board, base: Base, host: Host, device: Device, parts: int) -> bool:
    """Say whether one more server may stand on a device."""
    name = f"{base.name}-{host.name}-{device.name}"
    if name in board.bins or name in board.live.unknown_servers:
        return False
    there = board.hardware.on[host.name, device.name]
    if base.kv_cache_bytes is not None:
        return all(each.base.kv_cache_bytes is not None or each.parts > 1 for each in there)
    if parts == 1:
        return not there
    return len(there) < parts and all(each.parts == parts for each in there)


def _divided(board: Board, seat: Seat) -> bool:
    host, devices = seat
    return any(board.hardware.on[host.name, each.name] for each in devices)
