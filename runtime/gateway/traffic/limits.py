"""Limits that a gateway process keeps: rates of clients and aliases, memory, retries.

Counts live here and not in a routing table: a new table forgets no client's requests.
"""

import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from fleet.traffic import Budget, LimitPolicy
from runtime.files import read_plain, replace_file
from runtime.gateway.body import errors
from runtime.gateway.table.routing import RouteTarget
from runtime.gateway.traffic.shares import MEMORY, ClientWeights

BURST_S: Final = 10.0
"""Time whose share of `requests_per_minute` may come at once, seconds; at least 1 request."""
REQUEST_BYTES: Final = 256 * 2**20
"""Upper bound of the bytes of request bodies in a gateway process; shared as `MEMORY` says."""
SHADOW_BYTES: Final = 64 * 2**20
"""Upper bound of the bytes of bodies kept for shadow requests, beside `REQUEST_BYTES`."""
UNCOUNTED_BYTES: Final = 64 * 1024
"""Largest body that is not counted, bytes: little beside the buffers of its connection."""
RETRY_SHARE: Final = 0.1
"""Upper bound of the requests that are tried again at a time, as a share of all in flight."""
MIN_RETRIES: Final = 3
"""Requests that may be tried again at a time however few are in flight."""
_MINUTE: Final = 60.0
_TOKEN_BYTES: Final = 4
_DATA_URL: Final = re.compile(rb'"data:[^"]*"')


class RateLeft(NamedTuple):
    """The rest of a rate of a client."""

    kind: str
    """`requests` or `tokens`."""
    limit: int
    """Allowed a minute."""
    remaining: int
    """Allowed at once now."""
    reset_s: float
    """Time until as much as ever is allowed at once. Unit: seconds."""


def rate_headers(found: Iterable[RateLeft]) -> dict[str, str]:
    """Return headers for a client with the rest of its rates; of several, the tightest."""
    tightest: dict[str, RateLeft] = {}
    for rate in found:
        if rate.kind not in tightest or rate.remaining < tightest[rate.kind].remaining:
            tightest[rate.kind] = rate
    headers: dict[str, str] = {}
    for kind, rate in tightest.items():
        headers[f"x-ratelimit-limit-{kind}"] = str(rate.limit)
        headers[f"x-ratelimit-remaining-{kind}"] = str(rate.remaining)
        headers[f"x-ratelimit-reset-{kind}"] = f"{rate.reset_s:.2f}s"
    return headers


