"""`fleetctl explain`: why a resource is where it is and as it is."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetctl import completion
from fleetctl.search_options import search_options

if TYPE_CHECKING:
    from fleet.placement.search import Search
    from fleetctl.session import Session


@click.command(
    epilog="""\b
Examples:
  fleetctl explain route/acme-support
  fleetctl explain adapter/acme-support-tiny-v2.1.0@tiny-laptop-cpu0
  fleetctl explain adapter/acme-support@2.1.0
  fleetctl explain acme-support
  fleetctl explain client/acme
  fleetctl explain server/tiny-laptop-cpu0
  fleetctl explain laptop/cpu0
  fleetctl explain key/acme/prod
  fleetctl explain acme-support --repack
  fleetctl explain acme-support --format json
"""
)
@click.argument("address", shell_complete=completion.addresses)
@click.option(
    "--live",
    "live_file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Explain with this live-state file instead of asking the servers.",
)
@click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")
@search_options
@click.pass_obj
def command(
    session: "Session", address: str, live_file: Path | None, search: "Search", form: str
) -> None:
    """Say of a server, adapter, route or key: what, declared where, why here, who needs it.

    An address may be shortened: an adapter's without its server is on all of them, ALIAS@VERSION
    stands for its full name, HOST/DEVICE, host/HOST and base/BASE for servers.

    Of a server also its worst hour, its slots and what the largest rank costs the others; of an
    adapter what it asks of its server, the runner-up, and what that would cost. Where some
    versions have no place, the others are explained.
    """
    from fleet.desired import settle  # noqa: PLC0415 (keeps `--help` fast)
    from fleet.errors import FleetError  # noqa: PLC0415
    from fleetctl.commands.plan import state  # noqa: PLC0415
    from fleetctl.placed import placed, plan_of  # noqa: PLC0415
    from plans.explain import Scene, explain  # noqa: PLC0415
    from plans.explanation import render_json, render_text  # noqa: PLC0415

    live = state(session, live_file)
    there = placed(session, live, search)
    scene = Scene(
        fleet=session.fleet(),
        plan=plan_of(session, live, search, there),
        desired=settle(there.fleet, there.wanted, there.placement, live),
        live=live,
        wanted=there.wanted,
        placement=there.placement,
    )
    try:
        found = explain(scene, address)
    except FleetError:
        if there.error is not None:  # it may well be what has no place
            raise there.error from None
        raise
    click.echo(render_json(found) if form == "json" else render_text(found), nl=False)
