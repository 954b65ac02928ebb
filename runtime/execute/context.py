"""All effects of an execution (engines, gateways, ledger, library), and its journal."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fleet.errors import FleetError
from fleet.history import CopyDamaged, History, LedgerEvent, freeze_after
from fleet.plan import Freeze
from fleet.resources import State
from runtime.engines.protocol import Engine
from runtime.gateway.control.control import LocalGateways
from runtime.ledger.protocol import Ledger


@dataclass(frozen=True, slots=True)
class Timings:
    """Durations of an execution, in seconds."""

    lease: int = 60
    """Life of the lease without renewal."""
    renew: float = 15.0
    heartbeat: float = 10.0
    """Interval between the events of a long step that still runs."""
    drain_poll: float = 0.2
    doubted_drain: float = 5.0
    """Upper bound of the wait for requests in flight of a version that may answer other bytes: new
    requests wait meanwhile for the version to be loaded again, and must not wait for a stream."""
    refresh: float = 5.0
    """Upper bound of the age of a server's picture when a step is checked."""
    lanes: int = 8
    """Upper bound of the servers that are worked on at the same time."""


@dataclass(frozen=True, slots=True)
class ExecutionContext:
    """Engines, gateways, ledger and library of a fleet."""

    engines: Mapping[str, Engine]
    """By host."""
    gateways: LocalGateways
    ledger: Ledger
    publish: Callable[[str, str], Path]
    """Takes a full adapter name and its digest, checks the bytes, gives the folder to load from.

    Raises `LibraryError` where the bytes are not those of the digest, or must not be served.
    """
    secret: Callable[[str], str | None]
    """Gives the secret behind `env:NAME` or `file:path`; None where it cannot be read."""
    holder: str
    find_damage: Callable[[History, State], tuple[CopyDamaged, ...]] = lambda *_: ()
    """Hashes the copies that servers load from; gives damage that the ledger does not know."""
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Host by server, for servers that are declared and may not answer."""
    commit: str = ""
    """Commit of the declarations, for the record."""
    fleet_id: str = ""
    """Id that the servers are started with; empty: the fleet has none."""
    timings: Timings = Timings()


class FreezeWatch:
    """Tells whether a person has frozen the fleet since an execution began."""

    def __init__(self, ledger: Ledger, history: History) -> None:
        """Prepare; `history` is the ledger as the execution found the ledger."""
        self._ledger, self._seq, self._freeze = ledger, history.seq, history.freeze

    def look(self) -> Freeze | None:
        """Read the entries that are new since the last look; return the freeze.

        Where the ledger cannot be read nothing is new; the next entry of the journal says so.
        """
        with suppress(FleetError, OSError):
            if new := self._ledger.newest(self._seq):
                self._seq, self._freeze = new[-1].seq, freeze_after(new, self._freeze)
        return self._freeze


class Journal:
    """Appends the events of a run in the order of the calls, under its lease's token.

    A step is journaled before its effect. Events that several lanes write at the same moment share
    a flush.
    """

    def __init__(self, ledger: Ledger, token: int) -> None:
        self._ledger, self.token = ledger, token
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
        """Append events with the next `write`."""
        self._waiting += events

    async def _flush_after(self, previous: asyncio.Task[None] | None) -> None:
        if previous is not None:
            await asyncio.wait([previous])
        self._next = None  # later events go with the following flush
        batch, self._waiting = self._waiting, []
        if not batch:
            return
        try:
            await asyncio.to_thread(self._ledger.append, batch, self.token)
        except OSError as error:
            detail = f"{error.strerror or error}. Nothing is done that is not written down first."
            hint = "Make room or see to the permissions, then apply again."
            raise FleetError.of(
                "FC5106", "The ledger cannot be written", detail, hint=hint
            ) from error
