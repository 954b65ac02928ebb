"""Connections to servers, kept open between requests."""

import asyncio
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, Protocol, cast

import httptools

from fleet.traffic import DEFAULT_DEADLINES, Deadlines
from runtime.gateway.http.messages import RepeatedHead, repeated_head
from runtime.gateway.http.timeouts import POOL_IDLE_S, STALE_S, SUSPECT_S
from runtime.gateway.http.write_batch import MAX_BATCH, WriteBatch

_JSON: Final = "application/json"
_FINAL_FROM: Final = 200
"""Lowest status of a response that does not only announce another."""
_AWAITED, _BEGUN, _HAS_HEAD, _COMPLETE = range(4)
"""Stages of the response to the newest request. Python 3.11 takes ten times as long for a member of
an enumeration as for a name."""


class ResponseReceiver(Protocol):
    """The receiver of the response to a request.

    `on_response`, `on_end`, `on_timeout` and `on_disconnect` are the last calls of a request.
    """

    def on_response(self, status: int, content_type: str, body: bytes) -> None:
        """Take a complete response of which no part was given before."""

    def on_head(self, status: int, content_type: str) -> None:
        """Take the head of a response."""

    def on_chunk(self, data: bytes) -> None:
        """Take a part of the body."""

    def on_end(self) -> None:
        """Take the end of the body."""

    def on_silence(self, silent_s: float) -> None:
        """Note that the server has sent no part of any answer since the request, for a while."""

    def on_timeout(self) -> None:
        """Note that the response took too long; the connection has been ended."""

    def on_disconnect(self, *, stale: bool) -> None:
        """Note that the connection ended before the response did.

        `stale`: it had been kept open and ended before a byte of the response, as it does where
        the server closed it just when the request was on its way.
        """


@dataclass(slots=True)
class OriginPool:
    """The connections to a server."""

    connecting: int = 0
    """Connections that are being made."""
    connections: "set[UpstreamConnection]" = field(default_factory=set)
    idle: "list[UpstreamConnection]" = field(default_factory=list)
    """Connections that wait for a request, the last used at the end."""
    is_verified: bool = False
    """Whether the right launch answered, and a connection has been open ever since: a new process
    means new connections."""
    check: "asyncio.Task[None] | None" = None
    """The newest check of the launch."""
    answered_at: float = 0.0
    """When a part of an answer came last; heads and refusals show nothing of an engine."""
    repeated: RepeatedHead[tuple[int, str]] | None = None
    """The head of the newest complete response; its meaning is status and content type."""

    def pop(self, now: float) -> "UpstreamConnection | None":
        """Return an open connection that was used a moment ago, or None."""
        idle, oldest = self.idle, now - POOL_IDLE_S
        while idle:
            connection = idle.pop()
            if connection.last_received_at > oldest and connection.is_open:
                return connection
            connection.abandon()
        return None

    def forget(self, connection: "UpstreamConnection", *, by_server: bool) -> None:
        """Drop a connection that has ended; `by_server`: the server, or its machine, ended it."""
        self.connections.discard(connection)
        if by_server or not self.connections:
            self.is_verified = False
        if connection in self.idle:
            self.idle.remove(connection)


