"""`fleetctl compile`: print start commands of servers, or routes for another gateway."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import click

from fleet.names import is_id
from fleetctl import completion
from fleetctl.commands.dashboard import DEFAULT_LISTEN
from fleetctl.options import FOLDER, Command, Workspace
from fleetctl.output import print_lines
from runtime.secrets import FILLED

if TYPE_CHECKING:
    from fleet.plan import GatewayTarget
    from fleet.resources import Route

Compiled = tuple[str, tuple[str, ...]]
"""Text for standard output, empty if files were written; notes for standard error."""
ROUTES_FILE: Final = "routes.yaml"
"""File of the objects for the Gateway API of Kubernetes."""
SERVERS_FILE: Final = "servers.yaml"
"""File of the objects of Kubernetes for servers."""
_ELSEWHERE = "/etc/envoy"
"""Folder named in a configuration that is printed, not written."""


class Target(StrEnum):
    """The program for which files are compiled."""

    SERVERS = "servers"
    SYSTEMD = "systemd"
    QUADLET = "quadlet"
    KUBERNETES = "kubernetes"
    ENVOY = "envoy"
    LITELLM = "litellm"
    GATEWAY_API = "gateway-api"
    PROMETHEUS = "prometheus"
    ALERTMANAGER = "alertmanager"
    GRAFANA = "grafana"


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """Options of a call; which have a meaning depends on the target."""

    target: str
    """Of `Target`, or of an extension."""
    form: str | None
    hosts: tuple[str, ...]
    system_user: str | None
    image: str | None
    out: Path | None
    name: str | None
    """Of a gateway."""
    seen_at: str | None
    url: str | None

    def require_meaning(self) -> None:
        """Raise a usage error where an option is given that has no meaning for the target."""
        given = {
            "--format": self.form, "--host": self.hosts, "--system-user": self.system_user,
            "--image": self.image, "--out": self.out, "--gateway": self.name,
            "--seen-at": self.seen_at, "--url": self.url,
        }  # fmt: skip
        meant = _MEANT.get(self.target, frozenset({"--out"}))
        if self.are_server_units:
            meant = _MEANT[Target.SYSTEMD] | {"--format"}
        for option, value in given.items():
            if value and option not in meant:
                text = f"{option} has no meaning with --target {self.target}."
                raise click.UsageError(text)
        if self.seen_at and self.out is None:
            raise click.UsageError("--seen-at needs --out.")

    @property
    def are_server_units(self) -> bool:
        """Whether start commands are asked for as units of systemd."""
        return self.target == Target.SERVERS and self.form == "systemd"


class _Target(click.Choice[str]):
    """A shipped target; the command judges other names, which an extension may have."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value) if is_id(str(value)) else super().convert(value, param, ctx)


