"""`fleetctl diagnose`: show why the fleet does not fit, and which changes would help."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from runtime.workspace import Workspace


@click.command(
    epilog="""\b
Examples:
  fleetctl diagnose
  fleetctl diagnose --format json
  fleetctl diagnose --live live.json
"""
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "text"]),
    default="text",
    help="Output format (default: text).",
)
@click.option(
    "--live",
    "live_file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Use this live-state file instead of observing the servers.",
)
@click.pass_obj
def command(workspace: "Workspace", form: str, live_file: Path | None) -> None:
    """Show what keeps the fleet from fitting, and plan with each change that might help.

    Changes nothing. Exits 0 if the fleet fits, else 1.
    """
    from fleet.placement import SearchLimits
    from fleetctl.live_state import live_state
    from fleetctl.output import waiting
    from plans.explain.diagnosis import render_json, render_text
    from runtime.operations.planning import diagnose_fleet

    live = live_state(workspace, live_file)
    with waiting("Planning with changes that might help…"):
        found = diagnose_fleet(workspace, workspace.fleet(), live, SearchLimits())
    click.echo(render_json(found) if form == "json" else render_text(found), nl=False)
    sys.exit(0 if found.fits else 1)
