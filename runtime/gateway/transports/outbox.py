"""Sending at the end of a turn of the event loop."""

import asyncio
import sys
import traceback
from collections.abc import Callable
from typing import Final

JOINED: Final = 64 * 1024
"""Most bytes that one turn makes for a connection before they are sent: a connection whose other
side reads slowly has to be known before there are more."""


class Outbox:
    """Sends what one turn of the event loop has made, together, at its end.

    A process that is asleep on the other side is woken once for all of it: that costs more
    than the sending itself. Usage rows of the turn are written before anything is sent.
    """

    __slots__ = ("_before", "_due", "_is_awake", "_loop", "_size")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, before: Callable[[], None] = lambda: None
    ) -> None:
        """Begin empty; `before` is called before anything is sent and may raise OSError."""
        self._loop = loop
        self._before = before
        self._due: list[tuple[asyncio.Transport, list[bytes]]] = []
        self._size = 0
        """Bytes of the newest in `_due`."""
        self._is_awake = False

    def wake(self) -> None:
        """See that `flush` is called in this turn."""
        if not self._is_awake:
            self._is_awake = True
            self._loop.call_soon(self.flush)

    def add(self, transport: asyncio.Transport, data: bytes) -> None:
        """Send bytes at the end of this turn, many at once, unless the connection is closing."""
        due = self._due
        if not due:
            self.wake()
        size = len(data)
        if due and due[-1][0] is transport and size <= JOINED:
            due[-1][1].append(data)  # joined when it is sent: each time would be in squares
            size += self._size
        else:
            due.append((transport, [data]))
        self._size = size
        if size > JOINED:
            self.flush()

    def flush(self) -> None:
        """Send now what waits: a connection is about to be closed.

        What cannot be put on record is not answered: then the connections end.
        """
        self._is_awake = False
        due, self._due = self._due, []
        try:
            self._before()
        except OSError:
            traceback.print_exc(file=sys.stderr)
            for transport, _ in due:
                transport.abort()
            return
        for transport, data in due:
            if transport.is_closing():
                continue
            try:
                transport.write(b"".join(data))
            except RuntimeError:  # nothing may come after its end: others must not miss theirs
                traceback.print_exc(file=sys.stderr)
                transport.abort()
