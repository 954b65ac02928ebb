"""The ledger of a call's fleet, its copy here, and the small files that other checkouts share."""

from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Final

from fleet.errors import FleetError
from fleet.history import History
from runtime.deadline import LIMIT_S, call_with_timeout
from runtime.ledger import open_ledger
from runtime.ledger.chain import EntrySigner, entry_signer
from runtime.ledger.fallback import AwayLedger, FallbackLedger, SalvagedLedger, last_known
from runtime.ledger.outbox import FOLDER, LedgerOutbox, deliver
from runtime.ledger.protocol import Ledger, LedgerSnapshot
from runtime.ledger.replica import LedgerReplica
from runtime.state.documents import open_documents
from runtime.state.home import KNOWN_FILE, HomeAddress
from runtime.state.shared_files import SharedFiles
from runtime.workspace.call import Call

PULL_S: Final = 5.0
"""Upper bound of the wait for the files that other checkouts have changed. Seconds."""


class LedgerContext:
    """The ledger of a fleet, its copy here, and the files that its home shares."""

    def __init__(self, call: Call, home: Callable[[], HomeAddress]) -> None:
        """Open nothing yet; `home` reads which home is declared."""
        self._call, self._home = call, home
        self._delivered = self._pulled = False

    @cached_property
    def signer(self) -> EntrySigner:
        """The signer of entries."""
        call = self._call
        makes_key = call.offline is None
        return entry_signer(call.state_dir, call.root, self._home(), makes_key=makes_key)

    @cached_property
    def _ledger(self) -> FallbackLedger:
        call, replica, address = self._call, self.replica, self._home()
        home = open_ledger(
            call.state_dir, call.run, call.by, call.now, address, call.root, self.signer
        )
        if call.salvaged or (call.offline is not None and address.postgresql):
            why = "is damaged" if call.away is None else "does not answer"
            outbox = LedgerOutbox(lambda: home, self.queue, call.by, call.run, down=why)
            if call.away is not None:
                return AwayLedger(home, replica, outbox, self.queue, call.away)
            return SalvagedLedger(home, replica, outbox, self.queue)
        return FallbackLedger(home, replica, call.hung, wrote=self.push, signer=self.signer)

    @cached_property
    def _shared(self) -> SharedFiles | None:
        """The files that other checkouts have too; None: the state folder is the home."""
        call, address = self._call, self._home()
        if address.is_state_folder or call.offline is not None:
            return None
        return SharedFiles(call.state_dir, open_documents(address, call.root), call.warn)

    def pull(self, limit_s: float = PULL_S) -> None:
        """Take over the files that other checkouts have changed, once; warn where that fails.

        `limit_s`: upper bound of the wait in seconds; 0: they are not asked for, now or later.
        """
        shared, was_pulled, self._pulled = self._shared, self._pulled, True
        if was_pulled or shared is None or not limit_s:
            return
        try:
            call_with_timeout(lambda: self._take_over(shared), limit_s)
        except (FleetError, OSError) as error:  # of time, too; what needs the home says the rest
            reason = str(error).partition(": ")[0]
            self._call.warn(f"what other checkouts changed is unknown: {reason}")

    def _take_over(self, shared: SharedFiles) -> None:
        if not (self._call.state_dir / KNOWN_FILE).exists() and not self.replica.is_empty():
            self._ledger.history()  # refuses the files of another fleet
        shared.pull()

    def push(self) -> None:
        """Give the home the files that have changed here; warn where that fails."""
        if self._shared is not None:
            try:
                self._shared.push()
            except (FleetError, OSError) as error:
                self._call.warn(f"other checkouts do not know yet of the change: {error}")

    @cached_property
    def replica(self) -> LedgerReplica:
        """The ledger as last read or written here."""
        return LedgerReplica(self._call.state_dir, self._call.warn)

    @property
    def queue(self) -> Path:
        """Folder of entries that wait for a ledger that does not answer."""
        return self._call.state_dir / FOLDER

    def outbox(self, limit_s: float | None = None, down: str = "") -> LedgerOutbox:
        """Return a writer to the ledger that does not wait for a home that hangs.

        `limit_s`: upper bound of the time for an entry; None: that of a rollback. `down`: why the
        home is known to be away.
        """
        by, run = self._call.by, self._call.run
        return LedgerOutbox(self.open, self.queue, by, run, limit_s or LIMIT_S, down)

    def is_lost(self) -> bool:
        """Say whether the ledger's home is empty and was not."""
        return self._ledger.is_lost()

    def open(self) -> Ledger:
        """Return the ledger of this fleet, with the entries that a rollback had to queue."""
        if not self._delivered and not self._call.salvaged and self.queue.is_dir():
            self._delivered = True  # first, for it may hang
            with suppress(FleetError, OSError):  # reading the ledger reports the same
                deliver(self.queue, self._ledger)
        return self._ledger

    def history(self) -> History:
        """Return the ledger folded into the facts that planning needs."""
        return self.open().history() if self._call.past is None else self._call.past

    def last_known(self) -> LedgerSnapshot:
        """Return the ledger, or where its home cannot be read its entries as known here.

        Raises:
            FleetError: the home cannot be read, and no entry is known here.
        """
        return last_known(self.open, self.replica, self.queue)

    def fleet_id(self) -> str:
        """Return the fleet's id, of the ledger or drawn by this run; empty: none is known."""
        with suppress(FleetError):  # what needs the ledger says so itself
            return self.history().fleet_id or self._call.drawn_id
        return self._call.drawn_id
