"""Which server is asked: the least busy of those that work and hold the version."""

import time
from collections.abc import Callable, Container, Sequence
from typing import Final

from runtime.gateway.inflight import InFlight
from runtime.gateway.rooms import Rooms

FIRST_REST_S: Final = 1.0
"""How long a server that failed is asked last; twice as long each time that it fails again."""
LONGEST_REST_S: Final = 30.0
LOST_S: Final = 10.0
"""How long a version that a server did not have is not looked for there."""
SHOWN_S: Final = 30.0
"""How long after its last 404 a version is shown as missing: it may have been loaded again with no
request since. Longer than `LOST_S`, so that who looks now and then sees it under little traffic."""
STREAK: Final = 3
"""Answers of 500 or above in a row after which a server counts as failed."""
ATTEMPTS: Final = 3
"""Most servers that are asked for one request."""


class _Trouble:
    """What is wrong with one server."""

    __slots__ = ("errors", "rests", "since", "until")

    def __init__(self, now: float) -> None:
        self.since = now
        self.errors = 0
        """Errors in a row."""
        self.rests = 0
        """Rests in a row."""
        self.until = now
        """When it may be asked like any other again."""


class Replicas:
    """What one gateway process knows of the servers; it forgets what works."""

    def __init__(
        self, in_flight: InFlight, rooms: Rooms, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with every server in good health; `clock` is the event loop's."""
        self._in_flight = in_flight
        self._rooms = rooms
        self._clock = clock
        self._troubled: dict[str, _Trouble] = {}
        self._down: set[str] = set()
        """Servers that did not pass their last check."""
        self._lost: dict[tuple[str, str], tuple[float, float]] = {}
        """(server, full adapter name): since when it is missing, and until when not looked for."""
        self._turn = 0

    def pick(
        self,
        servers: Sequence[str],
        adapter: str,
        tried: Sequence[str],
        now: float,
        most: int | None = None,
    ) -> str:
        """Return the server to ask next, empty when there is none that was not tried.

        Healthy ones that hold the version come first, then those with room (`most` as of
        `Rooms.has`), then the least busy, then by turns. One that seems down is still asked where
        no other is left: what seems may be wrong.
        """
        if tried:
            if len(tried) >= ATTEMPTS:
                return ""
            servers = [each for each in servers if each not in tried]
        if len(servers) < 2:  # noqa: PLR2004 (nothing to choose)
            return servers[0] if servers else ""
        self._turn += 1
        shift = self._turn % len(servers)
        turned = (*servers[shift:], *servers[:shift])
        busy = self._in_flight.servers
        has_room = self._rooms.has
        if not (self._troubled or self._down or self._lost):
            found = min(turned, key=busy.__getitem__)
            if has_room(found, most):
                return found

        def key(each: str) -> tuple[bool, bool, int]:
            return self._is_bad(each, adapter, now), not has_room(each, most), busy[each]

        return min(turned, key=key)

    def have_room(self, servers: Sequence[str], adapter: str, most: int | None) -> bool:
        """Say whether one of the servers that would be asked has room.

        Where there is no server, waiting helps nobody. One that seems down has always room: what
        counts are the others, if there are any.
        """
        if self._troubled or self._down or self._lost:
            now = self._clock()
            servers = [s for s in servers if not self._is_bad(s, adapter, now)] or servers
        has_room = self._rooms.has
        for each in servers:  # for each request, so no generator
            if has_room(each, most):
                return True
        return not servers

    def failed(self, server: str, now: float) -> None:
        """The server could not be reached, or has failed too often in a row."""
        trouble = self._troubled.setdefault(server, _Trouble(now))
        rest = min(FIRST_REST_S * 2**trouble.rests, LONGEST_REST_S)
        trouble.rests += 1
        trouble.errors = 0
        trouble.until = now + rest

    def erred(self, server: str, now: float) -> None:
        """The server has answered with an error of its own, or broken off."""
        trouble = self._troubled.setdefault(server, _Trouble(now))
        trouble.errors += 1
        if trouble.errors >= STREAK:
            self.failed(server, now)

    def worked(self, server: str, adapter: str) -> None:
        """The server has answered as it should: nothing is held against it any longer."""
        if self._troubled:
            self._troubled.pop(server, None)
        if self._lost:
            self._lost.pop((server, adapter), None)

    def lost(self, server: str, adapter: str, now: float) -> None:
        """The server does not have a version that the routing table says it has."""
        since, _ = self._lost.get((server, adapter), (now, now))
        self._lost[server, adapter] = (since, now + LOST_S)

    def checked(self, server: str, *, healthy: bool) -> None:
        """Take the result of a check of the server's health."""
        if healthy:
            self._down.discard(server)
        else:
            self._down.add(server)

    def forget(self, servers: Container[str], pairs: Container[tuple[str, str]]) -> None:
        """Keep only what is about these servers and (server, adapter)s: others left the table.

        It may run in a thread beside the event loop, which goes on noting troubles: so it goes
        through copies of the names and replaces nothing.
        """
        for name in [*self._troubled]:
            if name not in servers:
                self._troubled.pop(name, None)
        for name in [*self._down]:
            if name not in servers:
                self._down.discard(name)
        for pair in [*self._lost]:
            if pair not in pairs:
                self._lost.pop(pair, None)

    def health(self, server: str, now: float) -> str:
        """Return `up`, `resting` after failures, or `down` by its last check."""
        if server in self._down:
            return "down"
        trouble = self._troubled.get(server)
        return "resting" if trouble is not None and trouble.until > now else "up"

    def missing(self, now: float) -> list[dict[str, object]]:
        """Return the versions that servers should hold and do not, as `GET /-/config` shows it."""
        return [
            {"server": server, "adapter": adapter, "seconds": round(now - since, 1)}
            for (server, adapter), (since, until) in sorted(self._lost.items())
            if now < until - LOST_S + SHOWN_S
        ]

    def _is_bad(self, server: str, adapter: str, now: float) -> bool:
        if server in self._down:
            return True
        lost = self._lost.get((server, adapter))
        if lost is not None and lost[1] > now:
            return True
        trouble = self._troubled.get(server)
        return trouble is not None and trouble.until > now
