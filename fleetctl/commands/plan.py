"""`fleetctl plan`, `show`, `graph`: make a plan, print it, draw its steps."""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from fleet.errors import FleetError, PlacementError
from fleetctl.options import (
    INPUT_FILE,
    OUTPUT_FILE,
    Call,
    Command,
    Workspace,
    choice_option,
    live_option,
    search_options,
    without_broken_option,
)
from fleetctl.output import has_colour, print_lines, print_preflight, waiting
from plans.render import ALL_FORMATS
from plans.tables import capitalized

if TYPE_CHECKING:
    from fleet.placement import SearchLimits
    from fleet.plan import Plan
    from fleet.planning import TargetPattern
    from fleet.resources import State
    from fleet.spec import FleetSpec

_plan_format = choice_option("text", *ALL_FORMATS)
_all_option = click.option("--all", "every", is_flag=True, help="List every change.")


@click.command(cls=Command)
@click.option("--out", type=OUTPUT_FILE, help="Write the plan file for `fleetctl apply`.")
@_plan_format
@click.option("--detailed-exitcode", is_flag=True, help="Exit 2 when changes are due.")
@live_option
@click.option("--save-live", type=OUTPUT_FILE, help="Write the observed state for --live.")
@click.option(
    "--offline/--online",
    default=None,
    help="Open no connection and read no secret; live is --live, or unknown. The default for the "
    "branch of a fork in CI.",
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
@without_broken_option
@_all_option
@click.pass_obj
def plan(
    workspace: Workspace,
    /,
    *,
    out: Path | None,
    form: str,
    detailed_exitcode: bool,
    live_file: Path | None,
    save_live: Path | None,
    offline: bool | None,
    selections: tuple[str, ...],
    changes: tuple[str, ...],
    every: bool,
    **limits: Any,
) -> None:
    """Show the changes that are due. Changes nothing.

    Examples:
      fleetctl plan
      fleetctl plan --out plan.json
      fleetctl plan --format md --select client=acme
      fleetctl plan --offline --live live.json
      fleetctl plan --repack --effort balanced
      fleetctl plan --what-if 'gpu h100_80g +1' --what-if 'client acme x3'

    Changes of --what-if (a name may be shortened while unique):
      gpu KIND +N [at PRICE] | gpu KIND -N | host NAME gone
      client NAME xFACTOR | client NAME gone | clients +N
      adapter ALIAS xFACTOR | adapter ALIAS rank N | adapter ALIAS replicas N
      adapter ALIAS gone | base NAME max_loras N | base NAME max_lora_rank N
      base NAME tensor_parallel N | utilization N% | canary_slots N
    """
    from fleet.placement import SearchLimits
    from plans.render.what_if import marked_what_if
    from runtime.operations.change.planning import (
        UNRECORDED,
        is_unrecorded,
        plan_declared,
        way_on_told,
    )
    from runtime.operations.change.reviewed import exit_code

    targets = _criteria(selections)
    if changes and (out or save_live):
        option = "--out" if out else "--save-live"
        raise click.UsageError(f"--what-if writes no file: omit {option}.")
    if offline is not None:
        workspace.offline = "" if offline else None
    if save_live and workspace.offline is not None:
        raise click.UsageError("--save-live writes an observed state: pass --online.")
    search = SearchLimits(**limits)
    with _failure_told(workspace, form), way_on_told(workspace):
        live, whole = _planned(workspace, live_file, changes, search, targets, form)
        selected = _selected(workspace, whole, targets)
    if is_unrecorded(workspace.ledger):
        print_lines((UNRECORDED,), "Note")
    if save_live:
        _save_live(workspace, live, save_live)
    text = _rendered(selected, form, every=every)
    if changes:
        declared = plan_declared(workspace, live, search)
        text = marked_what_if(text, form, changes, whole, declared)
    click.echo(text, nl=False)
    if not changes:
        _keep(workspace, selected, out)
    due = 2 if detailed_exitcode and (selected.changes or selected.settings) else 0
    sys.exit(exit_code(selected, due))


def _planned(
    workspace: Workspace,
    live_file: Path | None,
    changes: tuple[str, ...],
    search: "SearchLimits",
    targets: "tuple[TargetPattern, ...]",
    form: str,
) -> "tuple[State, Plan]":
    """Return the live state, and the plan of the declared fleet, or of the fleet with `changes`.

    Raises:
        FleetError: there is no such plan, or a target is in none of the two.
    """
    from fleet.advice import what_if
    from fleet.planning import require_known_targets
    from fleetctl.commands.placement import live_state
    from plans.reports.status import fault_notes
    from runtime.operations.change.adopt import known_part
    from runtime.operations.change.planning import plan_fleet

    live = live_state(workspace, live_file)  # first: a file names hosts that left the fleet
    fleet = what_if(workspace.project.fleet(), changes) if changes else workspace.project.fleet()
    print_lines((*live.notes, *fault_notes(live)), "Note")
    if not live_file:
        live = known_part(workspace, live)
    if changes:
        plan = _plan_changed(workspace, fleet, live, changes, search, form)
    else:
        plan = plan_fleet(workspace, live, search=search)
    require_known_targets(targets, fleet, plan)
    return live, plan


def _selected(workspace: Workspace, whole: "Plan", targets: "tuple[TargetPattern, ...]") -> "Plan":
    """Return the part of a plan that is selected, with the rules that decide about the part."""
    from fleet.planning import require_kept, select
    from runtime.operations.change.reviewed import with_rules

    selected = with_rules(workspace, select(whole, targets))
    require_kept(selected, workspace.project.fleet(), workspace.ledger.history())
    return selected


def _save_live(workspace: Workspace, live: "State", file: Path) -> None:
    from plans.documents.live_file import KnownPast, dump
    from runtime.files import write_text

    past = KnownPast(workspace.ledger.history(), workspace.project.known_hosts())
    write_text(file, dump(live, past))


@contextmanager
def _failure_told(call: Call, form: str) -> Iterator[None]:
    """Print a document of the format where there is no plan, beside the error as for people."""
    from plans.render.markdown import RENDERERS as FAILURES

    try:
        yield
    except FleetError as error:
        if form in FAILURES:
            click.echo(FAILURES[form](_name(call), error.diagnostics), nl=False)
        raise


def _name(call: Call) -> str:
    """Return the fleet's name even where its declarations are broken; empty: not known."""
    from runtime.files import read_plain

    with suppress(OSError, ValueError):
        text = read_plain(call.root / "fleet.yaml").decode()
        if found := re.search(r"^fleet: *([a-z][a-z0-9_-]*) *$", text, re.MULTILINE):
            return found[1]
    return ""


def _criteria(texts: Sequence[str]) -> "tuple[TargetPattern, ...]":
    from fleet.planning import parse_criteria

    try:
        return parse_criteria(texts)
    except FleetError as error:
        texts = [f"{problem.detail} {capitalized(problem.hint)}" for problem in error.diagnostics]
        raise click.UsageError(f"--select: {' '.join(texts)}") from None


def _plan_changed(
    workspace: Workspace,
    fleet: "FleetSpec",
    live: "State",
    changes: tuple[str, ...],
    search: "SearchLimits",
    form: str,
) -> "Plan":
    """Return the plan of a changed fleet; if there is none, print the diagnosis and exit."""
    from fleet.advice import what_if_live
    from plans.explain.diagnosis import render_json, render_text
    from runtime.operations.change.planning import diagnose_fleet, plan_fleet

    then = what_if_live(fleet, live)
    try:
        return plan_fleet(workspace, then, fleet, search)
    except PlacementError as error:
        click.echo(f"What if: {'; '.join(changes)}. Then the fleet does not fit.", err=True)
        with waiting("Planning with changes that might help…"):
            diagnosis = diagnose_fleet(workspace, fleet, then, search, changes)
        click.echo(render_json(diagnosis) if form == "json" else render_text(diagnosis), nl=False)
        sys.exit(error.exit_code)


def _rendered(plan: "Plan", form: str, *, every: bool) -> str:
    """Return the plan in a format; text is coloured on a terminal."""
    if form == "text":
        from plans.render.text import render

        return render(plan, colour=has_colour(sys.stdout), every=every)
    return ALL_FORMATS[form](plan)


def _keep(workspace: Workspace, plan: "Plan", out: Path | None) -> None:
    """Print a plan's objections before an apply; save the plan, if a file is named.

    What `apply` or `approve` are to know again is remembered.
    """
    from fleet import __version__
    from fleet.consent import decisions_due
    from plans.documents.plan_file import Envelope, dump
    from runtime.files import write_text
    from runtime.git import commit_of
    from runtime.operations.change.apply import check_plan
    from runtime.operations.change.reviewed import keep_plan

    print_preflight(*check_plan(workspace, plan))
    if out or decisions_due(plan):
        keep_plan(workspace, plan)
    if not out:
        return
    created = workspace.now().isoformat(timespec="seconds")
    envelope = Envelope(created, workspace.by, commit_of(workspace.root), __version__)
    write_text(out, dump(plan, envelope))
    click.echo(f"Wrote {out}. To carry it out: fleetctl apply {quote(str(out))}", err=True)


@click.command(cls=Command)
@click.argument("file", type=INPUT_FILE)
@_plan_format
@_all_option
@click.pass_obj
def show(call: Call, file: Path, form: str, every: bool) -> None:
    """Print a saved plan, as its file says. `apply` compares the file with the declarations.

    Examples:
      fleetctl show plan.json
      fleetctl show plan.json --format md
      fleetctl show plan.json --format html > plan.html
    """
    click.echo(_rendered(_saved_plan(call, file), form, every=every), nl=False)


def _saved_plan(call: Call, file: Path) -> "Plan":
    """Return the plan of a file; say which of it is the file's word alone."""
    from plans.documents.plan_file import load_with_envelope
    from runtime.files import read_text
    from runtime.operations.change.reviewed import is_kept

    plan, made = load_with_envelope(read_text(file))
    note = "shown is what the file says; this state folder did not make the plan"
    if is_kept(call, plan):
        note = "this state folder made this plan"
    if made is not None:
        commit = f" from commit {made.commit}" if made.commit else ""
        click.echo(f"Made {made.created_at} by {made.by}{commit}, as the file says.", err=True)
    print_lines((f"{note}. `apply` compares it with the declarations first.",), "Note")
    return plan


@click.command(cls=Command)
@click.option(
    "--plan", "plan_file", type=INPUT_FILE, help="Saved plan to draw (default: a new plan)."
)
@choice_option("dot", "json", "mermaid", help="dot is the language of Graphviz.")
@click.pass_obj
def graph(workspace: Workspace, plan_file: Path | None, form: str) -> None:
    """Print the steps of a plan as a graph; each lane runs its steps in order.

    Examples:
      fleetctl graph --format mermaid
      fleetctl graph | dot -Tsvg > steps.svg
      fleetctl graph --plan plan.json --format json
    """
    from fleetctl.commands.placement import live_state
    from plans.render.graph import FORMATS
    from runtime.operations.change.adopt import known_part
    from runtime.operations.change.planning import plan_fleet

    if plan_file:
        plan = _saved_plan(workspace, plan_file)
    else:
        plan = plan_fleet(workspace, known_part(workspace, live_state(workspace, None)))
    click.echo(FORMATS[form](plan), nl=False)
