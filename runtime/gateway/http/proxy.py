"""A request between a client's connection and a server's."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import msgspec

from runtime.gateway.body import errors
from runtime.gateway.body.errors import as_api_error
from runtime.gateway.body.sse import MAX_ANSWER, spellings, with_asked_name
from runtime.gateway.http import messages
from runtime.gateway.http.pool import ConnectionPool
from runtime.gateway.http.upstream import UpstreamConnection
from runtime.gateway.request.app import LocalResponse, error_response
from runtime.gateway.request.attempts import UpstreamAttempts
from runtime.gateway.request.request import ProxyRequest


class ResponseSink:
    """The receiver of the response to a request; drops the response unless a method is replaced."""

    def send(self, data: bytes) -> None:
        """Send bytes of a stream."""

    def respond(self, response: LocalResponse) -> None:  # noqa: ARG002 (dropped)
        """Send a response of the gateway's own; the request is over."""
        self.finish()

    def relay(self, start: bytes, shown: str, body: bytes) -> None:  # noqa: ARG002 (dropped)
        """Send a server's complete response; the request is over.

        `start`: of its head, `relayed_start`; `shown`: the request's id, and further headers.
        """
        self.finish()

    def start_stream(self, status: int, headers: dict[str, str]) -> bool:  # noqa: ARG002 (dropped)
        """Send the head of a stream; return whether its parts are to be chunks."""
        return False

    def finish(self) -> None:
        """Note that the stream is complete; the request is over."""

    def abort(self) -> None:
        """End the connection in the middle of the response; the request is over."""
        self.finish()


@dataclass(slots=True)
class NullClient(ResponseSink):
    """The client of a shadow request; `on_end` is called when the request is over."""

    _on_end: Callable[[], None]

    def finish(self) -> None:
        """Note that the request is over."""
        self._on_end()


_OK: Final = 200
_NOT_FOR_CLIENTS: Final = frozenset({*range(300, 400), 401, 403, 407})
"""Statuses of a server that sends elsewhere, or wants another key of the gateway: no client learns
of its addresses and keys."""


