"""`fleetctl rollback`, `release`: go back to the previous version; lift the block that follows."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from fleet.errors import FleetError
from fleetctl import completion
from fleetctl.options import Command, Workspace, choice_option, duration, with_format
from fleetctl.output import print_diagnostics, print_lines

if TYPE_CHECKING:
    from runtime.rollback.drill import DrillResult
    from runtime.rollback.rollback import RollbackRequest, RollbackResult

DECLARED = "declared"
"""Value of `--due` without a duration."""


def _due(ctx: click.Context, option: click.Parameter, value: str | None) -> timedelta | str | None:
    return value if value == DECLARED else duration(ctx, option, value)


@click.command(cls=Command)
@click.argument("alias", required=False, shell_complete=completion.aliases)
@click.option(
    "--to",
    metavar="VERSION",
    shell_complete=completion.numbers,
    help="Version to go back to, such as 2.1.0.",
)
@click.option("--reason", metavar="TEXT", help="Reason, for ledger and notices.")
@click.option(
    "--forward",
    is_flag=True,
    help="With --to and --reason: undo a rollback; a newer version gets all traffic at once. "
    "Refused after a failed gate, until released or accepted by an override.",
)
@click.option(
    "--smoke",
    multiple=True,
    metavar="TEXT",
    help="Input of the smoke test; repeatable (default: recorded or declared inputs).",
)
@click.option("--drill", is_flag=True, help="Prove that a rollback would work; no traffic moves.")
@click.option("--live", is_flag=True, help="With --drill: switch for a moment, and back.")
@click.option("--times", type=click.IntRange(1, 1000), default=1, help="With --drill: repetitions.")
@click.option("--all", "every", is_flag=True, help="With --drill: every alias.")
@click.option(
    "--due",
    metavar="[DURATION]",
    is_flag=False,
    flag_value=DECLARED,
    callback=_due,
    help="With --drill: every alias without a drill for this long, such as 30d (default: `drill` "
    "of its rollout).",
)
@choice_option("text", "json", help="json: one document; of several drills, one per line.")
@click.pass_obj
def rollback(
    workspace: Workspace,
    *,
    alias: str | None,
    to: str | None,
    reason: str | None,
    forward: bool,
    smoke: tuple[str, ...],
    drill: bool,
    live: bool,
    times: int,
    every: bool,
    due: timedelta | str | None,
    form: str,
) -> None:
    """Give all traffic of ALIAS to its previous version, now.

    Needs the state folder alone: no plan, no declarations, no lease. The newer version stays
    loaded, and gets no traffic until `fleetctl release ALIAS`. Versions that were rolled back,
    rejected or aborted need --to. --drill proves that a rollback would work.

    Examples:
      fleetctl rollback acme-support
      fleetctl rollback acme-support --to 2.0.0 --reason "wrong refunds"
      fleetctl rollback acme-support --to 2.1.0 --forward --reason "wrong alias, sorry"
      fleetctl rollback acme-support --drill
      fleetctl rollback --drill --due 30d        # from a scheduled job
      fleetctl rollback acme-support --drill --live --times 50
    """
    import asyncio

    from runtime.rollback.rollback import RollbackRequest

    if not drill and (live or every or due is not None or times > 1):
        raise click.UsageError("--live, --times, --all and --due need --drill.")
    if forward and (drill or not to or not reason):
        raise click.UsageError("--forward needs --to and --reason.")
    if (alias is None) == (not every and due is None):
        raise click.UsageError("Name an alias, or pass --drill with --all or --due.")
    if alias is None:
        work = _drill_all(workspace, due, form, live=live)
    elif drill:
        work = _drill(workspace, alias, to, smoke, form, times, live=live)
    else:
        request = RollbackRequest(alias, to, reason or "", forward=forward)
        work = _roll_back(workspace, request, smoke, form)
    sys.exit(asyncio.run(work))


async def _roll_back(
    workspace: Workspace, request: "RollbackRequest", smoke: Sequence[str], form: str
) -> int:
    """Roll back and print the result; only then send notices, which may take long."""
    from runtime.operations.rollouts.rollback import notify_rollback, roll_back

    result = await roll_back(workspace, request, smoke=smoke)
    _print(result, form)
    print_lines(await notify_rollback(workspace, result))
    return 0 if result.complete else 1


async def _drill(
    workspace: Workspace,
    alias: str,
    to: str | None,
    smoke: Sequence[str],
    form: str,
    times: int,
    *,
    live: bool,
) -> int:
    from runtime.operations.rollouts.drills import drill_one, drill_times, notify_failed_drill

    results = []
    for number in range(1, times + 1):
        result = await drill_one(workspace, alias, to, smoke, live=live)
        results.append(result)
        if times == 1 or not result.complete:
            _print(result, form)
        if not result.complete:
            print_lines(await notify_failed_drill(workspace, result))
            return 1
        if times > 1 and number % 10 == 0:
            click.echo(f"{number} of {times} drills", err=True)
    if times > 1:
        summary = drill_times(results)
        click.echo(json.dumps(summary, indent=2) if form == "json" else summary["sentence"])
    return 0


async def _drill_all(
    workspace: Workspace, due: timedelta | str | None, form: str, *, live: bool
) -> int:
    from runtime.operations.rollouts.drills import aliases_to_drill, drill_one, notify_failed_drill

    longest = due if isinstance(due, timedelta) else None
    aliases, without = await aliases_to_drill(workspace, longest, declared=due == DECLARED)
    if without:
        click.echo(f"No version to go back to, so not drilled: {', '.join(without)}.", err=True)
    if not aliases:
        click.echo("No drill is due.", err=True)
    code = 0
    for alias in aliases:
        try:
            result = await drill_one(workspace, alias, None, (), live=live)
        except FleetError as error:
            print_diagnostics(error.diagnostics)
            code = max(code, error.exit_code)
            continue
        _print(result, form, indent=None)
        if not result.complete:
            print_lines(await notify_failed_drill(workspace, result))
            code = max(code, 1)
    return code


def _print(result: "RollbackResult | DrillResult", form: str, indent: int | None = 2) -> None:
    print_lines(result.warnings)
    print_lines(result.failures, "Error")
    if form == "json":
        document = {**asdict(result), "complete": result.complete, "next": result.next}
        click.echo(json.dumps(document, indent=indent))
        return
    click.echo(result.sentence)
    if result.next:
        click.echo(f"Next: {result.next}", err=True)


@click.command(cls=Command)
@click.argument("alias", shell_complete=completion.aliases)
@click.option(
    "--version",
    metavar="VERSION",
    shell_complete=completion.numbers,
    help="Only this version (default: every held version).",
)
@click.option("--reason", metavar="TEXT", help="Reason for the ledger.")
@with_format
def release(
    workspace: Workspace, *, alias: str, version: str | None, reason: str | None, form: str
) -> None:
    """Clear the quarantine of ALIAS: the next plan may roll the version out, from its first stage.

    Lifts rollbacks, failed or forged verdicts, aborts and inconclusive ends, also of the same
    bytes under another version. Accepts a route changed by hand. Moves no traffic.

    Examples:
      fleetctl release acme-support
      fleetctl release acme-support --format json
      fleetctl release acme-support --version 2.2.0 --reason "labels fixed"
    """
    from runtime.operations.rollouts.drills import release_versions

    released = release_versions(workspace, alias, version, reason or "")
    if released.nothing:
        click.echo(f"{alias}: nothing is held, and its route is as applied.", err=True)
    else:
        numbers = sorted(name.rpartition("-v")[2] for name in released.versions)
        freed = ", ".join(numbers) or "the route as it is now"
        click.echo(f"{alias}: {freed} released; to go on: fleetctl plan", err=True)
    if form == "json":
        document = {
            "alias": alias,
            "released": list(released.versions),
            "route_accepted": released.route_accepted,
        }
        click.echo(json.dumps(document, indent=2))
