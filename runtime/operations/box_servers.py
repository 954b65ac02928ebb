"""Lists and stops servers that are units of systemd or actors of Ray, as hosts list these."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import EngineError
from fleet.hardware import HostSpec
from fleet.spec import FleetSpec
from runtime.engines.ray.engine import RayEngine
from runtime.engines.recognition import FleetMark, url_of
from runtime.engines.remote.connection import connection_to
from runtime.engines.remote.units import has_units, list_units, remove_unit


@dataclass(frozen=True, slots=True)
class BoxServer:
    """A server of the fleet, by its unit or its actor."""

    name: str
    host: HostSpec
    state: str
    """`running`: also while vLLM loads its base; `starting`: waits for systemd or Ray; `ended`."""
    pid: int | None
    """On the host; None: not known."""
    url: str
    """As seen from here, where the host's ports are forwarded."""
    digest: str
    node: RayEngine | None = None
    """Engine of the server's node; None: the server is a unit."""


def list_box_servers(
    fleet: FleetSpec, fleet_id: str, root: Path, state_dir: Path
) -> tuple[list[BoxServer], list[EngineError]]:
    """Return the servers that are units or actors, and why hosts could not be asked."""
    mark = FleetMark(fleet.name, fleet_id)

    async def listed() -> list[list[BoxServer] | EngineError]:
        hosts = [host for _, host in sorted(fleet.hosts.items())]
        nodes = [
            RayEngine.of(host, root, state_dir, mark) for host in hosts if host.engine == "ray"
        ]
        boxes = (_of_host(host, mark) for host in hosts if has_units(host))
        return await asyncio.gather(*boxes, *map(_of_node, nodes))

    found = asyncio.run(listed())
    servers = [server for its in found if not isinstance(its, EngineError) for server in its]
    return servers, [error for error in found if isinstance(error, EngineError)]


def stop_box_servers(servers: Iterable[BoxServer]) -> None:
    """Stop servers after their running requests, and delete their units and actors.

    Raises:
        EngineError: a host was not reached, or does not stop a server; others are stopped.
    """

    async def stopped() -> list[BaseException | None]:
        removals = (
            its.node.stop(its.name) if its.node else remove_unit(connection_to(its.host), its.name)
            for its in servers
        )
        return await asyncio.gather(*removals, return_exceptions=True)

    for error in asyncio.run(stopped()):
        if error is not None:
            raise error


async def _of_host(host: HostSpec, fleet: FleetMark) -> list[BoxServer] | EngineError:
    try:
        units = await list_units(connection_to(host))
    except EngineError as error:
        return error
    return [
        BoxServer(
            name,
            host,
            "running" if unit.state == "active" else "starting" if unit.runs else "ended",
            unit.pid or None,
            url_of(host.reached_at, unit.record.port),
            unit.record.digest,
        )
        for name, unit in sorted(units.items())
        if fleet.owns(unit.fleet) and unit.record is not None and unit.record.host == host.name
    ]


async def _of_node(node: RayEngine) -> list[BoxServer] | EngineError:
    try:
        actors = await node.actors()
    except EngineError as error:
        return error
    return [
        BoxServer(
            actor.name,
            node.host,
            "running" if actor.state == "ALIVE" else "starting",
            None,
            url_of(node.host.reached_at, actor.record.port),
            actor.record.digest,
            node,
        )
        for actor in actors
        if actor.record is not None
    ]
