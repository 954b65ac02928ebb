"""Requests from the bytes of a client's connection."""

import asyncio
from collections.abc import Callable, Sized
from typing import Final

import httptools

from runtime.gateway.body import errors
from runtime.gateway.body.errors import ApiError
from runtime.gateway.http.incoming import (
    MAX_BODY,
    MAX_HEAD,
    IncomingRequest,
    RequestHead,
    repeated_request,
)
from runtime.gateway.http.messages import RepeatedHead, repeated_head
from runtime.gateway.http.write_batch import LoopTurns
from runtime.gateway.request.state import GatewayState
from runtime.gateway.traffic.limits import UnreadBytes

_FIRST_PIECE: Final = 4096
"""Bytes that the parser takes at once, whatever they are: most heads."""
_MAX_OVERHEAD: Final = 2 * MAX_HEAD
"""Upper bound of the bytes of a connection that are neither head nor body: heads of chunks, their
extensions, trailers. `_PER_BYTE` for each byte of a body are free, so that uploads in chunks of 5
bytes or more stay below, and `_PER_REQUEST` for each head, beyond its headers."""
_PER_BYTE: Final = 2
_PER_REQUEST: Final = 256


class RequestReader:
    """The parser of a connection; httptools calls its methods `on_...`.

    `on_request` takes a request that is complete, or need not be; `on_head` is called when the head
    of `reading` is complete.
    """

    def __init__(
        self,
        state: GatewayState,
        loop: asyncio.AbstractEventLoop,
        on_request: Callable[[IncomingRequest], None],
        on_head: Callable[[], None],
    ) -> None:
        self._state, self._loop = state, loop
        self._on_request, self._on_head = on_request, on_head
        self._parser = httptools.HttpRequestParser(self)
        self._repeated: RepeatedHead[RequestHead] | None = None
        self._new_head: RequestHead | None = None
        """The head that becomes `_repeated` once its bytes are parsed."""
        self._is_at_start = False
        """Whether the next head to end stands at the start of the bytes that came last."""
        self._unparsed = 0
        """Bytes of a body that the parser does not see: those after a repeated head, and those
        after an offer to change the protocol, where the parser stops."""
        self._has_offer = False
        self._overhead = 0
        """Bytes that count towards `_MAX_OVERHEAD`."""
        self.reading: IncomingRequest | None = None
        """The request that is incomplete, if there is one."""
        self.is_closed = False
        """Whether nothing more that comes in is read."""
        self.began_at = 0.0
        """When the newest request began; the event loop's time, seconds."""

    def feed(self, data: bytes, most: int = 0) -> bytes:
        """Take bytes, and return those that are for a later turn of the event loop.

        `most`: bytes that the parser may take now; 0: few, and none of a body in chunks, which may
        be tiny. What breaks the rules is a request that is refused.
        """
        if self._overhead > _MAX_OVERHEAD:
            self.reading = self.reading or _unread()
            self.refuse(errors.unclear_length())
            return b""
        reading, rest = self.reading, b""
        if self._unparsed:
            rest = data[self._unparsed :]
            self._feed_unparsed(data[: self._unparsed])
        elif reading is not None:
            if reading.head.transfer and not most:
                return data
            rest = self._parse_some(data, max(most, _FIRST_PIECE, reading.missing))
        elif not self._feed_repeated(data):
            rest = self._parse_some(data, max(most, _FIRST_PIECE))
        reading = self.reading
        if reading is not None:
            if not reading.is_complete:
                reading.count_received(len(data) - len(rest))
            self._cut_short()
        return b"" if self.is_closed else rest

    def refuse(self, error: ApiError) -> None:
        """Refuse the incomplete request; nothing after it is read."""
        if self.reading is not None:
            self.reading.refuse(error, closing=True)
            self._cut_short()

    def close(self) -> None:
        """Read nothing more; the request that is incomplete gets no answer."""
        self.is_closed = True
        reading, self.reading = self.reading, None
        if reading is not None and reading.proxied is not None:
            reading.proxied.on_client_disconnect()

    def release(self) -> None:
        """Let go of the parser and of the connection, which has ended: no cycle stays behind."""
        del self._parser, self._on_request, self._on_head

    # ------------------------------------------------------- without the parser
    def _feed_repeated(self, data: bytes) -> bool:
        """Take a request whose head the parser has seen before; say whether it is one."""
        repeated = self._repeated
        split = repeated.split(data) if repeated is not None else None
        if repeated is None or split is None:
            return False
        length, body, values = split
        if len(body) > length:
            return False  # requests that were sent ahead are for the parser to separate
        request = repeated_request(repeated.meaning, repeated.names, values)
        if len(body) == length <= MAX_BODY:
            request.arrive(body, self._state)
            self._on_request(request)
            return True
        self.began_at = self._loop.time()
        self.reading, self._unparsed = request, length - len(body)
        request.start(length, self._state)
        request.add(body)
        self._on_head()
        return True

    def _feed_unparsed(self, data: bytes) -> None:
        if self.reading is None:
            return
        body = data[: self._unparsed]
        self._unparsed -= len(body)
        self.reading.add(body)
        self._cut_short()
        if self._unparsed or self.is_closed:
            return
        if self._has_offer:
            self.is_closed = True
        self._complete()

    # ------------------------------------------------------- with the parser
    def _parse_some(self, data: bytes, most: int) -> bytes:
        """Parse `most` bytes, and all bytes of a body with a known length; return the rest.

        Such a body takes the parser no time.
        """
        self._parse(data[:most])
        rest = data[most:]
        if rest and not self._has_offer and self.reading is not None and self.reading.missing > 0:
            known = self.reading.missing
            self._parse(rest[:known])
            rest = rest[known:]
        return rest

    def _parse(self, data: bytes) -> None:
        self._is_at_start = self.reading is None
        self._overhead = max(0, self._overhead) + len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._feed_unparsed(data[offer.args[0] :])
        except httptools.HttpParserError:
            if not self.is_closed:
                self.reading = self.reading or _unread()
                self.reading.refuse(errors.invalid("The request is not HTTP."), closing=True)
        else:
            if self._new_head is not None:
                self._repeated, self._new_head = repeated_head(data, self._new_head), None

    def on_message_begin(self) -> None:
        """Begin a request; the parser may find one behind the last that is read."""
        if not self.is_closed:
            self.reading = _unread()
            self.began_at = self._loop.time()

    def on_url(self, url: bytes) -> None:
        """Take the request's target, or a piece of the target."""
        if self.reading is not None:
            self.reading.head.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        if self.reading is not None:
            self.reading.head.add_header(name, value)

    def on_headers_complete(self) -> None:
        """Take the end of the head."""
        if self.reading is None:
            return
        head = self.reading.head
        head.complete(self._parser)
        self._overhead -= head.size + len(head.url) + _PER_REQUEST
        self.reading.start(int(head.length or 0), self._state)
        if self._is_at_start:
            is_repeatable = head.is_repeatable and not self.reading.is_ignored
            self._new_head = head if is_repeatable else None
        self._is_at_start = False
        self._on_head()
        self._cut_short()

    def on_body(self, data: bytes) -> None:
        """Take a part of the body."""
        if self.reading is not None:
            self._overhead -= (1 + _PER_BYTE) * len(data)
            self.reading.add(data)
            self._cut_short()

    def on_message_complete(self) -> None:
        """Take the end of the request."""
        if self.reading is not None:
            if self._parser.should_upgrade():  # an offer, which is not taken up
                self._has_offer = True
                self._unparsed = self.reading.missing
                if self._unparsed:
                    return
                self.is_closed = True
            self._complete()

    def _complete(self) -> None:
        if self.reading is not None:
            request, self.reading = self.reading, None
            request.finish()
            self._on_request(request)

    def _cut_short(self) -> None:
        """Answer an incomplete request if its rest does not matter."""
        if self.reading is not None and self.reading.is_complete:
            self.is_closed = True
            self._complete()


