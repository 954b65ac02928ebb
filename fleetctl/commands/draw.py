"""`fleetctl draw`: draw the packing: devices, adapters in their slots, load by hour."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetctl import completion
from fleetctl.options import search_options

if TYPE_CHECKING:
    from fleet.placement import SearchLimits
    from runtime.workspace import Workspace

FORMATS = ("html", "svg", "text")


@click.command(
    epilog="""\b
Examples:
  fleetctl draw
  fleetctl draw --server llama3_8b-rack1-gpu0
  fleetctl draw --format svg --out packing.svg
  fleetctl draw --repack
"""
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="html and svg are self-contained, without scripts.",
)
@click.option(
    "--server",
    shell_complete=completion.servers,
    help="Only this server and those on its device.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to this file instead of standard output.",
)
@click.option(
    "--live",
    "live_file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Use this live-state file instead of observing the servers.",
)
@search_options
@click.pass_obj
def command(
    workspace: "Workspace",
    form: str,
    server: str | None,
    out: Path | None,
    live_file: Path | None,
    search: "SearchLimits",
) -> None:
    """Draw the packing: memory of each device, adapters in their slots, load by hour.

    The drawing shows the state after an apply. Memory and load are estimates until
    `fleetctl calibrate` has measured a server. Versions without a place are left out.
    """
    from fleetctl.live_state import live_state
    from plans.drawing import DRAWINGS
    from plans.drawing.content import around_server, drawing_of
    from runtime.operations.planning import place_fleet

    live = live_state(workspace, live_file)
    placed = place_fleet(workspace, live, search)
    drawing = drawing_of(placed.fleet, placed.placement, live.unknown_servers)
    text = DRAWINGS[form](around_server(drawing, server) if server else drawing)
    if out is None:
        click.echo(text, nl=False)
        return
    from runtime.files import write_text

    write_text(out, text)
    click.echo(f"Wrote {out}.", err=True)
