"""Listing: the main memory of a host that the adapters take which its servers list.

vLLM keeps every listed adapter there, as many as `max_cpu_loras` says, once for each device of
the server. A host that declares its memory takes no more of them; others are not limited.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fleet.budget import host_bytes
from fleet.declared import Fleet
from fleet.placement.causes import Limit, Obstacle, size

if TYPE_CHECKING:
    from fleet.placement.bins import Bin, Hardware
    from fleet.placement.items import Item

LISTED = (16, 32, 64, 128, 256, 512, 1024, 2048)
"""Values that the planner chooses for `--max-cpu-loras` where that is more than twice the slots."""


def listed_rung(slots: int, listed: int) -> int:
    """Return `--max-cpu-loras`: twice the slots, or more where more versions are listed."""
    if listed <= 2 * slots:
        return 2 * slots
    return next((rung for rung in LISTED if rung >= listed), listed)


def cache_bytes(fleet: Fleet, bin_: "Bin", item: "Item | None" = None, slots: int = 0) -> int:
    """Return what all that a server may list takes of its host's memory.

    Args:
        fleet: With the sizes of versions; one whose size is not known counts as nothing.
        bin_: The server.
        item: One more version on it.
        slots: Those that it then has, where it may still choose.
    """
    names = {*bin_.names, *([] if item is None else [item.adapter])}
    most = bin_.most_listed
    if most is None or not bin_.fixed:
        most = listed_rung(max(slots, bin_.slots), len(names))
    sizes = (fleet.versions[each].bytes for each in names if each in fleet.versions)
    return host_bytes(most, max(sizes, default=0), len(bin_.devices))


def lacking(hardware: "Hardware", bin_: "Bin", item: "Item", slots: int) -> tuple[int, int] | None:
    """Return what a host's servers would need with one more version listed, and what it has.

    None where that is enough, or not limited.

    Args:
        hardware: With the servers of every host.
        bin_: The one that takes the version.
        item: The version.
        slots: The server's, then.
    """
    host = hardware.fleet.hosts.get(bin_.host)
    if host is None or host.memory_bytes is None or not bin_.devices:
        return None
    if item.adapter in bin_.names and slots <= bin_.slots:
        return None  # it is listed already
    need = cache_bytes(hardware.fleet, bin_, item, slots) + sum(
        cache_bytes(hardware.fleet, each) for each in hardware.at[bin_.host] if each is not bin_
    )
    return (need, host.memory_bytes) if need > host.memory_bytes else None


def unlisted(hardware: "Hardware", item: "Item", bin_: "Bin", slots: int) -> Iterator[Obstacle]:
    """Yield the main memory that a host lacks for what a server would list."""
    found = lacking(hardware, bin_, item, slots)
    if found is None:
        return
    need, have = found
    own = cache_bytes(hardware.fleet, bin_, item, slots)
    others = f" and {size(need - own)} for its other servers" if need > own else ""
    text = (
        f"host `{bin_.host}` declares {size(have)} of memory for listed adapters, and needs "
        f"{size(own)} for a server that lists it{others}: {size(need - have)} short"
    )
    yield Obstacle(Limit.HOST_MEMORY, bin_.host, text, need, have)
