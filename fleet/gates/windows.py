"""Counts usage rows by side, window and kind, and how a version fared before its rollout."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from operator import itemgetter
from types import MappingProxyType
from typing import Literal

from fleet.gates.own_control import CONSTANTS, Beliefs, ByUser, Echoes, Usual, usual_of
from fleet.gates.rows import (
    ERRORS,
    SERVER_FAULT,
    LatenessLimits,
    Tally,
    UsageRow,
    Window,
    alarming,
    is_counted,
    kind_of,
    kinds,
    limits_of,
    times_of,
    whole_tokens,
)
from fleet.policies import GateSpec
from fleet.traffic import Sticky

LEAST_ROWS = 20
"""Requests below which a 95th percentile is not pinned."""
HOUR = timedelta(hours=1)
BEFORE = timedelta(days=7)
"""Length of the time before a rollout from which the old version's usual times are taken."""
MEASURES = ("total", "first_token", "token", "whole")


@dataclass(frozen=True, slots=True)
class Baseline:
    """A version before its rollout: 95th percentiles in seconds (None: not known), and users."""

    total: float | None = None
    first_token: float | None = None
    token: float | None = None
    requests: int = 0
    """Behind the percentiles."""
    usual: Mapping[str, Usual] = field(default_factory=dict)
    """By kind of bad requests; empty: not asked for."""
    hourly: float = 0.0
    """Requests an hour, nights and weekends included."""

    whole: float | None = None
    """95th percentile of answers that were not streamed, by token. Unit: seconds."""
    whole_tokens: float = 0.0
    """Median of the tokens of such answers; shorter ones are judged as if they had so many."""

    def limits(self, gates: Sequence[GateSpec]) -> LatenessLimits:
        """Return the times beyond which requests are late, by gates."""
        times = {name: getattr(self, name) for name in MEASURES}
        return limits_of(gates, times, self.whole_tokens)


UNKNOWN = Baseline()


