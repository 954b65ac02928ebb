"""How new versions take over: paces, and the conditions they must meet."""

from datetime import timedelta
from typing import Literal

from fleet.declarations.section import Section
from fleet.units import Duration, Id, Limit, Percent


class Rollout(Section):
    """The pace at which a new version takes over a client's traffic.

    A version moves to the next weight when it has baked at this one and every gate
    passes. It drops to 0 percent the moment one gate fails.
    """

    weights: tuple[Percent, ...] = (10, 50, 100)
    """Share of requests at each stage, ascending, ending at 100. Unit: percent."""
    bake: Duration = timedelta(hours=24)
    """Least time at each stage before the next, such as `24h`. Usual: 24 to 48 hours."""
    retain: Duration = timedelta(days=7)
    """How long the replaced version stays loaded after the cut-over."""
    gates: tuple[Id, ...] = ()
    """Gates that a version must pass at each stage."""


Metric = Literal[
    "accuracy_drop",
    "hallucination_rise",
    "format_drop",
    "error_rate_rise",
    "error_rate",
    "p95_latency",
    "p95_ratio",
]
UNITS: dict[str, tuple[str, ...]] = {
    "accuracy_drop": ("pp",),
    "hallucination_rise": ("pp",),
    "format_drop": ("pp",),
    "error_rate_rise": ("pp",),
    "error_rate": ("%",),
    "p95_latency": ("ms", "s"),
    "p95_ratio": ("x",),
}
"""Units in which each metric's limit may be given."""


class Gate(Section):
    """A condition that a new version must meet before it takes more traffic."""

    metric: Metric
    """What is compared: drops and rises are against the version it replaces."""
    max: Limit
    """The worst value that passes, with its unit: `3pp`, `2%`, `1.5x`, `500ms`."""
