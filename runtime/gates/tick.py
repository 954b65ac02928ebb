"""One tick: judges live gates at once, runs evaluations beside, records findings in the ledger."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from fleet.errors import Diagnostic, FleetError, problem
from fleet.history import Entry, EvidenceCheck, GateEvidence, History, LedgerEvent, check_evidence
from fleet.resources import FULL, State
from fleet.rollouts import GateTrial, due_gates
from fleet.spec import FleetSpec
from runtime.evals.context import EvalContext
from runtime.evals.protocol import ReportProgress
from runtime.gates.evidence import JudgedGate, RecordedGate, worth_recording
from runtime.gates.live import BEFORE, WINDOWS_A_BAKE, began, judge_traffic, nothing
from runtime.gates.offline import OfflineResult, judge_golden, unexpected
from runtime.gateway.client import usage_sources
from runtime.usage.read import UsageReader
from runtime.usage.segments import GATEWAYS
from runtime.usage.sync import sync_usage

AT_ONCE = 2
"""Trials that are evaluated at the same time; more would be load that clients feel."""


@dataclass(frozen=True, slots=True)
class TickContext:
    """The facts of one tick."""

    fleet: FleetSpec
    live: State
    history: History
    entries: Sequence[Entry]
    state_dir: Path
    now: datetime
    behind: FleetError | None = None
    """Why nothing may pass: this clock is behind the ledger."""
    tampered: Mapping[str, EvidenceCheck] = field(default_factory=dict)
    """By alias: the verdict that was tampered with; `history` is without it."""
    anew: frozenset[str] = frozenset()
    """Aliases that were released from such a verdict and are not judged anew yet."""

    def may_pass(self, alias: str) -> bool:
        """Say whether anything but a failure of this alias is to be believed and written down."""
        return self.behind is None and alias not in self.tampered

    @property
    def trials(self) -> tuple[GateTrial, ...]:
        """What is being tried."""
        return due_gates(self.fleet, self.live, self.history, self.now)


def unsound(
    entries: Iterable[Entry], history: History, of: Collection[str] | None = None
) -> dict[str, EvidenceCheck]:
    """Return, by alias, a verdict that counts now and does not follow from its own counts.

    Those that are over are for `fleetctl evidence verify`: a long past must not slow a tick.
    `of`: these aliases; None: all.
    """
    whose = {evidence.seq: alias for alias, found in history.evidence.items() for evidence in found}
    for alias, rejected in history.rejected.items():
        whose |= {evidence.seq: alias for evidence in rejected.values()}
    whose = {seq: alias for seq, alias in whose.items() if of is None or alias in of}
    found = check_evidence(entry for entry in entries if entry.seq in whose)
    return {whose[check.seq]: check for check in found if check.differs}


def trusted(history: History, tampered: Mapping[str, EvidenceCheck]) -> History:
    """Return the history without what gates said of these aliases, so that they are asked anew."""
    if not tampered:
        return history
    evidence = {key: records for key, records in history.evidence.items() if key not in tampered}
    rejected = {key: record for key, record in history.rejected.items() if key not in tampered}
    return replace(history, evidence=evidence, rejected=rejected)


def tampering(alias: str, found: EvidenceCheck) -> Diagnostic:
    """Return FC5130, which names the ledger's entry."""
    return problem(
        "FC5130",
        "Evidence was tampered with",
        f"Ledger entry {found.seq}, gate {found.gate} of {found.adapter}: {found.differs}. "
        f"`{alias}` does not move on while this stands. Its live gates are asked all the same "
        "and take traffic back.",
        hint="Find out who wrote it. To judge the version anew, release it.",
        command="fleetctl evidence verify",
    )


async def gather_usage(context: TickContext, clock: Callable[[], datetime]) -> tuple[str, ...]:
    """Copy what gateways on other machines have written since the earliest rollout under way.

    Returns:
        Why requests may be lacking, a sentence for each gateway; see `sync_usage`.
    """
    starts = [
        began(trial, context.entries) for trial in context.trials if trial.live and trial.since
    ]
    if not starts:
        return ()
    sources = usage_sources(context.state_dir, context.fleet.gateways)
    return await sync_usage(sources, min(starts) - BEFORE, clock)


