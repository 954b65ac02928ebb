"""`fleetctl rollout`: show, hold, pause, approve, advance, extend or abort rollouts."""

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetctl import completion
from fleetctl.options import duration, moment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from runtime.operations.rollouts import MarkedRollout
    from runtime.workspace import Workspace

_FORMAT = click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")
_REASON = click.option("--reason", default="", metavar="TEXT", help="Reason, for the ledger.")


def _mark_options(function: "Callable[..., None]") -> "Callable[..., None]":
    """Add what every mark takes: the alias, a reason, the format of the record."""
    alias = click.argument("alias", shell_complete=completion.aliases)
    return alias(_REASON(_FORMAT(click.pass_obj(function))))


@click.group(
    name="rollout",
    no_args_is_help=True,
    epilog="""\b
Examples:
  fleetctl rollout list
  fleetctl rollout status acme-support
  fleetctl rollout pause acme-support --for 4h --reason "the client has a launch"
  fleetctl rollout approve acme-support --reason "checked 50 answers by hand"
  fleetctl rollout report acme-support --format html --out report.html
""",
)
def command() -> None:
    """Show rollouts; hold, pause, approve, advance, extend or abort one.

    Marks are written to the ledger and hold for the declared version; the next apply or
    reconcile acts on them.
    """


@command.command(
    "list",
    epilog="""\b
Examples:
  fleetctl rollout list
  fleetctl rollout list --all --format json
""",
)
@click.option("--all", "every", is_flag=True, help="Include aliases without a rollout.")
@_FORMAT
@click.pass_obj
def list_(workspace: "Workspace", *, every: bool, form: str) -> None:
    """List rollouts in progress or waiting, with their gates."""
    from plans.reports.rollouts import active, document, render_list
    from runtime.operations.rollouts import rollout_documents

    found = rollout_documents(workspace, document)
    shown = found if every else active(found)
    click.echo(json.dumps(shown, indent=2) if form == "json" else render_list(shown), nl=False)
    if form == "json":
        click.echo()


@command.command(
    "status",
    epilog="""\b
Examples:
  fleetctl rollout status acme-support
  fleetctl rollout status acme-support --format json
""",
)
@click.argument("alias", shell_complete=completion.aliases)
@_FORMAT
@click.pass_obj
def status(workspace: "Workspace", alias: str, form: str) -> None:
    """Show one rollout in full: stage, gates with reasons, conditions not met."""
    from plans.reports.rollouts import document, render_one
    from runtime.operations.rollouts import rollout_document

    found = rollout_document(workspace, document, alias)
    if form == "json":
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(render_one(found, workspace.now()), nl=False)


@command.command("hold", epilog="\b\nExamples:\n  fleetctl rollout hold acme-support")
@_mark_options
def hold(workspace: "Workspace", alias: str, reason: str, form: str) -> None:
    """Keep the version at its share until `resume`. A gate that fails still rolls back."""
    then = f"stays where it is; to let it go on: fleetctl rollout resume {alias}"
    _mark(workspace, alias, "hold", reason, form, then)


@command.command(
    "pause",
    epilog="""\b
Examples:
  fleetctl rollout pause acme-support --for 4h --reason "the client has a launch"
  fleetctl rollout pause acme-support --until 2026-12-01T08:00Z
  fleetctl rollout pause acme-support --until "2026-12-01 09:00+01:00" --format json
""",
)
@click.argument("alias", shell_complete=completion.aliases)
@click.option(
    "--for", "length", metavar="DURATION", callback=duration, help="Duration, such as 4h or 3d."
)
@click.option(
    "--until", metavar="TIME", callback=moment, help="Time in ISO 8601; UTC without a zone."
)
@_REASON
@_FORMAT
@click.pass_obj
def pause(
    workspace: "Workspace",
    alias: str,
    length: timedelta | None,
    until: datetime | None,
    reason: str,
    form: str,
) -> None:
    """Let no stage advance for a while; the pause ends by time, or with `resume`.

    Gates are judged meanwhile, and a gate that fails still rolls back. A later pause replaces an
    earlier one. To wait for a person, use `hold`.
    """
    from plans.reports.rollouts import document
    from runtime.operations.rollouts import pause_rollout

    if (length is None) == (until is None):
        raise click.UsageError("Pass --for DURATION or --until TIME.")
    marked = pause_rollout(workspace, document, alias, length, until, reason)
    _print_mark(workspace, marked, form)


@command.command("resume", epilog="\b\nExamples:\n  fleetctl rollout resume acme-support")
@_mark_options
def resume(workspace: "Workspace", alias: str, reason: str, form: str) -> None:
    """Lift a hold, and end a pause."""
    _mark(workspace, alias, "resume", reason, form, "goes on when its stage allows")


@command.command("approve", epilog="\b\nExamples:\n  fleetctl rollout approve acme-support")
@_mark_options
def approve(workspace: "Workspace", alias: str, reason: str, form: str) -> None:
    """Let the version leave this stage, after its bake, with inconclusive gates.

    A gate that failed is not inconclusive: declare an override for that.
    """
    _mark(workspace, alias, "approve", reason, form, "leaves this stage when it has baked")


