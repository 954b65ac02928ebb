"""Connections to the servers, kept open between requests."""

import asyncio
import ssl
from collections import defaultdict
from typing import Protocol, cast

import httptools

from runtime.gateway.routing import USUAL_PATIENCE, Patience
from runtime.gateway.transports.heads import Target
from runtime.gateway.transports.outbox import Outbox
from runtime.gateway.transports.timing import CONNECT_S, KEEP_ALIVE_S

Place = tuple[str, int, bool]
_SWEEP_S = 0.25
_INFORMATION = 200
"""Below: answers that only announce another."""


class Listener(Protocol):
    """Who waits for a server's answer. After `on_end` or `on_broken`, nothing more comes."""

    def on_head(self, status: int, content_type: str) -> None:
        """The head of the answer is there."""

    def on_part(self, data: bytes) -> None:
        """A part of its body is there."""

    def on_end(self) -> None:
        """It is complete."""

    def on_late(self) -> None:
        """The answer took longer than it may; the connection has been ended."""

    def on_broken(self, *, stale: bool) -> None:
        """The connection ended before the answer did.

        `stale`: it had been kept open and ended before one byte of the answer, as one does
        that the server closed just when the request was on its way.
        """


class Connection(asyncio.Protocol):
    """One connection to one server; one request at a time."""

    def __init__(self, pool: "Pool", place: Place) -> None:
        """Prepare; the event loop connects."""
        self._pool = pool
        self._place = place
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._listener: Listener | None = None
        self._request = b""
        self._used = False
        self._answering = False
        """Whether a byte of the answer has been parsed."""
        self._has_head = False
        self._complete = False
        self._until_close = True
        self._content_type = "application/json"
        self._keeps = False
        self._paused = False
        self._patience = USUAL_PATIENCE
        self._asked_at = self.heard_at = pool.loop.time()

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, listener: Listener, request: bytes, patience: Patience) -> None:
        """Send a request; its answer goes to `listener`, and may take so long."""
        assert self._transport is not None, "the connection has been made"
        self._listener = listener
        self._answering = self._has_head = self._complete = self._keeps = False
        self._paused = False
        self._until_close = True
        self._content_type = "application/json"
        self._patience = patience
        self._asked_at = self.heard_at = self._pool.loop.time()
        self._pool.busy.add(self)
        self._request = request
        self._pool.outbox.add(self._flush)

    def _flush(self) -> None:
        request, self._request = self._request, b""
        if self._transport is not None and request:
            self._transport.write(request)

    def abandon(self) -> None:
        """End the connection, which makes the server end the request; nobody hears of it."""
        self._listener = None
        self._request = b""
        self._close()

    def pause(self, *, paused: bool) -> None:
        """Read no more for now, or again."""
        if self._transport is not None and not self._transport.is_closing():
            self._paused = paused
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
                self.heard_at = self._pool.loop.time()

    # ------------------------------------------------------- called by the event loop
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by name

    def data_received(self, data: bytes) -> None:
        """Parse; whatever breaks the rules ends the connection."""
        self.heard_at = self._pool.loop.time()
        if self._listener is None:  # nothing was asked
            self._close()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._break(stale=False)
            return
        if self._complete:
            self._end()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits."""
        self._pool.forget(self, self._place)
        if self._has_head and self._until_close and error is None:
            self._end()
        else:
            self._break(stale=self._used and not self._answering)

    # ------------------------------------------------------- called by the parser
    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep what matters of a header."""
        match name.lower():
            case b"content-type":
                self._content_type = value.decode("latin-1")
            case b"content-length" | b"transfer-encoding":
                self._until_close = False
            case _:
                pass

    def on_message_begin(self) -> None:
        """Note that an answer has begun; a second one was not asked for."""
        if self._complete:
            self._keeps = False
        self._answering = True

    def on_headers_complete(self) -> None:
        """Pass the head on, unless it only announces another."""
        status = self._parser.get_status_code()
        if status < _INFORMATION or self._complete:
            return
        self._has_head = True
        self._keeps = self._parser.should_keep_alive() and not self._until_close
        if self._listener is not None:
            self._listener.on_head(status, self._content_type)

    def on_body(self, data: bytes) -> None:
        """Pass a part on."""
        if self._listener is not None and not self._complete:
            self._listener.on_part(data)

    def on_message_complete(self) -> None:
        """Note the end; it is passed on once all that has arrived is parsed."""
        self._complete = self._has_head

    def _end(self) -> None:
        listener, self._listener = self._listener, None
        self._used = True
        self._pool.busy.discard(self)
        if self._keeps and self.is_open:
            self._pool.keep(self, self._place)
        else:
            self._close()
        if listener is not None:
            listener.on_end()

    def _break(self, *, stale: bool) -> None:
        listener, self._listener = self._listener, None
        self._close()
        if listener is not None:
            listener.on_broken(stale=stale)

    def _close(self) -> None:
        self._pool.busy.discard(self)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()

    def sweep(self, now: float) -> None:
        """End the connection if its server takes longer than it may."""
        first, idle, total = self._patience
        since = now - self._asked_at
        is_late = since > total
        if self._answering:
            is_late = is_late or (now - self.heard_at > idle and not self._paused)
        else:
            is_late = is_late or since > first
        if is_late:
            listener, self._listener = self._listener, None
            self._close()
            if listener is not None:
                listener.on_late()


class Pool:
    """Idle connections by place, the one used last on top, and those that work."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin empty."""
        self.loop = loop
        self.outbox = Outbox(loop)
        self.busy: set[Connection] = set()
        self._idle: defaultdict[Place, list[Connection]] = defaultdict(list)
        self._tls: ssl.SSLContext | None = None
        self._timer = loop.call_later(_SWEEP_S, self._sweep)

    def take(self, to: Target) -> Connection | None:
        """Return a connection that is open and was used a moment ago, or None."""
        idle = self._idle.get(to.place)
        oldest = self.loop.time() - KEEP_ALIVE_S
        while idle:
            found = idle.pop()
            if found.is_open and found.heard_at > oldest:
                return found
            found.abandon()
        return None

    async def connect(self, to: Target) -> Connection:
        """Return a new connection.

        Raises:
            OSError, TimeoutError: the server takes none.
        """
        if to.is_tls and self._tls is None:
            self._tls = ssl.create_default_context()
        async with asyncio.timeout(CONNECT_S):
            _, made = await self.loop.create_connection(
                lambda: Connection(self, to.place),
                to.host,
                to.port,
                ssl=self._tls if to.is_tls else None,
            )
        return made

    def keep(self, connection: Connection, place: Place) -> None:
        """Take a connection back whose answer is complete."""
        self._idle[place].append(connection)

    def forget(self, connection: Connection, place: Place) -> None:
        """Drop a connection that has ended."""
        self.busy.discard(connection)
        idle = self._idle.get(place)
        if idle and connection in idle:
            idle.remove(connection)

    def close(self) -> None:
        """End all connections."""
        self._timer.cancel()
        for idle in self._idle.values():
            for each in [*idle]:
                each.abandon()
        for each in [*self.busy]:
            each.abandon()

    def _sweep(self) -> None:
        now = self.loop.time()
        self._timer = self.loop.call_later(_SWEEP_S, self._sweep)
        for each in [*self.busy]:
            each.sweep(now)
        for place, idle in [*self._idle.items()]:
            for each in [each for each in idle if now - each.heard_at > KEEP_ALIVE_S]:
                idle.remove(each)
                each.abandon()
            if not idle:
                del self._idle[place]
