"""`fleetctl explain`: explain a resource's place and values, or an error code."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetctl import completion
from fleetctl.options import search_options

if TYPE_CHECKING:
    from fleet.placement import SearchLimits
    from runtime.workspace import Workspace


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
  fleetctl explain FC1210
"""
)
@click.argument("address", metavar="ADDRESS|CODE", shell_complete=completion.addresses)
@click.option(
    "--live",
    "live_file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Use this live-state file instead of observing the servers.",
)
@click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")
@search_options
@click.pass_obj
def command(
    workspace: "Workspace", address: str, live_file: Path | None, search: "SearchLimits", form: str
) -> None:
    """Explain a server, adapter, route or key: values, declaration, place, dependants.

    Addresses may be shortened: adapter/NAME without its server, ALIAS@VERSION, HOST/DEVICE,
    host/HOST, base/BASE, client/CLIENT. An error code, such as FC1210, prints its entry of the
    catalogue.
    """
    from fleetctl.error_codes import explain_code, is_code
    from plans.explain.explanation import render_json, render_text

    render = render_json if form == "json" else render_text
    if is_code(address):
        click.echo(render(explain_code(address)), nl=False)
        return

    from fleet.errors import FleetError
    from fleet.planning import desired_state_of
    from fleetctl.live_state import live_state
    from plans.explain.resource import ExplainInput, explain
    from runtime.operations.planning import place_fleet, plan_placed

    live = live_state(workspace, live_file)
    placed = place_fleet(workspace, live, search)
    scene = ExplainInput(
        fleet=workspace.fleet(),
        plan=plan_placed(workspace, live, search, placed),
        desired=desired_state_of(placed.fleet, placed.wanted, placed.placement, live),
        live=live,
        wanted=placed.wanted,
        placement=placed.placement,
    )
    try:
        found = explain(scene, address)
    except FleetError:
        if placed.error is not None:  # it may well be what has no place
            raise placed.error from None
        raise
    click.echo(render(found), nl=False)
