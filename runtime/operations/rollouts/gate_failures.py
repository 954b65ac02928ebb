"""Roll back every version that failed a gate, all at once; then notify."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from fleet.errors import FleetError
from fleet.gates import Finding
from fleet.history import Doubts
from fleet.rollouts import GateTrial
from runtime.gates.evidence import JudgedGate
from runtime.ledger.outbox import LedgerOutbox
from runtime.messages import failure_of
from runtime.operations.rollouts.rollback import notify_rollback, roll_back
from runtime.rollback.rollback import RollbackRequest, RollbackResult
from runtime.workspace import Workspace

FAILED: Final = 3
"""Exit code: a gate failed, and the version was rolled back or got no traffic."""


@dataclass(frozen=True, slots=True)
class JudgingRound:
    """The result of a tick so far."""

    failed: tuple[str, ...] = ()
    """Aliases whose new version failed."""
    moved: bool = False
    """Whether traffic was moved, so that the live state observed before is out of date."""
    stuck: bool = False
    """Whether a version that failed could not be rolled back."""
    away: FleetError | None = None
    """Why the ledger could not be read, so that nothing but rollbacks was done."""
    doubts: Doubts = field(default_factory=Doubts)
    """Why no gate may pass, or not those of some aliases."""

    @property
    def code(self) -> int:
        """Exit code of the tick."""
        return FAILED if self.failed else 0

    @property
    def why_away(self) -> str:
        """Why nothing can be written into the ledger; empty where the ledger was read."""
        return self.away.diagnostics[0].detail.rstrip(".") if self.away is not None else ""


async def roll_back_rejected(
    workspace: Workspace, trials: Iterable[GateTrial], done: JudgingRound
) -> JudgingRound:
    """Roll back the versions that a killed run judged and left with traffic."""
    requests = [
        _request(trial, trial.rejected.finding, trial.rejected.gate, done)
        for trial in trials
        if trial.rejected and trial.percent
    ]
    return await _roll_back_all(workspace, requests, done) if requests else done


async def roll_back_failed(
    workspace: Workspace, judged: Iterable[JudgedGate], done: JudgingRound
) -> JudgingRound:
    """Roll back the versions that failed now, an alias once; without traffic only a line.

    A failure on a canary server is in the ledger and stops the upgrade for all its clients.
    """
    requests: dict[str, RollbackRequest] = {}
    for gate in judged:
        trial = gate.trial
        if not gate.failed or trial.alias in (*done.failed, *requests):
            continue
        if trial.upgrade is not None:
            done = replace(done, failed=(*done.failed, trial.alias))
            base = trial.upgrade.base
            workspace.inform(f"The upgrade of base {base} is stopped for all its clients.")
        elif trial.percent:
            requests[trial.alias] = _request(trial, gate.finding, gate.finding.gate, done)
        else:
            done = replace(done, failed=(*done.failed, trial.alias))
            workspace.inform(f"{trial.alias}: {trial.adapter} gets no traffic.")
    return await _roll_back_all(workspace, list(requests.values()), done) if requests else done


def _request(trial: GateTrial, finding: Finding, gate: str, done: JudgingRound) -> RollbackRequest:
    away = ", by what was last read of the ledger, which cannot be read now" if done.away else ""
    return RollbackRequest(
        trial.alias,
        trial.stable,
        reason=f"{gate}: {finding.reason}",
        cause=f"gate {gate}{away}",
        only=trial.adapter,
        gate=gate,
        digest=trial.digests["adapter"],
    )


async def _roll_back_all(
    workspace: Workspace, requests: Sequence[RollbackRequest], done: JudgingRound
) -> JudgingRound:
    """Roll versions back, a table at a time; then notify.

    No flip waits for the smoke test of another alias or for a webhook.
    """
    outbox, turn = workspace.ledger.outbox(down=done.why_away), asyncio.Lock()
    results = await asyncio.gather(
        *(_roll_back_one(workspace, request, outbox, turn) for request in requests)
    )
    warnings = await asyncio.gather(
        *(
            notify_rollback(workspace, result, request.cause, outbox)
            for result, request in zip(results, requests, strict=True)
            if result is not None
        )
    )
    workspace.warn(*(line for lines in warnings for line in lines))
    return replace(
        done,
        failed=(*done.failed, *(request.alias for request in requests)),
        moved=done.moved or any(results),
        stuck=done.stuck or not all(results),
    )


async def _roll_back_one(
    workspace: Workspace, request: RollbackRequest, outbox: LedgerOutbox, turn: asyncio.Lock
) -> RollbackResult | None:
    """Roll a version back and report; None where that is not possible."""
    try:
        result = await roll_back(workspace, request, outbox=outbox, turn=turn)
    except Exception as error:  # noqa: BLE001 (the others do not wait; the next tick retries)
        workspace.emit(failure_of(error))
        return None
    workspace.warn(*result.warnings)
    for line in result.failures:
        workspace.inform(line, "error")
    workspace.inform(f"Rolled back: {result.sentence}")
    return result
