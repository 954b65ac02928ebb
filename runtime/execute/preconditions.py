"""Whether a step may run: pure comparison of what is live with what the plan saw."""

from enum import Enum

from fleet.resources import Key, LoadedAdapter, Resource, Route, Server
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


class StepState(Enum):
    """How a step stands to what is live."""

    DUE = "due"
    SATISFIED = "satisfied"
    """Its effect is there already."""
    STALE = "stale"
    """Something else is there than the plan saw."""


def step_state(step: Step, live: Resource | None) -> StepState:
    """Compare what is live at a step's address with its `before` and its effect.

    What is to be added may be missing whatever the plan saw there: adding to nothing
    overwrites nothing.
    """
    there: bool
    before: Resource | None
    match step.operation:
        case StartServer(server=wanted) | LoadAdapter(adapter=wanted):
            there, before = live == wanted, None
        case SmokeTest(adapter=adapter):
            there, before = False, adapter
        case Drain() | UnloadAdapter() | StopServer() | DeleteRoute() | DeleteKey():
            there, before = live is None, step.before
        case SetRoute(route=wanted) | SetKey(key=wanted):
            there, before = live == wanted, step.before
    if there:
        return StepState.SATISFIED
    return StepState.DUE if live == before else StepState.STALE


def describe(resource: Resource | None) -> str:
    """Return a resource in a few words, for the text of a stale step."""
    match resource:
        case None:
            return "nothing"
        case Server():
            return f"a server with flags {resource.digest or 'of somebody else'}"
        case LoadedAdapter():
            held = resource.digest[:12] if resource.digest else resource.path or "another path"
            return f"an adapter loaded from {held}"
        case Route():
            parts = (
                f"{share.adapter.rpartition('-v')[2]} {share.percent} % on "
                f"{', '.join(share.servers)}"
                for share in resource.shares
            )
            return f"a route with {'; '.join(parts)}"
        case Key():
            return f"a key with fingerprint {resource.fingerprint or 'unknown'}"
