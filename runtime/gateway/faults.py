"""Faults of gateways of this machine: not as declared, down, or refusing every client."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from fleet.errors import EngineError
from fleet.resources import Fault, OutageKind
from fleet.spec import GatewaySpec
from runtime.gateway.admin_socket import is_url, socket_path
from runtime.gateway.state_dir import gateway_dir, known_gateways
from runtime.gateway.supervisor import (
    RUNNING,
    STOPPED,
    GatewayProcess,
    find_process,
    lock_path,
    wanted,
)


def deviations(running: GatewayProcess, declared: GatewaySpec | None) -> Iterator[str]:
    """Yield how a process differs from its declaration; None: the gateway is not declared."""
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


def deviating(state_dir: Path, gateways: Mapping[str, GatewaySpec]) -> dict[str, Fault]:
    """Return by name the faults of processes of this machine that are not as declared."""
    faults = {}
    for name in sorted({*known_gateways(state_dir), *gateways}):
        running = find_process(state_dir, name)
        wrong = tuple(deviations(running, gateways.get(name))) if running else ()
        if wrong:
            start_again = f" && fleetctl gateway start {name}" if name in gateways else ""
            command = f"fleetctl gateway stop {name}{start_again}"
            faults[name] = Fault(f"runs {' and '.join(wrong)}", command)
    return faults


def fault_of(state_dir: Path, gateway: GatewaySpec, error: EngineError | None) -> Fault | None:
    """Return the fault of a gateway that does not show its table; None: the gateway never ran.

    `error` says why the gateway does not answer; None: no process listens on its socket.
    """
    if error is not None:
        text = f"does not answer: {error.diagnostics[0].detail.rstrip('.')}"
        return Fault(text, "fleetctl gateway status", OutageKind.GATEWAY_DOWN)
    has_socket = not is_url(gateway.admin) and socket_path(state_dir, gateway).exists()
    if not has_socket and not lock_path(state_dir, gateway.name).exists():
        return None  # it was never started here
    ours = gateway.kind == "fleetctl"
    wish = wanted(state_dir, gateway.name) if ours else ""
    stopped = "was stopped by `fleetctl gateway stop`"
    text = f"{stopped if wish == STOPPED else 'is not running'} and answers no client"
    command = f"fleetctl gateway {'start' if ours else 'run'} {gateway.name}"
    return Fault(text, command, OutageKind.GATEWAY_DOWN, heals=wish == RUNNING)


def refusal_of(state_dir: Path, name: str, why: str) -> Fault:
    """Return the fault of a gateway whose usage log cannot be written: the gateway refuses all."""
    text = f"refuses every client, as its usage log cannot be written: {why}"
    command = f"df -h {gateway_dir(state_dir, name)}"
    return Fault(text, command, OutageKind.GATEWAY_REFUSES)