def judge_live(context: TickContext, missing: tuple[str, ...] = ()) -> list[JudgedGate]:
    """Judge every live gate of every trial; takes as long as reading the usage logs does.

    Args:
        context: What is looked at.
        missing: What `gather_usage` returned.
    """
    found: list[JudgedGate] = []
    usage = UsageReader(context.state_dir / GATEWAYS, missing)
    for trial in context.trials:
        rollout = context.fleet.rollouts[context.fleet.adapters[trial.alias].rollout]
        try:
            found += judge_traffic(
                trial, rollout, context.live, context.entries, usage, context.now
            )
        except Exception as error:  # noqa: BLE001 (nobody else's rollout must go unwatched)
            found += [nothing(trial, gate, unexpected(error)) for gate in trial.live]
    return found


def write_down(
    context: TickContext,
    judged: Iterable[JudgedGate],
    append: Callable[[Sequence[LedgerEvent]], object],
) -> list[RecordedGate]:
    """Append what tells more than the ledger knows."""
    known = {
        (evidence.alias, evidence.gate): evidence
        for found in context.history.evidence.values()
        for evidence in found
    }
    told = [RecordedGate(gate, _new(context, gate, known)) for gate in judged]
    events = [
        recorded.judged.event(recorded.judged.trial.since or context.now)
        for recorded in told
        if recorded.recorded
    ]
    if events:
        append(events)
    return told


def _new(
    context: TickContext, judged: JudgedGate, known: dict[tuple[str, str], GateEvidence]
) -> bool:
    trial = judged.trial
    rollout = context.fleet.rollouts[context.fleet.adapters[trial.alias].rollout]
    lasts = rollout.retain if trial.percent == FULL else rollout.bake
    every = lasts / WINDOWS_A_BAKE
    return worth_recording(
        judged, known.get((trial.alias, judged.finding.gate)), context.now, every
    )


@dataclass(slots=True)
class Evaluations:
    """Evaluations under way; a round neither waits for them nor starts one twice."""

    running: dict[tuple[str, str], "asyncio.Task[OfflineResult]"] = field(default_factory=dict)
    """By alias and version."""
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def start(
        self,
        context: TickContext,
        evals: EvalContext,
        report: Callable[[GateTrial], ReportProgress],
    ) -> tuple[GateTrial, ...]:
        """Start what is lacking; return the trials that are begun now."""
        begun = []
        for trial in context.trials:
            key = (trial.alias, trial.adapter)
            if trial.offline and key not in self.running and context.may_pass(trial.alias):
                work = self._one(trial, context, evals, report(trial))
                self.running[key] = asyncio.create_task(work)
                begun.append(trial)
        return tuple(begun)

    async def _one(
        self, trial: GateTrial, context: TickContext, evals: EvalContext, report: ReportProgress
    ) -> OfflineResult:
        async with self.room:
            return await judge_golden(trial, context.fleet, context.live, evals, report)

    async def finished(
        self, until: asyncio.Event | None = None
    ) -> list[tuple[tuple[str, str], OfflineResult]]:
        """Return what has ended and is not `taken` yet; once all has ended, or `until` is set.

        It is given again until it is taken, so that nobody is asked in vain where it cannot be
        written down.
        """
        if until is not None and self.running:
            stopped = asyncio.create_task(until.wait())
            ended = asyncio.gather(*self.running.values(), return_exceptions=True)
            either: set[asyncio.Future[Any]] = {stopped, ended}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if until.is_set():
                await self.stop()
        done = {key: task for key, task in self.running.items() if task.done()}
        for key, task in done.items():
            if task.cancelled() or task.exception() is not None:
                del self.running[key]  # the next round begins it anew
        return [(key, task.result()) for key, task in done.items() if key in self.running]

    def taken(self, key: tuple[str, str]) -> None:
        """Forget an evaluation that has ended, for it is written down."""
        del self.running[key]

    async def stop(self) -> None:
        """Give up what is under way; the next run begins it anew."""
        for task in self.running.values():
            task.cancel()
        await asyncio.gather(*self.running.values(), return_exceptions=True)
        self.running.clear()
