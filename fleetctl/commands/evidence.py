"""`fleetctl evidence`: show and re-check the verdicts of gates."""

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from fleetctl import completion

if TYPE_CHECKING:
    from fleet.history import Entry
    from runtime.workspace import Workspace

_FORMAT = click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")
_VERDICTS = click.Choice(["PASS", "FAIL", "INCONCLUSIVE"], case_sensitive=False)


@click.group(
    name="evidence",
    no_args_is_help=True,
    epilog="""\b
Examples:
  fleetctl evidence list acme-support
  fleetctl evidence show 42
  fleetctl evidence verify
""",
)
def command() -> None:
    """Show the verdicts of gates and check them.

    The ledger holds each verdict with the counts that the verdict follows from, chained by
    hashes to every entry before.
    """


@command.command(
    "list",
    epilog="""\b
Examples:
  fleetctl evidence list
  fleetctl evidence list acme-support --verdict FAIL
  fleetctl evidence list --format json
""",
)
@click.argument(
    "alias",
    required=False,
    default="",
    metavar="[ALIAS|VERSION]",
    shell_complete=completion.targets,
)
@click.option("--verdict", type=_VERDICTS, help="Only this verdict.")
@click.option(
    "--limit", type=click.IntRange(0), default=50, help="Number of entries (default: 50)."
)
@_FORMAT
@click.pass_obj
def list_(workspace: "Workspace", alias: str, verdict: str | None, limit: int, form: str) -> None:
    """List verdicts of gates, oldest first. json: one per line."""
    from plans.reports.evidence import chosen, document, render_list

    found = chosen(
        workspace.ledger().read(), alias=alias, verdict=(verdict or "").upper(), limit=limit
    )
    if form == "json":
        for each in found:
            click.echo(json.dumps(document(each), sort_keys=True))
    else:
        click.echo(render_list(found), nl=False)


@command.command(
    "show",
    epilog="""\b
Examples:
  fleetctl evidence show 42
  fleetctl evidence show 42 --format json
""",
)
@click.argument("number", type=click.IntRange(1), metavar="ENTRY")
@_FORMAT
@click.pass_obj
def show(workspace: "Workspace", number: int, form: str) -> None:
    """Show one verdict in full: figures, limits, counts, bytes."""
    from fleet.errors import FleetError, problem
    from fleet.history import GateJudged
    from plans.reports.evidence import document, render_one

    found = [entry for entry in workspace.ledger().read() if entry.seq == number]
    event = found[0].event if found else None
    if not isinstance(event, GateJudged):
        raise FleetError(
            problem(
                "FC5131",
                "No such evidence",
                f"Entry {number} of the ledger is no verdict of a gate.",
                command="fleetctl evidence list",
            )
        )
    if form == "json":
        click.echo(json.dumps(document(found[0]), sort_keys=True, indent=2))
    else:
        click.echo(render_one(found[0], event), nl=False)


@command.command(
    "verify",
    epilog="""\b
Examples:
  fleetctl evidence verify
  fleetctl evidence verify --head 5f0c…        # a hash that was kept elsewhere
  fleetctl evidence verify --format json
""",
)
@click.option("--head", metavar="HASH", help="Hash of an entry that must be in the chain.")
@_FORMAT
@click.pass_obj
def verify(workspace: "Workspace", head: str | None, form: str) -> None:
    """Check the ledger's hash chain and compute every verdict again. Exit 1 on a difference.

    Needs the ledger alone. A writer of the ledger can rewrite all of it: keep the last hash
    elsewhere, and pass that hash as --head.
    """
    from fleet.history import check_evidence
    from plans.reports.evidence import render_checks
    from runtime.gates.evidence import changed_runs

    entries = workspace.ledger().read()
    checks = list(check_evidence(entries))
    wrong = [each for each in checks if each.differs]
    runs = dict(changed_runs(entries, workspace.state_dir))
    lost = head is not None and not any(each.hash.startswith(head) for each in entries if head)
    lacking = workspace.replica.lacking(entries)
    good = not (wrong or runs or lost or lacking)
    if form == "json":
        click.echo(
            json.dumps(
                {
                    **_document(entries, wrong, runs, len(checks), lost=lost),
                    "lacking": {str(path): known for path, known in lacking.items()},
                },
                indent=2,
            )
        )
        sys.exit(0 if good else 1)
    click.echo(render_checks(checks), nl=False)
    for run, text in runs.items():
        click.echo(f"Evaluation {run}: {text}.")
    if lost:
        click.echo(f"No entry has the hash {head}: the ledger was replaced or truncated.")
    for path, known in lacking.items():
        click.echo(
            f"The ledger has {len(entries)} entries and lacks some of the {known} that were once "
            f"read of it and are kept in {path}: put them back, or delete that file if you know "
            "why they are gone."
        )
    if good:
        last = f", the last one {entries[-1].hash}" if entries else ""
        click.echo(
            f"{_follow(len(checks))}; {len(entries)} {'entry' if len(entries) == 1 else 'entries'} "
            f"in one unbroken chain{last}."
        )
    sys.exit(0 if good else 1)


def _follow(verdicts: int) -> str:
    if verdicts == 1:
        return "1 verdict follows from its counts"
    return f"{verdicts} verdicts follow from their counts"


def _document(
    entries: "list[Entry]", wrong: list[Any], runs: dict[str, str], verdicts: int, *, lost: bool
) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "format": "fleetctl-evidence-check",
        "format_version": "1.0",
        "entries": len(entries),
        "head": entries[-1].hash if entries else None,
        "head_lost": lost,
        "verdicts": verdicts,
        "wrong": [asdict(each) for each in wrong],
        "changed_evaluations": runs,
    }
