"""Check a host of engine `ssh`, and prepare the host for servers."""

import asyncio
from collections.abc import Sequence

from fleet.errors import ConfigError, did_you_mean
from fleet.hardware import HostSpec
from fleet.hosts import HostFacts, HostFinding, judge_host
from fleet.names import server_name
from runtime.engines.remote.connection import SshConnection
from runtime.engines.remote.preparation import (
    PreparationStep,
    carry_out,
    preparation,
    read_facts,
    resolver_version,
)
from runtime.workspace import Workspace


def ssh_host(workspace: Workspace, name: str) -> HostSpec:
    """Return a declared host of engine `ssh`.

    Raises:
        ConfigError: FC1205, there is no such host, or its engine is another.
    """
    hosts = workspace.fleet().hosts
    host = hosts.get(name)
    if host and host.engine == "ssh":
        return host
    known = sorted(name for name, host in hosts.items() if host.engine == "ssh")
    why = f"has engine `{host.engine}`, which is not reached by SSH" if host else "is not declared"
    hint = did_you_mean(name, known) or f"Hosts of engine `ssh`: {', '.join(known) or 'none'}."
    raise ConfigError.of("FC1205", "Unknown server or host", f"`{name}` {why}.", hint=hint)


def check_host(workspace: Workspace, host: HostSpec) -> tuple[HostFinding, ...]:
    """Return a finding for every part of a host; nothing is changed.

    Raises:
        EngineError: the host is not reached, or its answer is not whole.
    """
    ssh = SshConnection(host.address)
    facts = asyncio.run(read_facts(ssh, host, _servers(workspace, host)))
    return _judged(workspace, host, facts)


def due_steps(workspace: Workspace, host: HostSpec) -> tuple[PreparationStep, ...]:
    """Return the steps that a host needs; nothing is changed.

    Raises:
        EngineError: as `check_host` and `preparation`.
    """
    servers = _servers(workspace, host)
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
        return await read_facts(ssh, host, _servers(workspace, host))

    return _judged(workspace, host, asyncio.run(carried_out()))


def _servers(workspace: Workspace, host: HostSpec) -> list[str]:
    """Return the names of all servers that the host may have."""
    bases = sorted(workspace.fleet().bases)
    return [server_name(base, host.name, device.name) for device in host.devices for base in bases]


def _judged(workspace: Workspace, host: HostSpec, facts: HostFacts) -> tuple[HostFinding, ...]:
    fleet = workspace.fleet()
    shapes = (base.shape.weight_bytes for base in fleet.bases.values() if base.shape)
    names = {str(adapter.name) for adapter in fleet.adapters.values()}
    sizes = (version.bytes for name, version in fleet.versions.items() if name in names)
    needed = sum(shapes) + sum(sizes)
    return judge_host(host, facts, needed=needed, resolver=resolver_version())
