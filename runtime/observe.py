"""Observes servers and gateways as a `State`; lists lost versions, and servers of removed hosts."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple

from fleet.codec import decode, decode_json, plain
from fleet.errors import EngineError, EngineRejectedError
from fleet.hardware import HostSpec
from fleet.names import RESOLVER_STAMP, TABLE, adapter_address, gateway_address, launch_stamp
from fleet.resources import Fault, OutageKind, Resource, State
from fleet.spec import FleetSpec
from runtime.engine_registry import make_engine
from runtime.engines.launch_records import LaunchRecords
from runtime.engines.observation import merge
from runtime.engines.protocol import Direct, Engine, HostSetup, Observer, Report
from runtime.files import make_private, read_plain, replace_file
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.envoy.admin import Envoys
from runtime.gateway.table.table import RoutingTable, ShareEntry
from runtime.json_client import JsonClient

HOSTS_FILE: Final = "hosts.json"
"""File of the state folder."""


def remember_hosts(state_dir: Path, hosts: Mapping[str, HostSpec]) -> None:
    """Save the hosts on which fleetctl starts servers, with their left devices; drop others."""
    ours = {
        name: replace(host, devices=(*host.devices, *host.left), left=())
        for name, host in hosts.items()
        if host.engine != "attach"
    }
    path, text = state_dir / HOSTS_FILE, json.dumps(plain(ours), indent=2).encode() + b"\n"
    if not path.is_file() or read_plain(path) != text:
        make_private(state_dir)
        replace_file(path, text)


def known_hosts(state_dir: Path) -> dict[str, HostSpec]:
    """Return the hosts on which fleetctl has started servers, as they were last declared."""
    # Without a file, or with that of another release, none is known.
    with suppress(OSError, ValueError, AttributeError):
        document = decode_json(read_plain(state_dir / HOSTS_FILE))
        return {name: decode(HostSpec, host, name, lenient=True) for name, host in document.items()}
    return {}


def with_removed(fleet: FleetSpec, known: Mapping[str, HostSpec]) -> FleetSpec:
    """Return a fleet with the known hosts and devices that left its declarations.

    All devices of such a host drain. A device alone keeps its price: its server stops.
    """
    removed = {name: host.drained() for name, host in known.items() if name not in fleet.hosts}
    hosts = {**removed, **{name: _with_left(host, known) for name, host in fleet.hosts.items()}}
    return replace(fleet, hosts=dict(sorted(hosts.items())), removed=frozenset(removed))


def _with_left(host: HostSpec, known: Mapping[str, HostSpec]) -> HostSpec:
    """Return a declared host with the known devices that left its declaration."""
    declared = {device.name for device in host.devices}
    before = known[host.name].devices if host.name in known else ()
    left = tuple(device for device in before if device.name not in declared)
    return replace(host, left=left) if left else host


async def doubts(
    live: State, gateways: LocalGateways, state_dir: Path, hosts: Collection[str]
) -> tuple[str, ...]:
    """Return the reasons why the holdings of servers or the tables of gateways are unknown.

    A reason is a sentence without its full stop; none: all is known. A gateway that does not run
    serves no client. `hosts`: the declared ones, whose servers `live` covers.
    """
    found = [f"Server {name}: {why}" for name, why in live.unknown_servers.items()]
    if live.routes_unknown:
        found.append(f"The routes: {live.routes_unknown}")
    found += [
        f"Server {record.name} runs on host {record.host}, which is no longer declared"
        for record in LaunchRecords(state_dir / "servers").all()
        if record.host not in hosts and record.leader() is not None
    ]
    try:
        table, _ = await gateways.read_table()
    except EngineError:
        return tuple(found)  # then the routes are unknown, too
    for status in await gateways.statuses():
        if status.problem:
            found.append(f"Gateway {status.name}: {status.problem}")
        elif status.digest is not None and status.digest != table.digest:
            found.append(f"Gateway {status.name} serves other routes than the newest")
    return tuple(reason.rstrip(".") for reason in found)


SHOW_S = 0.5
"""Upper bound of the wait for a server's list of versions; a rollback waits for this."""


async def lost(table: RoutingTable, shares: Iterable[ShareEntry]) -> frozenset[str]:
    """Return the versions that no server of theirs holds, by the servers' own answers.

    The versions of a server that does not answer in `SHOW_S` seconds are not lost.
    """
    resident = [share for share in shares if share.servers]
    wanted: dict[str, set[str]] = defaultdict(set)
    for share in resident:
        for name in share.servers:
            wanted[name].add(share.adapter)
    calls = (
        _held(table.servers.get(name, ""), versions, table.launches.get(name, ""))
        for name, versions in wanted.items()
    )
    held = dict(zip(wanted, await asyncio.gather(*calls), strict=True))
    return frozenset(
        share.adapter
        for share in resident
        if all(
            (has := held[name]) is not None and share.adapter not in has for name in share.servers
        )
    )


