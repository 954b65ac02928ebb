"""`fleetctl compile`: print start commands of servers, or routes for another gateway."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from fleet.names import is_id
from fleetctl import completion
from fleetctl.commands.dashboard import DEFAULT_LISTEN
from fleetctl.options import FOLDER, Command, Workspace
from fleetctl.output import print_lines
from runtime.secrets import FILLED

MONITORS = ("prometheus", "alertmanager", "grafana")
_STARTS = ("servers", "systemd", "quadlet", "kubernetes")
_MEANT = {
    "servers": {"--format", "--host"},
    "systemd": {"--host", "--system-user", "--out"},
    "quadlet": {"--host", "--image", "--out"},
    "kubernetes": {"--host", "--image", "--out"},
    "envoy": {"--out", "--gateway", "--seen-at"},
    "litellm": {"--out"},
    "gateway-api": {"--out"},
    "prometheus": {"--out", "--url"},
    "alertmanager": {"--out"},
    "grafana": {"--out"},
}
"""Options that have a meaning, by target."""


class _Target(click.Choice[str]):
    """A shipped target; the command judges other names, which an extension may have."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value) if is_id(str(value)) else super().convert(value, param, ctx)


@click.command(cls=Command)
@click.option(
    "--target",
    type=_Target([*_MEANT]),
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
def command(
    workspace: Workspace,
    target: str,
    form: str | None,
    hosts: tuple[str, ...],
    system_user: str | None,
    image: str | None,
    out: Path | None,
    name: str | None,
    seen_at: str | None,
    url: str | None,
) -> None:
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
    from fleetctl import compilation, pods, start_commands

    given = {
        "--format": form, "--host": hosts, "--system-user": system_user, "--image": image,
        "--out": out, "--gateway": name, "--seen-at": seen_at, "--url": url,
    }  # fmt: skip
    as_units = (target, form) == ("servers", "systemd")
    meant = _MEANT["systemd"] | {"--format"} if as_units else _MEANT.get(target, {"--out"})
    _refuse(target, [option for option, value in given.items() if value and option not in meant])
    if seen_at and out is None:
        raise click.UsageError("--seen-at needs --out.")
    if target == "quadlet":
        _need_one(hosts, image)
        compiled = start_commands.for_quadlet(workspace, hosts, out, image or "")
    elif target == "kubernetes":
        compiled = pods.compile_pods(workspace, hosts, image or "", out)
    elif target == "systemd" or as_units:
        programs = target == "systemd" and not hosts
        user = system_user or ""
        compiled = start_commands.for_systemd(workspace, hosts, out, user, programs=programs)
    elif target == "servers":
        compiled = start_commands.servers(workspace, form or "sh", hosts), ()
    elif target in MONITORS:
        compiled = "", compilation.for_monitoring(workspace, target, *_monitoring(target, out, url))
    elif target == "envoy":
        compiled = compilation.for_envoy(workspace, name, out, seen_at)
    else:
        by_target = {"litellm": compilation.for_litellm, "gateway-api": compilation.for_gateway_api}
        compiled = by_target.get(target, partial(_of_extension, target))(workspace, out)
    text, notes = compiled
    if target in _STARTS:
        FILLED.filled.clear()  # servers are started with the values themselves
    click.echo(text, nl=False)
    print_lines(notes, "Note")


def _of_extension(
    target: str, workspace: Workspace, out: Path | None
) -> tuple[str, tuple[str, ...]]:
    """Write the files of a target that a declared package has."""
    from fleetctl import compilation

    known = workspace.fleet().extensions.get("compile_targets", {})
    if target not in known:
        names = ", ".join(map(repr, (*_MEANT, *known)))
        raise click.BadParameter(f"{target!r} is not one of {names}.", param_hint="'--target'")
    if out is None:
        raise click.UsageError(f"--target {target} needs --out.")
    return "", compilation.for_extension(workspace, target, known[target], out)


def _monitoring(target: str, out: Path | None, url: str | None) -> tuple[Path, str]:
    if out is None:
        raise click.UsageError(f"--target {target} needs --out.")
    address = (url or f"http://{DEFAULT_LISTEN}").rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise click.BadParameter("Write it as https://HOST.", param_hint="--url")
    return out, address


def _need_one(hosts: tuple[str, ...], image: str | None) -> None:
    if bool(hosts) is bool(image):
        raise click.UsageError(
            "--target quadlet takes --host, for servers of that host, or --image, for forwards, "
            "gateways and reconciler of this machine: no image of fleetctl is published."
        )


def _refuse(target: str, meaningless: list[str]) -> None:
    if meaningless:
        raise click.UsageError(f"{meaningless[0]} has no meaning with --target {target}.")
