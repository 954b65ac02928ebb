"""`fleetctl apply`, `reconcile`: carry out a plan; repair drift and promote rollouts."""

import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.errors import LockHeldError
from fleetctl.commands.approve import PLAN_ID
from fleetctl.options import (
    INPUT_FILE,
    Call,
    Command,
    Workspace,
    choice_option,
    duration,
    with_format,
    without_broken_option,
)
from fleetctl.output import Form, has_colour, print_diagnostics, print_lines

if TYPE_CHECKING:
    from fleet.plan import Plan
    from fleet.resources import State
    from fleet.steps import ApplyEvent, Emit
    from runtime.execute.outcome import ApplyOutcome

MAX_SHOWN = 5
"""Upper bound of failures and warnings printed in full; every failure has had its line already."""


@click.command(cls=Command)
@click.argument("file", required=False, type=INPUT_FILE)
@click.option("--auto", is_flag=True, help="Plan now and apply that plan, instead of FILE.")
@click.option(
    "--plan-id",
    metavar="ID",
    help="Plan now and apply, if that is the plan with this id or nothing is due; else exit 5.",
)
@click.option("--yes", is_flag=True, help="Apply without confirmation.")
@click.option(
    "--assume", is_flag=True, help="Start servers of which nothing is known, as the plan says."
)
@without_broken_option
@choice_option(
    "text", "json", help="text: progress on stderr. json: events on stdout, one per line."
)
@click.pass_obj
def apply(
    workspace: Workspace,
    *,
    file: Path | None,
    auto: bool,
    plan_id: str | None,
    yes: bool,
    assume: bool,
    form: Form,
) -> None:
    """Carry out the plan in FILE, step by step, and verify the result.

    FILE must be a plan that this project made, or would make now, approved where it says so. Steps
    whose precondition changed since are skipped, with the steps that need them; the others run. The
    command may be repeated. Ctrl-C lets running steps finish, a second Ctrl-C stops at once.

    Examples:
      fleetctl apply plan.json
      fleetctl apply plan.json --yes
      fleetctl apply --plan-id 0123456789abcdef --yes
      fleetctl apply --auto --yes --format json
    """
    import asyncio

    from runtime.operations.change.planning import way_on_told
    from runtime.operations.change.reviewed import (
        exit_code,
        require_allowed,
        require_approved,
        require_id,
    )
    from runtime.operations.rollouts.rollouts import require_thawed

    if [file is not None, auto, plan_id is not None].count(True) != 1:
        text = "Name a plan file (fleetctl plan --out plan.json), or pass --auto or --plan-id ID."
        raise click.UsageError(text)
    saved = _read_plan(workspace, file) if file is not None else None
    if not yes and (form == "json" or not sys.stdin.isatty()):
        text = "Not a terminal, so nobody can say yes: pass --yes to apply without confirmation."
        raise click.UsageError(text)
    require_thawed(workspace.ledger, "Nothing was applied")
    with way_on_told(workspace):
        live, plan = _planned(workspace, saved)
    if plan_id is not None:
        require_id(plan, plan_id)
    if not _is_due(workspace, plan, live):
        _print_nothing_to_do(workspace, plan, form)
        sys.exit(exit_code(plan, 0))
    require_allowed(workspace, plan)
    require_approved(workspace, plan, assume=assume)
    if not yes:
        _confirm(plan, whole=auto)
    try:
        sys.exit(asyncio.run(_carry_out(workspace, plan, form)) or exit_code(plan, 0))
    except asyncio.CancelledError:
        raise click.Abort from None


def _planned(workspace: Workspace, saved: "Plan | None") -> "tuple[State, Plan]":
    """Observe the fleet; return the live state, and the plan that was saved or is made now."""
    from runtime.operations.change.adopt import draw_fleet_id, require_known
    from runtime.operations.change.planning import observe_copies, plan_fleet
    from runtime.operations.change.reviewed import require_reviewed
    from runtime.operations.machines.heal import put_back_store

    live = observe_copies(workspace)
    if saved is not None:
        require_reviewed(workspace, saved, live)
    if put_back_store(workspace, live):
        live = observe_copies(workspace)
    require_known(workspace.ledger, live)
    draw_fleet_id(workspace, live)
    return live, saved or plan_fleet(workspace, live)


def _read_plan(workspace: Workspace, file: Path) -> "Plan":
    """Return a saved plan that is applicable; the clients that it sets aside are set aside here."""
    from plans.documents import plan_file
    from runtime.files import read_text
    from runtime.operations.change.apply import require_applicable

    if PLAN_ID.fullmatch(str(file)) and not file.exists():
        raise click.UsageError(f"`{file}` is a plan's id: pass --plan-id {file}")
    plan = plan_file.load(read_text(file), str(file))
    workspace.project.set_aside({note.subject: note.text for note in plan.set_aside})
    require_applicable(workspace, plan, file)
    return plan


