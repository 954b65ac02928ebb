"""Performs steps on servers, and smoke-tests versions before they get traffic."""

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from typing import Literal

from fleet.errors import (
    Diagnostic,
    EngineError,
    EngineRejectedError,
    EngineTimedOutError,
    StalePlanError,
)
from fleet.names import address_parts, server_address, server_of_address
from fleet.resources import LoadedAdapter, Server
from fleet.steps import (
    DeleteKey,
    DeleteRoute,
    Drain,
    LoadAdapter,
    SetKey,
    SetRoute,
    SmokeTest,
    StartServer,
    Step,
    StopServer,
    UnloadAdapter,
)
from runtime.engines.protocol import Completion, Engine
from runtime.execute.context import ExecutionContext
from runtime.execute.live_view import LiveView
from runtime.execute.outcome import StepOutcome, StepResult
from runtime.execute.routes import RouteWriter
from runtime.smoke import BUILT_IN_PROMPT, MOST_INPUTS


async def try_version(
    adapter: LoadedAdapter, inputs: tuple[str, ...], view: LiveView
) -> tuple[Diagnostic, ...]:
    """Request answers of a version, and of its base until two answers differ; return warnings.

    Without `inputs` the built-in prompt is asked, of which any answer passes that is not empty.

    Raises:
        EngineError: an answer is no good; or a version that no client is answered by yet answers
            every input as its base does, as a server does that dropped it without a word.
    """
    engine, asked = view.engine_of(adapter.server), inputs[:MOST_INPUTS] or (BUILT_IN_PROMPT,)
    base = await _base_name(adapter, view)
    tells, compared = not inputs, True
    for text in asked:
        answer = await _answer(engine, adapter, text)
        if answer.model != adapter.adapter or not answer.text.strip():
            fault = "nothing" if not answer.text.strip() else f"in the name of `{answer.model}`"
            raise EngineError.of(
                "FC5113",
                "A smoke test failed",
                f"`{adapter.adapter}` on `{adapter.server}` was asked {text!r:.80} and answered "
                f"{fault}. {await _traffic_of(adapter, view)}",
                hint="Look at the version's evals, and declare as `smoke` what it is asked. The "
                "route stays as it is; the next apply asks again.",
                command=f"fleetctl adapter show {adapter.adapter}",
            )
        if not tells and compared:
            other = await _base_answer(engine, adapter.server, base, text)
            compared = other is not None
            tells = compared and other != answer.text.strip()
    if tells:
        return ()
    where = f"`{adapter.adapter}` on `{adapter.server}`"
    if not compared:
        detail = f"The base could not be asked beside {where}, so nothing shows which one answers."
        return (_same_as_base(detail, "warning"),)
    number = "the 1 input" if len(asked) == 1 else f"each of the {len(asked)} inputs"
    detail = f"{where} answers {number} as its base does, so nothing shows that it is served."
    traffic = await _traffic_of(adapter, view)
    severity: Literal["warning", "error"] = "warning" if traffic == _HAS_TRAFFIC else "error"
    diagnostic = _same_as_base(f"{detail} {traffic}", severity)
    if severity == "error":
        raise EngineError(diagnostic)
    return (diagnostic,)


async def _answer(engine: Engine, adapter: LoadedAdapter, text: str) -> Completion:
    """Return a version's answer; a refusal says what it means for the route."""
    try:
        return await engine.complete(adapter.server, adapter.adapter, text)
    except EngineRejectedError as error:
        reason = error.diagnostics[0]
        hint = reason.hint or "The route stays as it is, and the next apply asks again."
        command = reason.command or f"fleetctl server logs {adapter.server}"
        told = replace(reason, hint=hint, command=command)
        raise EngineRejectedError(told, status=error.status) from error


_HAS_TRAFFIC = "It has traffic already and keeps it."


async def _traffic_of(adapter: LoadedAdapter, view: LiveView) -> str:
    """Return a sentence that says whether clients are answered by a version."""
    has_traffic = any(name == adapter.adapter for name, _ in await view.served())
    return _HAS_TRAFFIC if has_traffic else "No client's request has reached it."


async def _base_name(adapter: LoadedAdapter, view: LiveView) -> str:
    """Return the served name of the server's base; empty where that is not known."""
    server = await view.resource(adapter.server, server_address(adapter.server))
    if not isinstance(server, Server):
        return ""
    return server.flags.served_name if server.flags else server.base


async def _base_answer(engine: Engine, server: str, base: str, text: str) -> str | None:
    """Return the base's answer; None: the base cannot be asked."""
    with suppress(EngineError):
        return (await engine.complete(server, base, text)).text.strip() or None if base else None
    return None


def _same_as_base(detail: str, severity: Literal["warning", "error"]) -> Diagnostic:
    return Diagnostic(
        "FC5151",
        "No input tells the adapter from its base",
        detail,
        hint="Add an input to `smoke` of the adapter that its training has taught it to answer "
        "differently from the base; if none is, the adapter has no effect.",
        severity=severity,
    )


