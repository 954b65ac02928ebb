"""Write launch files: the servers of a plan, for people and supervisors that start them."""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from fleet.hosts import cleared_variables, flag_lines
from fleet.resources import Route
from fleet.spec import FleetSpec
from fleet.vllm import LaunchCommand


@dataclass(frozen=True, slots=True)
class CompileFacts:
    """The declared fleet, and the routes that gateways serve; no secret is among them."""

    fleet: FleetSpec
    revision: int
    """Of the routing table."""
    routes: Mapping[str, Route]
    """By alias."""
    servers: Mapping[str, str]
    """Base URL by server."""


CompileTarget = Callable[[CompileFacts], Mapping[str, str]]
"""Returns the texts of files by name; pure."""


def as_shell(launches: Sequence[LaunchCommand]) -> str:
    """Return a shell script that starts the servers in the background."""
    lines = ["#!/bin/sh", "# Written by `fleetctl compile`. Each server's digest covers its flags."]
    for launch in launches:
        name = launch.server.name
        lines += ["", f"# {launch.server.address} on {launch.server.host}"]
        cleared = " ".join(f"-u {name}" for name in cleared_variables(launch.environment))
        lines.append(f"env {cleared} \\")
        lines += [
            f"  {key}={shlex.quote(value)} \\" for key, value in sorted(launch.environment.items())
        ]
        lines += [f"  {shlex.join(line)} \\" for line in flag_lines(launch.arguments)]
        lines.append(f"  >{shlex.quote(f'{name}.log')} 2>&1 &")
    return "\n".join(lines) + "\n"


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


LAUNCH_FORMATS: Mapping[str, Callable[[Sequence[LaunchCommand]], str]] = MappingProxyType(
    {"json": as_json, "sh": as_shell}
)
