"""`fleetctl compile`."""

from pathlib import Path

import click

from fleetctl import completion
from fleetctl.session import Session

FORMATS = ("json", "sh", "systemd")
TARGETS = ("servers", "envoy", "litellm")


@click.command(
    epilog="""\b
Examples:
  fleetctl compile
  fleetctl compile --format systemd --host rack1
  fleetctl compile --target envoy --out envoy
  fleetctl compile --target envoy --out build --seen-at /etc/envoy
  fleetctl compile --target envoy | less
  fleetctl compile --target litellm --out litellm
""",
)
@click.option(
    "--target",
    type=click.Choice(TARGETS),
    default="servers",
    show_default=True,
    help="What to compile for: those who start servers, or another gateway that serves the routes.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Of the command lines of servers.  [default: sh]",
)
@click.option("--host", "hosts", multiple=True, help="Only servers of this host; may be repeated.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write the gateway's configuration to, API keys included, for its owner only. "
    "Without it, the configuration is printed without keys: nobody could use it to get in.",
)
@click.option(
    "--gateway",
    "name",
    shell_complete=completion.gateways,
    help="The declared gateway in whose place it listens.",
)
@click.option(
    "--seen-at",
    help="The folder as the other gateway sees it, such as /etc/envoy in a container.",
)
@click.pass_obj
def command(
    session: Session,
    target: str,
    form: str | None,
    hosts: tuple[str, ...],
    out: Path | None,
    name: str | None,
    seen_at: str | None,
) -> None:
    """Print how servers are started, or how another gateway serves the same routes.

    `servers`: the command lines of the servers of the plan, for hosts where something else
    than fleetctl starts processes. The digest of the flags is part of each, so that drift is
    seen on those servers too.

    `envoy`, `litellm`: the configuration of that gateway for the routing table that fleetctl's
    own gateways serve now. With --out again after each apply and rollback, an Envoy takes the
    new routes without a restart; one on this machine is waited for. An Envoy that is declared
    (`gateways: NAME: {kind: envoy, ...}`) needs none of this: apply and rollback write its files.
    The folder may lie in the project: what is written there declares nothing.
    What is lost in translation is said on standard error; plans list it too where an Envoy is
    declared, or `compiled_for: [envoy, litellm]` in fleet.yaml names who is compiled for.
    """
    from fleetctl import compilation  # noqa: PLC0415 (keeps `--help` fast)

    if target == "servers":
        _refuse(target, {"--out": out, "--gateway": name, "--seen-at": seen_at})
        click.echo(compilation.servers(session, form or "sh", hosts), nl=False)
        return
    _refuse(target, {"--format": form, "--host": hosts})
    if target == "litellm":
        _refuse(target, {"--gateway": name, "--seen-at": seen_at})
        made = compilation.for_litellm(session, out)
    elif seen_at and out is None:
        raise click.UsageError("--seen-at says where the folder of --out is; there is none.")
    else:
        made = compilation.for_envoy(session, name, out, seen_at)
    if out is None:
        click.echo(made.text, nl=False)
    for note in made.notes:
        click.echo(f"Note: {note}", err=True)


def _refuse(target: str, given: dict[str, object]) -> None:
    for option, value in given.items():
        if value:
            raise click.UsageError(f"{option} has no meaning with --target {target}.")
