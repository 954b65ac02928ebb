"""The cached live state of a run, refreshed per server and updated by the run's own steps.

A picture of a server serves for a few seconds. Changes of the run's own steps are recorded in the
picture, so that a step always sees the work of the steps before.
"""

import asyncio
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from fleet.errors import EngineError, EngineUnreachableError, FleetError
from fleet.history import Damage, marked_unsure
from fleet.names import Address, adapter_address, server_of_address
from fleet.resources import LoadedAdapter, Resource, State
from runtime.engines.protocol import Engine
from runtime.execute.context import ExecutionContext
from runtime.gateway.table.table import AliasEntry, RoutingTable, ShareEntry


def no_answer(server: str, reason: str) -> EngineUnreachableError:
    """Return the error of a step on a server that does not answer."""
    return EngineUnreachableError.of("FC5111", "A server does not answer", f"`{server}`: {reason}")


@dataclass(slots=True)
class _Picture:
    """A server at a moment."""

    taken: float
    state: State
    changes: dict[Address, tuple[float, Resource | None]] = field(default_factory=dict)
    """Time and effect of own steps, in place of the state's resources."""


class LiveView:
    """The live resources of the servers that steps work on, and the routing table."""

    def __init__(self, context: ExecutionContext, hosts: Mapping[str, str]) -> None:
        """Prepare; nothing is asked. `hosts`: by server, as the plan knows them."""
        self._context = context
        self.damage: Damage = {}
        """Damage of copies, by the ledger."""
        self._hosts = {**context.hosts, **hosts}
        self._pictures: dict[str, _Picture] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._launches: dict[str, str] = {}
        self._boots: dict[str, str] = {}
        self._urls: dict[str, str] = {}
        self._digests: dict[Address, str | None] = {}
        self._served: tuple[float, float, dict[tuple[str, str], str]] = (-math.inf, 0.0, {})

    def host_of(self, server: str) -> str:
        """Return the host of a server.

        Raises:
            EngineError: FC5110, no declared host has the server.
        """
        host = self._hosts.get(server)
        if host is None or host not in self._context.engines:
            detail = f"The plan names server `{server}`, and no declared host has it."
            hint = "The declarations have changed since; plan again."
            command = "fleetctl plan"
            raise EngineError.of(
                "FC5110", "A server's host is not declared", detail, hint=hint, command=command
            )
        return host

    def learn(self, live: State) -> None:
        """Record host, address, launch and boot of every live server, and its adapters' bytes."""
        servers = live.servers()
        self._urls |= live.urls
        self._hosts |= {server.name: server.host for server in servers.values()}
        self._launches |= {name: live.launches.get(name, "") for name in servers}
        self._boots |= live.boots
        for address, adapter in live.adapters().items():
            self._learn_bytes(address, adapter)

    def engine_of(self, server: str) -> Engine:
        """Return the engine that runs a server."""
        return self._context.engines[self.host_of(server)]

    async def resource(self, server: str, address: Address) -> Resource | None:
        """Return the live resource at an address of a server; None: there is none.

        Raises:
            EngineUnreachableError: the server does not answer.
        """
        picture = await self._recent(server)
        if address in picture.changes:
            return picture.changes[address][1]
        reason = picture.state.unknown_servers.get(server)
        if reason is not None:
            raise no_answer(server, reason)
        return picture.state.resources.get(address)

    async def look_ahead(self, server: str) -> None:
        """Take a picture for a step that comes soon; what is in the way is for the step to tell."""
        with suppress(FleetError):
            await self._recent(server)

    async def refresh(self, server: str) -> State:
        """Take a new picture of a server and return its state."""
        async with self._lock(server):
            return (await self._look(server)).state

    def record_own_change(self, server: str, address: Address, after: Resource | None) -> None:
        """Record the effect of an own step."""
        picture, now = self._pictures[server], time.monotonic()
        if after is None and address.startswith("server/"):
            for resource in (*picture.state.resources, *picture.changes):
                if server_of_address(resource) == server:
                    picture.changes[resource] = now, None
        picture.changes[address] = now, after
        if isinstance(after, LoadedAdapter):
            self._learn_bytes(address, after)

    async def served(self) -> Mapping[tuple[str, str], str]:
        """Return which (version, server) gets traffic, and from which alias.

        By the newest table and by all that gateways serve, read not long ago: reading may cost a
        fifth of the time.

        Raises:
            EngineError: a running gateway does not say what it serves.
        """
        taken, took, served = self._served
        if time.monotonic() - taken >= max(self._context.timings.drain_poll, 5 * took):
            began = time.monotonic()
            tables = await self._context.gateways.served_tables()
            self.record_tables(*tables, took=time.monotonic() - began)
            served = self._served[2]
        return served

    def record_tables(self, *tables: RoutingTable, took: float = 0.0) -> None:
        """Record the tables by which traffic goes, just read or acknowledged by every gateway."""
        served = {
            (share.adapter, server): alias
            for table in tables
            for alias, entry in table.aliases.items()
            for share in entry.shares
            if share.percent > 0
            for server in share.servers
        }
        self._served = (time.monotonic(), took, served)

    def urls(self) -> dict[str, str]:
        """Return the base URLs of all servers that answered."""
        return dict(self._urls)

    def launches(self) -> dict[str, str]:
        """Return the launches of all servers that answered; empty for a server without one."""
        return dict(self._launches)

    def launch_or_boot(self, server: str) -> str | None:
        """Return the launch of a server, or the boot without a launch; None: neither is known."""
        return self._launches.get(server) or self._boots.get(server)

    def with_digests(self, entry: AliasEntry) -> AliasEntry:
        """Return an alias whose versions name the bytes that servers were last seen to hold."""
        shares = (
            share.model_copy(update={"digest": self._digest_of(share)}) for share in entry.shares
        )
        return entry.model_copy(update={"shares": tuple(shares)})

    def _digest_of(self, share: ShareEntry) -> str | None:
        """Return the digest of a version; None: unknown, or not the same on all its servers."""
        places = [adapter_address(share.adapter, server) for server in share.servers]
        seen = {self._digests[place] for place in places if place in self._digests}
        if not seen:
            return share.digest
        digest = seen.pop() if len(seen) == 1 else None
        return digest[:12] if digest else None

    def _learn_bytes(self, address: Address, adapter: LoadedAdapter) -> None:
        self._digests[address] = None if adapter.unsure else adapter.digest

    def _lock(self, server: str) -> asyncio.Lock:
        return self._locks.setdefault(server, asyncio.Lock())

    async def _recent(self, server: str) -> _Picture:
        async with self._lock(server):
            picture = self._pictures.get(server)
            if picture is None or time.monotonic() - picture.taken > self._context.timings.refresh:
                picture = await self._look(server)
            return picture

    async def _look(self, server: str) -> _Picture:
        began = time.monotonic()
        seen = await self.engine_of(server).observe(server)
        state = marked_unsure(seen, self.damage)
        before = self._pictures.get(server)
        changes = before.changes.items() if before else ()
        recent = {address: change for address, change in changes if change[0] >= began}
        self.learn(state)
        self._pictures[server] = picture = _Picture(time.monotonic(), state, recent)
        return picture
