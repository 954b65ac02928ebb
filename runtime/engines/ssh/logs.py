"""Reads the logs of units on a host."""

from typing import Final

from fleet.vllm import unit_name
from runtime.engines.ssh.connection import SshConnection

_MOST: Final = 64 << 20
"""Upper bound of a log that is read whole. Bytes."""


def log_command(server: str, lines: int | None = None, *, follow: bool = False) -> str:
    """Return the command that prints the log of a server on its host."""
    words = ["journalctl --user --quiet --no-pager --output=cat", f"--unit={unit_name(server)}"]
    words += [f"--lines={lines or 'all'}"] + (["--follow"] if follow else [])
    return " ".join(words)


async def unit_log(ssh: SshConnection, server: str, lines: int | None = None) -> str:
    """Return the log of a server, or its last lines; empty if there is none.

    Raises:
        EngineError: as `SshConnection.run`.
    """
    return (await ssh.run(log_command(server, lines), most=_MOST)).stdout
