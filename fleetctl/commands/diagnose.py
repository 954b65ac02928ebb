"""`fleetctl diagnose`: why the fleet does not fit, and what would make it fit."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fleetctl.session import Session


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
    help="How to show it. Default: text.",
)
@click.option(
    "--live",
    "live_file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Diagnose with this live-state file instead of asking the servers.",
)
@click.pass_obj
def command(session: "Session", form: str, live_file: Path | None) -> None:
    """Say what keeps the fleet from fitting, and plan with each change that might help.

    Changes nothing. Exits 0 when the fleet fits, else 1.
    """
    from fleet.history import settled  # noqa: PLC0415 (keeps `--help` fast)
    from fleet.remedies import diagnose  # noqa: PLC0415
    from fleetctl.commands.plan import state  # noqa: PLC0415
    from fleetctl.patience import waiting  # noqa: PLC0415
    from plans.diagnosis import render_json, render_text  # noqa: PLC0415

    fleet, live = session.fleet(), state(session, live_file)
    with waiting("Planning with changes that might help…"):
        found = diagnose(fleet, live, settled(session.history(), live), session.now())
    click.echo(render_json(found) if form == "json" else render_text(found), nl=False)
    sys.exit(0 if found.fits else 1)
