"""The connections to all servers, and which of them are free."""

import asyncio
import ssl
from typing import TYPE_CHECKING

from runtime.gateway.rows import Rows
from runtime.gateway.transports.back import Connection, Meaning
from runtime.gateway.transports.heads import Target
from runtime.gateway.transports.outbox import Outbox
from runtime.gateway.transports.recognized import Recognized
from runtime.gateway.transports.timing import CONNECT_S, KEEP_ALIVE_S

if TYPE_CHECKING:
    from runtime.gateway.transports.conversation import Shadow

_SWEEP_S = 0.25


class Home:
    """The connections to one server."""

    __slots__ = ("coming", "connections", "idle", "keep", "known")

    def __init__(self) -> None:
        """Begin without any."""
        self.coming = 0
        """Connections that are being made."""
        self.connections: set[Connection] = set()
        self.idle: list[Connection] = []
        """Those that wait for a request, the one used last at the end."""
        self.keep = self.idle.append
        """Takes a connection back whose answer is complete."""
        self.known: Recognized[Meaning] | None = None
        """The head of the newest whole answer."""

    def take(self, oldest: float) -> Connection | None:
        """Return an idle connection that is open and was used after `oldest`, or None."""
        idle = self.idle
        while idle:
            found = idle.pop()
            if found.heard_at > oldest and found.is_open:
                return found
            found.abandon()
        return None

    def forget(self, connection: Connection) -> None:
        """Drop a connection that has ended."""
        self.connections.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)


class Pool:
    """All servers' connections."""

    def __init__(self, loop: asyncio.AbstractEventLoop, rows: Rows) -> None:
        """Begin empty; `rows` are written before what they are about is sent."""
        self.loop = loop
        self.outbox = Outbox(loop, rows.flush)
        self.shadows: set[Shadow] = set()
        """Requests under way whose answers nobody gets."""
        self._homes: dict[Target, Home] = {}
        self._tls: ssl.SSLContext | None = None
        self._timer = loop.call_later(_SWEEP_S, self._sweep)

    def take(self, to: Target) -> Connection | None:
        """Return a connection that is open and was used a moment ago, or None."""
        home = self._homes.get(to)
        return None if home is None else home.take(self.loop.time() - KEEP_ALIVE_S)

    async def connect(self, to: Target) -> Connection:
        """Return a new connection.

        Raises:
            OSError, TimeoutError: the server takes none.
        """
        home = self._homes.setdefault(to, Home())
        if to.is_tls and self._tls is None:
            self._tls = ssl.create_default_context()
        home.coming += 1
        try:
            async with asyncio.timeout(CONNECT_S):
                _, made = await self.loop.create_connection(
                    lambda: Connection(home, self.loop, self.outbox),
                    to.host,
                    to.port,
                    ssl=self._tls if to.is_tls else None,
                )
        finally:
            home.coming -= 1
        return made

    def close(self) -> None:
        """End all connections, and what no client's connection ends."""
        self._timer.cancel()
        for shadow in [*self.shadows]:
            shadow.leave()
        for home in self._homes.values():
            for each in [*home.connections]:
                each.abandon()

    def _sweep(self) -> None:
        now = self.loop.time()
        self._timer = self.loop.call_later(_SWEEP_S, self._sweep)
        for to, home in [*self._homes.items()]:
            for each in [*home.connections]:
                each.sweep(now)
            for each in [each for each in home.idle if now - each.heard_at > KEEP_ALIVE_S]:
                each.abandon()
            if not home.connections and not home.coming:
                del self._homes[to]
