"""The ladder: changes of a fleet that may make it fit, from small to large."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from fleet.declared import Fleet
from fleet.placement.causes import Cause, Limit
from fleet.remedies import hosts, latency, room, rules
from fleet.remedies.candidate import Candidate, Rungs

MORE = (1, 2, 4)
"""Further devices of a kind."""


def ladder(fleet: Fleet, causes: Sequence[Cause]) -> Iterator[Rungs]:
    """Yield what may help against these causes."""
    yield from _devices(fleet)
    seen: set[tuple[str, ...]] = set()
    for cause in causes:
        for rungs in _MAKERS[cause.limit](fleet, cause):
            once = {each.text: each for each in rungs}
            if once and tuple(once) not in seen:
                seen.add(tuple(once))
                yield tuple(once.values())


def _devices(fleet: Fleet) -> Iterator[Rungs]:
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


_MAKERS: Mapping[Limit, Callable[[Fleet, Cause], Iterator[Rungs]]] = {
    Limit.PIN: rules.pin,
    Limit.RESERVED: rules.reserved,
    Limit.CORDONED: rules.closed,
    Limit.DRAINING: rules.closed,
    Limit.ISOLATION: rules.isolation,
    Limit.APART: rules.apart,
    Limit.AVOID: rules.avoid,
    Limit.TENSOR_PARALLEL: room.cards,
    Limit.RANK: room.rank,
    Limit.LATENCY: latency.latency,
    Limit.THROUGHPUT: room.throughput,
    Limit.SLOTS: room.slots,
    Limit.HOST_MEMORY: hosts.memory,
    Limit.DEVICES: room.memory,
    Limit.HOSTS: rules.hosts,
    Limit.REPLICAS: room.replicas,
    Limit.KV_CACHE: room.memory,
    Limit.MEMORY: room.memory,
}
