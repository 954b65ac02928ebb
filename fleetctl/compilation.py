"""Compiles routes for other gateways, and files for monitors."""

import asyncio
import shlex
from collections.abc import Mapping
from pathlib import Path

from fleet.config import COMPILED_FILE, COMPILED_LINE
from fleet.errors import (
    EngineTimedOutError,
    EngineUnreachableError,
    FleetError,
)
from fleet.plan import GatewayTarget
from fleet.planning import lost
from fleet.spec import GatewaySpec, NotifySpec
from fleetctl.advice import completed, workspace_options
from fleetctl.envoys import envoys_of, named_gateway, routing_of
from plans.compile import alertmanager, gateway_api, grafana, kubernetes, litellm, prometheus
from plans.compile.envoy import ADMIN_SOCKET, BOOTSTRAP_FILE, RoutePlace, Routing, whole
from plans.compile.facts import CompileFacts, CompileTarget
from plans.compile.prometheus import TOKEN_FILE
from plans.render.sections import limits_sentences
from runtime.extensions import make, unusable
from runtime.files import replace_file
from runtime.gateway.control import LocalGateways
from runtime.gateway.envoy.admin import EnvoyClient
from runtime.gateway.envoy.files import command_line
from runtime.gateway.state_dir import known_gateways
from runtime.gateway.table import RoutingTable
from runtime.operations.planning import desired_fleet
from runtime.project.declaration_files import is_compiled
from runtime.secrets import read_secret
from runtime.workspace import Workspace

ROUTES_FILE = "routes.yaml"
"""File of the objects for the Gateway API of Kubernetes."""
_ELSEWHERE = "/etc/envoy"
"""Folder named in a configuration that is printed, not written."""


Compiled = tuple[str, tuple[str, ...]]
"""Text for standard output, empty if files were written; notes for standard error."""


def for_envoy(
    workspace: Workspace, name: str | None, out: Path | None, seen_at: str | None
) -> Compiled:
    """Compile the routing table that gateways serve now for an Envoy.

    Raises:
        FleetError: servers have keys (FC1269), there is no table yet, no such gateway, a key
            cannot be read, or the Envoy that runs on the folder refuses the files.
    """
    _refuse_keys(workspace)
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
        FleetError: servers have keys (FC1269), there is no table yet, or FC5021, another file
            has the name of the one to write.
    """
    _refuse_keys(workspace)
    routing = routing_of(asyncio.run(_table(workspace)))
    text = litellm.config(routing.routes, routing.servers)
    notes = _lost(GatewayTarget.LITELLM, routing)
    if out is None:
        return text, notes
    path = written(out, COMPILED_FILE, text)
    start = f"revision {routing.revision} is written; start it: litellm --config {path}"
    return "", (start, *notes)


def for_gateway_api(workspace: Workspace, out: Path | None) -> Compiled:
    """Compile the routes for the Gateway API of Kubernetes: as served, else as planned.

    Raises:
        FleetError: servers have keys (FC1269), FC1297, a name is too long, or FC5021, another file
            has the name of the one to write.
    """
    _refuse_keys(workspace)
    table = asyncio.run(_read_table(workspace))
    planned = () if table.revision else (
        "no apply has written routes: shares are those of the plan, without a rollout's stages",
    )  # fmt: skip
    if table.revision:
        routing = routing_of(table)
        routes, servers = routing.routes, tuple(routing.servers)
    else:
        state = desired_fleet(workspace)
        routes, servers = state.routes(), tuple(state.servers())
    fleet = workspace.fleet().name
    text = kubernetes.as_yaml(gateway_api.objects(fleet, routes, servers))
    policies = {alias: route.policy for alias, route in routes.items()}
    notes = (*planned, *limits_sentences(lost(GatewayTarget.GATEWAY_API, policies)))
    if out is None:
        return text, notes
    path = written(out, ROUTES_FILE, text)
    return "", (f"written; look at the change: kubectl diff -f {path}", *notes)


def for_extension(workspace: Workspace, target: str, package: str, out: Path) -> tuple[str, ...]:
    """Write the files of an extension's target, from the routes that gateways serve now.

    Raises:
        FleetError: there is no table yet, FC1340, FC1342, or FC1343, also where a file's name is
            none of the folder.
    """
    routing = routing_of(asyncio.run(_table(workspace)))
    facts = CompileFacts(workspace.fleet(), routing.revision, routing.routes, routing.servers)

    def compiled(found: CompileTarget) -> dict[str, str]:
        return {str(name): str(text) for name, text in found(facts).items()}

    files: dict[str, str] = make("compile_targets", target, package, (), compiled)
    if wrong := [name for name in files if Path(name).name != name]:
        raise unusable(target, package, f"`{wrong[0]}` is no name of a file")
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        replace_file(out / name, text.encode())
    return (f"revision {routing.revision} is written to {out}: {', '.join(files)}",)


def written(out: Path, name: str, text: str) -> Path:
    """Write a compiled file and return its path.

    Raises:
        FleetError: FC5021, another file has its name.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / name
    if path.exists() and not is_compiled(path):
        detail = f"`{path}` exists, and `fleetctl compile` did not write it."
        hint = "Name another folder with --out, or move the file away."
        raise FleetError.of("FC5021", "File cannot be written", detail, hint=hint)
    replace_file(path, (COMPILED_LINE + text).encode())
    return path


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
            prometheus.RULES_FILE: completed(
                prometheus.rules(fleet.name), workspace_options(workspace)
            ),
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


def _refuse_keys(workspace: Workspace) -> None:
    fleet = workspace.fleet()
    attached = (server for host in fleet.hosts.values() for server in host.attached)
    if fleet.servers_secret or any(server.api_key or server.tls for server in attached):
        detail = "What is compiled for other gateways sends no keys and knows no `tls` of servers."
        hint = "Serve clients by gateways of kind `fleetctl`, or have servers without."
        summary = "Keys of servers need gateways of fleetctl's own"
        raise FleetError.of("FC1269", summary, detail, hint=hint)


async def _read_table(workspace: Workspace) -> RoutingTable:
    """Return the table that gateways serve; revision 0: no apply has written any."""
    declared, envoys = workspace.fleet().gateways, workspace.envoys()
    async with LocalGateways(workspace.state_dir, declared, envoys) as gateways:
        table, _ = await gateways.read_table()
    return table


async def _table(workspace: Workspace) -> RoutingTable:
    table = await _read_table(workspace)
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
