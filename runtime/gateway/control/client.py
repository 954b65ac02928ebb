"""Connections to gateways: the client of our own admin API, and the choice of a client."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fleet.errors import EngineError, EngineRejectedError, FleetError, NewerFormatError
from fleet.names import forwarded_address
from fleet.resources import Fault
from fleet.spec import GatewaySpec
from runtime.engines.remote.connection import SshConnection
from runtime.files import is_locked
from runtime.gateway.admin.admin_socket import is_url, reachable_path, socket_path
from runtime.gateway.admin.protocol import (
    ACKNOWLEDGE_S,
    READ_S,
    GatewayConfig,
    GatewayLoad,
    Note,
    ObservedShare,
    OnServer,
    address_unknown,
    lagging,
)
from runtime.gateway.admin.state_dir import (
    LOCK,
    gateway_dir,
    keys_of_servers,
    known_gateways,
    operator_secret,
    read_table,
    remember,
)
from runtime.gateway.envoy.admin import EnvoyClient, Envoys
from runtime.gateway.table.table import RoutingTable
from runtime.gateway.traffic.limits import MonthFigures
from runtime.json_client import SERVER_KEYS, SERVER_TLS, JsonClient
from runtime.server_tls import TlsFilesError
from runtime.trust import OPERATOR, authorization, require_bound
from runtime.usage.sync import UsageSource


@dataclass(frozen=True, slots=True)
class AdminClient:
    """The admin side of a gateway of ours.

    Raises from every method:
        EngineUnreachableError: no connection, or no answer in time (`EngineTimedOutError`).
        EngineRejectedError: an answer that is no success.
    """

    _http: JsonClient
    _fleet_id: str = ""
    """Id of the fleet that the gateway is to serve; empty: not known, and not compared."""

    async def config(self, timeout_s: float = READ_S) -> GatewayConfig:
        """Return which table the gateway serves, and how servers answer."""
        shown = await self._http.get("/-/config", timeout_s=timeout_s, attempts=1)
        self._require_own(str(shown.get("fleet_id", "")))  # not shown by earlier releases
        with self._understood():
            pairs = shown.get("missing", ())
            return GatewayConfig(
                int(shown["revision"]),
                str(shown["digest"]),
                {str(name): str(how) for name, how in shown.get("servers", {}).items()},
                tuple((str(pair["adapter"]), str(pair["server"])) for pair in pairs),
                str(shown.get("refusing", "")),  # not shown by earlier releases
                shown.get("servers_secret"),
                {str(name): str(mark) for name, mark in shown.get("server_keys", {}).items()},
                {str(name): int(count) for name, count in shown.get("unlogged", {}).items()},
            )

    async def load(self) -> GatewayLoad:
        """Return the requests that have not ended."""
        shown = await self._http.get("/-/inflight", timeout_s=READ_S, attempts=1)
        with self._understood():
            queued = _by_server(shown.get("queued", ()))
            return GatewayLoad(_by_server(shown["in_flight"]), queued, int(shown["waiting"]))

    async def shares(self) -> tuple[ObservedShare, ...]:
        """Return the split of aliases that have several versions."""
        shown = await self._http.get("/-/shares", timeout_s=READ_S, attempts=1)
        with self._understood():
            return tuple(ObservedShare(**share) for share in shown["shares"])

    async def metrics(self) -> str:
        """Return the counters as Prometheus reads them."""
        return await self._http.get_text("/metrics", timeout_s=READ_S, attempts=1)

    async def table(self) -> RoutingTable:
        """Return the table that the gateway serves."""
        shown = await self._http.get("/-/table")
        with self._understood():
            return RoutingTable.model_validate(shown)

    async def serve(self, table: RoutingTable, timeout_s: float = ACKNOWLEDGE_S) -> tuple[int, str]:
        """Hand over a table; return revision and digest of the table that is served then."""
        body = table.model_dump(mode="json")
        query = f"?fleet={self._fleet_id}" if self._fleet_id else ""
        shown = await self._http.put(f"/-/config{query}", body, timeout_s=timeout_s)
        with self._understood():
            return int(shown["revision"]), str(shown["digest"])

    async def restart(self, after_s: float) -> str:
        """Tell the gateway to start anew after some seconds; return the boot that then ends."""
        shown = await self._http.post("/-/restart", {"after_s": after_s}, timeout_s=READ_S)
        with self._understood():
            return str(shown["boot"])

    async def boot(self) -> str:
        """Return the mark of the present start of the process."""
        shown = await self._http.get("/-/healthz", timeout_s=READ_S, attempts=1)
        with self._understood():
            return str(shown["boot"])

    async def is_ready(self) -> bool:
        """Return whether clients are answered."""
        try:
            await self._http.get("/-/readyz", timeout_s=READ_S, attempts=1)
        except EngineRejectedError:
            return False
        return True

    async def loaded(self, server: str, adapter: str) -> None:
        """Tell that a version was just loaded: earlier answers of 404 count no more."""
        body = {"server": server, "adapter": adapter}
        await self._http.post("/-/loaded", body, timeout_s=READ_S)

    async def use_month(self, figures: MonthFigures) -> None:
        """Hand over the requests and tokens of this month, by client and alias."""
        query = f"?fleet={self._fleet_id}" if self._fleet_id else ""
        await self._http.put(f"/-/month{query}", figures.model_dump(mode="json"), timeout_s=READ_S)

    async def close(self) -> None:
        """Release connections."""
        await self._http.close()

    def _require_own(self, fleet_id: str) -> None:
        if self._fleet_id and fleet_id not in ("", self._fleet_id):
            raise EngineRejectedError.of(
                "FC4103",
                "A server of another fleet",
                f"{self._http.peer} serves the fleet of id {fleet_id}, and this is the fleet of id "
                f"{self._fleet_id}. It was left as it is.",
                hint="Declare another `admin` for the gateway in one of the two fleets.",
            )

    @contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError):
            detail = f"{self._http.peer} answered in another form than a gateway of fleetctl."
            hint = "Check that the address is that of its admin side."
            raise EngineRejectedError.of(
                "FC4004", "Answer not understood", detail, hint=hint
            ) from None


GatewayClient = AdminClient | EnvoyClient


def connect(
    state_dir: Path, gateway: GatewaySpec, envoys: Envoys | None = None, fleet_id: str = ""
) -> GatewayClient:
    """Return the client of a gateway; nothing is sent. `envoys` None: no gateway is an Envoy.

    Raises:
        FleetError: the operator's secret cannot be read here.
        EngineError: as `admin_socket.short_path`; the operator did not confirm the gateway's host
            for its secret (`UntrustedError`).
    """
    if gateway.kind == "envoy":
        assert envoys is not None, "a caller with Envoys says how their files are made"
        folder = gateway_dir(state_dir.resolve(), gateway.name)
        return EnvoyClient(gateway, folder, socket_path(state_dir, gateway), envoys)
    peer = f"gateway `{gateway.name}`"
    if is_url(gateway.admin):
        return AdminClient(_over_tcp(state_dir, gateway, peer), fleet_id)
    socket = reachable_path(socket_path(state_dir, gateway))
    return AdminClient(JsonClient("http://gateway", peer=peer, socket=socket))


def use_keys(state_dir: Path, table: RoutingTable, gateways: Iterable[GatewaySpec]) -> None:
    """Ask servers of a table with keys and TLS as declared, where no engine knows these."""
    for gateway in gateways:
        with suppress(FleetError):
            keys = keys_of_servers(state_dir, gateway)
            for server, url in table.servers.items():
                if key := keys.key(server, table.launches.get(server, ""), url):
                    SERVER_KEYS.setdefault(url.rstrip("/"), key)
                if tls := keys.tls.get(server):
                    with suppress(TlsFilesError):
                        tls.context()
                        SERVER_TLS.setdefault(url.rstrip("/"), tls)


def usage_sources(state_dir: Path, gateways: Mapping[str, GatewaySpec]) -> list[UsageSource]:
    """Return the gateways whose usage log lies on another machine.

    A gateway that is reached over a socket is on this machine. `gateways` empty: those that the
    state folder remembers.
    """
    why = "it is an Envoy on another machine, which shows no usage"
    known = dict(gateways) or known_gateways(state_dir)
    return [
        UsageSource(
            name,
            connect=partial(_over_tcp, state_dir, gateway, "it"),
            prepare_folder=partial(_prepare_folder, state_dir, gateway),
            unavailable=why if gateway.kind == "envoy" else "",
        )
        for name, gateway in sorted(known.items())
        if is_url(gateway.admin)
    ]


def _over_tcp(state_dir: Path, gateway: GatewaySpec, peer: str) -> JsonClient:
    reference = gateway.secret or OPERATOR
    require_bound(gateway.admin, reference)  # before the secret is read
    secret = operator_secret(state_dir, gateway)
    headers = authorization(gateway.admin, reference, secret)
    if not gateway.ssh or is_locked(gateway_dir(state_dir, gateway.name) / LOCK):  # it runs here
        return JsonClient(gateway.admin, peer=peer, headers=headers)
    at, port = forwarded_address(gateway.ssh), int(gateway.admin.rpartition(":")[2].strip("/"))
    forward = partial(SshConnection(gateway.ssh).forward, port, port, at)
    return JsonClient(f"http://{at}:{port}", peer=peer, headers=headers, forward=forward)


def _prepare_folder(state_dir: Path, gateway: GatewaySpec) -> Path:
    remember(state_dir, {gateway.name: gateway})
    return gateway_dir(state_dir, gateway.name)


def _by_server(counts: Iterable[Mapping[str, Any]]) -> Counter[OnServer]:
    total: Counter[OnServer] = Counter()
    for count in counts:
        total[str(count["server"]), str(count["adapter"])] += int(count["count"])
    return total


Config = GatewayConfig | EngineError | None
"""A gateway's answer, or the reason of no answer; None: the gateway does not run."""


