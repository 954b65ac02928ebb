"""`fleetctl compile`."""

from pathlib import Path

import click

from fleetctl.session import Session

FORMATS = ("json", "sh", "systemd")


@click.command(
    epilog="""\b
Examples:
  fleetctl compile
  fleetctl compile --format systemd --host rack1
""",
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="sh", show_default=True)
@click.option("--host", "hosts", multiple=True, help="Only servers of this host; may be repeated.")
@click.pass_obj
def command(session: Session, form: str, hosts: tuple[str, ...]) -> None:
    """Print the command lines that start the servers of the plan.

    For hosts where something else than fleetctl starts processes. The digest of the flags
    is part of each command line, so that drift is seen on those servers too.
    """
    from fleet.launch import launch_of  # noqa: PLC0415 (keeps `--help` fast)
    from plans.launch import LAUNCH_FORMATS  # noqa: PLC0415

    fleet = session.fleet()
    made = []
    for server in session.desired_servers():
        host = fleet.hosts.get(server.host)
        if host is None or (hosts and host.name not in hosts):
            continue
        model = session.root.absolute() / server.flags.model if server.flags else Path()
        launch = launch_of(
            server,
            host,
            python=_interpreter(session.root, host.python),
            model=str(model) if model.is_dir() else "",
        )
        if launch is not None:
            made.append(launch)
    click.echo(LAUNCH_FORMATS[form](made), nl=False)


def _interpreter(root: Path, declared: str) -> str:
    """Return the declared interpreter as a path that works from anywhere."""
    if "/" not in declared:
        return declared or "python3"
    return str((root / declared).absolute())
