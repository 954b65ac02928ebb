"""The contract of a ledger's home, the error of a silent home, and a snapshot of entries."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, overload

from fleet.errors import FleetError
from fleet.history import Entry, History, LedgerEvent, fold_entries
from runtime.ledger.chain import ChainedEntries, LedgerPrefix
from runtime.processes import described_holder


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to change the fleet, for a while."""

    token: int
    """Fencing token: grows with every lease, stamped on every entry and route table."""
    renew: Callable[[], None]
    """Extends the lease; raises `LockHeldError` when another run has taken it."""


@dataclass(frozen=True, slots=True)
class RestoredLedger:
    """A ledger whose damaged lines were replaced by those of a copy."""

    entries: int
    """Entries of the ledger now."""
    dropped: int
    """Lines at the end that continue neither copy nor chain."""
    aside: Path | None
    """File with the damaged lines; None: there were none."""


class Ledger(Protocol):
    """Where entries live. Reading never needs a lease."""

    def read(self, after: int = 0) -> list[Entry]:
        """Return the entries with `seq` above `after`, verified as a hash chain."""
        ...

    def since(self, known: LedgerPrefix) -> ChainedEntries:
        """Return the entries after a prefix; all where the ledger begins with other lines."""
        ...

    def mark(self) -> object:
        """Return a value that changes when the ledger does; None where there is none."""
        ...

    def history(self) -> History:
        """Return all entries folded."""
        ...

    def standing(self) -> Sequence[Entry]:
        """Return the entries that still count (`fleet.history.kept_entries`), or all."""
        ...

    def newest(self, after: int) -> list[Entry]:
        """Return the entries with `seq` above `after` without reading the entries before them.

        Each is as it was written, and that they belong to one chain is for the caller to see.
        """
        ...

    def append(self, events: Sequence[LedgerEvent], token: int = 0) -> int:
        """Append an entry for every event, durable when this returns; return the last seq.

        Raises:
            LockHeldError: `token` is older than the newest lease's.
        """
        ...

    def is_empty(self) -> bool:
        """Say whether there is no entry, without reading them."""
        ...

    def count(self) -> int:
        """Return the number of whole lines, damaged lines too."""
        ...

    def restore(self, copy: Sequence[Entry]) -> "RestoredLedger":
        """Put a verified copy in the place of damaged lines, which are kept elsewhere."""
        ...

    def raise_token(self, token: int) -> None:
        """Let every later lease have a newer token: of tables that a lost ledger led to."""
        ...

    def lease(self, holder: str, ttl_s: int = 60) -> AbstractContextManager[Lease]:
        """Take the lease or raise `LockHeldError` that names its holder and its expiry."""
        ...


def unanswered(why: str, holder: int | None = None) -> FleetError:
    """Return the error; `why` is a sentence without its full stop.

    `holder`: the process that holds the lock of the home, if known.
    """
    hint, command = "Another process may hold its lock and have stopped, or its disk is away.", ""
    if holder is not None:
        holding, hint, command = described_holder(holder)
        why += holding
    return FleetError.of(
        "FC5107",
        "The ledger's home does not answer",
        f"{why[:1].upper()}{why[1:]}.",
        hint=f"{hint} A rollback works meanwhile.",
        command=command,
    )


@dataclass(frozen=True, slots=True)
class LedgerSnapshot:
    """The entries of the ledger, or the known entries."""

    entries: Sequence[Entry]
    away: FleetError | None = None
    """Why the home could not be read, so that the entries are of the copy and the queue; None: they
    are the ledger's.
    """
    home: Ledger | None = field(default=None, compare=False)
    """The ledger, if readable; None: the entries are all that is known."""
    folded: History | None = field(default=None, compare=False)
    """The entries of a readable ledger folded."""

    @classmethod
    def of(cls, home: Ledger) -> "LedgerSnapshot":
        """Return the ledger now; all entries are read when a caller asks for them.

        Raises:
            FleetError: it cannot be read.
        """
        return cls(_EntriesOf(home), home=home, folded=home.history())

    def history(self) -> History:
        """Return the entries folded."""
        return fold_entries(self.entries) if self.folded is None else self.folded

    def standing(self) -> Sequence[Entry]:
        """Return the entries that still count."""
        return self.entries if self.home is None else self.home.standing()


@dataclass(slots=True)
class _EntriesOf(Sequence[Entry]):
    """The entries of a ledger, which are read when the first is asked for."""

    home: Ledger
    _read: Sequence[Entry] | None = None

    def _all(self) -> Sequence[Entry]:
        if self._read is None:
            self._read = self.home.read()
        return self._read

    @overload
    def __getitem__(self, place: int) -> Entry: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Entry]: ...
    def __getitem__(self, place: int | slice) -> Entry | Sequence[Entry]:
        return self._all()[place]

    def __len__(self) -> int:
        return len(self._all())
