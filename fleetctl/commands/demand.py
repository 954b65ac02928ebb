"""`fleetctl demand`: show requests of adapters by hour; record them from usage."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fleet.capacity import Recording
    from runtime.workspace import Workspace


@click.group(epilog="\b\nExamples:\n  fleetctl demand show\n  fleetctl demand record --days 14")
def command() -> None:
    """Show requests of adapters by hour; record them from the gateways' usage."""


@command.command(
    epilog="""\b
Examples:
  fleetctl demand show
  fleetctl demand show --all
  fleetctl demand show --format json
"""
)
@click.option("--all", "every", is_flag=True, help="List every adapter.")
@click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")
@click.pass_obj
def show(workspace: "Workspace", form: str, *, every: bool) -> None:
    """Draw the requests of each adapter and base over 24 hours, in UTC.

    With daylight saving, an hour counts as busy if busy in summer or in winter.
    """
    from plans.reports.demand import render, render_json

    fleet = workspace.fleet()
    click.echo(render(fleet, every=every) if form == "text" else render_json(fleet), nl=False)


@command.command(
    epilog="""\b
Examples:
  fleetctl demand record
  fleetctl demand record --days 14
  fleetctl demand record --from /srv/logs/gateways
"""
)
@click.option(
    "--days", type=click.IntRange(1, 366), default=7, help="Newest days to count (default: 7)."
)
@click.option(
    "--from",
    "folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder with usage logs (default: those of this state folder's gateways).",
)
@click.pass_obj
def record(workspace: "Workspace", days: int, folder: Path | None) -> None:
    """Write demand.json from the gateways' usage logs.

    For each alias: requests per minute by hour (95th percentile over the days), and mean tokens.
    Adapters with `demand: {observed: true}` are placed by this file. Keep it in version control.
    """
    from fleet.capacity import DEMAND_FILE, carried_on, recorded_demand_text
    from fleet.capacity import record_demand as summed
    from fleet.errors import ConfigError, FleetError, problem
    from fleetctl.output import waiting
    from plans.amounts import counted
    from runtime.files import write_text
    from runtime.project.facts import read_recording
    from runtime.project.load import declared_aliases
    from runtime.usage.read import UsageReader

    where = folder or workspace.state_dir / "gateways"
    known = declared_aliases(workspace.root, workspace.environment, workspace.variables)
    try:
        before = read_recording(workspace.root)
    except ConfigError:  # it is written anew
        before = {}
    files = UsageReader(where)
    with waiting(f"Reading {len(files.paths)} usage logs…"):
        found = summed(files.requests(), days)
    if found is None:
        detail = f"No request was logged under `{where}`."
        if files.damaged:
            detail += f" {counted(files.damaged, 'line')} there cannot be read."
        hint = "Send requests to a gateway (fleetctl gateway start), or name a folder with --from."
        raise FleetError(problem("FC6043", "No usage to record", detail, hint=hint))
    kept = carried_on(found, before, known)
    write_text(workspace.root / DEMAND_FILE, recorded_demand_text(kept))
    _tell(kept, files.damaged)


def _tell(kept: "Recording", damaged: int) -> None:
    from fleet.capacity import DEMAND_FILE
    from plans.amounts import counted

    since, until = (each.strftime("%Y-%m-%d %H:%M") for each in (kept.since, kept.until))
    click.echo(
        f"Wrote {DEMAND_FILE}: demand of {counted(len(kept.adapters), 'adapter')}, "
        f"from {since} to {until} UTC."
    )
    if kept.hours < 24:  # noqa: PLR2004 (a day)
        click.echo(
            f"The logs span {counted(kept.hours, 'hour')}; the rest of the day counts as idle. "
            "Record again after a week.",
            err=True,
        )
    if damaged:
        click.echo(f"Left out {counted(damaged, 'line')} that cannot be read.", err=True)
    click.echo("To place an adapter by it: demand: {observed: true}. See: fleetctl demand show")
