"""Requests in flight per server and version, counted outside any routing table.

A version is drained when its count is 0: so a request is counted from the moment that it
is routed, and a swapped table changes nothing about those that run.
"""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class InFlight:
    """The counters of one gateway process."""

    versions: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By server and full adapter name."""
    servers: Counter[str] = field(default_factory=Counter)

    def enter(self, server: str, adapter: str) -> None:
        """Count one request until `leave` is called with the same."""
        self.versions[server, adapter] += 1
        self.servers[server] += 1

    def leave(self, server: str, adapter: str) -> None:
        """Count one request less."""
        self.servers[server] -= 1
        self.versions[server, adapter] -= 1
        if not self.versions[server, adapter]:  # versions come and go for years
            del self.versions[server, adapter]

    def document(self) -> list[dict[str, object]]:
        """Return the counts as `GET /-/inflight` shows them; what is idle is left out."""
        return [
            {"server": server, "adapter": adapter, "count": count}
            for (server, adapter), count in sorted(self.versions.items())
        ]
