"""What may help where a declared rule leaves no place: the same without the rule."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fleet.declared import Adapter, Fleet
from fleet.placement.causes import Cause
from fleet.remedies.candidate import (
    Candidate,
    Rungs,
    aliases_of,
    listed,
    path_of,
    with_adapters,
    with_host,
)
from fleet.remedies.room import replicas


def pin(fleet: Fleet, cause: Cause) -> Iterator[Rungs]:
    """Yield the fleet without the pins."""
    pinned = [each for each in aliases_of(fleet, cause) if each.pin is not None]
    yield from _without(pinned, "pin", pin=None)


def avoid(fleet: Fleet, cause: Cause) -> Iterator[Rungs]:
    """Yield the fleet without what is avoided."""
    yield from _without([e for e in aliases_of(fleet, cause) if e.avoid], "avoid", avoid=())


def apart(fleet: Fleet, cause: Cause) -> Iterator[Rungs]:
    """Let those be together that are kept apart, whoever of them says so."""
    ours = aliases_of(fleet, cause)
    names = {each.alias for each in ours} | {each.name.client for each in ours}
    asking = [
        each
        for each in fleet.adapters.values()
        if each.apart and (each in ours or names.intersection(each.apart))
    ]
    yield from _without(asking, "apart", apart=())


def hosts(fleet: Fleet, cause: Cause) -> Iterator[Rungs]:
    """Yield replicas that may share a host, and fewer of them."""
    spread = [each for each in aliases_of(fleet, cause) if each.spread == "host"]
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


def isolation(fleet: Fleet, cause: Cause) -> Iterator[Rungs]:
    """Yield adapters that let others onto their servers: those left out, then all."""
    ours = aliases_of(fleet, cause)
    alone = [each for each in ours if each.isolation != "shared"]
    every = [
        each
        for each in fleet.adapters.values()
        if each.name.base == cause.base and each.isolation != "shared"
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


def reserved(fleet: Fleet, cause: Cause) -> Iterator[Rungs]:
    """Yield each reserved host, open to the tiers of what found no place."""
    ours = aliases_of(fleet, cause)
    for host in fleet.hosts.values():
        if host.reserved_for:
            groups = sorted({each.tier for each in ours})
            wider = replace(host, reserved_for=(*host.reserved_for, *groups))
            yield (
                Candidate(
                    f"host {host.name} open to {', '.join(groups)}",
                    f"add {', '.join(groups)} to `reserved_for` ({', '.join(host.reserved_for)})",
                    ("hosts", host.name, "reserved_for"),
                    with_host(wider),
                ),
            )


def closed(fleet: Fleet, cause: Cause) -> Iterator[Rungs]:
    """Yield each device or server that takes nothing new, taking it again."""
    del cause
    for host in fleet.hosts.values():
        for device in host.devices:
            if device.state != "active":
                changed = tuple(
                    replace(each, state="active") if each is device else each
                    for each in host.devices
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
                    replace(each, state="active") if each is theirs else each
                    for each in host.attached
                )
                yield (
                    Candidate(
                        f"server {theirs.name} active again",
                        f"`state: active` (now {theirs.state})",
                        ("hosts", host.name, "servers", theirs.name, "state"),
                        with_host(replace(host, attached=servers)),
                    ),
                )


def _without(asking: Sequence[Adapter], field: str, **fields: object) -> Iterator[Rungs]:
    """Yield the removal of one rule from the adapters that ask for it."""
    if asking:
        yield (
            Candidate(
                f"no {field} for {listed(asking)}",
                f"remove `{field}`",
                (*path_of(asking[0]), field),
                with_adapters(asking, **fields),
            ),
        )
