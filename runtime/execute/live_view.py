"""What a run sees: the live state, kept fresh without asking before every step.

A picture of a host serves for a few seconds. What the run's own steps did since it was
taken is drawn into it, so that a step always sees the work of those before it.
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fleet.errors import EngineError, EngineUnreachableError, problem
from fleet.names import Address, kind_of_address, server_of_address
from fleet.resources import Resource, State
from runtime.engines.protocol import Engine, Observer
from runtime.execute.context import ExecutionContext
from runtime.gateway.table import RoutingTable


@dataclass(slots=True)
class _Picture:
    """One host as it was at a moment."""

    taken: float
    state: State
    resources: dict[Address, Resource]
    mine: dict[Address, tuple[float, Resource | None]] = field(default_factory=dict)
    """What own steps did, and when."""


class LiveView:
    """The live resources of all hosts, and the routing table."""

    def __init__(
        self, world: ExecutionContext, hosts: Mapping[str, str], now: Callable[[], float]
    ) -> None:
        """Prepare; nothing is asked.

        Args:
            world: What is looked at.
            hosts: Host by server, as the plan knows it.
            now: Seconds of a clock that never goes back.
        """
        self._engines: Mapping[str, Observer] = world.engines
        self._world, self._now = world, now
        self._hosts = {**world.hosts, **hosts}
        self._pictures: dict[str, _Picture] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._served: tuple[float, float, dict[tuple[str, str], str]] = (-math.inf, 0.0, {})

    def host_of(self, server: str) -> str:
        """Return the host of a server.

        Raises:
            EngineError: FC5110, nobody knows it.
        """
        host = self._hosts.get(server)
        if host is None or host not in self._world.engines:
            raise EngineError(
                problem(
                    "FC5110",
                    "A server's host is not declared",
                    f"The plan names server `{server}`, and no declared host has it.",
                    hint="The declarations have changed since; plan again.",
                    command="fleetctl plan",
                )
            )
        return host

    def meet(self, live: State) -> None:
        """Learn which host has which server."""
        self._hosts |= {each.name: each.host for each in live.servers().values()}

    def engine_of(self, server: str) -> Engine:
        """Return the engine that runs a server."""
        return self._world.engines[self.host_of(server)]

    async def resource(self, server: str, address: Address) -> Resource | None:
        """Return what is live at an address of a server; None: nothing.

        Raises:
            EngineUnreachableError: the server does not answer.
        """
        host = self.host_of(server)
        picture = self._pictures.get(host)
        if picture is None or self._now() - picture.taken > self._world.pace.look_again:
            picture = await self._look(host)
        reason = picture.state.unknown_servers.get(server)
        if reason is not None:
            raise EngineUnreachableError(
                problem("FC5111", "A server does not answer", f"`{server}`: {reason}")
            )
        return picture.resources.get(address)

    async def look_again(self, server: str) -> State:
        """Take a new picture of a server's host and return it as it was answered."""
        return (await self._look(self.host_of(server))).state

    def did(self, server: str, address: Address, after: Resource | None) -> None:
        """Draw in what an own step did."""
        picture = self._pictures[self.host_of(server)]
        gone: list[Address] = [address]
        if after is None and kind_of_address(address) == "server":
            gone += [each for each in picture.resources if server_of_address(each) == server]
        for each in gone:
            picture.mine[each] = (self._now(), after if each == address else None)
        self._draw(picture)

    async def served(self) -> Mapping[tuple[str, str], str]:
        """Return which (version, server) gets traffic, and from which alias.

        From a table read not long ago: reading may cost a fifth of the time.
        """
        taken, took, served = self._served
        if self._now() - taken >= max(self._world.pace.drain_poll, 5 * took):
            began = self._now()
            table, _ = await self._world.gateways.read_table()
            self.saw_table(table, self._now() - began)
            served = self._served[2]
        return served

    def saw_table(self, table: RoutingTable, took: float = 0.0) -> None:
        """Keep what a table says that was just read or written."""
        served = {
            (share.adapter, server): alias
            for alias, entry in table.aliases.items()
            for share in entry.shares
            if share.percent > 0
            for server in share.servers
        }
        self._served = (self._now(), took, served)

    def urls(self) -> dict[str, str]:
        """Return the base URLs of all servers that answered."""
        pictures = self._pictures.values()
        return {server: url for each in pictures for server, url in each.state.urls.items()}

    async def _look(self, host: str) -> _Picture:
        async with self._locks.setdefault(host, asyncio.Lock()):
            began = self._now()
            state = await self._engines[host].observe()
            before = self._pictures.get(host)
            picture = _Picture(self._now(), state, dict(state.resources))
            if before is not None:
                picture.mine = {a: each for a, each in before.mine.items() if each[0] >= began}
            self.meet(state)
            self._draw(picture)
            self._pictures[host] = picture
            return picture

    @staticmethod
    def _draw(picture: _Picture) -> None:
        for address, (_, after) in picture.mine.items():
            if after is None:
                picture.resources.pop(address, None)
            else:
                picture.resources[address] = after