async def _held(url: str, versions: Collection[str], launch: str) -> frozenset[str] | None:
    """Return the versions that a server lists, or loads by itself when asked; None: no answer.

    Where another launch answers than the routes name, no gateway reaches any version.
    """
    if not url:
        return None
    try:
        async with JsonClient(url, timeout_s=SHOW_S) as client:
            shown = await client.get("/v1/models", attempts=1)
            held = frozenset(str(model["id"]) for model in shown["data"])
            if launch and launch_stamp(launch) not in held:
                return frozenset()
            if RESOLVER_STAMP in held:
                missing = [version for version in versions if version not in held]
                loads = await asyncio.gather(*(_loads(client, version) for version in missing))
                held |= {version for version, does in zip(missing, loads, strict=True) if does}
    except (EngineError, KeyError, TypeError):
        return None
    return held


async def _loads(client: JsonClient, version: str) -> bool:
    """Say whether a server with the plug-in resolves a version."""
    try:
        await client.post("/tokenize", {"model": version, "prompt": "."})
    except EngineRejectedError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return False
        raise
    return True


class FleetConnections(NamedTuple):
    """Connections to the engines of a fleet, by host, and to its gateways."""

    engines: dict[str, Engine]
    gateways: LocalGateways

    async def observe(self) -> State:
        """Observe all; as the function `observe`."""
        return await observe(self.engines, self.gateways)


@asynccontextmanager
async def connect(
    fleet: FleetSpec,
    root: Path,
    state_dir: Path,
    envoys: Envoys,
    report: Report = lambda *_: None,
    fleet_id: str = "",
    direct: Direct | None = None,
) -> AsyncIterator[FleetConnections]:
    """Give connections to the engines and gateways of a fleet; they are closed at the end.

    `direct`: where hosts that fetch find versions.
    """
    of_fleet = (fleet.name, fleet.servers_secret, fleet.bases, report, fleet_id, direct)
    engines = {
        name: make_engine(HostSetup(host, root, state_dir, *of_fleet))
        for name, host in fleet.hosts.items()
    }
    gateways = LocalGateways(state_dir, fleet.gateways, envoys, fleet_id)
    try:
        yield FleetConnections(engines, gateways)
    finally:
        await asyncio.gather(*(engine.close() for engine in engines.values()), gateways.close())


async def observe(engines: Mapping[str, Observer], gateways: LocalGateways) -> State:
    """Observe every engine (by host) and the gateways at the same time and merge the answers.

    Changes nothing. A server that does not answer is unknown; when the gateways cannot be
    read, routes and keys are. Costs a fixed number of calls per server.

    Raises:
        FleetError: two hosts show a server under the same name.
    """
    observations = (engine.observe() for engine in engines.values())
    state = merge(*await asyncio.gather(_routes(gateways), *observations))
    if state.of_others and not state.routes():  # the table lies beside the servers' records
        folders = ", ".join(sorted({*state.of_others.values()}))
        state = replace(state, routes_unknown=f"the routing table is in the state folder {folders}")
    stale = [
        f"the routes name launch {launch} of server {name} and another answers: it gets no request"
        for name, launch in state.routed_launches.items()
        if name in state.servers() and state.launches.get(name, "") != launch
    ]
    return replace(state, notes=(*state.notes, *stale), behind=True) if stale else state


async def _routes(gateways: LocalGateways) -> State:
    seen = await gateways.observe()
    faults = {gateway_address(name): fault for name, fault in seen.faults.items()}
    table = seen.table
    if isinstance(table, EngineError):
        why = "; ".join(problem.detail for problem in table.diagnostics)
        return State(routes_unknown=why, faults=faults)
    notes = tuple(note for note in seen.notes if note.answers or note.gateway not in seen.faults)
    if damage := tuple(note for note in notes if note.is_damage):
        what = "; ".join(str(note).rstrip(".") for note in damage)
        faults[TABLE] = Fault(what, "fleetctl plan", OutageKind.TABLE_DAMAGED, heals=True)
        notes = tuple(note for note in notes if not note.is_damage)
    resources: list[Resource] = [entry.route(alias) for alias, entry in table.aliases.items()]
    resources += [entry.key() for entry in table.keys.values()]
    return State(
        resources={resource.address: resource for resource in resources},
        notes=tuple(map(str, notes)),
        behind=bool(damage) or any(note.runs for note in notes),
        lost=tuple(adapter_address(*pair) for pair in seen.missing),
        faults=faults,
        routed_launches=table.launches,
    )
