"""The ledger of a run that restarts servers in place while the home is away."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fleet.history import LedgerEvent
from runtime.ledger.fallback import SalvagedLedger
from runtime.ledger.outbox import LedgerOutbox
from runtime.ledger.protocol import Lease, Ledger
from runtime.ledger.replica import LedgerReplica


class AwayLedger(SalvagedLedger):
    """The verified copy in the place of a home that does not answer; all entries are queued.

    A lease is not to be had. In its place stands the token of the routing table that gateways
    serve: a run with a newer lease, which has the home, publishes a table with a newer token, and
    from then on this run writes none.
    """

    def __init__(
        self, home: Ledger, mirror: LedgerReplica, outbox: LedgerOutbox, queue: Path, token: int
    ) -> None:
        super().__init__(home, mirror, outbox, queue)
        self._token = token
        self.lease = self._as_served

    def append(self, events: Sequence[LedgerEvent], token: int = 0) -> int:
        """Queue an entry for every event."""
        del token  # which the home would check
        for event in events:
            self._outbox.append([event])
        return 0

    @contextmanager
    def _as_served(self, holder: str, ttl_s: int = 60) -> Iterator[Lease]:
        del holder, ttl_s  # of a lease
        yield Lease(self._token, lambda: None)
