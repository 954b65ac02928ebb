"""The choice of a request's server: the least busy of those that work and hold the version."""

import hashlib
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from heapq import heappop, heappush
from math import ceil
from typing import Final

from runtime.gateway.table.routing import RouteTarget
from runtime.gateway.traffic.concurrency import ConcurrencyLimiter, InFlight
from runtime.gateway.traffic.outliers import Outliers
from runtime.gateway.traffic.shares import UNSHARED, ServerShares

MISSING_S: Final = 10.0
"""Time for which a server that answered 404 for a version is chosen last for the version."""
SHOWN_MISSING_S: Final = 30.0
"""Time after its last 404 for which a version is shown as missing: longer than `MISSING_S`, so that
it shows under little traffic too. Another load may have brought it back with no request since."""
MAX_ATTEMPTS: Final = 3
"""Upper bound of the servers that are tried for a request."""


@dataclass(slots=True)
class LoadBalancer:
    """The servers as a gateway process sees them; a server that works leaves no trace."""

    _in_flight: InFlight
    _limiter: ConcurrencyLimiter
    _clock: Callable[[], float] = time.monotonic
    """The event loop's."""
    outliers: Outliers = field(default_factory=Outliers)
    shares: ServerShares = field(init=False)
    _down: dict[str, str] = field(default_factory=dict)
    """Servers that did not pass their last health check, and why."""
    _stale: set[str] = field(default_factory=set)
    """Servers at whose address another launch answered last."""
    _unlisted: dict[str, frozenset[str]] = field(default_factory=dict)
    """By server: versions that the routing table places there and the server did not list; the
    server is chosen last for them."""
    _missing: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    """(server, full adapter name): missing since, and chosen last until."""
    _turn: int = 0
    _marks: int = 0
    _ends: list[float] = field(default_factory=list)
    """When marks end, soonest first."""

    def __post_init__(self) -> None:
        busy, clients = self._in_flight.servers, self._in_flight.clients
        self.shares = ServerShares(busy, clients, _clock=self._clock)

    def acquire(
        self,
        target: RouteTarget,
        tried: Sequence[str],
        now: float,
        user: bytes = b"",
        *,
        is_shadow: bool = False,
    ) -> str:
        """Return a server and count the request on the server; empty: all have been tried.

        `user`: the user or session that keeps to a server; empty: the request names none.
        """
        limit, client, servers = target.policy.server_in_flight, target.client, target.servers
        session = session_hash(target.alias, user) if user and len(servers) > 1 else None
        server = self.choose(servers, target.adapter, tried, now, limit, client, session)
        if server:
            self._begin(server, client, now)
            self._in_flight.add(server, target.adapter, client, is_shadow=is_shadow)
        return server

    def acquire_free(self, target: RouteTarget, now: float, user: bytes = b"") -> str | None:
        """Return a server with the request counted; None: all are busy; empty: there is none."""
        servers, adapter, client = target.servers, target.adapter, target.client
        if not servers:
            return ""
        limit = target.policy.server_in_flight
        if len(servers) == 1:
            server = servers[0]
        else:
            session = session_hash(target.alias, user) if user else None
            server = self.choose(servers, adapter, (), now, limit, client, session)
        if not self.allows(server, limit, client):
            return None
        if self.outliers.failures:
            self._begin(server, client, now)
        self._in_flight.add(server, adapter, client)
        return server

    def choose(
        self,
        servers: Sequence[str],
        adapter: str,
        tried: Sequence[str],
        now: float,
        limit: int | None = None,
        client: str = "",
        session: int | None = None,
    ) -> str:
        """Return the best server that was not tried, empty where there is none.

        Order of preference: healthy and holding the version; below its limit (`limit` as of
        `ConcurrencyLimiter.allows`); the session's, if not too busy; least busy; where the version
        has a slot; by turns. A server that seems down is still chosen where no other
        is left, since what seems so may be wrong.
        """
        if tried:
            if len(tried) >= MAX_ATTEMPTS:
                return ""
            servers = [server for server in servers if server not in tried]
        if len(servers) < 2:  # noqa: PLR2004 (nothing to choose)
            return servers[0] if servers else ""
        if session is not None:
            bound = load_bound(servers, self._in_flight.servers)
            for server in in_order(session, self.preferred(servers, adapter, client)):
                if self._in_flight.servers[server] < bound and self.allows(server, limit, client):
                    return server
        self._turn += 1
        shift = self._turn % len(servers)
        turned = (*servers[shift:], *servers[:shift])
        busy = self._in_flight.servers
        allows = self.allows
        if not self._has_marks:
            server = self._in_flight.with_slot(adapter, min(turned, key=busy.__getitem__), turned)
            if allows(server, limit, client):
                return server

        def preference(server: str) -> tuple[bool, bool, int, bool]:
            is_bad = self._is_bad(server, adapter, client, now)
            lacks = not self._in_flight.has_slot(server, adapter)
            return is_bad, not allows(server, limit, client), busy[server], lacks

        return min(turned, key=preference)

    def has_capacity(
        self, servers: Sequence[str], adapter: str, limit: int | None, client: str = ""
    ) -> bool:
        """Return whether any of the servers that would be chosen is below its limit.

        True where there is no server: to wait would not help. A server that seems down counts only
        where there is no other.
        """
        allows = self.allows
        for server in self.preferred(servers, adapter, client):  # for each request, so no generator
            if allows(server, limit, client):
                return True
        return not servers

    def preferred(self, servers: Sequence[str], adapter: str, client: str) -> Sequence[str]:
        """Return the servers that work and hold the version; all, where that is no server."""
        if self._has_marks:
            now = self._clock()
            return [s for s in servers if not self._is_bad(s, adapter, client, now)] or servers
        return servers

    def allows(self, server: str, limit: int | None, client: str = "") -> bool:
        """Return whether a server is below its limit, and a client below its share of the server.

        `limit` as of `ConcurrencyLimiter.allows`; `client` empty: any client.
        """
        busy = self._in_flight.servers[server]
        if limit is not None and 2 * busy < limit:  # so is the share of any client, of any weight
            return True
        if not self._limiter.allows(server, limit):
            return False
        return busy < UNSHARED or self.shares.allows(server, client, limit)

    def marks(self) -> int:
        """Return a number that is another once `preferred` may return something else."""
        while self._ends and self._ends[0] <= self._clock():
            heappop(self._ends)
            self._marks += 1
        return self._marks

    def eject(self, server: str, now: float) -> None:
        """Choose a server last for a while: a server that was not reached, or keeps failing."""
        self._mark(self.outliers.eject(server, now))

    def record_error(self, server: str, now: float, client: str = "") -> None:
        """Count an error of a server's own, or an answer that the server broke off.

        `client` as of `Outliers.record_error`.
        """
        self._mark(self.outliers.record_error(server, now, client))

    def record_success(self, server: str, adapter: str, client: str = "") -> None:
        """Forget the failures of a server that has answered properly."""
        if self.outliers.failures and self.outliers.record_success(server, client):
            self._marks += 1
        if self._missing and self._missing.pop((server, adapter), None) is not None:
            self._marks += 1

    def record_missing(self, server: str, adapter: str, now: float) -> None:
        """Note that a server lacks a version that the routing table places there."""
        since, _ = self._missing.get((server, adapter), (now, now))
        self._missing[server, adapter] = (since, now + MISSING_S)
        self._mark(now + MISSING_S)

    def forget_missing(self, server: str, adapter: str) -> None:
        """Forget that a server lacked a version: fleetctl has loaded the version since."""
        self._missing.pop((server, adapter), None)
        self._marks += 1

    def record_health(self, server: str, *, healthy: bool, why: str = "") -> None:
        """Take the result of a health check, and why the server did not pass."""
        self._marks += healthy == (server in self._down)
        self._down.pop(server, None)
        if not healthy:
            self._down[server] = why

    def record_launch(self, server: str, *, stale: bool) -> None:
        """Note whether another launch answers at a server's address.

        Such a server is chosen last, and no connection to the launch gets a request.
        """
        if stale == (server in self._stale):
            return
        self._marks += 1
        (self._stale.add if stale else self._stale.discard)(server)

    def record_unlisted(self, server: str, adapters: frozenset[str]) -> None:
        """Take the versions that a server should hold and does not list."""
        if adapters == self._unlisted.get(server, frozenset()):
            return
        self._marks += 1
        if adapters:
            self._unlisted[server] = adapters
        else:
            self._unlisted.pop(server, None)

    def record_resident(self, server: str, versions: frozenset[str] | None) -> None:
        """Note the versions with a LoRA slot on a server; None: the server does not say."""
        if versions is not None:
            self._in_flight.resident[server] = versions
        else:
            self._in_flight.resident.pop(server, None)

    def retain(self, servers: Container[str], pairs: Container[tuple[str, str]]) -> None:
        """Forget all but these servers and (server, adapter)s: the others have left the table.

        The event loop may note failures meanwhile, in another thread: so the method walks over
        copies of the names and replaces nothing.
        """
        self.outliers.retain(servers)
        self.shares.retain(servers)
        for name in [*self._stale]:
            if name not in servers:
                self._stale.discard(name)
        for marked in (self._down, self._unlisted, self._in_flight.resident):
            for name in [*marked]:
                if name not in servers:
                    marked.pop(name, None)
        for pair in [*self._missing]:
            if pair not in pairs:
                self._missing.pop(pair, None)

    def health(self, server: str, now: float) -> str:
        """Return `up`, `resting` while ejected, `stale`, or `down (…)` by its last health check."""
        if server in self._stale:
            return "stale"
        if server in self._down:
            return f"down ({why})" if (why := self._down[server]) else "down"
        return "resting" if self.outliers.is_ejected(server, "", now) else "up"

    def missing(self, now: float) -> list[dict[str, object]]:
        """Return the versions that servers should hold and lack, as `GET /-/config` shows them."""
        return [
            {"server": server, "adapter": adapter, "seconds": round(now - since, 1)}
            for (server, adapter), (since, until) in sorted(self._missing.items())
            if now < until - MISSING_S + SHOWN_MISSING_S
        ]

    @property
    def _has_marks(self) -> bool:
        failures = self.outliers.failures
        return bool(failures or self._down or self._missing or self._stale or self._unlisted)

    def _begin(self, server: str, client: str, now: float) -> None:
        """Note that a server gets a request, perhaps the only request after a rest."""
        if self.outliers.failures:
            self._mark(self.outliers.begin_trial(server, client, now))

    def _mark(self, until: float | None) -> None:
        """Note that servers may be preferred otherwise now, and at `until`; None: they are not."""
        if until is not None:
            self._marks += 1
            heappush(self._ends, until)

    def _is_bad(self, server: str, adapter: str, client: str, now: float) -> bool:
        if server in self._down or server in self._stale:
            return True
        if adapter in self._unlisted.get(server, ()):
            return True
        missing = self._missing.get((server, adapter))
        if missing is not None and missing[1] > now:
            return True
        return self.outliers.is_ejected(server, client, now)