@click.command(cls=Command)
@click.option(
    "--target",
    type=_Target([target.value for target in Target]),
    default="servers",
    help="Start commands of servers, or the configuration of another program.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "sh", "systemd"]),
    help="Format of the start commands (default: sh). systemd: units of the servers alone.",
)
@click.option("--host", "hosts", multiple=True, help="Only servers of this host; repeatable.")
@click.option("--system-user", metavar="NAME", help="Print system units, run by this user.")
@click.option(
    "--image", help="Image of quadlet's containers (with `fleetctl`), or of pods (with vLLM)."
)
@click.option(
    "--out",
    type=FOLDER,
    help="Folder for the configuration, secrets included, readable by its owner only "
    "(default: print a gateway's without keys).",
)
@click.option(
    "--gateway",
    "name",
    shell_complete=completion.gateways,
    help="Declared gateway whose address is used.",
)
@click.option(
    "--seen-at", help="Path of the folder inside the other gateway's container, such as /etc/envoy."
)
@click.option(
    "--url",
    metavar="URL",
    help=f"Address of the dashboard for Prometheus (default: http://{DEFAULT_LISTEN}).",
)
@click.pass_obj
def command(workspace: Workspace, /, target: str, **given: Any) -> None:
    """Compile files for other programs: start commands, units, routes, rules.

    servers: command lines, for other supervisors. systemd: units of this machine; with --host, of
    its servers alone. quadlet: as containers of podman; kubernetes: as pods. envoy, litellm,
    gateway-api: the routes; losses are notes. prometheus, alertmanager, grafana: rules, dashboards.

    Examples:
      fleetctl compile
      fleetctl compile --target systemd --out ~/.config/systemd/user
      fleetctl compile --target systemd --host rack1 --system-user fleet
      fleetctl compile --target quadlet --host box1
      fleetctl compile --target quadlet --image registry.example/fleetctl:1 --out quadlets
      fleetctl compile --target envoy --out envoy
      fleetctl compile --target envoy --out build --seen-at /etc/envoy
      fleetctl compile --target envoy | less
      fleetctl compile --target litellm --out litellm
      fleetctl compile --target kubernetes --image registry.example/vllm:0.32 --out cluster
      fleetctl compile --target gateway-api --out cluster
      fleetctl compile --target prometheus --out monitoring --url https://fleet.example.com
    """
    options = CompileOptions(target, **given)
    options.require_meaning()
    text, notes = _COMPILERS.get(options.target, _of_extension)(workspace, options)
    if options.target in _STARTS:
        FILLED.filled.clear()  # servers are started with the values themselves
    click.echo(text, nl=False)
    print_lines(notes, "Note")


def _servers(workspace: Workspace, options: CompileOptions) -> Compiled:
    from plans.compile.launch import LAUNCH_FORMATS
    from runtime.operations.change.start_commands import launches_of

    if options.are_server_units:
        return _systemd(workspace, options)
    launches = launches_of(workspace, options.hosts)
    return LAUNCH_FORMATS[options.form or "sh"](launches), ()


def _systemd(workspace: Workspace, options: CompileOptions) -> Compiled:
    from runtime.operations.change.start_commands import for_systemd

    programs = options.target == Target.SYSTEMD and not options.hosts
    user = options.system_user or ""
    return for_systemd(workspace, options.hosts, options.out, user, programs=programs)


def _quadlet(workspace: Workspace, options: CompileOptions) -> Compiled:
    from runtime.operations.change.start_commands import for_quadlet

    if bool(options.hosts) is bool(options.image):
        raise click.UsageError(
            "--target quadlet takes --host, for servers of that host, or --image, for forwards, "
            "gateways and reconciler of this machine: no image of fleetctl is published."
        )
    return for_quadlet(workspace, options.hosts, options.out, options.image or "")


def _kubernetes(workspace: Workspace, options: CompileOptions) -> Compiled:
    from plans.compile.kubernetes import as_yaml, objects, pod_notes
    from runtime.operations.change.compile import planned_pods, resolver_files

    pods, held_bytes = planned_pods(workspace, options.hosts, options.image or "")
    text = as_yaml(objects(workspace.project.fleet().name, pods, resolver_files(), held_bytes))
    return _for_cluster(options.out, SERVERS_FILE, text, pod_notes(pods))


def _for_cluster(out: Path | None, name: str, text: str, notes: tuple[str, ...]) -> Compiled:
    """Write objects of Kubernetes into a folder, or return their text; the notes come along."""
    from runtime.operations.change.compile import write_compiled

    if out is None:
        return text, notes
    path = write_compiled(out, name, text)
    return "", (f"written; look at the change: kubectl diff -f {path}", *notes)


