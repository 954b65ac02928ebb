"""Prints what a golden set of 60 items decides, alone and with replays of captured requests.

A part of `make bench-gates`. A version is worse by so many points of its requests. A part of the
wrong answers is seen without knowing the right answer: another form, a refusal, another length.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fleet.gates import USUAL_DISCORDANCE, Verdict, certifiable, judge_paired
from fleet.policies import NEWEST, GateSpec
from runtime.gates.offline import MOST_OF_USER, USERS_ALIKE

ITEMS, SAMPLES = 60, 5
BORDERLINE = 0.05
"""Part of the items whose answer is right by chance, with either version."""
FLAWED = 0.01
"""Part of the replayed requests of which a version's answer is flawed where the other's is not."""
USERS = 100
"""Users behind the replayed requests; some ask ten times as often as others."""


@dataclass(frozen=True)
class Version:
    """A new version: how much worse, and how much of that shows without the right answer."""

    drop: float
    seen: float = 1.0


def golden_scores(
    rng: np.random.Generator, version: Version, samples: int
) -> tuple[list[float], list[float]]:
    """Draw the scores of both versions on a golden set."""
    chance = np.where(rng.random(ITEMS) < BORDERLINE, rng.beta(0.5, 0.5, ITEMS), 1.0)
    broken = rng.random(ITEMS) < version.drop / (1 - BORDERLINE / 2)
    stable = rng.binomial(samples, chance) / samples
    canary = rng.binomial(samples, np.where(broken, 0.0, chance)) / samples
    return stable.tolist(), canary.tolist()


def replay_scores(
    rng: np.random.Generator, version: Version, requests: int
) -> tuple[list[float], list[float], list[str]]:
    """Draw which replayed answers are sound, and whose the requests are."""
    drawn = rng.choice(USERS, 4 * requests, p=rng.dirichlet(np.full(USERS, 0.5)))
    turn = np.array([np.count_nonzero(drawn[:at] == user) for at, user in enumerate(drawn)])
    user = drawn[turn < MOST_OF_USER][:requests]
    harm, rest = version.drop * version.seen, (1 - USERS_ALIKE) / USERS_ALIKE
    share = rng.beta(harm * rest, (1 - harm) * rest, USERS) if harm else np.zeros(USERS)
    broken = rng.random(len(user)) < share[user]
    stable = rng.random(len(user)) >= FLAWED
    canary = (rng.random(len(user)) >= FLAWED) & ~broken
    return stable.astype(float).tolist(), canary.astype(float).tolist(), user.astype(str).tolist()


def ends(
    rng: np.random.Generator, version: Version, replications: int, samples: int, requests: int
) -> Iterator[Verdict]:
    """Judge a version by its golden set and, of some requests, by replays."""
    limit = math.ceil(100 * certifiable(ITEMS, USUAL_DISCORDANCE, samples))
    answers = GateSpec("answers", "accuracy_drop", limit, "pp", samples=samples)
    replays = GateSpec("replays", "replay_drop", 3, "pp")
    for _ in range(replications):
        found = [judge_paired(answers, *golden_scores(rng, version, samples)).verdict]
        if requests:
            stable, canary, users = replay_scores(rng, version, requests)
            found.append(
                judge_paired(replays, stable, canary, clusters=users, alike=USERS_ALIKE).verdict
            )
        passed = all(verdict is Verdict.PASS for verdict in found)
        failed = Verdict.FAIL in found
        yield Verdict.FAIL if failed else Verdict.PASS if passed else Verdict.INCONCLUSIVE


def small_sets(rng: np.random.Generator, replications: int) -> None:
    """Print the shares of PASS, FAIL and INCONCLUSIVE of a golden set of 60 items."""
    print(
        f"\nGolden set of {ITEMS} items with `max: auto`, and replays of {USERS} users within 3 pp:"
    )
    print("PASS/FAIL/INCONCLUSIVE in %; seen: the wrong answers that show without the right ones")
    drops = (0.0, 0.03, 0.06)
    print(
        f"{'samples':>8} {'replays':>8} {'seen':>6}   {'no change':<16}{'-3 pp':<16}{'-6 pp':<16}"
    )
    for samples, requests, seen in (
        (1, 0, 0.0), (SAMPLES, 0, 0.0), (SAMPLES, NEWEST, 1.0), (SAMPLES, NEWEST, 0.75),
        (SAMPLES, NEWEST, 0.5), (SAMPLES, NEWEST, 0.0), (SAMPLES, 100, 1.0), (1, NEWEST, 1.0),
    ):  # fmt: skip
        cells = []
        for drop in drops:
            version = Version(drop, seen)
            found = Counter(ends(rng, version, replications, samples, requests))
            cells.append("/".join(f"{100 * found[each] / replications:.0f}" for each in Verdict))
        row = "".join(f"{cell:<16}" for cell in cells)
        print(f"{samples:>8} {requests:>8} {seen:>6.0%}   {row}")
