"""Looking at many servers at the same time, and writing down what was seen."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.errors import EngineError
from fleet.names import Address
from fleet.resources import Resource, Server, State
from runtime.engines.dialect import Sighting, loaded, look
from runtime.transport import JsonClient

AT_ONCE = 64
"""Servers asked at the same time, by one engine."""


async def look_at_all(clients: Mapping[str, JsonClient]) -> dict[str, Sighting | EngineError]:
    """Ask every server; what failed is in the place of the answer."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(http: JsonClient) -> Sighting | EngineError:
        async with room:
            try:
                return await look(http)
            except EngineError as error:
                return error

    answers = await asyncio.gather(*(one(http) for http in clients.values()))
    return dict(zip(clients, answers, strict=True))


@dataclass(slots=True)
class Notebook:
    """A state while it is being written down."""

    resources: dict[Address, Resource] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    boots: dict[str, str] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    bases: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def saw(self, server: Server, url: str, sighting: Sighting) -> None:
        """Write down a server that answered, with what it lists."""
        self.resources[server.address] = server
        self.urls[server.name] = url
        if sighting.boot:
            self.boots[server.name] = sighting.boot
        if sighting.version:
            self.versions[server.name] = sighting.version
        for name, path in sighting.listing.adapters.items():
            adapter = loaded(server.name, name, path)
            self.resources[adapter.address] = adapter

    def missed(self, name: str, error: EngineError) -> None:
        """Write down that a server did not answer."""
        self.unknown[name] = "; ".join(each.detail for each in error.diagnostics)

    def state(self) -> State:
        """Return the state, everything sorted."""
        return State(
            resources=dict(sorted(self.resources.items())),
            unknown_servers=dict(sorted(self.unknown.items())),
            boots=dict(sorted(self.boots.items())),
            urls=dict(sorted(self.urls.items())),
            versions=dict(sorted(self.versions.items())),
            bases={name: each for name, each in sorted(self.bases.items()) if each},
            notes=tuple(self.notes),
        )
