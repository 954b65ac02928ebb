"""Write launch files: the servers of a plan, for people and supervisors that start them."""

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from fleet.environment import FORBIDDEN
from fleet.vllm import SHUTDOWN_TIMEOUT_S, LaunchCommand

_STOP_MARGIN_S = 10
"""Seconds beyond vLLM's own shutdown timeout, until systemd kills."""


def as_shell(launches: Sequence[LaunchCommand]) -> str:
    """Return a shell script that starts the servers in the background."""
    lines = ["#!/bin/sh", "# Written by `fleetctl compile`. Each server's digest covers its flags."]
    for launch in launches:
        name = launch.server.name
        lines += ["", f"# {launch.server.address} on {launch.server.host}"]
        cleared = " ".join(f"-u {name}" for name in _cleared(launch))
        lines.append(f"env {cleared} \\")
        lines += [
            f"  {key}={shlex.quote(value)} \\" for key, value in sorted(launch.environment.items())
        ]
        lines += [f"  {shlex.join(line)} \\" for line in _flag_lines(launch)]
        lines.append(f"  >{shlex.quote(f'{name}.log')} 2>&1 &")
    return "\n".join(lines) + "\n"


def _cleared(launch: LaunchCommand) -> list[str]:
    """Return the variables that the server must not inherit; systemd would clear set ones too."""
    return [name for name in FORBIDDEN if name not in launch.environment]


def _flag_lines(launch: LaunchCommand) -> list[list[str]]:
    lines: list[list[str]] = [[]]
    for argument in launch.arguments:
        if argument.startswith("--"):
            lines.append([])
        lines[-1].append(argument)
    return lines


def as_json(launches: Sequence[LaunchCommand]) -> str:
    """Return the servers as JSON: name, digest, launch, argument vector and environment."""
    documents = [
        {
            "server": launch.server.name,
            "host": launch.server.host,
            "devices": list(launch.server.devices),
            "port": launch.server.port,
            "digest": launch.server.digest,
            "launch": launch.launch,
            "arguments": list(launch.arguments),
            "environment": dict(sorted(launch.environment.items())),
        }
        for launch in launches
    ]
    return json.dumps(documents, indent=2) + "\n"


def as_systemd(launches: Sequence[LaunchCommand]) -> str:
    """Return a systemd unit for every server, headed by the unit's file name."""
    return "\n".join(_unit(launch) for launch in launches)


def _unit(launch: LaunchCommand) -> str:
    words = " \\\n  ".join(" ".join(map(_systemd, line)) for line in _flag_lines(launch))
    pairs = sorted(launch.environment.items())
    variables = "\n".join(f"Environment={_systemd(f'{key}={value}')}" for key, value in pairs)
    return (
        f"# fleetctl-{launch.server.name}.service\n"
        "[Unit]\n"
        f"Description=vLLM {launch.server.name}, flags {launch.server.digest}\n"
        "After=network-online.target\n\n"
        "[Service]\n"
        f"{variables}\n"
        f"UnsetEnvironment={' '.join(_cleared(launch))}\n"
        f"ExecStart={words}\n"
        f"TimeoutStopSec={SHUTDOWN_TIMEOUT_S + _STOP_MARGIN_S}\n"
        "KillMode=mixed\n"
        "Restart=on-failure\n\n"
        "[Install]\n"
        "WantedBy=multi-user.target\n"
    )


def _systemd(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    # A line break would end the setting, and the rest be read as another.
    escaped = re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\x{ord(found[0]):02x}", escaped)
    plain = escaped and all(char.isalnum() or char in "-_./:,=+@" for char in escaped)
    return escaped if plain else f'"{escaped}"'


LAUNCH_FORMATS: Mapping[str, Callable[[Sequence[LaunchCommand]], str]] = MappingProxyType(
    {"json": as_json, "sh": as_shell, "systemd": as_systemd}
)
