"""States of steps before they run, results of steps and executions, exit codes. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fleet.errors import Diagnostic
from fleet.names import Address
from fleet.plan import Action, Plan
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server, State
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

DONE, HALF_WAY, STALE, INTERRUPTED = 0, 4, 5, 130


class StepOutcome(StrEnum):
    """End of a step."""

    DONE = "done"
    ADOPTED = "adopted"
    """The effect was there already."""
    FAILED = "failed"
    STALE = "stale"
    """The live resource is another than the plan saw."""
    BLOCKED = "blocked"
    """A step before this failed or is stale."""
    NOT_RUN = "not_run"
    """The run ended before its turn."""


class StepState(StrEnum):
    """State of a step, compared with the live resource."""

    DUE = "due"
    SATISFIED = "satisfied"
    """The effect is there already."""
    STALE = "stale"
    """The live resource is another than the plan saw."""


def unconverged(plan: Plan, live: State) -> tuple[Address, ...]:
    """Return the addresses of a plan's changes that have not taken effect."""
    found = {
        change.address
        for change in plan.changes
        if live.resources.get(change.address) != change.after
    }
    moved = {
        change.before.address
        for change in plan.changes
        if change.action is Action.MOVE
        and change.before
        and change.before.address != change.address
    }
    return tuple(sorted(found | moved & live.resources.keys()))


def step_state(step: Step, live: Resource | None) -> StepState:
    """Compare the live resource at a step's address with the step's `before` and its effect.

    A resource that is added may be missing whatever the plan saw there: nothing is overwritten.
    """
    before: Resource | None
    match step.operation:
        case StartServer(server=wanted) | LoadAdapter(adapter=wanted):
            is_there, before = live == wanted, None
        case SmokeTest(adapter=adapter):
            is_there, before = False, adapter
        case Drain() | UnloadAdapter() | StopServer() | DeleteRoute() | DeleteKey():
            is_there, before = live is None, step.before
        case SetRoute(route=wanted) | SetKey(key=wanted):
            is_there, before = live == wanted, step.before
    if is_there:
        return StepState.SATISFIED
    return StepState.DUE if live == before else StepState.STALE


def describe(resource: Resource | None) -> str:
    """Return a resource in a few words, for the text of a stale step."""
    match resource:
        case None:
            return "nothing"
        case Server():
            return f"a server with flags {resource.digest or 'not of fleetctl'}"
        case LoadedAdapter():
            held = resource.digest[:12] if resource.digest else resource.path or "another path"
            perhaps = ", or from other bytes while its copy was damaged" if resource.unsure else ""
            return f"an adapter loaded from {held}{perhaps}"
        case Route():
            parts = (
                f"{share.adapter.rpartition('-v')[2]} {share.percent} % on "
                f"{', '.join(share.servers)}"
                for share in resource.shares
            )
            return f"a route with {'; '.join(parts)}"
        case Key():
            return f"a key with fingerprint {resource.fingerprint or 'unknown'}"


@dataclass(frozen=True, slots=True)
class StepResult:
    """Result of a step."""

    verdict: StepOutcome
    seconds: float = 0.0
    diagnostics: tuple[Diagnostic, ...] = ()
    unsure: bool = False
    """Whether a failed step may have taken effect."""
    boot: str = ""
    """Id of the process that a start brought up."""
    launch: str | None = None
    """Launch or boot that passed a smoke test; None: no smoke test, or the server shows neither."""


@dataclass(frozen=True, slots=True)
class ApplyOutcome:
    """Result of an execution."""

    results: Mapping[str, StepResult]
    """By step id, in the plan's order."""
    interrupted: bool
    lost: Diagnostic | None
    """Why the lease was lost; None: it was not."""
    unconverged: tuple[Address, ...]
    """Changes of the plan that are not live at the end."""
    due: int | None
    """Changes that planning again would make now; None: not known."""
    seconds: float
    notes: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    """Without an answer at the end: server names, `routes and keys`."""
    frozen: bool = False
    """Whether a freeze ended the execution before its last step."""
    live: State | None = field(default=None, compare=False, repr=False)
    """The state at the end; None: the lease was lost."""

    @property
    def counts(self) -> dict[str, int]:
        """Number of steps by verdict."""
        found = Counter(result.verdict for result in self.results.values())
        return {verdict.value: found[verdict] for verdict in StepOutcome}

    @property
    def exit_code(self) -> int:
        """0 done, 4 half-way and safe to repeat, 5 stale, lease lost or frozen, 130 interrupted."""
        counts = self.counts
        if self.interrupted:
            return INTERRUPTED
        if self.lost is not None or self.frozen:
            return STALE
        if counts["failed"]:
            return HALF_WAY
        if counts["stale"]:
            return STALE
        return HALF_WAY if self.unconverged or counts["not_run"] else DONE

    @property
    def result(self) -> str:
        """The exit code as a word."""
        words = {DONE: "converged", HALF_WAY: "half_way"}
        words[STALE] = "lease_lost" if self.lost else "frozen" if self.frozen else "stale"
        return words.get(self.exit_code, "interrupted")
