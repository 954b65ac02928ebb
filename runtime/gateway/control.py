"""All gateways of a fleet as one: publish a table, wait for every acknowledgement."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from fleet.errors import (
    EngineError,
    EngineRejectedError,
    EngineTimedOutError,
    EngineUnreachableError,
    FleetError,
    problem,
)
from fleet.file_formats import NewerFormatError
from fleet.resources import GatewayFault
from fleet.spec import GatewaySpec
from runtime.gateway import places, running
from runtime.gateway.envoyadmin import EnvoyAdmin, Envoys
from runtime.gateway.kept import keep, require_servable
from runtime.gateway.operator import operator_secret
from runtime.gateway.published import Note, Published, lagging, unreachable
from runtime.gateway.sights import Sight
from runtime.gateway.table import RoutingTable
from runtime.gateway.tablefile import read_table
from runtime.gateway.unreached import comes_back, unreached
from runtime.json_client import JsonClient

READ_S = 2.0
"""How long a gateway may take to show what it serves."""
ACKNOWLEDGE_S = 15.0
"""How long a gateway may take to serve a new table."""


class LocalGateways:
    """The gateways that a state folder or the declarations name.

    Keeps the contract of `runtime.gateway.protocol.Gateways`.
    """

    def __init__(
        self,
        state_dir: Path,
        gateways: Mapping[str, GatewaySpec] | None = None,
        envoys: Envoys | None = None,
    ) -> None:
        """Prepare; nothing is sent.

        Args:
            state_dir: The fleet's state folder, which holds the table's file.
            gateways: As declared; None or empty: those that `state_dir` remembers.
            envoys: How the files of those that are Envoys are made.
        """
        self._state_dir = state_dir
        self._gateways = dict(gateways) if gateways else places.known(state_dir)
        self._envoys = envoys
        self._clients: dict[str, JsonClient | EnvoyAdmin] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The gateways' names, sorted."""
        return tuple(sorted(self._gateways))

    async def read(self, within_s: float = READ_S) -> tuple[RoutingTable, tuple[Note, ...]]:
        """Return the newest table that the file or any gateway holds, and notes.

        A gateway that does not show its own within `within_s` seconds is a note.

        Raises:
            EngineError: the file is damaged and no gateway has a table either.
            NewerFormatError: the file is of a later format.
        """
        notes: list[Note] = []
        damage: FleetError | None = None
        newest = RoutingTable(revision=0)
        try:
            newest = read_table(self._state_dir) or newest
        except NewerFormatError:
            raise
        except FleetError as error:
            damage = error
            notes.append(Note(error.diagnostics[0].detail))
        shown = await asyncio.gather(*(self._config(name, within_s) for name in self.names))
        served = dict(zip(self.names, shown, strict=True))
        for name, config in served.items():
            if isinstance(config, dict) and config["revision"] > newest.revision:
                newest = await self._table(name)
                notes.append(Note("holds a newer table than the file", name))
        if damage is not None and newest.revision == 0:
            raise EngineError(*damage.diagnostics)
        for name, config in served.items():
            notes += lagging(name, config, newest)
        notes += [unreachable(each) for each in newest.without_address]
        return newest, tuple(notes)

    async def publish(self, table: RoutingTable) -> tuple[Note, ...]:
        """Write the table durably and give it to every gateway; return notes.

        Raises:
            StalePlanError: another run has written this revision or a later one.
            LockHeldError: the table was made under a lease that is no longer the newest.
            EngineError: a running gateway refuses or does not answer; the file is written
                and the others serve the table.
        """
        done = await self.publish_and_report(table)
        for _, error in done.failures:
            raise error
        return done.notes

    async def publish_and_report(self, table: RoutingTable, *, urgent: bool = False) -> Published:
        """Publish as `publish` does, and say what each gateway answered instead of raising.

        Args:
            table: The next revision.
            urgent: Whether gateways are to serve it although its file cannot be written.

        Raises:
            EngineRejectedError: no gateway would serve it; nothing is written.
            StalePlanError, LockHeldError: as `publish`.
            OSError: the file cannot be written; where it is urgent, and no gateway took it either.
        """
        await asyncio.to_thread(require_servable, table)
        unwritten = await asyncio.to_thread(keep, self._state_dir, table, self._gateways)
        if unwritten is not None and not urgent:
            raise unwritten
        clock = asyncio.get_running_loop().time
        acknowledged_at = clock()

        async def give(name: str) -> bool | EngineError:
            nonlocal acknowledged_at
            answer = await self._give(name, table)
            if not isinstance(answer, EngineError):
                acknowledged_at = clock()
            return answer

        answers = await asyncio.gather(*(give(name) for name in self.names))
        by_name = dict(zip(self.names, answers, strict=True))
        if unwritten is not None and True not in answers:
            raise unwritten
        return Published(
            tuple(name for name, answer in by_name.items() if answer is True),
            tuple(name for name, answer in by_name.items() if answer is False),
            tuple((n, a) for n, a in by_name.items() if isinstance(a, EngineError)),
            clock() - acknowledged_at,
            (unwritten.strerror or str(unwritten)) if unwritten is not None else "",
        )

    async def in_flight(self, server: str, adapter: str) -> int:
        """Return the requests for a version on a server that run or wait, over all gateways.

        Raises:
            EngineError: a running gateway does not say.
        """
        return (await self.everything_in_flight())[server, adapter]

    async def missing(self) -> tuple[tuple[str, str], ...]:
        """Return (full adapter name, server) that gateways were sent to in vain, sorted."""
        shown = await asyncio.gather(*(self._config(name) for name in self.names))
        configs = (each for each in shown if isinstance(each, dict))
        return tuple(
            sorted({(m["adapter"], m["server"]) for c in configs for m in c.get("missing", ())})
        )

    async def faults(self) -> dict[str, GatewayFault]:
        """Return by name the gateways that are down, frozen, or run otherwise than declared."""
        found = await asyncio.to_thread(running.strays, self._state_dir, self._gateways)
        shown = await asyncio.gather(*(self._config(name) for name in self.names))
        for name, config in zip(self.names, shown, strict=True):
            if name not in found and not isinstance(config, dict):
                fault = running.unanswered(self._state_dir, self._gateways[name], config)
                found |= {name: fault} if fault else {}
        return dict(sorted(found.items()))

    async def look(self) -> tuple[Sight, ...]:
        """Return what each gateway shows, by name."""
        return tuple(await asyncio.gather(*(self._look(name) for name in self.names)))

    async def close(self) -> None:
        """Release connections."""
        await asyncio.gather(*(client.close() for client in self._clients.values()))
        self._clients.clear()

    async def _look(self, name: str) -> Sight:
        config = await self._config(name)
        if config is None:
            return Sight(name)
        try:
            if isinstance(config, EngineError):
                raise config
            counts = await self._client(name).get("/-/inflight", timeout_s=READ_S, attempts=1)
            shown = await self._client(name).get("/-/shares", timeout_s=READ_S, attempts=1)
        except EngineError as error:
            return Sight(name, problem=error.diagnostics[0].detail)
        return Sight.of(name, config, counts, shown)

    async def everything_in_flight(self) -> Counter[tuple[str, str]]:
        """Return the requests by (server, adapter), over all gateways; who waits, on each server.

        Raises:
            EngineError: a running gateway does not say.
        """
        total: Counter[tuple[str, str]] = Counter()
        for shown in await asyncio.gather(*(self._running(name) for name in self.names)):
            for each in shown:
                total[each["server"], each["adapter"]] += each["count"]
        return total

    async def _running(self, name: str) -> list[dict[str, Any]]:
        try:
            shown = await self._asked(name, "/-/inflight")
        except EngineUnreachableError as error:
            fault = await self._fault(name, error)
            if fault is None:
                return []
            raise fault from None
        return [*shown["in_flight"], *shown.get("queued", ())]

    async def _config(
        self, name: str, within_s: float = READ_S
    ) -> dict[str, Any] | EngineError | None:
        try:
            shown = await self._asked(name, "/-/config", within_s)
        except EngineError as error:
            return await self._fault(name, error)
        return dict(shown)

    async def _table(self, name: str) -> RoutingTable:
        return RoutingTable.model_validate(await self._client(name).get("/-/table"))

    async def _give(self, name: str, table: RoutingTable) -> bool | EngineError:
        """Return True once the gateway serves the table, False if it does not run."""
        body = table.model_dump(mode="json")

        async def give() -> Any:
            return await self._client(name).put("/-/config", body, timeout_s=ACKNOWLEDGE_S)

        try:
            shown = await self._again(name, give)
        except EngineError as error:
            return await self._fault(name, error) or False
        if (shown["revision"], shown["digest"]) == (table.revision, table.digest):
            return True
        return EngineRejectedError(
            200,
            problem(
                "FC6005",
                "A gateway serves another table",
                f"Gateway `{name}` was given revision {table.revision} and says that it serves "
                f"{shown['revision']} ({str(shown['digest'])[:12]}).",
            ),
        )

    async def _fault(self, name: str, error: EngineError) -> EngineError | None:
        """Return what is wrong with a gateway that gave no answer; None: it does not run."""
        if isinstance(error, EngineTimedOutError) or not isinstance(error, EngineUnreachableError):
            return error
        gateway = self._gateways[name]
        if places.is_url(gateway.admin):  # over TCP nothing proves that it does not run
            return error
        return await unreached(self._state_dir, gateway, error)

    async def _asked(self, name: str, path: str, within_s: float = READ_S) -> Any:
        async def ask() -> Any:
            return await self._client(name).get(path, timeout_s=within_s, attempts=1)

        return await self._again(name, ask)

    async def _again(self, name: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Ask a gateway, and once more where it had lost its socket and has opened it anew."""
        try:
            return await ask()
        except EngineTimedOutError:
            raise
        except EngineUnreachableError:
            gateway = self._gateways[name]
            if places.is_url(gateway.admin) or not await comes_back(self._state_dir, gateway):
                raise
            return await ask()

    def _client(self, name: str) -> JsonClient | EnvoyAdmin:
        gateway = self._gateways[name]
        path = places.socket_path(self._state_dir, gateway)
        if not places.is_url(gateway.admin):
            places.check_socket_folder(path)
        if name not in self._clients:
            made: JsonClient | EnvoyAdmin
            if gateway.kind == "envoy":
                assert self._envoys is not None, "whoever knows of Envoys says how they are written"
                place = places.folder(self._state_dir.resolve(), name)
                made = EnvoyAdmin(gateway, place, path, self._envoys)
            elif places.is_url(gateway.admin):
                secret = operator_secret(self._state_dir, gateway)
                proof = {"Authorization": f"Bearer {secret}"}
                made = JsonClient(gateway.admin, peer=f"gateway `{name}`", headers=proof)
            else:
                made = JsonClient("http://gateway", peer=f"gateway `{name}`", socket=path)
            self._clients[name] = made
        return self._clients[name]
