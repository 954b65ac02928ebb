"""`fleetctl apply`: carry out a plan, step by step."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fleet.plan import Plan
    from fleet.resources import State
    from fleetctl.progress import Form
    from fleetctl.session import Session


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
def command(session: "Session", *, file: Path | None, auto: bool, yes: bool, form: "Form") -> None:
    """Carry out the plan in FILE, step by step, and verify the result.

    Steps whose precondition changed since the plan was made are skipped, and steps that depend
    on them; the others run. Running the command again is safe. Ctrl-C lets running steps
    finish, a second Ctrl-C stops at once.
    """
    import asyncio

    from fleetctl.scenes import require_believed

    if (file is None) != auto:
        raise click.UsageError("Name a plan file, or pass --auto.")
    read = None if file is None else _read(session, file)
    if not yes and (form == "json" or not sys.stdin.isatty()):
        raise click.UsageError("Not a terminal: pass --yes to apply without confirmation.")
    live = session.observe()
    plan = read or session.plan(live=live)
    require_believed(session, plan)
    _warn_of_changes(plan, live)
    if not plan.steps and not live.notes:
        _nothing(session, plan, form)
        return
    if not yes:
        _confirm(plan, whole=auto)
    try:
        sys.exit(asyncio.run(_carry_out(session, plan, form)))
    except asyncio.CancelledError:
        raise click.Abort from None


async def _carry_out(session: "Session", plan: "Plan", form: "Form") -> int:
    from fleetctl.effects import carry_out, stopping
    from fleetctl.progress import teller
    from fleetctl.report import tell_outcome

    emit = teller(session, plan.id, form)
    with stopping() as stop:
        outcome = await carry_out(session, plan, emit, stop=stop, trigger="apply")
    if form == "text":
        tell_outcome(outcome)
    return outcome.exit_code


def _read(session: "Session", file: Path) -> "Plan":
    from fleet.errors import FleetError, StalePlanError, problem
    from fleet.history import carried_out
    from plans.documents.plan_file import load
    from runtime.files import read_text

    plan = load(read_text(file))
    if plan.fleet != session.fleet().name:
        raise FleetError(
            problem(
                "FC5120",
                "The plan is for another fleet",
                f"`{file}` is a plan for fleet `{plan.fleet}`; this project declares "
                f"`{session.fleet().name}`.",
                hint="Apply it in its own project, or plan here.",
                command="fleetctl plan --out plan.json",
            )
        )
    done = carried_out(session.ledger().read(), plan.id)
    if done is not None:
        raise StalePlanError(
            problem(
                "FC5125",
                "The plan has been carried out before",
                f"Plan {plan.id} was done at {done:%Y-%m-%d %H:%M} UTC, and other plans since.",
                hint="Its review was of an earlier state. Plan again.",
                command="fleetctl plan --out plan.json",
            )
        )
    return plan


def _nothing(session: "Session", plan: "Plan", form: "Form") -> None:
    """Report that no step is due, and what waits. Takes no lease and records nothing."""
    from plans.render.text import nothing_to_do

    if form == "text":
        click.echo(nothing_to_do(plan), err=True)
        for line in plan.held:
            click.echo(f"Held back: {line}", err=True)
        return
    from fleet.steps import ApplyEvent
    from fleetctl.progress import teller

    told = {"result": "converged", "exit_code": 0, "done": 0, "seconds": 0.0}
    teller(session, plan.id, form)(ApplyEvent("run_complete", told))


def _warn_of_changes(plan: "Plan", live: "State") -> None:
    """List resources that changed since the plan; refuse a plan without any step left."""
    from fleet.errors import StalePlanError, problem
    from runtime.execute.run import moved_since

    moved = moved_since(plan, live)
    if not moved:
        return
    listed = "".join(f"\n  {each}" for each in moved)
    if len(moved) == len(plan.changes):
        raise StalePlanError(
            problem(
                "FC5121",
                "The plan is stale",
                f"Everything that plan {plan.id} would change has been changed since:{listed}",
                hint="Plan again.",
                command="fleetctl plan --out plan.json",
            )
        )
    click.echo(
        f"Changed since plan {plan.id} was made; dependent steps will be skipped:{listed}",
        err=True,
    )


def _confirm(plan: "Plan", *, whole: bool) -> None:
    from plans.render.text import render

    if not plan.steps:
        return
    if whole:
        click.echo(render(plan, colour=sys.stderr.isatty()), err=True, nl=False)
    if not click.confirm(f"Carry out plan {plan.id} ({len(plan.steps)} steps)?", err=True):
        click.echo("Nothing was done.", err=True)
        sys.exit(0)
