"""`fleetctl rollout`: show, hold, pause, approve, advance, extend or abort rollouts."""

import json
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleetctl import completion
from fleetctl.options import (
    Call,
    Group,
    LedgerContext,
    Workspace,
    choice_option,
    duration,
    moment,
    out_option,
    with_format,
)
from fleetctl.output import print_lines, print_result

if TYPE_CHECKING:
    from fleet.rollouts import RolloutStatus
    from runtime.operations.rollouts.rollouts import MarkedRollout

_alias_argument = click.argument("alias", shell_complete=completion.aliases)
_reason_option = click.option("--reason", metavar="TEXT", help="Reason for the ledger.")


def _mark_options(function: Callable[..., None]) -> Any:
    """Add the parameters of every mark: alias, reason, format of the record."""
    return _alias_argument(_reason_option(with_format(function)))


@click.group(cls=Group)
def command() -> None:
    """Show rollouts; hold, pause, approve, advance, extend or abort a rollout.

    Marks are written to the ledger and hold for the declared version; the next apply or
    reconcile acts on them.

    Examples:
      fleetctl rollout list
      fleetctl rollout status acme-support
      fleetctl rollout pause acme-support --for 4h --reason "the client has a launch"
      fleetctl rollout approve acme-support --reason "checked 50 answers by hand"
      fleetctl rollout report acme-support --format html --out report.html
    """


@command.command("list")
@click.option("--all", "every", is_flag=True, help="Include aliases without a rollout.")
@with_format
def list_(workspace: Workspace, *, every: bool, form: str) -> None:
    """List rollouts in progress or waiting, with their gates.

    Examples:
      fleetctl rollout list
      fleetctl rollout list --all --format json
    """
    from plans.reports.rollouts import active, render_list, rollout_documents
    from runtime.operations.change.planning import as_far_as_valid
    from runtime.operations.rollouts.rollouts import all_rollouts

    workspace, exit_code = as_far_as_valid(workspace)
    _note_freeze(workspace.ledger)
    rollouts = rollout_documents(workspace.project.fleet(), all_rollouts(workspace).values())
    print_result(form, rollouts if every else active(rollouts), render_list)
    sys.exit(exit_code)


@command.command()
@_alias_argument
@with_format
def status(workspace: Workspace, alias: str, form: str) -> None:
    """Show a rollout in full: stage, gates with reasons, conditions not met.

    Examples:
      fleetctl rollout status acme-support
      fleetctl rollout status acme-support --format json
    """
    from plans.reports.rollouts import render_one, rollout_document
    from runtime.operations.rollouts.rollouts import rollout_of

    _note_freeze(workspace.ledger)
    rollout = rollout_document(workspace.project.fleet(), rollout_of(workspace, alias))
    print_result(form, rollout, lambda rollout: render_one(rollout, workspace.now()))


def _note_freeze(ledger: LedgerContext) -> None:
    from plans.wording import frozen_line

    if freeze := ledger.history().freeze:
        click.echo(frozen_line(freeze), err=True)


@command.command()
@_mark_options
def hold(workspace: Workspace, alias: str, reason: str | None, form: str) -> None:
    """Keep the version at its share until `resume`. A gate that fails still rolls back.

    Examples:
      fleetctl rollout hold acme-support
    """
    _mark(workspace, alias, "hold", reason, form)


@command.command()
@_alias_argument
@click.option(
    "--for", "length", metavar="DURATION", callback=duration, help="Duration, such as 4h or 3d."
)
@click.option(
    "--until", metavar="TIME", callback=moment, help="Time in ISO 8601; UTC without a zone."
)
@_reason_option
@with_format
def pause(
    workspace: Workspace,
    alias: str,
    length: timedelta | None,
    until: datetime | None,
    reason: str | None,
    form: str,
) -> None:
    """Let no stage advance for a while; the pause ends by time, or with `resume`.

    Gates are judged meanwhile, and a gate that fails still rolls back. A later pause replaces an
    earlier one. To wait for a person, use `hold`.

    Examples:
      fleetctl rollout pause acme-support --for 4h --reason "the client has a launch"
      fleetctl rollout pause acme-support --until 2026-12-01T08:00Z
      fleetctl rollout pause acme-support --until "2026-12-01 09:00+01:00" --format json
    """
    from runtime.operations.rollouts.rollouts import pause_rollout

    if (length is None) == (until is None):
        raise click.UsageError("Pass --for DURATION or --until TIME.")
    marked = pause_rollout(workspace, alias, length, until, reason or "")
    _print_mark(workspace, marked, form)


