"""Compiles servers of the plan into start commands, and routes for other gateways."""

import asyncio
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fleet.config import COMPILED_FILE, COMPILED_LINE
from fleet.errors import (
    EngineTimedOutError,
    EngineUnreachableError,
    FleetError,
    did_you_mean,
)
from fleet.plan import GatewayTarget
from fleet.planning import lost
from fleet.spec import GatewaySpec, NotifySpec
from fleet.systemd_unit import SystemdUnit, unit_text
from fleet.vllm import LaunchCommand, launch_of, server_unit
from fleetctl.envoys import envoys_of, named_gateway, routing_of
from plans.compile import alertmanager, grafana, litellm, prometheus
from plans.compile.envoy import ADMIN_SOCKET, BOOTSTRAP_FILE, RoutePlace, Routing, whole
from plans.compile.launch import LAUNCH_FORMATS
from plans.compile.prometheus import TOKEN_FILE
from plans.render.sections import limits_sentences
from runtime.engines.adapters_file import adapters_path
from runtime.files import normal_path, replace_file
from runtime.gateway.control import LocalGateways
from runtime.gateway.envoy.admin import EnvoyClient
from runtime.gateway.envoy.files import command_line
from runtime.gateway.http.timeouts import GRACE_S
from runtime.gateway.state_dir import known_gateways
from runtime.gateway.table import RoutingTable
from runtime.operations.planning import desired_servers
from runtime.project.declaration_files import is_compiled
from runtime.secrets import read_secret
from runtime.trust import load_trust
from runtime.workspace import Workspace

_ELSEWHERE = "/etc/envoy"
"""Folder named in a configuration that is printed, not written."""
_STOP_MARGIN_S = 10
"""Seconds beyond a gateway's own grace period, until systemd kills."""
_ROUND_S = 120
"""Seconds that a running round gets when the reconciler is told to stop."""


Compiled = tuple[str, tuple[str, ...]]
"""Text for standard output, empty if files were written; notes for standard error."""


def servers(workspace: Workspace, form: str, hosts: tuple[str, ...]) -> str:
    """Return the launch files of the servers of the plan.

    Raises:
        FleetError: FC5011, no such host is declared.
    """
    return LAUNCH_FORMATS[form](_launches(workspace, hosts))


def for_systemd(
    workspace: Workspace, hosts: tuple[str, ...], out: Path | None, user: str, *, programs: bool
) -> Compiled:
    """Return units of the servers; of gateways and reconciler too, if `programs`.

    `user` runs them as system units; empty: they are units of a user's own manager.

    Raises:
        FleetError: as `servers`.
    """
    folder = normal_path(workspace.root)
    units = [server_unit(launch, folder) for launch in _launches(workspace, hosts)]
    if programs:
        units += _programs(workspace, folder, [unit.file for unit in units])
    texts = {unit.file: unit_text(unit, user) for unit in units}
    if out is None:
        return "\n".join(texts.values()), ()
    out.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        replace_file(out / name, text.encode())
    manager = "systemctl" if user else "loginctl enable-linger && systemctl --user"
    start = f"start them now and at every boot: {manager} enable --now {' '.join(texts)}"
    return "", (f"written to {out}", start)


def _programs(workspace: Workspace, folder: str, servers: Sequence[str]) -> Iterator[SystemdUnit]:
    """Yield the units of the gateways, and of the reconciler after those of the servers."""
    fleet, state = workspace.fleet(), normal_path(workspace.state_dir)
    variables = (word for pair in workspace.variables.items() for word in ("--var", "=".join(pair)))
    words = [sys.executable, "-m", "fleetctl", "-C", folder, *variables, "--state-dir", state]
    words += ["--env", workspace.environment] if workspace.environment else []

    def made(name: str, stop_s: float, *arguments: str) -> SystemdUnit:
        file, title = f"fleetctl-{name}.service", f"fleetctl {' '.join(arguments)}, {fleet.name}"
        secrets = f"%E/fleetctl/{fleet.name}.env"
        return SystemdUnit(file, title, (*words, *arguments), folder, stop_s, {}, secrets)

    for name in sorted(fleet.gateways or known_gateways(workspace.state_dir)):
        yield made(f"gateway-{name}", GRACE_S + _STOP_MARGIN_S, "gateway", "run", name)
    # Servers and gateways that the reconciler started outlive the reconciler.
    reconciler = made("reconcile", _ROUND_S, "reconcile", "--interval", "30s")
    yield replace(reconciler, after=servers, kill_mode="process")


def _launches(workspace: Workspace, hosts: tuple[str, ...]) -> list[LaunchCommand]:
    fleet = workspace.fleet()
    for name in hosts:
        if name not in fleet.hosts:
            known = sorted(fleet.hosts)
            near = did_you_mean(name, known) or f"There are: {', '.join(known)}."
            detail = f"No host is called `{name}`."
            raise FleetError.of("FC5011", "No such resource", detail, hint=near)
    launches, root = [], Path(normal_path(workspace.root))
    records = Path(normal_path(workspace.state_dir)) / "servers"
    for server in desired_servers(workspace):
        host = fleet.hosts.get(server.host)
        if host is None or (hosts and host.name not in hosts):
            continue
        model = root / server.flags.model if server.flags else Path()
        fake = host.engine == "fake"
        python = sys.executable if fake else _interpreter(root, host.python)
        launch = launch_of(
            server,
            host,
            python=python,
            model=str(model) if model.is_dir() else "",
            adapters=adapters_path(records, server.name, python, fake=fake),
            allowed=load_trust().code.get(host.name, ()),
        )
        if launch is not None:
            launches.append(launch)
    return launches


