"""The journal of one run: what is about to be done is durable before it is done.

Records that several lanes write at the same moment share one flush.
"""

import asyncio

from fleet.errors import FleetError, problem
from fleet.history import LedgerEvent
from runtime.ledger.protocol import Ledger


class Journal:
    """Appends in the order of the calls, under one lease's token."""

    def __init__(self, ledger: Ledger, token: int) -> None:
        """Prepare; nothing is written."""
        self._ledger, self._token = ledger, token
        self._waiting: list[LedgerEvent] = []
        self._next: asyncio.Task[None] | None = None
        self._last: asyncio.Task[None] | None = None

    async def write(self, *events: LedgerEvent) -> None:
        """Append events; durable when this returns, with all that was added before.

        Raises:
            LockHeldError: the lease was lost.
            FleetError: FC5106, the ledger cannot be written; or its chain is broken.
        """
        self._waiting += events
        if self._next is None:
            self._next = self._last = asyncio.create_task(self._flush_after(self._last))
        await asyncio.shield(self._next)

    def add(self, *events: LedgerEvent) -> None:
        """Append events with the next that are written; `close` writes the last ones."""
        self._waiting += events

    async def close(self) -> None:
        """Make everything durable."""
        await self.write()

    async def _flush_after(self, previous: asyncio.Task[None] | None) -> None:
        if previous is not None:
            await asyncio.wait([previous])
        self._next = None  # later records go with the following flush
        batch, self._waiting = self._waiting, []
        if not batch:
            return
        try:
            await asyncio.to_thread(self._ledger.append, batch, self._token)
        except OSError as error:
            raise FleetError(
                problem(
                    "FC5106",
                    "The ledger cannot be written",
                    f"{error.strerror or error}. Nothing is done that is not written down first.",
                    hint="Make room or see to the permissions, then apply again.",
                )
            ) from error
