"""Defines declared rollouts: gates and their metrics, weights, overrides."""

import hashlib
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Literal

from fleet.response_format import ResponseFormat

Metric = Literal[
    "accuracy_drop",
    "hallucination_rise",
    "replay_drop",
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
BY_FORM = "declared_format"
"""Score of a gate by which an answer has the form that its adapter declares, or not."""
REPLAY = "replay_drop"
"""Metric of captured requests that are asked of both versions again, before any traffic."""
INTACT = "intact"
"""Score by which an answer is as sound as an earlier answer: its form, its length, no refusal."""
NEWEST = 300
"""Upper bound of the captured requests that are asked again."""
OFFLINE = frozenset({"accuracy_drop", "hallucination_rise", REPLAY})
"""Metrics that are judged on a golden set, before a version takes traffic."""
RISES = frozenset({"error_rate_rise", "format_drop", "truncation_rise"})
"""Live metrics whose rate is compared between the new and the old version."""
RATIOS = frozenset({"p95_ratio", "first_token_ratio", "token_time_ratio", "neighbour_ratio"})
"""Live metrics whose 95th percentile is compared with the old version's."""
ABSOLUTE = frozenset({"error_rate", "p95_latency", "baseline_ratio"})
"""Live metrics that are compared with a fixed limit, or with the time before the rollout."""
UNITS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(sorted(OFFLINE | RISES), ("pp",)),
    **dict.fromkeys(sorted({*RATIOS, "baseline_ratio"}), ("x",)),
    "error_rate": ("%",),
    "p95_latency": ("ms", "s"),
}
"""Units of a limit, by metric."""
AUTO = "auto"
"""In the place of a limit's unit: the smallest limit that the golden set can show."""
SCALES = {"pp": 0.01, "%": 0.01, "ms": 0.001}
"""Factors to fractions and seconds, by unit; others: 1."""


@dataclass(frozen=True, slots=True)
class GateSpec:
    """A condition that a new version must meet before the version takes more traffic."""

    name: str
    metric: str
    threshold: float
    """In `unit`: percentage points, percent, times, milliseconds or seconds; 0 with `auto`."""
    unit: str
    golden: str | None = None
    """Golden set of this gate, relative to the project; None: the adapter's."""
    score: str | None = None
    """Metric that scores every answer; None: the item's own metric."""
    samples: int = 1
    floor: float | None = None
    """Lower bound of the mean score, 0 to 1, independent of the old version."""
    tolerate: float = 1.25
    """Upper bound of the new version's rate that is no finding, in rates of the old version."""
    min_requests: int = 50
    """Lower bound of the new version's requests for a PASS."""
    false_alarm: float = 0.01
    """Upper bound of the chance that the gate fails a healthy version, over the whole stage."""
    alarm_at: float | None = None
    """In `unit`: surely worse than that is a FAIL; None: `threshold`."""

    @property
    def offline(self) -> bool:
        """Whether the gate is judged on a golden set, not on traffic."""
        return self.metric in OFFLINE

    @property
    def margin(self) -> float:
        """The limit as a fraction (`3pp` and `3%` are 0.03), a factor, or seconds."""
        return self.threshold * SCALES.get(self.unit, 1.0)

    @property
    def alarm(self) -> float | None:
        """The alarm, as `margin` is the limit; None: there is none beside the limit."""
        return None if self.alarm_at is None else self.alarm_at * SCALES.get(self.unit, 1.0)

    @property
    def terms(self) -> str:
        """The text of all settings that a verdict on a golden set depends on."""
        floor = "" if self.floor is None else f", at least {self.floor:g}"
        return f"{self.metric} {self.limit}, {self.samples} x {self.score or 'as set'}{floor}"

    def terms_for(self, form: ResponseFormat | None) -> str:
        """Return the terms for an adapter that declares this form."""
        if self.score not in (BY_FORM, INTACT) or form is None:
            return self.terms
        return f"{self.terms} {hashlib.sha256(repr(form).encode()).hexdigest()[:16]}"

    @property
    def limit(self) -> str:
        """The limit for people: `3 pp`."""
        return AUTO if self.unit == AUTO else f"{self.threshold:g} {self.unit}".strip()


@dataclass(frozen=True, slots=True)
class ChangeWindow:
    """A part of the week in which no version gets more traffic."""

    begins: int
    """Minutes since Monday 00:00, local time."""
    ends: int
    """As `begins`, not included; before `begins`: the window spans the end of the week."""
    text: str


USUAL_WEIGHTS: Final = (10, 50, 100)
"""Percent of the requests by stage, where a rollout declares none."""


@dataclass(frozen=True, slots=True)
class RolloutPolicy:
    """The stages and gates by which a new version takes over."""

    name: str
    weights: tuple[int, ...]
    bake: timedelta
    retain: timedelta
    """Time for which the replaced version stays loaded after the cut-over."""
    gates: tuple[str, ...]
    max_bake: timedelta | None = None
    """Upper bound of a stage without a verdict, after which people decide; None: twice `bake`."""
    no_promote: tuple[ChangeWindow, ...] = ()
    offsets: tuple[int, ...] = (0,)
    """Minutes east of UTC of the windows' time zone, in the course of a year."""
    when_unsure: Literal["hold", "roll_back"] = "hold"
    """Action when `max_bake` is over and a gate is still undecided."""
    low_traffic: int | None = None
    """First weight where the declared traffic is too small for the usual weight."""
    drill: timedelta | None = None
    """Time between two practised rollbacks."""

    @property
    def longest_bake(self) -> timedelta:
        """Upper bound of a stage without a verdict."""
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
    """The last day of the override, UTC."""


@dataclass(frozen=True, slots=True)
class GoldenFacts:
    """Digest and size of a golden set when a plan is made."""

    digest: str
    items: int
    must_pass: int = 0
    repeated: int = 0
    """Items beyond the first of their group."""

    @property
    def independent(self) -> int:
        """The number of items that do not share a group."""
        return self.items - self.repeated


@dataclass(frozen=True, slots=True)
class EndpointFaults:
    """Recorded bad requests by kind, and requests of which the kind is known (`told_…`)."""

    requests: int = 0
    errors: int = 0
    told_format: int = 0
    format: int = 0
    told_finish: int = 0
    truncated: int = 0

    def seen(self, kind: str) -> tuple[int, int]:
        """Return the bad requests of a kind (`errors`, `format`, `truncated`), of how many."""
        counts = {
            "errors": (self.errors, self.requests),
            "format": (self.format, self.told_format),
            "truncated": (self.truncated, self.told_finish),
        }
        return counts.get(kind, (0, 0))