def _is_due(workspace: Workspace, plan: "Plan", live: "State") -> bool:
    """Say whether anything is to be done; raise where the plan is untrusted or of another fleet."""
    from fleet.planning import require_kept
    from runtime.operations.change.apply import report_changes_since, require_trusted
    from runtime.operations.change.planning import is_record_due

    require_kept(plan, workspace.project.fleet(), workspace.ledger.history())
    require_trusted(workspace, plan)
    report_changes_since(workspace, plan, live)
    due = plan.steps or plan.settings or is_record_due(workspace.ledger, plan, live)
    return bool(due or live.notes)


async def _carry_out(workspace: Workspace, plan: "Plan", form: Form) -> int:
    from plans.wording import first_lines
    from runtime.operations.change.apply import execute_plan
    from runtime.operations.rounds.rounds import stop_signals

    print_lines(first_lines(plan), "Note")
    emit = _progress_printer(workspace, plan.id, form)
    with stop_signals() as stop:
        outcome = await execute_plan(
            workspace, plan, emit, stop=stop, trigger="apply", heeds_freeze=True
        )
    if form == "text":
        _print_outcome(outcome)
        if plan.settings and not outcome.exit_code:
            click.echo(f"Settings recorded: {len(plan.settings)}.", err=True)
    if outcome.lost is not None:
        raise LockHeldError(outcome.lost)
    return outcome.exit_code


def _print_nothing_to_do(call: Call, plan: "Plan", form: Form) -> None:
    """Report that no step is due, and changes held back. Takes no lease and records nothing."""
    from fleet.steps import ApplyEvent
    from plans.render.text import nothing_to_do
    from plans.wording import first_lines

    print_lines(first_lines(plan), "Note")
    if form == "text":
        click.echo(nothing_to_do(plan), err=True)
        print_lines(map(str, plan.held), "Held back")
        return
    result = {"result": "converged", "exit_code": 0, "done": 0, "seconds": 0.0}
    _progress_printer(call, plan.id, form)(ApplyEvent("run_complete", result))


def _confirm(plan: "Plan", *, whole: bool) -> None:
    from plans.render.text import render

    if not plan.steps and not plan.settings:
        return
    if whole:
        click.echo(render(plan, colour=has_colour(sys.stderr)), err=True, nl=False)
    settings = f", {len(plan.settings)} settings" if plan.settings else ""
    if not click.confirm(
        f"Carry out plan {plan.id} ({len(plan.steps)} steps{settings})?", err=True
    ):
        click.echo("Nothing was done.", err=True)
        sys.exit(0)


@click.command(cls=Command)
@click.option("--once", is_flag=True, help="Run one round, for a scheduled job.")
@click.option(
    "--interval",
    metavar="DURATION",
    callback=duration,
    help="Repeat at this interval, such as 30s. Ctrl-C ends after the running round.",
)
@without_broken_option
@with_format
def reconcile(workspace: Workspace, *, once: bool, interval: timedelta | None, form: Form) -> None:
    """Run a reconcile round (--once), or repeat rounds (--interval).

    A round starts gateways again, rolls back versions that fail a gate, restores missing or
    damaged resources, and promotes rollouts whose gates pass. Exit 3 after a rollback; 1 if
    a part could not run (declarations, ledger, placement); 2 if an outage or other drift is
    left.

    Examples:
      fleetctl reconcile --once
      fleetctl reconcile --interval 30s
    """
    import asyncio

    from runtime.operations.rounds.reconcile import Reconciler

    if once == (interval is not None):
        raise click.UsageError("Pass --once or --interval DURATION.")

    def progress(call: Call, plan_id: str) -> "Emit":
        return _progress_printer(call, plan_id, form)

    def report(outcome: "ApplyOutcome") -> None:
        if form == "text":
            _print_outcome(outcome)

    try:
        sys.exit(asyncio.run(Reconciler(progress, report).run(workspace, interval)))
    except asyncio.CancelledError:
        raise click.Abort from None


def _progress_printer(call: Call, plan_id: str, form: Form) -> "Emit":
    """Return a printer of events: lines to stderr, or JSON lines to stdout with gapless `seq`."""
    from itertools import count

    from plans.reports.apply_progress import line, record

    numbers = count(1)

    def emit(event: "ApplyEvent") -> None:
        if form == "json":
            seq = next(numbers)
            click.echo(record(event, seq, call.now(), call.run, plan_id))
        elif text := line(event):
            click.echo(text, err=True)

    return emit


def _print_outcome(outcome: "ApplyOutcome") -> None:
    """Print failures with their remedies, and addresses that are not as planned, to stderr.

    Nothing where the lease was lost, which has the last word.
    """
    if outcome.lost is not None:
        return
    shown = [result.diagnostics for result in outcome.results.values() if result.diagnostics]
    shown.sort(key=lambda diagnostics: diagnostics[0].severity)  # errors first
    for diagnostics in shown[:MAX_SHOWN]:
        print_diagnostics(diagnostics, before="\n")
    if len(shown) > MAX_SHOWN:
        click.echo(f"\n… and {len(shown) - MAX_SHOWN} more.", err=True)
    if not any(diagnostics[0].severity == "error" for diagnostics in shown):
        print_lines(outcome.unconverged, "Not as planned")
    print_lines(outcome.notes, "Note")
    if outcome.due:
        click.echo(f"{outcome.due} further changes are due: fleetctl plan", err=True)
