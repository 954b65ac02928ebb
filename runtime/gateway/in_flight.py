"""Requests in flight, by server and version."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class InFlight:
    """Requests in flight per server and version in a gateway process.

    Counted for each request, so in no `Counter`, which takes four times as long to count.

    A request counts from the choice of its server on, whatever table is swapped in meanwhile. A
    request that waits for its turn has a version and no server: `Admission.queued` counts it. A
    version is drained when both counts are 0.
    """

    versions: dict[tuple[str, str], int] = field(default_factory=dict)
    """By server and full adapter name."""
    servers: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Requests of clients by server: what limits and the choice of a server go by."""
    clients: dict[str, defaultdict[str, int]] = field(default_factory=dict)
    """Requests of clients by server and client, for `ServerShares`."""
    freed: set[str] = field(default_factory=set)
    """Servers that have had a place free since the set was last emptied, for `WaitingRequests`."""
    shadows: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Shadow requests by server: they take no client's place."""
    resident: dict[str, frozenset[str]] = field(default_factory=dict)
    """Versions with a LoRA slot, by server that reports them; no vLLM up to 0.33 does."""

    def add(self, server: str, adapter: str, client: str = "", *, is_shadow: bool = False) -> None:
        """Count a request until `remove` is called with the same arguments."""
        versions, version = self.versions, (server, adapter)
        versions[version] = versions.get(version, 0) + 1
        if is_shadow:
            self.shadows[server] += 1
            return
        self.servers[server] += 1
        clients = self.clients.get(server)
        if clients is None:
            clients = self.clients[server] = defaultdict(int)
        clients[client] += 1

    def remove(
        self, server: str, adapter: str, client: str = "", *, is_shadow: bool = False
    ) -> None:
        """Count a request no longer."""
        if is_shadow:
            self.shadows[server] -= 1
        else:
            self.servers[server] -= 1
            self.clients[server][client] -= 1
            self.freed.add(server)
        version = (server, adapter)
        if left := self.versions[version] - 1:
            self.versions[version] = left
        else:  # versions come and go for years
            del self.versions[version]

    def has_slot(self, server: str, adapter: str) -> bool:
        """Say whether a version is known to have a LoRA slot on a server: it runs there."""
        return (server, adapter) in self.versions or adapter in self.resident.get(server, ())

    def with_slot(self, adapter: str, server: str, servers: Sequence[str]) -> str:
        """Return a server as busy as `server` on which a version has a slot; else `server`."""
        busy, least = self.servers, self.servers[server]
        if not (least or self.resident) or self.has_slot(server, adapter):
            return server
        for equal in servers:
            if busy[equal] == least and self.has_slot(equal, adapter):
                return equal
        return server

    def on(self, server: str) -> int:
        """Return the requests on a server, shadow requests included."""
        return self.servers[server] + self.shadows[server]


def counts_document(versions: Mapping[tuple[str, str], int]) -> list[dict[str, object]]:
    """Return counts by (server, full adapter name) as `GET /-/inflight` shows them."""
    return [
        {"server": server, "adapter": adapter, "count": count}
        for (server, adapter), count in sorted(versions.items())
    ]