def _envoy(workspace: Workspace, options: CompileOptions) -> Compiled:
    """Compile the routing table that gateways serve now for an Envoy."""
    import asyncio
    import shlex

    from fleet.plan import GatewayTarget
    from fleetctl.envoys import envoys_of, routing_of
    from plans.compile.envoy import ADMIN_SOCKET, BOOTSTRAP_FILE, RoutePlace, whole
    from runtime.gateway.envoy.admin import EnvoyClient
    from runtime.gateway.envoy.files import command_line
    from runtime.operations.change.compile import compiled_gateway, give_envoy, served_table

    gateway = compiled_gateway(workspace, options.name)
    table = served_table(workspace)
    routing = routing_of(table)
    lost = _lost(GatewayTarget.ENVOY, routing.routes)
    if options.out is None:
        place = RoutePlace(gateway.name, gateway.listen, _ELSEWHERE, f"{_ELSEWHERE}/{ADMIN_SOCKET}")
        note = "API keys are left out, so the Envoy admits no client: write them with --out FOLDER."
        return whole(routing, place), (note, *lost)
    folder = options.out.absolute()
    envoys = envoys_of(workspace.root, options.seen_at)
    client = EnvoyClient(gateway, folder, folder / ADMIN_SOCKET, envoys)
    note = f"revision {table.revision} is written to {folder}"
    if asyncio.run(give_envoy(table, client)):
        return "", (f"{note} and served by the Envoy that runs on it", *lost)
    start = shlex.join(command_line(f"{options.seen_at or folder}/{BOOTSTRAP_FILE}"))
    return "", (f"{note}; no Envoy runs on it here, start one: {start}", *lost)


def _litellm(workspace: Workspace, options: CompileOptions) -> Compiled:
    """Compile the routing table that gateways serve now for LiteLLM; the text holds no secret."""
    from fleet.config import COMPILED_FILE
    from fleet.plan import GatewayTarget
    from fleetctl.envoys import routing_of
    from plans.compile.litellm import config
    from runtime.operations.change.compile import served_table, write_compiled

    routing = routing_of(served_table(workspace))
    text = config(routing.routes, routing.servers)
    notes = _lost(GatewayTarget.LITELLM, routing.routes)
    if options.out is None:
        return text, notes
    path = write_compiled(options.out, COMPILED_FILE, text)
    start = f"revision {routing.revision} is written; start it: litellm --config {path}"
    return "", (start, *notes)


def _gateway_api(workspace: Workspace, options: CompileOptions) -> Compiled:
    """Compile the routes for the Gateway API of Kubernetes: as served, else as planned."""
    from fleet.plan import GatewayTarget
    from plans.compile.gateway_api import objects
    from plans.compile.kubernetes import as_yaml
    from runtime.operations.change.compile import routes_due

    routes, servers, is_served = routes_due(workspace)
    planned = () if is_served else (
        "no apply has written routes: shares are those of the plan, without a rollout's stages",
    )  # fmt: skip
    text = as_yaml(objects(workspace.project.fleet().name, routes, servers))
    notes = (*planned, *_lost(GatewayTarget.GATEWAY_API, routes))
    return _for_cluster(options.out, ROUTES_FILE, text, notes)


def _lost(target: "GatewayTarget", routes: "Mapping[str, Route]") -> tuple[str, ...]:
    """Return sentences on the limits of routes that the target does not keep."""
    from fleet.planning import lost
    from plans.render.sections import limits_sentences

    policies = {alias: route.policy for alias, route in routes.items()}
    return tuple(limits_sentences(lost(target, policies)))


def _prometheus(workspace: Workspace, options: CompileOptions) -> Compiled:
    import shlex

    from fleet.spec import NotifySpec
    from fleetctl.advice import completed, workspace_options
    from plans.compile import prometheus

    out = _folder(options)
    url = (options.url or f"http://{DEFAULT_LISTEN}").rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter("Write it as https://HOST.", param_hint="--url")
    fleet = workspace.project.fleet()
    alertmanager = (fleet.notify or NotifySpec()).alertmanager
    rules = completed(prometheus.rules(fleet.name), workspace_options(workspace))
    files = {
        prometheus.CONFIG_FILE: prometheus.config(url, alertmanager),
        prometheus.RULES_FILE: rules,
    }
    token = shlex.join(["fleetctl", "dashboard", "token", "--for", "365d"])
    note = f"scrapes need a token: {token} > {shlex.quote(str(out / prometheus.TOKEN_FILE))}"
    return _written(out, files, note)