def _interpreter(root: Path, declared: str) -> str:
    """Return the declared interpreter as a path that works from anywhere."""
    if "/" not in declared:
        return declared or "python3"
    return normal_path(root / declared)


def for_envoy(
    workspace: Workspace, name: str | None, out: Path | None, seen_at: str | None
) -> Compiled:
    """Compile the routing table that gateways serve now for an Envoy.

    Raises:
        FleetError: there is no table yet, no such gateway, a key cannot be read, or the Envoy
            that runs on the folder refuses the files.
    """
    gateway = _gateway(workspace, name)
    table = asyncio.run(_table(workspace))
    routing = routing_of(table)
    if out is None:
        place = RoutePlace(gateway.name, gateway.listen, _ELSEWHERE, f"{_ELSEWHERE}/{ADMIN_SOCKET}")
        text = whole(routing, place)
        note = "API keys are left out, so the Envoy admits no client: write them with --out FOLDER."
    else:
        text = ""
        note = asyncio.run(_write(workspace, table, gateway, out.absolute(), seen_at))
    return text, (note, *_lost(GatewayTarget.ENVOY, routing))


def for_litellm(workspace: Workspace, out: Path | None) -> Compiled:
    """Compile the routing table that gateways serve now for LiteLLM; it holds no secret.

    Raises:
        FleetError: there is no table yet, or FC5021, another file has the name of the one to write.
    """
    routing = routing_of(asyncio.run(_table(workspace)))
    text = litellm.config(routing.routes, routing.servers)
    notes = _lost(GatewayTarget.LITELLM, routing)
    if out is None:
        return text, notes
    out.mkdir(parents=True, exist_ok=True)
    path = out / COMPILED_FILE
    if path.exists() and not is_compiled(path):
        detail = f"`{path}` exists, and `fleetctl compile` did not write it."
        hint = "Name another folder with --out, or move the file away."
        raise FleetError.of("FC5021", "File cannot be written", detail, hint=hint)
    replace_file(path, (COMPILED_LINE + text).encode())
    start = f"revision {routing.revision} is written; start it: litellm --config {path}"
    return "", (start, *notes)


def for_monitoring(workspace: Workspace, target: str, out: Path, url: str) -> tuple[str, ...]:
    """Write the files of Prometheus, Alertmanager or Grafana; return notes.

    Raises:
        FleetError: the declarations are broken, or FC5022, a receiver's secret is not readable.
    """
    fleet = workspace.fleet()
    to, notes = fleet.notify or NotifySpec(), list[str]()
    if target == "prometheus":
        token = shlex.join(["fleetctl", "dashboard", "token", "--for", "365d"])
        notes.append(f"scrapes need a token: {token} > {shlex.quote(str(out / TOKEN_FILE))}")
        files: Mapping[str, str] = {
            prometheus.CONFIG_FILE: prometheus.config(url, to.alertmanager),
            prometheus.RULES_FILE: prometheus.rules(fleet.name),
        }
    elif target == "alertmanager":
        login = _secret(workspace, to.mail.login) if to.mail and to.mail.login else ""
        webhook = to.webhook if "://" in to.webhook else _secret(workspace, to.webhook)
        files = {alertmanager.CONFIG_FILE: alertmanager.config(webhook, to.mail, login)}
        if not (webhook or to.mail):
            notes.append("alerts are sent nowhere: no webhook and no mail is declared in `notify`")
    else:
        files = grafana.dashboards()
        notes.append("for operators alone: a variable isolates no client; clients have `dashboard`")
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        replace_file(out / name, text.encode())
    return (f"written to {out}: {', '.join(files)}", *notes)


def _secret(workspace: Workspace, reference: str) -> str:
    """Return the secret of a receiver; empty: none is declared."""
    found = read_secret(workspace.root, reference) if reference else ""
    if found is None:
        detail = f"`{reference}` of `notify` is not readable here, and its receiver needs it."
        raise FleetError.of("FC5022", "Secret of a receiver is not readable", detail)
    return found


def _lost(target: GatewayTarget, routing: Routing) -> tuple[str, ...]:
    policies = {alias: route.policy for alias, route in routing.routes.items()}
    return tuple(limits_sentences(lost(target, policies)))


async def _write(
    workspace: Workspace,
    table: RoutingTable,
    gateway: GatewaySpec,
    folder: Path,
    seen_at: str | None,
) -> str:
    socket = folder / ADMIN_SOCKET
    client = EnvoyClient(gateway, folder, socket, envoys_of(workspace.root, seen_at))
    written = f"revision {table.revision} is written to {folder}"
    try:
        await client.serve(table)
    except EngineTimedOutError:
        raise
    except EngineUnreachableError:
        start = shlex.join(command_line(f"{seen_at or folder}/{BOOTSTRAP_FILE}"))
        return f"{written}; no Envoy runs on it here, start one: {start}"
    finally:
        await client.close()
    return f"{written} and served by the Envoy that runs on it"


async def _table(workspace: Workspace) -> RoutingTable:
    declared, envoys = workspace.fleet().gateways, workspace.envoys()
    async with LocalGateways(workspace.state_dir, declared, envoys) as gateways:
        table, _ = await gateways.read_table()
    if table.revision == 0:
        detail = (
            "Another gateway gets the routes that fleetctl's own serve, and no apply has "
            "written any."
        )
        raise FleetError.of(
            "FC6052", "There are no routes yet", detail, command="fleetctl apply --auto"
        )
    return table


def _gateway(workspace: Workspace, name: str | None) -> GatewaySpec:
    known = dict(workspace.fleet().gateways) or known_gateways(workspace.state_dir)
    if name is None:
        envoys = [gateway for gateway in known.values() if gateway.kind == "envoy"]
        return envoys[0] if envoys else known[min(known)]
    return named_gateway(known, name)