class Proxy(msgspec.Struct, eq=False):
    """Sends a routed request to servers until a server responds, and passes the response on."""

    _client: ResponseSink
    _pool: ConnectionPool
    _request: ProxyRequest
    _attempts: UpstreamAttempts
    _server: messages.Origin | None = None
    _connection: UpstreamConnection | None = None
    _connecting: asyncio.Task[None] | None = None
    _timer: asyncio.TimerHandle | None = None
    """Ends the wait for the request's turn."""
    _head: bytes = b""
    """Of the request to `_server`."""
    _has_started: bool = False
    """Whether the client has the head of a stream."""
    _is_chunked: bool = True
    _status: int = 0
    _content_type: str = ""
    _spellings: tuple[tuple[bytes, bytes], ...] = ()
    """As `asked_name.spellings`, of a stream."""
    _parts: list[bytes] = []
    _size: int = 0
    """Bytes of `_parts`."""

    def start(self) -> None:
        """Send the request to a server once its turn has come."""
        if not self._request.must_wait:
            self.send()
            return
        max_wait_s, refusal = self._request.wait(self._on_turn)
        self._timer = self._pool.loop.call_later(max_wait_s, self._refuse, refusal)

    def _on_turn(self) -> None:
        self._stop_timer()
        try:
            self._attempts = self._request.take_turn(self._pool.loop.time())
            self.start()
        except Exception as error:  # noqa: BLE001 (the last net)
            self._refuse(error)

    def send(self) -> None:
        """Send the request to the next server; without one, the client gets an error."""
        try:
            attempts, request = self._attempts, self._request
            url = attempts.url or attempts.next_url()
            origin = messages.origin if attempts.is_judged else messages.aside
            server = self._server = origin(url)
            start = messages.request_start(server, request.path, request.priority)
            number = request.record.row.request_id.encode("ascii")
            self._head = messages.REQUEST_HEAD % (start, len(request.body), number, request.trace)
            deadlines = request.target.deadlines_of(stream=request.record.row.stream)
            self._connection = self._pool.send(server, self, self._head, request.body, deadlines)
            if self._connection is None:
                self._connecting = self._pool.loop.create_task(self._connect(server))
            elif request.shadow is not None:
                self._send_shadow()
        except Exception as error:  # noqa: BLE001 (the last net)
            self._refuse(error)

    def cancel(self) -> None:
        """End the request: the client has left, and the server must not work on it any longer."""
        if self._connection is not None:
            self._attempts.on_leave(self._connection.silent_s(self._pool.loop.time()))
        self._let_go()
        self._request.on_client_disconnect()

    def pause(self, *, paused: bool) -> None:
        """Read the server no further, or go on: the client reads slowly, or has caught up."""
        if self._connection is not None:
            self._connection.pause(paused=paused)

    # ------------------------------------------------------- called by the server's connection
    def on_response(self, status: int, content_type: str, body: bytes) -> None:
        """Write the usage row, then pass a complete response on."""
        self._connection = None
        try:
            request = self._request
            request.on_head(content_type)
            refusal = None if status == _OK else errors.refusal_of_server(status, body)
            request.on_response(status if refusal is None else refusal.status, body)
            row = request.record.row
            if refusal is not None:
                self._client.respond(error_response(refusal, row.path, row.shown_id))
                return
            start = messages.relayed_start(status, content_type, request.target.adapter)
            shown = row.shown_id
            if request.rates:
                shown += "".join(f"\r\n{name}: {value}" for name, value in request.rates.items())
            named = with_asked_name(body, request.target.adapter, request.asked_name)
            self._client.relay(start, shown, named)
        except Exception as error:  # noqa: BLE001 (the last net)
            self._refuse(error)

    def on_head(self, status: int, content_type: str) -> None:
        """Pass the head of a stream on, or pass over a server that has not begun."""
        try:
            self._status = status
            if status == HTTPStatus.NOT_FOUND:  # its body says of what
                return
            if status in _NOT_FOR_CLIENTS:
                self._let_go()
                self._attempts.on_unreachable(self._pool.loop.time())
                self.send()
                return
            if self._attempts.should_retry(status):
                self._let_go()
                self._attempts.on_overloaded(status, self._pool.loop.time())
                self.send()
                return
            self._request.on_head(content_type)
            if self._request.is_stream:
                headers = {
                    "Content-Type": content_type,
                    "x-fleetctl-version": self._request.target.adapter,
                    "x-request-id": self._request.record.row.shown_id,
                    **(self._request.rates or {}),
                }
                asked = self._request.asked_name
                self._spellings = spellings(self._request.target.adapter, asked)
                self._is_chunked = self._client.start_stream(status, headers)
                self._has_started = True
            else:
                self._content_type = content_type
        except Exception as error:  # noqa: BLE001 (the last net)
            self._refuse(error)

    def on_chunk(self, data: bytes) -> None:
        """Pass a part of a stream on; keep a part of any other response."""
        try:
            if not self._has_started:
                self._keep(data)
            elif passed := self._request.on_chunk(self._status, data):
                for old, new in self._spellings:
                    passed = passed.replace(old, new)
                if self._is_chunked:  # as `messages.chunk`, for each event without its call
                    passed = b"%x\r\n%b\r\n" % (len(passed), passed)
                self._client.send(passed)
        except Exception as error:  # noqa: BLE001 (the last net)
            self._refuse(error)

    def _keep(self, data: bytes) -> None:
        """Keep a part of an answer that is passed on whole, or refuse the answer (413, 503)."""
        self._size += len(data)
        if self._size > MAX_ANSWER:
            raise errors.answer_too_large()
        self._request.hold(len(data))
        self._parts.append(data)

    def on_end(self) -> None:
        """Write the usage row, then send the bytes that the client lacks."""
        self._connection = None
        try:
            if not self._has_started:
                body = b"".join(self._parts)
                self._parts.clear()
                if self._status == HTTPStatus.NOT_FOUND:
                    self._size = 0
                    self._attempts.on_not_found(body, self._pool.loop.time())
                    self.send()
                else:
                    self.on_response(self._status, self._content_type, body)
                return
            rest = self._request.on_end(self._status)
            for old, new in self._spellings:
                rest = rest.replace(old, new)
            if self._is_chunked:
                rest = (messages.chunk(rest) if rest else b"") + messages.LAST_CHUNK
            self._client.send(rest)
            self._client.finish()
        except Exception as error:  # noqa: BLE001 (the last net)
            self._refuse(error)

    def on_disconnect(self, *, stale: bool) -> None:
        """Send a request that the server most likely has not read again, else an error."""
        self._connection = None
        if stale and self._server is not None and self._attempts.should_resend():
            self._connecting = self._pool.loop.create_task(self._connect(self._server))
        else:
            self._refuse(errors.broke_off())

    def on_silence(self, silent_s: float) -> None:
        """Note that no client has had an answer of the server since the request, for a while."""
        self._attempts.on_silence(silent_s)

    def on_timeout(self) -> None:
        """Send an error: the server took longer than it may."""
        self._connection = None
        self._refuse(errors.timed_out())

    # ------------------------------------------------------- towards a server
    async def _connect(self, server: messages.Origin) -> None:
        try:
            connection = await self._pool.connect(server)
        except (OSError, TimeoutError):
            self._connecting = None
            if self._attempts.has_resent:  # the server may have had the request, and crashed
                self._refuse(errors.broke_off())
                return
            self._attempts.on_unreachable(self._pool.loop.time())
            self.send()
        except Exception as error:  # noqa: BLE001 (the last net)
            self._connecting = None
            self._refuse(error)
        else:
            self._connecting = None
            self._connection, request = connection, self._request
            deadlines = request.target.deadlines_of(stream=request.record.row.stream)
            connection.send(self, self._head, request.body, deadlines)
            if request.shadow is not None:
                self._send_shadow()

    def _send_shadow(self) -> None:
        """Send the shadow of the request, which the pool ends where the pool closes before."""
        shadow, pool = self._request.start_shadow(), self._pool
        if shadow is None:
            return

        def on_end() -> None:
            pool.on_close.pop(proxy, None)

        def cancel() -> None:
            on_end()
            proxy.cancel()

        proxy = Proxy(NullClient(on_end), pool, *shadow)
        pool.on_close[proxy] = cancel
        proxy.send()

    def _refuse(self, error: Exception) -> None:
        self._let_go()
        self._parts.clear()
        refusal = as_api_error(error)
        self._request.on_error(refusal.status)
        if self._has_started:
            self._client.abort()
        else:
            row = self._request.record.row
            self._client.respond(error_response(refusal, row.path, row.shown_id))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _let_go(self) -> None:
        self._stop_timer()
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None
