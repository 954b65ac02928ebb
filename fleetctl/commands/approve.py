"""`fleetctl approve`: consent to a plan that needs a decision."""

import re

import click

from fleetctl.options import Command, Workspace
from fleetctl.output import print_lines

PLAN_ID = re.compile("[0-9a-f]{16}")


@click.command(cls=Command)
@click.argument("plan_id")
@click.option(
    "--accept-outage",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Upper bound of the clients whose requests may fail.",
)
@click.option("--reason", required=True, metavar="TEXT", help="Reason for the ledger.")
@click.pass_obj
def command(workspace: Workspace, plan_id: str, accept_outage: int, reason: str) -> None:
    """Approve the plan PLAN_ID, which needs a decision, so that `apply` takes the plan.

    A plan says that it needs a decision, why, and this command. The approval counts for this plan
    alone, until it is carried out; another plan needs another. Needs the ledger alone.

    Examples:
      fleetctl approve 8bd91b9c43dc7b1b --reason "agreed with acme"
      fleetctl approve 8bd91b9c43dc7b1b --accept-outage 3 --reason "announced for Sunday"
    """
    from plans.tables import counted
    from runtime.operations.change.reviewed import approve_plan, known_outage

    text = " ".join(reason.split())
    if not text:
        raise click.UsageError("`--reason` is empty: readers of the ledger need one.")
    if not PLAN_ID.fullmatch(plan_id):
        raise click.UsageError("PLAN_ID is the id that `fleetctl plan` prints: 16 hex digits.")
    if known_outage(workspace, plan_id) is None:
        unknown = (
            f"no plan with the id {plan_id} was made with this state folder. The approval is "
            "recorded all the same, for plans of other checkouts; compare the id with the plan's"
        )
        print_lines([f"{unknown}: fleetctl plan"])
    approve_plan(workspace, plan_id, accept_outage, text)
    accepted = f", with an outage of {counted(accept_outage, 'client')}" if accept_outage else ""
    done = f"Plan {plan_id} is approved by {workspace.by}{accepted}."
    click.echo(f"{done} To carry it out: fleetctl apply FILE, or --auto", err=True)
