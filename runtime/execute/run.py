"""One execution: lease, recovery of an earlier run's open steps, schedule, verification."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from fleet.decoding import operation_result
from fleet.errors import FleetError, LockHeldError
from fleet.history import (
    ApplyFinished,
    ApplyStarted,
    History,
    LedgerEvent,
    Noted,
    StepFinished,
    fold_entries,
    settled,
)
from fleet.names import Address
from fleet.plan import Action, Change, Plan
from fleet.resources import Resource, State
from fleet.steps import ApplyEvent, Emit, StartServer, StopServer
from runtime.execute.context import ExecutionContext
from runtime.execute.journal import Journal
from runtime.execute.live_view import LiveView
from runtime.execute.outcome import ApplyOutcome, StepOutcome, StepResult
from runtime.execute.preconditions import describe
from runtime.execute.scheduler import Scheduler
from runtime.ledger.protocol import Lease
from runtime.observe import observe


def recovered(history: History, live: State) -> list[tuple[str, str, LedgerEvent]]:
    """Return the unfinished steps that can be decided: id, how each ended, and its event.

    `done`: its effect is there, so it counts as finished. `undone`: it is not, so it never
    happened, and the plan brings it again if it is still wanted.
    """
    open_still = settled(history, live).unfinished
    found: list[tuple[str, str, LedgerEvent]] = []
    for step, record in history.unfinished.items():
        if step in open_still:
            continue
        changes, after = operation_result(record.operation)
        if changes and live.resources.get(record.address) == after:
            server = record.address.removeprefix("server/")
            boot = live.boots.get(server, "") if after is not None else ""
            found.append((step, "done", StepFinished(step, record.address, "recovered", boot)))
        else:
            text = "begun by an earlier run, without effect"
            found.append((step, "undone", Noted(text, step)))
    return found


def unconverged(plan: Plan, live: State) -> tuple[Address, ...]:
    """Return the addresses that a plan changes and that are not as it would leave them."""
    return tuple(sorted(set(_unconverged(plan, live))))


def _unconverged(plan: Plan, live: State) -> Iterator[Address]:
    for change in plan.changes:
        if live.resources.get(change.address) != change.after:
            yield change.address
        before = change.before
        left = before is not None and before.address != change.address
        if change.action is Action.MOVE and before and left and before.address in live.resources:
            yield before.address


def forgotten(history: History, live: State) -> tuple[Address, ...]:
    """Return what was once established, is not live, and no plan asks for any more.

    Only to be asked when planning again finds nothing to do.
    """
    return tuple(
        sorted(
            address
            for address in history.established
            if address not in live.resources and live.knows(address)
        )
    )


def moved_since(plan: Plan, live: State) -> tuple[str, ...]:
    """Return, as lines, the changes whose resource is neither as before nor as after it."""
    return tuple(
        f"{change.address}: {describe(before)} in the plan, {describe(now)} now"
        for change in plan.changes
        if live.knows(change.address)
        for before in [_before(change)]
        for now in [live.resources.get(change.address)]
        if now not in (before, change.after)
    )


def _before(change: Change) -> Resource | None:
    """Return what a plan saw at a change's own address; a move's was empty."""
    return None if change.action is Action.MOVE else change.before


Replan = Callable[[State], Plan]
"""Plans again from a live state."""


async def execute(
    plan: Plan,
    context: ExecutionContext,
    emit: Emit,
    *,
    stop: asyncio.Event,
    trigger: str = "apply",
    replan: Replan | None = None,
) -> ApplyOutcome:
    """Carry out a plan under the lease, journaled, and verify it at the end.

    Running it again is safe at any time: what is already as it should be is adopted.

    Args:
        plan: The plan.
        context: Engines, gateways, ledger and library.
        emit: Takes the events.
        stop: Set from outside: no further step begins, those that run are finished. Whoever
            cannot wait for them cancels the task; the next run finds out how they ended.
        trigger: What asked for it, for the record.
        replan: Asked at the end whether anything is still due.

    Raises:
        LockHeldError: another run holds the lease; nothing was done.
        FleetError: the ledger cannot be read or written.
    """
    now = asyncio.get_running_loop().time
    began = now()
    with context.ledger.lease(context.holder, context.timings.lease) as lease:
        emit(ApplyEvent("lock_acquired", {"token": lease.token}))
        journal = Journal(context.ledger, lease.token)
        view = LiveView(context, _hosts(plan), now)
        scheduler = Scheduler(
            plan, context, view, journal, token=lease.token, stop=stop, emit=emit, now=now
        )
        await _recover(context, scheduler, view, journal, emit)
        steps, commit = len(plan.steps), context.commit
        await journal.write(ApplyStarted(plan.id, plan.fleet, commit, trigger, steps))
        told = {"changes": len(plan.changes), "steps": steps, "trigger": trigger}
        emit(ApplyEvent("plan_started", told))
        beside = (
            _renew_lease(lease, context, scheduler, emit),
            _report_interrupt(stop, scheduler, emit),
        )
        async with _alongside(*beside, _heartbeat(context, scheduler, now, emit)):
            try:
                await scheduler.run()
            except asyncio.CancelledError:
                with suppress(FleetError):
                    await asyncio.shield(journal.close())
                raise
            outcome = await _verified(
                scheduler, journal, stop=stop, seconds=now() - began, replan=replan
            )
    emit(ApplyEvent("run_complete", _summary(outcome)))
    return outcome


async def _recover(
    context: ExecutionContext, scheduler: Scheduler, view: LiveView, journal: Journal, emit: Emit
) -> None:
    """Settle the open steps of an earlier run, and publish the newest table to lagging gateways."""
    history = fold_entries(await asyncio.to_thread(context.ledger.read))
    live = await observe(context.engines, context.gateways)
    view.learn_hosts(live)
    found = recovered(history, live)
    await journal.write(*(event for _, _, event in found))
    for step, how, _ in found:
        emit(ApplyEvent("recovered", {"step": step, "how": how}))
    if live.notes and not live.routes_unknown:
        with suppress(FleetError):  # a step that needs the gateways says so itself
            await scheduler.routes.repeat()


async def _verified(
    scheduler: Scheduler,
    journal: Journal,
    *,
    stop: asyncio.Event,
    seconds: float,
    replan: Replan | None,
) -> ApplyOutcome:
    """Observe again, compare with the plan, and close the journal."""
    plan, context = scheduler.plan, scheduler.context
    ended = {
        step.id: scheduler.results.get(step.id, StepResult(StepOutcome.NOT_RUN))
        for step in plan.steps
    }
    cut = any(result.verdict is StepOutcome.NOT_RUN for result in ended.values())
    live = await observe(context.engines, context.gateways)
    missing = unconverged(plan, live)
    due: int | None = None
    gone: tuple[str, ...] = ()
    if scheduler.lost is None:
        await journal.close()
    if replan is not None and not missing and scheduler.lost is None:
        with suppress(FleetError):  # a fleet that no longer fits is the next plan's to say
            due = len((await asyncio.to_thread(replan, live)).changes)
    outcome = ApplyOutcome(
        results=ended,
        interrupted=stop.is_set() and cut,
        lost=scheduler.lost.diagnostics[0] if scheduler.lost else None,
        unconverged=missing,
        due=due,
        seconds=seconds,
        notes=tuple(dict.fromkeys((*scheduler.routes.notes, *live.notes))),
        unseen=(
            *sorted(live.unknown_servers),
            *(["routes and keys"] if live.routes_unknown else ()),
        ),
    )
    if scheduler.lost is None:
        if due == 0:
            gone = forgotten(fold_entries(await asyncio.to_thread(context.ledger.read)), live)
        await journal.write(
            ApplyFinished(plan.id, outcome.result, outcome.counts, live.boots, tuple(gone))
        )
    told = {"converged": not missing, "remaining": list(missing), "due": due}
    scheduler.emit(ApplyEvent("verified", {**told, "notes": list(outcome.notes)}))
    return outcome


def _summary(outcome: ApplyOutcome) -> Mapping[str, Any]:
    return {
        "result": outcome.result,
        "exit_code": outcome.exit_code,
        **outcome.counts,
        "unseen": list(outcome.unseen),
        "seconds": round(outcome.seconds, 3),
    }


def _hosts(plan: Plan) -> dict[str, str]:
    """Return the host of each server that the plan itself describes."""
    found = {}
    for step in plan.steps:
        match step.operation:
            case StartServer(server=server) | StopServer(server=server):
                found[server.name] = server.host
            case _:
                pass
    return found


async def _renew_lease(
    lease: Lease, context: ExecutionContext, scheduler: Scheduler, emit: Emit
) -> None:
    """Renew the lease; when it is lost, no further step begins."""
    while True:
        await asyncio.sleep(context.timings.renew)
        try:
            await asyncio.to_thread(lease.renew)
        except LockHeldError as error:
            scheduler.stop_lease_lost(error)
            emit(ApplyEvent("lock_lost", {"detail": error.diagnostics[0].detail}))
            return
        except (FleetError, OSError):
            continue  # until it expires there is time to try again


async def _report_interrupt(stop: asyncio.Event, scheduler: Scheduler, emit: Emit) -> None:
    await stop.wait()
    emit(ApplyEvent("interrupted", {"running": sorted(scheduler.running)}))


async def _heartbeat(
    context: ExecutionContext, scheduler: Scheduler, now: Callable[[], float], emit: Emit
) -> None:
    while True:
        await asyncio.sleep(context.timings.heartbeat)
        for step, since in sorted(scheduler.running.items()):
            seconds = now() - since
            if seconds >= context.timings.heartbeat:
                emit(ApplyEvent("step_progress", {"step": step, "seconds": round(seconds, 1)}))


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
