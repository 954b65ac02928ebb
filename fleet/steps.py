"""Defines the steps of an apply, their usual duration, and the events that an apply reports.

Types of `ApplyEvent` and their fields, besides those that every event has:

    plan_started    steps, changes, trigger
    lock_acquired   token
    lock_lost       detail
    recovered       step, how (done, undone): how a step ended that an earlier run began
    checking        adapters, starts: how many are checked before the first step, if it takes long
    step_begin      step, n, of
    step_progress   step, seconds: still running
    transfer        what, bytes, size: files on their way to a host, every few seconds
    step_done       step, how (done, adopted), seconds, warnings, n, of
    step_failed     step, seconds, summary, detail, n, of
    step_stale      step, detail, n, of
    step_blocked    step, by (the step that failed or cannot be done), n, of
    frozen          by, at, reason, running: steps that are being finished
    interrupted     running: steps that are being finished
    verified        converged, remaining (addresses), notes; not after lock_lost
    outage          a cause of drift, as in `drift --format json`, that `reconcile` left
    run_complete    result, exit_code, done, adopted, failed, stale, blocked, not_run, seconds
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from graphlib import TopologicalSorter
from heapq import heappop, heappush
from typing import Any, cast

from fleet.names import Address, step_parts
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server


@dataclass(frozen=True, slots=True)
class StartServer:
    """Start a server and wait until the server answers."""

    server: Server


@dataclass(frozen=True, slots=True)
class StopServer:
    """Stop a server after its requests have finished."""

    server: Server
    again: bool = False
    """Whether the same server starts again after the stop: the fleet does not lose the server."""


@dataclass(frozen=True, slots=True)
class LoadAdapter:
    """Check the bytes against the digest, publish them and load them."""

    adapter: LoadedAdapter


@dataclass(frozen=True, slots=True)
class SmokeTest:
    """Send a few known inputs to a version on a server, before any client's request."""

    adapter: LoadedAdapter
    inputs: tuple[str, ...]  # declared texts to ask; empty: the built-in prompt alone


@dataclass(frozen=True, slots=True)
class SetRoute:
    """Write a route and wait for every gateway's acknowledgement."""

    route: Route


@dataclass(frozen=True, slots=True)
class DeleteRoute:
    """Remove a route and wait for every gateway's acknowledgement."""

    route: Route


@dataclass(frozen=True, slots=True)
class SetKey:
    """Resolve a key's secret, check its fingerprint and give its hash to the gateways."""

    key: Key


@dataclass(frozen=True, slots=True)
class DeleteKey:
    """Revoke a key."""

    key: Key


@dataclass(frozen=True, slots=True)
class Drain:
    """Wait until no gateway has a request in flight for a version on a server."""

    adapter: LoadedAdapter
    deadline_s: int  # upper bound of the wait, in seconds


@dataclass(frozen=True, slots=True)
class UnloadAdapter:
    """Unload a version and verify that the server no longer lists the version."""

    adapter: LoadedAdapter
    again: bool = False
    """Whether the same bytes are loaded again: the fleet does not lose the version."""


Operation = (
    StartServer
    | StopServer
    | LoadAdapter
    | SmokeTest
    | SetRoute
    | DeleteRoute
    | SetKey
    | DeleteKey
    | Drain
    | UnloadAdapter
)


def resource_of(operation: Operation) -> Resource:
    """Return the resource of an operation: the first field of every operation."""
    return cast("Resource", getattr(operation, fields(operation)[0].name))


@dataclass(frozen=True, slots=True)
class Step:
    """An operation, after its needed steps, valid while the live resource is `before`."""

    id: str
    """`load adapter/x@y`: the operation's verb and the address; unique in a plan. A route that is
    diverted again has a number: `divert.2 route/x`.
    """
    operation: Operation  # what is done, by its `verb`
    address: Address  # address of the resource
    before: Resource | None  # live resource while the step is valid; None: none
    needs: tuple[str, ...]  # ids of steps that have to be done before
    lane: str
    """A server's name, or `gateway`: the steps of a lane run in order."""
    estimate_s: float  # usual seconds
    timeout_s: int  # seconds after which the step has failed


VERSION = 1
"""Version of the event stream; additions keep the version."""


@dataclass(frozen=True, slots=True)
class ApplyEvent:
    """An event of an apply; `data` is plain JSON."""

    type: str
    data: Mapping[str, Any]


Emit = Callable[[ApplyEvent], None]
"""Function that takes events in the order in which they happened; must not block."""

DRAIN_S = 30
"""Upper bound of the wait for requests in flight before their version is unloaded, in seconds."""

TIMES: Mapping[str, tuple[float, int]] = {
    "start": (60.0, 900),
    "stop": (10.0, 120),
    "load": (2.0, 120),
    "smoke": (2.0, 120),
    "set": (0.5, 30),
    "divert": (0.5, 30),
    "delete": (0.5, 30),
    "drain": (5.0, DRAIN_S + 15),
    "unload": (0.5, 30),
    "restore": (0.5, 30),
}
"""By verb: usual seconds, and the seconds after which the step has failed.

Guesses, rounded up from a tiny model on a CPU and published loads of rank 32 on one GPU. Smoke
tests: per input.
"""


def duration_key(verb: str, resource: Resource | None) -> str:
    """Return the key of the duration of a start or a load, such as `start BASE`; else empty."""
    match verb, resource:
        case "start", Server(base=base):
            return f"start {base}"
        case "load", LoadedAdapter(parts=name) if name:
            return f"load {name.base}"
        case _:
            return ""


_RANK = {verb: index for index, verb in enumerate(TIMES)}


def in_order(needs: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Yield step ids, needs first; of those that may come next, the first by verb and address."""
    graph, ready = TopologicalSorter(needs), list[tuple[int, str]]()
    graph.prepare()
    while graph.is_active():
        for step in graph.get_ready():
            heappush(ready, (_RANK[step_parts(step)[0]], step))
        _, step = heappop(ready)
        graph.done(step)
        yield step


def schedule(steps: Iterable[Step]) -> dict[str, tuple[float, float]]:
    """Return by id when steps begin and end, by estimate, in seconds: lanes and needs respected.

    Steps are taken in their order, which is a valid order of execution.
    """
    times: dict[str, tuple[float, float]] = {}
    lanes: dict[str, float] = {}
    for step in steps:
        ends = (times[need][1] for need in step.needs if need in times)
        begin = max(lanes.get(step.lane, 0.0), *ends, 0.0)
        lanes[step.lane] = begin + step.estimate_s
        times[step.id] = begin, lanes[step.lane]
    return times
