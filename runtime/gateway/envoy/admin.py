"""The client of an Envoy: hands over tables as files, reads counters from its admin side."""

import asyncio
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from fleet.codec import decode_json
from fleet.errors import EngineRejectedError, EngineTimedOutError, EngineUnreachableError, problem
from fleet.spec import GatewaySpec
from runtime.files import read_plain, replace_file
from runtime.gateway.admin.admin_socket import reachable_path, short_path
from runtime.gateway.admin.protocol import (
    ACKNOWLEDGE_S,
    READ_S,
    GatewayConfig,
    GatewayLoad,
    ObservedShare,
)
from runtime.gateway.envoy import files
from runtime.gateway.table.table import AliasEntry, RoutingTable
from runtime.gateway.traffic.accounting import FAMILIES, in_families
from runtime.json_client import JsonClient

Render = Callable[
    [GatewaySpec, Path, Path, RoutingTable, Sequence[tuple[str, str]], Sequence[Any]],
    Mapping[str, str],
]
"""Renders files by name from a gateway, its folder, its admin socket, a table, the table's keys,
and clusters that stay for another revision."""

SHARES_FILE: Final = "shares.json"
"""By alias with a split: the split, the time of its start, and the counters at its start."""
_Counts = Mapping[str, Mapping[str, int]]
"""Requests by alias and version."""

