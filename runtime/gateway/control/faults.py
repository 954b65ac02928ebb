"""Faults of gateways of this machine: not as declared, down, unreachable, or refusing every client.

A gateway that runs although its admin socket takes no connection has acknowledged nothing. The lock
tells that a gateway of ours runs; the port for clients tells that an Envoy runs, which a supervisor
outside fleetctl starts.
"""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from fleet.environment import secret_mark
from fleet.errors import EngineError, EngineRejectedError, EngineUnreachableError
from fleet.resources import Fault, OutageKind
from fleet.spec import GatewaySpec
from runtime.gateway.admin.admin_socket import is_url, socket_path
from runtime.gateway.admin.protocol import GatewayConfig
from runtime.gateway.admin.state_dir import gateway_dir, keys_of_servers, known_gateways
from runtime.gateway.control.supervisor import (
    RUNNING,
    STOPPED,
    GatewayProcess,
    find_process,
    find_ready,
    lock_path,
    wanted,
)
from runtime.trust import may_contact
from runtime.usage.log import LOG_BYTES, USAGE_FILE, log_bytes

END_S = 2.0
"""Upper bound in seconds from the end of a gateway's admin socket to the end of its process."""
_CONNECT_S: Final = 1.0
_POLL_S: Final = 0.02


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
    if running.servers_secret not in (None, declared.servers_secret):
        yield f"with `servers_secret: {running.servers_secret or 'null'}`, not as declared"
    if running.server_keys not in (None, declared.server_keys):
        given = ", ".join(f"{server} by `{key}`" for server, key in running.server_keys or ())
        yield f"with the `api_key` of {given or 'no server'}, not as declared"
    yield from _tls(running, declared)


def _tls(running: GatewayProcess, declared: GatewaySpec) -> Iterator[str]:
    if running.server_tls not in (None, declared.server_tls):
        given = ", ".join(server for server, _ in running.server_tls or ())
        yield f"with the `tls` of {given or 'no server'}, not as declared"


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


def faults_of(
    state_dir: Path,
    gateways: Mapping[str, GatewaySpec],
    configs: Mapping[str, GatewayConfig | EngineError | None],
) -> dict[str, Fault]:
    """Return by name the gateways that are down, refuse, or run otherwise than declared."""
    found = deviating(state_dir, gateways) | dict(_full(state_dir, gateways))
    for name, config in configs.items():
        fault = fault_of(state_dir, gateways[name], config)
        if fault is not None and (fault.outage or name not in found):
            found[name] = fault
    return dict(sorted(found.items()))


def _full(state_dir: Path, gateways: Mapping[str, GatewaySpec]) -> Iterator[tuple[str, Fault]]:
    """Yield gateways whose usage log is above its size, although old files are removed."""
    for name, gateway in gateways.items():
        size, limit = log_bytes(gateway_dir(state_dir, name)), gateway.usage_log or LOG_BYTES
        if size > limit:
            text = (
                f"has a usage log of {size} bytes, above its `usage_log` of {limit}: its rows are "
                "not ingested yet, or lie in the file that is being written"
            )
            yield name, Fault(text, "fleetctl usage ingest")


def fault_of(
    state_dir: Path, gateway: GatewaySpec, config: GatewayConfig | EngineError | None
) -> Fault | None:
    """Return the fault of a gateway; None: there is none, or the gateway never ran.

    `config` may be why the gateway does not answer; None: no process listens on its socket.
    """
    if isinstance(config, GatewayConfig):
        if config.refusing:
            return refusal_of(state_dir, gateway.name, config.refusing)
        return lacks_secret(state_dir, gateway, config)
    if config is not None:
        text = f"does not answer: {config.diagnostics[0].detail.rstrip('.')}"
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


def lacks_secret(
    state_dir: Path, gateway: GatewaySpec, config: GatewayConfig | EngineError | None
) -> Fault | None:
    """Return the fault of a gateway that servers would refuse, which are started now."""
    try:
        keys = keys_of_servers(state_dir, gateway)
    except EngineError:  # nothing is started without it (FC4025)
        return None
    if not isinstance(config, GatewayConfig) or config.secret_mark is None:
        return None
    differs = keys.secret and config.secret_mark != secret_mark(keys.secret)
    lacking = ["secret of `servers_secret`"] if differs else []
    lacking += [
        f"`api_key` of server {server}"
        for server, (_, key) in keys.attached.items()
        if config.key_marks.get(server) != secret_mark(key)
    ]
    if not lacking:
        return None
    text = f"has another {' and '.join(lacking)} than this checkout, or none"
    name = gateway.name
    return Fault(text, f"fleetctl gateway stop {name} && fleetctl gateway start {name}")


def require_secret(
    state_dir: Path,
    gateways: Mapping[str, GatewaySpec],
    configs: Mapping[str, GatewayConfig | EngineError | None],
) -> None:
    """Refuse to go on where servers that are started now would refuse a gateway.

    Raises:
        EngineRejectedError: FC4026.
    """
    for name, config in configs.items():
        if fault := lacks_secret(state_dir, gateways[name], config):
            raise EngineRejectedError.of(
                "FC4026",
                "A gateway does not know the servers' keys",
                f"Gateway `{name}` {fault.what}: servers would refuse it.",
                hint="Nothing was started. Restart the gateway where it runs, with the secret.",
                command=fault.command,
            )


async def still_runs(state_dir: Path, name: str) -> bool:
    """Return whether a gateway that took no connection still answers clients after `END_S`."""
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
    return EngineUnreachableError.of(
        "FC6016",
        "A gateway runs and cannot be reached",
        f"{error.diagnostics[0].detail}{gone} {runs}",
        hint=hint,
        command=command,
    )


async def _serves_clients(state_dir: Path, gateway: GatewaySpec) -> bool:
    """Return whether an Envoy that has answered here takes connections of clients."""
    host, _, port = gateway.listen.rpartition(":")
    has_answered = (gateway_dir(state_dir, gateway.name) / USAGE_FILE).exists()
    if not has_answered or port == "0":  # only its admin side knows which port was free
        return False
    if not may_contact(f"http://{gateway.listen}"):
        return False
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
