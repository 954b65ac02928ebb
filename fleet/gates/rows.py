"""Reads usage rows, as a gateway writes them: what counts, times, and kinds of bad requests.

Fields read of a row: `time alias version server status latency_s first_token_s (or first_byte_s)
output_tokens format_ok finish purpose unit`; a missing field is not counted.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from fleet.gates.counts import ERRORS, alarming, late
from fleet.rollout_policy import RATIOS, GateSpec

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


def times_of(row: UsageRow) -> dict[str, float]:
    """Return the times of a row that are known, in seconds."""
    made = {"total": float(row["latency_s"])}
    first = row.get("first_token_s")
    if first is None and row.get("stream", True):  # else the first byte comes with the last token
        first = row.get("first_byte_s")
    if first is not None:
        made["first_token"] = float(first)
        tokens = row.get("output_tokens") or 0
        if tokens > 1:
            made["token"] = max(0.0, made["total"] - made["first_token"]) / (tokens - 1)
    return made


Limits = Mapping[str, tuple[str, float]]
"""By kind: the measure that it is about, and the seconds beyond which it is bad."""


def limits_of(
    gates: Sequence[GateSpec], usual: Mapping[str, float | None]
) -> dict[str, tuple[str, float]]:
    """Return the times beyond which requests are late; `usual`: old 95th percentiles by measure."""
    found: dict[str, tuple[str, float]] = {}
    about = {"first_token_ratio": "first_token", "token_time_ratio": "token"}
    for gate in gates:
        measure = about.get(gate.metric, "total")
        pinned = usual.get(measure)
        if gate.metric == "p95_latency":
            found[late(gate.name)] = ("total", gate.margin)
        elif gate.unit == "x" and pinned is not None:
            found[late(gate.name)] = (measure, gate.margin * pinned)
            if gate.alarm is not None and gate.metric in RATIOS:
                found[alarming(gate.name)] = (measure, gate.alarm * pinned)
    return found


def kinds(row: UsageRow, limits: Limits) -> Iterator[tuple[str, bool]]:
    """Yield the kinds that can be told of a request, and whether the request was bad."""
    failed = row["status"] >= SERVER_FAULT
    yield ERRORS, failed
    if failed:
        return
    if row.get("format_ok") is not None:
        yield "format", not row["format_ok"]
    if row.get("finish"):
        yield "truncated", row["finish"] == "length"
    times = times_of(row)
    for kind, (measure, seconds) in limits.items():
        if measure in times:
            yield kind, times[measure] > seconds
