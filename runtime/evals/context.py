"""What evaluations need of the project: where they are kept, clock, ids and secrets."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleet.evals import EvalTarget
from runtime.evals.store import EvalStore


def unknown_judge(client: str) -> str:
    """Trust no judge."""
    return f"nobody has compared it with people's labels for {client}"


def directly(target: EvalTarget) -> EvalTarget:
    """Ask the server itself."""
    return target


def no_secret(reference: str) -> str | None:
    """Know no secret."""
    del reference
    return None


@dataclass(frozen=True, slots=True)
class EvalContext:
    """Where evaluations are kept, and the clock and ids that they are stamped with."""

    store: EvalStore
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    root: Path = Path()
    """The project; the `command` engine runs here."""
    secret: Callable[[str], str | None] = no_secret
    """Return the secret behind a reference; None where it cannot be read."""
    advisory: Callable[[str], str] = unknown_judge
    """Return why the judge decides no gate of a client; empty: it does."""
    way: Callable[[EvalTarget], EvalTarget] = directly
    """Return how a version is asked, such as through a gateway with the operator's secret."""
