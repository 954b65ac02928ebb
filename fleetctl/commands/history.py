"""`fleetctl history`: show the ledger: actions with their time and author."""

from typing import TYPE_CHECKING, Literal

import click

from fleetctl import completion

if TYPE_CHECKING:
    from runtime.workspace import Workspace


@click.command(
    epilog="""\b
Examples:
  fleetctl history
  fleetctl history acme-support --steps
  fleetctl history --limit 0 --format json
"""
)
@click.argument(
    "about",
    required=False,
    default="",
    metavar="[RUN|ALIAS|ADDRESS]",
    shell_complete=completion.addresses,
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="Number of entries; 0 = all.",
)
@click.option("--steps", is_flag=True, help="Include single steps.")
@click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")
@click.pass_obj
def command(
    workspace: "Workspace", *, about: str, limit: int, steps: bool, form: Literal["json", "text"]
) -> None:
    """Show the ledger: applies, rollbacks, releases, adoptions. Checks its hash chain.

    Works without declarations and while an apply runs.
    """
    from plans.reports.history import chosen, render_json, render_text

    entries = chosen(workspace.ledger().read(), limit=limit or None, steps=steps, about=about)
    click.echo(render_json(entries) if form == "json" else render_text(entries, about), nl=False)
