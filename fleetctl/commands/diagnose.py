"""`fleetctl diagnose`: show why the fleet does not fit, and which changes would help."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fleet.placement import SearchLimits
    from fleet.resources import State
    from fleet.spec import FleetSpec
    from fleet.what_if import Diagnosis
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
    help="Output format (default: text).",
)
@click.option(
    "--live",
    "live_file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Use this live-state file instead of observing the servers.",
)
@click.pass_obj
def command(session: "Session", form: str, live_file: Path | None) -> None:
    """Show what keeps the fleet from fitting, and plan with each change that might help.

    Changes nothing. Exits 0 if the fleet fits, else 1.
    """
    from fleet.placement import SearchLimits
    from fleetctl.commands.plan import state

    found = diagnosis(session, session.fleet(), state(session, live_file), SearchLimits())
    click.echo(shown_as(found, form), nl=False)
    sys.exit(0 if found.fits else 1)


def diagnosis(
    session: "Session",
    fleet: "FleetSpec",
    live: "State",
    search: "SearchLimits",
    changes: Sequence[str] = (),
) -> "Diagnosis":
    """Diagnose a fleet; suggested commands suppose `changes` as well."""
    from fleet.history import settled
    from fleet.what_if import diagnose
    from fleetctl.patience import waiting

    history = settled(session.history(), live)
    with waiting("Planning with changes that might help…"):
        found = diagnose(fleet, live, history, session.now(), search=search)
    also = tuple(
        replace(each, what_if=(*changes, *each.what_if)) if each.what_if else each
        for each in found.remedies
    )
    return replace(found, remedies=also)


def shown_as(found: "Diagnosis", form: str) -> str:
    """Return a diagnosis as `text` or `json`."""
    from plans.explain.diagnosis import render_json, render_text

    return render_json(found) if form == "json" else render_text(found)
