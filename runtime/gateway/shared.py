"""What all requests of one gateway process share."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from runtime.gateway.admission import Admission
from runtime.gateway.breathing import Breathe
from runtime.gateway.current import Current
from runtime.gateway.inflight import InFlight
from runtime.gateway.metrics import Metrics
from runtime.gateway.replicas import Replicas
from runtime.gateway.shares import Shares, fresh
from runtime.gateway.table import RoutingTable
from runtime.gateway.usagelog import UsageLog


@dataclass(frozen=True, slots=True)
class Shared:
    """The table being served, the counters, and the log."""

    log: UsageLog
    operator: bytes = b""
    """SHA-256 of the operator's secret; empty: there is none."""
    current: Current = field(default_factory=Current)
    metrics: Metrics = field(default_factory=Metrics)
    in_flight: InFlight = field(default_factory=InFlight)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while clients are answered."""
    shares: Shares = field(init=False)
    admission: Admission = field(init=False)
    replicas: Replicas = field(init=False)

    def __post_init__(self) -> None:
        """Make what counts on the counters."""
        object.__setattr__(self, "shares", Shares(self.metrics))
        self.current.compare = self._compare
        object.__setattr__(self, "admission", Admission(self.in_flight))
        object.__setattr__(self, "replicas", Replicas(self.in_flight))

    def _compare(
        self, before: RoutingTable, after: RoutingTable, breathe: Breathe
    ) -> Callable[[], None]:
        """Find what a new table changes for the counters, away from the event loop."""
        begun = fresh(before, after, breathe)
        pairs: set[tuple[str, str]] = set()
        for entry in after.aliases.values():
            pairs.update((each, share.adapter) for share in entry.shares for each in share.servers)
            breathe()

        def change() -> None:
            self.shares.begin(begun, after)
            self.replicas.forget(after.servers.keys(), pairs)

        return change
