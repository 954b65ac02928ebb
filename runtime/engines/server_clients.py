"""Reaches the servers of a host by HTTP, and tells their launches apart."""

from dataclasses import dataclass, field
from typing import Final

from fleet.environment import server_key
from fleet.errors import EngineError
from fleet.hardware import HostSpec
from runtime.engines.launch_records import LaunchRecord
from runtime.engines.recognition import url_of
from runtime.engines.vllm_api import list_models, refuses_key
from runtime.json_client import SERVER_KEYS, JsonClient

_ANSWER_S: Final = 2.0
"""Upper bound of the wait for a list of models in a start. Seconds."""


@dataclass(eq=False)
class ServerClients:
    """Clients of a host's servers, by server."""

    host: HostSpec
    secret: str = field(default="", repr=False)
    """The secret of the keys of servers; empty: they have none."""
    by_server: dict[str, JsonClient] = field(default_factory=dict, init=False)

    def here(self, record: LaunchRecord) -> LaunchRecord:
        """Return a record with the address that is declared now."""
        return record.model_copy(update={"url": url_of(self.host.reached_at, record.port)})

    def client(self, record: LaunchRecord) -> JsonClient:
        """Return the client of a server."""
        url, client = self.here(record).url, self.by_server.get(record.name)
        SERVER_KEYS[url] = server_key(self.secret, record.name, record.served_launch)
        if client is None or client.url != url:
            client = JsonClient(url, peer=f"server `{record.name}` at {url}")
            self.by_server[record.name] = client
        return client

    async def reach(self, record: LaunchRecord) -> JsonClient:
        """Return the client of a server; a subclass makes the way to the port first."""
        return self.client(record)

    async def answers(self, record: LaunchRecord) -> bool:
        """Return whether the server of a launch answers, not another server on its port.

        Raises:
            EngineError: FC4024, the server has another key; or as `reach`.
        """
        client = await self.reach(record)
        try:
            stamps = (await list_models(client, _ANSWER_S)).stamps
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
