"""`fleetctl retrain`: list adapters due for retraining, claim one, train it."""

import json
import sys
from typing import TYPE_CHECKING

import click

from fleetctl import completion

if TYPE_CHECKING:
    from datetime import timedelta

    from fleet.names import Version
    from fleet.spec import AdapterSpec
    from runtime.workspace import Workspace

_FORMAT = click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")


@click.group(
    name="retrain",
    no_args_is_help=True,
    epilog="""\b
Examples:
  fleetctl retrain list
  fleetctl retrain claim acme-support --reason "new refund policy" --for 3d
  fleetctl retrain run acme-support
""",
)
def command() -> None:
    """List adapters due for retraining, claim one, train it.

    Each tier declares the interval (`retrain_every`). A claim keeps two people from training
    the same adapter, and expires.
    """


@command.command(
    "list",
    epilog="""\b
Examples:
  fleetctl retrain list
  fleetctl retrain list --due --format json
""",
)
@click.option("--due", "due_only", is_flag=True, help="Only overdue, due or ad hoc adapters.")
@_FORMAT
@click.pass_obj
def list_turns(workspace: "Workspace", form: str, *, due_only: bool) -> None:
    """List the retraining state of every adapter, the most urgent first.

    The interval counts from training (`retrain run`) or from the first load. Ad hoc: outside the
    interval, because accuracy has drifted or a person claimed the adapter.
    """
    from plans.reports.versions import render_retraining
    from runtime.operations.retrain import URGENT, retraining_documents

    rows = [
        row for row in retraining_documents(workspace)
        if not due_only or row["turn"] in URGENT
    ]  # fmt: skip
    if form == "json":
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        click.echo(render_retraining(rows), nl=False)
    else:
        click.echo("Nothing is due.", err=True)


@command.command(
    "claim",
    epilog="""\b
Example:
  fleetctl retrain claim acme-support --reason "new refund policy" --for 3d
""",
)
@click.argument("alias", shell_complete=completion.aliases)
@click.option("--reason", required=True, metavar="TEXT", help="Reason, for other people.")
@click.option(
    "--for", "lasts", default="3d", show_default=True, help="Duration of the claim, such as 3d."
)
@_FORMAT
@click.pass_obj
def claim(workspace: "Workspace", alias: str, reason: str, lasts: str, form: str) -> None:
    """Claim an adapter for retraining. Refused while another claim lasts."""
    from runtime.training import claim as take

    _adapter(workspace, alias)
    now, whole = workspace.now(), _duration(lasts)
    found = take(workspace.ledger(), alias, by=workspace.by, reason=reason, lasts=whole, now=now)
    document = {"alias": alias, "by": found.by, "until": found.until.isoformat(), "reason": reason}
    text = f"{alias} is yours until {found.until:%Y-%m-%d %H:%M} UTC."
    click.echo(json.dumps(document, indent=2) if form == "json" else text)


@command.command(
    "release",
    epilog="""\b
Examples:
  fleetctl retrain release acme-support --reason "no new data after all"
  fleetctl retrain release acme-support --force --reason "she is on leave"
""",
)
@click.argument("alias", shell_complete=completion.aliases)
@click.option("--reason", required=True, metavar="TEXT", help="Reason, for the ledger.")
@click.option("--force", is_flag=True, help="Release another person's claim.")
@_FORMAT
@click.pass_obj
def release(workspace: "Workspace", alias: str, reason: str, form: str, *, force: bool) -> None:
    """Release a claim; with --force also another person's, who is named."""
    from runtime.training import release as give_back

    found = give_back(
        workspace.ledger(), alias, by=workspace.by, reason=reason, now=workspace.now(), force=force
    )
    if found is None:
        _adapter(workspace, alias)
    if form == "json":
        released = {"by": found.by, "until": found.until.isoformat()} if found else None
        click.echo(json.dumps({"alias": alias, "released": released}, indent=2))
        return
    told = f"{alias} was not claimed."
    if found is not None:
        whose = "" if found.by == workspace.by else f"; it was {found.by}'s"
        told = f"{alias} is free again{whose}."
    click.echo(told, err=True)


@command.command(
    "run",
    epilog="""\b
Examples:
  fleetctl retrain run acme-support
  fleetctl retrain run acme-support --version 2.2.0 --no-declare
""",
)
@click.argument("alias", shell_complete=completion.aliases)
@click.option(
    "--version", metavar="X.Y.Z", help="Version of the new adapter (default: the next patch)."
)
@click.option("--reason", default="retraining", show_default=True, help="Reason of the claim.")
@click.option("--for", "lasts", default="1d", show_default=True, help="Duration of the claim.")
@click.option("--declare/--no-declare", default=True, help="Set the new version in the YAML.")
@_FORMAT
@click.pass_obj
def run(
    workspace: "Workspace",
    /,
    alias: str,
    version: str | None,
    reason: str,
    lasts: str,
    form: str,
    *,
    declare: bool,
) -> None:
    """Run the declared training command, add the new version, and declare it in the YAML.

    Deploys nothing: `apply` loads the version and starts its rollout. After an interruption, run
    again to go on with the same version.
    """
    import asyncio

    from runtime.operations.retrain import retrain

    _adapter(workspace, alias)

    def report(line: str) -> None:
        click.echo(f"  {line}", err=True)

    work = retrain(
        workspace, alias, _version(version), reason=reason, lasts=_duration(lasts), declare=declare,
        report=report,
    )  # fmt: skip
    done = asyncio.run(work)
    if form == "json":
        click.echo(json.dumps(done, indent=2))
        return
    click.echo(f"Added {done['adapter']}, digest {done['digest'][:12]}.", err=True)
    if done["declared_in"]:
        click.echo(f"{done['declared_in']} declares the new version. Next: fleetctl plan", err=True)
    elif declare:
        hint = f"Set its version in the declarations by hand: {done['adapter']}"
        click.echo(f"Warning: no plain `version` was found to change. {hint}", err=True)
        sys.exit(1)


def _duration(text: str) -> "timedelta":
    """Read `3d`.

    Raises:
        click.UsageError: another form.
    """
    from fleet.config import parse_duration

    try:
        return parse_duration(text)
    except Exception as error:
        raise click.UsageError(f"--for takes a duration such as 3d: {text!r}.") from error


def _version(text: str | None) -> "Version | None":
    from fleet.names import Version

    if text is None:
        return None
    try:
        return Version.parse(text.removeprefix("v"))
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _adapter(workspace: "Workspace", alias: str) -> "AdapterSpec":
    from fleet.errors import FleetError, did_you_mean, problem

    adapters = workspace.fleet().adapters
    if alias not in adapters:
        near = did_you_mean(alias, sorted(adapters))
        detail = f"`{alias}` is not declared."
        raise FleetError(problem("FC5123", "No such alias", detail, hint=near))
    return adapters[alias]
