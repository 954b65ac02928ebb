"""Reaches the servers of a host by HTTP, through forwarded ports."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from fleet.environment import server_key
from fleet.errors import EngineError
from fleet.hardware import HostSpec
from runtime.engines.launch_records import LaunchRecord
from runtime.engines.recognition import url_of
from runtime.engines.ssh.connection import SshConnection
from runtime.engines.vllm_api import list_models, refuses_key
from runtime.json_client import SERVER_KEYS, JsonClient

_REACH_S: Final = 2.0
"""Upper bound of the wait for a forwarded port, and in a start for a list of models. Seconds."""


@dataclass(eq=False)
class ForwardedClients:
    """Clients of a host's servers, by server."""

    host: HostSpec
    ssh: SshConnection
    secret: str = field(default="", repr=False)
    """The secret of the keys of servers; empty: they have none."""
    by_server: dict[str, JsonClient] = field(default_factory=dict, init=False)

    def here(self, record: LaunchRecord) -> LaunchRecord:
        """Return a record with the address here; another checkout may name the host otherwise."""
        return record.model_copy(update={"url": url_of(self.host.reached_at, record.port)})

    def client(self, record: LaunchRecord) -> JsonClient:
        """Return the client of a server, whether a forward stands or not."""
        url, client = self.here(record).url, self.by_server.get(record.name)
        SERVER_KEYS[url] = server_key(self.secret, record.name, record.served_launch)
        if client is None or client.url != url:
            client = JsonClient(url, peer=f"server `{record.name}` at {url}")
            self.by_server[record.name] = client
        return client

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

    async def answers(self, record: LaunchRecord) -> bool:
        """Return whether the server of a launch answers, not another server on its port.

        Raises:
            EngineError: FC4024, the server has another key; or as `reach`.
        """
        client = await self.reach(record)
        try:
            stamps = (await list_models(client, _REACH_S)).stamps
        except EngineError as error:
            if refuses_key(error):
                raise
            return False
        return (stamps.digest, stamps.launch) == (record.digest, record.served_launch)

    async def close(self, *servers: str) -> None:
        """Close the connections to these servers; without names, to all."""
        for name in servers or tuple(self.by_server):
            if (client := self.by_server.pop(name, None)) is not None:
                await client.close()