@command.command()
@_mark_options
def resume(workspace: Workspace, alias: str, reason: str | None, form: str) -> None:
    """Lift a hold, and end a pause.

    Examples:
      fleetctl rollout resume acme-support
    """
    _mark(workspace, alias, "resume", reason, form)


@command.command()
@_mark_options
def approve(workspace: Workspace, alias: str, reason: str | None, form: str) -> None:
    """Let the version leave this stage, after its bake, with inconclusive gates.

    A gate that failed is not inconclusive: declare an override for that.

    Examples:
      fleetctl rollout approve acme-support
    """
    _mark(workspace, alias, "approve", reason, form)


@command.command()
@_mark_options
def extend(workspace: Workspace, alias: str, reason: str | None, form: str) -> None:
    """Give inconclusive gates of this stage its longest bake again, from now.

    Examples:
      fleetctl rollout extend acme-support
    """
    _mark(workspace, alias, "extend", reason, form)


@command.command()
@_alias_argument
@click.option("--reason", required=True, metavar="TEXT", help="Reason for the ledger.")
@with_format
def advance(workspace: Workspace, alias: str, reason: str, form: str) -> None:
    """Send the version to its next stage now, before bake and inconclusive gates end.

    Examples:
      fleetctl rollout advance acme-support --reason "the old version gives wrong prices"
    """
    _mark(workspace, alias, "advance", reason, form)


@command.command()
@_mark_options
def abort(workspace: Workspace, alias: str, reason: str | None, form: str) -> None:
    """End the rollout: the previous version gets all traffic, now.

    Ends the version in progress, also if the declarations name another version by now, and
    after the cut-over while the previous version is loaded (`soaking`). A version that is still
    declared gets no traffic until `fleetctl release ALIAS`.

    Examples:
      fleetctl rollout abort acme-support --reason "client asked to wait"
    """
    import asyncio

    status = _mark(workspace, alias, "abort", reason, form)
    if status.percent:
        adapter = status.target.target
        sys.exit(asyncio.run(_roll_back(workspace, alias, reason, adapter, form)))


async def _roll_back(
    workspace: Workspace, alias: str, reason: str | None, adapter: str, form: str
) -> int:
    from runtime.operations.rollouts.rollback import notify_rollback, roll_back
    from runtime.rollback.rollback import RollbackRequest

    request = RollbackRequest(alias, reason=reason or "aborted", only=adapter)
    result = await roll_back(workspace, request)
    print_lines((*result.warnings, *result.failures))
    click.echo(result.sentence, err=form == "json")
    print_lines(await notify_rollback(workspace, result))
    return 0 if result.complete else 1


def _mark(
    workspace: Workspace, alias: str, mark: str, reason: str | None, form: str
) -> "RolloutStatus":
    """Write and print a mark; return the rollout before."""
    from runtime.operations.rollouts.rollouts import mark_rollout

    marked = mark_rollout(workspace, alias, mark, reason or "")
    _print_mark(workspace, marked, form)
    return marked.status


def _print_mark(call: Call, marked: "MarkedRollout", form: str) -> None:
    if form == "json":
        click.echo(json.dumps({**marked.record, "by": call.by}, indent=2))
    for line in marked.lines:
        click.echo(line, err=True)


@command.command("report")
@_alias_argument
@click.option(
    "--version",
    metavar="X.Y.Z",
    shell_complete=completion.numbers,
    help="(default: the version tried last)",
)
@choice_option("md", "html", "json")
@out_option
@click.pass_obj
def client_report(
    workspace: Workspace, alias: str, version: str | None, form: str, out: Path | None
) -> None:
    """Write a report for the client: versions, measurements and decisions of a rollout.

    Made from the ledger alone. Names no server, no person and no other client.

    Examples:
      fleetctl rollout report acme-support
      fleetctl rollout report acme-support --version 2.2.0 --format html --out report.html
    """
    from plans.reports.client_report import document, render_html, render_markdown
    from runtime.files import write_text
    from runtime.operations.rollouts.rollouts import last_tried

    entries = workspace.ledger.open().read()
    adapter = last_tried(entries, alias, version)
    report = document(entries, alias, adapter, workspace.now())
    if form == "json":
        text = json.dumps(report, indent=2) + "\n"
    else:
        text = render_html(report) if form == "html" else render_markdown(report)
    if out is None:
        click.echo(text, nl=False)
    else:
        write_text(out, text)