@command.command("extend", epilog="\b\nExamples:\n  fleetctl rollout extend acme-support")
@_mark_options
def extend(workspace: "Workspace", alias: str, reason: str, form: str) -> None:
    """Give inconclusive gates of this stage its longest bake again, from now."""
    from fleet.errors import FleetError, problem
    from plans.reports.rollouts import document
    from runtime.operations.rollouts import rollout_document

    found = rollout_document(workspace, document, alias)
    if not found["percent"]:
        raise FleetError(
            problem(
                "FC5137",
                "There is no stage to extend",
                f"{found['version']} of `{alias}` has no traffic yet, and a golden set says the "
                "same tomorrow.",
                hint="Start the rollout regardless, or abort it:",
                command=f"fleetctl rollout approve {alias}",
            )
        )
    _mark(workspace, alias, "extend", reason, form, "has as much time again")


@command.command(
    "advance",
    epilog="""\b
Examples:
  fleetctl rollout advance acme-support --reason "the old version gives wrong prices"
""",
)
@click.argument("alias", shell_complete=completion.aliases)
@click.option("--reason", required=True, metavar="TEXT", help="Reason, for the ledger.")
@_FORMAT
@click.pass_obj
def advance(workspace: "Workspace", alias: str, reason: str, form: str) -> None:
    """Send the version to its next stage now, before bake and inconclusive gates end."""
    _mark(workspace, alias, "advance", reason, form, "goes on with the next apply or reconcile")


@command.command(
    "abort",
    epilog="""\b
Examples:
  fleetctl rollout abort acme-support --reason "client asked to wait"
""",
)
@_mark_options
def abort(workspace: "Workspace", alias: str, reason: str, form: str) -> None:
    """End the rollout: the previous version gets all traffic, now.

    Ends the version in progress, also if the declarations name another version by now, and
    after the cut-over while the previous version is loaded (`soaking`). A version that is still
    declared gets no traffic until `fleetctl release ALIAS`.
    """
    import asyncio

    found = _mark(workspace, alias, "abort", reason, form, "gets no more traffic")
    if not found["percent"]:
        return
    sys.exit(asyncio.run(_back(workspace, alias, reason, found["adapter"], form)))


async def _back(workspace: "Workspace", alias: str, reason: str, adapter: str, form: str) -> int:
    from runtime.operations.rollback import notify_rollback, roll_back
    from runtime.rollback.rollback import RollbackRequest

    request = RollbackRequest(alias, reason=reason or "aborted", only=adapter)
    result = await roll_back(workspace, request)
    for line in (*result.warnings, *result.failures):
        click.echo(f"Warning: {line}", err=True)
    click.echo(result.sentence, err=form == "json")
    for line in await notify_rollback(workspace, result):
        click.echo(f"Warning: {line}", err=True)
    return 0 if result.complete else 1


def _mark(
    workspace: "Workspace", alias: str, word: str, reason: str, form: str, then: str
) -> "Mapping[str, Any]":
    """Write down a mark, print it, and return the document of the rollout before."""
    from plans.reports.rollouts import document
    from runtime.operations.rollouts import mark_rollout

    marked = mark_rollout(workspace, document, alias, word, reason, then)
    _print_mark(workspace, marked, form)
    return marked.rollout


def _print_mark(workspace: "Workspace", marked: "MarkedRollout", form: str) -> None:
    if form == "json":
        click.echo(json.dumps({**marked.record, "by": workspace.by}, indent=2))
    for line in marked.lines:
        click.echo(line, err=True)


@command.command(
    "report",
    epilog="""\b
Examples:
  fleetctl rollout report acme-support
  fleetctl rollout report acme-support --version 2.2.0 --format html --out report.html
""",
)
@click.argument("alias", shell_complete=completion.aliases)
@click.option(
    "--version",
    metavar="X.Y.Z",
    shell_complete=completion.numbers,
    help="(default: the version tried last)",
)
@click.option("--format", "form", type=click.Choice(["html", "json", "md"]), default="md")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write.")
@click.pass_obj
def report(
    workspace: "Workspace", alias: str, version: str | None, form: str, out: Path | None
) -> None:
    """Write a report for the client: versions, measurements and decisions of a rollout.

    Made from the ledger alone. Names no server, no person and no other client.
    """
    from plans.reports.client_report import document, render_html, render_markdown
    from runtime.files import write_text
    from runtime.operations.rollouts import last_tried

    entries = workspace.ledger().read()
    adapter = last_tried(entries, alias, version)
    made = document(entries, alias, adapter, workspace.now())
    text = (
        json.dumps(made, indent=2) + "\n"
        if form == "json"
        else render_html(made)
        if form == "html"
        else render_markdown(made)
    )
    if out is None:
        click.echo(text, nl=False)
    else:
        write_text(out, text)
