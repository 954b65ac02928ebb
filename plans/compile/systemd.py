"""Write units of systemd: servers of a plan, gateways, and the reconciler."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fleet.vllm import SHUTDOWN_TIMEOUT_S, LaunchCommand
from plans.compile.launch import cleared_variables, flag_lines

_STOP_MARGIN_S = 10
"""Seconds beyond vLLM's own shutdown timeout, until systemd kills."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Service:
    """A program that systemd starts at boot, and again after every end."""

    unit: str
    """File name of the unit."""
    description: str
    arguments: Sequence[str]
    folder: str
    """Working folder."""
    stop_s: float
    """Seconds between SIGTERM and SIGKILL."""
    environment: Mapping[str, str]
    secrets: str = ""
    """File of variables that need not exist; empty: none is read."""
    after: Sequence[str] = ()
    """Units that are started first."""
    kill_mode: str = "mixed"


def service_of(launch: LaunchCommand, folder: str) -> Service:
    """Return the service of a server; `folder` is the project."""
    return Service(
        f"fleetctl-{launch.server.name}.service",
        f"vLLM {launch.server.name}, flags {launch.server.digest}",
        launch.arguments,
        folder,
        SHUTDOWN_TIMEOUT_S + _STOP_MARGIN_S,
        launch.environment,
    )


def unit(service: Service, user: str = "") -> str:
    """Return a unit, headed by its file name.

    `user` runs the program of a system unit. Empty: the unit is for a user's own manager.
    """
    # Modules that lie in the project must not shadow those of the program.
    variables = {"PYTHONSAFEPATH": "1", **service.environment}
    after = [*(["network-online.target"] if user else []), *service.after]
    lines = [
        f"# {service.unit}",
        "[Unit]",
        f"Description={_path(service.description)}",
        *(["Wants=network-online.target"] if user else []),
        *([f"After={' '.join(after)}"] if after else []),
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=exec",
        *([f"User={_path(user)}"] if user else []),
        f"WorkingDirectory={_path(service.folder)}",
        *([f"EnvironmentFile=-{service.secrets}"] if service.secrets else []),
        *(f"Environment={_word(f'{key}={value}')}" for key, value in sorted(variables.items())),
        f"UnsetEnvironment={' '.join(cleared_variables(variables))}",
        f"ExecStart={_command(service.arguments)}",
        "Restart=always",
        "RestartSec=1",
        f"TimeoutStopSec={service.stop_s:g}",
        f"KillMode={service.kill_mode}",
        "",
        "[Install]",
        f"WantedBy={'multi-user' if user else 'default'}.target",
    ]
    return "\n".join(lines) + "\n"


def _command(arguments: Sequence[str]) -> str:
    # The colon keeps `$` as it is; doubled, it would stay double in the program's path.
    lines = flag_lines((f":{arguments[0]}", *arguments[1:]))
    return " \\\n  ".join(" ".join(map(_word, line)) for line in lines)


def _word(text: str) -> str:
    """Return a word by systemd's rules of quoting, without specifiers."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    # A line break would end the setting, and the rest be read as another.
    escaped = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", escaped)
    plain = escaped and all(char.isalnum() or char in "-_./:,=+@" for char in escaped)
    return escaped if plain else f'"{escaped}"'


def _path(text: str) -> str:
    """Return a value that systemd reads to the end of its line, and does not unquote."""
    return _CONTROL.sub("?", text.replace("%", "%%"))
