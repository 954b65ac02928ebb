"""Lists the eval engines by the name that a project declares. One file per engine beside this."""

from collections.abc import Mapping
from types import MappingProxyType

from fleet.errors import EvalError, did_you_mean, problem
from runtime.evals.context import EvalEngine
from runtime.evals.engines.command import run_command
from runtime.evals.engines.inspect_engine import run_inspect
from runtime.evals.engines.lm_eval import run_lm_eval
from runtime.evals.engines.native import run_native

ENGINES: Mapping[str, EvalEngine] = MappingProxyType(
    {
        "native": run_native,
        "inspect": run_inspect,
        "lm_eval": run_lm_eval,
        "command": run_command,
    }
)


def engine_named(name: str) -> EvalEngine:
    """Return an engine.

    Raises:
        EvalError: FC4506, there is no engine of that name.
    """
    if name not in ENGINES:
        known = sorted(ENGINES)
        detail = f"`{name}` is none of {', '.join(known)}."
        hint = did_you_mean(name, known)
        raise EvalError(problem("FC4506", "No such eval engine", detail, hint=hint))
    return ENGINES[name]
