"""Judges at a tick: live gates at once, golden sets beside; records findings in the ledger."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from fleet.history import Doubts, Entry, History, find_doubts, settled
from fleet.resources import FULL, State
from fleet.rollouts import GateTrial, decide_upgrades, due_gates, upgrade_trials
from fleet.spec import FleetSpec
from runtime.evals.context import EvalContext, ReportProgress
from runtime.gates.evidence import JudgedGate, unjudged, worth_recording
from runtime.gates.live import WEEKS, WINDOWS_A_BAKE, Pasts, began, judge_traffic
from runtime.gates.offline import OfflineResult, judge_golden, obstacle, prevented
from runtime.gateway.control.client import usage_sources
from runtime.ledger.protocol import LedgerSnapshot
from runtime.usage.log import GATEWAYS
from runtime.usage.read import UsageReader
from runtime.usage.sync import sync_usage

AT_ONCE = 2
"""Trials that are evaluated at the same time; more would be load that clients feel."""
REST: Final = timedelta(hours=1)
"""Time from the begin of an evaluation that crashed to the next: each asks clients' servers."""


@dataclass(frozen=True, slots=True)
class TickContext:
    """The facts of a tick."""

    fleet: FleetSpec
    live: State
    history: History
    """The ledger, folded, without evidence that was tampered with."""
    entries: Sequence[Entry]
    state_dir: Path
    now: datetime
    trials: tuple[GateTrial, ...]
    """Of versions, and of servers with new settings."""
    doubts: Doubts = field(default_factory=Doubts)


def tick_context(
    fleet: FleetSpec, live: State, known: LedgerSnapshot, state_dir: Path, now: datetime
) -> TickContext:
    """Return the facts of a tick, and the trials that follow from these facts."""
    history, entries = settled(known.history(), live), known.entries
    doubts, trusted = find_doubts(fleet, known.standing(), history, now)
    upgrades = decide_upgrades(fleet, live, trusted, now)
    trials = due_gates(fleet, live, trusted, now) + upgrade_trials(fleet, live, upgrades)
    return TickContext(fleet, live, trusted, entries, state_dir, now, trials, doubts)


async def gather_usage(context: TickContext, clock: Callable[[], datetime]) -> tuple[str, ...]:
    """Copy the usage rows of gateways on other machines since the earliest rollout under way.

    Returns as `sync_usage` why requests may be lacking, a sentence for every gateway.
    """
    tried = [trial for trial in context.trials if trial.live and trial.since]
    if not tried:
        return ()
    start = min(began(trial, context.entries) for trial in tried)
    sources = usage_sources(context.state_dir, context.fleet.gateways)
    return await sync_usage(sources, start - WEEKS, clock)


def judge_live(
    context: TickContext, missing: tuple[str, ...] = (), pasts: Pasts | None = None
) -> list[JudgedGate]:
    """Judge every live gate of every trial; takes as long as reading the usage logs does.

    `missing`: the result of `gather_usage`. `pasts`: as of `judge_traffic`.
    """
    watched = [trial for trial in context.trials if trial.live]
    if not watched:
        return []
    found: list[JudgedGate] = []
    usage = UsageReader(context.state_dir / GATEWAYS, missing)
    fleet, live, entries, now = context.fleet, context.live, context.entries, context.now
    is_new = _novelty(context)
    for trial in watched:
        rollout = fleet.rollouts[fleet.adapters[trial.alias].rollout]
        try:
            found += judge_traffic(trial, rollout, live, entries, usage, now, is_new, pasts)
        except Exception as error:  # noqa: BLE001 (the other rollouts must be watched all the same)
            found += [unjudged(trial, gate, obstacle(error)) for gate in trial.live]
    return found


def new_findings(context: TickContext, judged: Iterable[JudgedGate]) -> list[JudgedGate]:
    """Return the findings that tell more than the ledger knows."""
    return list(filter(_novelty(context), judged))


def _novelty(context: TickContext) -> Callable[[JudgedGate], bool]:
    known = {
        (evidence.alias, evidence.gate): evidence
        for found in context.history.evidence.values()
        for evidence in found
    }
    on_canaries = {trial.key: trial.upgrade for trial in context.trials if trial.upgrade}

    def is_new(gate: JudgedGate) -> bool:
        trial = gate.trial
        if upgrade := on_canaries.get(trial.key):
            return not upgrade.knows(trial.alias, gate.finding)
        rollout = context.fleet.rollouts[context.fleet.adapters[trial.alias].rollout]
        every = (rollout.retain if trial.percent == FULL else rollout.bake) / WINDOWS_A_BAKE
        return worth_recording(
            gate, known.get((trial.alias, gate.finding.gate)), context.now, every
        )

    return is_new


@dataclass(slots=True)
class Evaluations:
    """Evaluations under way; a round neither waits for them nor starts one twice."""

    running: dict[tuple[str, str], "asyncio.Task[OfflineResult]"] = field(default_factory=dict)
    """By `GateTrial.key`."""
    pasts: Pasts = field(default_factory=dict)
    """Usual times and users before the rollouts, kept from round to round."""
    rests: dict[tuple[str, str], datetime] = field(default_factory=dict)
    """Time before which an evaluation that crashed is not begun again, by `GateTrial.key`."""
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def start(
        self,
        context: TickContext,
        make_evals: Callable[[], EvalContext],
        report: Callable[[GateTrial], ReportProgress],
    ) -> list[GateTrial]:
        """Start the evaluations that are lacking; return the trials that are begun now."""
        begun = [
            trial
            for trial in context.trials
            if trial.offline
            and trial.key not in self.running
            and context.now >= self.rests.get(trial.key, context.now)
            and context.doubts.may_pass(trial.alias)
        ]
        for trial in begun:
            work = self._evaluate(trial, context, make_evals, report(trial))
            self.running[trial.key] = asyncio.create_task(work)
        return begun

    async def _evaluate(
        self,
        trial: GateTrial,
        context: TickContext,
        make_evals: Callable[[], EvalContext],
        report: ReportProgress,
    ) -> OfflineResult:
        """Judge the golden sets of a trial; an error is the reason why they have no verdict."""
        async with self.room:
            try:
                fleet, evals = context.fleet, make_evals()
                result = await judge_golden(trial, fleet, context.live, evals, report)
            except Exception as error:  # noqa: BLE001 (the other trials are judged)
                result = prevented(trial, trial.offline, error)
        if result.crashed:
            self.rests[trial.key] = context.now + REST
        return result

    async def finished(
        self, until: asyncio.Event | None = None
    ) -> list[tuple[tuple[str, str], OfflineResult]]:
        """Return the results that are not `taken` yet; with `until`: once all have ended.

        A result is returned again until it is taken: where a result cannot be written down, the
        evaluation is not made a second time. Once `until` is set the others are given up.
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
            if task.cancelled():
                del self.running[key]  # the next round begins the evaluation anew
        return [(key, task.result()) for key, task in done.items() if key in self.running]

    def taken(self, key: tuple[str, str]) -> None:
        """Forget an evaluation that has ended and is written down."""
        del self.running[key]

    async def stop(self) -> None:
        """Give up evaluations that are under way; the next run begins them anew."""
        for task in self.running.values():
            task.cancel()
        await asyncio.gather(*self.running.values(), return_exceptions=True)
        self.running.clear()
