"""`fleetctl adopt`: write live resources into the ledger."""

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from runtime.workspace import Workspace


@click.command(
    epilog="""\b
Examples:
  fleetctl adopt --dry-run --format json
  fleetctl adopt
  fleetctl adopt 'adapter/*@llama_a'
"""
)
@click.argument("globs", nargs=-1, metavar="[ADDRESS-GLOB]...")
@click.option("--dry-run", is_flag=True, help="Show what would be adopted; write nothing.")
@click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")
@click.pass_obj
def command(workspace: "Workspace", *, globs: tuple[str, ...], dry_run: bool, form: str) -> None:
    """Write live resources into the ledger as if fleetctl had made them. Changes nothing live.

    Without arguments: servers that fleetctl starts, and declared adapters, routes and keys.
    With ADDRESS-GLOB: every match; the next plan may then remove undeclared resources.
    """
    from plans.amounts import counted
    from runtime.operations.release import adopt, to_adopt

    live = workspace.observe()
    found = to_adopt(workspace, live, globs)
    if form == "json":
        document = {"adopted": list(found), "dry_run": dry_run}
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo("".join(f"{address}\n" for address in found), nl=False)
    if not dry_run:
        adopt(workspace, live, found)
    verb = "would be adopted" if dry_run else "adopted"
    click.echo(f"{counted(len(found), 'resource')} {verb}.", err=True)
