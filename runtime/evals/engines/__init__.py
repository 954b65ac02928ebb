"""The eval engines by the name that a project declares. One file per engine beside this one."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from fleet.errors import EvalError, did_you_mean, problem
from runtime.evals.context import EvalContext
from runtime.evals.engines.command import CommandEngine
from runtime.evals.engines.inspect_engine import InspectEngine
from runtime.evals.engines.lm_eval import LmEvalEngine
from runtime.evals.engines.native import NativeEngine
from runtime.evals.protocol import EvalEngine

ENGINES: Mapping[str, Callable[[EvalContext], EvalEngine]] = MappingProxyType(
    {
        "native": NativeEngine,
        "inspect": InspectEngine,
        "lm_eval": LmEvalEngine,
        "command": CommandEngine,
    }
)
"""Each takes what it may need of the project."""


def engine_named(name: str, context: EvalContext) -> EvalEngine:
    """Return an engine.

    Raises:
        EvalError: FC4506, there is none of that name.
    """
    if name not in ENGINES:
        known = sorted(ENGINES)
        detail = f"`{name}` is none of {', '.join(known)}."
        hint = did_you_mean(name, known)
        raise EvalError(problem("FC4506", "No such eval engine", detail, hint=hint))
    return ENGINES[name](context)
