"""Checks before the first step which steps of a plan cannot succeed. Changes nothing that serves.

Copies of the versions are made here, so that a full disk, or bytes that are not those of the
lock, end a branch before anything was taken from a client.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from fleet.errors import EngineError, FleetError, StalePlanError
from fleet.history import History
from fleet.names import adapter_address
from fleet.planning import passed_in, raised
from fleet.resources import LoadedAdapter, Server, State
from fleet.steps import DeleteRoute, LoadAdapter, SetRoute, SmokeTest, StartServer, Step, StopServer
from runtime.execute.context import ExecutionContext
from runtime.execute.live_view import LiveView, no_answer
from runtime.execute.steps import server_of

AT_ONCE = 4
"""Upper bound of the versions that are hashed and copied at the same time: a disk has no more."""


async def impossible_steps(
    steps: Iterable[Step],
    context: ExecutionContext,
    view: LiveView,
    live: State,
    history: History,
    hung: Collection[str] = (),
) -> dict[str, FleetError]:
    """Return by id the steps that cannot succeed, with the reasons.

    `hung`: servers that the plan replaces although they do not answer.
    """
    listed = tuple(steps)
    found = dict(_without_server(listed, view, live, hung))
    found |= dict(_without_pass(listed, live, history))
    left = [step for step in listed if step.id not in found]
    found |= await _starts(left, view, live)
    found |= await _loads([step for step in left if step.id not in found], context)
    return found | await _routes(left, context, live)


def _without_server(
    steps: tuple[Step, ...], view: LiveView, live: State, hung: Collection[str]
) -> Iterator[tuple[str, FleetError]]:
    """Yield the steps on servers that do not answer, are not declared, or do not run."""
    starts = {
        step.operation.server.name for step in steps if isinstance(step.operation, StartServer)
    }
    here = live.servers()
    for step in steps:
        server = server_of(step)
        if not server:
            continue
        try:
            view.host_of(server)
        except EngineError as error:
            yield step.id, error
            continue
        if server in live.unknown_servers and server not in hung:
            yield step.id, no_answer(server, live.unknown_servers[server])
        elif isinstance(step.operation, LoadAdapter | SmokeTest) and server not in {*here, *starts}:
            yield (
                step.id,
                EngineError.of(
                    "FC5160",
                    "A server that a step needs does not run",
                    f"`{server}` has ended since the plan was made, and no step of the plan "
                    "starts it.",
                    hint="Plan again: the plan starts it.",
                    command="fleetctl plan",
                ),
            )


def _without_pass(
    steps: tuple[Step, ...], live: State, history: History
) -> Iterator[tuple[str, FleetError]]:
    """Yield the routes that count on a smoke test which is void since the plan was made."""
    known = replace(live, resources={**history.established, **live.resources})
    passed, routes = passed_in(history, known, live), live.routes()
    asked = {step.address for step in steps if isinstance(step.operation, SmokeTest)}
    for step in steps:
        if not isinstance(step.operation, SetRoute):
            continue
        route = step.operation.route
        for name, server in raised(route, routes.get(route.alias)):
            if adapter_address(name, server) not in passed | asked:
                detail = (
                    f"`{step.id}` gives traffic to `{name}` on `{server}`, and no smoke test is "
                    "recorded of it as it is loaded now."
                )
                yield (
                    step.id,
                    StalePlanError.of(
                        "FC5119",
                        "The plan is stale here",
                        detail,
                        hint="Plan again: the plan asks it first.",
                        command="fleetctl plan",
                    ),
                )


async def _starts(steps: Iterable[Step], view: LiveView, live: State) -> dict[str, FleetError]:
    """Return the starts that cannot succeed, such as where a port is taken by others.

    The port of a server that the plan stops is free by then.
    """
    freed = {
        (step.operation.server.host, step.operation.server.port)
        for step in steps
        if isinstance(step.operation, StopServer)
    }
    found: dict[str, FleetError] = {}
    for step in steps:
        if isinstance(step.operation, StartServer):
            server: Server = step.operation.server
            if (server.host, server.port) in freed or live.resources.get(server.address) == server:
                continue
            try:
                await view.engine_of(server.name).check_start(server)
            except FleetError as error:
                found[step.id] = error
    return found


async def _loads(steps: Iterable[Step], context: ExecutionContext) -> dict[str, FleetError]:
    """Make and check the copies of all versions to load; return the loads without a good copy."""
    loads = {
        step.id: step.operation.adapter
        for step in steps
        if isinstance(step.operation, LoadAdapter) and step.operation.adapter.digest
    }
    versions = sorted({(adapter.adapter, adapter.digest or "") for adapter in loads.values()})
    places = asyncio.Semaphore(AT_ONCE)

    async def check(name: str, digest: str) -> FleetError | None:
        async with places:
            try:
                await asyncio.to_thread(context.publish, name, digest)
            except FleetError as error:
                return error
        return None

    errors = await asyncio.gather(*(check(*version) for version in versions))
    by_version = dict(zip(versions, errors, strict=True))

    def error_of(adapter: LoadedAdapter) -> FleetError | None:
        return by_version[adapter.adapter, adapter.digest or ""]

    return {step: error for step, adapter in loads.items() if (error := error_of(adapter))}


async def _routes(
    steps: Iterable[Step], context: ExecutionContext, live: State
) -> dict[str, FleetError]:
    """Return the changes of routes that not every running gateway could acknowledge.

    A gateway that does not run reads its table when it starts. Missing routes are put back all the
    same: the gateways that answer serve them.
    """
    changes = [
        step.id
        for step in steps
        if isinstance(step.operation, SetRoute | DeleteRoute) and step.before is not None
    ]
    if not changes:
        return {}
    problems = [live.routes_unknown] if live.routes_unknown else []
    if not problems:
        statuses = await context.gateways.statuses()
        problems = [
            f"gateway `{status.name}`: {status.problem}" for status in statuses if status.problem
        ]
    if not problems:
        return {}
    error = EngineError.of(
        "FC5161",
        "Routes cannot be changed now",
        f"Clients would be answered by different versions: {'; '.join(problems)}",
        hint="Nothing that waits for a route was begun. Mend the gateway, then apply again.",
        command="fleetctl gateway status",
    )
    return dict.fromkeys(changes, error)
