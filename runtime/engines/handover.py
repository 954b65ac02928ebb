"""Keeps servers by the declared supervisor, and finds those of the supervisor before."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from fleet.names import Address
from fleet.resources import Server, State
from runtime.engines.observation import merge
from runtime.engines.protocol import Completion, Engine


@dataclass(eq=False)
class HandoverEngine:
    """Starts servers by the declared supervisor; finds and stops those of the other too.

    A server of the other supervisor differs from the plan's by its `supervisor`, so that the plan
    replaces the server: stops it where it runs, and starts it anew.
    """

    declared: Engine
    other: Engine
    _by_other: frozenset[str] | None = field(default=None, init=False)
    """Servers of the other supervisor; None: not observed yet."""

    async def observe(self, only: str = "") -> State:
        """Return the servers of both supervisors."""
        seen, other = await asyncio.gather(self.declared.observe(only), self.other.observe(only))
        if not only:
            self._by_other = frozenset(other.servers()) | other.unknown_servers.keys()
        return merge(seen, other)

    async def check_start(self, server: Server) -> None:
        """Refuse a start that cannot succeed, by the declared supervisor."""
        await self.declared.check_start(server)

    async def start(self, server: Server) -> None:
        """Start a server by the declared supervisor, after a stop by the other supervisor."""
        await self.other.stop(server.name)
        self._by_other = (self._by_other or frozenset()) - {server.name}
        await self.declared.start(server)

    async def stop(self, server: str) -> None:
        """Stop a server of either supervisor."""
        await asyncio.gather(self.declared.stop(server), self.other.stop(server))

    async def load(self, server: str, adapter: str, source: str) -> None:
        """Load an adapter from a folder."""
        await (await self._of(server)).load(server, adapter, source)

    async def unload(self, server: str, adapter: str) -> None:
        """Unload an adapter; an absent one is fine."""
        await (await self._of(server)).unload(server, adapter)

    async def keep_for_restart(self, live: State, kept: Collection[Address]) -> None:
        """Let a restart bring back the live adapters that are kept, and no others."""
        await self.declared.keep_for_restart(live, kept)

    async def complete(
        self, server: str, model: str, prompt: str, max_tokens: int = 64
    ) -> Completion:
        """Return the greedy answer to a text."""
        return await (await self._of(server)).complete(server, model, prompt, max_tokens)

    async def close(self) -> None:
        """Release connections; servers go on running."""
        await asyncio.gather(self.declared.close(), self.other.close())

    async def _of(self, server: str) -> Engine:
        if self._by_other is None:
            await self.observe()
        return self.other if server in (self._by_other or ()) else self.declared
