"""A gateway in memory, which keeps its contract and gives no traffic to an untried version."""

from collections.abc import Callable
from dataclasses import dataclass, field

from fleet.errors import LockHeldError, StalePlanError, problem
from runtime.gateway.admin.protocol import READ_S, GatewayStatus, Note, address_unknown
from runtime.gateway.control.client import ObservedGateways
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.table.table import RoutingTable
from tests.fleet.planning.raised_pairs import raised_pairs

Trap = Callable[[str], None]


class UnsafeError(AssertionError):
    """A rule that never bends was broken."""


@dataclass
class MemoryGateways(LocalGateways):
    """One gateway and the table's file."""

    trap: Trap
    table: RoutingTable = field(default_factory=lambda: RoutingTable(revision=0))
    published: int = 0
    busy: dict[tuple[str, str], int] = field(default_factory=dict)  # each look lets one end
    passed: set[tuple[str, str]] = field(default_factory=set)
    """(adapter, server) that have answered since they were loaded."""

    async def statuses(self) -> tuple[GatewayStatus, ...]:
        return ()

    async def observe(self) -> ObservedGateways:
        return ObservedGateways(*await self.read_table(), {}, ())

    async def loaded(self, server: str, adapter: str) -> None: ...

    async def read_table(
        self, within_s: float = READ_S,  # noqa: ARG002 (nothing here waits)
    ) -> tuple[RoutingTable, tuple[Note, ...]]:  # fmt: skip
        return self.table, tuple(address_unknown(each) for each in self.table.without_address)

    async def served_tables(self) -> tuple[RoutingTable, ...]:
        return (self.table,)

    async def publish(self, table: RoutingTable) -> tuple[Note, ...]:
        self.trap("before publish")
        if untried := raised_in(table, self.table) - self.passed:
            raise UnsafeError(f"{sorted(untried)} would get traffic without a pass")
        if table.token < self.table.token:
            raise LockHeldError(problem("T", "A newer run holds the fleet", str(table.token)))
        if table.revision <= self.table.revision and table.digest != self.table.digest:
            raise StalePlanError(problem("T", "Changed meanwhile", str(table.revision)))
        self.table, self.published = table, self.published + 1
        self.trap("after publish")
        return ()

    async def in_flight(self, server: str, adapter: str) -> int:
        self.busy[server, adapter] = (count := self.busy.get((server, adapter), 0)) - (count > 0)
        return count

    async def close(self) -> None: ...

    def serving(self) -> set[tuple[str, str]]:
        """Return every (adapter, server) that gets traffic."""
        return serving(self.table)


def serving(table: RoutingTable) -> set[tuple[str, str]]:
    """Return every (adapter, server) that gets traffic by a table."""
    return {
        (share.adapter, server)
        for entry in table.aliases.values()
        for share in entry.shares
        if share.percent
        for server in share.servers
    }


def raised_in(table: RoutingTable, before: RoutingTable) -> set[tuple[str, str]]:
    """Return every (adapter, server) that a table names newly, or gives a larger share."""
    raised: set[tuple[str, str]] = set()
    for alias, entry in table.aliases.items():
        former = before.aliases.get(alias)
        raised |= raised_pairs(entry.shares, former.shares if former else ())
    return raised
