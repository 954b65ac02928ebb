"""Defines a gateway's policy for the requests of an alias: limits, deadlines, turns, shadow.

Every field has a default, and a default leaves no trace in plans and routing tables: a fleet
without declared policies has routes without a policy.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from fleet.response_format import ResponseFormat

CHOICES = 16
"""Default upper bound of the answers to a request (`n`)."""
QUEUE_S = 1.0
"""Default wait of a request whose own limits are used up, in seconds."""
USUAL_TURNS = 2
"""Default turns in a row of a client."""
LATENCY_BOUNDS_S = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
)  # fmt: skip
"""Upper bounds of the buckets of a gateway's histograms, in seconds, the usual promises among them;
`TrafficPolicy.promise_s` adds to them, and one more bucket holds the rest."""


class Budget(StrEnum):
    """The consequence of a month's budget that is used up, beside alerts."""

    SOFT = "soft"
    """None."""
    HARD = "hard"
    """Requests are refused until the month ends."""


class Sticky(StrEnum):
    """The key that keeps a user on the same version while traffic is split."""

    SESSION = "session"
    """The header X-Session-Id, else the user that the body names, else chance."""
    USER = "user"
    """The user that the body names, else chance."""
    REQUEST = "request"
    """No key: every request is assigned by chance."""
    KEY = "key"
    """The API key: all users of a key are on the same version."""


@dataclass(frozen=True, slots=True)
class LimitPolicy:
    """Limits of requests and tokens. None: no limit.

    Every gateway counts for itself, but for those of a month.
    """

    concurrency: int | None = None  # requests at work at a time
    requests_per_minute: int | None = None  # admitted requests
    tokens_per_minute: int | None = None
    """Prompt and answer together, charged after the answer, when they are known."""
    queue_s: float | None = None
    """Upper bound of a request's wait for its turn before the refusal, in seconds.

    None: `QUEUE_S` where limits of its own are used up; for a busy server, as long as an answer
    may take to begin.
    """
    requests_per_month: int | None = None  # answered requests of all gateways together
    tokens_per_month: int | None = None
    """Prompt and answer together, of all gateways."""
    budget: Budget = Budget.SOFT
    """Whether requests beyond the month's budgets are refused."""

    @property
    def is_hard(self) -> bool:
        """Whether requests beyond a month's budget are refused."""
        return self.budget is Budget.HARD and (self.requests_per_month, self.tokens_per_month) != (
            None,
            None,
        )

    @property
    def has_rate(self) -> bool:
        """Whether requests or tokens a minute are bounded."""
        return (self.requests_per_minute, self.tokens_per_minute) != (None, None)


UNLIMITED = LimitPolicy()


@dataclass(frozen=True, slots=True)
class ShadowPolicy:
    """A version that gets copies of requests; its answers are thrown away."""

    adapter: str  # full name of the version
    servers: tuple[str, ...]
    """Servers that hold the version, sorted."""
    percent: int  # share of the requests that are copied
    concurrency: int
    """Upper bound of the copies at work at the same time; further requests are not copied."""


@dataclass(frozen=True, slots=True)
class TimeoutPolicy:
    """Upper bounds of the time of an answer, in seconds. None: the gateway's own."""

    first_byte_s: float | None = None
    """Until a server begins a stream, or has sent another answer."""
    idle_s: float | None = None
    """Pause inside a stream."""
    total_s: float | None = None  # a whole answer


USUAL_TIMEOUTS = TimeoutPolicy()


class Deadlines(NamedTuple):
    """Upper bounds of an answer's times, seconds; the gateway's own as defaults."""

    first_byte_s: float = 60.0
    """Until the body begins; an answer that is no stream is complete by then."""
    idle_s: float = 60.0
    total_s: float = 3600.0


DEFAULT_DEADLINES: Final = Deadlines()
_PROMISES: Final = 10
"""Longest time of an answer that is no stream, in promised p95s."""


@dataclass(frozen=True, slots=True)
class CapturePolicy:
    """The part of requests whose text a gateway writes down, with the answer."""

    percent: int  # share of the requests
    keep_days: int  # days until the texts are deleted


@dataclass(frozen=True, slots=True)
class TrafficPolicy:
    """Policy for the requests of an alias."""

    sticky: Sticky = Sticky.SESSION
    format: ResponseFormat | None = None
    limits: LimitPolicy = UNLIMITED
    client_limits: LimitPolicy = UNLIMITED
    """Limits of its client, all aliases together."""
    gateways: int = 1
    """Gateways that share the limits: every gateway allows its part."""
    choices: int = CHOICES  # upper bound of the answers to a request (`n`)
    timeouts: TimeoutPolicy = USUAL_TIMEOUTS
    server_in_flight: int | None = None
    """Requests that a gateway keeps at work on a server at a time; the rest wait in turn.

    None: the number that the server itself runs at a time.
    """
    turns: int | None = None
    """Turns in a row of waiting requests, beside requests with 1. None: `USUAL_TURNS`."""
    prioritized: bool = False
    """Whether its servers schedule by priority: the gateway sends the turns as priorities."""
    shadow: ShadowPolicy | None = None
    capture: CapturePolicy | None = None
    """None: no text of a request is ever written."""
    alias_for: str = ""
    """Further name that the client calls the alias by; empty: none."""
    promise_s: float | None = None
    """Promised p95 of an answer, in seconds: a bound of the gateway's histograms; an answer without
    stream may take ten times as long. None: no promise."""

    def deadlines(self, *, stream: bool) -> Deadlines:
        """Return the upper bounds of the times of streams, or of other answers."""
        declared, usual = self.timeouts, DEFAULT_DEADLINES
        if self.promise_s and not stream:
            usual = usual._replace(first_byte_s=self.promise_s * _PROMISES)
        return Deadlines(
            declared.first_byte_s or usual.first_byte_s,
            declared.idle_s or usual.idle_s,
            declared.total_s or usual.total_s,
        )

    @property
    def has_rates(self) -> bool:
        """Whether requests or tokens a minute are bounded, of the alias or its client."""
        return self.limits.has_rate or self.client_limits.has_rate
