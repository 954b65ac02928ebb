"""Judge the gates of running rollouts at a tick, record the verdicts, roll back failures."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from fleet.alerting import ledger_away
from fleet.resources import State
from fleet.rollouts import GateTrial
from runtime.evals.context import ReportProgress
from runtime.gates.evidence import JudgedGate
from runtime.gates.offline import OfflineResult
from runtime.gates.tick import (
    Evaluations,
    TickContext,
    gather_usage,
    judge_live,
    new_findings,
    tick_context,
)
from runtime.gateway.control.control import LocalGateways
from runtime.ledger.protocol import LedgerSnapshot, unanswered
from runtime.messages import report_quarters
from runtime.operations.notify import notify_once
from runtime.operations.rollouts.gate_failures import (
    JudgingRound,
    roll_back_failed,
    roll_back_rejected,
)
from runtime.operations.rollouts.upgrades import approve_passed
from runtime.operations.rounds.rounds import RoundParts
from runtime.operations.versions.evaluate import eval_context
from runtime.operations.watch.notifications import report_doubts
from runtime.rollback.drill import undo, unfinished
from runtime.workspace import Workspace

VERDICT_S: Final = 5.0
"""Upper bound of the wait for the ledger before a verdict is acted on all the same. Seconds."""


async def judge_round(
    workspace: Workspace,
    live: State,
    evaluations: Evaluations,
    parts: RoundParts,
    until: asyncio.Event | None = None,
) -> JudgingRound:
    """Judge running rollouts; roll back each alias whose new version has failed.

    Live gates come first; golden sets are asked beside the rounds. With `until` the round waits
    for them, or gives them up once `until` is set. After a crash the next round does what is left.

    Exceptions:
        The ledger cannot be read: live gates are judged by the entries last read, failures are
            rolled back and queued for the ledger, finished golden sets are queued, nothing else
            is done.
        The clock is behind, or evidence of an alias was tampered with: only failures count.
        A part of `parts` fails: it is reported, and the others are judged.

    Raises:
        FleetError: the ledger cannot be read, and never was.
    """
    known, context = await _read_facts(workspace, live)
    done = JudgingRound(away=known.away, doubts=context.doubts)
    report_doubts(workspace, context.doubts)
    goes_on = known.away is None and context.doubts.behind is None
    if goes_on and any(unfinished(known.standing())):
        await _undo_drills(workspace)
        done = replace(done, moved=True)
    done = await roll_back_rejected(workspace, context.trials, done)
    missing: tuple[str, ...] = ("requests at gateways on other machines could not be read",)
    with parts.part("the copy of requests from other machines"):
        missing = await gather_usage(context, workspace.now)
    judged = await asyncio.to_thread(judge_live, context, missing, evaluations.pasts)
    if judged:
        done = await _act_on(workspace, context, judged, done)
    ended = await evaluations.finished()
    for key, result in ended:
        done = await _take_evaluation(workspace, live, evaluations, parts, done, key, result)
    if known.away is not None:
        with parts.part("the notice that the ledger is away"):
            await _report_ledger_away(workspace, known, done.why_away, context.trials)
    if not goes_on:
        return done
    if judged or ended or done.moved:  # the ledger has new verdicts
        known, context = await _read_facts(workspace, live)
        if known.away is not None:
            raise known.away
        done = replace(done, doubts=done.doubts.then(context.doubts))
    _start_evaluations(workspace, context, evaluations)
    if until is not None:
        for key, result in await evaluations.finished(until):
            done = await _take_evaluation(workspace, live, evaluations, parts, done, key, result)
    with parts.part("the approval of upgrades"):
        await asyncio.to_thread(approve_passed, workspace, live, done)
    return done


async def _read_facts(workspace: Workspace, live: State) -> tuple[LedgerSnapshot, TickContext]:
    fleet, now = workspace.project.fleet(), workspace.now()
    known = await asyncio.to_thread(workspace.ledger.last_known)
    context = await asyncio.to_thread(tick_context, fleet, live, known, workspace.state_dir, now)
    return known, context


def _start_evaluations(
    workspace: Workspace, context: TickContext, evaluations: Evaluations
) -> None:
    def report(trial: GateTrial) -> ReportProgress:
        return report_quarters(workspace.emit, f"{trial.adapter}: ", "answers")

    for trial in evaluations.start(context, partial(eval_context, workspace), report):
        canary = f"{trial.place} beside its old server"
        beside = canary if trial.upgrade else f"beside {trial.stable}"
        workspace.inform(f"Evaluates {trial.adapter} {beside}.")


async def _take_evaluation(
    workspace: Workspace,
    live: State,
    evaluations: Evaluations,
    parts: RoundParts,
    done: JudgingRound,
    key: tuple[str, str],
    result: OfflineResult,
) -> JudgingRound:
    """Record the result of an evaluation and act on the result; without the ledger it is queued."""
    known, context = await _read_facts(workspace, live)
    done = replace(done, away=done.away or known.away, doubts=done.doubts.then(context.doubts))
    if done.doubts.behind is not None:  # the result waits for the clock
        return done
    with parts.part(f"the record of the evaluation of {key[1]}"):
        if result.events:
            outbox = workspace.ledger.outbox(VERDICT_S, done.why_away)
            await asyncio.to_thread(outbox.append, result.events)
        evaluations.taken(key)
    return await _act_on(workspace, context, result.judged, done, evaluated=True)


async def _act_on(
    workspace: Workspace,
    context: TickContext,
    judged: Sequence[JudgedGate],
    done: JudgingRound,
    *,
    evaluated: bool = False,
) -> JudgingRound:
    """Record verdicts and roll back failures, also while the ledger hangs.

    Verdicts that were `evaluated` are about versions and bytes, whatever the ledger says now; those
    of a canary server that is no longer judged are dropped.

    Raises:
        FleetError: FC5107, the verdicts are queued and not in the ledger yet; failures are
            rolled back, and nothing goes on.
    """
    due = {trial.key for trial in context.trials}
    sure = evaluated or done.away is None  # a pass on traffic needs the ledger
    judged = [
        gate
        for gate in judged
        if gate.failed or (sure and context.doubts.may_pass(gate.trial.alias))
        if gate.trial.upgrade is None or gate.trial.key in due
    ]
    new, queued = new_findings(context, judged), ""
    if new:
        outbox = workspace.ledger.outbox(VERDICT_S, done.why_away)
        events = [gate.event(context.now) for gate in new]
        queued = await asyncio.to_thread(outbox.append, events)
    for gate in new:
        finding, trial = gate.finding, gate.trial
        text = f"{finding.verdict} {finding.gate} of {trial.adapter} {trial.place}"
        workspace.inform(f"{text}: {finding.reason}")
    done = await roll_back_failed(workspace, judged, done)
    if queued and done.away is None:
        raise unanswered(f"verdicts could not be written down: {queued}")
    return done


async def _undo_drills(workspace: Workspace) -> None:
    """Restore routes that a killed live drill has left turned."""
    ledger = workspace.ledger.open()
    async with LocalGateways(workspace.state_dir, envoys=workspace.machines.envoys()) as gateways:
        # Under the lease, which a drill that still runs holds.
        with ledger.lease(f"{workspace.by} (run {workspace.run}, reconcile)"):
            for drill in unfinished(ledger.standing()):
                workspace.inform(f"Undoes a live drill of {drill.alias} that was killed.")
                await undo(drill, gateways, workspace.ledger.open)


async def _report_ledger_away(
    workspace: Workspace, known: LedgerSnapshot, why: str, trials: Iterable[GateTrial]
) -> None:
    """Emit by which entries gates judge and which rollouts stay; notify operators once."""
    count, last = len(known.entries), known.entries[-1].time
    workspace.inform(
        f"THE LEDGER CANNOT BE READ. Gates judge by the {count:,} entries that are known, "
        f"until {last:%Y-%m-%d %H:%M:%S} UTC, and take traffic back. No rollout moves on, "
        "servers that end are started again where they were, and no golden set is asked."
    )
    for trial in (trial for trial in trials if trial.offline):
        gates = ", ".join(gate.name for gate in trial.offline)
        workspace.inform(
            f"{trial.alias}: {trial.adapter} stays {trial.place}; its golden sets "
            f"({gates}) are asked once the ledger is back."
        )
    occasion = ledger_away(known.entries, f"{why}.", workspace.now())
    workspace.warn(*await notify_once(workspace, [occasion], known.entries, why))
