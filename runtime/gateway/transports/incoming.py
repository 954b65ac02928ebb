"""One request as it comes in over a client's connection."""

from typing import Final

from runtime.gateway import refusals
from runtime.gateway.bodies import SMALL
from runtime.gateway.desk import MAX_BODY, Desk
from runtime.gateway.exchange import Exchange
from runtime.gateway.refusals import RefusalError
from runtime.gateway.transports.requesthead import MAX_HEAD, RequestHead

MAX_IGNORED: Final = 65_536
"""Largest body in bytes that is read though its request is refused; above, the connection ends."""
MAX_BUFFERED: Final = 256 * 1024
"""Bytes of an answer that wait for the client before the server is read no further."""
MAX_AHEAD: Final = 64 * 1024
"""Bytes of requests that a client may send ahead before it is read no further."""
_OVERHEAD: Final = 16
"""Largest part of chunk heads in an upload, per byte of it: honest ones stay below six."""


class Incoming:
    """What has been read of one request, and whether it is refused already."""

    __slots__ = (
        "_fed", "_length", "_parts", "_size", "_whole", "exchange", "expects", "head",
        "is_complete", "keeps", "refusal",
    )  # fmt: skip

    def __init__(self, head: RequestHead) -> None:
        """Begin; the head may still grow."""
        self.head = head
        self.keeps = self.expects = self.is_complete = False
        self.exchange: Exchange | None = None
        self.refusal: RefusalError | None = None
        self._parts: list[bytes] = []
        self._whole: bytes | None = None
        self._length = self._size = self._fed = 0

    def take_body(self) -> bytes:
        """Return the body, as far as it was read; it is kept no longer."""
        whole, self._whole = self._whole, None
        if whole is None:
            whole = b"".join(self._parts)
            self._parts.clear()
        return whole

    def begin(self, length: int, desk: Desk) -> None:
        """The head is complete: find out who asks, before the body is read.

        Args:
            length: Of the body in bytes; 0 where the head does not say.
            desk: Where requests for servers are received.
        """
        head, self._length = self.head, length
        self.keeps, self.expects = head.keeps, head.expects
        if (flaw := head.flaw()) is not None:
            self.refuse(flaw, closing=True)
        elif head.asks_a_server:
            self.admit(desk)
            if self.refusal is None and length > MAX_BODY:
                self.refuse(refusals.too_large(MAX_BODY))
            self._hold(length)
        if self.is_ignored and (self.expects or length > MAX_IGNORED):
            self.keeps = False
            self.is_complete = True

    def admit(self, desk: Desk) -> None:
        """Find out who asks for an answer of a server."""
        try:
            self.exchange = desk.begin(self.head.path, self.head.proof)
            self.exchange.admit()
        except RefusalError as error:
            self.refuse(error)

    def arrive(self, body: bytes, desk: Desk) -> None:
        """Head and body have come at once: begin and end with them.

        The head is one of those that ask a server and were found without a flaw.
        """
        self.keeps = self.is_complete = True
        self._whole = body
        self.admit(desk)
        if len(body) > SMALL:
            self._hold(len(body))

    @property
    def awaited(self) -> int:
        """Bytes of the body that are still to come, where its length was given."""
        return self._length - self._size

    @property
    def is_ignored(self) -> bool:
        """Whether the body is of no interest."""
        return self.refusal is not None or self.exchange is None

    def refuse(self, refusal: RefusalError, *, closing: bool = False) -> None:
        """Refuse it; `closing`: nothing after it can be trusted to be a request."""
        self.refusal = refusal
        self._parts.clear()
        if closing:
            self.keeps = False
            self.is_complete = True

    def part(self, data: bytes) -> None:
        """Take a part of the body."""
        self._size += len(data)
        if self._size > (MAX_IGNORED if self.is_ignored else MAX_BODY):
            self.refuse(self.refusal or refusals.too_large(MAX_BODY), closing=True)
        elif not self.is_ignored:
            self._parts.append(data)
            if self._size > self._length:  # which was not given
                self._hold(len(data))

    def _hold(self, size: int) -> None:
        """See that there is room for so many bytes of the body."""
        if self.refusal is None and self.exchange is not None:
            try:
                self.exchange.hold(size)
            except RefusalError as error:
                self.refuse(error)

    def fed(self, count: int) -> None:
        """So many bytes came in without completing it: see that they are worth keeping."""
        self._fed += count
        size = self.head.size
        if not self.head.is_complete:
            if self._fed > MAX_HEAD:
                self.refuse(refusals.head_too_large(MAX_HEAD), closing=True)
        elif self._fed > 2 * MAX_HEAD + _OVERHEAD * self._size or size > 2 * MAX_HEAD:
            self.refuse(refusals.unclear_length(), closing=True)
