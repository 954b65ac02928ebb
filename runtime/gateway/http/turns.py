"""Work that takes long enough to be felt, a piece in a turn of the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

LARGE_BODY: Final = 256 * 1024
"""Bodies above are read in turns of their own, bytes: the largest take 20 ms."""


class LoopTurns:
    """Calls that are made in turns of the event loop of their own, in the order they came in.

    Bodies that are complete in the same turn would stop all other requests for the sum of their
    times. Between two calls the loop does all else that is due.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._calls: deque[Callable[[], None]] = deque()

    def add(self, call: Callable[[], None]) -> None:
        """Make a call in a turn of its own."""
        self._calls.append(call)
        if len(self._calls) == 1:
            self.loop.call_soon(self._wait)

    def _wait(self) -> None:
        """Wait for a turn, so that requests that came in meanwhile are answered first."""
        self.loop.call_soon(self._run)

    def _run(self) -> None:
        try:
            self._calls[0]()
        finally:
            self._calls.popleft()
            if self._calls:
                self.loop.call_soon(self._wait)
