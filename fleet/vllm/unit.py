"""Makes the systemd unit of a server."""

from fleet.systemd_unit import SystemdUnit
from fleet.vllm.launch import SHUTDOWN_TIMEOUT_S, LaunchCommand

_STOP_MARGIN_S = 10
"""Seconds beyond vLLM's own shutdown timeout, until systemd kills."""


def unit_name(server: str) -> str:
    """Return the file name of a server's unit."""
    return f"fleetctl-{server}.service"


def server_unit(launch: LaunchCommand, folder: str) -> SystemdUnit:
    """Return the unit of a server; `folder` is its working folder, `~` the user's home."""
    return SystemdUnit(
        unit_name(launch.server.name),
        f"vLLM {launch.server.name}, flags {launch.server.digest}",
        launch.arguments,
        folder,
        SHUTDOWN_TIMEOUT_S + _STOP_MARGIN_S,
        launch.environment,
    )
