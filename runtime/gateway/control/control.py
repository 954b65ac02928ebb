"""All gateways of a fleet together: publish a table, wait for acknowledgements, restart."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Final, Self, TypeVar

from fleet.errors import (
    EngineError,
    EngineRejectedError,
    EngineTimedOutError,
    EngineUnreachableError,
    FleetError,
)
from fleet.spec import GatewaySpec
from runtime.gateway.admin.admin_socket import is_url
from runtime.gateway.admin.protocol import (
    READ_S,
    GatewayLoad,
    GatewayStatus,
    Note,
    ObservedShare,
    OnServer,
    Published,
)
from runtime.gateway.admin.state_dir import known_gateways, remember, write_table
from runtime.gateway.control import faults
from runtime.gateway.control.client import (
    AdminClient,
    Config,
    GatewayClient,
    ObservedGateways,
    connect,
    lacking,
    newest_of,
    tables_of,
    use_keys,
    written_table,
)
from runtime.gateway.control.supervisor import START_S
from runtime.gateway.envoy.admin import Envoys
from runtime.gateway.http.timeouts import GRACE_S
from runtime.gateway.table.table import RoutingTable
from runtime.gateway.table.table_loader import InvalidTableError, build_routes

_Answer = TypeVar("_Answer")


class LocalGateways:
    """The declared gateways, else the remembered."""

    def __init__(
        self,
        state_dir: Path,
        gateways: Mapping[str, GatewaySpec] | None = None,
        envoys: Envoys | None = None,
        fleet_id: str = "",
    ) -> None:
        self._state_dir, self._envoys, self._fleet_id = state_dir, envoys, fleet_id
        self._gateways = dict(gateways) if gateways else known_gateways(state_dir)
        self._clients: dict[str, GatewayClient] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The gateways' names, sorted."""
        return tuple(sorted(self._gateways))

    async def read_table(self, within_s: float = READ_S) -> tuple[RoutingTable, tuple[Note, ...]]:
        """Return the newest table that the file or any gateway holds, and notes.

        A gateway that lags behind or does not show its table within `within_s` seconds is a note.

        Raises `EngineError` where the file is damaged and no gateway has a table either,
        `NewerFormatError` where it is of a later format.
        """
        return await self._newest(written_table(self._state_dir), await self._configs(within_s))

    async def observe(self) -> ObservedGateways:
        """Ask every gateway once; return the newest table and the faults of gateways.

        Raises `NewerFormatError` as `read_table`.
        """
        written, configs = written_table(self._state_dir), await self._configs()
        found = await asyncio.to_thread(faults.faults_of, self._state_dir, self._gateways, configs)
        try:
            newest = await self._newest(written, configs)
        except EngineError as error:
            return ObservedGateways(error, (), found, lacking(configs))
        return ObservedGateways(*newest, found, lacking(configs))

    async def served_tables(self) -> tuple[RoutingTable, ...]:
        """Return the tables by which traffic goes; errors as `read_table` and `tables_of`."""
        written, configs = written_table(self._state_dir), await self._configs()
        return await tables_of((await self._newest(written, configs))[0], configs, self._client)

    async def publish(self, table: RoutingTable) -> tuple[Note, ...]:
        """Write the table durably, hand the table to every gateway, wait for acknowledgements.

        Returns notes, such as that no gateway runs: a gateway reads the file when it starts.

        Raises:
            StalePlanError: another run has written this revision or a later one.
            LockHeldError: the table was made under a lease that is no longer the newest.
            EngineError: a running gateway refuses the table or does not answer; the file is
                written and the others serve the table.
        """
        done = await self.publish_and_report(table)
        for _, error in done.failures:
            raise error
        return done.notes

    async def publish_and_report(self, table: RoutingTable, *, urgent: bool = False) -> Published:
        """Publish as `publish` does, and return the gateways' answers instead of raising.

        `urgent`: gateways are to serve the table although its file cannot be written.

        Raises:
            EngineRejectedError: FC6006, no gateway would serve the table; nothing is written.
            StalePlanError, LockHeldError: as `publish`.
            OSError: the file cannot be written or is locked; if urgent, and no gateway serves it.
        """
        try:
            await asyncio.to_thread(build_routes, table)
        except InvalidTableError as error:
            raise EngineRejectedError.of(
                "FC6006", "The routing table is not to be served", f"{error}."
            ) from None
        unwritten: OSError | None = None
        try:
            await asyncio.to_thread(write_table, self._state_dir, table, urgent=urgent)
            await asyncio.to_thread(remember, self._state_dir, self._gateways)
        except OSError as error:
            if not urgent:
                raise
            unwritten = error
        clock = asyncio.get_running_loop().time
        acknowledged_at = clock()

        async def serve(name: str) -> bool | EngineError:
            nonlocal acknowledged_at
            answer = await self._serve(name, table)
            if not isinstance(answer, EngineError):
                acknowledged_at = clock()
            return answer

        answers = await asyncio.gather(*(serve(name) for name in self.names))
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
        """Return the requests for a version on a server that run or wait, as `all_in_flight`."""
        return (await self.all_in_flight())[server, adapter]

    async def all_in_flight(self) -> Counter[OnServer]:
        """Return the requests that run or wait by server and version, over all gateways.

        A request that waits counts on every server that may get the request. Raises `EngineError`
        where a running gateway does not answer.
        """
        total: Counter[OnServer] = Counter()
        for load in await asyncio.gather(*(self._load(name) for name in self.names)):
            total += load.in_flight + load.queued
        return total

    async def loaded(self, server: str, adapter: str) -> None:
        """Tell every gateway that a version was just loaded; one that does not listen is fine."""

        async def tell(name: str) -> None:
            client = self._client(name)
            if isinstance(client, AdminClient):
                with suppress(EngineError):
                    await client.loaded(server, adapter)

        await asyncio.gather(*(tell(name) for name in self.names))

    async def shares(self, names: Iterable[str]) -> tuple[ObservedShare, ...]:
        """Return the split of aliases by those of some gateways that answer."""

        async def ask(name: str) -> tuple[ObservedShare, ...]:
            try:
                return await self._call(name, lambda client: client.shares())
            except EngineError:
                return ()

        return tuple(chain.from_iterable(await asyncio.gather(*map(ask, names))))

    async def require_secret(self) -> None:
        """Raise FC4026 where servers that are started now would refuse a gateway."""
        faults.require_secret(self._state_dir, self._gateways, await self._configs())

    async def statuses(self) -> tuple[GatewayStatus, ...]:
        """Return the status of every gateway, by name."""
        return tuple(await asyncio.gather(*(self._status(name) for name in self.names)))

    async def close(self) -> None:
        """Release connections."""
        await asyncio.gather(*(client.close() for client in self._clients.values()))
        self._clients.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _newest(
        self, written: RoutingTable | FleetError, configs: Mapping[str, Config]
    ) -> tuple[RoutingTable, tuple[Note, ...]]:
        newest, notes = await newest_of(written, configs, self._client)
        use_keys(self._state_dir, newest, self._gateways.values())
        return newest, notes

    async def _status(self, name: str) -> GatewayStatus:
        if (config := await self._config(name)) is None:
            return GatewayStatus(name)
        try:
            if isinstance(config, EngineError):
                raise config
            load, shares = await self._client(name).load(), await self._client(name).shares()
        except EngineError as error:
            return GatewayStatus(name, problem=error.diagnostics[0].detail)
        return GatewayStatus(
            name,
            config.revision,
            config.digest,
            load.in_flight.total(),
            waiting=load.waiting,
            shares=shares,
            servers=tuple(sorted(config.servers.items())),
            missing=config.missing,
            unlogged=tuple(config.unlogged.items()),
        )

    async def _configs(self, within_s: float = READ_S) -> dict[str, Config]:
        configs = await asyncio.gather(*(self._config(name, within_s) for name in self.names))
        return dict(zip(self.names, configs, strict=True))

    async def _config(self, name: str, within_s: float = READ_S) -> Config:
        try:
            return await self._call(name, lambda client: client.config(within_s))
        except EngineError as error:
            return await self._error_if_running(name, error)

    async def _load(self, name: str) -> GatewayLoad:
        try:
            return await self._call(name, lambda client: client.load())
        except EngineUnreachableError as error:
            fault = await self._error_if_running(name, error)
            if fault is None:
                return GatewayLoad(Counter())
            raise fault from None

    async def _serve(self, name: str, table: RoutingTable) -> bool | EngineError:
        """Return True once the gateway serves the table, False if the gateway does not run."""
        try:
            revision, digest = await self._call(name, lambda client: client.serve(table))
        except EngineError as error:
            return await self._error_if_running(name, error) or False
        if (revision, digest) == (table.revision, table.digest):
            return True
        given = f"Gateway `{name}` was given revision {table.revision} and says that it serves "
        detail, command = f"{given}{revision} ({digest[:12]}).", "fleetctl reconcile --once"
        return EngineRejectedError.of(
            "FC6005", "A gateway serves another table", detail, command=command
        )

    async def _error_if_running(self, name: str, error: EngineError) -> EngineError | None:
        """Return the error of a gateway that gave no answer; None: the gateway does not run."""
        if isinstance(error, EngineTimedOutError) or not isinstance(error, EngineUnreachableError):
            return error
        gateway = self._gateways[name]
        if is_url(gateway.admin):  # over TCP nothing proves that the gateway does not run
            return error
        return await faults.unreachable_error(self._state_dir, gateway, error)

    async def _call(
        self, name: str, call: Callable[[GatewayClient], Awaitable[_Answer]]
    ) -> _Answer:
        """Call a gateway, and again where the gateway goes on: the process was started anew."""
        try:
            return await call(self._client(name))
        except EngineTimedOutError:
            raise
        except EngineUnreachableError:
            is_remote = is_url(self._gateways[name].admin)
            if is_remote or not await faults.still_runs(self._state_dir, name):
                raise
            return await call(self._client(name))

    def _client(self, name: str) -> GatewayClient:
        if name not in self._clients:
            its = self._state_dir, self._gateways[name], self._envoys
            self._clients[name] = connect(*its, self._fleet_id)
        return self._clients[name]


