"""Which gateways run on this machine, and which of them run otherwise than they are declared."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import EngineError
from fleet.resources import GatewayFault
from fleet.spec import GatewaySpec
from runtime.gateway import places
from runtime.processes import start_mark

LOCK = "run.lock"


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway's process."""

    pid: int
    url: str
    """Where clients reach it; empty until it is ready."""
    transport: str = ""
    """Which of the transports carries requests; empty where it does not say."""
    admin: str | None = None
    """Its admin side as it was declared at the start; None where it does not say."""


def find(state_dir: Path, name: str) -> Running | None:
    """Return the process of a gateway, or None if it does not run.

    Its lock says whether it runs: the kernel releases that with the process, however it
    ends. The start mark guards against a number read before the process wrote its own.
    """
    try:
        handle = os.open(places.folder(state_dir, name) / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        with os.fdopen(handle, encoding="utf-8") as stream:
            return _recorded(stream.read())
    os.close(handle)
    return None


def has_run(state_dir: Path, gateway: GatewaySpec) -> bool:
    """Say whether a gateway was ever started on this machine: it left its lock, or its socket."""
    lock = places.folder(state_dir, gateway.name) / LOCK
    return lock.exists() or (
        not places.is_url(gateway.admin) and places.socket_path(state_dir, gateway).exists()
    )


def strays(state_dir: Path, gateways: Mapping[str, GatewaySpec]) -> dict[str, GatewayFault]:
    """Return by name what is wrong with processes of this machine that are not as declared.

    Args:
        state_dir: The fleet's state folder.
        gateways: As declared.
    """
    found = {}
    for name in sorted({*places.known(state_dir), *gateways}):
        running = find(state_dir, name)
        wrong = tuple(otherwise(running, gateways.get(name))) if running else ()
        if running and wrong:
            again = f" && fleetctl gateway start {name}" if name in gateways else ""
            command = f"fleetctl gateway stop {name}{again}"
            found[name] = GatewayFault(f"runs {' and '.join(wrong)}", command)
    return found


def otherwise(running: Running, declared: GatewaySpec | None) -> Iterator[str]:
    """Yield how a gateway runs otherwise than declared; None: it is not declared."""
    if declared is None:
        yield "and is not declared"
        return
    if declared.kind != "fleetctl":
        yield f"as fleetctl's own and is declared as an {declared.kind.capitalize()}"
        return
    port = declared.listen.rpartition(":")[2]
    if running.url and port != "0" and running.url != f"http://{declared.listen}":
        yield f"on {running.url.removeprefix('http://')} and is declared on {declared.listen}"
    if running.admin not in (None, declared.admin):
        yield f"with admin {running.admin or 'as usual'}, declared is {declared.admin or 'none'}"


def unanswered(
    state_dir: Path, gateway: GatewaySpec, shown: EngineError | None
) -> GatewayFault | None:
    """Return what is wrong with a gateway that does not show its table; None: it never ran.

    Args:
        state_dir: The fleet's state folder.
        gateway: As declared.
        shown: Why it does not; None: nobody listens on its socket.
    """
    if shown is not None:
        why = shown.diagnostics[0].detail.rstrip(".")
        return GatewayFault(f"does not answer: {why}", "fleetctl gateway status")
    if not has_run(state_dir, gateway):
        return None
    verb = "start" if gateway.kind == "fleetctl" else "run"
    text = "is not running and answers no client"
    return GatewayFault(text, f"fleetctl gateway {verb} {gateway.name}")


def _recorded(text: str) -> Running | None:
    try:
        record = json.loads(text)
        if start_mark(record["pid"]) == record["process_start"]:
            return Running(
                record["pid"], record["url"], record.get("transport", ""), record.get("admin")
            )
    except (ValueError, KeyError):
        pass
    return None
