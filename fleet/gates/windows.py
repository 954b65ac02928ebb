"""Counts usage rows by side, window and kind."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Literal

from fleet.gates.counts import ERRORS, Tally, Window
from fleet.gates.own_control import ByUser, Echoes, Usual
from fleet.gates.past import HOUR, UNKNOWN, Baseline
from fleet.gates.rows import UsageRow, is_counted, kinds
from fleet.policies import GateSpec
from fleet.traffic import Sticky

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
