"""One execution from lease to verification."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from fleet.errors import FleetError, LockHeldError
from fleet.history import fold
from fleet.plan import Plan, StartServer, StopServer
from fleet.progress import Emit, Event
from fleet.resources import State
from runtime.execute.journal import Journal
from runtime.execute.outcome import Outcome, Result, Verdict
from runtime.execute.recover import recovered
from runtime.execute.sight import Sight
from runtime.execute.verify import forgotten, unconverged
from runtime.execute.walk import Walk
from runtime.execute.world import World
from runtime.ledger.protocol import Lease
from runtime.observe import observe

Replan = Callable[[State], Plan]
"""Plans again from a live state."""


async def execute(
    plan: Plan,
    world: World,
    emit: Emit,
    *,
    stop: asyncio.Event,
    trigger: str = "apply",
    replan: Replan | None = None,
) -> Outcome:
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
        emit(Event("lock_acquired", {"token": lease.token}))
        journal = Journal(world.ledger, lease.token)
        sight = Sight(world, _hosts(plan), now)
        walk = Walk(plan, world, sight, journal, token=lease.token, stop=stop, emit=emit, now=now)
        await _recover(world, walk, sight, journal, emit)
        told = {"steps": len(plan.steps), "trigger": trigger}
        about = {"plan_id": plan.id, "fleet": plan.fleet, "commit": world.commit}
        await journal.write(("apply_started", {**about, **told}))
        emit(Event("plan_started", {"changes": len(plan.changes), **told}))
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
    emit(Event("run_complete", _summary(outcome)))
    return outcome


async def _recover(world: World, walk: Walk, sight: Sight, journal: Journal, emit: Emit) -> None:
    """Settle what an earlier run left open, and give lagging gateways the newest table."""
    history = fold(await asyncio.to_thread(world.ledger.read))
    live = await observe(world.engines, world.gateways)
    sight.meet(live)
    found = recovered(history, live)
    await journal.write(*(record for _, _, record in found))
    for step, how, _ in found:
        emit(Event("recovered", {"step": step, "how": how}))
    if live.notes and not live.routes_unknown:
        with suppress(FleetError):  # a step that needs the gateways says so itself
            await walk.routes.repeat()


async def _verified(
    walk: Walk,
    journal: Journal,
    *,
    stop: asyncio.Event,
    seconds: float,
    replan: Replan | None,
) -> Outcome:
    """Look again, compare with what the plan promised, and close the record."""
    plan, world = walk.plan, walk.world
    ended = {each.id: walk.results.get(each.id, Result(Verdict.NOT_RUN)) for each in plan.steps}
    cut = any(each.verdict is Verdict.NOT_RUN for each in ended.values())
    live = await observe(world.engines, world.gateways)
    missing = unconverged(plan, live)
    due: int | None = None
    gone: tuple[str, ...] = ()
    if walk.lost is None:
        await journal.close()
    if replan is not None and not missing and walk.lost is None:
        with suppress(FleetError):  # a fleet that no longer fits is the next plan's to say
            due = len((await asyncio.to_thread(replan, live)).changes)
    outcome = Outcome(
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
            gone = forgotten(fold(await asyncio.to_thread(world.ledger.read)), live)
        data = {"plan_id": plan.id, "result": outcome.result, "counts": outcome.counts}
        data |= {"boots": dict(live.boots), "gone": list(gone)}
        await journal.write(("apply_finished", data))
    told = {"converged": not missing, "remaining": list(missing), "due": due}
    walk.tell(Event("verified", {**told, "notes": list(outcome.notes)}))
    return outcome


def _summary(outcome: Outcome) -> Mapping[str, Any]:
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


async def _keep(lease: Lease, world: World, walk: Walk, emit: Emit) -> None:
    """Renew the lease; when it is lost, no further step begins."""
    while True:
        await asyncio.sleep(world.pace.renew)
        try:
            await asyncio.to_thread(lease.renew)
        except LockHeldError as error:
            walk.lose(error)
            emit(Event("lock_lost", {"detail": error.diagnostics[0].detail}))
            return
        except (FleetError, OSError):
            continue  # until it expires there is time to try again


async def _heed(stop: asyncio.Event, walk: Walk, emit: Emit) -> None:
    await stop.wait()
    emit(Event("interrupted", {"running": sorted(walk.running)}))


async def _heartbeat(world: World, walk: Walk, now: Callable[[], float], emit: Emit) -> None:
    while True:
        await asyncio.sleep(world.pace.heartbeat)
        for step, since in sorted(walk.running.items()):
            seconds = now() - since
            if seconds >= world.pace.heartbeat:
                emit(Event("step_progress", {"step": step, "seconds": round(seconds, 1)}))


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
