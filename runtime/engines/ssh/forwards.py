"""Reaches the servers of a host by HTTP, through forwarded ports."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from fleet.errors import EngineError
from runtime.engines.launch_records import LaunchRecord
from runtime.engines.server_clients import ServerClients
from runtime.engines.ssh.connection import SshConnection
from runtime.json_client import JsonClient

_REACH_S: Final = 2.0
"""Upper bound of the wait for a forwarded port. Seconds."""


@dataclass(eq=False)
class ForwardedClients(ServerClients):
    """Clients of a host's servers, through forwarded ports."""

    ssh: SshConnection = field(kw_only=True)

    async def reach(self, record: LaunchRecord) -> JsonClient:
        """Return the client of a server; the port is forwarded, unless a forward stands.

        Whoever keeps the forward: the stamps of the server that answers tell that it is ours.

        Raises:
            EngineError: as `SshConnection.forward`.
        """
        try:
            async with asyncio.timeout(_REACH_S):
                _, writer = await asyncio.open_connection(self.host.reached_at, record.port)
            writer.close()
        except OSError:
            await self.ssh.forward(record.port, record.port, self.host.reached_at)
        return self.client(record)

    async def faults(self, records: Collection[LaunchRecord]) -> dict[str, EngineError]:
        """Reach many servers at the same time; return the errors of those that cannot be."""

        async def fault(record: LaunchRecord) -> EngineError | None:
            try:
                await self.reach(record)
            except EngineError as error:
                return error
            return None

        found = zip(records, await asyncio.gather(*map(fault, records)), strict=True)
        return {record.name: error for record, error in found if error is not None}
