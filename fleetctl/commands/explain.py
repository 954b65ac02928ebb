"""`fleetctl explain`: why a resource is where it is and as it is."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fleetctl.session import Session


@click.command(
    epilog="""\b
Examples:
  fleetctl explain route/acme-support
  fleetctl explain acme-support
  fleetctl explain server/tiny-laptop-cpu0
  fleetctl explain key/acme/prod
"""
)
@click.argument("address")
@click.option(
    "--live",
    "live_file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Explain with this live-state file instead of asking the servers.",
)
@click.pass_obj
def command(session: "Session", address: str, live_file: Path | None) -> None:
    """Say of a server, adapter, route or key: what, declared where, why here, who needs it."""
    from fleet.planning import desired_state  # noqa: PLC0415 (keeps `--help` fast)
    from fleetctl.commands.plan import state  # noqa: PLC0415
    from plans.explain import Scene, explain  # noqa: PLC0415

    fleet, live = session.fleet(), state(session, live_file)
    scene = Scene(
        fleet=fleet,
        plan=session.plan(live=live),
        desired=desired_state(fleet, live, session.history(), session.now()),
        live=live,
    )
    click.echo(explain(scene, address), nl=False)
