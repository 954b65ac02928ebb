"""`fleetctl freeze`, `thaw`: stop applies and rollouts; let them go on."""

import json

import click

from fleetctl.options import Command, Workspace, with_format


@click.command(cls=Command)
@click.option("--reason", required=True, metavar="TEXT", help="Reason, shown wherever it stops.")
@with_format
def freeze(workspace: Workspace, *, reason: str, form: str) -> None:
    """Freeze the fleet: nothing is applied and no rollout is promoted, until `fleetctl thaw`.

    Planning, healing, gates that fail and `rollback` go on. A running apply finishes its running
    steps and begins no other. Needs the ledger alone: no declarations, no lease.

    Examples:
      fleetctl freeze --reason "Black Friday, until Monday 08:00"
      fleetctl freeze --reason "incident 4711" --format json
    """
    from plans.wording import frozen_document, frozen_line
    from runtime.operations.rollouts.rollouts import freeze_fleet

    text = " ".join(reason.split())
    if not text:
        raise click.UsageError("--reason is empty: say why, for who finds the fleet frozen.")
    frozen = freeze_fleet(workspace.ledger, text)
    if form == "json":
        click.echo(json.dumps(frozen_document(frozen), indent=2))
    else:
        click.echo(frozen_line(frozen))


@click.command(cls=Command)
@click.option("--reason", default="", metavar="TEXT", help="Reason for the ledger.")
@with_format
def thaw(workspace: Workspace, *, reason: str, form: str) -> None:
    """End the freeze of the fleet: applies and rollouts go on.

    Plans made while the fleet was frozen can be applied as they are.

    Examples:
      fleetctl thaw
      fleetctl thaw --reason "the incident is over"
    """
    from plans.wording import frozen_document
    from runtime.operations.rollouts.rollouts import thaw_fleet

    ended = thaw_fleet(workspace.ledger, " ".join(reason.split()))
    if form == "json":
        click.echo(json.dumps({"thawed": ended and frozen_document(ended)}, indent=2))
    elif ended is None:
        click.echo("The fleet is not frozen; nothing was written.", err=True)
    else:
        what = f"frozen since {ended.at:%Y-%m-%d %H:%M} UTC by {ended.by}: {ended.reason}"
        click.echo(f"Thawed, {what}. To go on: fleetctl plan")
