"""Defines the contract between evaluations, their engines and the project."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from fleet.evals import EvalSpec, EvalTarget, GoldenSet, Sample
from runtime.evals.store import EvalStore

ReportProgress = Callable[[int, int], None]
"""Takes the number of answers so far and the number of all; must not block."""


Enough = Callable[[tuple[Sample, ...]], bool]
"""Takes the samples so far; says whether they decide, so that no further item is asked."""
PARTS = 5
"""Parts in which items are asked where a verdict may be sure before the last."""


def report_nothing(_done: int, _total: int) -> None:
    """Report nothing: the default."""


@dataclass(frozen=True, slots=True)
class EvalContext:
    """Store, clock, ids, secrets and policies of a project's evaluations."""

    store: EvalStore
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    root: Path = Path()
    """The project; the engine `command` runs here."""
    secret: Callable[[str], str | None] = lambda _reference: None
    """Return the secret behind a reference; None where the secret cannot be read."""
    judge_objection: Callable[[str], str] = lambda client: (
        f"it was never compared with people's labels for {client}"
    )
    """Return why the judge decides no gate of a client; empty: the judge may decide."""
    resolve_target: Callable[[EvalTarget], EvalTarget] = lambda target: target
    """Return the target that requests go to, such as a gateway with the operator's secret."""
    packages: Mapping[str, str] = field(default_factory=dict)
    """Package by engine that fleetctl does not ship."""

    @property
    def state_dir(self) -> Path:
        """The state folder, which holds the runs."""
        return self.store.folder.parent


@dataclass(frozen=True, slots=True)
class EngineJob:
    """The task of an engine: ask a golden set of a target, and score the answers."""

    target: EvalTarget
    golden: GoldenSet
    spec: EvalSpec
    context: EvalContext
    folder: Path
    """An empty folder for work files."""
    report: ReportProgress
    enough: Enough | None = None
    """A test of the samples so far, after every part of the items; None: all items are asked."""

    @property
    def total(self) -> int:
        """Number of the wanted answers."""
        return len(self.golden.items) * self.spec.samples


EngineAnswers = tuple[tuple[Sample, ...], str]
"""Samples of a run; name and version of the engine that made them, such as `inspect-ai 0.3.285`."""
EvalEngine = Callable[[EngineJob], Awaitable[EngineAnswers]]
"""Asks every item of a golden set and scores the answers.

An engine never guesses: an item without an answer has a sample with its `error`, or no sample.
Failures of the whole are `EvalError`s that name a remedy.
"""
