"""`fleetctl watch`, `why`: alerts that stand, and what made an alias worse."""

import sys
from datetime import timedelta

import click

from fleetctl import completion
from fleetctl.options import Command, Workspace, duration, with_format
from fleetctl.output import Form, print_result


@click.command(cls=Command)
@click.option("--once", is_flag=True, help="Look once; exit 2 while an alert stands.")
@click.option(
    "--interval", callback=duration, metavar="DURATION", help="Look again at this interval."
)
@with_format
def watch(workspace: Workspace, *, once: bool, interval: timedelta | None, form: Form) -> None:
    """Judge latency, errors, promises, costs, capacity, data and events; notify once.

    With --interval, default 60s, alerts that begin or end are printed. An alert ends in the
    command to go to. A look brings new usage into the store.

    Examples:
      fleetctl watch --once
      fleetctl watch --interval 60s --format json
    """
    import asyncio

    from fleet.codec import plain
    from plans.reports.alerts import alert_sentence, alerts_document, render_alerts, render_change
    from runtime.operations.rounds.watch import STANDS, Watcher

    if once and interval is not None:
        raise click.UsageError("Pass --once or --interval DURATION.")
    watcher = Watcher(lambda alert: alert_sentence(plain(alert)))
    if once:
        alerts = asyncio.run(watcher.look(workspace))
        print_result(form, alerts_document(alerts), render_alerts)
        stands = any(alert.stands for alert in alerts)
        sys.exit(watcher.exit_code or (STANDS if stands else 0))

    async def follow() -> None:
        async for changed in watcher.rounds(workspace, interval or timedelta(seconds=60)):
            for alert in changed:
                click.echo(render_change(alert, form))

    try:
        asyncio.run(follow())
    except asyncio.CancelledError:
        raise click.Abort from None


@click.command(cls=Command)
@click.argument("alias", shell_complete=completion.aliases)
@click.option(
    "--since",
    callback=duration,
    default="6h",
    metavar="DURATION",
    help="Time before now to look at; above 48h by the hour.",
)
@with_format
def why(workspace: Workspace, *, alias: str, since: timedelta, form: Form) -> None:
    """Find when an alias became worse, and rank the changes around that time by their fit.

    Versions, shares, loads of neighbours and its own, restarts, moves, limits, evaluations; with
    the figures before and after. Changes nothing.

    Examples:
      fleetctl why acme-support
      fleetctl why acme-support --since 24h --format json
    """
    from plans.reports.alerts import render_why, why_document
    from runtime.operations.rounds.watch import why_worse

    print_result(form, why_document(why_worse(workspace, alias, since)), render_why)
