"""Proposes to drop the rule that leaves no place, and orders candidates from small to large."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from fleet.placement import Limit, PlacementCause
from fleet.spec import FleetSpec
from fleet.what_if import room_candidates as room
from fleet.what_if.candidates import (
    Candidate,
    Candidates,
    aliases_of,
    for_adapters,
    with_another,
    with_fields,
    with_member,
)

Maker = Callable[[FleetSpec, PlacementCause], Iterator[Candidates]]

MORE = (1, 2, 4)
"""Further devices of a kind."""


def candidates_of(fleet: FleetSpec, causes: Sequence[PlacementCause]) -> Iterator[Candidates]:
    """Yield the candidates that may help against these causes."""
    for kind in sorted({device.kind for host in fleet.hosts.values() for device in host.devices}):
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
    seen: set[tuple[str, ...]] = set()
    for cause in causes:
        for candidates in _MAKERS[cause.limit](fleet, cause):
            by_text = {candidate.text: candidate for candidate in candidates}
            if by_text and tuple(by_text) not in seen:
                seen.add(tuple(by_text))
                yield tuple(by_text.values())


def _pin(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    pinned = [adapter for adapter in aliases_of(fleet, cause) if adapter.pin]
    yield for_adapters(pinned, "no pin", "remove `pin`", "pin", None)


def _avoid(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    avoiding = [adapter for adapter in aliases_of(fleet, cause) if adapter.avoid]
    yield for_adapters(avoiding, "no avoid", "remove `avoid`", "avoid", ())


def _apart(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield the removal of `apart`, from either side."""
    unplaced = aliases_of(fleet, cause)
    names = {name for adapter in unplaced for name in (adapter.alias, adapter.name.client)}
    apart = [
        adapter
        for adapter in fleet.adapters.values()
        if adapter.apart and (adapter in unplaced or names.intersection(adapter.apart))
    ]
    yield for_adapters(apart, "no apart", "remove `apart`", "apart", ())


def _spread(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield replicas that may share a host, and fewer replicas."""
    spread = [adapter for adapter in aliases_of(fleet, cause) if adapter.spread == "host"]
    edit = "`spread: device`: two replicas may then share a host"
    yield for_adapters(spread, "spread device", edit, "spread", "device")
    yield from room.replicas(fleet, cause)


def _isolation(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield adapters that let others onto their servers: the unplaced adapters, then all."""
    edit = "`isolation: shared`: others may then be on the same server"
    yield tuple(
        candidate
        for adapters in with_another(fleet, cause, "isolation", "shared")
        for candidate in for_adapters(adapters, "isolation shared", edit, "isolation", "shared")
    )


def _reserved(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    tiers = sorted({adapter.tier for adapter in aliases_of(fleet, cause)})
    for host in fleet.hosts.values():
        if host.reserved_for:
            yield (
                Candidate(
                    f"host {host.name} open to {', '.join(tiers)}",
                    f"add {', '.join(tiers)} to `reserved_for` ({', '.join(host.reserved_for)})",
                    ("hosts", host.name, "reserved_for"),
                    with_fields("hosts", host, reserved_for=(*host.reserved_for, *tiers)),
                ),
            )


def _closed(fleet: FleetSpec, _: PlacementCause) -> Iterator[Candidates]:
    for host in fleet.hosts.values():
        for kind, key, prefix in (
            ("devices", "devices", f"{host.name}/"),
            ("attached", "servers", "server "),
        ):
            for member in getattr(host, kind):
                if member.state != "active":
                    yield (
                        Candidate(
                            f"{prefix}{member.name} active again",
                            f"`state: active` (now {member.state})",
                            ("hosts", host.name, key, member.name, "state"),
                            with_member(host, kind, member, state="active"),
                        ),
                    )


_MAKERS: Mapping[Limit, Maker] = {
    Limit.PIN: _pin,
    Limit.RESERVED: _reserved,
    Limit.CORDONED: _closed,
    Limit.DRAINING: _closed,
    Limit.ISOLATION: _isolation,
    Limit.APART: _apart,
    Limit.AVOID: _avoid,
    Limit.TENSOR_PARALLEL: room.cards,
    Limit.RANK: room.rank,
    Limit.LATENCY: room.latency,
    Limit.THROUGHPUT: room.throughput,
    Limit.SLOTS: room.slots,
    Limit.HOST_MEMORY: room.memory_of_hosts,
    Limit.DEVICES: room.memory,
    Limit.HOSTS: _spread,
    Limit.REPLICAS: room.replicas,
    Limit.KV_CACHE: room.memory,
    Limit.MEMORY: room.memory,
}
