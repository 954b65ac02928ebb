"""Writes the systemd unit of a server, for the user manager of a user that lingers."""

import re

from fleet.environment import FORBIDDEN
from fleet.vllm.launch import SHUTDOWN_TIMEOUT_S, LaunchCommand

_STOP_MARGIN_S = 10
"""Seconds beyond vLLM's own shutdown timeout, until systemd kills."""


def unit_name(server: str) -> str:
    """Return the file name of a server's unit."""
    return f"fleetctl-{server}.service"


def user_unit(launch: LaunchCommand) -> str:
    """Return the unit of a server: restarted whenever it ends, and started with the machine."""
    words = " \\\n  ".join(" ".join(map(_argument, line)) for line in flag_lines(launch))
    pairs = sorted(launch.environment.items())
    variables = "".join(f"Environment={_quoted(f'{key}={value}')}\n" for key, value in pairs)
    return (
        "[Unit]\n"
        f"Description=vLLM {launch.server.name}, flags {launch.server.digest}\n"
        "StartLimitIntervalSec=0\n\n"
        "[Service]\n"
        "Type=exec\n"
        f"{variables}"
        f"UnsetEnvironment={' '.join(cleared(launch))}\n"
        f"ExecStart={words}\n"
        f"TimeoutStopSec={SHUTDOWN_TIMEOUT_S + _STOP_MARGIN_S}\n"
        "KillMode=mixed\n"
        "Restart=always\n"
        "RestartSec=1\n\n"
        "[Install]\n"
        "WantedBy=default.target\n"
    )


def cleared(launch: LaunchCommand) -> list[str]:
    """Return the variables that the server must not inherit; systemd would clear set ones too."""
    return [name for name in FORBIDDEN if name not in launch.environment]


def flag_lines(launch: LaunchCommand) -> list[list[str]]:
    """Return the words of the command, a line for the program and for every flag."""
    lines: list[list[str]] = [[]]
    for argument in launch.arguments:
        if argument.startswith("--"):
            lines.append([])
        lines[-1].append(argument)
    return lines


def _argument(word: str) -> str:
    return _quoted(word.replace("$", "$$"))


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    # A line break would end the setting, and the rest be read as another.
    escaped = re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\x{ord(found[0]):02x}", escaped)
    plain = escaped and all(char.isalnum() or char in "-_./:,=+@" for char in escaped)
    return escaped if plain else f'"{escaped}"'
