"""Connections of clients: requests in, answers out, one after the other."""

import asyncio
from collections import deque
from functools import lru_cache
from http import HTTPStatus
from typing import cast

from runtime.gateway import refusals
from runtime.gateway.bodies import UNREAD
from runtime.gateway.defects import told
from runtime.gateway.desk import Answer, Desk
from runtime.gateway.refusals import RefusalError
from runtime.gateway.transports import heads
from runtime.gateway.transports.conversation import Conversation
from runtime.gateway.transports.incoming import MAX_AHEAD, MAX_BUFFERED, Incoming
from runtime.gateway.transports.intake import Intake
from runtime.gateway.transports.pool import Pool
from runtime.gateway.transports.seats import Seat, Seats
from runtime.gateway.transports.timing import CLIENT_IDLE_S, HEAD_S, IDLE_S, LINGER_S, READ_S


class Front(asyncio.Protocol):
    """One connection of one client. Keeps `client.Client`, `intake.Receiver`, `seats.Guest`."""

    def __init__(self, desk: Desk, pool: Pool, fronts: "set[Front]", seats: Seats) -> None:
        """Prepare; the event loop accepts."""
        self._desk = desk
        self._pool = pool
        self._loop = pool.loop
        self._outbox = pool.outbox
        self._fronts = fronts
        self._seats = seats
        self._seat: Seat | None = None
        self._has_proved = False
        """Whether anything was answered to a key that is somebody's."""
        self._transport: asyncio.Transport | None = None
        self._intake = Intake(desk, self, pool.loop)
        self._waiting: deque[Incoming] = deque()
        self._ahead = 0
        self._served: Incoming | None = None
        self._talk: Conversation | None = None
        self._advancing = False
        self._draining = False
        self._paused = self._clogged = False
        self._unread = 0
        self.heard_at = pool.loop.time()

    # ------------------------------------------------------- called by the event loop
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, if there is room."""
        to = cast("asyncio.Transport", transport)  # uvloop's is none by name
        self._seat = self._seats.enter(self, to)
        if self._seat is None:
            return
        self._transport = to
        self._transport.set_write_buffer_limits(high=MAX_BUFFERED)
        self._fronts.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse, also while an answer is on its way: that shows a client that leaves."""
        if self._intake.is_deaf:
            return
        self.heard_at = self._loop.time()
        self._intake.feed(data)
        if self._waiting and self._transport is not None:
            self._ahead += len(data)
            if self._ahead > MAX_AHEAD and not self._paused:
                self._paused = True
                self._transport.pause_reading()

    def connection_lost(self, _: Exception | None) -> None:
        """End what ran for this client, and keep no body of its: garbage is seldom looked for."""
        self._fronts.discard(self)
        self._count_unread(0)
        seat, self._seat = self._seat, None
        if seat is not None:
            seat.leave()
        talk, self._talk, self._served = self._talk, None, None
        if talk is not None:
            talk.leave()
        self._drop()

    def pause_writing(self) -> None:
        """The client reads slower than the server writes; where many do, this one is given up."""
        self._clogged = True
        if self._transport is not None:
            try:
                self._count_unread(self._transport.get_write_buffer_size())
            except RefusalError:
                self._transport.abort()
        if self._talk is not None:
            self._talk.pause(paused=True)

    def resume_writing(self) -> None:
        """It has caught up."""
        self._clogged = False
        self._count_unread(0)
        if self._talk is not None:
            self._talk.pause(paused=False)
        self._advance()

    def _count_unread(self, size: int) -> None:
        before, self._unread = self._unread, 0
        if before:
            self._desk.bodies.give_back(UNREAD, before)
        if size:
            self._desk.bodies.take(UNREAD, size)
            self._unread = size

    # ------------------------------------------------------- one request after the other
    @property
    def _is_free(self) -> bool:
        return self._served is None and not self._waiting

    def take(self, request: Incoming) -> None:
        """Serve a request, after those that came before it."""
        if self._served is not None or self._waiting or self._clogged:
            self._waiting.append(request)
            self._advance()
            return
        self._advancing = True
        self._serve(request)
        self._advancing = False
        if self._waiting or self._intake.reading is not None:
            self._advance()

    def welcome(self) -> None:
        """Tell a client that asked whether to send its body, once its turn has come."""
        reading = self._intake.reading
        if reading is not None and reading.expects and self._is_free and not reading.is_ignored:
            reading.expects = False
            self.send(heads.CONTINUE)

    def _advance(self) -> None:
        """Serve what waits, in a loop: answers that are ready at once must not nest."""
        if self._advancing:
            return
        self._advancing = True
        while self._served is None and self._waiting and not self._clogged:
            self._serve(self._waiting.popleft())
        self._advancing = False
        if not self._waiting and self._transport is not None:
            self._ahead = 0
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
        if self._intake.reading is not None:
            self.welcome()

    def _serve(self, request: Incoming) -> None:
        self._served = request
        exchange, head = request.exchange, request.head
        try:
            if request.refusal is not None:
                self._refuse(request.refusal)
            elif exchange is None:
                answer = self._desk.answer(head.method, head.path, head.proof)
                self._has_proved |= answer.status == HTTPStatus.OK and head.path.startswith("/v1/")
                self.reply(answer)
            else:
                self._has_proved = True
                exchange.route(*head.asks(request.take_body(), self._loop.time()))
                self._talk = Conversation(self, self._pool, exchange, head.path)
                if self._seat is not None:
                    self._seat.work()
                self._talk.begin()
        except Exception as error:  # noqa: BLE001 (the last net: a client gets our words)
            self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        refusal = told(error)
        number = ""
        if self._served is not None and self._served.exchange is not None:
            number = self._served.exchange.request_id
            self._served.exchange.refuse(refusal.status)
        self.reply(Answer.of(refusal, self._served.head.path if self._served else "", number))

    # ------------------------------------------------------- answers
    def send(self, data: bytes) -> None:
        """Send bytes, if the rows of this turn can be written."""
        if self._transport is not None:
            self._outbox.add(self._transport, data, b"")

    def reply(self, answer: Answer) -> None:
        """Send a whole answer."""
        status, headers, body = answer
        head = heads.answer(status, headers, len(body), closing=self._is_last)
        is_head = self._served is not None and self._served.head.method == "HEAD"
        if self._transport is not None:
            self._outbox.add(self._transport, head if is_head else head + body)
        self.finish()

    def pass_back(self, start: bytes, request_id: str, body: bytes) -> None:
        """Send a server's whole answer; `start` as `heads.answer_start` makes it."""
        is_last = self._is_last
        if self._transport is not None and self._served is not None:
            data = heads.passed_back(start, request_id, body, closing=is_last)
            self._outbox.add(self._transport, data, _unrecorded(self._served.head.path))
        self._finish(is_last=is_last)

    def send_head(self, status: int, headers: dict[str, str]) -> bool:
        """Send the head of a stream; return whether its parts are to be chunks."""
        chunked = self._served is not None and not self._served.head.is_old
        self.send(heads.stream(status, headers, chunked=chunked, closing=self._is_last))
        return chunked

    def finish(self) -> None:
        """Serve the next request, or end the connection."""
        self._finish(is_last=self._is_last)

    def _finish(self, *, is_last: bool) -> None:
        self._talk = self._served = None
        self.heard_at = self._loop.time()
        if self._seat is not None:
            self._seat.rest()
        if is_last:
            self._end()
        elif self._waiting or self._intake.reading is not None:
            self._advance()

    def abort(self) -> None:
        """End the connection in the middle of an answer, and what runs for it."""
        talk, self._talk, self._served = self._talk, None, None
        if talk is not None:
            talk.leave()
        if self._transport is not None:
            self._transport.abort()

    @property
    def _is_last(self) -> bool:
        return self._draining or self._served is None or not self._served.keeps

    def _end(self) -> None:
        """End the connection so that the client can read its answer first.

        Closing a socket with unread bytes in it would take back what was sent.
        """
        unread = self._intake.is_deaf or self._intake.reading is not None
        self._drop()
        if self._transport is None or self._transport.is_closing():
            return
        self._outbox.flush()
        if unread:
            self._transport.write_eof()
            self._loop.call_later(LINGER_S, self._transport.abort)
        else:
            self._transport.close()

    def _drop(self) -> None:
        """Forget the requests that are not to be answered any more."""
        for each in self._waiting:
            if each.exchange is not None:
                each.exchange.left()
        self._waiting.clear()
        self._intake.drop()

    # ------------------------------------------------------- called by the wire
    def drain(self) -> None:
        """Take no more requests; end once the one that runs is answered."""
        self._draining = True
        reading = self._intake.reading
        if self._is_free and (reading is None or not reading.head.is_complete):
            self._end()

    def sweep(self, now: float) -> None:
        """End a connection on which nothing has come for too long."""
        unsent = self._transport is not None and self._transport.get_write_buffer_size()
        idle = self._is_free and now - self.heard_at > (IDLE_S if unsent else CLIENT_IDLE_S)
        reading = self._intake.reading
        limit = HEAD_S if reading is not None and not reading.head.is_complete else READ_S
        if idle or (reading is not None and now - self._intake.began_at > limit):
            self.abort()
        elif self._seat is not None and self._talk is None and not unsent:
            self._seat.rest_again()

    # ------------------------------------------------------- called by the seats
    def give_way(self) -> bool:
        """End for another client's connection, unless a request is at work; say whether it has.

        A body that is on its way is work once its key is known, and so is an answer until it is
        sent. A head is not, nor an answer to nobody in particular.
        """
        reading = self._intake.reading
        is_read = reading is not None and reading.exchange is not None and not reading.is_ignored
        if self._talk is not None or is_read or self._transport is None:
            return False
        self._outbox.flush()  # what was answered in this turn
        if self._has_proved and self._transport.get_write_buffer_size():
            return False
        self.abort()
        self._seat = None
        return True


@lru_cache
def _unrecorded(path: str) -> bytes:
    status, headers, body = Answer.of(refusals.unrecorded(), path)
    return heads.answer(status, headers, len(body), closing=True) + body
