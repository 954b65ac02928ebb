"""Schedules the step graph: lanes run at the same time, the steps of a lane one after another."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from itertools import islice
from typing import Any

from fleet.codec import plain
from fleet.errors import (
    EngineRejectedError,
    EngineUnreachableError,
    FleetError,
    LockHeldError,
    StalePlanError,
)
from fleet.history import LedgerEvent, StepFailed, StepFinished, StepStarted
from fleet.names import alias_of, name_in_address, step_parts
from fleet.plan import Freeze, Plan, Reason
from fleet.resources import Resource, State
from fleet.steps import (
    ApplyEvent,
    DeleteKey,
    DeleteRoute,
    Drain,
    Emit,
    LoadAdapter,
    SetKey,
    SetRoute,
    SmokeTest,
    StartServer,
    Step,
    StopServer,
    UnloadAdapter,
)
from runtime.execute.context import ExecutionContext, FreezeWatch, Journal
from runtime.execute.live_view import LiveView
from runtime.execute.outcome import StepOutcome, StepResult, StepState, step_state
from runtime.execute.routes import RouteWriter, stale
from runtime.execute.steps import perform, server_of


def not_begun(steps: Sequence[Step], impossible: Collection[str], live: State) -> dict[str, str]:
    """Return by id the steps not to begin, with the impossible step that is the cause.

    `impossible`: ids of steps; they are left out of the result. `steps`: in an order that their
    needs allow. `live`: the state before the first step.
    """
    cause = {step.id: step.id for step in steps if step.id in impossible}
    while True:
        known = len(cause)
        for step in steps:
            needed = next((need for need in step.needs if need in cause), None)
            if needed is not None:
                cause.setdefault(step.id, cause[needed])
        for step_id, reason in _futile(steps, cause, live):
            cause.setdefault(step_id, reason)
        if len(cause) == known:
            return {name: why for name, why in cause.items() if name not in impossible}


def _futile(steps: Sequence[Step], cause: dict[str, str], live: State) -> Iterator[tuple[str, str]]:
    """Yield the steps that prepare steps not begun, with the cause of these."""
    after: dict[str, list[str]] = defaultdict(list)
    """Ids of the steps that need a step."""
    hit: dict[str, dict[str, str]] = {}
    """By id: aliases of which a later step is not begun, with the cause."""
    for step in reversed(steps):
        own = dict.fromkeys(_aliases(step), cause[step.id]) if step.id in cause else {}
        hit[step.id] = {
            alias: why for later in after[step.id] for alias, why in hit[later].items()
        } | own
        later_steps = after[step.id]
        for need in step.needs:
            after[need].append(step.id)
        if step.id in cause or not later_steps:
            continue
        if _only_prepares(step):
            if all(later in cause for later in later_steps):
                yield step.id, cause[later_steps[0]]
        else:
            reason = next((hit[step.id][a] for a in _loses(step, live) if a in hit[step.id]), None)
            if reason is not None:
                yield step.id, reason


def _only_prepares(step: Step) -> bool:
    """Say whether a step adds something that no client is answered by yet."""
    return isinstance(step.operation, StartServer | LoadAdapter | SmokeTest)


def _aliases(step: Step) -> tuple[str, ...]:
    """Return the alias that a step works for; none for servers and keys."""
    match step.operation:
        case (
            LoadAdapter(adapter=adapter)
            | SmokeTest(adapter=adapter)
            | Drain(adapter=adapter)
            | UnloadAdapter(adapter=adapter)
        ):
            return (alias_of(adapter.adapter),)
        case SetRoute(route=route) | DeleteRoute(route=route):
            return (route.alias,)
        case StartServer() | StopServer() | SetKey() | DeleteKey():
            return ()


def _loses(step: Step, live: State) -> tuple[str, ...]:
    """Return the aliases that a step takes something from; a route's final state takes nothing."""
    match step.operation:
        case StopServer(server=server):
            routed = (
                route.alias
                for route in live.routes().values()
                if any(server.name in share.servers for share in route.shares)
            )
            held = (
                alias_of(adapter.adapter)
                for adapter in live.adapters().values()
                if adapter.server == server.name
            )
            return tuple(sorted({*routed, *held}))
        case SetRoute() if step_parts(step.id)[0] != "divert":
            return ()
        case _:
            return _aliases(step)


GATEWAY = "gateway"
"""The lane whose ready steps are done together."""

_REST = 4
"""Pause between batches of routes, in durations of the last batch: a large table is not written for
every route alone."""


