"""`fleetctl explain`, `draw`, `diagnose`: show where the planner places adapters, and why."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from fleet.errors import FleetError
from fleetctl import completion
from fleetctl.catalogue import IS_CODE, explain_code
from fleetctl.options import (
    Command,
    Workspace,
    choice_option,
    format_option,
    live_option,
    out_option,
    search_options,
)
from fleetctl.output import waiting

if TYPE_CHECKING:
    from fleet.resources import State


def live_state(workspace: Workspace, file: Path | None) -> "State":
    """Return the live state from a file, or observed now, or unknown where nothing is asked."""
    from plans.documents import live_file
    from runtime.files import read_text
    from runtime.operations.change.adopt import unknown_state
    from runtime.operations.change.planning import observe_copies

    if workspace.offline is not None:
        where = f"taken from {file}" if file else "unknown"
        said = f"Offline{workspace.offline}: no connection is opened, no secret is read"
        click.echo(f"{said}; the live state is {where}.", err=True)
    if file:
        state, past = live_file.load_with_past(read_text(file))
        workspace.past, workspace.hosts = past.history, past.hosts
        return state
    if workspace.offline is not None:
        return unknown_state(workspace)
    workspace.project.fleet()  # what is wrong in the files is told before a server is asked
    with waiting("Observing the servers…"):
        return observe_copies(workspace)


@click.command(cls=Command)
@click.argument("address", metavar="ADDRESS|CODE", shell_complete=completion.addresses)
@live_option
@format_option
@search_options
@click.pass_obj
def explain(
    workspace: Workspace, /, address: str, live_file: Path | None, form: str, **limits: Any
) -> None:
    """Explain a server, adapter, route or key: values, declaration, place, dependants.

    Addresses may be shortened: adapter/NAME without its server, ALIAS@VERSION, HOST/DEVICE,
    host/HOST, base/BASE, client/CLIENT. An error code, such as FC1210, prints its entry of the
    catalogue.

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
    from plans.explain.figures import render_json, render_text

    render = render_json if form == "json" else render_text
    if IS_CODE.fullmatch(address):
        click.echo(render(explain_code(address)), nl=False)
        return

    from fleet.placement import SearchLimits
    from fleet.planning import desired_state_of
    from plans.explain.resource import ExplainInput, explain
    from runtime.operations.change.planning import place_fleet, plan_placed

    search = SearchLimits(**limits)
    live = live_state(workspace, live_file)
    placed = place_fleet(workspace, live, search)
    facts = ExplainInput(
        fleet=workspace.project.fleet(),
        plan=plan_placed(workspace, live, search, placed),
        desired=desired_state_of(placed.fleet, placed.wanted, placed.placement, live),
        live=live,
        wanted=placed.wanted,
        placement=placed.placement,
    )
    try:
        explanation = explain(facts, address)
    except FleetError:
        if placed.error is not None:  # the address may be that of a version without a place
            raise placed.error from None
        raise
    click.echo(render(explanation), nl=False)


@click.command(cls=Command)
@choice_option("text", "html", "svg", help="html and svg are self-contained, without scripts.")
@click.option(
    "--server", shell_complete=completion.servers, help="Only this server and those on its device."
)
@out_option
@live_option
@search_options
@click.pass_obj
def draw(
    workspace: Workspace,
    /,
    form: str,
    server: str | None,
    out: Path | None,
    live_file: Path | None,
    **limits: Any,
) -> None:
    """Draw the packing: memory of each device, adapters in their slots, load by hour.

    The drawing shows the state after an apply. Memory and load are estimates until
    `fleetctl calibrate` has measured a server. Versions without a place are left out.

    Examples:
      fleetctl draw
      fleetctl draw --server llama3_8b-rack1-gpu0
      fleetctl draw --format svg --out packing.svg
      fleetctl draw --repack
    """
    from fleet.placement import SearchLimits
    from plans.drawing import DRAWINGS
    from plans.drawing.content import around_server, drawing_of
    from runtime.files import write_text
    from runtime.operations.change.planning import place_fleet

    live = live_state(workspace, live_file)
    placed = place_fleet(workspace, live, SearchLimits(**limits))
    drawing = drawing_of(placed.fleet, placed.placement, live.unknown_servers)
    text = DRAWINGS[form](around_server(drawing, server) if server else drawing)
    if out is None:
        click.echo(text, nl=False)
        return
    write_text(out, text)
    click.echo(f"Wrote {out}.", err=True)


@click.command(cls=Command)
@click.option(
    "--loss",
    type=click.Choice(["gpu", "host", "any"]),
    help="Show which device, host or both can be lost with every promise kept.",
)
@format_option
@live_option
@click.pass_obj
def diagnose(
    workspace: Workspace,
    loss: Literal["gpu", "host", "any"] | None,
    form: str,
    live_file: Path | None,
) -> None:
    """Show why the fleet does not fit, and plan with every change that might help.

    Changes nothing. Exits 0 if the fleet fits, else 1; with --loss, 0 if every loss keeps all
    promises.

    Examples:
      fleetctl diagnose
      fleetctl diagnose --format json
      fleetctl diagnose --live live.json
      fleetctl diagnose --loss gpu
      fleetctl diagnose --loss any --format json
    """
    from fleet.placement import SearchLimits
    from plans.explain.diagnosis import losses_json, losses_text, render_json, render_text
    from runtime.operations.change.planning import diagnose_fleet, diagnose_loss

    live = live_state(workspace, live_file)
    if loss:
        with waiting("Taking devices away, and planning with changes that might help…"):
            lost = diagnose_loss(workspace, live, loss)
        click.echo(losses_json(lost) if form == "json" else losses_text(lost), nl=False)
        sys.exit(0 if lost.kept else 1)
    with waiting("Planning with changes that might help…"):
        found = diagnose_fleet(workspace, workspace.project.fleet(), live, SearchLimits())
    click.echo(render_json(found) if form == "json" else render_text(found), nl=False)
    sys.exit(0 if found.fits else 1)