class UpstreamConnection(asyncio.Protocol):
    """A connection to a server, for a single request at a time."""

    _transport: asyncio.Transport
    """Set before any other call."""
    _parser: httptools.HttpResponseParser
    """There while connected: a cycle."""

    def __init__(
        self, pool: OriginPool, loop: asyncio.AbstractEventLoop, batch: WriteBatch
    ) -> None:
        self._pool, self._loop, self._batch = pool, loop, batch
        self._receiver: ResponseReceiver | None = None
        self._was_used = False
        self._stage = _AWAITED
        self._is_until_close = True
        """Whether the response ends with the connection."""
        self._content_type = _JSON
        self._keeps_alive = self._is_paused = self._has_chunk = self._is_ended = False
        self._is_refusal = False
        self._deadlines = DEFAULT_DEADLINES
        self.last_received_at = self._sent_at = loop.time()

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return not self._transport.is_closing()

    def send(
        self, receiver: ResponseReceiver, head: bytes, body: bytes, deadlines: Deadlines
    ) -> None:
        """Send a request, whose response goes to `receiver` within `deadlines`."""
        self._receiver = receiver
        self._deadlines = deadlines
        self._stage = _AWAITED
        self._has_chunk = False
        self.last_received_at = self._sent_at = self._loop.time()
        if len(body) <= MAX_BATCH:
            self._batch.add(self._transport, head + body)
        else:  # joined, it would be in memory twice
            self._batch.add(self._transport, head)
            self._batch.add(self._transport, body)

    def abandon(self) -> None:
        """End the connection, which makes the server end the request, without a call."""
        self._receiver = None
        self._close()

    def pause(self, *, paused: bool) -> None:
        """Read no further, or go on."""
        if paused != self._is_paused and self.is_open:
            self._is_paused = paused
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
                self.last_received_at = self._loop.time()

    # ------------------------------------------------------- called by the event loop
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, and make the parser."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by name
        self._parser = httptools.HttpResponseParser(self)
        self._pool.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Read; what breaks the rules ends the connection."""
        self.last_received_at = self._loop.time()
        if self._receiver is None:  # no request is on its way
            self._close()
            return
        is_first = self._stage == _AWAITED
        if is_first and self._read_repeated(data):
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._disconnect(stale=False)
            return
        if self._stage == _COMPLETE:
            meaning = (self._parser.get_status_code(), self._content_type)
            if is_first and self._keeps_alive and meaning == (HTTPStatus.OK, _JSON):
                self._pool.repeated = repeated_head(data, meaning)
            self._end()

    def connection_lost(self, error: Exception | None) -> None:
        """End the response, perhaps regularly, and leave no cycle: a new table would keep it."""
        self._pool.forget(self, by_server=not self._is_ended)
        if self._stage == _HAS_HEAD and self._is_until_close and error is None:
            self._end()
        else:
            is_fresh = self._loop.time() - self._sent_at < STALE_S
            self._disconnect(stale=self._was_used and self._stage == _AWAITED and is_fresh)
        del self._parser

    # ------------------------------------------------------- without the parser
    def _read_repeated(self, data: bytes) -> bool:
        """Take a complete response with a head that was parsed before; return whether it is so."""
        repeated = self._pool.repeated
        split = repeated.split(data) if repeated is not None else None
        if repeated is None or split is None or len(split[1]) != split[0]:
            return False
        receiver, self._receiver = self._receiver, None
        self._was_used = True
        self._pool.answered_at = self.last_received_at
        self._pool.idle.append(self)
        if receiver is not None:
            receiver.on_response(*repeated.meaning, split[1])
        return True

    # ------------------------------------------------------- called by the parser
    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header that matters."""
        lowered = name.lower()
        if lowered == b"content-type":
            self._content_type = value.decode("latin-1")
        elif lowered in {b"content-length", b"transfer-encoding"}:
            self._is_until_close = False

    def on_message_begin(self) -> None:
        """Begin a response; a second response was not asked for."""
        if self._stage == _COMPLETE:
            self._keeps_alive = False
            return
        self._stage = _BEGUN
        self._is_until_close = True
        self._content_type = _JSON

    def on_headers_complete(self) -> None:
        """Pass the head on, unless the head only announces another."""
        status = self._parser.get_status_code()
        if status < _FINAL_FROM or self._stage == _COMPLETE:
            return
        self._stage = _HAS_HEAD
        self._is_refusal = status >= HTTPStatus.BAD_REQUEST
        self._keeps_alive = self._parser.should_keep_alive() and not self._is_until_close
        if self._receiver is not None:
            self._receiver.on_head(status, self._content_type)

    def on_body(self, data: bytes) -> None:
        """Pass a part of the body on."""
        self._has_chunk = True
        if not self._is_refusal:
            self._pool.answered_at = self.last_received_at
        if self._receiver is not None and self._stage != _COMPLETE:
            self._receiver.on_chunk(data)

    def on_message_complete(self) -> None:
        """Note the end, which is passed on once all that has come is parsed."""
        if self._stage == _HAS_HEAD:
            self._stage = _COMPLETE

    # ------------------------------------------------------- the end of a response
    def _end(self) -> None:
        receiver, self._receiver = self._receiver, None
        self._was_used = True
        if self._keeps_alive and self.is_open:
            self.pause(paused=False)  # the next client may be faster
            self._pool.idle.append(self)
        else:
            self._close()
        if receiver is not None:
            receiver.on_end()

    def _disconnect(self, *, stale: bool) -> None:
        receiver, self._receiver = self._receiver, None
        self._close()
        if receiver is not None:
            receiver.on_disconnect(stale=stale)

    def _close(self) -> None:
        if self.is_open:
            self._is_ended = True
            self._transport.abort()

    def silent_s(self, now: float) -> float:
        """Return for how long no client has had an answer since the request; 0: a client has.

        Seconds.
        """
        is_silent = not self._has_chunk and self._pool.answered_at < self._sent_at
        return now - self._sent_at if is_silent else 0.0

    def sweep(self, now: float) -> None:
        """End the connection if its server takes longer than the deadlines allow.

        The head of a stream counts for nothing: vLLM sends it before it begins to generate.
        """
        if self._receiver is None:
            return
        if (silent_s := self.silent_s(now)) > SUSPECT_S:
            self._receiver.on_silence(silent_s)
        first_byte_s, idle_s, total_s = self._deadlines
        elapsed_s = now - self._sent_at
        is_late = elapsed_s > total_s
        if not self._has_chunk:
            is_late = is_late or elapsed_s > first_byte_s
        else:
            is_late = is_late or (now - self.last_received_at > idle_s and not self._is_paused)
        if is_late:
            receiver, self._receiver = self._receiver, None
            self._close()
            receiver.on_timeout()
