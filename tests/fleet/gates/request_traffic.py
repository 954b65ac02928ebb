"""Draws the requests of a client, one by one: sessions, people who differ, office days, seasons.

A request has a user, a session, a time and what goes wrong with it under either version, so that
the same client can be played with a healthy and with a harmful version. Counts drawn by the hour
(`simulation`) know no people; a client of an agency is a few of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
OPENS, CLOSES, QUIET, SATURDAY = 9, 18, 0.05, 5
"""Office hours, and the part of the traffic outside them."""
FRESH = 0
"""Number of named users of a client without any: a session is of a new user."""


@dataclass(frozen=True)
class Client:
    """Who asks, how often, and how much people and hours differ."""

    rpm: float = 5.0
    """Requests a minute in an office hour."""
    users: int = FRESH
    """Number of users who come again and again; `FRESH`: a session is of a new user."""
    session: float = 4.0
    """Mean requests of a session."""
    by_session: bool = False
    """Whether the split keeps a session on one version, and not a user."""
    alike: float = 0.02
    """Correlation of the bad requests of a user, over all time."""
    alike_session: float = 0.05
    """Correlation of the bad requests of a session beside that."""
    bursts: float = 6.0
    """Shape of the gamma factor on each hour's traffic; less is more bursty."""
    begins: float = 9.0
    """Hours since Monday 00:00 at which the rollout begins."""
    errors: float = 0.01
    format: float = 0.03
    """Parts of the old version's requests that are bad."""
    season: float = 1.0
    """Factor on the bad requests of both versions since the rollout began."""
    drift: float = 1.0
    """Factor a day on the bad requests of both versions since the rollout began."""
    outage: tuple[float, float] = (0.0, 0.0)
    """Hours after the begin between which half of all requests fail, on both versions."""
    robot: float = 0.0
    """Part of the requests that one user sends, evenly, day and night."""
    load: float = 0.15
    """Of the logarithm of an hour's times: how much neighbours' load moves them, for both."""


@dataclass(frozen=True)
class Harm:
    """What is true of the new version alone; the default is a healthy one."""

    errors: float | None = None
    format: float | None = None
    """Parts of its requests that are bad, among those that are harmed; None: as the old one's."""
    slower: float = 1.0
    longer: float = 1.0
    """Factor on the number of tokens of an answer."""
    who: float = 1.0
    """Part of the users, or of the long inputs, that are harmed."""
    long_inputs: bool = False
    """Whether only requests with long inputs are harmed, one in ten."""


@dataclass(frozen=True)
class Requests:
    """The requests of a client, in order of time; a row a request."""

    hour: Array
    """Since the rollout began; negative before."""
    user: Numbers
    unit: Numbers
    """Who or what stays on one version: a user, or a session."""
    bucket: Array
    """0 to 1, of the unit: the new version has those below its share."""
    bad: dict[str, tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]
    """By kind, under the old and under the new version."""
    first: Array
    """Seconds to the first token."""
    token: Array
    """Seconds of a token."""
    tokens: Numbers
    harm: Harm

    def between(self, start: float, end: float) -> slice:
        """Return the requests of `[start, end)` hours."""
        return slice(*np.searchsorted(self.hour, [start, end]))

    def rows(
        self, start: float, end: float, share: float, begin: datetime = MONDAY
    ) -> Iterator[dict[str, Any]]:
        """Yield usage rows of `[start, end)`, with the new version's `share` of the users."""
        part = self.between(start, end)
        mine = self.bucket[part] < share
        errors, formats = (
            np.where(mine, self.bad[kind][1][part], self.bad[kind][0][part])
            for kind in ("errors", "format")
        )
        first = self.first[part] * np.where(mine, self.harm.slower, 1.0)
        token = self.token[part] * np.where(mine, self.harm.slower, 1.0)
        tokens = (self.tokens[part] * np.where(mine, self.harm.longer, 1.0)).astype(int)
        for hour, unit, new, failed, malformed, one, each, count in zip(
            self.hour[part], self.unit[part], mine, errors, formats, first, token, tokens,
            strict=True,
        ):  # fmt: skip
            yield {
                "time": (begin + timedelta(hours=float(hour))).isoformat(),
                "alias": "a", "version": "new" if new else "old", "server": "s",
                "status": 500 if failed else 200, "unit": f"u{unit}",
                "format_ok": not malformed, "finish": "stop",
                "first_token_s": float(one), "latency_s": float(one + each * count),
                "output_tokens": int(count), "stream": True,
            }  # fmt: skip


