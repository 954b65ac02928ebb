"""`fleetctl rollback`: give an alias's traffic to its previous version, now."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from fleetctl import completion

DECLARED = "declared"
"""Value of `--due` where none is given."""

if TYPE_CHECKING:
    from runtime.rollback.drill import DrillResult
    from runtime.rollback.rollback import RollbackResult
    from runtime.workspace import Workspace


@click.command(
    epilog="""\b
Examples:
  fleetctl rollback acme-support
  fleetctl rollback acme-support --to 2.0.0 --reason "wrong refunds"
  fleetctl rollback acme-support --to 2.1.0 --forward --reason "wrong alias, sorry"
  fleetctl rollback acme-support --drill
  fleetctl rollback --drill --due 30d        # from a scheduled job
  fleetctl rollback acme-support --drill --live --times 50
"""
)
@click.argument("alias", required=False, shell_complete=completion.aliases)
@click.option(
    "--to",
    metavar="VERSION",
    shell_complete=completion.numbers,
    help="Version to go back to, such as 2.1.0.",
)
@click.option("--reason", default="", metavar="TEXT", help="Reason, for ledger and notices.")
@click.option(
    "--forward",
    is_flag=True,
    help="With --to and --reason: undo a rollback; a newer version gets all traffic at once. "
    "Refused after a failed gate, until released or accepted by an override.",
)
@click.option(
    "--smoke",
    "smoke",
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
    help="With --drill: every alias without a drill for this long, such as 30d (default: `drill` "
    "of its rollout).",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "text"]),
    default="text",
    help="json: one document; of several drills, one per line.",
)
@click.pass_obj
def command(
    workspace: "Workspace",
    *,
    alias: str | None,
    to: str | None,
    reason: str,
    forward: bool,
    smoke: tuple[str, ...],
    drill: bool,
    live: bool,
    times: int,
    every: bool,
    due: str | None,
    form: str,
) -> None:
    """Give all traffic of ALIAS to its previous version, now.

    Needs the state folder alone: no plan, no declarations, no lease. The newer version stays
    loaded, and gets no traffic until `fleetctl release ALIAS`. Versions that were rolled back,
    rejected or aborted need --to. --drill proves that a rollback would work.
    """
    import asyncio

    if not drill and (live or every or due is not None or times > 1):
        raise click.UsageError("--live, --times, --all and --due need --drill.")
    if forward and (drill or not to or not reason):
        raise click.UsageError("--forward needs --to and --reason.")
    if (alias is None) == (not every and due is None):
        raise click.UsageError("Name an alias, or pass --drill with --all or --due.")
    if alias is None:
        longest = _longest(due)
        sys.exit(
            asyncio.run(_drill_all(workspace, longest, form, live=live, declared=due == DECLARED))
        )
    if drill:
        sys.exit(asyncio.run(_drill(workspace, alias, to, smoke, form, times, live=live)))
    sys.exit(asyncio.run(_back(workspace, alias, to, smoke, form, reason=reason, forward=forward)))


async def _back(
    workspace: "Workspace",
    alias: str,
    to: str | None,
    smoke: Sequence[str],
    form: str,
    *,
    reason: str,
    forward: bool,
) -> int:
    """Roll back, say so, and only then tell others, which may take its time."""
    from runtime.operations.rollback import notify_rollback, roll_back
    from runtime.rollback.rollback import RollbackRequest

    result = await roll_back(
        workspace, RollbackRequest(alias, to, reason, forward=forward), smoke=smoke
    )
    _tell(result, form)
    for line in await notify_rollback(workspace, result):
        click.echo(f"Warning: {line}", err=True)
    return 0 if result.complete else 1


async def _drill(
    workspace: "Workspace",
    alias: str,
    to: str | None,
    smoke: Sequence[str],
    form: str,
    times: int,
    *,
    live: bool,
) -> int:
    from runtime.operations.drills import drill_one, drill_times

    results = []
    for number in range(times):
        result = await drill_one(workspace, alias, to, smoke, live=live)
        results.append(result)
        if times == 1 or not result.complete:
            _tell(result, form)
        if not result.complete:
            await _tell_failed(workspace, result)
            return 1
        if times > 1 and (number + 1) % 10 == 0:
            click.echo(f"{number + 1} of {times} drills", err=True)
    if times > 1:
        summed = drill_times(results)
        click.echo(json.dumps(summed, indent=2) if form == "json" else summed["sentence"])
    return 0


def _longest(due: str | None) -> timedelta | None:
    from fleet.config import parse_duration

    if due in (None, DECLARED):
        return None
    try:
        return parse_duration(str(due))
    except ValueError as error:
        raise click.UsageError(f"--due: {error}") from None


async def _drill_all(
    workspace: "Workspace", every: timedelta | None, form: str, *, live: bool, declared: bool
) -> int:
    from fleet.errors import FleetError
    from plans.diagnostics import render_text
    from runtime.operations.drills import aliases_to_drill, drill_one

    wanted, stuck = await aliases_to_drill(workspace, every, declared=declared)
    if stuck:
        click.echo(f"No version to go back to, so not drilled: {', '.join(stuck)}.", err=True)
    if not wanted:
        click.echo("No drill is due.", err=True)
    code = 0
    for alias in wanted:
        try:
            result = await drill_one(workspace, alias, None, (), live=live)
        except FleetError as error:
            click.echo(render_text(error.diagnostics), err=True, nl=False)
            code = max(code, error.exit_code)
            continue
        _tell(result, form, indent=None)
        if not result.complete:
            await _tell_failed(workspace, result)
        code = max(code, 0 if result.complete else 1)
    return code


async def _tell_failed(workspace: "Workspace", result: "DrillResult") -> None:
    """Tell people that a rollback would not succeed now."""
    from runtime.operations.drills import notify_failed_drill

    for line in await notify_failed_drill(workspace, result):
        click.echo(f"Warning: {line}", err=True)


def _tell(result: "RollbackResult | DrillResult", form: str, indent: int | None = 2) -> None:
    for line in result.warnings:
        click.echo(f"Warning: {line}", err=True)
    for line in result.failures:
        click.echo(f"Error: {line}", err=True)
    plain: dict[str, Any] = {**asdict(result), "complete": result.complete, "next": result.next}
    click.echo(json.dumps(plain, indent=indent) if form == "json" else result.sentence)
    if result.next and form == "text":
        click.echo(f"Next: {result.next}", err=True)