def baseline(rows: Iterable[UsageRow]) -> Baseline:
    """Return the 95th percentiles of answered requests, pinned when a rollout begins."""
    answered = [row for row in rows if is_counted(row) and row["status"] < SERVER_FAULT]
    tokens = sorted(filter(None, map(whole_tokens, answered)))
    usual_tokens = float(tokens[len(tokens) // 2]) if tokens else 0.0
    found: dict[str, list[float]] = defaultdict(list)
    for row in answered:
        for name, seconds in times_of(row, usual_tokens).items():
            found[name].append(seconds)
    total, first, token, whole = (
        _p95(found[name]) if len(found[name]) >= LEAST_ROWS else None for name in MEASURES
    )
    return Baseline(total, first, token, len(answered), whole=whole, whole_tokens=usual_tokens)


def baselines(
    rows: Iterable[UsageRow], serving: Mapping[str, str], start: datetime
) -> Iterator[tuple[str, Baseline]]:
    """Yield aliases and their usual times before the rollout, of the version that counts.

    `serving`: that version, by alias.
    """
    before: dict[str, list[UsageRow]] = {}
    for row in rows:
        alias = str(row.get("alias"))
        if serving.get(alias, row.get("version")) != row.get("version"):
            continue
        if start - BEFORE <= datetime.fromisoformat(row["time"]) < start:
            before.setdefault(alias, []).append(row)
    for alias, found in before.items():
        yield alias, baseline(found)


def with_usual(
    known: Baseline,
    rows: Iterable[UsageRow],
    gates: Sequence[GateSpec],
    start: datetime,
    believed: Mapping[str, Beliefs] = MappingProxyType({}),
) -> Baseline:
    """Return a baseline with the usual bad requests of users, by the weeks before.

    Args:
        known: The percentiles, against which late requests are told.
        rows: Of the version, from before the rollout; in any order.
        gates: Live gates whose kinds of bad requests are asked for.
        start: Begin of the rollout.
        believed: By metric, of users of whom little was seen; a metric left out: the constants.
    """
    limits = known.limits(gates)
    told: dict[str, list[tuple[str, int, bool]]] = defaultdict(list)
    first, requests = start, 0
    for row in rows:
        if not is_counted(row):
            continue
        requests += 1
        moment = datetime.fromisoformat(row["time"])
        first, day = min(first, moment), (start - moment).days
        for kind, bad in kinds(row, limits):
            told[kind].append((str(row.get("unit") or ""), day, bad))
    hours = (start - first) / HOUR
    beliefs = {
        kind: believed[gate.metric]
        for gate in gates
        if gate.metric in believed
        for kind in (kind_of(gate), alarming(gate.name))
    }
    usual = {kind: Usual.assumed(belief) for kind, belief in beliefs.items()}
    usual |= {kind: usual_of(found, beliefs.get(kind, CONSTANTS)) for kind, found in told.items()}
    return replace(known, usual=usual, hourly=requests / hours if hours > 1 else 0.0)


def _p95(values: Sequence[float]) -> float:
    """Return the 95th percentile: the smallest value that 95 % do not exceed."""
    ordered = sorted(values)
    return ordered[-(-95 * len(ordered) // 100) - 1]


Side = Literal["canary", "stable"]
Whose = Callable[[UsageRow], Side | None]
"""Says which side a row is on; None: neither."""
ASSUMED = Usual.assumed()
"""Of a kind that was never told before, of no alias."""


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
    users, echoes = _Users(), Echoes()
    counting: dict[int, dict[Side, _Counting]] = defaultdict(
        lambda: {"canary": _Counting(users, echoes), "stable": _Counting(users, echoes)}
    )
    named, by_user = False, sticky in (Sticky.SESSION, Sticky.USER)
    timed = ((datetime.fromisoformat(row["time"]), row) for row in rows)
    within = ((moment, row) for moment, row in timed if start <= moment < end)
    limits = {alias: known.limits(gates) for alias, known in baselines.items()}
    unknown = UNKNOWN.limits(gates)
    for moment, row in sorted(within, key=itemgetter(0)):
        where = side(row)
        if where is None or not is_counted(row):
            continue
        alias = str(row["alias"])
        user = str(row["unit"]) if row.get("unit") else ""
        named = named or bool(user)
        drawn = sticky is not Sticky.KEY and (not by_user or "unit" in row)
        asked = _Asked(
            (where, alias, user) if user else None,
            baselines.get(alias, UNKNOWN).usual,
            (moment - start).total_seconds(),
        )
        counted = counting[int((moment - start) / length)][where]
        counted.add(kinds(row, limits.get(alias, unknown)), asked, drawn=drawn)
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


class _Users:
    """Numbers of requests by user, and by user and kind."""

    def __init__(self) -> None:
        self._asked: Counter[tuple[str, ...]] = Counter()

    def earlier(self, user: tuple[str, ...]) -> int:
        """Count a request; return how many there were before."""
        self._asked[user] += 1
        return self._asked[user] - 1


@dataclass(frozen=True, slots=True)
class _Asked:
    """The user behind a request, and its time."""

    user: tuple[str, str, str] | None
    """Side, alias and user; None: the request names none."""
    usual: Mapping[str, Usual]
    at: float
    """Seconds since the stage began."""


@dataclass(slots=True)
class _Counting:
    users: _Users
    echoes: Echoes
    requests: int = 0
    unnamed: int = 0
    arrived: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    of: Counter[str] = field(default_factory=Counter)
    by_user: dict[str, ByUser] = field(default_factory=dict)

    def add(self, kinds: Iterator[tuple[str, bool]], asked: _Asked, *, drawn: bool) -> None:
        self.requests += 1
        self.arrived += drawn and (asked.user is None or not self.users.earlier(asked.user))
        self.unnamed += asked.user is None
        for kind, bad in kinds:
            self.of[kind] += 1
            self.bad[kind] += bad
            sums = self.by_user.setdefault(kind, ByUser())
            self._add_to(sums, kind, asked, bad=bad)

    def _add_to(self, sums: ByUser, kind: str, asked: _Asked, *, bad: bool) -> None:
        usual, user = asked.usual.get(kind, ASSUMED), asked.user
        expected, variance = usual.rate(user[2] if user else "")
        sums.expected += expected
        if user is None:
            sums.units += 1
            at_risk = first = True
        else:
            key = (*user, kind)
            before = self.users.earlier(key)
            sums.units += not before
            sums.spread += variance * (2 * before + 1)
            at_risk = self.echoes.are_over(key, asked.at)
            first = (
                at_risk and bad and self.echoes.follow(key, asked.at, known=usual.knows(user[2]))
            )
        if at_risk:
            sums.at_risk += 1
            sums.exposure += expected
            sums.hits += bad
            sums.people += bad and first

    def tally(self, *, named: bool, by_user: bool) -> Tally:
        """Return the counts; kinds that were never told have a total of zero."""
        told = dict.fromkeys(("format", "truncated"), 0) | dict(self.of)
        told.pop(ERRORS, None)
        bad = {kind: count for kind, count in self.bad.items() if count}
        unnamed = self.unnamed if by_user or named else 0
        users = self.by_user if named else None
        return Tally(self.requests, bad, told, users, self.arrived, unnamed)
