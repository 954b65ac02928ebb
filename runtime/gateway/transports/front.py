"""Connections of clients: requests in, answers out, one after the other."""

import asyncio
import sys
import traceback
from collections import deque
from typing import cast

import httptools

from runtime.gateway import refusals
from runtime.gateway.desk import Answer, Desk
from runtime.gateway.exchange import told
from runtime.gateway.transports import heads
from runtime.gateway.transports.back import Pool
from runtime.gateway.transports.conversation import Conversation
from runtime.gateway.transports.incoming import MAX_AHEAD, MAX_BUFFERED, Incoming
from runtime.gateway.transports.timing import CLIENT_IDLE_S, IDLE_S, LINGER_S, READ_S


class Front(asyncio.Protocol):
    """One connection of one client. Keeps `conversation.Client`."""

    def __init__(self, desk: Desk, pool: Pool, fronts: "set[Front]") -> None:
        """Prepare; the event loop accepts."""
        self._desk = desk
        self._pool = pool
        self._fronts = fronts
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._reading: Incoming | None = None
        self._waiting: deque[Incoming] = deque()
        self._ahead = 0
        self._unparsed = 0
        """Bytes of a body that the parser leaves to us."""
        self._served: Incoming | None = None
        self._out: list[bytes] = []
        self._talk: Conversation | None = None
        self._advancing = False
        self._deaf = False
        """Whether nothing more that comes in is looked at."""
        self._draining = False
        self._paused = self._clogged = False
        self.heard_at = self.began_at = pool.loop.time()

    # ------------------------------------------------------- called by the event loop
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by name
        self._transport.set_write_buffer_limits(high=MAX_BUFFERED)
        self._fronts.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse, also while an answer is on its way: that shows a client that leaves."""
        if self._deaf:
            return
        self.heard_at = self._pool.loop.time()
        try:
            if self._unparsed:
                self._take_unparsed(data)
            else:
                self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._take_unparsed(data[offer.args[0] :])
        except httptools.HttpParserError:
            if not self._deaf:
                self._reading = self._reading or Incoming()
                self._reading.refuse(refusals.invalid("The request is not HTTP."), closing=True)
                self._hurry()
        else:
            if self._reading is not None:
                self._reading.fed(len(data))
                self._hurry()
        if self._waiting and self._transport is not None:
            self._ahead += len(data)
            if self._ahead > MAX_AHEAD and not self._paused:
                self._paused = True
                self._transport.pause_reading()

    def connection_lost(self, _: Exception | None) -> None:
        """End what ran for this client."""
        self._fronts.discard(self)
        self._deaf = True
        talk, self._talk = self._talk, None
        if talk is not None:
            talk.leave()
        self._drop()

    def pause_writing(self) -> None:
        """The client reads slower than the server writes."""
        self._clogged = True
        if self._talk is not None:
            self._talk.pause(paused=True)

    def resume_writing(self) -> None:
        """It has caught up."""
        self._clogged = False
        if self._talk is not None:
            self._talk.pause(paused=False)
        self._advance()

    # ------------------------------------------------------- called by the parser
    def on_message_begin(self) -> None:
        """A request begins."""
        self._reading = Incoming()
        self.began_at = self._pool.loop.time()

    def on_url(self, url: bytes) -> None:
        """Its target, in one piece or several."""
        if self._reading is not None:
            self._reading.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers."""
        if self._reading is not None:
            self._reading.header(name, value)

    def on_headers_complete(self) -> None:
        """Its head is complete."""
        if self._reading is None:
            return
        self._reading.begin(self._parser, self._desk)
        self._welcome()
        self._hurry()

    def on_body(self, data: bytes) -> None:
        """A part of its body."""
        if self._reading is not None:
            self._reading.part(data)
            self._hurry()

    def on_message_complete(self) -> None:
        """It is complete."""
        if self._reading is not None:
            if self._parser.should_upgrade():  # an offer, which is not taken up
                self._unparsed = self._reading.awaited
                if self._unparsed:
                    return
                self._deaf = True
            self._reading.is_complete = True
            self._queue()

    def _take_unparsed(self, data: bytes) -> None:
        """Take the body after an offer to change the protocol: the parser stops before it."""
        if self._reading is None:
            return
        self._unparsed -= min(self._unparsed, len(data))
        self._reading.part(data[: self._reading.awaited])
        self._reading.is_complete = self._reading.is_complete or not self._unparsed
        self._hurry()

    # ------------------------------------------------------- one request after the other
    @property
    def _is_free(self) -> bool:
        return self._served is None and not self._waiting

    def _hurry(self) -> None:
        """Answer a request before it is complete if the rest of it is of no interest."""
        if self._reading is not None and self._reading.is_complete:
            self._deaf = True
            self._queue()

    def _queue(self) -> None:
        assert self._reading is not None, "a request has been read"
        self._waiting.append(self._reading)
        self._reading = None
        self._advance()

    def _advance(self) -> None:
        """Serve what waits, in a loop: answers that are ready at once must not nest."""
        if self._advancing:
            return
        self._advancing = True
        while self._served is None and self._waiting and not self._clogged:
            self._served = self._waiting.popleft()
            self._serve(self._served)
        self._advancing = False
        if not self._waiting and self._transport is not None:
            self._ahead = 0
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
        self._welcome()

    def _welcome(self) -> None:
        """Tell a client that asked whether to send its body, once its turn has come."""
        reading = self._reading
        if self._is_free and reading is not None and reading.expects and not reading.is_ignored:
            reading.expects = False
            self.send(heads.CONTINUE)

    def _serve(self, request: Incoming) -> None:
        exchange = request.exchange
        try:
            if request.refusal is not None:
                self._refuse(request.refusal)
            elif exchange is None:
                page = self._desk.answer(request.method, request.path, request.authorization)
                self.reply(page)
            else:
                exchange.route(*request.asks(self._pool.loop.time()))
                self._talk = Conversation(self, self._pool, exchange, request.path)
                self._talk.begin()
        except Exception as error:  # noqa: BLE001 (the last net: a client gets our words)
            self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        refusal = told(error)
        if refusal is not error:
            traceback.print_exception(error, file=sys.stderr)
        if self._served is not None and self._served.exchange is not None:
            try:
                self._served.exchange.refuse(refusal.status)
            except OSError:  # the row cannot be written: what was refused needs none
                traceback.print_exc(file=sys.stderr)
        self.reply(Answer.of(refusal))

    # ------------------------------------------------------- answers
    def send(self, data: bytes) -> None:
        """Send bytes."""
        if not self._out:
            self._pool.outbox.add(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        if self._out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._out[0] if len(self._out) == 1 else b"".join(self._out))
        self._out.clear()

    def reply(self, answer: Answer) -> None:
        """Send a whole answer."""
        status, headers, body = answer
        head = heads.answer(status, headers, len(body), closing=self._is_last)
        is_head = self._served is not None and self._served.method == "HEAD"
        self.send(head if is_head else head + body)
        self.finish()

    def send_head(self, status: int, headers: dict[str, str]) -> bool:
        """Send the head of a stream; return whether its parts are to be chunks."""
        chunked = self._served is not None and not self._served.is_old
        self.send(heads.stream(status, headers, chunked=chunked, closing=self._is_last))
        return chunked

    def finish(self) -> None:
        """Serve the next request, or end the connection."""
        is_last, self._talk, self._served = self._is_last, None, None
        if is_last:
            self._end()
        else:
            self._advance()

    def abort(self) -> None:
        """End the connection in the middle of an answer."""
        self._talk = self._served = None
        if self._transport is not None:
            self._transport.abort()

    @property
    def _is_last(self) -> bool:
        return self._draining or self._served is None or not self._served.keeps

    def _end(self) -> None:
        """End the connection so that the client can read its answer first.

        Closing a socket with unread bytes in it would take back what was sent.
        """
        unread = self._deaf or self._reading is not None
        self._deaf = True
        self._drop()
        if self._transport is None or self._transport.is_closing():
            return
        self._flush()
        if unread:
            self._transport.write_eof()
            self._pool.loop.call_later(LINGER_S, self._transport.abort)
        else:
            self._transport.close()

    def _drop(self) -> None:
        """Forget the requests that are not to be answered any more."""
        for each in (*self._waiting, self._reading):
            if each is not None and each.exchange is not None:
                each.exchange.left()
        self._waiting.clear()
        self._reading = None

    # ------------------------------------------------------- called by the wire
    def drain(self) -> None:
        """Take no more requests; end once the one that runs is answered."""
        self._draining = True
        if self._is_free and (self._reading is None or not self._reading.has_head):
            self._end()

    def sweep(self, now: float) -> None:
        """End a connection on which nothing has come for too long."""
        unsent = self._transport is not None and self._transport.get_write_buffer_size()
        idle = self._is_free and now - self.heard_at > (IDLE_S if unsent else CLIENT_IDLE_S)
        if idle or (self._reading is not None and now - self.began_at > READ_S):
            self.abort()
