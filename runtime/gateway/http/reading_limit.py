"""The limit on reading a client's connection: a little in a turn, nothing while requests wait."""

import asyncio
from collections.abc import Sized
from typing import Final

from runtime.gateway import errors
from runtime.gateway.http.request_reader import RequestReader
from runtime.gateway.http.turns import LoopTurns
from runtime.gateway.limits import UnreadBytes

_MAX_PIPELINED: Final = 64 * 1024
"""Bytes of requests sent ahead by a client before the client is read no further."""
_PIECE: Final = 16 * 1024
"""Most bytes that are parsed in a turn of their own: in chunks of 2 bytes they take 3 ms."""


class ReadingLimit:
    """The limit on the bytes of a connection that a turn of the event loop parses.

    A read brings up to 256 KiB of a connection. In chunks of a few bytes, or in requests sent
    ahead, they would take tens of milliseconds, times the connections that bring some at once. So
    the parser gets a piece at a time, each in a turn of its own, and the connection is not read
    until all are parsed.
    """

    _transport: asyncio.Transport
    """Set by `start`, before any other call."""

    def __init__(
        self, reader: RequestReader, waiting: Sized, turns: LoopTurns, postponed: UnreadBytes
    ) -> None:
        self._reader, self._waiting, self._turns = reader, waiting, turns
        self._postponed = postponed
        self._rest = b""
        """What has come and is not parsed yet."""
        self._pipelined_bytes = 0
        self._is_paused = False
        """Whether requests that wait keep the connection from being read."""

    def start(self, transport: asyncio.Transport) -> None:
        """Take the connection's transport."""
        self._transport = transport

    def slow_down(self, taken: int, rest: bytes) -> None:
        """Read no more in this turn, after bytes were taken; `rest` is for later turns."""
        self._count_pipelined(taken)
        if rest:
            self._postpone(rest)
        elif self._is_paused:
            self._transport.pause_reading()
        elif not self._waiting and not self._transport.is_closing():
            # A transport would read on for as long as more has come, many times its buffer.
            self._transport.pause_reading()
            self._turns.loop.call_soon(self._read_on)

    def speed_up(self) -> None:
        """Read on, as no request waits."""
        self._pipelined_bytes = 0
        if self._is_paused:
            self._is_paused = False
            self._read_on()

    def end(self) -> None:
        """Forget the bytes that wait: the connection has ended."""
        self._rest = b""
        self._postponed.release()

    def _count_pipelined(self, taken: int) -> None:
        if self._waiting:
            self._pipelined_bytes += taken
            self._is_paused = self._pipelined_bytes > _MAX_PIPELINED

    def _postpone(self, rest: bytes) -> None:
        reading = self._reader.reading
        known = None if reading is None else reading.proxied
        client = "" if known is None else known.record.row.client
        if not self._postponed.acquire(client, len(rest)):
            self._reader.refuse(errors.no_memory())
            if not self._reader.is_closed:  # requests sent ahead, of which none is incomplete
                self._transport.abort()
        elif not self._transport.is_closing():
            self._transport.pause_reading()
            self._rest = rest
            self._turns.add(self._take_piece)

    def _take_piece(self) -> None:
        data, self._rest = self._rest, b""
        self._postponed.release()
        if self._reader.is_closed or self._transport.is_closing():
            return
        rest = self._reader.feed(data, _PIECE)
        self._count_pipelined(len(data) - len(rest))
        if rest:
            self._postpone(rest)
        else:
            self._read_on()

    def _read_on(self) -> None:
        if not (self._rest or self._is_paused or self._transport.is_closing()):
            self._transport.resume_reading()
