"""Sending at the end of a turn of the event loop."""

import asyncio
from collections.abc import Callable


class Outbox:
    """Sends what one turn of the event loop has made, together, at its end.

    A process that is asleep on the other side is woken once for all of it: that costs more
    than the sending itself.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin empty."""
        self._loop = loop
        self._due: list[Callable[[], None]] = []

    def add(self, flush: Callable[[], None]) -> None:
        """Call `flush` once at the end of this turn."""
        if not self._due:
            self._loop.call_soon(self._run)
        self._due.append(flush)

    def _run(self) -> None:
        due, self._due = self._due, []
        for flush in due:
            flush()
