"""Reads usage rows, as a gateway writes them: what counts, times, and kinds of bad requests.

Fields read of a row: `time alias version server status latency_s first_token_s (or first_byte_s)
stream output_tokens format_ok finish purpose unit`; a missing field is not counted.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from fleet.gates.own_control import BY_WINDOW, SUMS, ByUser
from fleet.policies import RATIOS, GateSpec

ERRORS = "errors"
BAD: Mapping[str, str] = MappingProxyType(
    {
        "error_rate_rise": ERRORS,
        "error_rate": ERRORS,
        "format_drop": "format",
        "truncation_rise": "truncated",
    }
)
"""By metric: the kind of bad request it counts."""


@dataclass(frozen=True, slots=True)
class Tally:
    """The requests of a side in a window, and the number of bad requests by kind.

    Kinds: `errors format truncated`, `late:<gate>` for those beyond a gate's own limit, and
    `alarm:<gate>` for those beyond its alarm. Whether a request failed is always known; other kinds
    may not be, such as the form of an answer that has none declared.
    """

    requests: int = 0
    bad: Mapping[str, int] = field(default_factory=dict)
    of: Mapping[str, int] = field(default_factory=dict)
    """By kind: requests that could be told to be good or bad; a kind left out was never told."""
    users: Mapping[str, ByUser] | None = None
    """By kind: the same by user; None: no request of the stage names one."""
    arrived: int | None = None
    """Draws of the split: new users, and requests without a user; None: as `requests`."""
    unnamed: int = 0
    """Requests without a user although the split goes by user; every such request is a unit."""

    def total(self, kind: str) -> int:
        """Return the requests among which a kind was counted."""
        return self.requests if kind == ERRORS else self.of.get(kind, 0)


@dataclass(frozen=True, slots=True)
class Window:
    """Counts of both sides between two moments, in which the shares did not change."""

    start: datetime
    end: datetime
    canary: Tally
    stable: Tally
    percent: int | None = None
    """The share that the new version should have had; None: not to be checked."""


def late(gate: str) -> str:
    """Return the kind of requests beyond a gate's own limit."""
    return f"late:{gate}"


def alarming(gate: str) -> str:
    """Return the kind of requests beyond a gate's alarm."""
    return f"alarm:{gate}"


def kind_of(gate: GateSpec) -> str:
    """Return the kind of bad requests that a gate counts."""
    return BAD.get(gate.metric) or late(gate.name)


Made = dict[str, float | tuple[float, ...]]


def counts_of(gate: GateSpec, windows: Sequence[Window], kind: str = "") -> Made:
    """Take the counts that a gate's rule needs out of the windows; pooled where the rule asks.

    `kind` is of the bad requests; empty: the gate's own.
    """
    kind = kind or kind_of(gate)
    made: Made = {}
    for suffix in ("", "_stable"):
        side = [window.stable if suffix else window.canary for window in windows]
        made |= _side(side, kind, suffix)
        if gate.alarm is not None and gate.metric in RATIOS:
            made |= _by_user(side, alarming(gate.name), f"alarm_{{}}{suffix}")
        arrived = (tally.requests if tally.arrived is None else tally.arrived for tally in side)
        made[f"split{suffix}"] = tuple(map(float, arrived))
    made["percent"] = tuple(
        float(-1 if window.percent is None else window.percent) for window in windows
    )
    sides = [tally for window in windows for tally in (window.canary, window.stable)]
    unnamed = sum(tally.unnamed for tally in sides)
    if unnamed or any(tally.users is not None for tally in sides):
        made["unnamed"] = float(unnamed)
    return _pooled(made) if gate.metric == "baseline_ratio" else made


def _side(side: Sequence[Tally], kind: str, suffix: str) -> Made:
    made: Made = {
        f"bad{suffix}": tuple(float(tally.bad.get(kind, 0)) for tally in side),
        f"requests{suffix}": tuple(float(tally.total(kind)) for tally in side),
    }
    return made | _by_user(side, kind, f"{{}}{suffix}")


def _by_user(side: Sequence[Tally], kind: str, name: str) -> Made:
    """Return the counts by user; without users every request is a user's only one."""
    found = [
        ByUser(bad, of, of, of, bad, of) if tally.users is None else tally.users.get(kind, ByUser())
        for tally in side
        for bad, of in [(tally.bad.get(kind, 0), tally.total(kind))]
    ]
    made: Made = {
        name.format(count): tuple(round(float(getattr(sums, count)), 6) for sums in found)
        for count in BY_WINDOW
    }
    for count in SUMS:
        made[name.format(count)] = round(float(sum(getattr(sums, count) for sums in found)), 6)
    return made


def _pooled(made: Made) -> Made:
    """Add the old version's counts to the new version's, save for the split."""
    found = dict(made)
    for name, value in made.items():
        other = made.get(f"{name}_stable")
        if isinstance(value, tuple) and isinstance(other, tuple) and name != "split":
            found[name] = tuple(mine + its for mine, its in zip(value, other, strict=True))
        elif isinstance(value, float) and isinstance(other, float):
            found[name] = value + other
    return found


UsageRow = Mapping[str, Any]
SERVER_FAULT = 500
CLIENT_LEFT = 499
REFUSED = 400
OURS = frozenset({"eval", "smoke", "shadow"})
"""Purposes of requests that no client made."""


def is_counted(row: UsageRow) -> bool:
    """Say whether a client's request reached a version; what was refused says nothing of it."""
    status = int(row["status"])
    asked = row.get("purpose") not in OURS
    return asked and (status < REFUSED or status >= CLIENT_LEFT)


def end_of(row: UsageRow) -> datetime:
    """Return when a request ended, which is when its row was written."""
    return datetime.fromisoformat(row["time"]) + timedelta(seconds=float(row["latency_s"]))


