"""The contract of every eval engine. One file per engine in `runtime.evals.engines`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fleet.evals import EvalSpec, EvalTarget, GoldenSet, Sample

ReportProgress = Callable[[int, int], None]
"""Takes the number of answers so far and the number of all; must not block."""


def report_nothing(done: int, total: int) -> None:
    """Report nothing: the default."""
    del done, total


@dataclass(frozen=True, slots=True)
class EngineAnswers:
    """The samples of a run, and the engine that made them."""

    samples: tuple[Sample, ...]
    version: str
    """Name and version of the engine, such as `inspect-ai 0.3.285`."""


class EvalEngine(Protocol):
    """Asks every item of a golden set and scores the answers.

    An engine never guesses: an item without an answer has a sample with its `error`, or none.
    Failures of the whole are `EvalError`s that say what to do.
    """

    async def run(
        self,
        target: EvalTarget,
        golden: GoldenSet,
        spec: EvalSpec,
        folder: Path,
        report: ReportProgress,
    ) -> EngineAnswers:
        """Ask `target` everything in `golden`; `folder` is an empty one for work files."""
        ...
