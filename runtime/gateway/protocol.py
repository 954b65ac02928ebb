"""What apply, rollback, drain and observe need from the gateways."""

from collections.abc import Mapping
from typing import Protocol

from fleet.resources import GatewayFault
from runtime.gateway.published import Note
from runtime.gateway.sights import Sight
from runtime.gateway.table import RoutingTable


class TableReader(Protocol):
    """What can only look at the routing table. Whoever is given no more cannot change it."""

    async def read(self) -> tuple[RoutingTable, tuple[Note, ...]]:
        """Return the newest table, and notes; see `Gateways.read`."""
        ...

    async def missing(self) -> tuple[tuple[str, str], ...]:
        """Return the versions that servers told a gateway they do not hold."""
        ...

    async def faults(self) -> Mapping[str, GatewayFault]:
        """Return by name what is wrong with gateways; see `Gateways.faults`."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class Gateways(Protocol):
    """All gateways of a fleet as one."""

    async def read(self) -> tuple[RoutingTable, tuple[Note, ...]]:
        """Return the newest table any of them (or the table file) holds, and notes.

        A gateway that does not answer or lags behind is a note, not an error.
        """
        ...

    async def publish(self, table: RoutingTable) -> tuple[Note, ...]:
        """Write the table durably, give it to every gateway and wait for all to acknowledge.

        Returns notes, such as that no gateway is running (the file will be read when one
        starts). Raises `EngineError` if a running gateway refuses or does not answer.
        """
        ...

    async def missing(self) -> tuple[tuple[str, str], ...]:
        """Return (full adapter name, server) that gateways were sent to in vain, sorted.

        They are what a routing table says is there and the server says is not. A gateway that
        does not answer says nothing here.
        """
        ...

    async def look(self) -> tuple[Sight, ...]:
        """Return what each gateway shows of itself, by name; one that does not answer says why."""
        ...

    async def faults(self) -> Mapping[str, GatewayFault]:
        """Return by name the gateways that are down, frozen, or run otherwise than declared.

        One that never ran is not among them.
        """
        ...

    async def in_flight(self, server: str, adapter: str) -> int:
        """Return the requests now in flight for a version on a server, over all gateways."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
