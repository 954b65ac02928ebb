"""`fleetctl reconcile`: repair drift and promote rollouts, once or at an interval."""

import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from fleetctl.options import duration

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection, Mapping

    from fleet.plan import Plan
    from fleet.planning import DriftCause
    from fleet.resources import State
    from fleetctl.progress import Form
    from fleetctl.session import Session
    from runtime.execute.outcome import ApplyOutcome
    from runtime.gates.tick import Evaluations
    from runtime.operations.heal import HealBackoff


@click.command(
    epilog="""\b
Examples:
  fleetctl reconcile --once
  fleetctl reconcile --interval 30s
""",
)
@click.option("--once", is_flag=True, help="Run one round, for a scheduled job.")
@click.option(
    "--interval",
    metavar="DURATION",
    callback=duration,
    help="Repeat at this interval, such as 30s. Ctrl-C ends after the running round.",
)
@click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")
@click.pass_obj
def command(session: "Session", *, once: bool, interval: timedelta | None, form: "Form") -> None:
    """Run one reconcile round (--once) or repeat (--interval).

    A round rolls back versions that fail a gate, restores missing resources and damaged copies,
    and promotes rollouts whose gates pass. A round removes, restarts and deploys nothing.
    Exit 3 after a rollback; 1 if declarations, ledger or placement kept a part from running.
    """
    import asyncio

    if once == (interval is not None):
        raise click.UsageError("Pass --once or --interval DURATION.")
    try:
        sys.exit(asyncio.run(_rounds(session, interval, form)))
    except asyncio.CancelledError:
        raise click.Abort from None


async def _rounds(session: "Session", interval: timedelta | None, form: "Form") -> int:
    import asyncio

    from fleet.errors import FleetError
    from fleetctl.effects import stopping
    from fleetctl.sound import LastValid
    from plans.diagnostics import render_text
    from runtime.gates.tick import Evaluations
    from runtime.operations.heal import HealBackoff

    backoff, evaluations, declared = HealBackoff(), Evaluations(), LastValid()
    with stopping() as stop:
        while True:
            once = interval is None
            try:
                now, valid = declared.now(session)
                code = await _round(now, stop, backoff, evaluations, form, once=once, valid=valid)
            except FleetError as error:
                if interval is None:
                    raise
                code = error.exit_code
                click.echo(render_text(error.diagnostics), err=True, nl=False)
            except OSError as error:  # such as a disk that is full: the next round may find room
                if interval is None:
                    raise
                click.echo(f"Error: this round ended: {error}", err=True)
            if interval is None:
                return code
            try:
                async with asyncio.timeout(interval.total_seconds()):
                    await stop.wait()
            except TimeoutError:
                continue
            await evaluations.stop()
            return 0


async def _round(
    session: "Session",
    stop: "asyncio.Event",
    backoff: "HealBackoff",
    evaluations: "Evaluations",
    form: "Form",
    *,
    once: bool,
    valid: bool,
) -> int:
    """Judge what is tried, heal, advance; return the worst exit code.

    Judging comes first, because whoever fails is rolled back in a second and a server takes
    longer to come back. Where it is not possible nothing advances, and healing goes on. Nor
    does anything where the declarations are not `valid`.
    """
    from fleet.errors import FleetError
    from fleetctl.judging import judge_round
    from fleetctl.practice import practise
    from fleetctl.taking_back import JudgingRound

    live = await session.observe_now()
    refused: FleetError | None = None
    judged = JudgingRound()
    try:
        judged = await judge_round(session, live, evaluations, stop if once else None)
    except FleetError as error:
        refused = error
    if judged.stuck:
        click.echo("A version that failed still serves: see above.", err=True)
    refused = refused or judged.behind
    if judged.away is not None:  # healing and going on are journaled, and planned by the past
        raise judged.away
    if judged.moved:
        live = await session.observe_now()
    healed, left, code = await _heal(session, live, stop, backoff, form)
    if refused is not None:
        raise refused
    if code or stop.is_set():
        return code or judged.code
    if not valid:
        return judged.code or 1
    without = {*judged.tampered, *judged.anew}
    onward, code = await _advance(session, live, stop, form, without, again=healed)
    if not healed and not onward:
        nothing = "Nothing else" if left else "Nothing"
        click.echo(f"{nothing} to heal, no rollout is due.", err=True)
        code = code or await _mend_routes(session, live, stop, form)
        await practise(session, live)
    await _tell_people(session, live)
    if judged.tampered:
        raise FleetError(*judged.tampered.values())
    return code or judged.code


async def _mend_routes(
    session: "Session", live: "State", stop: "asyncio.Event", form: "Form"
) -> int:
    """Publish the newest table to gateways that lag behind, with missing addresses added."""
    from fleet.planning import repair

    for note in live.notes:
        click.echo(f"Note: {note}", err=True)
    if not live.behind:
        return 0
    nothing = repair(session.fleet().name, (), session.history(), live, {})
    return await _carry_out(session, nothing, stop, form, due=True)


