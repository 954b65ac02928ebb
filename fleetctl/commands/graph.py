"""`fleetctl graph`: print the steps of a plan as a graph."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from runtime.workspace import Workspace


@click.command(
    epilog="""\b
Examples:
  fleetctl graph --format mermaid
  fleetctl graph | dot -Tsvg > steps.svg
  fleetctl graph --plan plan.json --format json
"""
)
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Saved plan to draw (default: a new plan).",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["dot", "json", "mermaid"]),
    default="dot",
    help="(default: dot, for Graphviz)",
)
@click.pass_obj
def command(workspace: "Workspace", plan_file: Path | None, form: str) -> None:
    """Print the steps of a plan as a graph; each lane runs its steps in order."""
    from plans.render.graph import FORMATS

    if plan_file:
        from plans.documents.plan_file import load
        from runtime.files import read_text

        plan = load(read_text(plan_file))
    else:
        from fleetctl.live_state import live_state
        from runtime.operations.planning import plan_fleet

        plan = plan_fleet(workspace, live_state(workspace, None))
    click.echo(FORMATS[form](plan), nl=False)
