"""What keeps versions good once they serve: evaluations on schedule, and retraining."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

LEAST_KEPT = 3
"""Earlier versions of an adapter that stay in the library at the least."""


@dataclass(frozen=True, slots=True)
class JudgeModel:
    """A model at an OpenAI-compatible endpoint that scores what code cannot."""

    url: str
    model: str
    key: str | None
    """Reference of its API key, `env:NAME` or `file:path`."""


@dataclass(frozen=True, slots=True)
class EvalPolicy:
    """How golden sets are asked, and how often."""

    every: timedelta = timedelta(days=7)
    engine: str = "native"
    samples: int = 1
    temperature: float = 0.0
    concurrency: int = 4
    max_missing: int = 0
    timeout_s: float = 60.0
    judge: JudgeModel | None = None
    command: tuple[str, ...] = ()
    """What the `command` engine starts."""
    through: Literal["server", "gateway"] = "server"
    """Whom questions are sent to."""
    keep: timedelta = timedelta(days=90)
    """How long answers stay that nothing is compared with."""
    pause_above: int = 4
    """Requests waiting on a server above which nothing more is asked of it for now."""
