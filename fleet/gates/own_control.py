"""Takes users as their own control: how many bad requests a user usually has, from weeks before.

A client is a few people who differ, in sessions and bursts. Two facts of the weeks before a
rollout make their requests comparable: the usual part of bad requests of each user (`Usual.rate`),
so that a version that happens to have the unlucky users does not look worse; and how much days of a
user vary beyond chance (`Usual.dispersion`), by which bad requests count as fewer independent ones.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, NamedTuple, Self

BELIEF = 20.0
"""Weight of the beliefs about users and days, in bad requests."""
ALIKE, DISPERSION = 0.02, 1.3
"""Beliefs: the correlation of a user's bad requests, and the inflation of the variance by days."""
LEAST_KNOWN = 30
"""Requests before a rollout from which on a user is their own control.

Of the others, requests count up to the first bad one: no person nobody knows fails a version alone.
"""
DEAD_TIME = timedelta(minutes=5)
"""Time after a user's bad request in which their further requests do not count for FAIL.

A person who meets an error tries again at once: that is one event.
"""


class Beliefs(NamedTuple):
    """The figures that are believed of an alias of which little was seen."""

    alike: float = ALIKE
    dispersion: float = DISPERSION


CONSTANTS = Beliefs()
"""Beliefs where no other alias was seen either."""


class Seen(NamedTuple):
    """The requests of a user before a rollout, of which a kind could be told."""

    bad: int = 0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class Usual:
    """The usual part of bad requests of an alias, by user, for a kind of bad requests."""

    mean: float
    """Of all requests, 0 to 1; above 0."""
    alike: float = ALIKE
    """Correlation of the bad requests of a user, 0 to 1."""
    dispersion: float = DISPERSION
    """Factor on the variance of a user's bad requests in a day; 1: as by chance."""
    requests: int = 0
    """Behind the mean; 0: it is assumed."""
    users: Mapping[str, Seen] = field(default_factory=dict)
    believed: Beliefs = CONSTANTS

    @classmethod
    def assumed(cls, believed: Beliefs = CONSTANTS) -> Self:
        """Return the usual part of a kind that was never told."""
        return cls(0.01, *believed, believed=believed)

    def rate(self, user: str) -> tuple[float, float]:
        """Return a user's expected part of bad requests, and the variance of that expectation.

        Source:
            The mean and variance of a beta distribution with a binomial likelihood; Gelman and
            others 2013, Bayesian Data Analysis, section 2.4.
        """
        known = self.users.get(user, Seen())
        expected = self.expected(known)
        return expected, expected * (1 - expected) / (self._weight + known.requests + 1)

    def expected(self, known: Seen) -> float:
        """Return the expected part of bad requests of a user, by earlier requests."""
        return (known.bad + self._weight * self.mean) / (self._weight + known.requests)

    @property
    def _weight(self) -> float:
        """Weight of the usual part beside a user's own. Unit: requests."""
        return (1 - self.alike) / self.alike

    def knows(self, user: str) -> bool:
        """Say whether a user is their own control."""
        return self.users.get(user, Seen()).requests >= LEAST_KNOWN


def believed_of(others: Iterable[Mapping[str, Any]]) -> Beliefs:
    """Return the beliefs by the counts of findings about other aliases.

    An alias counts by how far its figures are its own, and not beliefs in turn.
    """
    weighed: list[tuple[float, float, float]] = []
    for counts in others:
        bad = counts.get("usual", 0.0) * counts.get("usual_requests", 0.0)
        alike, dispersion = counts.get("alike", ALIKE), counts.get("dispersion", DISPERSION)
        weighed.append((bad / (bad + BELIEF), alike, dispersion))
    total = math.fsum(weight for weight, _, _ in weighed)
    if not total:
        return CONSTANTS
    alike, dispersion = (
        math.fsum(one[0] * one[place] for one in weighed) / total for place in (1, 2)
    )
    return Beliefs(round(min(0.5, max(1e-3, alike)), 6), round(max(1.0, dispersion), 3))


def usual_of(requests: Iterable[tuple[str, int, bool]], believed: Beliefs = CONSTANTS) -> Usual:
    """Return the usual bad requests of users, from requests of the weeks before a rollout.

    `requests`: user (empty: it names none), day, and whether the request was bad.
    """
    found: defaultdict[tuple[str, int], int] = defaultdict(int)
    asked: defaultdict[tuple[str, int], int] = defaultdict(int)
    for user, day, is_bad in requests:
        asked[user, day] += 1
        if is_bad:
            found[user, day] += 1
    whole: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for (user, day), of in asked.items():
        seen = whole[user]
        seen[0] += found.get((user, day), 0)
        seen[1] += of
    bad, total = (sum(seen[place] for seen in whole.values()) for place in (0, 1))
    mean = (bad + 0.5) / (total + 1) if total else 0.01
    bad -= whole.pop("", [0])[0]
    users = {user: Seen(*seen) for user, seen in whole.items()}
    alike = Counter(users.values())
    found_alike = _alike(alike, mean, bad, believed.alike)
    bare = Usual(mean, found_alike, believed.dispersion, total, users, believed)
    # Most users are seen as often as others, and have the same rate.
    rates = {seen: bare.expected(seen) for seen in alike}
    plain = math.fsum(
        number * rates[seen] * (1 - rates[seen]) * seen.requests for seen, number in alike.items()
    )
    days = Counter(
        (found.get((user, day), 0), of, users[user]) for (user, day), of in asked.items() if user
    )
    squares = math.fsum(
        number * (hits - rates[seen] * of) ** 2 for (hits, of, seen), number in days.items()
    )
    beyond = squares / plain * bad if plain else 0.0
    dispersion = max(1.0, (beyond + believed.dispersion * BELIEF) / (bad + BELIEF))
    return replace(bare, dispersion=dispersion) if users else bare


