"""The shared state of a gateway process: the table being served, counters, limits, the log."""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from secrets import token_hex

from runtime.gateway.table.routing import RouteTable
from runtime.gateway.table.table import RoutingTable
from runtime.gateway.table.table_loader import build_routes
from runtime.gateway.traffic.accounting import ObservedSplit, UsageCounters, UsageWriter
from runtime.gateway.traffic.admission import Admission
from runtime.gateway.traffic.balancer import LoadBalancer
from runtime.gateway.traffic.concurrency import ConcurrencyLimiter, InFlight
from runtime.gateway.traffic.limits import (
    REQUEST_BYTES,
    SHADOW_BYTES,
    MemoryBudget,
    MonthlyUse,
    RetryBudget,
)
from runtime.gateway.traffic.probes import ServerListing
from runtime.gateway.traffic.shares import ClientWeights
from runtime.server_tls import NO_KEYS, ServerKeys, TlsToServer
from runtime.usage.captured import CaptureWriter
from runtime.usage.log import UsageLog


class StaleTableError(ValueError):
    """A table that is not newer than the table being served."""


class ActiveTable:
    """The newest revision, swapped whole, at first an empty table, which no key opens.

    A request keeps the table that it began with. `on_swap` is called with the new table at once;
    `on_change` with the old and the new table, in another thread.
    """

    def __init__(
        self,
        on_swap: Callable[[RouteTable], None],
        on_change: Callable[[RouteTable, RouteTable], None],
    ) -> None:
        self.routes: RouteTable = build_routes(RoutingTable(revision=0))
        self.loaded_at = datetime.now(UTC)
        self._on_swap, self._on_change = on_swap, on_change
        self._one_at_a_time = asyncio.Lock()

    async def apply(self, table: RouteTable) -> None:
        """Serve a table newer than the served table or equal, else raise `StaleTableError`."""
        async with self._one_at_a_time:
            revision, digest = self.routes.revision, self.routes.digest
            if table.revision < revision:
                raise StaleTableError(
                    f"revision {table.revision} is older than {revision}, which is served"
                )
            if table.revision == revision:
                if table.digest != digest:
                    raise StaleTableError(f"another table is served as revision {revision}")
                return
            before = [self.routes]
            self.routes, self.loaded_at = table, datetime.now(UTC)
            self._on_swap(table)
            await asyncio.to_thread(self._retire, before, table)

    def _retire(self, before: list[RouteTable], table: RouteTable) -> None:
        """Drop the old table; in another thread, since a large table takes a while to free.

        The list makes this the last place which holds the table.
        """
        self._on_change(before.pop(), table)

    def document(self) -> dict[str, object]:
        """Return the acknowledgement of a revision, as `GET /-/config` shows the revision."""
        return {
            "revision": self.routes.revision,
            "digest": self.routes.digest,
            "loaded_at": self.loaded_at.isoformat(timespec="milliseconds"),
        }


class GatewayState:
    """The shared state of a gateway process; `operator` is the SHA-256 of the operator's secret.

    `captured` None: no text is captured, whatever the table says.
    """

    def __init__(
        self,
        log: UsageLog,
        operator: bytes = b"",
        captured: CaptureWriter | None = None,
        server_keys: ServerKeys = NO_KEYS,
        month: MonthlyUse | None = None,
    ) -> None:
        self.log = log
        self.server_keys = server_keys
        self.operator = operator
        self.captured = captured
        self.active = ActiveTable(self._on_swap, self._on_change)
        self.ready = asyncio.Event()
        """Set while clients are answered."""
        self.fleet_id = ""
        """Id of the fleet whose tables are served; empty: none has said its id."""
        self.boot = token_hex(8)
        """Drawn anew by each start of the process."""
        self.counters = UsageCounters()
        self.usage = UsageWriter(log, self.counters)
        self.split = ObservedSplit(self.counters)
        self.weights = ClientWeights()
        self.request_memory = MemoryBudget(REQUEST_BYTES, self.weights)
        self.shadow_memory = MemoryBudget(SHADOW_BYTES, self.weights)
        self.in_flight = InFlight()
        self.limiter = ConcurrencyLimiter(self.in_flight.servers)
        self.balancer = LoadBalancer(self.in_flight, self.limiter)
        self.balancer.shares.weights = self.weights
        self.month = month or MonthlyUse()
        self.admission = Admission(self.in_flight, self.balancer, self.month)
        self.retry_budget = RetryBudget(self.in_flight.servers)
        self.contexts: dict[str, int | None] = {}
        """Tokens of a server's context, by server, as the server's list of models says."""
        self._placed: Mapping[str, frozenset[str]] = {}
        """Full adapter names that the table places on a server."""

    def urls(self) -> Mapping[str, str]:
        """Return the servers' base URLs by name, of the table being served."""
        return self.active.routes.urls

    def tls_of(self, url: str) -> TlsToServer | None:
        """Return the declared TLS to the server at a URL; None: none is declared."""
        urls, declared = self.urls(), self.server_keys.tls
        return next((tls for name, tls in declared.items() if urls.get(name) == url), None)

    def record_listing(self, url: str, listing: ServerListing) -> bool:
        """Take the listing of the server at a URL; return whether the right launch answers there.

        A server with a resolver holds a version that the server does not list yet.
        """
        launch = url.partition("#")[2].partition(":")[0]
        is_right = launch in {"", listing.stamps.launch}
        for server, known in self.urls().items():
            if known == url:
                self.balancer.record_launch(server, stale=not is_right)
                placed = self._placed.get(server, frozenset())
                lacking = frozenset() if listing.stamps.has_resolver else placed - listing.adapters
                self.balancer.record_unlisted(server, lacking)
                self.contexts[server] = listing.max_model_len
        return is_right

    @property
    def is_ready(self) -> bool:
        """Whether a client's request has a chance."""
        is_serving = self.ready.is_set() and self.active.routes.revision > 0
        return is_serving and not self.log.is_refusing

    def _on_swap(self, after: RouteTable) -> None:
        self.admission.take_table(after, asyncio.get_running_loop().time())
        self.counters.use_bounds(after.bounds_s)
        self.weights.of = after.weights

    def _on_change(self, before: RouteTable, after: RouteTable) -> None:
        self.split.restart(before, after)
        self.counters.expire(after, time.monotonic())
        pairs = {
            (server, arm.target.adapter)
            for route in after.routes.values()
            for arm in route.arms
            for server in arm.target.servers
        }
        placed: dict[str, set[str]] = {}
        for server, adapter in pairs:
            placed.setdefault(server, set()).add(adapter)
        self._placed = {server: frozenset(adapters) for server, adapters in placed.items()}
        clients: dict[str, set[str]] = {}
        for route in after.routes.values():
            for arm in route.arms:
                for server in arm.target.servers:
                    clients.setdefault(server, set()).add(route.client)
        shared = (server for server, names in clients.items() if len(names) > 1)
        self.balancer.outliers.shared = self.balancer.shares.shared = frozenset(shared)
        self.balancer.retain(after.urls.keys(), pairs)
        for server in before.urls.keys() - after.urls.keys():
            self.limiter.forget(server)
            self.contexts.pop(server, None)
