"""Roll back every version that failed a gate, all at once; then notify."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from fleet.errors import Diagnostic, FleetError
from fleet.rollouts import GateTrial
from runtime.gates.evidence import JudgedGate
from runtime.gates.tick import TickContext
from runtime.ledger.outbox import LedgerOutbox
from runtime.messages import FailureMessage, Message
from runtime.operations.rollback import notify_rollback, roll_back
from runtime.rollback.rollback import RollbackResult
from runtime.workspace import Workspace

FAILED: Final = 3
"""Exit code: a gate failed, and the version was rolled back or got no traffic."""
_AWAY: Final = ", by what was last read of the ledger, which cannot be read now"


@dataclass(slots=True)
class JudgingRound:
    """The result of a tick."""

    code: int = 0
    moved: bool = False
    """Whether traffic was moved, so that the live state observed before is out of date."""
    failed: list[str] = field(default_factory=list)
    """Aliases whose new version failed."""
    stuck: bool = False
    """Whether one of them could not be rolled back."""
    away: FleetError | None = None
    """Why the ledger could not be read, so that nothing but rollbacks was done."""
    behind: FleetError | None = None
    """Why no gate may pass: the clock here is behind the ledger."""
    tampered: dict[str, Diagnostic] = field(default_factory=dict)
    """By alias that may not move on: the evidence that was tampered with."""
    anew: frozenset[str] = frozenset()
    """Aliases that were released from such evidence, and wait to be judged."""

    @property
    def why_away(self) -> str:
        """Why nothing can be written into the ledger; empty where the ledger was read."""
        return self.away.diagnostics[0].detail.rstrip(".") if self.away is not None else ""


class _Failure(NamedTuple):
    trial: GateTrial
    gate: str
    reason: str


async def roll_back_rejected(
    workspace: Workspace, context: TickContext, done: JudgingRound
) -> None:
    """Roll back the versions that a killed run judged and left with traffic."""
    failures = [
        _Failure(trial, trial.rejected.gate, trial.rejected.finding.reason)
        for trial in context.trials
        if trial.rejected and trial.percent
    ]
    await _roll_back_all(workspace, failures, done)


async def roll_back_failed(
    workspace: Workspace, judged: Iterable[JudgedGate], done: JudgingRound
) -> None:
    """Roll back the versions that failed now, each alias once; without traffic only a line."""
    out: dict[str, _Failure] = {}
    for gate in judged:
        trial, finding = gate.trial, gate.finding
        if not gate.failed or trial.alias in (*done.failed, *out):
            continue
        if trial.percent:
            out[trial.alias] = _Failure(trial, finding.gate, finding.reason)
        else:
            done.failed.append(trial.alias)
            done.code = FAILED
            workspace.emit(Message(f"{trial.alias}: {trial.adapter} gets no traffic."))
    await _roll_back_all(workspace, list(out.values()), done)


async def _roll_back_all(
    workspace: Workspace, failures: Sequence[_Failure], done: JudgingRound
) -> None:
    """Roll versions back; then notify.

    One table is written at a time. No flip waits for the smoke test of another alias or a webhook.
    """
    if not failures:
        return
    done.code = FAILED
    done.failed += [failure.trial.alias for failure in failures]
    outbox, turn = workspace.outbox(down=done.why_away), asyncio.Lock()
    back = await asyncio.gather(
        *(_roll_back_one(workspace, failure, outbox, turn, done) for failure in failures)
    )
    warnings = await asyncio.gather(
        *(
            notify_rollback(workspace, result, _cause(failure.gate, done), outbox)
            for result, failure in zip(back, failures, strict=True)
            if result is not None
        )
    )
    for line in (line for lines in warnings for line in lines):
        workspace.emit(Message(line, "warning"))


def _cause(gate: str, done: JudgingRound) -> str:
    return f"gate {gate}{_AWAY if done.away else ''}"


async def _roll_back_one(
    workspace: Workspace,
    failure: _Failure,
    outbox: LedgerOutbox,
    turn: asyncio.Lock,
    done: JudgingRound,
) -> RollbackResult | None:
    """Roll one version back and report; None where that is not possible."""
    trial, gate, reason = failure
    try:
        result = await roll_back(
            workspace,
            trial.alias,
            trial.stable,
            reason=f"{gate}: {reason}",
            cause=_cause(gate, done),
            only=trial.adapter,
            gate=gate,
            digest=trial.digests["adapter"],
            outbox=outbox,
            turn=turn,
        )
    except FleetError as error:  # the other rollbacks do not wait; the next tick retries
        done.stuck = True
        workspace.emit(FailureMessage(error.diagnostics))
        return None
    done.moved = True
    for line in result.warnings:
        workspace.emit(Message(line, "warning"))
    for line in result.failures:
        workspace.emit(Message(line, "error"))
    workspace.emit(Message(f"Rolled back: {result.sentence}"))
    return result