def server_of(step: Step) -> str:
    """Return the server that a step works on; empty for routes and keys."""
    kind, name = address_parts(step.address)
    return name if kind == "server" else server_of_address(step.address)


async def perform(
    step: Step, context: ExecutionContext, view: LiveView, routes: RouteWriter
) -> StepResult:
    """Perform a step within its time and record its effect in the view; return the result `done`.

    Raises:
        EngineError, LibraryError: the step failed; after a timeout it may have taken effect.
        StalePlanError: a route sends traffic to a version that was to be unloaded.
    """
    try:
        async with asyncio.timeout(step.timeout_s):
            match step.operation:
                case StartServer(server=server):
                    await view.engine_of(server.name).start(server)
                    view.record_own_change(server.name, server.address, server)
                    seen = await view.refresh(server.name)
                    await routes.repeat(always=False)
                    return StepResult(StepOutcome.DONE, boot=seen.boots.get(server.name, ""))
                case StopServer(server=server):
                    await view.engine_of(server.name).stop(server.name)
                    view.record_own_change(server.name, server.address, None)
                case LoadAdapter(adapter=adapter):
                    await _load(adapter, context, view)
                case SmokeTest(adapter=adapter, inputs=inputs):
                    warnings = await try_version(adapter, inputs, view)
                    launch = view.launch_or_boot(adapter.server)
                    return StepResult(StepOutcome.DONE, diagnostics=warnings, launch=launch)
                case Drain(adapter=adapter, deadline_s=deadline_s):
                    await _refuse_if_served(adapter, view)
                    await _drain(adapter, context, deadline_s)
                case UnloadAdapter(adapter=adapter):
                    await _refuse_if_served(adapter, view)
                    await view.engine_of(adapter.server).unload(adapter.server, adapter.adapter)
                    view.record_own_change(adapter.server, adapter.address, None)
                case SetRoute() | DeleteRoute() | SetKey() | DeleteKey():
                    raise AssertionError("routes and keys are written in batches")
            return StepResult(StepOutcome.DONE)
    except TimeoutError:
        detail = f"`{step.id}` was not done after {step.timeout_s} s. It may still be going on."
        hint = "Running the command again is safe: it looks first."
        raise EngineTimedOutError.of("FC5112", "A step took too long", detail, hint=hint) from None


async def _load(adapter: LoadedAdapter, context: ExecutionContext, view: LiveView) -> None:
    if adapter.digest is None:
        detail = f"The plan does not say which bytes `{adapter.adapter}` has."
        command = "fleetctl adapter verify"
        raise EngineError.of("FC5116", "Adapter without a digest", detail, command=command)
    source = await asyncio.to_thread(context.publish, adapter.adapter, adapter.digest)
    await view.engine_of(adapter.server).load(adapter.server, adapter.adapter, str(source))
    view.record_own_change(adapter.server, adapter.address, adapter)
    await context.gateways.loaded(adapter.server, adapter.adapter)


async def _drain(adapter: LoadedAdapter, context: ExecutionContext, deadline_s: int) -> None:
    """Wait for the requests in flight; not for long where their answers may be wrong already.

    A server finishes requests for a version that is unloaded meanwhile.
    """
    is_doubted = adapter.unsure or adapter.digest is None
    end = time.monotonic() + (context.timings.doubted_drain if is_doubted else deadline_s)
    while count := await context.gateways.in_flight(adapter.server, adapter.adapter):
        if time.monotonic() >= end:
            if is_doubted:
                return
            detail = (
                f"`{adapter.adapter}` on `{adapter.server}` still answers {count} requests "
                f"after {deadline_s} s, so it stays loaded."
            )
            hint = "No new ones arrive; apply again when they have ended."
            raise EngineTimedOutError.of("FC5114", "Requests are still running", detail, hint=hint)
        await asyncio.sleep(context.timings.drain_poll)


async def _refuse_if_served(adapter: LoadedAdapter, view: LiveView) -> None:
    """Refuse where a table routes to the version again: a rollback may have come in between.

    Raises:
        EngineError: FC5153, a running gateway does not say what it serves.
        StalePlanError: FC5115, the newest table or one that a gateway serves names the version.
    """
    try:
        alias = (await view.served()).get((adapter.adapter, adapter.server))
    except EngineError as error:
        raise EngineError.of(
            "FC5153",
            "Whether a version is in use is not known",
            f"{error.diagnostics[0].detail.rstrip('.')}. So `{adapter.adapter}` on "
            f"`{adapter.server}` may have traffic, and stays loaded.",
            hint="Once every gateway that runs says what it serves, apply again.",
            command="fleetctl gateway status",
        ) from error
    if alias is not None:
        raise StalePlanError.of(
            "FC5115",
            "A version is in use again",
            f"The route of `{alias}` sends traffic to `{adapter.adapter}` on "
            f"`{adapter.server}`, so it is not unloaded.",
            hint="It was rolled back, perhaps. Plan again.",
            command="fleetctl plan",
        )
