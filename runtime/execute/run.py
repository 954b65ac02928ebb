"""One execution from lease to verification.

Recovery: what an earlier run began and nobody knows the end of, decided by what is live.

Verify: whether what a plan promised is live. Pure.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from fleet.decoding import operation_result
from fleet.errors import FleetError, LockHeldError
from fleet.history import History, fold_entries, settled
from fleet.names import Address, name_in_address
from fleet.plan import Action, Change, Plan
from fleet.resources import Resource, State
from fleet.steps import ApplyEvent, Emit, StartServer, StopServer
from runtime.execute.context import ExecutionContext
from runtime.execute.journal import Journal, Record
from runtime.execute.live_view import LiveView
from runtime.execute.outcome import ApplyOutcome, StepOutcome, StepResult
from runtime.execute.preconditions import describe
from runtime.execute.scheduler import Scheduler
from runtime.ledger.protocol import Lease
from runtime.observe import observe


def recovered(history: History, live: State) -> list[tuple[str, str, Record]]:
    """Return the unfinished steps that can be decided: id, how each ended, and its record.

    `done`: its effect is there, so it counts as finished. `undone`: it is not, so it never
    happened, and the plan brings it again if it is still wanted.
    """
    open_still = settled(history, live).unfinished
    found: list[tuple[str, str, Record]] = []
    for step, each in history.unfinished.items():
        if step in open_still:
            continue
        changes, after = operation_result(each.operation)
        if changes and live.resources.get(each.address) == after:
            server = name_in_address(each.address)
            boot = live.boots.get(server, "") if after is not None else ""
            data = {"step": step, "address": each.address, "how": "recovered", "boot": boot}
            found.append((step, "done", ("step_finished", data)))
        else:
            text = "begun by an earlier run, without effect"
            found.append((step, "undone", ("note", {"step": step, "text": text})))
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
    world: ExecutionContext,
    emit: Emit,
    *,
    stop: asyncio.Event,
    trigger: str = "apply",
    replan: Replan | None = None,
) -> ApplyOutcome:
    """Carry out a plan under the lease, journaled, and verify it at the end.

    Running it again is safe at any time: what is already as it should be is adopted.

    Args:
        plan: What to do.
        world: What to do it to.
        emit: Told what happens.
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
    with world.ledger.lease(world.holder, world.pace.lease) as lease:
        emit(ApplyEvent("lock_acquired", {"token": lease.token}))
        journal = Journal(world.ledger, lease.token)
        sight = LiveView(world, _hosts(plan), now)
        walk = Scheduler(
            plan, world, sight, journal, token=lease.token, stop=stop, emit=emit, now=now
        )
        await _recover(world, walk, sight, journal, emit)
        told = {"steps": len(plan.steps), "trigger": trigger}
        about = {"plan_id": plan.id, "fleet": plan.fleet, "commit": world.commit}
        await journal.write(("apply_started", {**about, **told}))
        emit(ApplyEvent("plan_started", {"changes": len(plan.changes), **told}))
        beside = (_keep(lease, world, walk, emit), _heed(stop, walk, emit))
        async with _beside(*beside, _heartbeat(world, walk, now, emit)):
            try:
                await walk.go()
            except asyncio.CancelledError:
                with suppress(FleetError):
                    await asyncio.shield(journal.close())
                raise
            outcome = await _verified(
                walk, journal, stop=stop, seconds=now() - began, replan=replan
            )
    emit(ApplyEvent("run_complete", _summary(outcome)))
    return outcome


async def _recover(
    world: ExecutionContext, walk: Scheduler, sight: LiveView, journal: Journal, emit: Emit
) -> None:
    """Settle what an earlier run left open, and give lagging gateways the newest table."""
    history = fold_entries(await asyncio.to_thread(world.ledger.read))
    live = await observe(world.engines, world.gateways)
    sight.meet(live)
    found = recovered(history, live)
    await journal.write(*(record for _, _, record in found))
    for step, how, _ in found:
        emit(ApplyEvent("recovered", {"step": step, "how": how}))
    if live.notes and not live.routes_unknown:
        with suppress(FleetError):  # a step that needs the gateways says so itself
            await walk.routes.repeat()


async def _verified(
    walk: Scheduler,
    journal: Journal,
    *,
    stop: asyncio.Event,
    seconds: float,
    replan: Replan | None,
) -> ApplyOutcome:
    """Look again, compare with what the plan promised, and close the record."""
    plan, world = walk.plan, walk.world
    ended = {
        each.id: walk.results.get(each.id, StepResult(StepOutcome.NOT_RUN)) for each in plan.steps
    }
    cut = any(each.verdict is StepOutcome.NOT_RUN for each in ended.values())
    live = await observe(world.engines, world.gateways)
    missing = unconverged(plan, live)
    due: int | None = None
    gone: tuple[str, ...] = ()
    if walk.lost is None:
        await journal.close()
    if replan is not None and not missing and walk.lost is None:
        with suppress(FleetError):  # a fleet that no longer fits is the next plan's to say
            due = len((await asyncio.to_thread(replan, live)).changes)
    outcome = ApplyOutcome(
        results=ended,
        interrupted=stop.is_set() and cut,
        lost=walk.lost.diagnostics[0] if walk.lost else None,
        unconverged=missing,
        due=due,
        seconds=seconds,
        notes=tuple(dict.fromkeys((*walk.routes.notes, *live.notes))),
        unseen=(
            *sorted(live.unknown_servers),
            *(["routes and keys"] if live.routes_unknown else ()),
        ),
    )
    if walk.lost is None:
        if due == 0:
            gone = forgotten(fold_entries(await asyncio.to_thread(world.ledger.read)), live)
        data = {"plan_id": plan.id, "result": outcome.result, "counts": outcome.counts}
        data |= {"boots": dict(live.boots), "gone": list(gone)}
        await journal.write(("apply_finished", data))
    told = {"converged": not missing, "remaining": list(missing), "due": due}
    walk.tell(ApplyEvent("verified", {**told, "notes": list(outcome.notes)}))
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


async def _keep(lease: Lease, world: ExecutionContext, walk: Scheduler, emit: Emit) -> None:
    """Renew the lease; when it is lost, no further step begins."""
    while True:
        await asyncio.sleep(world.pace.renew)
        try:
            await asyncio.to_thread(lease.renew)
        except LockHeldError as error:
            walk.lose(error)
            emit(ApplyEvent("lock_lost", {"detail": error.diagnostics[0].detail}))
            return
        except (FleetError, OSError):
            continue  # until it expires there is time to try again


async def _heed(stop: asyncio.Event, walk: Scheduler, emit: Emit) -> None:
    await stop.wait()
    emit(ApplyEvent("interrupted", {"running": sorted(walk.running)}))


async def _heartbeat(
    world: ExecutionContext, walk: Scheduler, now: Callable[[], float], emit: Emit
) -> None:
    while True:
        await asyncio.sleep(world.pace.heartbeat)
        for step, since in sorted(walk.running.items()):
            seconds = now() - since
            if seconds >= world.pace.heartbeat:
                emit(ApplyEvent("step_progress", {"step": step, "seconds": round(seconds, 1)}))


@asynccontextmanager
async def _beside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Let coroutines run while the block runs."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
