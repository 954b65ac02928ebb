"""`fleetctl retrain`: list adapters due for retraining, claim and train them."""

import json
import sys
from datetime import timedelta

import click

from fleet.errors import FleetError, did_you_mean
from fleet.names import Version
from fleetctl import completion
from fleetctl.options import Group, ProjectContext, Workspace, duration, with_format
from fleetctl.output import print_result

_alias_argument = click.argument("alias", shell_complete=completion.aliases)


@click.group(cls=Group)
def command() -> None:
    """List adapters due for retraining, claim and train them.

    Each tier declares the interval (`retrain_every`). A claim keeps two people from training
    the same adapter, and expires.

    Examples:
      fleetctl retrain list
      fleetctl retrain claim acme-support --reason "new refund policy" --for 3d
      fleetctl retrain run acme-support
    """


@command.command("list")
@click.option("--due", "due_only", is_flag=True, help="Only overdue, due or ad hoc adapters.")
@with_format
def list_turns(workspace: Workspace, form: str, *, due_only: bool) -> None:
    """List the retraining state of every adapter, the most urgent first.

    The interval counts from training (`retrain run`) or from the first load. Ad hoc: outside the
    interval, because accuracy has drifted or a person claimed the adapter.

    Examples:
      fleetctl retrain list
      fleetctl retrain list --due --format json
    """
    from plans.reports.versions import render_retraining
    from runtime.operations.versions.retrain import URGENT, retraining_documents

    rows = [
        row for row in retraining_documents(workspace)
        if not due_only or row["turn"] in URGENT
    ]  # fmt: skip
    print_result(form, rows, render_retraining, "Nothing is due.")


@command.command()
@_alias_argument
@click.option("--reason", required=True, metavar="TEXT", help="Reason, for other people.")
@click.option(
    "--for", "lasts", default="3d", callback=duration, help="Duration of the claim, such as 3d."
)
@with_format
def claim(workspace: Workspace, alias: str, reason: str, lasts: timedelta, form: str) -> None:
    """Claim an adapter for retraining. Refused while another claim lasts.

    Example:
      fleetctl retrain claim acme-support --reason "new refund policy" --for 3d
    """
    from runtime import training

    _require_declared(workspace.project, alias)
    claim = training.claim(
        workspace.ledger.open(),
        alias,
        by=workspace.by,
        reason=reason,
        lasts=lasts,
        now=workspace.now(),
    )
    document = {"alias": alias, "by": claim.by, "until": claim.until.isoformat(), "reason": reason}
    text = f"{alias} is yours until {claim.until:%Y-%m-%d %H:%M} UTC.\n"
    print_result(form, document, lambda _: text)


@command.command()
@_alias_argument
@click.option("--reason", required=True, metavar="TEXT", help="Reason, for the ledger.")
@click.option("--force", is_flag=True, help="Release another person's claim.")
@with_format
def release(workspace: Workspace, alias: str, reason: str, form: str, *, force: bool) -> None:
    """Release a claim; with --force also the claim of another person, and name that person.

    Examples:
      fleetctl retrain release acme-support --reason "no new data after all"
      fleetctl retrain release acme-support --force --reason "she is on leave"
    """
    from runtime import training

    ledger, now = workspace.ledger.open(), workspace.now()
    claim = training.release(ledger, alias, by=workspace.by, reason=reason, now=now, force=force)
    if claim is None:
        _require_declared(workspace.project, alias)
    if form == "json":
        released = {"by": claim.by, "until": claim.until.isoformat()} if claim else None
        click.echo(json.dumps({"alias": alias, "released": released}, indent=2))
        return
    text = f"{alias} was not claimed."
    if claim is not None:
        owner = "" if claim.by == workspace.by else f"; it was {claim.by}'s"
        text = f"{alias} is free again{owner}."
    click.echo(text, err=True)


@command.command()
@_alias_argument
@click.option(
    "--version", metavar="X.Y.Z", help="Version of the new adapter (default: the next patch)."
)
@click.option("--reason", default="retraining", help="Reason of the claim.")
@click.option("--for", "lasts", default="1d", callback=duration, help="Duration of the claim.")
@click.option("--declare/--no-declare", default=True, help="Set the new version in the YAML.")
@with_format
def run(
    workspace: Workspace,
    /,
    alias: str,
    version: str | None,
    reason: str,
    lasts: timedelta,
    form: str,
    *,
    declare: bool,
) -> None:
    """Run the declared training command; add and declare the new version.

    Deploys nothing: `apply` loads the version and starts its rollout. After an interruption, run
    again to go on with the same version.

    Examples:
      fleetctl retrain run acme-support
      fleetctl retrain run acme-support --version 2.2.0 --no-declare
    """
    import asyncio

    from runtime.operations.versions.retrain import retrain

    _require_declared(workspace.project, alias)
    work = retrain(
        workspace,
        alias,
        _version(version),
        reason=reason,
        lasts=lasts,
        declare=declare,
        report=lambda line: click.echo(f"  {line}", err=True),
    )
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


def _version(text: str | None) -> "Version | None":

    if text is None:
        return None
    try:
        return Version.parse(text.removeprefix("v"))
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _require_declared(project: ProjectContext, alias: str) -> None:

    adapters = project.fleet().adapters
    if alias not in adapters:
        near = did_you_mean(alias, sorted(adapters))
        detail = f"`{alias}` is not declared."
        raise FleetError.of("FC5123", "No such alias", detail, hint=near)
