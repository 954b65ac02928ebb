"""Gateway processes of this machine: start, find and stop; the wish of the person who did so.

A lock tells that a gateway runs; where the folders with locks are lost, the mark in the environment
of its process does.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, NoReturn

from fleet.codec import decode_json
from fleet.environment import inherited
from fleet.errors import FleetError
from fleet.hardware import ServerTls
from fleet.spec import GatewaySpec
from runtime.files import is_locked, plain_text, private_file, read_plain, replace_file
from runtime.gateway.admin.state_dir import LOCK, gateway_dir, remember, run_dir, tls_of
from runtime.gateway.http.timeouts import GRACE_S
from runtime.processes import environment, lock_holder, marked_by, send, start_mark

MARK: Final = "FLEETCTL_GATEWAY"
"""Environment variable of a gateway's process with the gateway's folder."""
URL: Final = "FLEETCTL_GATEWAY_URL"
WANTED: Final = "wanted"
"""File in the gateway's folder: `running` after `start`, `stopped` after `stop`. Absent: other
means start the gateway."""
RUNNING: Final = "running"
STOPPED: Final = "stopped"
START_S: Final = 20.0
"""Upper bound in seconds from spawning a process until the process is ready."""
_KILL_S: Final = 5.0
"""Seconds that a process has beyond its grace period, and again after SIGKILL."""
_POLL_S: Final = 0.02
_LOG_LINES: Final = 15


@dataclass(frozen=True, slots=True)
class GatewayProcess:
    """The record of a gateway's process."""

    pid: int
    url: str
    """URL for clients; empty until the process is ready."""
    admin: str | None = None
    """Admin side as declared at the start; None where the record does not say."""
    servers_secret: str | None = None
    """Reference of the secret of servers' keys at the start; None as before."""
    server_keys: tuple[tuple[str, str], ...] | None = None
    """Attached servers with the references of their keys at the start; None as before."""
    server_tls: tuple[tuple[str, ServerTls], ...] | None = None
    """Attached servers with their files for TLS at the start; None as before."""


def find_process(state_dir: Path, name: str) -> GatewayProcess | None:
    """Return the process of a gateway, or None if the gateway does not run.

    A lock decides: the kernel releases it with the process, however the process ends. The start
    mark guards against a record that the process has not replaced yet. Where both folders with a
    lock are lost, the process is known by its environment.
    """
    paths = [lock_path(state_dir, name), run_dir(state_dir, name) / LOCK]
    for path in filter(is_locked, paths):
        with suppress(ValueError, KeyError, AttributeError):
            record = decode_json(read_plain(path))
            if start_mark(record["pid"]) == record["process_start"]:
                given = record.get("declared", {})
                secret, keys = given.get("servers_secret", ""), given.get("server_keys", ())
                its = record["pid"], record["url"], record.get("admin"), secret
                pairs = tuple((name, where) for name, where in keys)
                return GatewayProcess(*its, pairs, tls_of(given))
    if any(path.exists() for path in paths):
        return None
    for pid in marked_by(MARK, _mark(state_dir, name)):
        return GatewayProcess(pid, environment(pid).get(URL, ""))
    return None


def find_ready(state_dir: Path, name: str) -> GatewayProcess | None:
    """Return the process of a gateway that answers clients; None: there is none yet."""
    running = find_process(state_dir, name)
    return running if running is not None and running.url else None


def start(state_dir: Path, gateway: GatewaySpec) -> GatewayProcess:
    """Start a gateway detached from this terminal; return once the gateway is ready.

    A gateway that runs already is left as it is. A gateway that was started here is started again
    by `reconcile` where its process has ended, until `stop`.

    Raises:
        FleetError: FC6009, the process exited or was not ready in time, with the end of its log.
    """
    if (running := find_ready(state_dir, gateway.name)) is not None:
        return running
    remember(state_dir, {gateway.name: gateway})
    before = wanted(state_dir, gateway.name)
    _want(state_dir, gateway.name, RUNNING)
    try:
        return _spawn(state_dir, gateway)
    except FleetError:
        _want(state_dir, gateway.name, before)
        raise


def start_again(state_dir: Path, gateway: GatewaySpec) -> GatewayProcess | None:
    """Start a gateway whose process has ended; None: a person has stopped the gateway meanwhile.

    Raises as `start`.
    """
    if wanted(state_dir, gateway.name) != RUNNING:
        return None
    return find_ready(state_dir, gateway.name) or _spawn(state_dir, gateway)


