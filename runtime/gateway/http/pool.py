"""The connections to all servers, and requests of the gateway's own."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

from fleet.traffic import DEFAULT_DEADLINES, Deadlines
from runtime.gateway.http import messages
from runtime.gateway.http.messages import Origin
from runtime.gateway.http.timeouts import CONNECT_S, POOL_IDLE_S, VERIFY_S
from runtime.gateway.http.upstream import OriginPool, ResponseReceiver, UpstreamConnection
from runtime.gateway.http.write_batch import LoopTurns, WriteBatch
from runtime.gateway.traffic.accounting import UsageWriter
from runtime.gateway.traffic.probes import MODELS_PATH, ServerListing, parse_listing
from runtime.server_tls import TlsToServer, tls_fault

_SWEEP_S: Final = 0.25
"""Interval at which deadlines of responses are checked."""


class StaleLaunchError(ConnectionError):
    """Another launch answers at a server's address than the routing table names."""


class ConnectionPool:
    """All servers' connections.

    `on_listing` takes what a server lists, by the server's URL, and returns whether its launch is
    the one in the URL. `tls_of` returns the declared TLS to the server at a URL, if any.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        usage: UsageWriter,
        on_listing: Callable[[str, ServerListing], bool],
        tls_of: Callable[[str], TlsToServer | None] = lambda _: None,
    ) -> None:
        self.loop = loop
        self._on_listing, self._tls_of = on_listing, tls_of
        self.batch = WriteBatch(loop, usage)
        self.turns = LoopTurns(loop)
        self.on_close: dict[object, Callable[[], None]] = {}
        """Called when the pool closes: the ends of requests that no client's connection ends."""
        self._origins: dict[Origin, OriginPool] = {}
        self._tls: ssl.SSLContext | None = None
        self._timer = loop.call_later(_SWEEP_S, self._sweep)

    def send(
        self,
        server: Origin,
        receiver: ResponseReceiver,
        head: bytes,
        body: bytes,
        deadlines: Deadlines,
    ) -> UpstreamConnection | None:
        """Send a request on a connection that was used a moment ago; None: there is none."""
        origin = self._origins.get(server)
        connection = None if origin is None else origin.pop(self.loop.time())
        if connection is not None:
            connection.send(receiver, head, body, deadlines)
        return connection

    async def connect(self, server: Origin) -> UpstreamConnection:
        """Return a new connection to the launch that must answer.

        The launch is asked for on the connection itself, unless another connection shows that the
        process is the one that was asked before. So is a server with TLS of its own: whether it
        takes the certificate shows with its first answer alone.

        Raises:
            OSError, TimeoutError: the server takes no connection, or does not list its models.
            StaleLaunchError: another launch answers.
        """
        origin = self._origins.setdefault(server, OriginPool())
        connection = await self._open(server, origin)
        has_tls = server.is_tls and self._tls_of(server.url) is not None
        if origin.is_verified or not (server.launch or has_tls):
            return connection
        is_asked = origin.check is None or origin.check.done()
        if is_asked:
            origin.check = self.loop.create_task(self._verify(server, origin, connection))
            origin.check.add_done_callback(_retrieve)
        assert origin.check is not None
        try:
            await asyncio.shield(origin.check)
        except BaseException:
            if not is_asked:
                connection.abandon()
            raise
        if not is_asked:
            return connection
        # The check has left its connection among those that wait for a request.
        return origin.pop(self.loop.time()) or await self._open(server, origin)

    async def _verify(
        self, server: Origin, origin: OriginPool, connection: UpstreamConnection
    ) -> None:
        fetch = _Fetch(self.loop)
        try:
            async with asyncio.timeout(VERIFY_S):
                head = messages.get_request(server, MODELS_PATH, closing=False)
                connection.send(fetch, head, b"", DEFAULT_DEADLINES)
                self._require_launch(server, *await fetch.result)
        except BaseException:
            connection.abandon()
            raise
        origin.is_verified = connection.is_open

    def _require_launch(self, server: Origin, status: int, body: bytes) -> None:
        listing = parse_listing(status, body)
        if listing is None:
            raise ConnectionError(f"{server.host_header} does not list its models")
        if not self._on_listing(server.url, listing):
            raise StaleLaunchError(f"another launch than {server.launch} answers")

    def take_listing(self, url: str, listing: ServerListing) -> None:
        """Take the listing of a server; of another launch: ask again before the next request."""
        if self._on_listing(url, listing):
            return
        for server in (messages.origin(url), messages.aside(url)):
            if (origin := self._origins.get(server)) is not None:
                origin.is_verified = False
                for connection in [*origin.idle]:
                    connection.abandon()

    async def _open(self, server: Origin, origin: OriginPool) -> UpstreamConnection:
        to_server = self._tls_of(server.url) if server.is_tls else None
        origin.connecting += 1
        try:
            async with asyncio.timeout(CONNECT_S):
                _, connection = await self.loop.create_connection(
                    lambda: UpstreamConnection(origin, self.loop, self.batch),
                    server.host,
                    server.port,
                    ssl=self._context(to_server) if server.is_tls else None,
                    server_hostname=to_server.name if to_server else None,
                )
        except OSError:
            origin.is_verified = False
            raise
        finally:
            origin.connecting -= 1
        return connection

    def _context(self, to_server: TlsToServer | None) -> ssl.SSLContext:
        if to_server is not None:
            return to_server.context()
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    async def get(self, url: str, path: str, timeout_s: float) -> tuple[int, bytes]:
        """Send a GET request on a new connection; return status and body; raises as `connect`."""
        server = messages.origin(url)
        try:
            return await self._get(server, path, timeout_s)
        except OSError as error:
            if server.is_tls and (fault := tls_fault(error, self._tls_of(url))):
                raise ConnectionError(fault) from error
            raise

    async def _get(self, server: Origin, path: str, timeout_s: float) -> tuple[int, bytes]:
        async with asyncio.timeout(timeout_s):
            connection = await self._open(server, OriginPool())  # no client's request goes there
            fetch = _Fetch(self.loop)
            try:
                head = messages.get_request(server, path)
                connection.send(fetch, head, b"", DEFAULT_DEADLINES)
                return await fetch.result
            finally:
                connection.abandon()

    def close(self) -> None:
        """End all connections, and the requests that no client's connection ends."""
        self._timer.cancel()
        for end in [*self.on_close.values()]:
            end()
        for origin in self._origins.values():
            for connection in [*origin.connections]:
                connection.abandon()

    def _sweep(self) -> None:
        now = self.loop.time()
        self._timer = self.loop.call_later(_SWEEP_S, self._sweep)
        for server, origin in [*self._origins.items()]:
            for connection in [*origin.connections]:
                connection.sweep(now)
            for connection in [*origin.idle]:
                if now - connection.last_received_at > POOL_IDLE_S:
                    connection.abandon()
            if not origin.connections and not origin.connecting:
                del self._origins[server]


def _retrieve(check: "asyncio.Task[None]") -> None:
    """Take the error of a check that no request waits for any longer."""
    if not check.cancelled():
        check.exception()


class _Fetch:
    """Collects the response to a request of the gateway's own. Keeps `ResponseReceiver`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.result: asyncio.Future[tuple[int, bytes]] = loop.create_future()
        self._status = 0
        self._parts: list[bytes] = []

    def on_response(self, status: int, content_type: str, body: bytes) -> None:  # noqa: ARG002
        self._complete(status, body)

    def on_head(self, status: int, content_type: str) -> None:  # noqa: ARG002
        self._status = status

    def on_chunk(self, data: bytes) -> None:
        self._parts.append(data)

    def on_end(self) -> None:
        self._complete(self._status, b"".join(self._parts))

    def on_silence(self, silent_s: float) -> None:
        pass

    def on_timeout(self) -> None:
        self._fail(TimeoutError())

    def on_disconnect(self, *, stale: bool) -> None:  # noqa: ARG002
        self._fail(ConnectionResetError())

    def _complete(self, status: int, body: bytes) -> None:
        if not self.result.done():
            self.result.set_result((status, body))

    def _fail(self, error: OSError) -> None:
        if not self.result.done():
            self.result.set_exception(error)
