"""`fleetctl compile`: print start commands of servers, or routes for another gateway."""

from pathlib import Path

import click

from fleetctl import completion
from fleetctl.commands.dashboard import DEFAULT_LISTEN
from fleetctl.options import FOLDER, Command, Workspace
from fleetctl.output import print_lines
from runtime.secrets import FILLED

MONITORS = ("prometheus", "alertmanager", "grafana")


@click.command(cls=Command)
@click.option(
    "--target",
    type=click.Choice(["servers", "systemd", "quadlet", "envoy", "litellm", *MONITORS]),
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
@click.option("--image", help="Image with `fleetctl` that containers of this machine run from.")
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
    its servers alone. quadlet: the same as containers of podman. envoy, litellm: the routing table
    as it is; losses are notes. prometheus, alertmanager, grafana: scrapes, rules, dashboards.

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
      fleetctl compile --target prometheus --out monitoring --url https://fleet.example.com
    """
    from fleetctl import compilation, start_commands

    if target != "prometheus":
        _refuse(target, {"--url": url})
    if target == "quadlet":
        given = {"--format": form, "--system-user": system_user, "--gateway": name}
        _refuse(target, {**given, "--seen-at": seen_at})
        _need_one(hosts, image)
        text, notes = start_commands.for_quadlet(workspace, hosts, out, image or "")
        FILLED.filled.clear()  # as below
        click.echo(text, nl=False)
        print_lines(notes, "Note")
        return
    _refuse(target, {"--image": image})
    if target == "systemd" or (target, form) == ("servers", "systemd"):
        form = None if target == "servers" else form
        _refuse(target, {"--format": form, "--gateway": name, "--seen-at": seen_at})
        programs = target == "systemd" and not hosts
        text, notes = start_commands.for_systemd(
            workspace, hosts, out, system_user or "", programs=programs
        )
        FILLED.filled.clear()  # as below
        click.echo(text, nl=False)
        print_lines(notes, "Note")
        return
    _refuse(target, {"--system-user": system_user})
    if target == "servers":
        _refuse(target, {"--out": out, "--gateway": name, "--seen-at": seen_at})
        text = start_commands.servers(workspace, form or "sh", hosts)
        FILLED.filled.clear()  # servers are started with the values themselves
        click.echo(text, nl=False)
        return
    _refuse(target, {"--format": form, "--host": hosts})
    if target in MONITORS:
        _refuse(target, {"--gateway": name, "--seen-at": seen_at})
        if out is None:
            raise click.UsageError(f"--target {target} needs --out.")
        address = (url or f"http://{DEFAULT_LISTEN}").rstrip("/")
        if not address.startswith(("http://", "https://")):
            raise click.BadParameter("Write it as https://HOST.", param_hint="--url")
        print_lines(compilation.for_monitoring(workspace, target, out, address), "Note")
        return
    if target == "litellm":
        _refuse(target, {"--gateway": name, "--seen-at": seen_at})
        text, notes = compilation.for_litellm(workspace, out)
    elif seen_at and out is None:
        raise click.UsageError("--seen-at needs --out.")
    else:
        text, notes = compilation.for_envoy(workspace, name, out, seen_at)
    click.echo(text, nl=False)
    print_lines(notes, "Note")


def _need_one(hosts: tuple[str, ...], image: str | None) -> None:
    if bool(hosts) is bool(image):
        raise click.UsageError(
            "--target quadlet takes --host, for servers of that host, or --image, for forwards, "
            "gateways and reconciler of this machine: no image of fleetctl is published."
        )


def _refuse(target: str, given: dict[str, object]) -> None:
    for option, value in given.items():
        if value:
            raise click.UsageError(f"{option} has no meaning with --target {target}.")
