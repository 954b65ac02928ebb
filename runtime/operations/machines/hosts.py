"""Check a host of engine `ssh`, and prepare the host for servers."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import ConfigError, EngineError, did_you_mean
from fleet.hardware import HostSpec
from fleet.hosts import HostFacts, HostFinding, judge_host
from fleet.names import server_name
from fleet.spec import FleetSpec
from runtime.engines.protocol import HostSetup
from runtime.engines.ray.engine import RayEngine
from runtime.engines.recognition import FleetMark, url_of
from runtime.engines.remote.connection import SshConnection, connection_to
from runtime.engines.remote.preparation import (
    PreparationStep,
    carry_out,
    preparation,
    read_facts,
    resolver_version,
)
from runtime.engines.remote.units import has_units, list_units, remove_unit
from runtime.workspace import ProjectContext, Workspace


def ssh_host(project: ProjectContext, name: str) -> HostSpec:
    """Return a declared host of engine `ssh`.

    Raises:
        ConfigError: FC1205, there is no such host, or its engine is another.
    """
    hosts = project.fleet().hosts
    host = hosts.get(name)
    if host and host.engine == "ssh":
        return host
    known = sorted(name for name, host in hosts.items() if host.engine == "ssh")
    why = f"has engine `{host.engine}`, which is not reached by SSH" if host else "is not declared"
    hint = did_you_mean(name, known) or f"Hosts of engine `ssh`: {', '.join(known) or 'none'}."
    raise ConfigError.of("FC1205", "Unknown server or host", f"`{name}` {why}.", hint=hint)


def check_host(project: ProjectContext, host: HostSpec) -> tuple[HostFinding, ...]:
    """Return a finding for every part of a host; nothing is changed.

    Raises:
        EngineError: the host is not reached, or its answer is not whole.
    """
    ssh = SshConnection(host.address)
    facts = asyncio.run(read_facts(ssh, host, _servers(project, host)))
    return _judged(project, host, facts)


def due_steps(project: ProjectContext, host: HostSpec) -> tuple[PreparationStep, ...]:
    """Return the steps that a host needs; nothing is changed.

    Raises:
        EngineError: as `check_host` and `preparation`.
    """
    servers = _servers(project, host)
    facts = asyncio.run(read_facts(SshConnection(host.address), host, servers))
    return preparation(host, facts, servers)


def prepare_host(
    workspace: Workspace, host: HostSpec, steps: Sequence[PreparationStep]
) -> tuple[HostFinding, ...]:
    """Carry out the steps that need no root, with messages; return what a check says afterwards.

    Raises:
        EngineError: a step failed; the steps before it are done, and repeating is safe.
    """

    async def carried_out() -> HostFacts:
        ssh = SshConnection(host.address)
        for step in (step for step in steps if not step.is_for_root):
            await carry_out(ssh, host, step, workspace.inform)
        return await read_facts(ssh, host, _servers(workspace.project, host))

    return _judged(workspace.project, host, asyncio.run(carried_out()))


def _servers(project: ProjectContext, host: HostSpec) -> list[str]:
    """Return the names of all servers that the host may have."""
    bases = sorted(project.fleet().bases)
    return [server_name(base, host.name, device.name) for device in host.devices for base in bases]


def _judged(project: ProjectContext, host: HostSpec, facts: HostFacts) -> tuple[HostFinding, ...]:
    fleet = project.fleet()
    shapes = (base.shape.weight_bytes for base in fleet.bases.values() if base.shape)
    names = {str(adapter.name) for adapter in fleet.adapters.values()}
    sizes = (version.bytes for name, version in fleet.versions.items() if name in names)
    needed = sum(shapes) + sum(sizes)
    return judge_host(host, facts, needed=needed, resolver=resolver_version())


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
            RayEngine.of(HostSetup(host, root, state_dir, fleet.name, fleet_id=fleet_id))
            for host in hosts
            if host.engine == "ray"
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
