"""One step on one server: its effect, and nothing else."""

import asyncio
from collections.abc import Callable

from fleet.errors import EngineError, EngineTimedOutError, StalePlanError, problem
from fleet.plan import (
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
from fleet.resources import LoadedAdapter
from runtime.execute.outcome import Result, Verdict
from runtime.execute.routes import RouteWriter
from runtime.execute.sight import Sight
from runtime.execute.smoke import try_version
from runtime.execute.world import World


def server_of(step: Step) -> str:
    """Return the server that a step works on; empty for routes and keys."""
    match step.operation:
        case StartServer(server=server) | StopServer(server=server):
            return server.name
        case (
            LoadAdapter(adapter=adapter)
            | SmokeTest(adapter=adapter)
            | Drain(adapter=adapter)
            | UnloadAdapter(adapter=adapter)
        ):
            return adapter.server
        case SetRoute() | DeleteRoute() | SetKey() | DeleteKey():
            return ""


async def perform(
    step: Step, world: World, sight: Sight, routes: RouteWriter, now: Callable[[], float]
) -> Result:
    """Carry out a step within its time and draw it into the sight.

    Returns:
        That it is done, with the boot id of a server that was started, or with warnings.

    Raises:
        EngineError, LibraryError: it failed; when it timed out it may have taken effect.
        StalePlanError: a route sends traffic to what was to be unloaded.
    """
    try:
        async with asyncio.timeout(step.timeout_s):
            return await _perform(step, world, sight, routes, now)
    except TimeoutError:
        raise EngineTimedOutError(
            problem(
                "FC5112",
                "A step took too long",
                f"`{step.id}` was not done after {step.timeout_s} s. It may still be going on.",
                hint="Running the command again is safe: it looks first.",
            )
        ) from None


async def _perform(
    step: Step, world: World, sight: Sight, routes: RouteWriter, now: Callable[[], float]
) -> Result:
    match step.operation:
        case StartServer(server=server):
            await sight.engine_of(server.name).start(server)
            sight.did(server.name, server.address, server)
            seen = await sight.look_again(server.name)
            await routes.readdress()
            return Result(Verdict.DONE, boot=seen.boots.get(server.name, ""))
        case StopServer(server=server):
            await sight.engine_of(server.name).stop(server.name)
            sight.did(server.name, server.address, None)
        case LoadAdapter(adapter=adapter):
            if adapter.digest is None:
                raise _no_digest(adapter)
            source = await asyncio.to_thread(world.publish, adapter.adapter, adapter.digest)
            engine = sight.engine_of(adapter.server)
            await engine.load(adapter.server, adapter.adapter, str(source))
            sight.did(adapter.server, adapter.address, adapter)
        case SmokeTest(adapter=adapter, inputs=inputs):
            warnings = await try_version(adapter, inputs, sight)
            return Result(Verdict.DONE, diagnostics=warnings)
        case Drain(adapter=adapter, deadline_s=deadline_s):
            await _refuse_if_served(adapter, sight)
            await _drain(adapter, world, deadline_s, now)
        case UnloadAdapter(adapter=adapter):
            await _refuse_if_served(adapter, sight)
            await sight.engine_of(adapter.server).unload(adapter.server, adapter.adapter)
            sight.did(adapter.server, adapter.address, None)
        case SetRoute() | DeleteRoute() | SetKey() | DeleteKey():
            raise AssertionError("routes and keys are written in batches")
    return Result(Verdict.DONE)


async def _drain(
    adapter: LoadedAdapter, world: World, deadline_s: int, now: Callable[[], float]
) -> None:
    end = now() + deadline_s
    while count := await world.gateways.in_flight(adapter.server, adapter.adapter):
        if now() >= end:
            raise EngineTimedOutError(
                problem(
                    "FC5114",
                    "Requests are still running",
                    f"`{adapter.adapter}` on `{adapter.server}` still answers {count} requests "
                    f"after {deadline_s} s, so it stays loaded.",
                    hint="No new ones arrive; apply again when they have ended.",
                )
            )
        await asyncio.sleep(world.pace.drain_poll)


async def _refuse_if_served(adapter: LoadedAdapter, sight: Sight) -> None:
    """Look at the table once more: a rollback may have come in between."""
    alias = (await sight.served()).get((adapter.adapter, adapter.server))
    if alias is not None:
        raise StalePlanError(
            problem(
                "FC5115",
                "A version is in use again",
                f"The route of `{alias}` sends traffic to `{adapter.adapter}` on "
                f"`{adapter.server}`, so it is not unloaded.",
                hint="Somebody rolled back, perhaps. Plan again.",
                command="fleetctl plan",
            )
        )


def _no_digest(adapter: LoadedAdapter) -> EngineError:
    return EngineError(
        problem(
            "FC5116",
            "Adapter without a digest",
            f"The plan does not say which bytes `{adapter.adapter}` has.",
            command="fleetctl adapter verify",
        )
    )
