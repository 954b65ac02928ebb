"""`fleetctl gc`: delete unused adapter versions, served copies and old answers."""

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from fleetctl.options import Command, Workspace, with_format
from plans.tables import counted

if TYPE_CHECKING:
    from runtime.operations.state.collect import Garbage


@click.command(cls=Command)
@click.option(
    "--dry-run", is_flag=True, help="Show deletions with reasons, and reasons to keep the rest."
)
@click.option("--yes", is_flag=True, help="Delete without confirmation.")
@with_format
def command(workspace: Workspace, *, dry_run: bool, yes: bool, form: str) -> None:
    """Delete unused adapter versions, served copies and old evaluation answers.

    Kept are declared and newer versions, versions with traffic or loaded on a server, and at
    least 3 earlier versions for a rollback. Nothing is unloaded, and nothing is deleted while
    a server does not answer.

    Examples:
      fleetctl gc --dry-run
      fleetctl gc --yes
      fleetctl gc --dry-run --format json
    """
    from runtime.operations.state.collect import delete_garbage, find_garbage, garbage_sizes

    if not (dry_run or yes) and (form == "json" or not sys.stdin.isatty()):
        text = "Not a terminal: pass --yes to delete without confirmation, or --dry-run."
        raise click.UsageError(text)
    garbage = find_garbage(workspace)
    sizes, due = garbage_sizes(workspace, garbage), garbage.due
    if form == "text":
        _print(garbage, sizes, all_of_it=dry_run)
    if not dry_run and due:
        if not yes and not click.confirm(f"Delete {_counted(garbage)} for ever?", err=True):
            click.echo("Nothing was deleted.", err=True)
            return
        delete_garbage(workspace, garbage)
    if form == "json":
        click.echo(json.dumps(_document(garbage, sizes, deleted=not dry_run), indent=2))
    elif not dry_run and due:
        freed = sum(sizes[decision.name] for decision in due)
        click.echo(f"Deleted {_counted(garbage)}, {freed / 2**20:.1f} MiB.")
        if any(not version.needed for version in garbage.versions):
            click.echo("fleet.lock has changed: commit it.", err=True)


def _print(garbage: "Garbage", sizes: dict[str, int], *, all_of_it: bool) -> None:
    for title, group in (
        ("version", garbage.versions),
        ("served copy", garbage.copies),
        ("copy on", garbage.host_copies),
    ):
        for decision in group:
            if all_of_it or not decision.needed:
                name = decision.name
                if title != "version":
                    host, colon, copy = name.rpartition(":")
                    name = f"{host}{colon}{copy[:12]}"
                _print_line(decision.needed, f"{title} {name}", sizes[decision.name], decision.why)
    _print_answers(garbage, sizes, all_of_it=all_of_it)
    if not garbage.due:
        click.echo("Nothing to delete.", err=True)


def _print_answers(garbage: "Garbage", sizes: dict[str, int], *, all_of_it: bool) -> None:
    """Print the number of evaluations by reason: there may be thousands."""
    groups: dict[tuple[bool, str], list[str]] = {}
    for run in garbage.answers:
        groups.setdefault((run.needed, run.why), []).append(run.name)
    for (needed, why), names in groups.items():
        if all_of_it or not needed:
            size = sum(sizes[name] for name in names)
            _print_line(needed, f"answers of {counted(len(names), 'evaluation')}", size, why)


def _print_line(needed: bool, subject: str, size: int, why: str) -> None:
    click.echo(f"{'stays' if needed else 'goes '}  {subject}  {size / 1024:8.0f} KiB  {why}")


def _counted(garbage: "Garbage") -> str:

    versions, copies, runs = (
        sum(not decision.needed for decision in group)
        for group in (garbage.versions, (*garbage.copies, *garbage.host_copies), garbage.answers)
    )
    served = "served copy" if copies == 1 else "served copies"
    answers = f"the answers of {counted(runs, 'evaluation')}" if runs else ""
    if not versions and not copies:
        return answers
    return f"{counted(versions, 'version')} and {copies} {served}{answers and f' and {answers}'}"


def _document(garbage: "Garbage", sizes: dict[str, int], *, deleted: bool) -> dict[str, Any]:
    rows = {
        key: [{**asdict(decision), "bytes": sizes[decision.name]} for decision in group]
        for key, group in (
            ("versions", garbage.versions),
            ("copies", garbage.copies),
            ("evaluations", garbage.answers),
            ("host_copies", garbage.host_copies),
        )
    }
    return {"format": "fleetctl-gc", "format_version": "1.0", "deleted": deleted, **rows}
