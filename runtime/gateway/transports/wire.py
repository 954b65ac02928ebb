"""The transport made of asyncio protocols and httptools on both sides."""

import asyncio
from contextlib import suppress

from runtime.gateway.desk import Desk
from runtime.gateway.transports import capacity, timing
from runtime.gateway.transports.front import Front
from runtime.gateway.transports.pool import Pool
from runtime.gateway.transports.seats import Seats

_BACKLOG = 1024


class Wire:
    """Keeps the contract of `Transport`."""

    def __init__(self, desk: Desk) -> None:
        """Wire up; `open` begins."""
        self._desk = desk
        self._fronts: set[Front] = set()
        self._pool: Pool | None = None
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def open(self, host: str, port: int) -> int:
        """Listen, as `Transport` says."""
        loop = asyncio.get_running_loop()
        pool = self._pool = Pool(loop, self._desk.rows)
        fronts, seats = self._fronts, Seats(capacity.most_clients())

        def accepted() -> asyncio.Protocol:
            return Front(self._desk, pool, fronts, seats)

        try:
            self._server = await loop.create_server(accepted, host, port, backlog=_BACKLOG)
        except OSError:
            pool.close()
            raise
        self._desk.rows.gather(pool.outbox.wake)
        self._sweep()
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self, hurry: asyncio.Event) -> None:
        """Stop, as `Transport` says."""
        if self._server is None or self._pool is None:
            return
        self._server.close()
        for each in [*self._fronts]:
            each.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(timing.GRACE_S):
                while self._fronts and not hurry.is_set():  # noqa: ASYNC110 (set in callbacks of many connections)
                    await asyncio.sleep(0.005)
        for each in [*self._fronts]:
            each.abort()
        if self._timer is not None:
            self._timer.cancel()
        self._pool.close()
        self._pool.outbox.flush()
        self._desk.rows.stop_gathering()
        await asyncio.sleep(0)  # lets the connections end before the loop does

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for each in [*self._fronts]:
            each.sweep(now)
        self._timer = loop.call_later(timing.SWEEP_S, self._sweep)
