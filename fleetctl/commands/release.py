"""`fleetctl release`: allow a version that was rolled back to be rolled out again."""

import json
from typing import TYPE_CHECKING

import click

from fleetctl import completion

if TYPE_CHECKING:
    from runtime.workspace import Workspace


@click.command(
    epilog="""\b
Examples:
  fleetctl release acme-support
  fleetctl release acme-support --format json
  fleetctl release acme-support --version 2.2.0 --reason "labels fixed"
"""
)
@click.argument("alias", shell_complete=completion.aliases)
@click.option(
    "--version",
    metavar="VERSION",
    shell_complete=completion.numbers,
    help="Only this version (default: every held version).",
)
@click.option("--reason", default="", metavar="TEXT", help="Reason, for the ledger.")
@click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")
@click.pass_obj
def command(
    workspace: "Workspace", *, alias: str, version: str | None, reason: str, form: str
) -> None:
    """Clear the quarantine of ALIAS: the next plan may roll the version out, from its first stage.

    Lifts rollbacks, failed or forged verdicts, aborts and inconclusive ends, also of the same
    bytes under another version. Accepts a route changed by hand. Moves no traffic.
    """
    from fleet.names import version_of
    from runtime.operations.release import release_versions

    released = release_versions(workspace, alias, version, reason)
    if released.nothing:
        click.echo(f"{alias}: nothing is held, and its route is as applied.", err=True)
    else:
        numbers = sorted(map(version_of, released.versions))
        freed = ", ".join(numbers) or "the route as it is now"
        click.echo(f"{alias}: {freed} released; to go on: fleetctl plan", err=True)
    if form == "json":
        document = {
            "alias": alias,
            "released": list(released.versions),
            "route_accepted": released.route_accepted,
        }
        click.echo(json.dumps(document, indent=2))
