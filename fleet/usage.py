"""Defines usage: whose figures a reader may see, and the figures of requests, which add up.

Times are UTC. Figures are whole numbers and sketches, so that sums are equal in any order.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from operator import attrgetter
from typing import Final, Self


@dataclass(frozen=True, slots=True)
class Operator:
    """The scope of the operator: all clients."""


@dataclass(frozen=True, slots=True)
class OfClient:
    """The scope of a client: its own requests, and no name of a server."""

    name: str


Scope = Operator | OfClient
"""Whose figures a reader may see; an argument of each function that reads usage."""


class Grain(StrEnum):
    """The length of a cell. Quarters are kept for 48 hours, hours for 400 days, days for ever."""

    QUARTER = "quarter"
    HOUR = "hourly"
    DAY = "daily"

    @property
    def length(self) -> timedelta:
        """The time from the start of a cell to its end."""
        return _LENGTHS[self]


_LENGTHS: Final = {
    Grain.QUARTER: timedelta(minutes=15),
    Grain.HOUR: timedelta(hours=1),
    Grain.DAY: timedelta(days=1),
}

ACCURACY: Final = 0.01
"""Upper bound of the relative error of a quantile."""
_GAMMA: Final = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GAMMA: Final = math.log(_GAMMA)
ODD: Final = -(2**15)
"""Bucket of values that are zero or negative; counts as 0."""
_LARGEST: Final = 2**15 - 1


def bucket_of(value: float) -> int:
    """Return the logarithmic bucket of a value.

    Source: Masson, Rim, Lee 2019, "DDSketch", arXiv:1908.10693, section 2.1.
    """
    if value <= 0:
        return ODD
    bucket = math.ceil(math.log(value) / _LOG_GAMMA)
    return min(_LARGEST, max(-_LARGEST, bucket)) if abs(bucket) > _LARGEST else bucket


@dataclass(frozen=True, slots=True)
class Sketch:
    """The distribution of values: counts in logarithmic buckets; sketches add up."""

    buckets: tuple[tuple[int, int], ...] = ()
    """Bucket and count, sorted by bucket; no count is 0."""

    @classmethod
    def of_counts(cls, counts: Mapping[int, int]) -> Self:
        """Return the sketch of counts by bucket."""
        return cls(tuple(sorted(counts.items())))

    @classmethod
    def of_values(cls, values: Iterable[float]) -> Self:
        """Return the sketch of values."""
        return cls.of_counts(Counter(map(bucket_of, values)))

    @property
    def count(self) -> int:
        """The number of values."""
        return sum(count for _, count in self.buckets)

    def quantile(self, share: float) -> float | None:
        """Return the value of nearest rank, within `ACCURACY`; None: there is no value."""
        left = max(1, math.ceil(share * self.count))
        for bucket, count in self.buckets:
            left -= count
            if left <= 0:
                return 0.0 if bucket == ODD else 2 * _GAMMA**bucket / (_GAMMA + 1)
        return None

    def above(self, limit: float) -> int:
        """Return the number of values above a limit; those within `ACCURACY` of it may differ."""
        last = bucket_of(limit)
        return sum(count for bucket, count in self.buckets if bucket > last)

    @classmethod
    def sum_of(cls, sketches: Iterable["Sketch"]) -> Self:
        """Return the sum of sketches, faster than by pairs."""
        counts: Counter[int] = Counter()
        for sketch in sketches:
            for bucket, count in sketch.buckets:
                counts[bucket] += count
        return cls.of_counts(counts)

    def __add__(self, other: "Sketch") -> "Sketch":
        return Sketch.sum_of((self, other))


@dataclass(frozen=True, slots=True)
class UsageFigures:
    """The figures of requests. Figures add up: over hours, versions, servers."""

    requests: int = 0
    """All requests, those that were refused too."""
    errors: int = 0
    """Answered with 500 or above."""
    refused: int = 0
    """Answered with 429: a limit, or no turn in time. A lower bound: logs lack some of them."""
    rejected: int = 0
    """Answered with another status from 400 on: the request was wrong."""
    left: int = 0
    """The client left before the end."""
    retries: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that a server had in its cache; part of `input_tokens`."""
    inputs: int = 0
    """Requests whose input tokens are known."""
    outputs: int = 0
    """Requests whose output tokens are known."""
    unknown: int = 0
    """Requests that were answered or left, and of which a token count is not known."""
    recounted: int = 0
    """Requests whose output tokens no server reported: a lower bound."""
    judged: int = 0
    """Requests below 500 whose format was judged."""
    misshapen: int = 0
    """Of the judged requests those without the declared format."""
    ended: int = 0
    """Requests below 500 with a finish reason."""
    cut_short: int = 0
    """Of these the requests that ended for their length."""
    odd: int = 0
    """Requests with a time that cannot be: a clock was put back, or runs ahead."""
    waited_us: int = 0
    """Microseconds that requests waited for their turn."""
    kv_token_ms: int = 0
    """Tokens held times milliseconds: prompt and half of the answer, for the time at work."""
    latency: Sketch = Sketch()
    """Seconds of answered requests (below 400)."""
    first_token: Sketch = Sketch()
    """Seconds to the first byte, of answered streams."""
    per_token: Sketch = Sketch()
    """Seconds an output token after the first, of answered streams."""
    waited: Sketch = Sketch()
    """Seconds of waiting for a turn, of all requests that note them."""
    tokens: Sketch = Sketch()
    """Prompt and answer together, of answered requests with a known prompt; none in cells that an
    earlier release has filled."""

    @property
    def answered(self) -> int:
        """Requests that were answered below 400."""
        return self.requests - self.errors - self.refused - self.rejected - self.left

    @classmethod
    def sum_of(cls, figures: Iterable["UsageFigures"]) -> Self:
        """Return the sum of figures, faster than by pairs."""
        listed = [*figures]
        counts = (sum(map(attrgetter(name), listed)) for name in COUNTS)
        sketches = (Sketch.sum_of(map(attrgetter(name), listed)) for name in SKETCHES)
        return cls(*counts, *sketches)

    def __add__(self, other: "UsageFigures") -> "UsageFigures":
        return UsageFigures.sum_of((self, other))


_FIGURES: Final = tuple(field.name for field in fields(UsageFigures))
SKETCHES: Final = ("latency", "first_token", "per_token", "waited", "tokens")
"""Names of the figures that are sketches, in the order of the store: new ones come last."""
COUNTS: Final = tuple(name for name in _FIGURES if name not in SKETCHES)
"""Names of the figures that are whole numbers."""


@dataclass(frozen=True, slots=True)
class UsageCell:
    """The figures of requests that have all the named fields in common; an empty field is any.

    An empty field that was asked for means that the request did not come so far.
    """

    start: datetime
    """Start of the cell, or of the whole range."""
    figures: UsageFigures
    client: str = ""
    alias: str = ""
    version: str = ""
    server: str = ""
    purpose: str = ""


@dataclass(frozen=True, slots=True)
class GatewayIngest:
    """How far the rows of a gateway have come into the store."""

    gateway: str
    rows: int
    """Rows in the store, those of removed logs too."""
    newest: datetime | None
    """End of the newest request, by the gateway's clock."""
    duplicates: int = 0
    damaged: int = 0
    """Lines that are no row."""
    cut: int = 0
    """Logs that have become shorter than their mark; rows may be lacking since."""
