"""Requests in flight per server and version, counted outside any routing table.

A request is counted from the moment that a server is chosen for it, and a swapped table changes
nothing about those that run. One that waits for its turn has a version and no server yet:
`Admission.queued` counts it. A version is drained when both counts are 0.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class InFlight:
    """The counters of one gateway process."""

    versions: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By server and full adapter name."""
    servers: Counter[str] = field(default_factory=Counter)
    """Requests of clients: what limits and the choice of a server go by."""
    copies: Counter[str] = field(default_factory=Counter)
    """Shadow requests by server: they take no client's place."""

    def enter(self, server: str, adapter: str, *, is_copy: bool = False) -> None:
        """Count one request until `leave` is called with the same."""
        self.versions[server, adapter] += 1
        (self.copies if is_copy else self.servers)[server] += 1

    def leave(self, server: str, adapter: str, *, is_copy: bool = False) -> None:
        """Count one request less."""
        (self.copies if is_copy else self.servers)[server] -= 1
        self.versions[server, adapter] -= 1
        if not self.versions[server, adapter]:  # versions come and go for years
            del self.versions[server, adapter]

    def on(self, server: str) -> int:
        """Return the requests on a server, shadows included."""
        return self.servers[server] + self.copies[server]

    def document(self) -> list[dict[str, object]]:
        """Return the counts as `GET /-/inflight` shows them; what is idle is left out."""
        return counted(self.versions)


def counted(versions: Mapping[tuple[str, str], int]) -> list[dict[str, object]]:
    """Return counts by (server, full adapter name) as `GET /-/inflight` shows them."""
    return [
        {"server": server, "adapter": adapter, "count": count}
        for (server, adapter), count in sorted(versions.items())
    ]
