"""Decides which steps not to begin, where some are known to be impossible before the first. Pure.

A step after an impossible step is not begun. Neither is a step before one, where the step takes
something from an alias for the sake of the impossible step (a diverted route, a version that is
drained and unloaded to be loaded again, a server that stops to start with other flags), or where
the step prepares nothing but impossible steps. So the alias stays as it is; all else goes on.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from fleet.names import alias_of, step_parts
from fleet.resources import State
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
