"""Counts usage rows, as a gateway writes them, by side, window and kind.

Fields read of a row: `time alias version server status latency_s first_token_s (or first_byte_s)
output_tokens format_ok finish purpose unit`; a missing field is not counted.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, Literal

from fleet.gates.counts import ERRORS, Tally, Window, late
from fleet.gates.design_effect import Clustered, Units
from fleet.rollout_policy import GateSpec
from fleet.traffic import Sticky

UsageRow = Mapping[str, Any]
Side = Literal["canary", "stable"]
Whose = Callable[[UsageRow], Side | None]
"""Says which side a row is on; None: neither."""
SERVER_FAULT = 500
CLIENT_LEFT = 499
REFUSED = 400
HOUR = timedelta(hours=1)
OURS = frozenset({"eval", "smoke", "shadow"})
"""Purposes of requests that no client made."""
LEAST_ROWS = 20
"""Requests below which a 95th percentile is not pinned."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """95th percentiles of a version before its rollout, in seconds; None: not known."""

    total: float | None = None
    first_token: float | None = None
    token: float | None = None
    requests: int = 0


def baseline(rows: Iterable[UsageRow]) -> Baseline:
    """Return the 95th percentiles of answered requests, pinned when a rollout begins."""
    found: dict[str, list[float]] = defaultdict(list)
    requests = 0
    for row in rows:
        if _counts(row) and row["status"] < SERVER_FAULT:
            requests += 1
            for name, seconds in _measures(row).items():
                found[name].append(seconds)
    pinned = {name: _p95(values) for name, values in found.items() if len(values) >= LEAST_ROWS}
    return Baseline(**pinned, requests=requests)


def arms(alias: str, canary: str, stable: str) -> Whose:
    """Return which side a row is on: the new version's, the old one's, or neither."""

    def side(row: UsageRow) -> Side | None:
        if row.get("alias") != alias:
            return None
        version = row.get("version")
        return "canary" if version == canary else "stable" if version == stable else None

    return side


def neighbours(alias: str, servers: frozenset[str], serving: Mapping[str, str]) -> Whose:
    """Return the side of other aliases' rows: on a server with the new version, or not.

    `serving`: by alias, the version that counts. Rows of a version that another alias tries are on
    neither side: the slowness of that version is not the neighbour's doing.
    """

    def side(row: UsageRow) -> Side | None:
        other = row.get("alias")
        if not row.get("server") or other in (alias, "", None):
            return None
        if serving.get(str(other), row.get("version")) != row.get("version"):
            return None
        return "canary" if row["server"] in servers else "stable"

    return side


def count_windows(
    rows: Iterable[UsageRow],
    side: Whose,
    gates: Sequence[GateSpec],
    baselines: Mapping[str, Baseline],
    start: datetime,
    end: datetime,
    *,
    length: timedelta = HOUR,
    percent: int | None = None,
    sticky: Sticky = Sticky.REQUEST,
) -> tuple[Window, ...]:
    """Count rows of a stage.

    Args:
        rows: In any order; those outside `[start, end)` do not count.
        side: Which side a row is on, see `arms` and `neighbours`.
        gates: Live gates whose own limits are counted.
        baselines: By alias: what slow is measured against.
        start: Entry of the stage, or when its evidence began anew.
        end: Now.
        length: Of a window.
        percent: The share that the new version should have; None: not to be checked.
        sticky: What the split keeps on one version. By user and session, rows without a user
            (`unit` is null) are told of; those that cannot say (no `unit`: an Envoy's), and all
            of them where it goes by key, are no independent draws of the split.
    """
    units = Units()
    counting: dict[int, dict[Side, _Counting]] = defaultdict(
        lambda: {"canary": _Counting(units), "stable": _Counting(units)}
    )
    named, by_user = False, sticky in (Sticky.SESSION, Sticky.USER)
    timed = ((datetime.fromisoformat(row["time"]), row) for row in rows)
    within = ((moment, row) for moment, row in timed if start <= moment < end)
    for moment, row in sorted(within, key=itemgetter(0)):
        where = side(row)
        if where is None or not _counts(row):
            continue
        limits = _limits(gates, baselines.get(str(row["alias"]), Baseline()))
        unit = (where, str(row["alias"]), str(row["unit"])) if row.get("unit") else None
        named = named or unit is not None
        drawn = sticky is not Sticky.KEY and (not by_user or "unit" in row)
        counting[int((moment - start) / length)][where].add(row, limits, unit, drawn=drawn)
    return tuple(
        Window(
            start + number * length,
            min(end, start + (number + 1) * length),
            sides["canary"].tally(named=named, by_user=by_user),
            sides["stable"].tally(named=named, by_user=by_user),
            percent,
        )
        for number, sides in sorted(counting.items())
    )


def _counts(row: UsageRow) -> bool:
    """Say whether a client's request reached a version; what was refused says nothing of it."""
    status = int(row["status"])
    asked = row.get("purpose") not in OURS
    return asked and (status < REFUSED or status >= CLIENT_LEFT)


def _measures(row: UsageRow) -> dict[str, float]:
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


def _limits(gates: Sequence[GateSpec], known: Baseline) -> dict[str, tuple[str, float]]:
    usual = {"total": known.total, "first_token": known.first_token, "token": known.token}
    found = {f"slow_{name}": (name, limit) for name, limit in usual.items() if limit is not None}
    about = {"first_token_ratio": "first_token", "token_time_ratio": "token"}
    for gate in gates:
        measure = about.get(gate.metric, "total")
        pinned = usual[measure]
        if gate.metric == "p95_latency":
            found[late(gate.name)] = ("total", gate.margin)
        elif gate.unit == "x" and pinned is not None:
            found[late(gate.name)] = (measure, gate.margin * pinned)
    return found


@dataclass(slots=True)
class _Counting:
    units: Units
    requests: int = 0
    unnamed: int = 0
    arrived: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    of: Counter[str] = field(default_factory=Counter)
    users: dict[str, list[int]] = field(default_factory=dict)

    def add(
        self, row: UsageRow, limits: Limits, unit: tuple[str, ...] | None, *, drawn: bool
    ) -> None:
        self.requests += 1
        self.arrived += drawn and self.units.new(unit, ERRORS)
        self.unnamed += unit is None
        for kind, bad in _kinds(row, limits):
            self.of[kind] += 1
            self.bad[kind] += bad
            sums = self.users.setdefault(kind, [0] * len(fields(Clustered)))
            for place, more in enumerate(self.units.add(unit, kind, bad=bad)):
                sums[place] += more

    def tally(self, *, named: bool, by_user: bool) -> Tally:
        """Return the counts; kinds that were never told have a total of zero."""
        told = dict.fromkeys(("format", "truncated"), 0) | dict(self.of)
        told.pop(ERRORS, None)
        bad = {kind: count for kind, count in self.bad.items() if count}
        unnamed = self.unnamed if by_user or named else 0
        if not named:
            return Tally(self.requests, bad, told, arrived=self.arrived, unnamed=unnamed)
        users = {kind: Clustered(*sums) for kind, sums in self.users.items()}
        return Tally(self.requests, bad, told, users, self.arrived, unnamed)


def _kinds(row: UsageRow, limits: Limits) -> Iterator[tuple[str, bool]]:
    """Yield the kinds that can be told of a request, and whether the request was bad."""
    failed = row["status"] >= SERVER_FAULT
    yield ERRORS, failed
    if failed:
        return
    if row.get("format_ok") is not None:
        yield "format", not row["format_ok"]
    if row.get("finish"):
        yield "truncated", row["finish"] == "length"
    measures = _measures(row)
    for kind, (measure, seconds) in limits.items():
        if measure in measures:
            yield kind, measures[measure] > seconds


def _p95(values: Sequence[float]) -> float:
    """Return the 95th percentile: the smallest value that 95 % do not exceed."""
    ordered = sorted(values)
    return ordered[-(-95 * len(ordered) // 100) - 1]
