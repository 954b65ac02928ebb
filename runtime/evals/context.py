"""What evaluations need of the project: store, clock, ids, secrets and the judge's policy."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleet.evals import EvalTarget
from runtime.evals.store import EvalStore


def unknown_judge(client: str) -> str:
    """Return why no judge decides a gate: the default."""
    return f"nobody has compared it with people's labels for {client}"


def direct_target(target: EvalTarget) -> EvalTarget:
    """Return the target as given: the server itself is asked."""
    return target


def no_secret(reference: str) -> str | None:
    """Return None for every reference: no secret can be read."""
    del reference
    return None


@dataclass(frozen=True, slots=True)
class EvalContext:
    """Store, clock, ids, secrets and policies of one project's evaluations."""

    store: EvalStore
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    root: Path = Path()
    """The project; the `command` engine runs here."""
    secret: Callable[[str], str | None] = no_secret
    """Return the secret behind a reference; None where it cannot be read."""
    judge_objection: Callable[[str], str] = unknown_judge
    """Return why the judge decides no gate of a client; empty: the judge decides."""
    resolve_target: Callable[[EvalTarget], EvalTarget] = direct_target
    """Return the target that requests go to, such as a gateway with the operator's secret."""
