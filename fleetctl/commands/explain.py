"""`fleetctl explain`: why a resource is where it is and as it is."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

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
"""
)
@click.argument("address")
@click.option(
    "--live",
    "live_file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Explain with this live-state file instead of asking the servers.",
)
@search_options
@click.pass_obj
def command(session: "Session", address: str, live_file: Path | None, search: "Search") -> None:
    """Say of a server, adapter, route or key: what, declared where, why here, who needs it.

    An address may be shortened: an adapter's without its server is on all of them, ALIAS@VERSION
    stands for its full name, HOST/DEVICE, host/HOST and base/BASE for servers.

    Of a server also its worst hour, its slots and what the largest rank costs the others; of an
    adapter what it asks of its server, the runner-up, and what that would cost.
    """
    from fleet.desired import settle  # noqa: PLC0415 (keeps `--help` fast)
    from fleet.engines import with_engines  # noqa: PLC0415
    from fleet.history import settled  # noqa: PLC0415
    from fleet.pace import pace  # noqa: PLC0415
    from fleet.placement import place  # noqa: PLC0415
    from fleetctl.commands.plan import state  # noqa: PLC0415
    from plans.explain import Scene, explain  # noqa: PLC0415

    live = state(session, live_file)
    fleet = with_engines(session.fleet(), live)
    wanted = pace(fleet, live, settled(session.history(), live), session.now())
    placement = place(fleet, wanted, live, search)
    scene = Scene(
        fleet=fleet,
        plan=session.plan(live=live, search=search),
        desired=settle(fleet, wanted, placement, live),
        live=live,
        wanted=wanted,
        placement=placement,
    )
    click.echo(explain(scene, address), nl=False)
