"""`fleetctl apply`: carry out a plan, step by step."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fleet.plan import Plan
    from fleetctl.output import Form
    from runtime.workspace import Workspace


@click.command(
    epilog="""\b
Examples:
  fleetctl apply plan.json
  fleetctl apply plan.json --yes
  fleetctl apply --auto --yes --format json
"""
)
@click.argument(
    "file", required=False, type=click.Path(path_type=Path, dir_okay=False, allow_dash=True)
)
@click.option("--auto", is_flag=True, help="Plan now and apply that plan, instead of FILE.")
@click.option("--yes", is_flag=True, help="Apply without confirmation.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "text"]),
    default="text",
    help="text: progress on stderr. json: events on stdout, one per line.",
)
@click.pass_obj
def command(
    workspace: "Workspace", *, file: Path | None, auto: bool, yes: bool, form: "Form"
) -> None:
    """Carry out the plan in FILE, step by step, and verify the result.

    Steps whose precondition changed since the plan was made are skipped, and steps that depend
    on them; the others run. Running the command again is safe. Ctrl-C lets running steps
    finish, a second Ctrl-C stops at once.
    """
    import asyncio

    from runtime.operations.apply import report_changes_since
    from runtime.operations.planning import plan_fleet
    from runtime.operations.trust import require_trusted

    if (file is None) != auto:
        raise click.UsageError("Name a plan file, or pass --auto.")
    read = None if file is None else _read(workspace, file)
    if not yes and (form == "json" or not sys.stdin.isatty()):
        raise click.UsageError("Not a terminal: pass --yes to apply without confirmation.")
    live = workspace.observe()
    plan = read or plan_fleet(workspace, live)
    require_trusted(workspace, plan)
    report_changes_since(workspace, plan, live)
    if not plan.steps and not live.notes:
        _nothing(workspace, plan, form)
        return
    if not yes:
        _confirm(plan, whole=auto)
    try:
        sys.exit(asyncio.run(_carry_out(workspace, plan, form)))
    except asyncio.CancelledError:
        raise click.Abort from None


async def _carry_out(workspace: "Workspace", plan: "Plan", form: "Form") -> int:
    from fleetctl.output import print_outcome, progress_printer
    from runtime.operations.apply import execute_plan, stop_signals

    emit = progress_printer(workspace, plan.id, form)
    with stop_signals() as stop:
        outcome = await execute_plan(workspace, plan, emit, stop=stop, trigger="apply")
    if form == "text":
        print_outcome(outcome)
    return outcome.exit_code


def _read(workspace: "Workspace", file: Path) -> "Plan":
    from plans.documents.plan_file import load
    from runtime.files import read_text
    from runtime.operations.apply import require_applicable

    plan = load(read_text(file))
    require_applicable(workspace, plan, file)
    return plan


def _nothing(workspace: "Workspace", plan: "Plan", form: "Form") -> None:
    """Report that no step is due, and what waits. Takes no lease and records nothing."""
    from plans.render.text import nothing_to_do

    if form == "text":
        click.echo(nothing_to_do(plan), err=True)
        for line in plan.held:
            click.echo(f"Held back: {line}", err=True)
        return
    from fleet.steps import ApplyEvent
    from fleetctl.output import progress_printer

    told = {"result": "converged", "exit_code": 0, "done": 0, "seconds": 0.0}
    progress_printer(workspace, plan.id, form)(ApplyEvent("run_complete", told))


def _confirm(plan: "Plan", *, whole: bool) -> None:
    from plans.render.text import render

    if not plan.steps:
        return
    if whole:
        click.echo(render(plan, colour=sys.stderr.isatty()), err=True, nl=False)
    if not click.confirm(f"Carry out plan {plan.id} ({len(plan.steps)} steps)?", err=True):
        click.echo("Nothing was done.", err=True)
        sys.exit(0)
