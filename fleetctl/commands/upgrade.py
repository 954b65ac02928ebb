"""`fleetctl upgrade`: approve, advance, stop or release the upgrade of a base's servers."""

from typing import TYPE_CHECKING

import click

from fleetctl.options import Command, Workspace

if TYPE_CHECKING:
    from fleet.history import UpgradeMark

MARKS = ("approve", "advance", "stop", "release")


@click.command(cls=Command)
@click.argument("mark", type=click.Choice(MARKS))
@click.argument("base")
@click.option("--reason", required=True, metavar="TEXT", help="Reason for the ledger.")
@click.pass_obj
def command(workspace: Workspace, mark: "UpgradeMark", base: str, reason: str) -> None:
    """Approve, advance, stop or release an upgrade of the servers of a base.

    `approve` lets clients move though a golden set is undecided or a client has none, `advance`
    though nothing was judged. `stop` takes clients back to the old servers, `release` has settings
    that were stopped judged anew. `plan` shows where it stands.

    Examples:
      fleetctl upgrade stop llama3 --reason "slow since noon"
      fleetctl upgrade approve llama3 --reason "read 30 answers of acme"
    """
    from runtime.operations.rollouts.upgrades import mark_upgrade

    text = " ".join(reason.split())
    if not text:
        raise click.UsageError("`--reason` is empty: readers of the ledger need one.")
    click.echo(mark_upgrade(workspace, mark, base, text), err=True)
