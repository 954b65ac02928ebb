"""The ledger at a moment, or the entries that are known while its home cannot be read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload

from fleet.errors import FleetError
from fleet.history import Entry, History, fold_entries
from runtime.ledger.protocol import Ledger


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
