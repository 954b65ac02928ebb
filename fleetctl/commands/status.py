"""`fleetctl status`: show which versions serve which aliases right now."""

import json
from typing import TYPE_CHECKING, Literal

import click

from fleetctl import completion

if TYPE_CHECKING:
    from runtime.workspace import Workspace


@click.command(
    epilog="""\b
Examples:
  fleetctl status
  fleetctl status --client acme
  fleetctl status --format json
"""
)
@click.option(
    "--client",
    metavar="CLIENT",
    shell_complete=completion.clients,
    help="Only this client's aliases.",
)
@click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")
@click.pass_obj
def command(workspace: "Workspace", *, client: str | None, form: Literal["json", "text"]) -> None:
    """Show aliases with versions and shares, holds, servers, drift, and work that is due.

    Beside each declared share stands the share of requests since the split last changed.
    Changes nothing. Without a readable ledger, stages and holds come from its local copy.
    """
    from plans.reports.evals import drift_row
    from plans.reports.status import render_text, status
    from runtime.operations.drills import drill_document
    from runtime.operations.status import observe_status

    seen = observe_status(workspace, client)
    document = status(
        workspace.fleet().name,
        seen.live,
        seen.history,
        seen.entries,
        client,
        seen.requests,
        seen.ledger_problem,
    )
    document["retraining"] = seen.retraining
    document["drift"] = [drift_row(*alarm) for alarm in seen.drift]
    document["drills"] = [drill_document(record) for record in seen.drills]
    shown = json.dumps(document, indent=2) + "\n" if form == "json" else render_text(document)
    click.echo(shown, nl=False)
