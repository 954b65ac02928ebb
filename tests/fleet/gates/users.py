"""Stages in simulation whose users ask again and again, judged by the rules that are used.

A user has a bad rate of their own (beta-distributed), so that their requests are alike: `alike` 0
is independent requests, 1 is users for whom either everything is bad or nothing.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fleet.gates.design_effect import BY_WINDOW, SUMS
from fleet.gates.live import judge_rise
from fleet.gates.verdict import Verdict
from fleet.rollout_policy import GateSpec

ERRORS = GateSpec("errors", "error_rate_rise", 2, "pp")
LIMITS = {"margin": 0.02, "tolerate": 1.25, "alpha": 0.01, "least_requests": 50.0}
WINDOWS = 12


@dataclass(frozen=True)
class Crowd:
    """The users of a stage, and what is true of both versions."""

    users: int
    """Of both versions."""
    requests: int
    """Of each user."""
    alike: float
    """Correlation of a user's requests."""
    share: float = 0.1
    """Of the users who are on the new version."""
    rates: tuple[float, float] = (0.01, 0.01)
    """Bad requests of the new version and of the old one."""


def stages(rng: np.random.Generator, crowd: Crowd, replications: int) -> Iterator[dict[str, Any]]:
    """Yield the counts of one stage after another, as a finding has them."""
    mine = round(crowd.users * crowd.share)
    for _ in range(replications):
        new = _side(_answers(rng, mine, crowd, crowd.rates[0]))
        old = _side(_answers(rng, crowd.users - mine, crowd, crowd.rates[1]))
        yield {
            **new,
            **{f"{name}_stable": each for name, each in old.items()},
            "percent": (-1.0,) * WINDOWS,
        }


def _answers(
    rng: np.random.Generator, users: int, crowd: Crowd, rate: float
) -> npt.NDArray[np.bool_]:
    """Draw whether each request of each user is bad, in the order of the requests."""
    if crowd.alike >= 1:
        own = (rng.random(users) < rate).astype(float)
    else:
        spread = (1 - crowd.alike) / max(crowd.alike, 1e-6)
        own = rng.beta(rate * spread, (1 - rate) * spread, users)
    return rng.random((users, crowd.requests)) < own[:, None]


def _side(bad: npt.NDArray[np.bool_]) -> dict[str, Any]:
    users, requests = bad.shape
    window = np.arange(requests) * WINDOWS // requests
    clean: npt.NDArray[np.bool_] = np.cumsum(bad, axis=1) - bad == 0
    worse = bad.sum(axis=1).astype(float)

    def by_window(each: npt.NDArray[np.bool_]) -> tuple[float, ...]:
        return tuple(map(float, np.bincount(window, each.sum(axis=0), WINDOWS)))

    everything = np.ones_like(bad)
    found = {
        "bad": by_window(bad),
        "requests": by_window(everything),
        "split": by_window(everything),
        "first": by_window(bad & clean),
        "at_risk": by_window(clean),
        "units": float(users),
        "squares": float(users * requests**2),
        "bad_squares": float((worse**2).sum()),
        "products": float((worse * requests).sum()),
    }
    assert {*BY_WINDOW, *SUMS} <= {*found}
    return found


def by_request(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a count of requests alone would have."""
    names = {f"{each}{side}" for each in (*BY_WINDOW, *SUMS) for side in ("", "_stable")}
    return {name: each for name, each in counts.items() if name not in names}


def verdicts(
    rng: np.random.Generator, crowd: Crowd, replications: int
) -> tuple[dict[Verdict, float], dict[Verdict, float]]:
    """Return how often each verdict came out, in percent: by user, and by request."""
    ours: Counter[Verdict] = Counter()
    naive: Counter[Verdict] = Counter()
    for counts in stages(rng, crowd, replications):
        ours[judge_rise(ERRORS.name, ERRORS.metric, counts, LIMITS).verdict] += 1
        naive[judge_rise(ERRORS.name, ERRORS.metric, by_request(counts), LIMITS).verdict] += 1
    return (
        {each: 100 * ours[each] / replications for each in Verdict},
        {each: 100 * naive[each] / replications for each in Verdict},
    )