MIN_BOUND: Final = 8
"""Requests on a server below which no session leaves the server: one step of an engine."""
_LOAD: Final = 1.25
"""Upper bound of the requests on a session's server, in means of the servers that hold the version.
"""
_WORD: Final = 2**64 - 1
_ODD: Final = 0x9E3779B97F4A7C15


def session_hash(alias: str, user: bytes) -> int:
    """Return the hash of a session, or user, of an alias."""
    named = alias.encode() + b"\0" + user
    return int.from_bytes(hashlib.blake2b(named, digest_size=8).digest(), "big")


def in_order(session: int, servers: Sequence[str]) -> list[str]:
    """Return servers in the order of a session, its own server first."""

    def weight(server: str) -> int:
        mixed = (session ^ _seed(server)) * _ODD & _WORD
        return (mixed ^ mixed >> 29) * _ODD & _WORD

    return sorted(servers, key=weight, reverse=True)


def load_bound(servers: Sequence[str], busy: Mapping[str, int]) -> int:
    """Return the number of requests from which on a server is passed over by sessions."""
    total = sum(busy.get(server, 0) for server in servers) + 1
    return max(MIN_BOUND, ceil(_LOAD * total / len(servers)))


@lru_cache(maxsize=4096)
def _seed(server: str) -> int:
    return int.from_bytes(hashlib.blake2b(server.encode(), digest_size=8).digest(), "big")
