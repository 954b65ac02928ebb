"""The listening socket for clients, and the connections to servers."""

import asyncio
import resource
import sys
from contextlib import suppress
from typing import Final

from runtime.gateway.http import timeouts
from runtime.gateway.http.connection import ClientConnection
from runtime.gateway.http.connection_limit import ConnectionLimit
from runtime.gateway.http.pool import ConnectionPool
from runtime.gateway.request.app import GatewayApp

_BACKLOG: Final = 1024
RESERVED_FILES: Final = 64
"""File descriptors for the admin side, the log, the table and health checks."""


class HttpServer:
    """Serves clients on an address; made in a running event loop, `open` begins."""

    def __init__(self, app: GatewayApp) -> None:
        self._app = app
        self._loop = asyncio.get_running_loop()
        self._connections: set[ClientConnection] = set()
        state = app.state
        self.pool = ConnectionPool(self._loop, state.usage, state.record_listing, state.tls_of)
        """The connections to servers."""
        self._listening: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def open(self, host: str, port: int) -> int:
        """Listen; return the port, a free port for 0; raises `OSError`: the address is taken."""
        limit = ConnectionLimit(max_clients(), self._app.state.weights)

        def accept() -> asyncio.Protocol:
            return ClientConnection(self._app, self.pool, self._connections, limit)

        self._listening = await self._loop.create_server(accept, host, port, backlog=_BACKLOG)
        self._app.state.usage.start_batching(self.pool.batch.schedule_flush)
        self._sweep()
        return int(self._listening.sockets[0].getsockname()[1])

    async def close(self, hurry: asyncio.Event) -> None:
        """Take no more requests; end the running after `GRACE_S`, or once `hurry` is set."""
        if self._listening is None:
            self.pool.close()
            return
        self._listening.close()
        for connection in [*self._connections]:
            connection.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeouts.GRACE_S):
                while self._connections and not hurry.is_set():  # noqa: ASYNC110 (many callbacks)
                    await asyncio.sleep(0.005)
        for connection in [*self._connections]:
            connection.abort()
        if self._timer is not None:
            self._timer.cancel()
        self.pool.close()
        self.pool.batch.flush()
        self._app.state.usage.stop_batching()
        await asyncio.sleep(0)  # lets the connections end before the loop does

    def _sweep(self) -> None:
        now = self._loop.time()
        for connection in [*self._connections]:
            connection.sweep(now)
        self._timer = self._loop.call_later(timeouts.SWEEP_S, self._sweep)


def max_clients() -> int:
    """Return the number of clients' connections for which the limit on open files leaves room.

    A connection may need another to a server. Without a bound, clients use up the file descriptors,
    and neither servers nor the admin side can be reached any more.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(1, (limit - RESERVED_FILES) // 2)
