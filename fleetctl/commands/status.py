"""`fleetctl status`: outages, rollouts that wait for people, versions and servers."""

import sys
import time
from dataclasses import replace
from functools import partial
from typing import Any, Final

import click

from fleetctl import completion
from fleetctl.options import Command, Workspace, with_format
from fleetctl.output import has_colour, print_result
from runtime.messages import EmitMessage, FailureMessage, Message

_OUTAGE: Final = 2
"""Exit code of `--check` while an outage stands, as of `reconcile --once`."""
_PAUSE_S: Final = 5.0


@click.command(cls=Command)
@click.option(
    "--client",
    metavar="CLIENT",
    shell_complete=completion.clients,
    help="Only this client's aliases.",
)
@click.option("--check", is_flag=True, help="Exit 2 while an outage stands.")
@click.option("--watch", is_flag=True, help="Show it anew every 5 seconds, until Ctrl-C.")
@with_format
def command(
    workspace: Workspace, *, client: str | None, check: bool, watch: bool, form: str
) -> None:
    """Show outages, rollouts that wait for people, versions and servers.

    Beside each declared share stands the share of requests since the split last changed. Changes
    nothing. Without a readable ledger, stages and holds come from its local copy; files of clients
    with an error are left out, with exit code 1.

    Examples:
      fleetctl status
      fleetctl status --client acme --watch
      fleetctl status --check --format json
    """
    if watch and form == "json":
        raise click.UsageError("`--watch` shows text. In a script, repeat `status --format json`.")
    while True:
        faults: list[Message | FailureMessage] = []
        document, exit_code = _observed(replace(workspace), client, faults.append)
        if watch and sys.stdout.isatty():
            click.clear()
        _print(document, form)
        for fault in faults:  # below the outages
            workspace.emit(fault)
        if not watch:
            break
        time.sleep(_PAUSE_S)
    sys.exit(_OUTAGE if check and "outages" in document else exit_code)


def _observed(
    workspace: Workspace, client: str | None, report: EmitMessage
) -> tuple[dict[str, Any], int]:
    """Return the status as a document, and the exit code for the reported faults of files."""
    from plans.reports import status
    from plans.reports.status import waiting_rollouts
    from plans.reports.versions import drift_row
    from runtime.operations.change.planning import as_far_as_valid
    from runtime.operations.rollouts.drills import drill_document
    from runtime.operations.watch.status import observe_status

    sound, exit_code = as_far_as_valid(replace(workspace, emit=report))
    workspace = replace(sound, emit=workspace.emit)
    seen = observe_status(workspace, client)
    fleet = workspace.project.fleet()
    document = status.status(
        fleet.name,
        seen.live,
        seen.history,
        seen.standing,
        client,
        seen.requests,
        seen.ledger_problem,
        seen.outages,
    )
    document["waiting"] = waiting_rollouts(fleet, seen.rollouts, client)
    document["retraining"] = seen.retraining
    document["drift"] = [drift_row(*alarm) for alarm in seen.drift]
    document["drills"] = [drill_document(record) for record in seen.drills]
    return document, exit_code


def _print(document: dict[str, Any], form: str) -> None:
    from plans.reports.status import render_text

    print_result(form, document, partial(render_text, colour=has_colour(sys.stdout)))
