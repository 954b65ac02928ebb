"""The listening socket for clients, and a client's connection."""

import asyncio
import resource
import sys
from collections import deque
from contextlib import suppress
from http import HTTPStatus
from typing import Final, cast

from runtime.gateway.body.errors import as_api_error, no_connection
from runtime.gateway.http import messages, timeouts
from runtime.gateway.http.connection_limit import ConnectionLimit, Slot
from runtime.gateway.http.incoming import IncomingRequest
from runtime.gateway.http.pool import ConnectionPool
from runtime.gateway.http.proxy import Proxy, ResponseSink
from runtime.gateway.http.request_reader import ReadingLimit, RequestReader
from runtime.gateway.http.write_batch import LARGE_BODY
from runtime.gateway.request.app import GatewayApp, LocalResponse, error_response
from runtime.gateway.traffic.limits import UnreadBytes

MAX_UNREAD: Final = 256 * 1024
"""Bytes of a response that wait for the client before the server is read no further."""


class ClientConnection(asyncio.Protocol, ResponseSink):
    """A connection of a client; adds itself to `connections` for as long as it is open."""

    _transport: asyncio.Transport
    """Set before any other call; a connection without a slot gets none."""

    def __init__(
        self,
        app: GatewayApp,
        pool: ConnectionPool,
        connections: "set[ClientConnection]",
        limit: ConnectionLimit,
    ) -> None:
        self._app, self._connections, self._limit = app, connections, limit
        self._pool, self._loop, self._batch = pool, pool.loop, pool.batch
        self._slot: Slot | None = None
        self._is_authenticated = False
        """Whether a response has gone out for a key that exists."""
        self._reader = RequestReader(app.state, pool.loop, self.on_request, self._on_head)
        self._client = ""
        """The client of the newest request."""
        self._waiting: deque[IncomingRequest] = deque()
        postponed = UnreadBytes(app.state.request_memory)
        self._reading_limit = ReadingLimit(self._reader, self._waiting, pool.turns, postponed)
        self._served: IncomingRequest | None = None
        self._proxy: Proxy | None = None
        self._is_advancing = self._is_draining = False
        self._is_writing_paused = False
        self._unread = UnreadBytes(app.state.request_memory)
        self._last_active_at = pool.loop.time()

    # ------------------------------------------------------- called by the event loop
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, if the connection gets a slot."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by name
        self._reading_limit.start(self._transport)
        self._slot = self._limit.acquire(self.evict, self._transport)
        if self._slot is not None:
            self._transport.set_write_buffer_limits(high=MAX_UNREAD)
            self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Read, also while a response is on its way: that shows a client that leaves."""
        reader = self._reader
        if reader.is_closed:
            return
        self._last_active_at = self._loop.time()
        rest = reader.feed(data)
        if rest or self._waiting or reader.reading is not None:
            self._reading_limit.slow_down(len(data) - len(rest), rest)

    def connection_lost(self, _: Exception | None) -> None:
        """End the client's requests, and leave no cycle: a new table would keep it for good."""
        self._connections.discard(self)
        self._unread.release()
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.release()
        proxy, self._proxy, self._served = self._proxy, None, None
        if proxy is not None:
            proxy.cancel()
        self._drop()
        self._reading_limit.end()
        self._reader.release()

    def pause_writing(self) -> None:
        """Read the server no further; end the connection where too many clients do not read."""
        self._is_writing_paused = True
        if not self._unread.acquire(self._client, self._transport.get_write_buffer_size()):
            self._transport.abort()
        if self._proxy is not None:
            self._proxy.pause(paused=True)

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        self._is_writing_paused = False
        self._unread.release()
        if self._proxy is not None:
            self._proxy.pause(paused=False)
        self._advance()

    # ------------------------------------------------------- one request after the other
    @property
    def _is_free(self) -> bool:
        return self._served is None and not self._waiting

    def on_request(self, request: IncomingRequest) -> None:
        """Serve a request, after the requests before; large bodies have turns of their own."""
        self._waiting.append(request)
        if len(request.body) > LARGE_BODY:
            self._pool.turns.add(self._advance)
        else:
            self._advance()

    def _on_head(self) -> None:
        """Refuse a body beyond its client's share; send `100 Continue` if the request is next."""
        reading = self._reader.reading
        if reading and reading.proxied and not reading.is_ignored and not self._may_begin(reading):
            reading.refuse(no_connection(), closing=True)
        if reading and reading.expects_continue and not reading.is_ignored and self._is_free:
            reading.expects_continue = False
            self.send(messages.CONTINUE)

    def _advance(self) -> None:
        """Serve the waiting requests, in a loop: responses that are ready at once must not nest."""
        if self._is_advancing:
            return
        self._is_advancing = True
        while self._served is None and self._waiting and not self._is_writing_paused:
            self._serve(self._waiting.popleft())
        self._is_advancing = False
        if not self._waiting:
            self._reading_limit.speed_up()
        if self._reader.reading is not None:
            self._on_head()

    def _serve(self, request: IncomingRequest) -> None:
        self._served = request
        proxied, head = request.proxied, request.head
        try:
            if request.error is not None:
                self._refuse(request.error)
            elif proxied is None:
                response = self._app.respond(head.method, head.path, head.credentials)
                is_ok = response.status == HTTPStatus.OK
                self._is_authenticated |= is_ok and head.path.startswith("/v1/")
                self.respond(response)
            else:
                self._is_authenticated = True
                if not self._may_begin(request):
                    raise no_connection()  # noqa: TRY301 (as any refusal of this request)
                body, request.body = request.body, b""
                attempts = proxied.route(body, self._loop.time(), request.meta)
                self._proxy = Proxy(self, self._pool, proxied, attempts)
                self._proxy.start()
        except Exception as error:  # noqa: BLE001 (the last net: a client gets our words)
            self._refuse(error)

    def _may_begin(self, request: IncomingRequest) -> bool:
        """Note a request at work; return whether its client's share of connections allows it."""
        assert request.proxied is not None, "the request is for a server"
        self._client = request.proxied.record.row.client
        return self._slot is None or self._slot.mark_busy(self._client)

    def _refuse(self, error: Exception) -> None:
        refusal = as_api_error(error)
        served, request_id = self._served, ""
        if served is not None and served.proxied is not None:
            request_id = served.proxied.record.row.shown_id
            served.proxied.on_error(refusal.status)
        self.respond(error_response(refusal, served.head.path if served else "", request_id))

    # ------------------------------------------------------- responses
    def send(self, data: bytes) -> None:
        """Send bytes, if the usage rows of this turn can be written."""
        self._batch.add(self._transport, data, b"")

    def respond(self, response: LocalResponse) -> None:
        """Send a response of the gateway's own; the request is over."""
        status, headers, body = response
        is_head = self._served is not None and self._served.head.method == "HEAD"
        head = messages.response_head(status, headers, len(body), closing=self._is_last)
        self._batch.add(self._transport, head if is_head else head + body)
        self.finish()

    def relay(self, start: bytes, shown: str, body: bytes) -> None:
        """Send a server's complete response, its head from `relayed_start`; the request is over."""
        served, is_last = self._served, self._is_last
        self._set_idle()
        if served is not None:
            number, close = shown.encode("ascii"), messages.CLOSE if is_last else b""
            data = messages.RELAYED % (start, number, len(body), close, body)
            self._batch.add(self._transport, data, messages.unrecorded(served.head.path))
        if is_last or self._waiting or self._reader.reading is not None:
            self._go_on(is_last=is_last)

    def start_stream(self, status: int, headers: dict[str, str]) -> bool:
        """Send the head of a stream; return whether its parts are to be chunks."""
        chunked = self._served is not None and not self._served.head.is_http10
        self.send(messages.stream_head(status, headers, chunked=chunked, closing=self._is_last))
        return chunked

    def finish(self) -> None:
        """Serve the next request, or end the connection."""
        is_last = self._is_last
        self._set_idle()
        self._go_on(is_last=is_last)

    def _go_on(self, *, is_last: bool) -> None:
        if is_last:
            self._end()
        elif self._waiting or self._reader.reading is not None:
            self._advance()

    def _set_idle(self) -> None:
        """Note that no request is at work."""
        self._proxy = self._served = None
        self._last_active_at = self._loop.time()
        if self._slot is not None:
            self._slot.mark_idle()

    def abort(self) -> None:
        """End the connection in the middle of a response, and the request at work."""
        proxy, self._proxy, self._served = self._proxy, None, None
        if proxy is not None:
            proxy.cancel()
        self._transport.abort()

    @property
    def _is_last(self) -> bool:
        return self._is_draining or self._served is None or not self._served.keeps_alive

    def _end(self) -> None:
        """End the connection so that the client can read its response first."""
        # Closing a socket with unread bytes in it would take back what was sent.
        has_unread = self._reader.is_closed or self._reader.reading is not None
        self._drop()
        if self._transport.is_closing():
            return
        self._batch.flush()
        if has_unread:
            self._transport.write_eof()
            self._loop.call_later(timeouts.LINGER_S, self._transport.abort)
        else:
            self._transport.close()

    def _drop(self) -> None:
        """Forget the requests that get no response any more."""
        for request in self._waiting:
            if request.proxied is not None:
                request.proxied.on_client_disconnect()
        self._waiting.clear()
        self._reader.close()

    # ------------------------------------------------------- called by server and limit
    def drain(self) -> None:
        """Take no more requests; end once the request at work is answered."""
        self._is_draining = True
        reading = self._reader.reading
        if self._is_free and (reading is None or not reading.head.is_complete):
            self._end()

    def sweep(self, now: float) -> None:
        """End a connection on which nothing has come for too long."""
        unsent = self._transport.get_write_buffer_size()
        allowed = timeouts.CLIENT_UNREAD_S if unsent else timeouts.CLIENT_IDLE_S
        is_idle = self._is_free and now - self._last_active_at > allowed
        reading = self._reader.reading
        is_head = reading is not None and not reading.head.is_complete
        limit = timeouts.HEAD_S if is_head else timeouts.READ_S
        if is_idle or (reading is not None and now - self._reader.began_at > limit):
            self.abort()
        elif self._slot is not None and self._proxy is None and not unsent:
            self._slot.mark_idle_again()

    def evict(self) -> bool:
        """End for another client's connection, unless a request is at work; return whether so.

        A body on its way is work once its key is known, and so is a response until it is sent. A
        head on its way is none, nor is a response to a request without a valid key.
        """
        reading = self._reader.reading
        is_read = reading is not None and reading.proxied is not None and not reading.is_ignored
        if self._proxy is not None or is_read:
            return False
        self._batch.flush()  # what was answered in this turn
        if self._is_authenticated and self._transport.get_write_buffer_size():
            return False
        self.abort()
        self._slot = None
        return True


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