def _alike(users: Mapping[Seen, int], mean: float, bad: float, believed: float) -> float:
    """Return the correlation of a user's bad requests, by moments, drawn towards a belief.

    `users`: how many were seen so.
    """
    variance = mean * (1 - mean)
    several = [(seen, number) for seen, number in users.items() if seen.requests > 1]
    spread = math.fsum(
        number * ((seen.bad - mean * seen.requests) ** 2 - variance * seen.requests)
        for seen, number in several
    )
    pairs = sum(number * seen.requests * (seen.requests - 1) for seen, number in several)
    found = max(0.0, spread / (variance * pairs)) if pairs and variance else believed
    return min(0.5, max(1e-3, (found * bad + believed * BELIEF) / (bad + BELIEF)))


class Echoes:
    """Which requests of a stage count for FAIL; told user after user, kind after kind, in order."""

    def __init__(self) -> None:
        """Begin without users."""
        self._until: dict[tuple[str, ...], float] = {}

    def are_over(self, user: tuple[str, ...], at: float) -> bool:
        """Say whether a request at `at` seconds is no echo of the user's last bad request."""
        return at >= self._until.get(user, -math.inf)

    def follow(self, user: tuple[str, ...], at: float, *, known: bool) -> bool:
        """Note a bad request that counts; return whether it is the user's first."""
        first = user not in self._until
        self._until[user] = at + DEAD_TIME.total_seconds() if known else math.inf
        return first


@dataclass(slots=True)
class ByUser:
    """The requests of a side, of a kind, in a window, by user; sums over windows add up."""

    hits: float = 0
    """Bad requests that count for FAIL."""
    at_risk: float = 0
    """Requests that could have been such."""
    exposure: float = 0
    """Expected bad requests among the requests at risk."""
    expected: float = 0
    """Bad requests that were to be expected among all."""
    people: float = 0
    """Users with a first hit here."""
    units: float = 0
    """Users seen for the first time; a request without a user is a unit."""
    spread: float = 0
    """Variance of the expected bad requests, by users whose usual part is hardly known: the sum of
    the squares of their requests, less those of before the window, times their variance.
    """


BY_WINDOW = ("hits", "at_risk", "exposure", "expected", "people")
SUMS = ("units", "spread")
"""Counts that a verdict keeps of a whole stage; the others are kept by window."""


@dataclass(frozen=True, slots=True)
class SideCounts:
    """The counts of a side of a stage, of some windows together."""

    bad: float
    requests: float
    expected: float
    people: float
    units: float
    spread: float

    @classmethod
    def of(cls, counts: Mapping[str, Any], suffix: str = "", without: Collection[int] = ()) -> Self:
        """Read a side from a finding's counts, but for some windows."""
        found = {
            name: math.fsum(
                number
                for place, number in enumerate(counts[f"{name}{suffix}"])
                if place not in without
            )
            for name in ("bad", "requests", "expected", "people")
        }
        return cls(**found, **{name: float(counts[f"{name}{suffix}"]) for name in SUMS})

    @property
    def rate(self) -> float:
        """The part of the requests that was bad."""
        return self.bad / self.requests if self.requests else 0.0

    def above(self, mean: float) -> float:
        """Return by how much the users of this side are usually worse than `mean`."""
        return self.expected / self.requests - mean if self.requests else 0.0

    def effect(self, counts: Mapping[str, Any]) -> float:
        """Return the divisor by which requests count as independent; 1 or more.

        The larger of two: of the variance of days beyond chance, and of the uncertainty about users
        who were hardly seen before.

        Source:
            Rao and Scott 1992, Biometrics 48:577-585, for dividing counts by an inflation of their
            variance.
        """
        plain = self.expected * (1 - self.expected / self.requests) if self.requests else 0.0
        unsure = 1 + self.spread / plain if plain > 0 else 1.0
        return max(unsure, float(counts.get("dispersion", 1.0)))


def names_users(counts: Mapping[str, Any]) -> bool:
    """Say whether requests name users; without users there is nothing to count by."""
    if "unnamed" not in counts:
        return False
    asked = math.fsum((*counts["requests"], *counts.get("requests_stable", ())))
    return bool(counts["unnamed"] < asked)