@dataclass(frozen=True, slots=True)
class ObservedGateways:
    """The gateways of a fleet, by their answers to the same question."""

    table: RoutingTable | EngineError
    """The newest that the file or a gateway holds, or why no table is known."""
    notes: tuple[Note, ...]
    """On gateways and the table; none where no table is known."""
    faults: Mapping[str, Fault]
    """By name of the gateway, sorted."""
    missing: tuple[tuple[str, str], ...]
    """As `GatewayConfig.missing`, of all gateways, sorted."""


def written_table(state_dir: Path) -> RoutingTable | FleetError:
    """Return the table of the file, or why the file is damaged.

    Raises:
        NewerFormatError: the file is of a later format.
    """
    try:
        return read_table(state_dir) or RoutingTable(revision=0)
    except NewerFormatError:
        raise
    except FleetError as error:
        return error


def lacking(configs: Mapping[str, Config]) -> tuple[tuple[str, str], ...]:
    """Return (full adapter name, server) of versions that a server said not to hold, sorted."""
    shown = (config for config in configs.values() if isinstance(config, GatewayConfig))
    return tuple(sorted({pair for config in shown for pair in config.missing}))


async def newest_of(
    written: RoutingTable | FleetError,
    configs: Mapping[str, Config],
    client_of: Callable[[str], GatewayClient],
) -> tuple[RoutingTable, tuple[Note, ...]]:
    """Return the newest table of the file and the gateways, and notes.

    `written`: as of `written_table`, read before the gateways were asked.

    Raises:
        EngineError: the file is damaged and no gateway has a table, or a gateway does not show the
            newer table that it has.
    """
    notes, newest = list[Note](), RoutingTable(revision=0)
    if isinstance(written, FleetError):
        notes.append(Note(written.diagnostics[0].detail, is_damage=True))
    else:
        newest = written
    for name, config in configs.items():
        if isinstance(config, GatewayConfig) and config.revision > newest.revision:
            newest = await client_of(name).table()
            notes.append(Note("holds a newer table than the file", name, is_damage=True))
    if isinstance(written, FleetError) and newest.revision == 0:
        raise EngineError(*written.diagnostics)
    for name, config in configs.items():
        notes += lagging(name, config, newest)
    notes += [address_unknown(server) for server in newest.without_address]
    return newest, tuple(notes)


async def tables_of(
    newest: RoutingTable, configs: Mapping[str, Config], client_of: Callable[[str], GatewayClient]
) -> tuple[RoutingTable, ...]:
    """Return the newest table, and the tables that gateways serve in its place.

    The file may have been changed by hand: the traffic goes by what gateways acknowledged.

    Raises:
        EngineError: a running gateway does not say what it serves.
    """
    served = [newest]
    for name, config in configs.items():
        if isinstance(config, EngineError):
            raise config
        if config is not None and config.digest not in {table.digest for table in served}:
            served.append(await client_of(name).table())
    return tuple(served)
