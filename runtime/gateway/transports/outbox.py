"""Sending at the end of a turn of the event loop."""

import asyncio


class Outbox:
    """Sends what one turn of the event loop has made, together, at its end.

    A process that is asleep on the other side is woken once for all of it: that costs more
    than the sending itself.
    """

    __slots__ = ("_due", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin empty."""
        self._loop = loop
        self._due: list[tuple[asyncio.Transport, bytes]] = []

    def add(self, transport: asyncio.Transport, data: bytes) -> None:
        """Send bytes at the end of this turn, unless the connection is closing by then."""
        due = self._due
        if not due:
            self._loop.call_soon(self.flush)
        elif due[-1][0] is transport:
            due[-1] = (transport, due[-1][1] + data)
            return
        due.append((transport, data))

    def flush(self) -> None:
        """Send now what waits: a connection is about to be closed."""
        due, self._due = self._due, []
        for transport, data in due:
            if not transport.is_closing():
                transport.write(data)
