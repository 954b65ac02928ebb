"""Ports of this machine: who listens where a server is to."""

import asyncio
import socket
from collections.abc import Sequence

from fleet.errors import EngineError, problem
from fleet.resources import Server
from runtime.engines.processes import command_line, listening

_POLL_S = 0.02


async def refuse_taken_port(server: Server, address: str, grace_s: float) -> None:
    """Raise if the port is taken for longer than `grace_s` seconds.

    The main thread of a killed process is a zombie, and so counts as gone, a moment before
    its other threads have let go of the port.
    """
    deadline = asyncio.get_running_loop().time() + grace_s
    while _listens(address, server.port):
        if asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(_POLL_S)
            continue
        pids = listening(server.port)
        raise EngineError(
            problem(
                "FC4011",
                "A port is taken",
                f"Something else listens on {address}:{server.port}, where `{server.name}` would"
                f"{_named(pids)}. It may be a server of another project.",
                hint="End that process, or declare another `port` for the host."
                if pids
                else f"Find it with `lsof -i :{server.port}` and end it, or declare another "
                "`port` for the host.",
                command=f"kill {' '.join(map(str, pids))}" if pids else "",
            )
        )


def _named(pids: Sequence[int]) -> str:
    """Return the processes with their command lines; nothing where none can be seen."""
    told = [f"process {pid}, `{command_line(pid):.120}`" for pid in pids]
    return f": {'; '.join(told)}" if told else ""


def _listens(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0
