"""What came of an execution, and which exit code says so."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from fleet.errors import Diagnostic
from fleet.names import Address

DONE, HALF_WAY, STALE, INTERRUPTED = 0, 4, 5, 130


class StepOutcome(StrEnum):
    """How a step ended."""

    DONE = "done"
    ADOPTED = "adopted"
    """The resource was already as the step would leave it."""
    FAILED = "failed"
    STALE = "stale"
    """The live resource is not what the plan saw."""
    BLOCKED = "blocked"
    """A step that it needs failed or is stale."""
    NOT_RUN = "not_run"
    """The run ended before its turn."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """How one step ended."""

    verdict: StepOutcome
    seconds: float = 0.0
    diagnostics: tuple[Diagnostic, ...] = ()
    unsure: bool = False
    """It failed, and may have taken effect nevertheless."""
    boot: str = ""
    """Id of the process that a start brought up."""


@dataclass(frozen=True, slots=True)
class ApplyOutcome:
    """How an execution ended."""

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
    """What did not answer at the end: server names, `routes and keys`."""

    @property
    def counts(self) -> dict[str, int]:
        """Number of steps by verdict."""
        found = Counter(result.verdict for result in self.results.values())
        return {verdict.value: found[verdict] for verdict in StepOutcome}

    @property
    def exit_code(self) -> int:
        """0 done, 4 half-way and safe to repeat, 5 stale or lease lost, 130 interrupted."""
        counts = self.counts
        if self.interrupted:
            return INTERRUPTED
        if self.lost is not None:
            return STALE
        if counts["failed"]:
            return HALF_WAY
        if counts["stale"]:
            return STALE
        return HALF_WAY if self.unconverged or counts["not_run"] else DONE

    @property
    def result(self) -> str:
        """The exit code as a word."""
        words = {DONE: "converged", HALF_WAY: "half_way", STALE: "stale"}
        return words.get(self.exit_code, "interrupted")