@dataclass(slots=True)
class RateLimiter:
    """The use that a client, or an alias, has made of its declared limits.

    Requests per minute follow GCRA: evenly spaced, with a burst of `BURST_S`. Tokens are charged
    when an answer is complete; below zero the next requests wait until the level is positive.
    Times are the event loop's, in seconds. `gateways` is the number of gateways that share the
    limits; this gateway allows its part.
    """

    _earliest_s: float
    """Time of the next request if requests came evenly; at first now, as the next field."""
    _refilled_s: float
    running: int = 0
    """Requests at work."""
    _level: float | None = None
    """Tokens left; negative after an answer that took more. None: all."""

    def wait_s(self, limits: LimitPolicy, gateways: int, now: float) -> float:
        """Return the seconds until the rates allow another request; 0 where they do."""
        wait_s = 0.0
        if limits.requests_per_minute is not None:
            interval_s = _MINUTE * gateways / limits.requests_per_minute
            slack_s = max(0.0, BURST_S - interval_s)
            # A limit that was lowered meanwhile never allows the lead that the old one allowed.
            self._earliest_s = min(self._earliest_s, now + slack_s + interval_s)
            wait_s = self._earliest_s - slack_s - now
        if limits.tokens_per_minute is not None:
            capacity = limits.tokens_per_minute / gateways
            per_second = capacity / _MINUTE
            level = capacity if self._level is None else self._level
            self._level = min(capacity, level + per_second * (now - self._refilled_s))
            self._refilled_s = now
            if self._level <= 0:
                wait_s = max(wait_s, (1 - self._level) / per_second)
        return max(wait_s, 0.0)

    def count_request(self, limits: LimitPolicy, gateways: int, now: float) -> None:
        """Count a request towards `requests_per_minute`."""
        if limits.requests_per_minute is not None:
            interval_s = _MINUTE * gateways / limits.requests_per_minute
            self._earliest_s = max(self._earliest_s, now) + interval_s

    def left(self, limits: LimitPolicy, gateways: int, now: float) -> Iterator[RateLeft]:
        """Yield the rest of the rates, after `wait_s` and `count_request` of the same time."""
        if limits.requests_per_minute is not None:
            interval_s = _MINUTE * gateways / limits.requests_per_minute
            ahead_s = max(0.0, self._earliest_s - now)
            room_s = max(0.0, BURST_S - interval_s) - ahead_s
            at_once = math.floor(room_s / interval_s) + 1 if room_s >= 0 else 0
            yield RateLeft("requests", limits.requests_per_minute // gateways, at_once, ahead_s)
        if limits.tokens_per_minute is not None and self._level is not None:
            capacity = limits.tokens_per_minute / gateways
            reset_s = _MINUTE * (capacity - self._level) / capacity
            yield RateLeft("tokens", int(capacity), max(0, int(self._level)), reset_s)

    def charge(self, tokens: int) -> None:
        """Count the tokens of an answer."""
        if self._level is not None:
            self._level -= tokens

    def allows_another(self, limits: LimitPolicy, gateways: int) -> bool:
        """Return whether `concurrency` allows another request at work."""
        return limits.concurrency is None or self.running < math.ceil(limits.concurrency / gateways)


def least_tokens(body: bytes) -> int:
    """Return about as many tokens as the prompt in a body has at least; data URLs count for none.

    A token of text takes about four bytes.
    """
    return (len(body) - sum(len(url) for url in _DATA_URL.findall(body))) // _TOKEN_BYTES


@dataclass(slots=True)
class MemoryBudget:
    """Bytes that a gateway process holds, by client.

    Request bodies count from their heads to the ends of their answers, and answers count while
    their clients do not read them. Bodies of shadow requests have a budget of their own.
    """

    _max_bytes: int
    _weights: ClientWeights = field(default_factory=ClientWeights)
    _total: int = 0
    _by_client: Counter[str] = field(default_factory=Counter)

    def acquire(self, client: str, size: int) -> None:
        """Count bytes for a client, or raise 503: the client's share is used up."""
        free, held = self._max_bytes - self._total - size, self._by_client[client] + size
        if not self._weights.allows(client, held, free, MEMORY):
            raise errors.no_memory()
        self._total += size
        self._by_client[client] += size

    def release(self, client: str, size: int) -> None:
        """Count the bytes no longer."""
        self._total -= size
        self._by_client[client] -= size
        if not self._by_client[client]:
            del self._by_client[client]


@dataclass(slots=True)
class UnreadBytes:
    """Bytes of responses that wait on a connection because the client does not read them."""

    _memory: MemoryBudget
    _client: str = ""
    _size: int = 0

    def acquire(self, client: str, size: int) -> bool:
        """Count the bytes for a client; return whether the client's share allows them."""
        self.release()
        try:
            self._memory.acquire(client, size)
        except errors.ApiError:
            return False
        self._client, self._size = client, size
        return True

    def release(self) -> None:
        """Count the bytes no longer."""
        if self._size:
            self._memory.release(self._client, self._size)
            self._size = 0


@dataclass(slots=True)
class RetryBudget:
    """Requests on their second or third server: few, to bring servers in trouble little load."""

    _in_flight: Mapping[str, int]
    """All requests, by server."""
    running: int = 0
    """Requests that were tried again and have not ended."""

    def acquire(self) -> bool:
        """Return whether another request may be tried again, and count the request if so."""
        if self.running >= max(MIN_RETRIES, int(RETRY_SHARE * sum(self._in_flight.values()))):
            return False
        self.running += 1
        return True

    def release(self) -> None:
        """Count a request that was tried again no longer."""
        self.running -= 1


FILE: Final = "month.json"
"""File of a gateway's folder with the newest figures."""


class MonthFigures(BaseModel):
    """Requests and tokens of the month, as the admin side takes them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    until: float
    """End of the month. Unit: seconds since 1970."""
    clients: Mapping[str, tuple[int, int]] = {}
    """Answered requests and tokens, by client."""
    aliases: Mapping[str, tuple[int, int]] = {}


@dataclass(slots=True)
class MonthlyUse:
    """The requests and tokens of this month that a gateway knows of."""

    _file: Path | None = None
    _clock: Callable[[], float] = time.time
    _until: float = 0.0
    _clients: dict[str, list[int]] = field(default_factory=dict)
    _aliases: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Return the figures of a gateway's folder; a file that is lacking or broken has none."""
        use = cls(folder / FILE)
        with suppress(OSError, ValidationError):
            use._take(MonthFigures.model_validate_json(read_plain(folder / FILE)))
        return use

    def replace(self, figures: MonthFigures) -> None:
        """Take figures in the place of the known ones, and keep them for the next start.

        Raises:
            OSError: the file cannot be written; the figures count.
        """
        self._take(figures)
        if self._file is not None:
            replace_file(self._file, figures.model_dump_json().encode())

    def count(self, target: RouteTarget, tokens: int) -> None:
        """Count a request of a client and alias that have figures."""
        for used in (self._clients.get(target.client), self._aliases.get(target.alias)):
            if used is not None:
                used[0] += 1
                used[1] += tokens

    def wait_s(self, target: RouteTarget) -> float:
        """Return the seconds until the month ends where a hard budget is used up; else 0."""
        left_s, policy = self._until - self._clock(), target.policy
        if left_s <= 0:
            return 0.0
        is_spent = _is_spent(self._clients.get(target.client), policy.client_limits)
        is_spent = is_spent or _is_spent(self._aliases.get(target.alias), policy.limits)
        return left_s if is_spent else 0.0

    def _take(self, figures: MonthFigures) -> None:
        self._until = figures.until
        self._clients = {name: [*used] for name, used in figures.clients.items()}
        self._aliases = {name: [*used] for name, used in figures.aliases.items()}


def _is_spent(used: list[int] | None, limits: LimitPolicy) -> bool:
    if used is None or limits.budget is not Budget.HARD:
        return False
    bounds = limits.requests_per_month, limits.tokens_per_month
    return any(
        bound is not None and number >= bound for number, bound in zip(used, bounds, strict=True)
    )
