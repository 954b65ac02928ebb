"""Lists and stops the servers that are units of systemd, here and on hosts of engine `ssh`."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from fleet.errors import EngineError
from fleet.hardware import HostSpec
from fleet.spec import FleetSpec
from runtime.engines.recognition import FleetMark, url_of
from runtime.engines.ssh.here import connection_to, has_units
from runtime.engines.ssh.units import list_units, remove_unit


@dataclass(frozen=True, slots=True)
class BoxServer:
    """A server of the fleet, by its unit."""

    name: str
    host: HostSpec
    state: str
    """`running`: also while vLLM loads its base; `starting`: waits for systemd; `ended`."""
    pid: int | None
    """On the host."""
    url: str
    """As seen from here, where the host's ports are forwarded."""
    digest: str


def list_box_servers(fleet: FleetSpec, fleet_id: str) -> tuple[list[BoxServer], list[EngineError]]:
    """Return the servers that are units, and why hosts could not be asked."""
    mark = FleetMark(fleet.name, fleet_id)

    async def listed() -> list[list[BoxServer] | EngineError]:
        hosts = [host for _, host in sorted(fleet.hosts.items()) if has_units(host)]
        return await asyncio.gather(*(_of_host(host, mark) for host in hosts))

    found = asyncio.run(listed())
    servers = [server for its in found if not isinstance(its, EngineError) for server in its]
    return servers, [error for error in found if isinstance(error, EngineError)]


def stop_box_servers(servers: Iterable[BoxServer]) -> None:
    """Stop servers after their running requests, and delete their units.

    Raises:
        EngineError: a host was not reached, or does not stop a server; others are stopped.
    """

    async def stopped() -> list[BaseException | None]:
        removals = (remove_unit(connection_to(its.host), its.name) for its in servers)
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
