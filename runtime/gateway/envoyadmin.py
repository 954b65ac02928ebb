"""An Envoy, spoken to in the words of our own gateways' admin side."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from fleet.errors import EngineRejectedError, EngineTimedOutError, EngineUnreachableError, problem
from fleet.spec import GatewaySpec
from runtime.gateway import envoyfolder as folders
from runtime.gateway import envoyshares as shares
from runtime.gateway.table import RoutingTable
from runtime.json_client import READ_ATTEMPTS, JsonClient

Render = Callable[
    [GatewaySpec, Path, Path, RoutingTable, Sequence[tuple[str, str]], Sequence[Any]],
    Mapping[str, str],
]
"""Renders the files for a gateway, its folder, its admin socket, a table, its keys, and clusters
that are to stay for one more revision."""

ACKNOWLEDGE_S: Final = 15.0
_POLL_S: Final = 0.02
_CLUSTERS: Final = "cluster_manager.cds"
_ROUTES: Final = "http.clients.rds.fleetctl"
_WARMING: Final = "cluster_manager.warming_clusters"
_PARTS: Final = ("version_text", "update_rejected", "update_failure")
_STATS: Final = "|".join(
    re.escape(each)
    for each in (_WARMING, *(f"{kind}.{part}" for kind in (_CLUSTERS, _ROUTES) for part in _PARTS))
)
_IN_FLIGHT: Final = re.compile(
    r'^envoy_fleetctl_in_flight\{server="([^"]*)",version="([^"]*)"\} (\d+)$', re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Envoys:
    """What it takes to write an Envoy's files."""

    render: Render
    secret: folders.Secret


