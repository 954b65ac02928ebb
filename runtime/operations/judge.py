"""Judge the gates of running rollouts at one tick, record the verdicts, roll back failures."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from fleet.history import LedgerEvent
from fleet.resources import State
from fleet.rollouts import GateTrial
from runtime.gates.evidence import JudgedGate
from runtime.gates.tick import (
    Evaluations,
    TickContext,
    gather_usage,
    judge_live,
    tampering,
    write_down,
)
from runtime.gateway.control import LocalGateways
from runtime.ledger.protocol import unanswered
from runtime.messages import EmitMessage, Message
from runtime.operations.eval_context import eval_context
from runtime.operations.gate_failures import JudgingRound, roll_back_failed, roll_back_rejected
from runtime.operations.trust import report_doubts, report_ledger_away, tick_context
from runtime.rollback.drill import undo, unfinished
from runtime.workspace import Workspace

VERDICT_S: Final = 5.0
"""Upper bound of the wait for the ledger before a verdict is acted on all the same. Seconds."""


async def judge_round(
    workspace: Workspace,
    live: State,
    evaluations: Evaluations,
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

    Raises:
        FleetError: the ledger cannot be read, and never was.
    """
    done = JudgingRound()
    known = await asyncio.to_thread(workspace.last_known)
    done.away = known.away
    context = await asyncio.to_thread(tick_context, workspace, live, known.entries)
    _note_doubts(context, done)
    report_doubts(workspace, context)
    if done.away is not None or done.behind is not None:
        await _judge_traffic(workspace, context, done)
        await _take_evaluations(workspace, live, evaluations, done)
        if known.away is not None:
            await report_ledger_away(workspace, known, done.why_away, context)
        return done
    if await _undo_drills(workspace, context):
        done.moved = True
    await _judge_traffic(workspace, context, done)
    await _take_evaluations(workspace, live, evaluations, done)
    context = await asyncio.to_thread(tick_context, workspace, live)  # with the new verdicts
    _note_doubts(context, done)
    begun = evaluations.start(
        context, eval_context(workspace), lambda trial: _progress(workspace.emit, trial)
    )
    for trial in begun:
        workspace.emit(Message(f"Evaluates {trial.adapter} beside {trial.stable}."))
    if until is not None:
        await _take_evaluations(workspace, live, evaluations, done, until)
    return done


def _note_doubts(context: TickContext, done: JudgingRound) -> None:
    """Keep the doubts of a context, which hold rollouts back."""
    done.behind, done.anew = done.behind or context.behind, context.anew
    for alias, check in context.tampered.items():
        done.tampered[alias] = tampering(alias, check)


async def _judge_traffic(workspace: Workspace, context: TickContext, done: JudgingRound) -> None:
    """Judge live gates; roll back versions that failed, now or before a run was killed."""
    await roll_back_rejected(workspace, context, done)
    missing = await gather_usage(context, workspace.now)
    judged = await asyncio.to_thread(judge_live, context, missing)
    await _act_on(workspace, context, judged, done)


async def _take_evaluations(
    workspace: Workspace,
    live: State,
    evaluations: Evaluations,
    done: JudgingRound,
    until: asyncio.Event | None = None,
) -> None:
    """Record the results of evaluations and act on them; without the ledger they are queued."""
    for key, result in await evaluations.finished(until):
        known = await asyncio.to_thread(workspace.last_known)
        done.away = done.away or known.away
        context = await asyncio.to_thread(tick_context, workspace, live, known.entries)
        _note_doubts(context, done)
        if done.behind is not None:  # the result waits for the clock
            continue
        outbox = workspace.outbox(VERDICT_S, done.why_away)
        if result.events:
            await asyncio.to_thread(outbox.append, result.events)
        evaluations.taken(key)
        await _act_on(workspace, context, result.judged, done, evaluated=True)


async def _act_on(
    workspace: Workspace,
    context: TickContext,
    judged: Sequence[JudgedGate],
    done: JudgingRound,
    *,
    evaluated: bool = False,
) -> None:
    """Record verdicts and roll back failures, also while the ledger hangs.

    Verdicts that were `evaluated` are about versions and bytes, whatever the ledger says now.

    Raises:
        FleetError: FC5107, the verdicts are queued and not in the ledger yet; failures are
            rolled back, and nothing goes on.
    """
    outbox, queued = workspace.outbox(VERDICT_S, done.why_away), ""
    sure = evaluated or done.away is None  # a pass on traffic needs the ledger
    judged = [
        gate for gate in judged if gate.failed or (sure and context.may_pass(gate.trial.alias))
    ]

    def append(events: Sequence[LedgerEvent]) -> None:
        nonlocal queued
        queued = outbox.append(events)

    written = await asyncio.to_thread(write_down, context, judged, append)
    _report(workspace.emit, (verdict.judged for verdict in written if verdict.recorded))
    await roll_back_failed(workspace, judged, done)
    if queued and done.away is None:
        raise unanswered(f"verdicts could not be written down: {queued}")


async def _undo_drills(workspace: Workspace, context: TickContext) -> bool:
    """Restore routes that a killed live drill has left turned."""
    if not list(unfinished(context.entries)):
        return False
    ledger = workspace.ledger()
    gateways = LocalGateways(workspace.state_dir, envoys=workspace.envoys())
    try:
        # Under the lease, which a drill that still runs holds.
        with ledger.lease(f"{workspace.by} (run {workspace.run}, reconcile)"):
            for drill in unfinished(ledger.read()):
                text = f"Undoes a live drill of {drill.alias} that was killed."
                workspace.emit(Message(text))
                await undo(drill, gateways, workspace.ledger)
    finally:
        await gateways.close()
    return True


def _report(emit: EmitMessage, judged: Iterable[JudgedGate]) -> None:
    for gate in judged:
        finding = gate.finding
        text = f"{finding.verdict} {finding.gate} of {gate.trial.adapter}"
        emit(Message(f"{text} at {gate.trial.percent} %: {finding.reason}"))


def _progress(emit: EmitMessage, trial: GateTrial) -> Callable[[int, int], None]:
    last = 0

    def progress(done: int, total: int) -> None:
        nonlocal last
        step = done * 4 // total
        if step > last:
            last = step
            emit(Message(f"  {trial.adapter}: {done} of {total} answers"))

    return progress
