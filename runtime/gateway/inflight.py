"""Requests in flight per server and version, counted outside any routing table.

A version is drained when its count is 0: so a request is counted from the moment that it
is routed, and a swapped table changes nothing about those that run.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

AVOID_S = 2.0
"""How long a server that refused a connection is asked last."""


@dataclass(slots=True)
class InFlight:
    """The counters of one gateway process."""

    versions: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By server and full adapter name."""
    servers: Counter[str] = field(default_factory=Counter)
    _avoided: dict[str, float] = field(default_factory=dict)
    _turn: int = 0

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

    def avoid(self, server: str, now: float) -> None:
        """Ask this server last for a while: it could not be reached at `now` (seconds)."""
        self._avoided[server] = now + AVOID_S

    def preferred(self, servers: Iterable[str], now: float) -> list[str]:
        """Return servers in the order to try: reachable, then least busy, then by turns."""
        self._turn += 1
        ordered = list(servers)
        shift = self._turn % max(len(ordered), 1)
        turned = ordered[shift:] + ordered[:shift]
        return sorted(turned, key=lambda each: (self._is_avoided(each, now), self.servers[each]))

    def document(self) -> list[dict[str, object]]:
        """Return the counts as `GET /-/inflight` shows them; what is idle is left out."""
        return [
            {"server": server, "adapter": adapter, "count": count}
            for (server, adapter), count in sorted(self.versions.items())
        ]

    def _is_avoided(self, server: str, now: float) -> bool:
        return self._avoided.get(server, now) > now
