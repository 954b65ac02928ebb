"""What packing starts from: the versions to place, and the servers that are already there."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace

from fleet.declared import AttachedServer, Base, Device, Fleet, Host
from fleet.pace import Paced
from fleet.placement.bins import Bin, Item, Memory
from fleet.placement.flags import known_flags, unlike
from fleet.resources import Server, ServerFlags, State


def items_of(fleet: Fleet, wanted: Paced, unplaced: dict[str, str]) -> Iterator[Item]:
    """Yield the versions to place; a version that cannot be loaded goes into `unplaced`."""
    for each in wanted.wanted.values():
        declared = fleet.adapters[each.alias]
        for adapter, _ in each.shares:
            facts = fleet.versions.get(adapter)
            loaded = wanted.loaded.get(adapter, ())
            prior = tuple(dict.fromkeys((*wanted.routed.get(adapter, ()), *loaded)))
            base = adapter.split("-", 3)[2]
            replicas = max(declared.replicas, 1)
            if facts is None or base not in fleet.bases:
                if not prior:
                    unplaced[adapter] = (
                        "it is not in fleet.lock: fleetctl adapter add"
                        if base in fleet.bases
                        else f"its base `{base}` is not declared"
                    )
                    continue
                replicas = min(replicas, len(prior))
            yield Item(adapter, base, facts.rank if facts else 0, replicas, declared.pin, prior)


def open_live(
    fleet: Fleet, wanted: Paced, live: State, places: Mapping[str, tuple[str, Host, Device]],
    memory: Memory,
) -> dict[str, Bin]:  # fmt: skip
    """Return the servers that exist and may go on, by name, with their devices' memory taken.

    Servers that do not answer take their device and are not returned.
    """
    attached = {each.name: (host, each) for host in fleet.hosts.values() for each in host.attached}
    held = _held(wanted)
    bins: dict[str, Bin] = {}
    for name, server in live.servers().items():
        if name in attached:
            bin_ = _attached(fleet, server, *attached[name])
        else:
            bin_ = _managed(fleet, server, memory)
        if bin_ is not None:
            bins[name] = bin_
            bin_.held = frozenset(held[name])
            if bin_.fixed:
                bin_.names |= held[name]
    for name in sorted(live.unknown_servers):
        if name in places:
            base, host, device = places[name]
            whole = replace(fleet.bases[base], kv_cache_bytes=None)
            memory.put(Bin(name, whole, host.name, device, device.port))
    for bin_ in bins.values():
        if bin_.changed and bin_.live and bin_.live.flags:
            _resize(bin_, bin_.live.flags, memory)
    return bins


def _held(wanted: Paced) -> dict[str, set[str]]:
    """Return what takes slots on each server for the length of the apply."""
    held: dict[str, set[str]] = defaultdict(set)
    for adapter, servers in wanted.loaded.items():
        for server in servers:
            if (adapter, server) not in wanted.freeable:
                held[server].add(adapter)
    return held


def _attached(fleet: Fleet, server: Server, host: Host, declared: AttachedServer) -> Bin | None:
    base = fleet.bases.get(declared.base)
    if base is None or server.base != declared.base:
        return None
    return Bin(
        server.name, base, host.name, None, server.port, declared.max_loras,
        declared.max_lora_rank, fixed=True, live=server,
    )  # fmt: skip


def _managed(fleet: Fleet, server: Server, memory: Memory) -> Bin | None:
    """Return a bin for a server of ours, or None where its device is no longer declared."""
    host = fleet.hosts.get(server.host)
    devices = {each.name: each for each in host.devices} if host else {}
    if not server.devices or any(each not in devices for each in server.devices):
        return None
    device = devices[server.devices[0]]
    base = fleet.bases.get(server.base)
    if base is None:
        bin_ = Bin(server.name, _undeclared(server), server.host, device, server.port, live=server)
        bin_.fixed = True
        memory.put(bin_)
        return bin_
    flags = known_flags(base, server)
    changed = unlike(base, flags)
    bin_ = Bin(server.name, base, server.host, device, server.port, live=server, changed=changed)
    memory.put(bin_)
    bin_.fixed = not changed
    if flags is not None:
        bin_.live = replace(server, flags=flags)
        if bin_.fixed:
            bin_.slots, bin_.rank = flags.max_loras, flags.max_lora_rank
    return bin_


def _resize(bin_: Bin, flags: ServerFlags, memory: Memory) -> None:
    """Start a server that restarts anyway with the slots it had, if they still fit."""
    slots = bin_.base.slots or flags.max_loras
    rank = bin_.base.max_lora_rank or flags.max_lora_rank
    if bin_.footprint(slots, rank) <= memory.free(bin_):
        bin_.slots, bin_.rank = slots, rank


def _undeclared(server: Server) -> Base:
    """Stand in for a base that is no longer declared and whose versions are still in use."""
    model = server.flags.model if server.flags else ""
    return Base(server.base, model, "auto", None, None, 0, None, None, (), None)
