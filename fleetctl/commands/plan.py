"""`fleetctl plan`: show what would change. Changes nothing."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetctl.options import search_options
from plans.render import RENDERERS

if TYPE_CHECKING:
    from fleet.placement import SearchLimits
    from fleet.plan import Plan
    from fleet.planning import TargetPattern
    from fleet.resources import State
    from fleet.spec import FleetSpec
    from runtime.workspace import Workspace


@click.command(
    epilog="""\b
Examples:
  fleetctl plan
  fleetctl plan --out plan.json
  fleetctl plan --format md --select client=acme
  fleetctl plan --detailed-exitcode
  fleetctl plan --max-moves 20
  fleetctl plan --repack --effort balanced
  fleetctl plan --what-if 'gpu h100_80g +1' --what-if 'client acme x3'

\b
What --what-if takes (a name may be shortened as long as it is the only one):
  gpu KIND +N [at PRICE] | gpu KIND -N | host NAME gone
  client NAME xFACTOR | client NAME gone | clients +N
  adapter ALIAS xFACTOR | adapter ALIAS rank N | adapter ALIAS replicas N
  adapter ALIAS gone | base NAME max_loras N | base NAME max_lora_rank N
  base NAME tensor_parallel N | utilization N% | canary_slots N
"""
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the plan file for `fleetctl apply`.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(sorted(RENDERERS)),
    default="text",
    help="Output format (default: text).",
)
@click.option("--detailed-exitcode", is_flag=True, help="Exit 2 when changes are due.")
@click.option(
    "--live",
    "live_file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Use this live-state file instead of observing the servers.",
)
@click.option(
    "--save-live",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the observed state to a file for --live.",
)
@click.option(
    "--select",
    "selections",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Only changes of client=NAME, adapter=ALIAS or server=NAME, and those they need; "
    "repeatable.",
)
@click.option(
    "--what-if",
    "changes",
    multiple=True,
    metavar="CHANGE",
    help="Plan a changed fleet, such as 'gpu h100_80g +1'; never applied; repeatable.",
)
@search_options
@click.option("--all", "every", is_flag=True, help="List every change.")
@click.pass_obj
def command(
    workspace: "Workspace",
    *,
    out: Path | None,
    form: str,
    detailed_exitcode: bool,
    live_file: Path | None,
    save_live: Path | None,
    selections: tuple[str, ...],
    changes: tuple[str, ...],
    search: "SearchLimits",
    every: bool,
) -> None:
    """Show what would change. Changes nothing."""
    from fleet.planning import require_known_targets, select
    from fleetctl.live_state import live_state
    from plans.reports.status import gateway_notes
    from runtime.operations.planning import plan_fleet

    wanted = _criteria(selections)
    if changes and (out or save_live):
        option = "--out" if out else "--save-live"
        raise click.UsageError(f"--what-if writes no file: omit {option}.")
    fleet = workspace.fleet()
    if changes:
        from fleet.what_if import what_if

        fleet = what_if(fleet, changes)
    live = live_state(workspace, live_file)
    for note in (*live.notes, *gateway_notes(live)):
        click.echo(f"Note: {note}", err=True)
    if changes:
        made = _plan_changed(workspace, fleet, live, changes, search, form)
    else:
        made = plan_fleet(workspace, live, search=search)
    require_known_targets(wanted, fleet, made)
    whole, made = made, select(made, wanted)
    if save_live:
        from plans.documents import live_file as livefile
        from runtime.files import write_text

        write_text(save_live, livefile.dump(live))
    text = shown(made, form, every=every)
    if changes:
        from plans.render.sections import compared_cost, marked_what_if
        from runtime.operations.planning import plan_declared

        beside = compared_cost(whole, plan_declared(workspace, live, search))
        text = marked_what_if(text, form, changes, beside)
    click.echo(text, nl=False)
    if out:
        save(workspace, made, out)
    sys.exit(2 if detailed_exitcode and made.changes else 0)


def _criteria(texts: Sequence[str]) -> "tuple[TargetPattern, ...]":
    """Read `--select` options.

    Raises:
        click.UsageError: an option is not of the form FIELD=VALUE.
    """
    from fleet.errors import FleetError
    from fleet.planning import parse_criteria
    from plans.amounts import capitalized

    try:
        return parse_criteria(texts)
    except FleetError as error:
        problems = (f"{found.detail} {capitalized(found.hint)}" for found in error.diagnostics)
        raise click.UsageError(f"--select: {' '.join(problems)}") from None


def _plan_changed(
    workspace: "Workspace",
    fleet: "FleetSpec",
    live: "State",
    changes: tuple[str, ...],
    search: "SearchLimits",
    form: str,
) -> "Plan":
    """Return the plan of a changed fleet; where there is none, print the diagnosis and exit."""
    from fleet.errors import PlacementError
    from fleet.what_if import what_if_live
    from fleetctl.output import waiting
    from plans.explain.diagnosis import render_json, render_text
    from runtime.operations.planning import diagnose_fleet, plan_fleet

    then = what_if_live(fleet, live)
    try:
        return plan_fleet(workspace, then, fleet, search)
    except PlacementError as error:
        click.echo(f"What if: {'; '.join(changes)}. Then the fleet does not fit.", err=True)
        with waiting("Planning with changes that might help…"):
            found = diagnose_fleet(workspace, fleet, then, search, changes)
        click.echo(render_json(found) if form == "json" else render_text(found), nl=False)
        sys.exit(error.exit_code)


def shown(plan: "Plan", form: str, *, every: bool) -> str:
    """Return the plan in a format; text is coloured on a terminal."""
    if form == "text":
        from plans.render.text import render

        return render(plan, colour=sys.stdout.isatty(), every=every)
    return RENDERERS[form](plan)


def save(workspace: "Workspace", plan: "Plan", out: Path) -> None:
    """Write the plan file and say how to apply it."""
    from fleet import __version__
    from plans.documents.plan_file import Envelope, dump
    from runtime.files import write_text
    from runtime.project.facts import commit_of

    created = workspace.now().isoformat(timespec="seconds")
    envelope = Envelope(created, workspace.by, commit_of(workspace.root), __version__)
    write_text(out, dump(plan, envelope))
    where = "" if workspace.root == Path() else f"-C {workspace.root} "
    click.echo(f"Wrote {out}. To carry it out: fleetctl {where}apply {out}", err=True)
