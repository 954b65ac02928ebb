"""Adaptive limits of the requests in flight on servers, from the load that servers report.

Requests that wait inside a server wait in the order of their arrival, behind the client that sent
most. So requests wait in the gateway, where clients take turns, and a server gets as many as the
server runs and a few more, which keep it busy. The right number depends on the server's flags,
memory and the lengths of the requests of this moment: so a busy server is probed again and again.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

FIRST_LIMIT: Final = 16
"""Limit of a server before its first load report, and lower bound while none waits inside."""
SILENT_LIMIT: Final = 256
"""Limit of a server that reports no load: the fewest requests that vLLM runs on a GPU."""
PROBE_TIMEOUT_S: Final = 2.0
"""Longest wait for a load report; until then the earlier report holds."""
_PROBE_FROM: Final = FIRST_LIMIT // 2
"""Requests in flight from which on a server is probed."""
_MIN_SPARE: Final = 4
_SPARE_PART: Final = 4
"""Requests beside those that run: one for every 4 that run, at least 4. They keep a server busy
while the next request is on its way."""
_REFRESH_S: Final = 1.0
"""Age of a load report at which the next report is requested."""
_VALID_S: Final = 2.0
"""Longest time that a load report counts."""
_CAUTIOUS_S: Final = 10.0
"""Time after requests waited inside a server in which its limit grows by small steps only."""
_SILENT_S: Final = 10.0
"""Time for which `SILENT_LIMIT` holds before the next probe."""


@dataclass(slots=True)
class _ServerLimit:
    """The limit of a server, and the last load report; times on the limiter's clock."""

    limit: int = FIRST_LIMIT
    """Requests of this gateway that the server gets."""
    peak: int = 0
    """Most requests of this gateway in flight since the last report."""
    running: int = 0
    """Requests that the server ran at its last report."""
    has_reported: bool = False
    cautious_until: float = 0.0
    """End of the time in which the limit grows by small steps only."""
    valid_until: float = 0.0
    """End of the time in which `limit` holds."""


@dataclass(slots=True)
class ConcurrencyLimiter:
    """The limits of all servers in a gateway process."""

    _in_flight: Mapping[str, int]
    """Requests of clients, by server."""
    _clock: Callable[[], float] = time.monotonic
    _limits: dict[str, _ServerLimit] = field(default_factory=dict)
    probe: Callable[[str], None] = field(default=lambda _: None)
    """Asks a server for its load, unless a probe is on its way; ends in `record_load` or
    `record_no_load`."""

    def allows(self, server: str, declared: int | None = None) -> bool:
        """Return whether a server may get another request; `declared` None: no declared bound."""
        busy = self._in_flight.get(server, 0)
        if declared is not None:
            return busy < declared
        limit = self._limits.get(server)
        if limit is None:
            if busy < _PROBE_FROM:
                return True
            limit = self._limits[server] = _ServerLimit()
        if busy > limit.peak:  # noqa: PLR1730 (a call less for each request)
            limit.peak = busy
        now = self._clock()
        if now >= limit.valid_until:
            if busy >= _PROBE_FROM:
                self.probe(server)
            return busy < FIRST_LIMIT
        if busy >= limit.limit:
            self.probe(server)
            return False
        is_old = now >= limit.valid_until - (_VALID_S - _REFRESH_S)
        if is_old and busy >= _PROBE_FROM:
            limit.valid_until = now + PROBE_TIMEOUT_S + _VALID_S
            self.probe(server)
        return True

    def record_load(self, server: str, running: int, waiting: int) -> None:
        """Set a server's limit from its load report, which counts all its clients' requests.

        With `peak` of our requests in flight since the last report, `spare` = max(4, running / 4)
        and `share` = ours / (running + waiting):

            none waits                        peak + max(spare, min(peak, running - on their way))
            waited within 10 s, few wait      ours + spare - waiting
            more than `spare` wait            ours - (waiting - spare) * share

        Requests on their way are in `peak` and not in the report yet. `share` makes several
        gateways give way in proportion. A server that runs more than at its last report is still
        taking in what waits, which is no reason for caution.
        """
        now, ours = self._clock(), self._in_flight.get(server, 0)
        limit = self._limits.setdefault(server, _ServerLimit())
        peak, limit.peak = max(ours, limit.peak), ours
        spare = max(_MIN_SPARE, running // _SPARE_PART)
        if waiting and running <= limit.running:
            limit.cautious_until = now + _CAUTIOUS_S
        limit.running = running
        if now >= limit.cautious_until and waiting:
            limit.limit = max(FIRST_LIMIT, ours + spare - waiting)
        elif now >= limit.cautious_until:
            on_their_way = max(0, peak - running)
            growth = max(spare, min(peak, running - on_their_way))
            limit.limit = max(FIRST_LIMIT, peak + growth)
        elif waiting <= spare:
            limit.limit = max(_MIN_SPARE, ours + spare - waiting)
        else:
            share = min(1.0, ours / (running + waiting))
            limit.limit = max(_MIN_SPARE, ours - round((waiting - spare) * share))
        limit.has_reported = True
        limit.valid_until = now + _VALID_S

    def record_no_load(self, server: str, *, answered: bool) -> None:
        """Note that a server reported no load; an earlier report holds unless `answered`."""
        now = self._clock()
        limit = self._limits.setdefault(server, _ServerLimit())
        if answered or not limit.has_reported:
            limit.has_reported, limit.limit = False, SILENT_LIMIT
            limit.valid_until = now + _SILENT_S
        else:
            limit.valid_until = now + _VALID_S

    def is_cautious(self, server: str) -> bool:
        """Return whether requests waited inside a server a moment ago."""
        limit = self._limits.get(server)
        return limit is not None and self._clock() < limit.cautious_until

    def document(self) -> dict[str, int]:
        """Return the limits of busy servers, as `GET /-/inflight` shows them under `room`."""
        now = self._clock()
        return {
            name: limit.limit
            for name, limit in sorted(self._limits.items())
            if now < limit.valid_until
        }

    def forget(self, server: str) -> None:
        """Drop the limit of a server that has left the table."""
        self._limits.pop(server, None)


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
