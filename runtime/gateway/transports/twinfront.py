"""A client's connection of the transport that is made of aiohttp."""

import asyncio
import logging
from http import HTTPStatus
from typing import cast

from aiohttp import web

from runtime.gateway import refusals
from runtime.gateway.desk import Answer
from runtime.gateway.transports.seats import Seat, Seats
from runtime.gateway.transports.timing import CLIENT_IDLE_S

SILENT = logging.getLogger(__name__)
"""aiohttp would log what it cannot parse, keys included."""
SILENT.setLevel(logging.CRITICAL + 1)


class TwinFront(web.RequestHandler):
    """A client's connection that repeats nothing of what it cannot parse. Keeps `seats.Guest`."""

    __slots__ = ("_seat", "_seats", "_transport", "has_proved")

    def __init__(self, seats: Seats, server: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        """Prepare; the event loop accepts."""
        super().__init__(
            server, loop=loop, keepalive_timeout=CLIENT_IDLE_S, auto_decompress=False,
            access_log=SILENT, logger=SILENT,
        )  # fmt: skip
        self._seats = seats
        self._transport: asyncio.Transport | None = None
        self._seat: Seat | None = None
        self.has_proved = False
        """Whether anything was answered to a key that is somebody's."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, if there is room."""
        to = cast("asyncio.Transport", transport)  # uvloop's is none by name
        self._seat = self._seats.enter(self, to)
        if self._seat is not None:
            self._transport = to
            super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Leave its seat."""
        seat, self._seat = self._seat, None
        if seat is not None:
            seat.leave()
        super().connection_lost(exc)

    def work(self) -> None:
        """A request is at work whose key is somebody's."""
        self.has_proved = True
        if self._seat is not None:
            self._seat.work()

    def rest(self) -> None:
        """It is answered."""
        if self._seat is not None:
            self._seat.rest()

    def give_way(self) -> bool:
        """End for another client's connection, unless an answer is not sent yet; say so.

        One that is at work has no seat among the idle ones.
        """
        to = self._transport
        if to is None or (self.has_proved and to.get_write_buffer_size()):
            return False
        self._seat = None
        to.abort()
        return True

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer in our words; aiohttp's would quote the header at which it stopped."""
        super().handle_error(request, status, exc, message)
        refusal = refusals.invalid("The request is not HTTP.")
        answer = response(Answer.of(refusal, ""))
        answer.headers["Server"] = "fleetctl"
        answer.force_close()
        return answer


def response(answer: Answer) -> web.Response:
    """Return an answer of the gateway's own, as aiohttp sends it."""
    return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
