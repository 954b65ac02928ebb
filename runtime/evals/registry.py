"""Eval engines by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from fleet.errors import EvalError, did_you_mean, problem
from runtime.evals.engine_command import Command
from runtime.evals.engine_inspect import Inspect
from runtime.evals.engine_lm_eval import LmEval
from runtime.evals.native import Native
from runtime.evals.office import Office
from runtime.evals.protocol import EvalEngine

ENGINES: Mapping[str, Callable[[Office], EvalEngine]] = MappingProxyType(
    {
        "native": Native,
        "inspect": Inspect,
        "lm_eval": LmEval,
        "command": Command,
    }
)
"""Each takes what it may need of the project."""


def engine_named(name: str, office: Office) -> EvalEngine:
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
