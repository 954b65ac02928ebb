"""Host memory: the main memory of a host that the adapters take which its servers list.

vLLM keeps every listed adapter there, as many as `max_cpu_loras` says, once for each device of
the server. A host that declares its memory takes no more of them; other hosts are not limited.

The limit holds at every step of an apply. A server that stops, or starts with other flags, counts
as the larger of its bytes before and after, and so does a server whose largest adapter is
unloaded: vLLM forgets only its name. Only servers that nothing uses are counted as gone, see
`fleet.planning.ordering`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from fleet.placement.causes import Limit, Obstacle, size

SHOWN = 2
"""Upper bound of the servers that a sentence names."""


@dataclass(frozen=True, slots=True)
class HostShortage:
    """Bytes of main memory that a host's servers would need at some step of an apply."""

    host: str
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
        """What the servers need together."""
        return self.own + self.others + self.until

    @property
    def obstacle(self) -> Obstacle:
        """The shortage as what keeps a version out."""
        parts = [f"{size(self.own)} for a server that lists it"]
        if self.others:
            parts.append(f"{size(self.others)} for its other servers")
        if self.ending:
            named = ", ".join(f"`{server}`" for server in self.ending[:SHOWN])
            named += f" and {rest} more" if (rest := len(self.ending) - SHOWN) > 0 else ""
            what = "has" if len(self.ending) == 1 else "have"
            parts.append(f"{size(self.until)} until {named} {what} stopped or started again")
        text = (
            f"host `{self.host}` declares {size(self.have)} of memory for listed adapters, and "
            f"needs {' and '.join(parts)}: {size(self.need - self.have)} short"
        )
        return Obstacle(Limit.HOST_MEMORY, self.host, text, self.need, self.have)


def host_shortage(
    host: str,
    declared: int,
    taker: tuple[str, int],
    now: Mapping[str, int],
    others: Mapping[str, int],
    used: Collection[str],
) -> HostShortage | None:
    """Return the main memory that a host lacks at some step of an apply; None: it lacks none.

    A host that has too much listed already may keep that.

    Args:
        host: Its name.
        declared: Bytes of memory that the host declares for listed adapters.
        taker: The server that takes one more version, and the bytes that it then lists.
        now: By server of the host: bytes that the server may list now.
        others: By other server of the host: bytes that the server may list at most.
        used: Those of the other servers that hold a version in the end.
    """
    name, own = taker
    after = {server: taken for server, taken in others.items() if server in used}
    rest = sum(after.values())
    after[name] = own
    most = {**others, name: own}
    ending = {
        server: taken - after.get(server, 0)
        for server in {*now, *most}
        if (taken := max(now.get(server, 0), most.get(server, 0))) > after.get(server, 0)
    }
    until, names = sum(ending.values()), tuple(sorted(ending))
    found = HostShortage(host, own, rest, until, names, declared)
    return found if found.need > max(declared, sum(now.values())) else None