def _alertmanager(workspace: Workspace, options: CompileOptions) -> Compiled:
    from fleet.spec import NotifySpec
    from plans.compile import prometheus
    from runtime.operations.change.compile import receiver_secret

    out, to = _folder(options), workspace.project.fleet().notify or NotifySpec()
    login = receiver_secret(workspace, to.mail.login) if to.mail else ""
    webhook = to.webhook if "://" in to.webhook else receiver_secret(workspace, to.webhook)
    files = {prometheus.ALERTMANAGER_FILE: prometheus.alertmanager_config(webhook, to.mail, login)}
    nowhere = "alerts are sent nowhere: no webhook and no mail is declared in `notify`"
    return _written(out, files, *([] if webhook or to.mail else [nowhere]))


def _grafana(workspace: Workspace, options: CompileOptions) -> Compiled:
    from plans.compile import grafana

    out = _folder(options)
    workspace.project.fleet()  # broken declarations are an error, as with the other monitors
    note = "for operators alone: a variable isolates no client; clients have `dashboard`"
    return _written(out, grafana.dashboards(), note)


def _folder(options: CompileOptions) -> Path:
    if options.out is None:
        raise click.UsageError(f"--target {options.target} needs --out.")
    return options.out


def _written(out: Path, files: Mapping[str, str], *notes: str) -> Compiled:
    """Write files into a folder, and make the folder."""
    from runtime.files import replace_file

    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        replace_file(out / name, text.encode())
    return "", (f"written to {out}: {', '.join(files)}", *notes)


def _of_extension(workspace: Workspace, options: CompileOptions) -> Compiled:
    """Write the files of a target that a declared package has."""
    from fleetctl.envoys import routing_of
    from plans.compile.launch import CompileFacts, CompileTarget
    from runtime.extensions import make, unusable
    from runtime.operations.change.compile import served_table

    fleet, target = workspace.project.fleet(), options.target
    packages = fleet.extensions.get("compile_targets", {})
    if target not in packages:
        names = ", ".join(map(repr, (*_MEANT, *packages)))
        raise click.BadParameter(f"{target!r} is not one of {names}.", param_hint="'--target'")
    out, package = _folder(options), packages[target]
    routing = routing_of(served_table(workspace))
    facts = CompileFacts(fleet, routing.revision, routing.routes, routing.servers)

    def compiled(compile_files: CompileTarget) -> dict[str, str]:
        return {str(name): str(text) for name, text in compile_files(facts).items()}

    files: dict[str, str] = make("compile_targets", target, package, (), compiled)
    if wrong := [name for name in files if Path(name).name != name]:
        raise unusable(target, package, f"`{wrong[0]}` is no name of a file")
    return _written(out, files)


_COMPILERS: Mapping[str, Callable[[Workspace, CompileOptions], Compiled]] = MappingProxyType({
    Target.SERVERS: _servers,
    Target.SYSTEMD: _systemd,
    Target.QUADLET: _quadlet,
    Target.KUBERNETES: _kubernetes,
    Target.ENVOY: _envoy,
    Target.LITELLM: _litellm,
    Target.GATEWAY_API: _gateway_api,
    Target.PROMETHEUS: _prometheus,
    Target.ALERTMANAGER: _alertmanager,
    Target.GRAFANA: _grafana,
})  # fmt: skip
_STARTS = frozenset({Target.SERVERS, Target.SYSTEMD, Target.QUADLET, Target.KUBERNETES})
_MEANT: Mapping[str, frozenset[str]] = MappingProxyType({
    Target.SERVERS: frozenset({"--format", "--host"}),
    Target.SYSTEMD: frozenset({"--host", "--system-user", "--out"}),
    Target.QUADLET: frozenset({"--host", "--image", "--out"}),
    Target.KUBERNETES: frozenset({"--host", "--image", "--out"}),
    Target.ENVOY: frozenset({"--out", "--gateway", "--seen-at"}),
    Target.LITELLM: frozenset({"--out"}),
    Target.GATEWAY_API: frozenset({"--out"}),
    Target.PROMETHEUS: frozenset({"--out", "--url"}),
    Target.ALERTMANAGER: frozenset({"--out"}),
    Target.GRAFANA: frozenset({"--out"}),
})  # fmt: skip
"""Options that have a meaning, by target."""
