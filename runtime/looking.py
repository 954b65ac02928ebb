"""Looking without being able to touch: what `drift` and `status` are given."""

from collections.abc import Mapping

from fleet.resources import GatewayFault, State
from runtime.engines.protocol import Engine
from runtime.engines.registry import read_only
from runtime.gateway.protocol import Note, TableReader
from runtime.gateway.table import RoutingTable
from runtime.observe import observe


class ReadOnlyTable:
    """Gateways of which only the looking is left."""

    def __init__(self, gateways: TableReader) -> None:
        """Keep the methods that change nothing."""
        self._read_table, self._missing = gateways.read_table, gateways.missing
        self._faults, self._close = gateways.faults, gateways.close

    async def read_table(self) -> tuple[RoutingTable, tuple[Note, ...]]:
        """Return the newest table, and notes."""
        return await self._read_table()

    async def missing(self) -> tuple[tuple[str, str], ...]:
        """Return the versions that servers told a gateway they do not hold."""
        return await self._missing()

    async def faults(self) -> Mapping[str, GatewayFault]:
        """Return by name what is wrong with gateways."""
        return await self._faults()

    async def close(self) -> None:
        """Release connections."""
        await self._close()


async def look(engines: Mapping[str, Engine], gateways: TableReader) -> State:
    """Observe through objects that have no method that changes anything."""
    return await observe(read_only(engines), ReadOnlyTable(gateways))
