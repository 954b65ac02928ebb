"""Executes a plan: lease, recovery of an earlier run's open steps, schedule, verification."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from fleet.errors import EngineError, FleetError, LockHeldError
from fleet.history import (
    ApplyFinished,
    ApplyStarted,
    History,
    frozen_fleet,
    marked_unsure,
    settings_to_record,
    with_damage,
)
from fleet.names import adapter_address
from fleet.plan import Action, Plan
from fleet.planning import changed_by_others, forgotten, recovered
from fleet.resources import State
from fleet.steps import ApplyEvent, Emit, LoadAdapter, StartServer, StopServer
from runtime.engines.protocol import Engine
from runtime.execute.checks import impossible_steps
from runtime.execute.context import ExecutionContext, FreezeWatch, Journal
from runtime.execute.live_view import LiveView
from runtime.execute.outcome import (
    DONE,
    ApplyOutcome,
    StepOutcome,
    StepResult,
    describe,
    unconverged,
)
from runtime.execute.scheduler import Scheduler
from runtime.ledger.protocol import Lease
from runtime.observe import observe

TOLD_AFTER_S = 1.0
"""Time after which the check before the first step is worth an event, in seconds."""


def moved_since(plan: Plan, live: State) -> tuple[str, ...]:
    """Return, as lines, the changes whose resource is neither as before nor as after the change."""
    return tuple(
        f"{change.address}: {describe(before)} in the plan, {describe(now)} now"
        for change in plan.changes
        if live.knows(change.address)
        # The own address of a move was empty.
        for before in [None if change.action is Action.MOVE else change.before]
        for now in [live.resources.get(change.address)]
        if now not in (before, change.after)
    )


async def execute(
    plan: Plan,
    context: ExecutionContext,
    emit: Emit,
    *,
    stop: asyncio.Event,
    trigger: str = "apply",
    replan: Callable[[State], Plan] | None = None,
    heeds_freeze: bool = True,
    settings: Mapping[str, str] | None = None,
) -> ApplyOutcome:
    """Execute a plan under the lease, journaled, and verify the result.

    A second execution is safe at any time: a resource that is as it should be is adopted.

    `stop`: once set no further step begins; those that run are finished. A caller that cannot wait
    cancels the task; the next run finds out how these steps ended. `trigger`: the command, for the
    record. `replan`: plans again from the live state at the end, to count the changes still due.
    `heeds_freeze`: whether a freeze stops the plan; False for repairs and ways back. `settings`:
    all that are declared, of which the plan's are recorded; None: a plan that changes none.

    Raises:
        LockHeldError: another run holds the lease; nothing was done.
        FrozenError: FC6067, the fleet is frozen; nothing was done.
        FleetError: the ledger cannot be read or written.
    """
    began = time.monotonic()
    with context.ledger.lease(context.holder, context.timings.lease) as lease:
        emit(ApplyEvent("lock_acquired", {"token": lease.token}))
        history = await asyncio.to_thread(context.ledger.history)
        if heeds_freeze and history.freeze is not None:
            raise frozen_fleet(history.freeze, "Nothing of the plan was done")
        watch = FreezeWatch(context.ledger, history) if heeds_freeze else None
        journal = Journal(context.ledger, lease.token)
        operations = (step.operation for step in plan.steps)
        servers = (work.server for work in operations if isinstance(work, StartServer | StopServer))
        view = LiveView(context, {server.name: server.host for server in servers})
        scheduler = Scheduler(plan, context, view, journal, stop=stop, emit=emit, watch=watch)
        live = await _recover(scheduler, view, journal, history)
        steps, commit = len(plan.steps), context.commit
        record = None if settings is None else settings_to_record(plan, settings, history)
        due = None if settings is None else len(plan.settings)
        drawn = None if history.fleet_id else context.fleet_id or None
        await journal.write(ApplyStarted(plan.id, plan.fleet, commit, trigger, steps, due, drawn))
        facts = {"changes": len(plan.changes), "steps": steps, "trigger": trigger}
        emit(ApplyEvent("plan_started", facts))
        beside = _renew_lease(lease, scheduler), _report_interrupt(stop, scheduler)
        async with _alongside(*beside, _heartbeat(scheduler)):
            try:
                await _check(scheduler, view, live, history)
                await scheduler.run()
            except asyncio.CancelledError:
                with suppress(FleetError):
                    await asyncio.shield(journal.write())
                raise
            seconds = time.monotonic() - began
            outcome = await _verified(scheduler, view, journal, stop, seconds, replan, record)
    summary = {"result": outcome.result, "exit_code": outcome.exit_code, **outcome.counts}
    summary |= {"unseen": list(outcome.unseen), "seconds": round(outcome.seconds, 3)}
    emit(ApplyEvent("run_complete", summary))
    return outcome


async def _recover(
    scheduler: Scheduler, view: LiveView, journal: Journal, history: History
) -> State:
    """Settle the open steps of an earlier run, and publish the newest table to lagging gateways.

    Damage of copies is recorded before the first step: a server may have read them. Returns
    the live state.
    """
    context = scheduler.context
    live = await observe(context.engines, context.gateways)
    view.learn(live)
    found = recovered(history, live)
    damage = await asyncio.to_thread(context.find_damage, history, live)
    view.damage = with_damage(history.damage, damage)
    await journal.write(*(event for _, _, event in found), *damage)
    for step, how, _ in found:
        scheduler.emit(ApplyEvent("recovered", {"step": step, "how": how}))
    if (live.notes or live.behind) and not live.routes_unknown:
        with suppress(FleetError):  # a step that needs the gateways says so itself
            await scheduler.routes.repeat(always=True)
    return live


async def _check(scheduler: Scheduler, view: LiveView, live: State, history: History) -> None:
    """Leave out the steps that cannot succeed, with all that serves them alone."""
    steps = scheduler.plan.steps

    async def tell() -> None:
        await asyncio.sleep(TOLD_AFTER_S)
        kinds = Counter(type(step.operation) for step in steps)
        facts = {"adapters": kinds[LoadAdapter], "starts": kinds[StartServer]}
        scheduler.emit(ApplyEvent("checking", facts))

    async with _alongside(tell()):
        impossible = await impossible_steps(
            steps, scheduler.context, view, live, history, scheduler.hung
        )
    scheduler.leave_out(impossible, live)


async def _verified(
    scheduler: Scheduler,
    view: LiveView,
    journal: Journal,
    stop: asyncio.Event,
    seconds: float,
    replan: Callable[[State], Plan] | None,
    record: Mapping[str, str | None] | None,
) -> ApplyOutcome:
    """Observe again, compare with the plan, and close the journal."""
    plan, context = scheduler.plan, scheduler.context
    not_run = StepResult(StepOutcome.NOT_RUN)
    results = {step.id: scheduler.results.get(step.id, not_run) for step in plan.steps}
    if scheduler.lost is not None:  # what is live is the other run's to say
        interrupted = stop.is_set() and not_run in results.values()
        return ApplyOutcome(results, interrupted, scheduler.lost.diagnostics[0], (), None, seconds)
    live = marked_unsure(await observe(context.engines, context.gateways), view.damage)
    missing = unconverged(plan, live)
    due: int | None = None
    whole = plan
    await journal.write()  # replanning reads the ledger
    if replan is not None and not missing:
        with suppress(FleetError):  # a fleet that no longer fits is the next plan's to say
            whole = await asyncio.to_thread(replan, live)
            due = len(whole.changes)
    outcome = ApplyOutcome(
        results=results,
        interrupted=stop.is_set() and not_run in results.values(),
        lost=None,
        unconverged=missing,
        due=due,
        seconds=seconds,
        notes=tuple(dict.fromkeys((*scheduler.routes.notes, *live.notes))),
        unseen=(
            *sorted(live.unknown_servers),
            *(["routes and keys"] if live.routes_unknown else ()),
        ),
        frozen=scheduler.frozen is not None and not_run in results.values(),
        live=live,
    )
    gone: tuple[str, ...] = ()
    if due == 0:
        history = await asyncio.to_thread(context.ledger.history)
        gone = forgotten(history, live)
        await journal.write(*changed_by_others(whole.changes, whole.held, history, live))
        with suppress(EngineError):  # a disk that is full is told by the ledger
            await keep_for_restart(context.engines, live, history)
    settings = record if outcome.exit_code == DONE else None
    event = ApplyFinished(plan.id, outcome.result, outcome.counts, live.boots, gone, settings)
    await journal.write(event)
    facts = {"converged": not missing, "remaining": list(missing), "due": due}
    scheduler.emit(ApplyEvent("verified", {**facts, "notes": list(outcome.notes)}))
    return outcome


async def keep_for_restart(engines: Mapping[str, Engine], live: State, history: History) -> None:
    """Let a restart bring back the live adapters that are established or routed, and no others.

    Another checkout may have loaded those that a route names here.

    Raises:
        EngineError: FC4080, a file cannot be written.
    """
    routed = {
        adapter_address(share.adapter, server)
        for route in live.routes().values()
        for share in route.shares
        for server in share.servers
    }
    kept = {
        address
        for address, adapter in live.adapters().items()
        if history.established.get(address) == adapter or address in routed
    }
    for engine in engines.values():
        await engine.keep_for_restart(live, kept)


async def _renew_lease(lease: Lease, scheduler: Scheduler) -> None:
    """Renew the lease; when it is lost, no further step begins."""
    while True:
        await asyncio.sleep(scheduler.context.timings.renew)
        try:
            await asyncio.to_thread(lease.renew)
        except LockHeldError as error:
            scheduler.stop_lease_lost(error)
            return
        except (FleetError, OSError):
            continue  # until the lease expires there is time to try again


async def _report_interrupt(stop: asyncio.Event, scheduler: Scheduler) -> None:
    await stop.wait()
    scheduler.emit(ApplyEvent("interrupted", {"running": sorted(scheduler.running)}))


async def _heartbeat(scheduler: Scheduler) -> None:
    interval = scheduler.context.timings.heartbeat
    while True:
        await asyncio.sleep(interval)
        for step, since in sorted(scheduler.running.items()):
            if (seconds := time.monotonic() - since) >= interval:
                facts = {"step": step, "seconds": round(seconds, 1)}
                scheduler.emit(ApplyEvent("step_progress", facts))


@asynccontextmanager
async def _alongside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Let coroutines run while the block runs."""
    tasks = [asyncio.create_task(coroutine) for coroutine in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