def _spawn(state_dir: Path, gateway: GatewaySpec) -> GatewayProcess:
    command, variables = _launch(state_dir, gateway)
    log = gateway_dir(state_dir, gateway.name) / "log"
    with open(log, "ab", opener=private_file) as stream:
        log_start = stream.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            env=variables,
        )

    def ready() -> GatewayProcess | None:
        has_lock = lock_path(state_dir, gateway.name).exists()  # else its environment would do
        return find_ready(state_dir, gateway.name) if has_lock else None

    _wait(lambda: process.poll() is not None or ready() is not None, START_S)
    if (started := ready()) is not None:
        return started
    send(process.pid, signal.SIGTERM)
    output = log.read_bytes()[log_start:].decode(errors="replace")
    raise FleetError.of(
        "FC6009",
        "The gateway did not start",
        "\n".join([f"The end of `{log}`:", *output.splitlines()[-_LOG_LINES:]]),
        hint="Is its port taken? `fleetctl gateway run` shows the error directly.",
    )


def become(state_dir: Path, gateway: GatewaySpec) -> NoReturn:
    """Replace this process by a gateway, with the mark of a process that `start` starts."""
    remember(state_dir, {gateway.name: gateway})
    _want(state_dir, gateway.name, "")  # a person or a supervisor starts and stops the process
    command, variables = _launch(state_dir.resolve(), gateway)
    os.execve(sys.executable, command, variables)  # noqa: S606 (no shell is wanted)


def _launch(state_dir: Path, gateway: GatewaySpec) -> tuple[list[str], dict[str, str]]:
    """Return the command line and the environment of a gateway's process."""
    command = [sys.executable, "-m", "runtime.gateway.process", "--state-dir", str(state_dir)]
    command += ["--name", gateway.name, "--listen", gateway.listen, "--admin", gateway.admin]
    command += ["--secret", gateway.secret, "--servers-secret", gateway.servers_secret]
    command += ["--certificate", gateway.certificate]
    for server, reference in gateway.server_keys:
        command += ["--server-key", server, reference]
    for server, files in gateway.server_tls:
        command += ["--server-tls", server, json.dumps(asdict(files))]
    references = gateway.secret, gateway.servers_secret, *dict(gateway.server_keys).values()
    pairs = (text.partition(":") for text in references)
    variables = {
        **inherited(os.environ, [variable for kind, _, variable in pairs if kind == "env"]),
        "PYTHONPATH": str(Path(__file__).parents[3]),
        MARK: _mark(state_dir, gateway.name),
        URL: f"http://{gateway.listen}",
    }
    return command, variables


def stop(state_dir: Path, name: str) -> bool:
    """Stop a gateway, by force after the grace period; return whether the gateway ran.

    The gateway stays stopped until a person starts it: the stop is recorded first.

    Raises:
        FleetError: FC6082, the recorded process is another one.
    """
    if gateway_dir(state_dir, name).is_dir():
        _want(state_dir, name, STOPPED)
    running = find_process(state_dir, name)
    if running is None:
        return False
    mark = start_mark(running.pid)
    _require_own(state_dir, name, running.pid)
    send(running.pid, signal.SIGTERM)
    if not _wait(lambda: start_mark(running.pid) != mark, GRACE_S + _KILL_S):
        send(running.pid, signal.SIGKILL)
        _wait(lambda: start_mark(running.pid) != mark, _KILL_S)
    return True


def _require_own(state_dir: Path, name: str, pid: int) -> None:
    """Refuse a process without a gateway's mark and locks, or raise FC6082."""
    locks = (lock_path(state_dir, name), run_dir(state_dir, name) / LOCK)
    marked = environment(pid).get(MARK) == _mark(state_dir, name)
    if marked or any(lock_holder(path) == pid for path in locks):
        return
    raise FleetError.of(
        "FC6082",
        "Process of a record is another one",
        f"`{locks[0]}` names process {pid}, which is not gateway `{name}`. Nothing was stopped.",
        hint="Find out who wrote the file, and remove it.",
    )


def wanted(state_dir: Path, name: str) -> str:
    """Return the content of `WANTED`; empty: there is none."""
    with suppress(OSError, ValueError):
        return plain_text(gateway_dir(state_dir, name) / WANTED).strip()
    return ""


def _want(state_dir: Path, name: str, state: str) -> None:
    path = gateway_dir(state_dir, name) / WANTED
    if state:
        replace_file(path, f"{state}\n".encode())
    else:
        path.unlink(missing_ok=True)


def _mark(state_dir: Path, name: str) -> str:
    return str(gateway_dir(state_dir.resolve(), name))


def lock_path(state_dir: Path, name: str) -> Path:
    """Return the path of the file that a gateway's process keeps locked."""
    return gateway_dir(state_dir, name) / LOCK


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
