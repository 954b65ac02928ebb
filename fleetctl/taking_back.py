"""Taking back: who has failed a gate loses the traffic, all at once; then people are told."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from fleetctl.session import Session

if TYPE_CHECKING:
    from fleet.errors import Diagnostic, FleetError
    from fleet.rollouts import GateTrial
    from runtime.gates.evidence import JudgedGate
    from runtime.gates.tick import TickContext
    from runtime.ledger.outbox import LedgerOutbox
    from runtime.rollback.rollback import RollbackResult

FAILED = 3
"""Exit code: a gate failed, and what it guarded was rolled back or never began."""
_AWAY = ", by what was last read of the ledger, which cannot be read now"


@dataclass(slots=True)
class JudgingRound:
    """What a tick came to."""

    code: int = 0
    moved: bool = False
    """Whether traffic was moved, so that what was observed before is out of date."""
    failed: list[str] = field(default_factory=list)
    """Aliases whose new version failed."""
    stuck: bool = False
    """Whether one of them could not be rolled back."""
    away: "FleetError | None" = None
    """Why the ledger could not be read, so that nothing but a rollback was done."""
    behind: "FleetError | None" = None
    """Why nothing may pass: the clock here is behind the ledger."""
    tampered: "dict[str, Diagnostic]" = field(default_factory=dict)
    """By alias that may not move on: the evidence that was tampered with."""
    anew: frozenset[str] = frozenset()
    """Aliases that were released from such evidence, and wait to be judged."""


async def roll_back_rejected(session: Session, scene: "TickContext", done: JudgingRound) -> None:
    """Finish what a run that was killed after it had judged has left."""
    await _all_back(
        session,
        [
            (trial, trial.rejected.gate, trial.rejected.finding.reason)
            for trial in scene.trials
            if trial.rejected and trial.percent
        ],
        done,
    )


async def roll_back_failed(
    session: Session, judged: "Iterable[JudgedGate]", done: JudgingRound
) -> None:
    """Roll back who has failed now, each alias once; one without traffic is only named."""
    out: dict[str, tuple[GateTrial, str, str]] = {}
    for each in judged:
        trial, finding = each.trial, each.finding
        if not each.failed or trial.alias in (*done.failed, *out):
            continue
        if trial.percent:
            out[trial.alias] = (trial, finding.gate, finding.reason)
        else:
            done.failed.append(trial.alias)
            done.code = FAILED
            click.echo(f"{trial.alias}: {trial.adapter} gets no traffic.", err=True)
    await _all_back(session, list(out.values()), done)


async def _all_back(
    session: Session, out: "Sequence[tuple[GateTrial, str, str]]", done: JudgingRound
) -> None:
    """Roll versions back, each with the gate that failed and why; then tell people.

    One table is written at a time, and nobody's flip waits for another's smoke test, let alone
    for a webhook.
    """
    from fleetctl.rolling_back import tell_of  # noqa: PLC0415 (keeps `--help` fast)

    if not out:
        return
    done.code = FAILED
    done.failed += [trial.alias for trial, _, _ in out]
    scribe, turn = session.scribe(down=why(done)), asyncio.Lock()
    back = await asyncio.gather(*(_back(session, *each, scribe, turn, done) for each in out))
    told = await asyncio.gather(
        *(
            tell_of(session, result, _cause(gate, done), scribe)
            for result, (_, gate, _) in zip(back, out, strict=True)
            if result is not None
        )
    )
    for line in (line for lines in told for line in lines):
        click.echo(f"Warning: {line}", err=True)


def _cause(gate: str, done: JudgingRound) -> str:
    return f"gate {gate}{_AWAY if done.away else ''}"


def why(done: JudgingRound) -> str:
    """Return why nothing can be written down; empty where the ledger was read."""
    return done.away.diagnostics[0].detail.rstrip(".") if done.away is not None else ""


async def _back(
    session: Session,
    trial: "GateTrial",
    gate: str,
    reason: str,
    scribe: "LedgerOutbox",
    turn: asyncio.Lock,
    done: JudgingRound,
) -> "RollbackResult | None":
    """Roll one version back and say so; None where that is not possible."""
    from fleet.errors import FleetError  # noqa: PLC0415 (keeps `--help` fast)
    from fleetctl.rolling_back import roll_back  # noqa: PLC0415
    from plans.diagnostics import render_text  # noqa: PLC0415

    try:
        result = await roll_back(
            session,
            trial.alias,
            trial.stable,
            reason=f"{gate}: {reason}",
            cause=_cause(gate, done),
            only=trial.adapter,
            facts={"gate": gate, "digest": trial.digests["adapter"]},
            scribe=scribe,
            turn=turn,
        )
    except FleetError as error:  # nobody else's rollback waits for this one; the next tick retries
        done.stuck = True
        click.echo(render_text(error.diagnostics), err=True, nl=False)
        return None
    done.moved = True
    for line in result.warnings:
        click.echo(f"Warning: {line}", err=True)
    for line in result.failures:
        click.echo(f"Error: {line}", err=True)
    click.echo(f"Rolled back: {result.sentence}", err=True)
    return result
