"""`fleetctl plan`: show what would change. Changes nothing."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetctl.search_options import search_options
from plans.render import RENDERERS

if TYPE_CHECKING:
    from fleet.placement import SearchLimits
    from fleet.plan import Plan
    from fleet.resources import State
    from fleet.spec import FleetSpec
    from fleetctl.session import Session


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
    session: "Session",
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
    from fleet.planning import select
    from fleetctl.selection import criteria, require_known
    from plans.reports.status import gateway_notes

    wanted = criteria(selections)
    if changes and (out or save_live):
        option = "--out" if out else "--save-live"
        raise click.UsageError(f"--what-if writes no file: omit {option}.")
    fleet = session.fleet()
    if changes:
        from fleet.what_if import what_if

        fleet = what_if(fleet, changes)
    live = state(session, live_file)
    for note in (*live.notes, *gateway_notes(live)):
        click.echo(f"Note: {note}", err=True)
    if changes:
        made = supposed(session, fleet, live, changes, search, form)
    else:
        made = session.plan(live=live, search=search)
    require_known(wanted, fleet, made)
    whole, made = made, select(made, wanted)
    if save_live:
        from plans.documents import live_file as livefile
        from runtime.files import write_text

        write_text(save_live, livefile.dump(live))
    text = shown(made, form, every=every)
    if changes:
        from plans.render.sections import compared_cost, marked_what_if

        beside = compared_cost(whole, as_declared(session, live, search))
        text = marked_what_if(text, form, changes, beside)
    click.echo(text, nl=False)
    if out:
        save(session, made, out)
    sys.exit(2 if detailed_exitcode and made.changes else 0)


def supposed(
    session: "Session",
    fleet: "FleetSpec",
    live: "State",
    changes: tuple[str, ...],
    search: "SearchLimits",
    form: str,
) -> "Plan":
    """Return the plan of a changed fleet; where there is none, print the diagnosis and exit."""
    from fleet.errors import PlacementError
    from fleet.what_if import what_if_live

    then = what_if_live(fleet, live)
    try:
        return session.plan(live=then, fleet=fleet, search=search)
    except PlacementError as error:
        from fleetctl.commands.diagnose import diagnosis, shown_as

        click.echo(f"What if: {'; '.join(changes)}. Then the fleet does not fit.", err=True)
        found = diagnosis(session, fleet, then, search, changes)
        click.echo(shown_as(found, "json" if form == "json" else "text"), nl=False)
        sys.exit(error.exit_code)


def as_declared(session: "Session", live: "State", search: "SearchLimits") -> "Plan | None":
    """Return the plan of the declared fleet; None if the fleet does not fit."""
    from fleet.errors import PlacementError

    try:
        return session.plan(live=live, search=search)
    except PlacementError:
        return None


def state(session: "Session", live_file: Path | None) -> "State":
    """Return the live state from a file, or observed now."""
    if live_file:
        from plans.documents import live_file as livefile
        from runtime.files import read_text

        return livefile.load(read_text(live_file))
    from fleetctl.patience import waiting

    with waiting("Observing the servers…"):
        return session.observe()


def shown(plan: "Plan", form: str, *, every: bool) -> str:
    """Return the plan in a format; text is coloured on a terminal."""
    if form == "text":
        from plans.render.text import render

        return render(plan, colour=sys.stdout.isatty(), every=every)
    return RENDERERS[form](plan)


def save(session: "Session", plan: "Plan", out: Path) -> None:
    """Write the plan file and say how to apply it."""
    from fleetctl import __version__
    from plans.documents.plan_file import Envelope, dump
    from runtime.files import write_text
    from runtime.project.git import commit_of

    created = session.now().isoformat(timespec="seconds")
    envelope = Envelope(created, session.by, commit_of(session.root), __version__)
    write_text(out, dump(plan, envelope))
    where = "" if session.root == Path() else f"-C {session.root} "
    click.echo(f"Wrote {out}. To carry it out: fleetctl {where}apply {out}", err=True)
