"""What comes in over one client's connection, taken apart into requests."""

import asyncio
from typing import Protocol

import httptools

from runtime.gateway import refusals
from runtime.gateway.desk import MAX_BODY, Desk
from runtime.gateway.transports.incoming import Incoming
from runtime.gateway.transports.recognized import Recognized, recognized
from runtime.gateway.transports.requesthead import RequestHead


class Receiver(Protocol):
    """Who serves the requests."""

    def take(self, request: Incoming) -> None:
        """Serve a request, after those that came before it."""

    def welcome(self) -> None:
        """Tell a client that asked whether to send its body, once its turn has come."""


class Intake:
    """Parses; the parser's callbacks are methods of this."""

    def __init__(self, desk: Desk, receiver: Receiver, loop: asyncio.AbstractEventLoop) -> None:
        """Begin before the first byte."""
        self._desk = desk
        self._receiver = receiver
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._known: Recognized[RequestHead] | None = None
        self._learned: RequestHead | None = None
        self._is_first = False
        """Whether the next head to end stands at the start of what came in last."""
        self._unparsed = 0
        """Bytes of a body that are left to us: those after a head that was recognized, and
        those after an offer to change the protocol, where the parser stops."""
        self._has_offer = False
        self.reading: Incoming | None = None
        """The request that is incomplete, if there is one."""
        self.is_deaf = False
        """Whether nothing more that comes in is looked at."""
        self.began_at = 0.0
        """When the newest request began; the event loop's time, seconds."""

    def feed(self, data: bytes) -> None:
        """Take what came in; whatever breaks the rules is a request that is refused."""
        if self._unparsed:
            self._take_unparsed(data)
        elif self.reading is not None or not self._recognize(data):
            self._parse(data)
        reading = self.reading
        if reading is not None:
            if not reading.is_complete:
                reading.fed(len(data))
            self._hurry()

    def drop(self) -> None:
        """Look at nothing more; the request that is incomplete is not to be answered."""
        self.is_deaf = True
        reading, self.reading = self.reading, None
        if reading is not None and reading.exchange is not None:
            reading.exchange.left()

    # ------------------------------------------------------- without the parser
    def _recognize(self, data: bytes) -> bool:
        """Take a request whose head is one that the parser saw before."""
        known = self._known
        split = known.split(data) if known is not None else None
        if known is None or split is None or len(split[1]) > split[0]:
            return False  # sent ahead: that is for the parser to take apart
        length, body = split
        request = Incoming(known.meaning)
        if len(body) == length <= MAX_BODY:
            request.arrive(body, self._desk)
            self._receiver.take(request)
            return True
        self.began_at = self._loop.time()
        self.reading, self._unparsed = request, length - len(body)
        request.begin(length, self._desk)
        request.part(body)
        return True

    def _take_unparsed(self, data: bytes) -> None:
        if self.reading is None:
            return
        mine, rest = data[: self._unparsed], data[self._unparsed :]
        self._unparsed -= len(mine)
        self.reading.part(mine)
        self._hurry()
        if self._unparsed or self.is_deaf:
            return
        if self._has_offer:
            self.is_deaf = True
        self._complete()
        if rest and not self.is_deaf:
            self._parse(rest)

    # ------------------------------------------------------- with the parser
    def _parse(self, data: bytes) -> None:
        self._is_first = self.reading is None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._take_unparsed(data[offer.args[0] :])
        except httptools.HttpParserError:
            if not self.is_deaf:
                self.reading = self.reading or Incoming(RequestHead())
                self.reading.refuse(refusals.invalid("The request is not HTTP."), closing=True)
        else:
            if self._learned is not None:
                self._known, self._learned = recognized(data, self._learned), None

    def on_message_begin(self) -> None:
        """A request begins; the parser may find one behind the last that is looked at."""
        if self.is_deaf:
            return
        self.reading = Incoming(RequestHead())
        self.began_at = self._loop.time()

    def on_url(self, url: bytes) -> None:
        """Its target, in one piece or several."""
        if self.reading is not None:
            self.reading.head.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers."""
        if self.reading is not None:
            self.reading.head.header(name, value)

    def on_headers_complete(self) -> None:
        """Its head is complete."""
        if self.reading is None:
            return
        head = self.reading.head
        head.complete(self._parser)
        self.reading.begin(int(head.length or 0), self._desk)
        if self._is_first:
            can_be = head.is_repeatable and not self.reading.is_ignored
            self._learned = head if can_be else None
        self._is_first = False
        self._receiver.welcome()
        self._hurry()

    def on_body(self, data: bytes) -> None:
        """A part of its body."""
        if self.reading is not None:
            self.reading.part(data)
            self._hurry()

    def on_message_complete(self) -> None:
        """It is complete."""
        if self.reading is not None:
            if self._parser.should_upgrade():  # an offer, which is not taken up
                self._has_offer = True
                self._unparsed = self.reading.awaited
                if self._unparsed:
                    return
                self.is_deaf = True
            self._complete()

    def _complete(self) -> None:
        if self.reading is not None:
            request, self.reading = self.reading, None
            request.is_complete = True
            self._receiver.take(request)

    def _hurry(self) -> None:
        """Answer a request before it is complete if the rest of it is of no interest."""
        if self.reading is not None and self.reading.is_complete:
            self.is_deaf = True
            self._complete()