_POLL_S: Final = 0.1


async def require_others(gateways: LocalGateways, restarted: str) -> None:
    """Refuse to take a gateway out while another does not answer by the newest table.

    Raises:
        EngineRejectedError: FC6017.
    """
    newest, _ = await gateways.read_table()
    for status in await gateways.statuses():
        if status.name == restarted or status.digest == newest.digest:
            continue
        lag = f"serves revision {status.revision}, the newest is {newest.revision}"
        silent = status.revision is None
        why = (status.problem or "does not run") if silent else lag
        raise EngineRejectedError.of(
            "FC6017",
            "Another gateway would not take over",
            f"Gateway `{status.name}`: {why.rstrip('.')}. While `{restarted}` starts anew, "
            f"clients would have no gateway, or older routes. `{restarted}` was left as it is.",
            hint="Start the other gateway first, or bring its routes up to date.",
            command="fleetctl gateway status" if silent else "fleetctl reconcile --once",
        )


async def restart(name: str, gateways: LocalGateways, client: AdminClient, wait_s: float) -> None:
    """Start a gateway anew; return once it is ready with the newest table.

    The gateway first says for `wait_s` seconds that it is not ready: it goes on answering,
    balancers take it out, and running requests end. Its program, certificate and the files of its
    secrets are read anew; its settings and variables stay those of its start.

    Raises:
        EngineError: the gateway cannot be asked.
        FleetError: FC6018, the gateway is not back in time.
    """
    clock = asyncio.get_running_loop().time
    boot = await client.restart(wait_s)
    longest_s = wait_s + GRACE_S + START_S
    deadline = clock() + longest_s
    while True:
        with suppress(EngineError):
            if await client.boot() != boot:
                newest, _ = await gateways.read_table()
                if (await client.config()).digest != newest.digest:
                    await client.serve(newest)
                if await client.is_ready():
                    return
        if clock() > deadline:
            raise FleetError.of(
                "FC6018",
                "A gateway is not back",
                f"Gateway `{name}` was told to start anew and is not ready after "
                f"{longest_s:.0f} s. Clients are answered by the others; none of these was "
                "restarted after it.",
                hint="Look at its log where it runs, start it there, then say the same again.",
                command="fleetctl gateway status",
            )
        await asyncio.sleep(_POLL_S)
