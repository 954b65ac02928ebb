"""`fleetctl reconcile`: repair drift and promote rollouts, once or at an interval."""

import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from fleetctl.options import duration

if TYPE_CHECKING:
    from fleet.steps import Emit
    from fleetctl.output import Form
    from runtime.execute.outcome import ApplyOutcome
    from runtime.workspace import Workspace


@click.command(
    epilog="""\b
Examples:
  fleetctl reconcile --once
  fleetctl reconcile --interval 30s
""",
)
@click.option("--once", is_flag=True, help="Run one round, for a scheduled job.")
@click.option(
    "--interval",
    metavar="DURATION",
    callback=duration,
    help="Repeat at this interval, such as 30s. Ctrl-C ends after the running round.",
)
@click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")
@click.pass_obj
def command(
    workspace: "Workspace", *, once: bool, interval: timedelta | None, form: "Form"
) -> None:
    """Run one reconcile round (--once) or repeat (--interval).

    A round rolls back versions that fail a gate, restores missing resources and damaged copies,
    and promotes rollouts whose gates pass. A round removes, restarts and deploys nothing.
    Exit 3 after a rollback; 1 if declarations, ledger or placement kept a part from running.
    """
    import asyncio

    from fleetctl.output import print_outcome, progress_printer
    from runtime.operations.reconcile import Reconciler

    if once == (interval is not None):
        raise click.UsageError("Pass --once or --interval DURATION.")

    def progress(now: "Workspace", plan_id: str) -> "Emit":
        return progress_printer(now, plan_id, form)

    def report(outcome: "ApplyOutcome") -> None:
        if form == "text":
            print_outcome(outcome)

    try:
        sys.exit(asyncio.run(Reconciler(progress, report).run(workspace, interval)))
    except asyncio.CancelledError:
        raise click.Abort from None
