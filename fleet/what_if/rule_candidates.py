"""Proposes to drop the rule that leaves no place, and orders candidates from small to large."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from fleet.placement import Limit, PlacementCause
from fleet.spec import AdapterSpec, FleetSpec
from fleet.what_if import latency_candidates
from fleet.what_if.candidates import (
    Candidate,
    Candidates,
    aliases_of,
    listed,
    path_of,
    with_adapters,
    with_host,
)
from fleet.what_if.room_candidates import (
    cards,
    memory,
    memory_of_hosts,
    rank,
    replicas,
    slots,
    throughput,
)


def pin(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield the fleet without the pins."""
    pinned = [adapter for adapter in aliases_of(fleet, cause) if adapter.pin is not None]
    yield from _without(pinned, "pin", pin=None)


def avoid(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield the removal of `avoid`."""
    yield from _without([e for e in aliases_of(fleet, cause) if e.avoid], "avoid", avoid=())


def apart(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield the removal of `apart`, from either side."""
    ours = aliases_of(fleet, cause)
    names = {loaded_adapter.alias for loaded_adapter in ours} | {
        loaded_adapter.name.client for loaded_adapter in ours
    }
    asking = [
        adapter
        for adapter in fleet.adapters.values()
        if adapter.apart and (adapter in ours or names.intersection(adapter.apart))
    ]
    yield from _without(asking, "apart", apart=())


def hosts(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield replicas that may share a host, and fewer of them."""
    spread = [adapter for adapter in aliases_of(fleet, cause) if adapter.spread == "host"]
    if spread:
        yield (
            Candidate(
                f"spread device for {listed(spread)}",
                "`spread: device`: two replicas may then share a host",
                (*path_of(spread[0]), "spread"),
                with_adapters(spread, spread="device"),
            ),
        )
    yield from replicas(fleet, cause)


def isolation(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield adapters that let others onto their servers: those left out, then all."""
    ours = aliases_of(fleet, cause)
    alone = [loaded_adapter for loaded_adapter in ours if loaded_adapter.isolation != "shared"]
    every = [
        adapter
        for adapter in fleet.adapters.values()
        if adapter.name.base == cause.base and adapter.isolation != "shared"
    ]
    yield tuple(
        Candidate(
            f"isolation shared for {listed(some)}",
            "`isolation: shared`: others may then be on the same server",
            (*path_of(some[0]), "isolation"),
            with_adapters(some, isolation="shared"),
        )
        for some in (alone, every)
        if some
    )


def reserved(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield reserved hosts, opened to the tiers of the unplaced versions."""
    ours = aliases_of(fleet, cause)
    for host in fleet.hosts.values():
        if host.reserved_for:
            groups = sorted({adapter.tier for adapter in ours})
            wider = replace(host, reserved_for=(*host.reserved_for, *groups))
            yield (
                Candidate(
                    f"host {host.name} open to {', '.join(groups)}",
                    f"add {', '.join(groups)} to `reserved_for` ({', '.join(host.reserved_for)})",
                    ("hosts", host.name, "reserved_for"),
                    with_host(wider),
                ),
            )


def closed(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield cordoned and draining devices and servers, made active."""
    del cause
    for host in fleet.hosts.values():
        for device in host.devices:
            if device.state != "active":
                changed = tuple(
                    replace(own_device, state="active") if own_device is device else own_device
                    for own_device in host.devices
                )
                yield (
                    Candidate(
                        f"{host.name}/{device.name} active again",
                        f"`state: active` (now {device.state})",
                        ("hosts", host.name, "devices", device.name, "state"),
                        with_host(replace(host, devices=changed)),
                    ),
                )
        for theirs in host.attached:
            if theirs.state != "active":
                servers = tuple(
                    replace(server, state="active") if server is theirs else server
                    for server in host.attached
                )
                yield (
                    Candidate(
                        f"server {theirs.name} active again",
                        f"`state: active` (now {theirs.state})",
                        ("hosts", host.name, "servers", theirs.name, "state"),
                        with_host(replace(host, attached=servers)),
                    ),
                )


def _without(asking: Sequence[AdapterSpec], field: str, **fields: object) -> Iterator[Candidates]:
    """Yield the removal of a rule from the adapters that declare the rule."""
    if asking:
        yield (
            Candidate(
                f"no {field} for {listed(asking)}",
                f"remove `{field}`",
                (*path_of(asking[0]), field),
                with_adapters(asking, **fields),
            ),
        )


MORE = (1, 2, 4)
"""Further devices of a kind."""


def candidates_of(fleet: FleetSpec, causes: Sequence[PlacementCause]) -> Iterator[Candidates]:
    """Yield the candidates that may help against these causes."""
    yield from _devices(fleet)
    seen: set[tuple[str, ...]] = set()
    for cause in causes:
        for rungs in _MAKERS[cause.limit](fleet, cause):
            once = {rung.text: rung for rung in rungs}
            if once and tuple(once) not in seen:
                seen.add(tuple(once))
                yield tuple(once.values())


def _devices(fleet: FleetSpec) -> Iterator[Candidates]:
    kinds = {device.kind for host in fleet.hosts.values() for device in host.devices}
    for kind in sorted(kinds):
        yield tuple(
            Candidate(
                f"{count} more {kind}",
                f"declare {count} more device{'s' if count > 1 else ''} of kind `{kind}`",
                ("hosts",),
                what_if=(f"gpu {kind} +{count}",),
                devices=count,
            )
            for count in MORE
        )


_MAKERS: Mapping[Limit, Callable[[FleetSpec, PlacementCause], Iterator[Candidates]]] = {
    Limit.PIN: pin,
    Limit.RESERVED: reserved,
    Limit.CORDONED: closed,
    Limit.DRAINING: closed,
    Limit.ISOLATION: isolation,
    Limit.APART: apart,
    Limit.AVOID: avoid,
    Limit.TENSOR_PARALLEL: cards,
    Limit.RANK: rank,
    Limit.LATENCY: latency_candidates.latency,
    Limit.THROUGHPUT: throughput,
    Limit.SLOTS: slots,
    Limit.HOST_MEMORY: memory_of_hosts,
    Limit.DEVICES: memory,
    Limit.HOSTS: hosts,
    Limit.REPLICAS: replicas,
    Limit.KV_CACHE: memory,
    Limit.MEMORY: memory,
}
