"""The contract of every eval engine. One file per engine in `runtime.evals.engines`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fleet.evals import EvalSpec, EvalTarget, GoldenSet, Sample

Tell = Callable[[int, int], None]
"""Takes how many answers are done, and of how many; must not block."""


def silent(done: int, total: int) -> None:
    """Tell nobody."""
    del done, total


@dataclass(frozen=True, slots=True)
class EngineAnswers:
    """What an engine brings back: the samples, and which engine it was."""

    samples: tuple[Sample, ...]
    version: str
    """Name and version of the engine, such as `inspect-ai 0.3.285`."""


class EvalEngine(Protocol):
    """Asks every item of a golden set and scores the answers.

    It never guesses: an item that was not answered has a sample with its `error`, or none.
    Failures of the whole are `EvalError`s that say what to do.
    """

    async def run(
        self, target: EvalTarget, golden: GoldenSet, spec: EvalSpec, folder: Path, tell: Tell
    ) -> EngineAnswers:
        """Ask `target` everything in `golden`; `folder` is an empty one for work files."""
        ...
