"""Reads the logs of servers from the journal of their host."""

from typing import Final

from fleet.errors import EngineError
from fleet.vllm import instance_name, unit_name
from runtime.engines.ssh.connection import SshConnection

_MOST: Final = 64 << 20
"""Upper bound of a log that is read whole. Bytes."""
_READ: Final = "journalctl --user --quiet --no-pager --output=cat --lines={lines}"
_LAUNCH: Final = f"""\
id=$(journalctl --user --quiet --reverse {{unit}} --output=export \\
  --output-fields=_SYSTEMD_INVOCATION_ID,USER_INVOCATION_ID |
  sed -n -e s/^_SYSTEMD_INVOCATION_ID=//p -e s/^USER_INVOCATION_ID=//p |
  awk '!seen[$0]++' | sed -n '{{back}}{{{{p;q}}}}')
test -z "$id" || exec {_READ} _SYSTEMD_INVOCATION_ID=$id + USER_INVOCATION_ID=$id
"""
"""The journal names the launch of systemd's own lines otherwise than that of the program's."""


async def last_lines(ssh: SshConnection, server: str, lines: int) -> str:
    """Return the last lines of a server's log, over all its launches; may be empty.

    Raises:
        EngineError: as `SshConnection.run`.
    """
    return (await ssh.run(f"{_READ.format(lines=lines)} {_units(server)}")).stdout


async def launch_log(
    ssh: SshConnection, server: str, lines: int | None, *, previous: bool = False
) -> str:
    """Return the log of a server since its last start by systemd, or of the start before.

    Raises:
        EngineError: FC4021, there is none; or as `SshConnection.run`.
    """
    script = _LAUNCH.format(unit=_units(server), back=2 if previous else 1, lines=lines or "all")
    text = (await ssh.run(script, most=_MOST)).stdout
    if not text:
        raise EngineError.of(
            "FC4021",
            "No such server was started here",
            f"The journal of `{ssh.address}` has no such log of `{server}`.",
            command="fleetctl status",
        )
    return text


async def follow_command(ssh: SshConnection, server: str, lines: int | None) -> tuple[str, ...]:
    """Return the command line that prints a server's last lines and then new ones; connects.

    Raises:
        EngineError: as `SshConnection.run`.
    """
    script = f"exec {_READ.format(lines=lines or 'all')} --follow {_units(server)}"
    return await ssh.command(script)


def _units(server: str) -> str:
    """Return the words for the lines of a server, of either manager of units."""
    unit = unit_name(server)
    return f"_SYSTEMD_USER_UNIT={unit} + USER_UNIT={unit} + _SYSTEMD_UNIT={instance_name(server)}"
