"""Connections to the servers, kept open between requests."""

import asyncio
from enum import Enum, auto
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

import httptools

from runtime.gateway.routing import USUAL_PATIENCE, Patience
from runtime.gateway.transports.outbox import JOINED, Outbox
from runtime.gateway.transports.recognized import recognized
from runtime.gateway.transports.timing import STALE_S

if TYPE_CHECKING:
    from runtime.gateway.transports.pool import Home

_JSON: Final = "application/json"
_INFORMATION: Final = 200
"""Below: answers that only announce another."""


class Meaning(NamedTuple):
    """What the head of a whole answer says."""

    status: int
    content_type: str


class Listener(Protocol):
    """Who waits for a server's answer.

    After `on_whole`, `on_end`, `on_late` or `on_broken`, nothing more comes.
    """

    def on_whole(self, status: int, content_type: str, body: bytes) -> None:
        """All of an answer is there, and nothing of it has been told before."""

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


class _Stage(Enum):
    """How far the answer to the newest request has come."""

    AWAITED = auto()
    BEGUN = auto()
    HAS_HEAD = auto()
    COMPLETE = auto()


# Python 3.11 takes ten times as long for a member of an enumeration as for a name.
_AWAITED, _BEGUN, _HAS_HEAD, _COMPLETE = _Stage


class Connection(asyncio.Protocol):
    """One connection to one server; one request at a time."""

    def __init__(self, home: "Home", loop: asyncio.AbstractEventLoop, outbox: Outbox) -> None:
        """Prepare; the event loop connects."""
        self._home = home
        self._loop = loop
        self._outbox = outbox
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._listener: Listener | None = None
        self._used = False
        self._stage = _AWAITED
        self._until_close = True
        self._content_type = _JSON
        self._keeps = self._paused = self._has_part = False
        self._patience = USUAL_PATIENCE
        self.heard_at = self._asked_at = loop.time()

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, listener: Listener, head: bytes, body: bytes, patience: Patience) -> None:
        """Send a request; its answer goes to `listener`, and may take so long."""
        assert self._transport is not None, "the connection has been made"
        self._listener = listener
        self._patience = patience
        self._stage = _AWAITED
        self._has_part = False
        self.heard_at = self._asked_at = self._loop.time()
        if len(body) <= JOINED:
            self._outbox.add(self._transport, head + body)
        else:  # joined, it would be in memory twice
            self._outbox.add(self._transport, head)
            self._outbox.add(self._transport, body)

    def abandon(self) -> None:
        """End the connection, which makes the server end the request; nobody hears of it."""
        self._listener = None
        self._close()

    def pause(self, *, paused: bool) -> None:
        """Read no more for now, or again."""
        if paused != self._paused and self._transport is not None and self.is_open:
            self._paused = paused
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
                self.heard_at = self._loop.time()

    # ------------------------------------------------------- called by the event loop
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by name
        self._home.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse; whatever breaks the rules ends the connection."""
        self.heard_at = self._loop.time()
        if self._listener is None:  # nothing was asked
            self._close()
            return
        is_first = self._stage is _AWAITED
        if is_first and self._recognize(data):
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._break(stale=False)
            return
        if self._stage is _COMPLETE:
            if is_first and self._keeps:
                self._learn(data)
            self._end()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits."""
        self._home.forget(self)
        if self._stage is _HAS_HEAD and self._until_close and error is None:
            self._end()
        else:
            fresh = self._loop.time() - self._asked_at < STALE_S
            self._break(stale=self._used and self._stage is _AWAITED and fresh)

    # ------------------------------------------------------- without the parser
    def _recognize(self, data: bytes) -> bool:
        """Take an answer that is whole and whose head is one that the parser saw before."""
        known = self._home.known
        split = known.split(data) if known is not None else None
        if known is None or split is None or len(split[1]) != split[0]:
            return False
        listener, self._listener = self._listener, None
        self._used = True
        self._home.keep(self)
        if listener is not None:
            listener.on_whole(*known.meaning, split[1])
        return True

    def _learn(self, data: bytes) -> None:
        status = self._parser.get_status_code()
        if status == HTTPStatus.OK and self._content_type == _JSON:
            self._home.known = recognized(data, Meaning(status, self._content_type))

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
        if self._stage is _COMPLETE:
            self._keeps = False
            return
        self._stage = _BEGUN
        self._until_close = True
        self._content_type = _JSON

    def on_headers_complete(self) -> None:
        """Pass the head on, unless it only announces another."""
        status = self._parser.get_status_code()
        if status < _INFORMATION or self._stage is _COMPLETE:
            return
        self._stage = _HAS_HEAD
        self._keeps = self._parser.should_keep_alive() and not self._until_close
        if self._listener is not None:
            self._listener.on_head(status, self._content_type)

    def on_body(self, data: bytes) -> None:
        """Pass a part on."""
        self._has_part = True
        if self._listener is not None and self._stage is not _COMPLETE:
            self._listener.on_part(data)

    def on_message_complete(self) -> None:
        """Note the end; it is passed on once all that has arrived is parsed."""
        if self._stage is _HAS_HEAD:
            self._stage = _COMPLETE

    # ------------------------------------------------------- the end of an answer
    def _end(self) -> None:
        listener, self._listener = self._listener, None
        self._used = True
        if self._keeps and self.is_open:
            self.pause(paused=False)  # a client that was slow is not the next one
            self._home.keep(self)
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
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()

    def sweep(self, now: float) -> None:
        """End the connection if its server takes longer than it may.

        The head of a stream says nothing: vLLM sends it before it has begun to generate.
        """
        if self._listener is None:
            return
        first, idle, total = self._patience
        since = now - self._asked_at
        is_late = since > total
        if not self._has_part:
            is_late = is_late or since > first
        else:
            is_late = is_late or (now - self.heard_at > idle and not self._paused)
        if is_late:
            listener, self._listener = self._listener, None
            self._close()
            listener.on_late()
