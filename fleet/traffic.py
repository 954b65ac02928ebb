"""Defines how a gateway treats the requests for one alias: limits, deadlines, turns, shadow.

Everything has a default, and a default leaves no trace in plans and routing tables: a fleet
that declares no policy has routes without a policy.
"""

from dataclasses import dataclass
from enum import StrEnum

from fleet.response_format import ResponseFormat

CHOICES = 16
"""Most answers to one request (`n`) where nothing else is declared."""
QUEUE_S = 1.0
"""How long a request waits where its own limits are used up and nothing is declared, seconds."""
USUAL_TURNS = 2
"""Turns in a row of a client about whom nothing is declared."""


class Sticky(StrEnum):
    """What keeps a user on one version while traffic is split."""

    SESSION = "session"
    """The header X-Session-Id, else the user that the body names, else chance."""
    USER = "user"
    """The user that the body names, else chance."""
    REQUEST = "request"
    """Nothing: each request is assigned by chance."""
    KEY = "key"
    """The API key: everyone who shares it is on one version."""


@dataclass(frozen=True, slots=True)
class LimitPolicy:
    """How much may be asked. None: no limit. Counted by each gateway for itself."""

    concurrency: int | None = None
    """Requests at work at the same time."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Prompt and answer together, charged when they are known: after the answer."""
    queue_s: float | None = None
    """How long a request waits for its turn before it is refused, seconds.

    None: `QUEUE_S` where limits of its own are used up, and for a server that is busy as long as an
    answer may take to begin.
    """


UNLIMITED = LimitPolicy()


@dataclass(frozen=True, slots=True)
class ShadowPolicy:
    """A version that gets copies of requests; its answers are thrown away."""

    adapter: str
    """Full name."""
    servers: tuple[str, ...]
    """Servers that hold it, sorted."""
    percent: int
    """Share of the requests that are copied."""
    concurrency: int
    """Copies at work at the same time; beyond it there are none."""


@dataclass(frozen=True, slots=True)
class TimeoutPolicy:
    """How long answers may take, seconds. None: the gateway's own."""

    first_byte_s: float | None = None
    """Until a server begins its answer; of one that is no stream, until it is there."""
    idle_s: float | None = None
    """Longest pause inside a stream."""
    total_s: float | None = None
    """Longest that a whole answer may take."""


USUAL_TIMEOUTS = TimeoutPolicy()


@dataclass(frozen=True, slots=True)
class TrafficPolicy:
    """What holds for the requests for one alias."""

    sticky: Sticky = Sticky.SESSION
    format: ResponseFormat | None = None
    """What form its answers must have."""
    limits: LimitPolicy = UNLIMITED
    """Of this alias."""
    client_limits: LimitPolicy = UNLIMITED
    """Of its client, all aliases together."""
    gateways: int = 1
    """Gateways that have the limits between them: each allows its part."""
    choices: int = CHOICES
    """Most answers to one request (`n`)."""
    timeouts: TimeoutPolicy = USUAL_TIMEOUTS
    server_in_flight: int | None = None
    """Requests that a gateway keeps at work on one server at a time; the rest wait in turn.

    None: as many as the server runs at a time, which it is asked.
    """
    turns: int | None = None
    """Turns in a row that waiting requests get, beside those with 1. None: `USUAL_TURNS`."""
    prioritized: bool = False
    """Whether its servers look at priorities: they are told these turns."""
    shadow: ShadowPolicy | None = None
