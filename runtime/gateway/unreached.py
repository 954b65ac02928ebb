"""Gateways whose admin socket takes no connection: which of them run all the same.

Those that do have not acknowledged anything. Of ours their lock says so; of an Envoy, which whoever
likes starts, that it takes connections of clients.
"""

import asyncio
from pathlib import Path
from typing import Final

from fleet.errors import EngineError, EngineUnreachableError, problem
from fleet.spec import GatewaySpec
from runtime.gateway import places
from runtime.gateway.running import find
from runtime.gateway.usagelog import USAGE_FILE

COMES_BACK_S: Final = 2.0
"""How long a gateway whose socket is gone is given to open it again, or to end."""
_LOOK_S: Final = 0.02
_CONNECT_S: Final = 1.0


async def comes_back(state_dir: Path, gateway: GatewaySpec) -> bool:
    """Say whether a gateway that took no connection is worth another try.

    Waits, where a process of ours answers clients, until it has opened its socket anew or ended.
    """
    path = places.socket_path(state_dir, gateway)
    before, clock = _opened_at(path), asyncio.get_running_loop().time
    until = clock() + COMES_BACK_S
    while (found := find(state_dir, gateway.name)) is not None and found.url:
        if _opened_at(path) not in (None, before) or clock() > until:
            return True
        await asyncio.sleep(_LOOK_S)
    return False


async def unreached(
    state_dir: Path, gateway: GatewaySpec, error: EngineError
) -> EngineUnreachableError | None:
    """Return the error that a gateway runs and its admin socket takes no connection.

    None: it does not run, or answers no client yet and reads the table's file after it has
    opened the socket.

    Args:
        state_dir: The fleet's state folder.
        gateway: As declared.
        error: Why there was no connection.
    """
    path, name = places.socket_path(state_dir, gateway), gateway.name
    gone = "" if path.exists() else f" The file `{path}` is gone."
    found = find(state_dir, name)
    if gateway.kind == "envoy":
        if found is not None or not await _serves_clients(state_dir, gateway):
            return None
        runs = (
            f"Something takes clients' connections on `{gateway.listen}`: if it is that Envoy, it "
            "follows the files in its folder, and nobody can tell which routes it has."
        )
        hint = (
            f"Where it is not to run any more, end what listens on `{gateway.listen}`, or take "
            f"`{name}` out of the declarations: one that does not run holds nothing up. Else "
            "restart it by its own means; it then reads the newest routes:"
        )
        command = f"fleetctl gateway run {name}"
    elif found is None or not found.url:
        return None
    else:
        runs = (
            f"Process {found.pid} of gateway `{name}` answers clients with the routes that it had."
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
    """Say whether an Envoy that has been at work here takes connections of clients."""
    host, _, port = gateway.listen.rpartition(":")
    has_run = (places.folder(state_dir, gateway.name) / USAGE_FILE).exists()
    if not has_run or port == "0":  # which port it has, only its admin side knows
        return False
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _opened_at(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns
