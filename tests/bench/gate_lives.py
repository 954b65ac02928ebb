"""Prints how rollouts end whose requests are drawn one by one, of people who come again and again.

A part of `make bench-gates`: the judges that are used, and beside them two rules of thumb.
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from tests.fleet.gates.request_traffic import Client, Harm
from tests.fleet.gates.whole_rollouts import MAX_BAKE, SHARES, End, play, play_naive

HEALTHY = Harm()
ALL, FRIDAY = 0.8, 4 * 24 + 9.0
"""Part of the requests that a broken version fails, and the hour of the week of a late begin."""


@dataclass(frozen=True)
class Setting:
    """A client, what is true of the new version, and the words for both."""

    name: str
    client: Client
    harm: Harm = HEALTHY
    shares: tuple[float, ...] = SHARES
    max_bake: int = MAX_BAKE
    """Unit: hours."""


def named(users: int) -> Client:
    """Return a client of a few people who come again and again."""
    return Client(users=users)


SETTINGS = (
    Setting("healthy", Client()),
    Setting("healthy, 1 request/min", Client(rpm=1)),
    Setting("healthy, 1 request/min, as scaffolded", Client(rpm=1), HEALTHY, (0.25, 0.5), 96),
    Setting("healthy, 30 requests/min", Client(rpm=30)),
    *(Setting(f"healthy, {users} named users", named(users)) for users in (10, 25, 60, 400)),
    Setting("healthy, begins on Friday", Client(begins=FRIDAY)),
    Setting("healthy, season x 1.4", Client(season=1.4)),
    Setting("healthy, a tenth more errors a day", Client(drift=1.1)),
    Setting("healthy, neighbours' load x 3", Client(load=0.45)),
    Setting("healthy, outage of both versions", Client(outage=(2.0, 2.5))),
    Setting("healthy, a robot sends a fifth", Client(robot=0.2)),
    Setting("healthy, answers x 1.5 as long", Client(), Harm(longer=1.5)),
    Setting("errors 1 -> 3 %, the limit", Client(), Harm(errors=0.03)),
    Setting("errors 1 -> 5 %", Client(), Harm(errors=0.05)),
    Setting("errors 1 -> 5 %, 1/min, as scaffolded", Client(rpm=1), Harm(0.05), (0.25, 0.5), 96),
    Setting("errors 1 -> 5 %, 30 requests/min", Client(rpm=30), Harm(errors=0.05)),
    Setting("format 3 -> 6 %, the limit", Client(), Harm(format=0.06)),
    Setting("format 1 -> 4 %", Client(format=0.01), Harm(format=0.04)),
    Setting("format 3 -> 12 %", Client(), Harm(format=0.12)),
    *(
        Setting(f"fails 80 %, {users} named users", named(users), Harm(errors=ALL))
        for users in (10, 25, 60)
    ),
    Setting("healthy, 10 users, split by session", Client(users=10, by_session=True)),
    Setting("fails 80 %, 10, split by session", Client(users=10, by_session=True), Harm(ALL)),
    Setting("fails 30 % for a tenth of users", Client(), Harm(errors=0.3, who=0.1)),
    Setting("fails 30 % of long inputs", Client(), Harm(errors=0.3, long_inputs=True)),
    Setting("times x 1.5", Client(), Harm(slower=1.5)),
)


def lives(seed: int, replications: int) -> None:
    """Print a row a setting: ours, and the two rules of thumb."""
    print(
        "\nRollouts of 10 % and 50 %, 24 to 48 h of traffic each, 5 requests/min in office hours,"
        "\nsessions of 4, drawn request by request: promoted/rolled back/held in %, median hour of"
        "\nrollbacks, minutes from the new version's tenth answer to the rollback (median, 95 %)"
    )
    print(f"{'':<40}{'gates':<22}{'minutes':<14}{'z test, hourly':<18}{'an hour > 5 %':<16}")
    for setting in SETTINGS:
        with ProcessPoolExecutor() as workers:
            ends = list(workers.map(partial(_end, setting, seed), range(replications)))
            naive = list(workers.map(partial(_naive, setting, seed), range(replications)))
        cells = [_ends(ends), _minutes(ends), *(_ends([pair[n] for pair in naive]) for n in (0, 1))]
        widths = (22, 14, 18, 16)
        row = "".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
        print(f"{setting.name:<40}{row}", flush=True)


def _end(setting: Setting, seed: int, replication: int) -> End:
    about = setting.client, setting.harm, setting.shares
    return play(_rng(seed, replication), *about, max_bake=setting.max_bake)


def _naive(setting: Setting, seed: int, replication: int) -> tuple[End, End]:
    return play_naive(_rng(seed, replication), setting.client, setting.harm)


def _rng(seed: int, replication: int) -> np.random.Generator:
    """Return the chance of a replication: the same requests for every rule."""
    return np.random.default_rng((seed, replication))


def _ends(ends: Sequence[End]) -> str:
    found = Counter(end.how for end in ends)
    shares = "/".join(
        f"{100 * found[how] / len(ends):.0f}" for how in ("promoted", "rolled_back", "held")
    )
    hours = [end.hours for end in ends if end.how == "rolled_back"]
    return f"{shares} @{np.median(hours):.0f}h" if len(hours) > len(ends) / 10 else shares


def _minutes(ends: Sequence[End]) -> str:
    late = [
        60 * end.after_tenth
        for end in ends
        if end.how == "rolled_back" and end.after_tenth is not None
    ]
    if len(late) <= len(ends) / 10:
        return ""
    return "{:.0f}, {:.0f}".format(*np.percentile(late, (50, 95)))