class Scheduler:
    """Runs the steps of a plan. `results` fills while steps end."""

    def __init__(
        self,
        plan: Plan,
        context: ExecutionContext,
        view: LiveView,
        journal: Journal,
        *,
        stop: asyncio.Event,
        emit: Emit,
        watch: FreezeWatch | None = None,
    ) -> None:
        """Prepare; nothing is done. `watch`: a freeze that it sees stops the plan."""
        self.plan, self.context, self._view, self._journal = plan, context, view, journal
        self._stop, self.emit = stop, emit
        self.routes = RouteWriter(context, view, journal, self._started)
        self.results: dict[str, StepResult] = {}
        self.running: dict[str, float] = {}
        """By id of a step under way: when the step began."""
        self.lost: LockHeldError | None = None
        """Why the lease was lost."""
        self.frozen: Freeze | None = None
        """The freeze that ended the execution."""
        self._watch = watch
        self.hung = frozenset(
            name_in_address(c.address) for c in plan.changes if c.reason is Reason.HUNG
        )
        """Servers that the plan replaces although they do not answer."""
        self._waits = {step.id: len(set(step.needs)) for step in plan.steps}
        self._after: dict[str, list[Step]] = defaultdict(list)
        self._ready: dict[str, deque[Step]] = defaultdict(deque)
        self._lanes: set[str] = set()
        self._idle: dict[str, bool] = {}
        """Lanes that have work and wait for a place, in order; whether a look at each has begun."""
        self._group: asyncio.TaskGroup | None = None
        self._rest_until = 0.0

    async def run(self) -> None:
        """Run every step that can run; return when no step runs any more."""
        for step in self.plan.steps:
            for need in set(step.needs):
                self._after[need].append(step)
            if not self._waits[step.id] and step.id not in self.results:
                self._queue(step)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._launch()
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None

    def leave_out(self, impossible: Mapping[str, FleetError], live: State) -> None:
        """Let impossible steps fail, and leave out the steps that serve these alone; before `run`.

        `live`: the state now.
        """
        left_out = not_begun(self.plan.steps, impossible, live)
        for step in self.plan.steps:
            if step.id in impossible:
                result = StepResult(StepOutcome.FAILED, diagnostics=impossible[step.id].diagnostics)
                self.results[step.id] = result
                self._failed(step, result)
        for step in self.plan.steps:
            if step.id in left_out:
                self.results[step.id] = StepResult(StepOutcome.BLOCKED)
                self._emit("step_blocked", step, by=left_out[step.id])

    @property
    def ended(self) -> bool:
        """Whether no further step begins: a stop, a lost lease, or a freeze."""
        return self._stop.is_set() or self.lost is not None or self.frozen is not None

    async def _may_begin(self) -> bool:
        """Say whether a further step may begin; look for a freeze before each."""
        if self._watch is not None and not self.ended:
            found = await asyncio.to_thread(self._watch.look)
            if found is not None and self.frozen is None:
                self.frozen = found
                facts = {"by": found.by, "at": found.at.isoformat(), "reason": found.reason}
                self.emit(ApplyEvent("frozen", {**facts, "running": sorted(self.running)}))
        return not self.ended

    def _queue(self, step: Step) -> None:
        """Queue a step in its lane, and the lane for a free place."""
        self._ready[step.lane].append(step)
        if step.lane not in self._lanes:
            self._idle[step.lane] = False

    def _launch(self) -> None:
        """Begin lanes that have work, as many as there is room for; the gateways' always."""
        if GATEWAY in self._idle and not self.ended:
            self._open(GATEWAY, self._gateway())
        room = self.context.timings.lanes - len(self._lanes - {GATEWAY})
        while self._idle and room > 0 and not self.ended:
            lane = next(iter(self._idle))
            self._open(lane, self._lane(lane))
            room -= 1
        self._look_ahead()

    def _look_ahead(self) -> None:
        """Look at the servers that come next, while others are worked on."""
        for lane, looked in islice(self._idle.items(), self.context.timings.lanes):
            if self._group is not None and not (looked or self.ended):
                self._idle[lane] = True
                self._group.create_task(self._view.look_ahead(server_of(self._ready[lane][0])))

    def _open(self, lane: str, work: Coroutine[Any, Any, None]) -> None:
        assert self._group is not None, "the scheduler runs"
        del self._idle[lane]
        self._lanes.add(lane)
        self._group.create_task(work, name=f"lane {lane}")

    async def _lane(self, lane: str) -> None:
        ready = self._ready[lane]
        while ready and await self._may_begin():
            step = ready.popleft()
            self._begin([step])
            self._finish(step, await self._guarded(step))
        self._lanes.discard(lane)
        self._launch()

    async def _gateway(self) -> None:
        ready = self._ready[GATEWAY]
        while ready and await self._may_begin():
            rest = self._rest_until - time.monotonic()
            if rest > 0 and self._lanes != {GATEWAY}:
                await asyncio.sleep(rest)
                continue
            batch = list(ready)
            ready.clear()
            self._begin(batch)
            began = time.monotonic()
            try:
                results = await self.routes.write(batch)
            except LockHeldError as error:
                results = {step.id: self.stop_lease_lost(error) for step in batch}
            self._rest_until = time.monotonic() + _REST * (time.monotonic() - began)
            for step in batch:
                self._finish(step, results[step.id])
        self._lanes.discard(GATEWAY)
        self._launch()

    async def _guarded(self, step: Step) -> StepResult:
        """Check and perform a step on a server; every failure is a result."""
        try:
            live = await self._live(step)
            match step_state(step, live):
                case StepState.STALE:
                    return stale(step, live)
                case StepState.SATISFIED:
                    return StepResult(StepOutcome.ADOPTED)
                case StepState.DUE:
                    await self._journal.write(self._started(step))
                    return await perform(step, self.context, self._view, self.routes)
        except LockHeldError as error:
            return self.stop_lease_lost(error)
        except FleetError as error:
            if isinstance(error, EngineUnreachableError) or _is_perhaps_of_a_proxy(error):
                return await self._probed(step, error)
            stale_now = isinstance(error, StalePlanError)
            verdict = StepOutcome.STALE if stale_now else StepOutcome.FAILED
            return StepResult(verdict, diagnostics=error.diagnostics)

    async def _live(self, step: Step) -> Resource | None:
        """Return the live resource of a step; a hung server, which shows nothing, is as planned."""
        if isinstance(step.operation, StopServer) and server_of(step) in self.hung:
            await self._view.refresh(server_of(step))
            return step.before
        return await self._view.resource(server_of(step), step.address)

    async def _probed(self, step: Step, error: FleetError) -> StepResult:
        """Observe once whether a call without an answer of the server had its effect."""
        failed = StepResult(StepOutcome.FAILED, diagnostics=error.diagnostics)
        if isinstance(step.operation, Drain | SmokeTest):
            return failed
        server = server_of(step)
        try:
            seen: State | None = await self._view.refresh(server)
        except FleetError:
            seen = None
        if seen is None or not seen.knows(step.address):
            return replace(failed, unsure=True)
        if step_state(step, seen.resources.get(step.address)) is StepState.SATISFIED:
            return StepResult(StepOutcome.DONE, boot=seen.boots.get(server, ""))
        return replace(failed, unsure=_is_perhaps_of_a_proxy(error))

    def stop_lease_lost(self, error: LockHeldError) -> StepResult:
        """Begin no further step and write nothing more: another run may hold the lease."""
        if self.lost is None:
            self.lost = error
            self.emit(ApplyEvent("lock_lost", {"detail": error.diagnostics[0].detail}))
        return StepResult(StepOutcome.NOT_RUN)

    def _begin(self, steps: Iterable[Step]) -> None:
        for step in steps:
            self.running[step.id] = time.monotonic()
            self._emit("step_begin", step)

    def _finish(self, step: Step, result: StepResult) -> None:
        """Journal a step's result and queue the steps that waited for the step."""
        seconds, verdict = time.monotonic() - self.running.pop(step.id), result.verdict
        self.results[step.id] = result = replace(result, seconds=seconds)
        match verdict:
            case StepOutcome.DONE | StepOutcome.ADOPTED:
                how, boot, launch = verdict.value, result.boot, result.launch
                made = plain(step.operation) if verdict is StepOutcome.ADOPTED else None
                place = step.id, step.address
                self._record(StepFinished(*place, how, boot, self.plan.id, made, launch))
                warnings = [diagnostic.detail for diagnostic in result.diagnostics]
                self._emit("step_done", step, how=how, seconds=seconds, warnings=warnings)
                for dependent in self._after[step.id]:
                    self._waits[dependent.id] -= 1
                    if not self._waits[dependent.id] and dependent.id not in self.results:
                        self._queue(dependent)
            case StepOutcome.FAILED | StepOutcome.STALE:
                self._failed(step, result)
                self._block(step)
            case StepOutcome.BLOCKED | StepOutcome.NOT_RUN:
                del self.results[step.id]
        self._launch()

    def _failed(self, step: Step, result: StepResult) -> None:
        """Journal and emit the failure of a step."""
        first, is_stale = result.diagnostics[0], result.verdict is StepOutcome.STALE
        why = first.code, first.summary, first.detail
        place = self.plan.id, step.id, step.address
        self._record(StepFailed(*place, *why, stale=is_stale, unsure=result.unsure))
        if is_stale:
            self._emit("step_stale", step, detail=first.detail)
        else:
            facts = {"summary": first.summary, "detail": first.detail}
            self._emit("step_failed", step, seconds=result.seconds, **facts)

    def _record(self, event: LedgerEvent) -> None:
        if self.lost is None:
            self._journal.add(event)

    def _block(self, cause: Step) -> None:
        """Mark every step that needs `cause`, directly or not, as blocked."""
        waiting = deque(self._after[cause.id])
        while waiting:
            step = waiting.popleft()
            if step.id not in self.results:
                self.results[step.id] = StepResult(StepOutcome.BLOCKED)
                self._emit("step_blocked", step, by=cause.id)
                waiting += self._after[step.id]

    def _emit(self, kind: str, step: Step, **data: object) -> None:
        data["n"], data["of"] = len(self.results), len(self.plan.steps)
        self.emit(ApplyEvent(kind, {"step": step.id, **data}))

    def _started(self, step: Step) -> StepStarted:
        return StepStarted(self.plan.id, step.id, step.address, plain(step.operation))


def _is_perhaps_of_a_proxy(error: FleetError) -> bool:
    """Say whether the call may go on behind a proxy that answered in the server's place."""
    status = error.status if isinstance(error, EngineRejectedError) else 0
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR
