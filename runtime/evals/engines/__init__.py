"""What fleetctl needs from an eval engine. One file per engine beside this one.

Eval engines by name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from fleet.errors import EvalError, did_you_mean, problem
from fleet.evals import EvalSpec, EvalTarget, GoldenSet, Sample
from runtime.evals.context import EvalContext
from runtime.evals.engines.command import CommandEngine
from runtime.evals.engines.inspect_ai import InspectEngine
from runtime.evals.engines.lm_eval import LmEvalEngine
from runtime.evals.engines.native import NativeEngine

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


ENGINES: Mapping[str, Callable[[EvalContext], EvalEngine]] = MappingProxyType(
    {
        "native": NativeEngine,
        "inspect": InspectEngine,
        "lm_eval": LmEvalEngine,
        "command": CommandEngine,
    }
)
"""Each takes what it may need of the project."""


def engine_named(name: str, office: EvalContext) -> EvalEngine:
    """Return an engine.

    Raises:
        EvalError: FC4506, there is none of that name.
    """
    if name not in ENGINES:
        known = sorted(ENGINES)
        detail = f"`{name}` is none of {', '.join(known)}."
        hint = did_you_mean(name, known)
        raise EvalError(problem("FC4506", "No such eval engine", detail, hint=hint))
    return ENGINES[name](office)
