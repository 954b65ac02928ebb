"""Defines declared policies: terms of costs, rollouts with gates, signing keys, rules of plans."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from typing import Final, Literal

from fleet.response_format import ResponseFormat

Billing = Literal["always", "in_use"]
"""`always`: a device costs while declared. `in_use`: a device costs while it has a server."""

MICRO: Final = 1_000_000
"""Millionths in a unit of the currency; amounts are whole millionths."""


def micro(amount: float) -> int:
    """Return an amount of the currency in whole millionths."""
    return round(amount * MICRO)


class IdleRule(StrEnum):
    """The rule by which clients share the idle part of a server's hour."""

    RESERVED = "reserved"
    """By slots, times the load declared for the hour of the day; without any load by slots."""
    USAGE = "usage"
    """By the work of the hour."""
    EVEN = "even"
    """Evenly among the clients with an adapter on the server."""
    PLATFORM = "platform"
    """None: the platform pays."""


@dataclass(frozen=True, slots=True)
class CostPolicy:
    """The fleet's terms of costs."""

    currency: str = "EUR"
    """ISO 4217 code of all prices and fees."""
    timezone: str = "UTC"
    """Zone in which months begin."""
    idle: IdleRule = IdleRule.RESERVED
    storage_price: float = 0.0
    """Price of a GiB of adapters a month."""


@dataclass(frozen=True, slots=True)
class ClientCosts:
    """A client's staff hours and overage."""

    staff_hours: float = 0.0
    """Hours of work a month."""
    staff_rate: float = 0.0
    """Price of an hour of work."""
    included_tokens: int = 0
    """Tokens a month that the fee covers; counts where `overage_price` is more than 0."""
    overage_price: float = 0.0
    """Price of a million further tokens, which the client pays beside the fee."""


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


class SignatureState(StrEnum):
    """The worth of a version's signature."""

    VERIFIED = "verified"
    """A declared key signed the bytes of the version."""
    UNSIGNED = "unsigned"
    UNKNOWN_KEY = "unknown_key"
    """No declared key made the signature."""
    CHANGED = "changed"
    """A declared key signed other bytes."""
    EXPIRED = "expired"
    """The key's last day has passed."""


@dataclass(frozen=True, slots=True)
class SigningKeySpec:
    """A declared public key."""

    name: str
    fingerprint: str
    """SHA-256 of the key in DER, 64 hex digits."""
    until: date | None = None
    """The last day (UTC) on which its signatures count; None: no end."""


@dataclass(frozen=True, slots=True)
class SignedBytes:
    """The content of a signature that was checked: a key, and the bytes that the key signed."""

    key: str
    """Fingerprint; empty: no declared key made the signature."""
    digest: str = ""
    """Digest of a version with these bytes; empty: not known."""


@dataclass(frozen=True, slots=True)
class VersionSignature:
    """A key that signed a version, and whether its very bytes; as in fleet.lock."""

    key: str
    """Fingerprint; empty: no key that was declared then made the signature."""
    matches: bool
    """Whether the key signed the bytes of the version."""


@dataclass(frozen=True, slots=True)
class SigningSpec:
    """The declared keys, and the signatures in fleet.lock."""

    keys: tuple[SigningKeySpec, ...] = ()
    """Sorted by name."""
    versions: Mapping[str, VersionSignature] = field(default_factory=dict)
    """By full name of the version; versions without a signature are left out."""

    def key(self, fingerprint: str) -> SigningKeySpec | None:
        """Return the declared key with a fingerprint; the latest of several under other names."""
        found = [key for key in self.keys if key.fingerprint == fingerprint]
        return max(found, key=lambda key: key.until or date.max, default=None)

    def state(self, version: str, today: date) -> SignatureState:
        """Return the state of a version's signature on a day (UTC)."""
        signature = self.versions.get(version)
        if signature is None:
            return SignatureState.UNSIGNED
        key = self.key(signature.key)
        if key is None:
            return SignatureState.UNKNOWN_KEY
        if not signature.matches:
            return SignatureState.CHANGED
        if key.until is not None and key.until < today:
            return SignatureState.EXPIRED
        return SignatureState.VERIFIED


class RuleLevel(StrEnum):
    """The consequence of a broken rule."""

    ADVISE = "advise"
    """The plan says so."""
    WARN = "warn"
    """The plan's verdict is at least `look before you apply`, and `apply` repeats the warning."""
    DENY = "deny"
    """The plan is not allowed, and `apply` refuses the plan."""


@dataclass(frozen=True, slots=True)
class RuleExceptionSpec:
    """A client or an alias that a rule leaves out, until a day."""

    name: str
    client: str
    """Empty: an alias is named."""
    adapter: str
    """The alias; empty: a client is named."""
    until: date
    """The last day of the exception, UTC."""
    reason: str

    def covers(self, client: str, alias: str) -> bool:
        """Say whether the exception names the client or the alias."""
        return self.client == client if self.client else self.adapter == alias


@dataclass(frozen=True, slots=True)
class PlanRuleSpec:
    """A declared rule of plans; a single limit is set."""

    name: str
    level: RuleLevel
    max_traffic_per_day: int | None = None
    """Percent of all traffic that may move in 24 hours."""
    closed: tuple[ChangeWindow, ...] = ()
    """Parts of the week in which nothing is applied."""
    timezone: str = "UTC"
    offsets: tuple[int, ...] = (0,)
    """Minutes east of UTC of `timezone` in the course of a year."""
    two_approvals: str = ""
    """Tier of which changes need the approvals of two people."""
    signed: str = ""
    """Tier of which no version gets work without a signature that counts."""
    max_cost_rise: int | None = None
    """Percent by which the price of the devices in use may rise."""
    exceptions: tuple[RuleExceptionSpec, ...] = ()
    """Sorted by name; ended exceptions too."""


@dataclass(frozen=True, slots=True)
class PlanRuleFinding:
    """The finding of a rule on a plan at a time."""

    rule: str  # its name in `plan_rules`
    level: RuleLevel
    broken: bool  # whether the plan breaks the rule
    text: str  # the finding as a sentence
    origin: str = ""
    """`file:line:col` of the rule; empty: not of a file."""
    approvals: int = 0
    """Number of people whose approvals the rule asks for; 0: the rule asks for none."""