class EnvoyAdmin:
    """One Envoy of this machine: the files that it follows, and what it shows of itself."""

    def __init__(self, gateway: GatewaySpec, folder: Path, socket: Path, envoys: Envoys) -> None:
        """Prepare; nothing is written or sent.

        Args:
            gateway: As declared.
            folder: Folder of its files.
            socket: Envoy's own admin side.
            envoys: How its files are made.
        """
        self._gateway, self._folder, self._socket = gateway, folder, socket
        self._envoys = envoys
        self._peer = f"Envoy `{gateway.name}`"
        self._http = JsonClient("http://envoy", peer=self._peer, socket=socket)

    async def get(
        self, path: str, *, timeout_s: float | None = None, attempts: int = READ_ATTEMPTS
    ) -> Any:
        """Answer what is asked of our gateways, as far as Envoy knows it.

        It does not say how its servers are.

        Raises:
            EngineUnreachableError: it does not run, or does not answer.
        """
        match path:
            case "/-/config":
                stats = await self._stats(timeout_s, attempts)
                revision, _, digest = stats.get(f"{_ROUTES}.version_text", "").partition("-")
                seen: dict[str, Any] = {"servers": {}, "missing": []}
                return {"revision": int(revision or 0), "digest": digest} | seen
            case "/-/inflight":
                asked = f"/stats/prometheus?filter={quote('^fleetctl[.]in_flight')}"
                text = await self._http.get_text(asked, timeout_s=timeout_s, attempts=attempts)
                found = [
                    {"server": server, "adapter": version, "count": int(count)}
                    for server, version, count in _IN_FLIGHT.findall(text)
                ]
                return {"in_flight": found, "waiting": 0}
            case "/-/shares":
                table = folders.written_table(self._folder)
                counted = await self._counted(timeout_s, attempts)
                return {"shares": shares.shares(self._folder, table, counted) if table else []}
            case _:
                table = folders.written_table(self._folder)
                return (table or RoutingTable(revision=0)).model_dump(mode="json")

    async def get_text(self, path: str) -> str:
        """Return what is shown to Prometheus for `/metrics`, else Envoy's own page."""
        return await self._http.get_text("/stats/prometheus" if path == "/metrics" else path)

    async def put(self, _path: str, body: Any, *, timeout_s: float = ACKNOWLEDGE_S) -> Any:
        """Write the files of a table; return once Envoy serves it.

        Servers come first, and the routes that name them once Envoy knows how they are, so
        that no request meets a route without a server. Where no Envoy runs, all is written.

        Raises:
            EngineRejectedError: it is older than what was written, a key cannot be read, or
                Envoy refuses a file and goes on with what it had.
            EngineUnreachableError: no Envoy runs; it will serve the table once it starts.
        """
        table = RoutingTable.model_validate(body)
        self._refuse_older(table)
        keys = folders.credentials(table, self._envoys.secret, self._folder)
        served = folders.served_clusters(self._folder)
        files = dict(
            self._envoys.render(self._gateway, self._folder, self._socket, table, keys, served)
        )
        files[folders.TABLE] = table.canonical() + "\n"
        routes = files.pop(folders.ROUTES)
        version = f"{table.revision}-{table.digest}"
        before = await self._before()
        await asyncio.to_thread(folders.write, self._folder, files)
        if before is not None:
            await self._until(_CLUSTERS, version, before, timeout_s)
        await asyncio.to_thread(folders.write, self._folder, {folders.ROUTES: routes})
        if before is None:
            await self._stats(timeout_s, 1)  # says that it does not run, unless it has just begun
            before = {}
        await self._until(_ROUTES, version, before, timeout_s)
        shares.begin(self._folder, table, await self._counted(None, 1))
        return {"revision": table.revision, "digest": table.digest}

    async def close(self) -> None:
        """Release connections."""
        await self._http.close()

    def _refuse_older(self, table: RoutingTable) -> None:
        written = folders.written_table(self._folder)
        if written is not None and written.revision > table.revision:
            raise EngineRejectedError(
                HTTPStatus.CONFLICT,
                problem(
                    "FC6004",
                    "The routing table has changed meanwhile",
                    f"{self._peer} was given revision {written.revision}; this is revision "
                    f"{table.revision}.",
                    hint="Nothing was changed. Run the command again.",
                ),
            )

    async def _before(self) -> dict[str, str] | None:
        try:
            return await self._stats(None, 1)
        except EngineTimedOutError:
            raise
        except EngineUnreachableError:
            return None

    async def _until(
        self, kind: str, version: str, before: Mapping[str, str], timeout_s: float
    ) -> None:
        """Wait until Envoy serves a version of its clusters or routes."""
        refused = [f"{kind}.{part}" for part in _PARTS[1:]]
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        stats = await self._stats(None, 1)
                    except EngineTimedOutError:
                        continue  # it answers nobody while it reads a large file
                    settled = kind == _ROUTES or stats.get(_WARMING) == "0"
                    if stats.get(f"{kind}.version_text") == version and settled:
                        return
                    if any(stats.get(n, "0") != before.get(n, "0") for n in refused):
                        raise self._refused()
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise EngineTimedOutError(
                problem(
                    "FC4002",
                    "No answer in time",
                    f"{self._peer} did not take revision {version.partition('-')[0]} within "
                    f"{timeout_s:g} s.",
                    hint="Does it follow the files in this folder? Running the command again is "
                    "safe.",
                )
            ) from None

    def _refused(self) -> EngineRejectedError:
        detail = f"{self._peer} refuses the files in `{self._folder}` and serves what it had."
        hint = "Its log says why. Is it a version that fleetctl was tested with?"
        return EngineRejectedError(
            HTTPStatus.BAD_REQUEST, problem("FC6053", "Envoy refuses its files", detail, hint=hint)
        )

    async def _counted(self, timeout_s: float | None, attempts: int) -> shares.Counts:
        asked = f"/stats/prometheus?filter={quote(shares.ASKED)}"
        text = await self._http.get_text(asked, timeout_s=timeout_s, attempts=attempts)
        return shares.counts(text)

    async def _stats(self, timeout_s: float | None, attempts: int) -> dict[str, str]:
        asked = f"/stats?filter={quote(f'^({_STATS})$')}"
        text = await self._http.get_text(asked, timeout_s=timeout_s, attempts=attempts)
        lines = (line.partition(": ") for line in text.splitlines())
        return {name: value.strip().strip('"') for name, _, value in lines}