async def _tell_people(session: "Session", live: "State") -> None:
    """Notify client and operators, once, of work that waits for people or is overdue."""
    import asyncio

    from fleetctl.telling import standing, tell_occasions

    for line in await tell_occasions(session, await asyncio.to_thread(standing, session, live)):
        click.echo(f"Warning: {line}", err=True)


async def _heal(
    session: "Session", live: "State", stop: "asyncio.Event", backoff: "HealBackoff", form: "Form"
) -> tuple[bool, bool, int]:
    """Restore missing resources; return whether any was due or left, and the exit code."""
    import asyncio

    from fleet.history import settled
    from fleet.names import alias_of
    from fleet.planning import DriftAction, classify_drift, repair
    from fleet.resources import LoadedAdapter

    fleet = session.fleet()
    clock = asyncio.get_running_loop().time
    history = settled(session.history(), live)
    causes = classify_drift(history, live, await asyncio.to_thread(_mend, session, live))
    ours = [each for each in causes if each.remedy is DriftAction.HEAL]
    due = backoff.due(ours, clock())
    smoke = {
        each.adapter: fleet.adapters[alias].smoke
        for each in history.established.values()
        if isinstance(each, LoadedAdapter) and (alias := alias_of(each.adapter)) in fleet.adapters
    }
    plan = repair(fleet.name, due, history, live, smoke)
    _tell_causes(causes, due, backoff.given_up(ours))
    code = await _carry_out(session, plan, stop, form)
    backoff.tried(due, clock())
    return bool(plan.steps), len(causes) > len(due), code


async def _advance(
    session: "Session",
    live: "State",
    stop: "asyncio.Event",
    form: "Form",
    without: "Collection[str]",
    *,
    again: bool,
) -> tuple[bool, int]:
    """Move on the rollouts that may, `without` some aliases; `again`: look first.

    Returns whether anything was done, and the exit code.
    """
    from fleet.errors import PlacementError
    from fleet.planning import advances

    now = await session.observe_now() if again else live
    left = 0
    try:
        onward = advances(session.plan(live=now), without)
    except PlacementError as error:
        found = session.plan_rest(now)
        if found is None:
            raise
        _tell_left_out(found[1].left_out)
        onward, left = advances(found[0], without), error.exit_code
    for impact in onward.impacts:
        click.echo(f"Moves on: {impact.alias}: {impact.summary}", err=True)
    return bool(onward.steps), await _carry_out(session, onward, stop, form) or left


def _tell_left_out(left_out: "Mapping[str, str]") -> None:
    for alias, why in left_out.items():
        click.echo(f"Left out, and stays as it is: {alias}: {why}.", err=True)
    click.echo("The others go on. What helps: fleetctl diagnose", err=True)


def _mend(session: "Session", live: "State") -> dict[str, str]:
    """Repair damaged copies and report the affected adapters; return what stays damaged."""
    from runtime.library.served_copies import damaged, mend
    from runtime.project.facts import read_lock

    store = session.state_dir / "store"
    wrong = damaged(live.adapters().values(), store)
    if not wrong:
        return {}
    ledger = session.ledger()
    # Under the lease: an apply that runs makes copies itself.
    with ledger.lease(f"{session.by} (run {session.run}, reconcile)") as lease:
        results = mend(
            wrong, live.adapters().values(), read_lock(session.root), session.library, store
        )
        notes = [{"text": each.text} for each in results if each.mended]
        if notes:
            ledger.append("note", notes, lease.token)
    for each in results:
        click.echo(f"{each.text[:1].upper()}{each.text[1:]}.", err=True)
        if each.mended:
            click.echo(f"Left to you: {each.left}.", err=True)
    return {each.digest: wrong[each.digest] for each in results if not each.mended}


def _tell_causes(
    causes: "tuple[DriftCause, ...]",
    due: "tuple[DriftCause, ...]",
    given_up: "tuple[DriftCause, ...]",
) -> None:
    for cause in causes:
        what = cause.summary.rstrip(".")
        if cause in due:
            click.echo(f"Heals {cause.subject}: {what}.", err=True)
        elif cause in given_up:
            click.echo(f"Given up, it comes back: {cause.subject}: {what}.", err=True)
        else:
            text = f"Left alone: {cause.subject}: {what}. Helps: {cause.command}"
            click.echo(text, err=True)


async def _carry_out(
    session: "Session", plan: "Plan", stop: "asyncio.Event", form: "Form", *, due: bool = False
) -> int:
    if not (plan.steps or due):
        return 0
    from fleetctl.effects import carry_out
    from fleetctl.progress import teller
    from fleetctl.report import tell_outcome

    outcome: ApplyOutcome = await carry_out(
        session, plan, teller(session, plan.id, form), stop=stop, trigger="reconcile"
    )
    if form == "text":
        tell_outcome(outcome)
    return outcome.exit_code
