"""Makes the systemd units of servers, and of forwards to their hosts."""

from collections.abc import Sequence
from dataclasses import replace

from fleet.hardware import PORT_STRIDE, HostSpec
from fleet.hosts.quadlet_unit import Container
from fleet.hosts.systemd_unit import SystemdUnit
from fleet.vllm.flags import SERVERS_PER_DEVICE
from fleet.vllm.launch import SHUTDOWN_TIMEOUT_S, LaunchCommand

_MARGIN_S = 10
STOP_S = SHUTDOWN_TIMEOUT_S + _MARGIN_S
"""Seconds between SIGTERM and SIGKILL, more than vLLM's own time for a stop."""

_FORWARD = ("BatchMode=yes", "StrictHostKeyChecking=yes", "ExitOnForwardFailure=yes",
            "ConnectTimeout=5", "ServerAliveInterval=3", "ServerAliveCountMax=2",
            "ControlPath=none", "RemoteCommand=none", "PermitLocalCommand=no")  # fmt: skip
"""Options of `ssh`: a lost connection ends the program within 9 s, and systemd starts it again."""


def unit_name(server: str) -> str:
    """Return the file name of a server's unit."""
    return f"fleetctl-{server}.service"


def instance_name(server: str) -> str:
    """Return the name of a server's instance of the template that root owns."""
    return f"fleetctl-engine@{server}.service"


def server_unit(launch: LaunchCommand, folder: str, key_file: str = "") -> SystemdUnit:
    """Return the unit of a server; `folder` is its working folder, `~` the user's home.

    `key_file` has the server's key; empty: the server has none.
    """
    return SystemdUnit(
        unit_name(launch.server.name),
        f"vLLM {launch.server.name}, flags {launch.server.digest}",
        launch.arguments,
        folder,
        STOP_S,
        launch.environment,
        key_file=key_file,
    )


def server_container(
    unit: SystemdUnit, image: str, readable: Sequence[str], resolver: str = ""
) -> tuple[SystemdUnit, Container]:
    """Return the unit of a server that runs from an image, with the server's container.

    `readable`: what the server reads, as for `Container`. `resolver`: folder of the plug-in there,
    among them; empty: the server has none.
    """
    variables = dict(unit.environment)
    # A container has its own cards alone, which begin at 0 there.
    cards = variables.pop("CUDA_VISIBLE_DEVICES", "")
    if resolver:
        variables["PYTHONPATH"] = resolver
    container = Container(image, readable, cards=cards.split(",") if cards else ())
    return replace(unit, environment=variables), container


def forward_unit(host: HostSpec, folder: str) -> SystemdUnit:
    """Return the unit that forwards the ports of a host of engine `ssh` to its servers.

    It has every port that servers of the host may get, so that a new server needs no new unit: that
    of a server which takes over while the servers of its device still run too.
    """
    last = 65535
    ports = sorted({
        port
        for device in host.devices
        for number in range(SERVERS_PER_DEVICE[-1] + 1)
        if (port := device.port + number * PORT_STRIDE) <= last
    })  # fmt: skip
    options = (word for option in _FORWARD for word in ("-o", option))
    forwards = (
        word for port in ports for word in ("-L", f"{host.reached_at}:{port}:127.0.0.1:{port}")
    )
    return SystemdUnit(
        f"fleetctl-forward-{host.name}.service",
        f"fleetctl, ports of host {host.name}",
        ("ssh", "-NTxa", *options, *forwards, f"ssh://{host.address}"),
        folder,
        _MARGIN_S,
        {},
    )