def whole_tokens(row: UsageRow) -> int:
    """Return the number of tokens of an answer that was not streamed; 0: streamed, or unknown."""
    streamed = row.get("stream", True) or row.get("first_token_s") is not None
    return 0 if streamed else int(row.get("output_tokens") or 0)


def times_of(row: UsageRow, usual_tokens: float = 0.0) -> dict[str, float]:
    """Return the times of a row that are known, in seconds.

    Of an answer that was not streamed, the whole time by token. Where it has fewer than
    `usual_tokens`, by these: the wait for the first token would make short answers look slow.
    """
    made = {"total": float(row["latency_s"])}
    if whole := whole_tokens(row):
        made["whole"] = made["total"] / max(whole, usual_tokens)
    first = row.get("first_token_s")
    if first is None and row.get("stream", True):  # else the first byte comes with the last token
        first = row.get("first_byte_s")
    if first is not None:
        made["first_token"] = float(first)
        tokens = row.get("output_tokens") or 0
        if tokens > 1:
            made["token"] = max(0.0, made["total"] - made["first_token"]) / (tokens - 1)
    return made


BY_TOKEN: Mapping[str, tuple[str, str]] = MappingProxyType(
    {"first_token_ratio": ("first_token", "whole"), "token_time_ratio": ("token", "whole")}
)
"""By metric: the measures of a streamed answer, and of a whole one."""


@dataclass(frozen=True, slots=True)
class LatenessLimits:
    """The times beyond which requests are late."""

    seconds: tuple[tuple[str, str, float], ...]
    """Kinds of bad requests, with the measure and its limit."""
    usual_tokens: float
    """As of `times_of`."""


def limits_of(
    gates: Sequence[GateSpec], usual: Mapping[str, float | None], usual_tokens: float
) -> LatenessLimits:
    """Return the times beyond which requests are late; `usual`: old 95th percentiles by measure."""
    found: list[tuple[str, str, float]] = []
    for gate in gates:
        if gate.metric == "p95_latency":
            found.append((late(gate.name), "total", gate.margin))
        elif gate.unit == "x":
            for measure in BY_TOKEN.get(gate.metric, ("total",)):
                pinned = usual.get(measure)
                if pinned is None:
                    continue
                found.append((late(gate.name), measure, gate.margin * pinned))
                if gate.alarm is not None and gate.metric in RATIOS:
                    found.append((alarming(gate.name), measure, gate.alarm * pinned))
    return LatenessLimits(tuple(found), usual_tokens)


def kinds(row: UsageRow, limits: LatenessLimits) -> Iterator[tuple[str, bool]]:
    """Yield the kinds that can be told of a request, and whether the request was bad."""
    failed = row["status"] >= SERVER_FAULT
    yield ERRORS, failed
    if failed:
        return
    if row.get("format_ok") is not None:
        yield "format", not row["format_ok"]
    if row.get("finish"):
        yield "truncated", row["finish"] == "length"
    times = times_of(row, limits.usual_tokens)
    for kind, measure, seconds in limits.seconds:
        if measure in times:
            yield kind, times[measure] > seconds


_TEXTS: Final = (
    "time", "request_id", "client", "alias", "version", "server", "finish", "unit", "digest",
)  # fmt: skip
"""Fields of which an empty text is as none. A finding of earlier rows names no later field."""
_NO_CLIENT: Final = "live"
"""Purpose of a row that names none."""


@dataclass(frozen=True, slots=True)
class CountedRows:
    """The rows behind a finding on traffic, and how they were counted."""

    rows: int = 0
    """Number of different rows."""
    sha256: str = ""
    """Of all rows: `digest_of_rows`."""
    first: datetime | None = None
    """Begin of the time that rows are of: a while before the rollout, for usual figures."""
    began: datetime | None = None
    """When traffic first reached the new version."""
    end: datetime | None = None
    """End of the time that rows are of."""
    window_s: float = 0.0
    """Length of a window."""
    percent: int | None = None
    """The share that requests were compared with; None: the share was not checked."""
    sticky: str = ""
    alone: bool = False
    """Whether no other alias shared a server with the new version."""


def row_digest(row: UsageRow) -> bytes:
    """Return the SHA-256 of a usage row's canonical form.

    Raises:
        KeyError, TypeError, ValueError: the row has no status or latency, or no such numbers.
    """
    first_byte, tokens = row.get("first_byte_s"), row.get("output_tokens")
    canonical = [
        *(row.get(name) or "" for name in _TEXTS),
        int(row["status"]),
        float(row["latency_s"]),
        None if first_byte is None else float(first_byte),
        None if tokens is None else int(tokens),
        row.get("format_ok"),
        bool(row.get("stream")),
        row.get("purpose") or _NO_CLIENT,
    ]
    return hashlib.sha256(json.dumps(canonical, separators=(",", ":")).encode()).digest()


class TimedRow(NamedTuple):
    """A usage row with its time and its digest."""

    time: datetime
    digest: bytes
    row: UsageRow


def in_order(rows: Iterable[UsageRow]) -> list[TimedRow]:
    """Return rows without twins, in the order in which their requests ended.

    A row is written when its request ends, so that rows that were written after a reading stand
    behind the rows of that reading.
    """
    found = {row_digest(row): row for row in rows}
    made = [TimedRow(datetime.fromisoformat(row["time"]), key, row) for key, row in found.items()]
    return sorted(made, key=_ended)


def _ended(timed: TimedRow) -> tuple[datetime, bytes]:
    return end_of(timed.row), timed.digest


def digest_of_rows(digests: Iterable[bytes]) -> str:
    """Return the digest of all rows by their own digests, in any order."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()
