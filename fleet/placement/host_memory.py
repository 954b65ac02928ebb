"""Listing: the main memory of a host that the adapters take which its servers list.

vLLM keeps every listed adapter there, as many as `max_cpu_loras` says, once for each device of
the server. A host that declares its memory takes no more of them; others are not limited.

That holds at every step of an apply. A server that stops, or starts with other flags, counts as
the larger of what it takes before and after, as does one whose largest adapter is unloaded: vLLM
forgets only its name. Only servers that nothing uses are counted as gone, see
`fleet.planning.ordering`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.placement.causes import Limit, Obstacle, size
from fleet.spec import FleetSpec
from fleet.vllm import host_bytes

if TYPE_CHECKING:
    from fleet.placement.devices import Devices
    from fleet.placement.items import Item
    from fleet.placement.servers import ServerDraft
from fleet.vllm import cpu_loras_for

SHOWN = 2
"""Servers named in a sentence."""


def cache_bytes(
    fleet: FleetSpec, bin_: "ServerDraft", item: "Item | None" = None, slots: int = 0
) -> int:
    """Return what all that a server may list takes of its host's memory.

    Args:
        fleet: With the sizes of versions; one whose size is not known counts as nothing.
        bin_: The server.
        item: One more version on it.
        slots: Those that it then has, where it may still choose.
    """
    starts = not bin_.fixed or slots > bin_.slots or (item is not None and item.rank > bin_.rank)
    names = {*(bin_.residents if starts else bin_.names), *([] if item is None else [item.adapter])}
    most = bin_.most_listed
    if most is None or starts:
        most = cpu_loras_for(max(slots, bin_.slots), len(names))
    sizes = (fleet.versions[each].bytes for each in names if each in fleet.versions)
    return host_bytes(most, max(sizes, default=0), len(bin_.devices))


@dataclass(frozen=True, slots=True)
class Shortage:
    """Bytes of main memory that a host's servers would need at some step of an apply."""

    own: int
    """Of the server that takes one more version."""
    others: int
    """Of the other servers, in the end."""
    until: int
    """What is taken besides, until servers have stopped or started again."""
    ending: tuple[str, ...]
    """Those servers, by name."""
    have: int
    """What the host declares."""

    @property
    def need(self) -> int:
        """What they need together."""
        return self.own + self.others + self.until


def lacking(hardware: "Devices", bin_: "ServerDraft", item: "Item", slots: int) -> Shortage | None:
    """Return what a host lacks for one more version listed, at any step of the apply.

    None where that is enough, or not limited. What is too much already may stay so.

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
    now = hardware.now.get(bin_.host, {})
    beside = [each for each in hardware.at[bin_.host] if each is not bin_]
    most = {each.name: cache_bytes(hardware.fleet, each) for each in beside}
    then = {each.name: most[each.name] for each in beside if each.residents}
    others, own = sum(then.values()), cache_bytes(hardware.fleet, bin_, item, slots)
    then[bin_.name] = most[bin_.name] = own
    ending = {
        name: taken - then.get(name, 0)
        for name in {*now, *most}
        if (taken := max(now.get(name, 0), most.get(name, 0))) > then.get(name, 0)
    }
    found = Shortage(own, others, sum(ending.values()), tuple(sorted(ending)), host.memory_bytes)
    return found if found.need > max(host.memory_bytes, sum(now.values())) else None


def unlisted(
    hardware: "Devices", item: "Item", bin_: "ServerDraft", slots: int
) -> Iterator[Obstacle]:
    """Yield the main memory that a host lacks for what a server would list."""
    found = lacking(hardware, bin_, item, slots)
    if found is None:
        return
    parts = [f"{size(found.own)} for a server that lists it"]
    if found.others:
        parts.append(f"{size(found.others)} for its other servers")
    if found.ending:
        named = ", ".join(f"`{each}`" for each in found.ending[:SHOWN])
        named += f" and {rest} more" if (rest := len(found.ending) - SHOWN) > 0 else ""
        what = "has" if len(found.ending) == 1 else "have"
        parts.append(f"{size(found.until)} until {named} {what} stopped or started again")
    text = (
        f"host `{bin_.host}` declares {size(found.have)} of memory for listed adapters, and needs "
        f"{' and '.join(parts)}: {size(found.need - found.have)} short"
    )
    yield Obstacle(Limit.HOST_MEMORY, bin_.host, text, found.need, found.have)
