"""Starting, finding and stopping gateway processes on this machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fleet.errors import FleetError, problem
from fleet.spec import GatewaySpec
from runtime.gateway import places
from runtime.gateway.running import Running, find
from runtime.gateway.transports import DEFAULT
from runtime.gateway.transports.timing import GRACE_S
from runtime.processes import send

START_S = 20.0
_POLL_S = 0.02
_LOG_LINES = 15


def start(state_dir: Path, gateway: GatewaySpec, transport: str = DEFAULT) -> Running:
    """Start a gateway detached from this terminal; return once it takes requests.

    One that runs already is fine, also with another of the `TRANSPORTS`.

    Raises:
        FleetError: it exited, with the end of its log, or did not become ready in time.
    """
    running = find(state_dir, gateway.name)
    if running is not None and running.url:
        return running
    place = places.folder(state_dir, gateway.name)
    places.remember(state_dir, {gateway.name: gateway})
    command = [sys.executable, "-m", "runtime.gateway.serving", "--state-dir", str(state_dir)]
    command += ["--name", gateway.name, "--listen", gateway.listen, "--admin", gateway.admin]
    command += ["--transport", transport, "--secret", gateway.secret]
    log = place / "log"
    with log.open("ab") as stream:
        earlier = stream.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": _packages()},
        )
    _wait(lambda: process.poll() is not None or _is_ready(state_dir, gateway), START_S)
    found = find(state_dir, gateway.name)
    if found is not None and found.url:
        return found
    send(process.pid, signal.SIGTERM)
    said = log.read_bytes()[earlier:].decode(errors="replace")
    raise FleetError(
        problem(
            "FC6009",
            "The gateway did not start",
            "\n".join([f"The end of `{log}`:", *said.splitlines()[-_LOG_LINES:]]),
            hint="Is its port taken? `fleetctl gateway run` shows the error directly.",
        )
    )


def stop(state_dir: Path, name: str) -> bool:
    """Stop a gateway after its requests have finished; return whether it ran.

    After the grace period it is killed; requests still running then are cut.
    """
    running = find(state_dir, name)
    if running is None:
        return False
    send(running.pid, signal.SIGTERM)
    if not _wait(lambda: find(state_dir, name) is None, GRACE_S + 5):
        send(running.pid, signal.SIGKILL)
        _wait(lambda: find(state_dir, name) is None, 5)
    return True


def _is_ready(state_dir: Path, gateway: GatewaySpec) -> bool:
    found = find(state_dir, gateway.name)
    return found is not None and bool(found.url)


def _packages() -> str:
    """Return the path that holds our packages, for an interpreter that starts elsewhere."""
    here = str(Path(__file__).parents[2])
    return os.pathsep.join(each for each in (here, os.environ.get("PYTHONPATH", "")) if each)


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
