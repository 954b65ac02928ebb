"""Writes to connections, put together until the end of a turn of the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from runtime.gateway.body.errors import ApiError, log_exception
from runtime.gateway.traffic.accounting import UsageWriter

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


MAX_BATCH: Final = 64 * 1024
"""Upper bound of the bytes that a turn collects for a connection: a connection whose other side
reads slowly has to show before there are more."""


@dataclass(slots=True)
class WriteBatch:
    """The writes of a turn of the event loop, sent together at its end.

    A sleeping process on the other side is woken once for all writes: to wake a process costs more
    than to send. The rows of `usage` in this turn are written before anything is sent.
    """

    _loop: asyncio.AbstractEventLoop
    _usage: UsageWriter
    _pending: list[tuple[asyncio.Transport, list[bytes], bytes | None]] = field(
        default_factory=list
    )
    _newest_size: int = 0
    """Bytes of the newest entry of `_pending`."""
    _is_scheduled: bool = False

    def schedule_flush(self) -> None:
        """Call `flush` at the end of this turn."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self.flush)

    def add(
        self, transport: asyncio.Transport, data: bytes, otherwise: bytes | None = None
    ) -> None:
        """Send bytes at the end of this turn, many at once, unless the connection is closing.

        Where the rows of this turn cannot be written, `otherwise` is sent instead, before the
        connection is closed; empty: the connection is aborted. None: `data` needs no row.
        """
        pending = self._pending
        if not pending and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self.flush)
        size = len(data)
        newest = pending[-1] if pending else None
        if newest is None or newest[0] is not transport or newest[2] != otherwise:
            pending.append((transport, [data], otherwise))
        elif size <= MAX_BATCH:
            newest[1].append(data)  # joined when sent: joined now, the cost would be quadratic
            size += self._newest_size
        else:
            pending.append((transport, [data], otherwise))
        self._newest_size = size
        if size > MAX_BATCH:
            self.flush()

    def flush(self) -> None:
        """Write the usage rows and send now: a connection is about to be closed."""
        self._is_scheduled = False
        pending, self._pending = self._pending, []
        if self._usage.pending:
            try:
                self._usage.flush()
            except ApiError:
                _send_unrecorded(pending)
                return
        for transport, parts, _ in pending:
            if not transport.is_closing():
                try:
                    transport.write(parts[0] if len(parts) == 1 else b"".join(parts))
                except RuntimeError as error:  # of one connection; the others must not miss theirs
                    transport.abort()
                    log_exception(error)


def _send_unrecorded(pending: list[tuple[asyncio.Transport, list[bytes], bytes | None]]) -> None:
    """Send the writes that need no row; the other connections get an error, and end."""
    for transport, parts, otherwise in pending:
        if otherwise == b"":
            transport.abort()
        if transport.is_closing():
            continue
        try:
            transport.write(b"".join(parts) if otherwise is None else otherwise)
        except RuntimeError as error:
            transport.abort()
            log_exception(error)
        else:
            if otherwise is not None:
                transport.close()
