"""Gateways that run although their admin socket takes no connection.

Such a gateway has acknowledged nothing. That a gateway of ours runs, its lock tells; that an Envoy
runs, which a supervisor outside fleetctl starts, the port for clients tells.
"""

import asyncio
from pathlib import Path
from typing import Final

from fleet.errors import EngineError, EngineUnreachableError, problem
from fleet.spec import GatewaySpec
from runtime.gateway.admin_socket import socket_path
from runtime.gateway.state_dir import gateway_dir
from runtime.gateway.supervisor import find_process, find_ready
from runtime.usage.log import USAGE_FILE

END_S = 2.0
"""Upper bound in seconds from the end of a gateway's admin socket to the end of its process."""
_POLL_S: Final = 0.02
_CONNECT_S: Final = 1.0


async def still_runs(state_dir: Path, name: str) -> bool:
    """Return whether a gateway that took no connection still answers clients after `END_S`.

    False at once where its process has ended or does not answer clients yet.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + END_S
    while find_ready(state_dir, name) is not None:
        if clock() > deadline:
            return True
        await asyncio.sleep(_POLL_S)
    return False


async def unreachable_error(
    state_dir: Path, gateway: GatewaySpec, error: EngineError
) -> EngineUnreachableError | None:
    """Return the error FC6016: a gateway runs and its admin socket takes no connection.

    None: the gateway does not run, or answers no client yet and reads the table's file after its
    socket is open. `error` says why there was no connection.
    """
    path, name = socket_path(state_dir, gateway), gateway.name
    gone = "" if path.exists() else f" The file `{path}` is gone."
    running = find_ready(state_dir, name)
    if gateway.kind == "envoy":
        if find_process(state_dir, name) or not await _serves_clients(state_dir, gateway):
            return None
        runs = (
            f"Something takes clients' connections on `{gateway.listen}`: if it is that Envoy, it "
            "follows the files in its folder, and which routes it has cannot be told."
        )
        hint = (
            f"Where it is not to run any more, end what listens on `{gateway.listen}`, or take "
            f"`{name}` out of the declarations: one that does not run holds nothing up. Else "
            "restart it by its own means; it then reads the newest routes:"
        )
        command = f"fleetctl gateway run {name}"
    elif running is None:
        return None
    else:
        runs = (
            f"Process {running.pid} of gateway `{name}` answers clients with the routes that it "
            "had."
        )
        hint = "Restart it; it then reads the newest routes:"
        command = f"fleetctl gateway stop {name} && fleetctl gateway start {name}"
    return EngineUnreachableError(
        problem(
            "FC6016",
            "A gateway runs and cannot be reached",
            f"{error.diagnostics[0].detail}{gone} {runs}",
            hint=hint,
            command=command,
        )
    )


async def _serves_clients(state_dir: Path, gateway: GatewaySpec) -> bool:
    """Return whether an Envoy that has answered here takes connections of clients."""
    host, _, port = gateway.listen.rpartition(":")
    has_answered = (gateway_dir(state_dir, gateway.name) / USAGE_FILE).exists()
    if not has_answered or port == "0":  # only its admin side knows which port was free
        return False
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
