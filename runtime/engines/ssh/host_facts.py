"""Reads the facts of a host: those that a script tells there, and those that this machine sees."""

import asyncio
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from shlex import quote
from typing import Final

from fleet.hardware import HostSpec, is_cpu
from fleet.hosts import TEMPLATE, HostFacts, parse_facts
from fleet.vllm import instance_name
from runtime.engines.ssh.connection import SshConnection
from runtime.engines.ssh.quadlets import PLUGIN

_SCRIPT: Final = Path(__file__).with_name("facts.sh")
_SCRIPT_S: Final = 90.0
"""Upper bound of the script, above the sum of the bounds of its programs. Seconds."""
_CONNECT_S: Final = 3.0
"""Upper bound of the wait for a port of the host that should not answer. Seconds."""


async def read_facts(
    ssh: SshConnection, host: HostSpec, servers: Collection[str] = ()
) -> HostFacts:
    """Return the facts of a host, which may have these servers; nothing there is changed.

    Raises:
        EngineError: as `SshConnection.run`.
    """
    units = map(instance_name, servers if host.has_system_units else ())
    gpus = any(not is_cpu(device.kind) for device in host.devices)
    given = {"python": host.python_there, "store": host.store_there, "plugin": PLUGIN,
             "gpus": "yes" if gpus else "no", "image": host.image,
             "template": TEMPLATE, "instances": " ".join(units)}  # fmt: skip
    lines = "".join(f"{name}={quote(value)}\n" for name, value in given.items())
    script = lines + _SCRIPT.read_text(encoding="utf-8")
    async with ssh.session():  # so that the making of a connection is no part of the clocks' error
        before = time.time()
    facts = parse_facts((await ssh.run(script, timeout_s=_SCRIPT_S)).stdout)
    after, clock = time.time(), facts.number("clock")
    if clock is not None:  # whole seconds, of a time between the two of this machine
        ahead, error = clock + 0.5 - (before + after) / 2, (after - before + 1) / 2
        facts = replace(facts, clock_s=(ahead, error))
    ports = [device.port for device in host.devices]
    return replace(facts, outside=await _answering(await ssh.host_name(), ports))


async def _answering(name: str, ports: Collection[int]) -> Mapping[int, bool] | None:
    """Return whether ports take connections from here; None: no other machine has the name."""
    with suppress(OSError, UnicodeError):
        found = await asyncio.get_running_loop().getaddrinfo(name, None)
        addresses = {str(address[4][0]).partition("%")[0] for address in found}
        if not any(ip_address(address).is_loopback for address in addresses):
            answers = await asyncio.gather(*(_answers(name, port) for port in ports))
            return dict(zip(ports, answers, strict=True))
    return None


async def _answers(name: str, port: int) -> bool:
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_CONNECT_S):
            (await asyncio.open_connection(name, port))[1].close()
        return True
    return False
