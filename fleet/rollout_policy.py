"""Defines how a rollout is declared: gates and their metrics, weights, overrides."""

import hashlib
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Literal

from fleet.response_format import ResponseFormat

Metric = Literal[
    "accuracy_drop",
    "hallucination_rise",
    "error_rate_rise",
    "format_drop",
    "truncation_rise",
    "p95_ratio",
    "first_token_ratio",
    "token_time_ratio",
    "neighbour_ratio",
    "error_rate",
    "p95_latency",
    "baseline_ratio",
]
UNITS: dict[str, tuple[str, ...]] = {
    "accuracy_drop": ("pp",),
    "hallucination_rise": ("pp",),
    "error_rate_rise": ("pp",),
    "format_drop": ("pp",),
    "truncation_rise": ("pp",),
    "p95_ratio": ("x",),
    "first_token_ratio": ("x",),
    "token_time_ratio": ("x",),
    "neighbour_ratio": ("x",),
    "error_rate": ("%",),
    "p95_latency": ("ms", "s"),
    "baseline_ratio": ("x",),
}
"""Units in which each metric's limit may be given."""

BY_FORM = "declared_format"
"""Score of a gate by which an answer has the form that its adapter declares, or not."""
OFFLINE = frozenset({"accuracy_drop", "hallucination_rise"})
"""Metrics that are judged on a golden set, before a version takes traffic."""
RISES = frozenset({"error_rate_rise", "format_drop", "truncation_rise"})
"""Live metrics whose rate is compared between the new and the old version."""
RATIOS = frozenset({"p95_ratio", "first_token_ratio", "token_time_ratio", "neighbour_ratio"})
"""Live metrics whose 95th percentile is compared with the old version's."""
ABSOLUTE = frozenset({"error_rate", "p95_latency", "baseline_ratio"})
"""Live metrics that are compared with a fixed limit, or with the time before the rollout."""


@dataclass(frozen=True, slots=True)
class GateSpec:
    """A condition that a new version must meet before it takes more traffic."""

    name: str
    metric: str
    threshold: float
    """In `unit`: percentage points, percent, times, milliseconds or seconds."""
    unit: str
    golden: str | None = None
    """Golden set of this gate, relative to the project; None: the adapter's."""
    score: str | None = None
    """Metric that scores every answer; None: what each item says."""
    samples: int = 1
    """Answers asked for each item."""
    floor: float | None = None
    """Least mean score, 0 to 1, whatever the old version reached."""
    tolerate: float = 1.25
    """How many times the old version's rate is no finding yet."""
    min_requests: int = 50
    """Requests of the new version below which nothing passes."""
    false_alarm: float = 0.01
    """Most chance that a healthy version is ever failed by this gate, over the whole stage."""

    @property
    def offline(self) -> bool:
        """Whether the gate is judged on a golden set, not on traffic."""
        return self.metric in OFFLINE

    @property
    def margin(self) -> float:
        """The limit as a fraction (`3pp` and `3%` are 0.03), a factor, or seconds."""
        return self.threshold * {"pp": 0.01, "%": 0.01, "ms": 0.001}.get(self.unit, 1.0)

    @property
    def terms(self) -> str:
        """All that a verdict on a golden set depends on besides the answers, as one text."""
        floor = "" if self.floor is None else f", at least {self.floor:g}"
        return f"{self.metric} {self.limit}, {self.samples} x {self.score or 'as set'}{floor}"

    def terms_for(self, form: ResponseFormat | None) -> str:
        """Return the terms for an adapter that declares this form of its answers."""
        if self.score != BY_FORM or form is None:
            return self.terms
        return f"{self.terms} {hashlib.sha256(repr(form).encode()).hexdigest()[:16]}"

    @property
    def limit(self) -> str:
        """The limit for people: `3 pp`."""
        return f"{self.threshold:g} {self.unit}".strip()


@dataclass(frozen=True, slots=True)
class ChangeWindow:
    """A part of the week in which no version gets more traffic."""

    begins: int
    """Minutes since Monday 00:00, local time."""
    ends: int
    """As `begins`, not included; before it: the window spans the end of the week."""
    text: str
    """As declared."""


@dataclass(frozen=True, slots=True)
class RolloutPolicy:
    """The pace at which a new version takes over."""

    name: str
    weights: tuple[int, ...]
    bake: timedelta
    retain: timedelta
    """How long the replaced version stays loaded after the cut-over."""
    gates: tuple[str, ...]
    max_bake: timedelta | None = None
    """How long a stage may go on without a verdict before people decide; None: twice `bake`."""
    no_promote: tuple[ChangeWindow, ...] = ()
    offsets: tuple[int, ...] = (0,)
    """Minutes east of UTC that the windows' time zone has in the course of a year."""
    when_unsure: Literal["hold", "roll_back"] = "hold"
    """What follows when `max_bake` is over and a gate is still undecided."""
    low_traffic: int | None = None
    """First weight where the declared traffic is too small for the usual one."""
    drill: timedelta | None = None
    """How often a rollback is practised."""

    @property
    def longest_bake(self) -> timedelta:
        """How long a stage may go on without a verdict."""
        return self.bake * 2 if self.max_bake is None else self.max_bake


@dataclass(frozen=True, slots=True)
class OverrideSpec:
    """A person's signed acceptance of bytes that a gate rejects."""

    name: str
    accept: str
    """Digest of the version, or its beginning: 12 to 64 hex digits."""
    alias: str
    gates: tuple[str, ...]
    """Gates whose verdict no longer counts; empty: all."""
    reason: str
    by: str
    until: date
    """The last day on which it holds, UTC."""


@dataclass(frozen=True, slots=True)
class GoldenFacts:
    """What is known of a golden set when a plan is made."""

    digest: str
    items: int
    must_pass: int = field(default=0)
    """Items that may never fail."""


@dataclass(frozen=True, slots=True)
class EndpointFaults:
    """Bad requests among those that were recorded, by kind, and how many could be told."""

    requests: int = 0
    errors: int = 0
    told_format: int = 0
    format: int = 0
    told_finish: int = 0
    truncated: int = 0

    def seen(self, kind: str) -> tuple[int, int]:
        """Return bad requests of a kind (`errors`, `format`, `truncated`), and those told."""
        found = {
            "errors": (self.errors, self.requests),
            "format": (self.format, self.told_format),
            "truncated": (self.truncated, self.told_finish),
        }
        return found.get(kind, (0, 0))