def draw(
    rng: np.random.Generator, client: Client, harm: Harm, *, before: float, after: float
) -> Requests:
    """Draw a client's requests from `before` hours before the rollout to `after` hours after."""
    hour, user, session = _arrivals(rng, client, before, after)
    people, sessions = int(user.max(initial=0)) + 1, int(session.max(initial=0)) + 1
    long_input = rng.random(len(hour)) < 0.1
    harmed = (rng.random(people) < harm.who)[user]
    if harm.long_inputs:
        harmed = harmed & long_input
    season = np.where(hour >= 0, client.season * client.drift ** (hour / 24), 1.0)
    out = (hour >= client.outage[0]) & (hour < client.outage[1])
    bad = {}
    for kind, usual, worse in (
        ("errors", client.errors, harm.errors),
        ("format", client.format, harm.format),
    ):
        own = _alike(rng, np.full(people, usual), client.alike)[user]
        by_session = _alike(rng, _means(own, session, sessions), client.alike_session)[session]
        rate = np.minimum(0.95, by_session * season)
        if kind == "errors":
            rate = np.where(out, 0.5, rate)
        die = rng.random(len(hour))
        new = rate if worse is None else np.where(harmed, np.maximum(rate, worse), rate)
        bad[kind] = (die < rate, die < new)
    shared = _load(rng, client, before, after)
    near = shared[np.floor(hour + before).astype(int)]
    unit = session if client.by_session else user
    quickness = rng.normal(0, 0.2, people)[user]
    return Requests(
        hour, user, unit, rng.random(int(unit.max(initial=0)) + 1)[unit], bad,
        0.2 * np.exp(near + rng.normal(0, 0.5, len(hour))),
        0.02 * np.exp(near + rng.normal(0, 0.15, len(hour))),
        np.maximum(2, (120 * np.exp(quickness + rng.normal(0, 0.5, len(hour)))).astype(int)),
        harm,
    )  # fmt: skip


def _arrivals(
    rng: np.random.Generator, client: Client, before: float, after: float
) -> tuple[Array, Numbers, Numbers]:
    """Draw times, users and sessions of all requests, in order of time."""
    hours = np.arange(int(before + after))
    week = np.floor(hours - before + client.begins) % 168
    office = (week % 24 >= OPENS) & (week % 24 < CLOSES) & (week // 24 < SATURDAY)
    traffic = 60 * client.rpm * np.where(office, 1.0, QUIET) * (1 - client.robot)
    traffic = traffic * rng.gamma(client.bursts, 1 / client.bursts, len(hours))
    begun = rng.poisson(traffic / client.session)
    starts = np.repeat(hours, begun) + rng.random(begun.sum()) - before
    who = (
        rng.choice(client.users, len(starts), p=_weights(rng, client.users))
        if client.users
        else np.arange(len(starts))
    )
    asked = rng.geometric(1 / client.session, len(starts))
    session = np.repeat(np.arange(len(starts)), asked)
    gaps = rng.exponential(1 / 60, len(session))
    since = np.cumsum(gaps) - np.repeat(np.cumsum(gaps)[np.cumsum(asked) - asked], asked)
    time, user = starts[session] + since, who[session]
    if client.robot:
        of_robot = round(60 * client.rpm * client.robot * len(hours))
        time = np.concatenate([time, np.linspace(-before, after, of_robot, endpoint=False)])
        user = np.concatenate([user, np.full(of_robot, user.max(initial=0) + 1)])
        session = np.concatenate([session, np.arange(of_robot) // 60 + len(starts)])
    order = np.argsort(time, kind="stable")
    order = order[time[order] < after - 1e-6]
    return time[order], user[order], session[order]


def _weights(rng: np.random.Generator, users: int) -> Array:
    """Draw how active named users are: a few ask most."""
    active = rng.lognormal(0, 1, users)
    made: Array = active / active.sum()
    return made


def _alike(rng: np.random.Generator, means: Array, correlation: float) -> Array:
    """Draw rates around their means, beta-distributed with a correlation within each."""
    if not correlation:
        return means
    spread = (1 - correlation) / correlation
    safe = np.clip(means, 1e-6, 1 - 1e-6)
    made: Array = rng.beta(safe * spread, (1 - safe) * spread)
    return made


def _means(of_request: Array, session: Numbers, sessions: int) -> Array:
    found = np.full(sessions, 0.01)
    found[session] = of_request
    return found


def _load(rng: np.random.Generator, client: Client, before: float, after: float) -> Array:
    """Draw the neighbours' load of each hour, which both versions feel."""
    hours = int(before + after) + 1
    found = np.zeros(hours)
    for hour in range(1, hours):
        found[hour] = 0.7 * found[hour - 1] + rng.normal(0, client.load)
    return found