def _unread() -> IncomingRequest:
    head = RequestHead()
    return IncomingRequest(head, head.meta)


_MAX_PIPELINED: Final = 64 * 1024
"""Bytes of requests sent ahead by a client before the client is read no further."""
_PIECE: Final = 16 * 1024
"""Most bytes that are parsed in a turn of their own: in chunks of 2 bytes they take 3 ms."""


class ReadingLimit:
    """The limit on the bytes of a connection that a turn of the event loop parses.

    A read brings up to 256 KiB of a connection. In chunks of a few bytes, or in requests sent
    ahead, they would take tens of milliseconds, times the connections that bring some at once. So
    the parser gets a piece at a time, each in a turn of its own, and the connection is not read
    until all are parsed.
    """

    _transport: asyncio.Transport
    """Set by `start`, before any other call."""

    def __init__(
        self, reader: RequestReader, waiting: Sized, turns: LoopTurns, postponed: UnreadBytes
    ) -> None:
        self._reader, self._waiting, self._turns = reader, waiting, turns
        self._postponed = postponed
        self._rest = b""
        """What has come and is not parsed yet."""
        self._pipelined_bytes = 0
        self._is_paused = False
        """Whether requests that wait keep the connection from being read."""

    def start(self, transport: asyncio.Transport) -> None:
        """Take the connection's transport."""
        self._transport = transport

    def slow_down(self, taken: int, rest: bytes) -> None:
        """Read no more in this turn, after bytes were taken; `rest` is for later turns."""
        self._count_pipelined(taken)
        if rest:
            self._postpone(rest)
        elif self._is_paused:
            self._transport.pause_reading()
        elif not self._waiting and not self._transport.is_closing():
            # A transport would read on for as long as more has come, many times its buffer.
            self._transport.pause_reading()
            self._turns.loop.call_soon(self._read_on)

    def speed_up(self) -> None:
        """Read on, as no request waits."""
        self._pipelined_bytes = 0
        if self._is_paused:
            self._is_paused = False
            self._read_on()

    def end(self) -> None:
        """Forget the bytes that wait: the connection has ended."""
        self._rest = b""
        self._postponed.release()

    def _count_pipelined(self, taken: int) -> None:
        if self._waiting:
            self._pipelined_bytes += taken
            self._is_paused = self._pipelined_bytes > _MAX_PIPELINED

    def _postpone(self, rest: bytes) -> None:
        reading = self._reader.reading
        known = None if reading is None else reading.proxied
        client = "" if known is None else known.record.row.client
        if not self._postponed.acquire(client, len(rest)):
            self._reader.refuse(errors.no_memory())
            if not self._reader.is_closed:  # requests sent ahead, of which none is incomplete
                self._transport.abort()
        elif not self._transport.is_closing():
            self._transport.pause_reading()
            self._rest = rest
            self._turns.add(self._take_piece)

    def _take_piece(self) -> None:
        data, self._rest = self._rest, b""
        self._postponed.release()
        if self._reader.is_closed or self._transport.is_closing():
            return
        rest = self._reader.feed(data, _PIECE)
        self._count_pipelined(len(data) - len(rest))
        if rest:
            self._postpone(rest)
        else:
            self._read_on()

    def _read_on(self) -> None:
        if not (self._rest or self._is_paused or self._transport.is_closing()):
            self._transport.resume_reading()
