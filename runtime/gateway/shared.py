"""What all requests of one gateway process share."""

import asyncio
from dataclasses import dataclass, field

from runtime.gateway import bodies
from runtime.gateway.admission import Admission
from runtime.gateway.bodies import Bodies
from runtime.gateway.current import Current
from runtime.gateway.inflight import InFlight
from runtime.gateway.metrics import Metrics
from runtime.gateway.replicas import Replicas
from runtime.gateway.retries import Retries
from runtime.gateway.rooms import Rooms
from runtime.gateway.routing import Lookup
from runtime.gateway.rows import Rows
from runtime.gateway.shares import Shares
from runtime.usage.log import UsageLog


@dataclass(frozen=True, slots=True)
class Shared:
    """The table being served, the counters, and the log."""

    log: UsageLog
    operator: bytes = b""
    """SHA-256 of the operator's secret; empty: there is none."""
    current: Current = field(default_factory=Current)
    metrics: Metrics = field(default_factory=Metrics)
    in_flight: InFlight = field(default_factory=InFlight)
    bodies: Bodies = field(default_factory=lambda: Bodies(bodies.MAX_HELD))
    copied: Bodies = field(default_factory=lambda: Bodies(bodies.MAX_COPIED))
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while clients are answered."""
    rows: Rows = field(init=False)
    shares: Shares = field(init=False)
    rooms: Rooms = field(init=False)
    admission: Admission = field(init=False)
    replicas: Replicas = field(init=False)
    retries: Retries = field(init=False)

    def __post_init__(self) -> None:
        """Make what counts on the counters."""
        object.__setattr__(self, "rows", Rows(self.log, self.metrics))
        object.__setattr__(self, "shares", Shares(self.metrics))
        self.current.on_change = self._changed
        object.__setattr__(self, "rooms", Rooms(self.in_flight))
        object.__setattr__(self, "replicas", Replicas(self.in_flight, self.rooms))
        object.__setattr__(self, "admission", Admission(self.in_flight, self.replicas))
        object.__setattr__(self, "retries", Retries(self.in_flight.servers))

    @property
    def is_ready(self) -> bool:
        """Whether a client's request has a chance."""
        served = self.ready.is_set() and self.current.lookup.revision > 0
        return served and not self.log.is_refusing

    def _changed(self, before: Lookup, after: Lookup) -> None:
        self.shares.changed(before, after)
        pairs = {
            (server, branch.choice.adapter)
            for _, alias in after.all()
            for branch in alias.branches
            for server in branch.choice.servers
        }
        self.replicas.forget(after.urls.keys(), pairs)
        for server in before.urls.keys() - after.urls.keys():
            self.rooms.forget(server)