_POLL_S: Final = 0.02
_CLUSTERS: Final = "cluster_manager.cds"
_ROUTES: Final = "http.clients.rds.fleetctl"
_WARMING: Final = "cluster_manager.warming_clusters"
_PARTS: Final = ("version_text", "update_rejected", "update_failure")
_STATS: Final = "|".join(
    re.escape(name)
    for name in (_WARMING, *(f"{kind}.{part}" for kind in (_CLUSTERS, _ROUTES) for part in _PARTS))
)
_IN_FLIGHT: Final = re.compile(
    r'^envoy_fleetctl_in_flight\{server="([^"]*)",version="([^"]*)"\} (\d+)$', re.MULTILINE
)
_REQUESTS: Final = re.compile(
    r'^envoy_fleetctl_requests\{.*?alias="([^"]*)",version="([^"]*)".*?\} (\d+)$', re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Envoys:
    """The functions that make the files of Envoys."""

    render: Render
    secret: files.Secret


class EnvoyClient:
    """An Envoy of this machine; its methods are those of `AdminClient`, with the same errors."""

    def __init__(self, gateway: GatewaySpec, folder: Path, socket: Path, envoys: Envoys) -> None:
        """Prepare; the path `socket` may be long; raises as `admin_socket.short_path`."""
        self._gateway, self._folder, self._socket = gateway, folder, short_path(socket)
        self._envoys = envoys
        self._peer = f"Envoy `{gateway.name}`"
        self._http = JsonClient("http://envoy", peer=self._peer, socket=reachable_path(socket))

    async def config(self, timeout_s: float = READ_S) -> GatewayConfig:
        """Return which table Envoy serves; Envoy does not tell how servers answer."""
        stats = await self._stats(timeout_s)
        revision, _, digest = stats.get(f"{_ROUTES}.version_text", "").partition("-")
        return GatewayConfig(int(revision or 0), digest)

    async def load(self) -> GatewayLoad:
        """Return the requests in flight; Envoy lets no request wait."""
        counts = _IN_FLIGHT.findall(await self._metrics("^fleetctl[.]in_flight", READ_S))
        return GatewayLoad(Counter({(server, name): int(count) for server, name, count in counts}))

    async def shares(self) -> tuple[ObservedShare, ...]:
        """Return the split of aliases that have several versions."""
        table = files.written_table(self._folder)
        counts = await self._count_requests(READ_S)
        return _observed_shares(self._folder, table, counts) if table else ()

    async def metrics(self) -> str:
        """Return the counters as those of fleetctl's own gateway; Envoy has not all of them."""
        return exposition(await self._metrics(STATS, READ_S))

    async def table(self) -> RoutingTable:
        """Return the table that the Envoy's files were written from."""
        return files.written_table(self._folder) or RoutingTable(revision=0)

    async def serve(self, table: RoutingTable, timeout_s: float = ACKNOWLEDGE_S) -> tuple[int, str]:
        """Write the files of a table; return once Envoy serves the table.

        Servers come first, and the routes that name them once Envoy knows how servers are, so
        that no request meets a route without a server. Where no Envoy runs, all is written.

        Raises:
            EngineRejectedError: the table is older than the written one, a key cannot be read, or
                Envoy refuses a file and goes on with what it had.
            EngineUnreachableError: no Envoy runs; Envoy will serve the table once it starts.
        """
        self._require_newer(table)
        keys = files.credentials(table, self._envoys.secret, self._folder)
        served = files.served_clusters(self._folder)
        documents = dict(
            self._envoys.render(self._gateway, self._folder, self._socket, table, keys, served)
        )
        documents[files.TABLE] = table.canonical() + "\n"
        routes = documents.pop(files.ROUTES)
        version = f"{table.revision}-{table.digest}"
        before = await self._stats_if_running()
        await asyncio.to_thread(files.write, self._folder, documents)
        if before is not None:
            await self._wait_for(_CLUSTERS, version, before, timeout_s)
        await asyncio.to_thread(files.write, self._folder, {files.ROUTES: routes})
        if before is None:
            await self._stats(timeout_s)  # raises where no Envoy runs, unless one has just begun
            before = {}
        await self._wait_for(_ROUTES, version, before, timeout_s)
        _remember_splits(self._folder, table, await self._count_requests())
        return table.revision, table.digest

    async def close(self) -> None:
        """Release connections."""
        await self._http.close()

    def _require_newer(self, table: RoutingTable) -> None:
        written = files.written_table(self._folder)
        if written is not None and written.revision > table.revision:
            raise EngineRejectedError.of(
                "FC6004",
                "The routing table has changed meanwhile",
                f"{self._peer} was given revision {written.revision}; this is revision "
                f"{table.revision}.",
                hint="Nothing was changed. Run the command again.",
            )

    async def _stats_if_running(self) -> dict[str, str] | None:
        try:
            return await self._stats()
        except EngineTimedOutError:
            raise
        except EngineUnreachableError:
            return None

    async def _wait_for(
        self, kind: str, version: str, before: Mapping[str, str], timeout_s: float
    ) -> None:
        refusals = [f"{kind}.{part}" for part in _PARTS[1:]]
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        stats = await self._stats()
                    except EngineTimedOutError:
                        continue  # Envoy answers no call while it reads a large file
                    is_settled = kind == _ROUTES or stats.get(_WARMING) == "0"
                    if stats.get(f"{kind}.version_text") == version and is_settled:
                        return
                    if any(stats.get(name, "0") != before.get(name, "0") for name in refusals):
                        refused = problem(
                            "FC6053",
                            "Envoy refuses its files",
                            f"{self._peer} refuses the files in `{self._folder}` and serves what "
                            "it had.",
                            hint="Its log says why. Is it a version that fleetctl was tested with?",
                        )
                        raise EngineRejectedError(refused)
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise EngineTimedOutError.of(
                "FC4002",
                "No answer in time",
                f"{self._peer} did not take revision {version.partition('-')[0]} within "
                f"{timeout_s:g} s.",
                hint="Does it follow the files in this folder? Running the command again is safe.",
            ) from None

    async def _count_requests(self, timeout_s: float | None = None) -> _Counts:
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        text = await self._metrics("^fleetctl[.]requests", timeout_s)
        for alias, version, count in _REQUESTS.findall(text):
            counts[alias][version] += int(count)
        return counts

    async def _metrics(self, name_filter: str, timeout_s: float | None) -> str:
        path = f"/stats/prometheus?filter={quote(name_filter)}"
        return await self._http.get_text(path, timeout_s=timeout_s, attempts=1)

    async def _stats(self, timeout_s: float | None = None) -> dict[str, str]:
        path = f"/stats?filter={quote(f'^({_STATS})$')}"
        text = await self._http.get_text(path, timeout_s=timeout_s, attempts=1)
        lines = (line.partition(": ") for line in text.splitlines())
        return {name: value.strip().strip('"') for name, _, value in lines}


def _remember_splits(folder: Path, table: RoutingTable, counts: _Counts) -> None:
    """Save the counters of the aliases whose split has changed."""
    saved, now = _saved_splits(folder), datetime.now(UTC).isoformat(timespec="seconds")
    splits = {}
    for alias, entry in _split_aliases(table):
        split = [entry.salt, *([share.adapter, share.percent] for share in entry.shares)]
        before = saved.get(alias)
        fresh = {"split": split, "since": now, "before": dict(counts.get(alias, {}))}
        splits[alias] = before if before is not None and before["split"] == split else fresh
    if splits != saved:
        replace_file(folder / SHARES_FILE, json.dumps(splits).encode())


def _observed_shares(
    folder: Path, table: RoutingTable, counts: _Counts
) -> tuple[ObservedShare, ...]:
    """Return the requests of all versions since their split began, or since Envoy's later start."""
    saved = _saved_splits(folder)
    shares = []
    for alias, entry in _split_aliases(table):
        start = saved.get(alias, {"since": "", "before": {}})
        now, before = counts.get(alias, {}), start["before"]
        if any(now.get(version, 0) < count for version, count in before.items()):
            before = {}
        for share in entry.shares:
            name = share.adapter
            requests = now.get(name, 0) - before.get(name, 0)
            shares.append(ObservedShare(alias, name, share.percent, requests, start["since"]))
    return tuple(shares)


def _split_aliases(table: RoutingTable) -> list[tuple[str, AliasEntry]]:
    aliases = sorted(table.aliases.items())
    return [(alias, entry) for alias, entry in aliases if len(entry.shares) > 1]


def _saved_splits(folder: Path) -> dict[str, Any]:
    """Return the saved splits; empty: none were saved, or the file cannot be read."""
    try:
        saved = decode_json(read_plain(folder / SHARES_FILE))
        return {alias: entry for alias, entry in saved.items() if _is_saved(entry)}
    except (OSError, ValueError, AttributeError):
        return {}


def _is_saved(entry: object) -> bool:
    match entry:
        case {"split": list(), "since": str(), "before": dict() as before}:
            return all(type(count) is int for count in before.values())
        case _:
            return False


STATS: Final = "^fleetctl[.]"
"""Filter of Envoy's statistics."""
_FAMILIES: Final = {
    "requests": "fleetctl_requests_total",
    "input_tokens": "fleetctl_input_tokens_total",
    "output_tokens": "fleetctl_output_tokens_total",
    "request_microseconds": "fleetctl_request_seconds",
    "first_byte_microseconds": "fleetctl_first_byte_seconds",
    "in_flight": "fleetctl_in_flight",
}
"""Families by the names that `plans.compile.envoy.logs` gives."""
_SAMPLE: Final = re.compile(
    rf"^envoy_fleetctl_({'|'.join(_FAMILIES)})(_bucket|_sum|_count)?\{{(.*)\}} (\S+)$", re.MULTILINE
)
_BOUND: Final = re.compile(r'(?<=le=")[0-9.e+]+(?="$)')


def exposition(text: str) -> str:
    """Return the counters as Prometheus reads them, times in seconds; others are left out."""
    samples: dict[str, list[str]] = {family: [] for family in _FAMILIES.values()}
    for name, part, labels, value in _SAMPLE.findall(text):
        family = _FAMILIES[name]
        its = _BOUND.sub(lambda bound: _seconds(bound[0]), labels)
        its = its.replace('version="', 'adapter="') if name == "in_flight" else its
        number = _seconds(value) if part == "_sum" else value
        samples[family].append(f"{family}{part}{{{its}}} {number}")
    return in_families({family: FAMILIES[family] for family in samples}, samples)


def _seconds(microseconds: str) -> str:
    return str(float(microseconds) / 1e6)
