"""The operating tables, checked again by simulation: what a gate promises, it keeps.

`make bench-gates` prints them whole, with more replications.
"""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from fleet.gates.decide import Verdict
from fleet.gates.offline import judge_binary, judge_paired
from fleet.gates.sequential import share_test
from fleet.policies import GateSpec
from tests.drawn import long
from tests.fleet.gates.simulation import (
    Paths,
    flagged,
    golden_runs,
    graded_runs,
    latencies,
    naive_test,
    naive_window,
    paths,
    point_rule,
    shares_of,
)

POINTS = 3.0
"""How far a share may be from the published one, in percentage points."""


def caught(first: np.ndarray) -> float:
    return float(100 * np.isfinite(first).mean())


def verdict(items: int, worse: int, better: int) -> str:
    counts = {"items": items, "worse": worse, "better": better, "good": items,
              "must_pass_failed": 0}  # fmt: skip
    return judge_binary("g", "accuracy_drop", counts, {"margin": 0.03, "floor": 0}).verdict.value


@pytest.mark.parametrize(
    ("items", "discordance", "drop", "shares"),
    [
        (100, 0.10, 0.00, (21, 2, 76)),
        (300, 0.10, 0.03, (5, 44, 51)),
        (1000, 0.10, 0.00, (91, 4, 5)),
        *long(
            (100, 0.10, 0.05, (1, 35, 64)),
            (300, 0.05, 0.00, (73, 3, 24)),
            (300, 0.20, 0.05, (1, 57, 43)),
            (1000, 0.10, 0.03, (5, 90, 5)),
        ),
    ],
)
def test_the_golden_gate_has_its_published_power(
    items: int, discordance: float, drop: float, shares: tuple[float, float, float]
) -> None:
    rng = np.random.default_rng(11)
    found = shares_of(partial(verdict, items), *golden_runs(rng, 4000, items, discordance, drop))
    assert list(found.values()) == pytest.approx(shares, abs=POINTS)


@pytest.mark.parametrize(("items", "discordance"), [(100, 0.1), (300, 0.2), (1000, 0.05)])
def test_a_version_at_the_margin_seldom_passes_and_a_point_estimate_often_lies(
    items: int, discordance: float
) -> None:
    rng = np.random.default_rng(12)
    at_margin = golden_runs(rng, 4000, items, discordance, 0.03)
    assert shares_of(partial(verdict, items), *at_margin)["PASS"] < 7
    unchanged = golden_runs(rng, 4000, items, discordance, 0.0)
    assert shares_of(partial(verdict, items), *unchanged)["FAIL"] < 5
    naive = 100 * np.mean((at_margin[0] - at_margin[1]) / items > 0.03)
    assert 38 < naive < 53  # a coin, whatever the number of items


@pytest.mark.parametrize("drop", [0.0, 0.03])
def test_looks_before_the_last_item_add_few_wrong_verdicts(drop: float) -> None:
    gate = GateSpec("g", "accuracy_drop", 3, "pp")
    rng, wrong = np.random.default_rng(14), {True: 0, False: 0}
    for _ in range(600):
        kind = rng.choice(3, 300, p=[(0.1 + drop) / 2, (0.1 - drop) / 2, 0.9])
        stable, canary = (kind != 1).astype(float), (kind != 0).astype(float)
        for looks in (False, True):
            ends = (60, 120, 180, 240, 300) if looks else (300,)
            found = (
                judge_paired(gate, stable[:end], canary[:end], early=end < 300).verdict
                for end in ends
            )
            verdict = next((each for each in found if each is not Verdict.INCONCLUSIVE), None)
            wrong[looks] += verdict is (Verdict.PASS if drop else Verdict.FAIL)
    assert wrong[False] <= wrong[True] <= wrong[False] + 6
    assert wrong[True] < 42


@pytest.mark.parametrize(
    ("items", "samples", "size"), [(20, 5, 1), *long((100, 3, 1)), (300, 5, 3)]
)
def test_several_answers_an_item_pass_no_more_versions_at_the_margin(
    items: int, samples: int, size: int
) -> None:
    rng = np.random.default_rng(13)
    found = [each.verdict for each in graded_runs(rng, 1000, items, samples, 0.03, size=size)]
    assert found.count(Verdict.PASS) < 65
    if items == 300:
        alike = [each.verdict for each in graded_runs(rng, 200, items, samples, 0.0, size=1)]
        assert alike.count(Verdict.PASS) > 190


@pytest.mark.parametrize("per_hour", [30, *long(3, 300)])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_48_looks_raise_no_more_false_alarms_than_promised(per_hour: int, alpha: float) -> None:
    rng = np.random.default_rng(per_hour)
    healthy = paths(rng, 4000, per_hour, (0.01, 0.01))
    assert caught(flagged(healthy, 1.0, alpha)) <= 120 * alpha
    assert caught(flagged(healthy, 1.0, alpha, guarded=False)) <= 120 * alpha
    assert caught(naive_test(healthy)) > 15  # the same looks with a usual z test


def test_a_fixed_limit_on_single_hours_fails_most_healthy_versions() -> None:
    rng = np.random.default_rng(5)
    assert caught(naive_window(paths(rng, 2000, 3, (0.01, 0.01)))) > 70
    assert caught(naive_window(paths(rng, 2000, 30, (0.01, 0.01)))) > 75
    assert caught(naive_window(paths(rng, 2000, 300, (0.02, 0.01)))) < 10  # and misses a real rise


@pytest.mark.parametrize(
    ("per_hour", "rate", "alpha", "detected", "hour"),
    [
        (3, 0.05, 0.05, 65, 22),
        (30, 0.02, 0.01, 39, 28),
        (300, 0.02, 0.01, 100, 7),
        *long(
            (3, 0.05, 0.01, 45, 28),
            (3, 0.10, 0.01, 97, 17),
            (30, 0.02, 0.05, 58, 24),
            (30, 0.03, 0.01, 97, 17),
            (3, 0.10, 0.05, 99, 11),
            (30, 0.03, 0.05, 99, 12),
            (300, 0.02, 0.05, 100, 5),
        ),
    ],
)
def test_the_share_test_has_its_published_power(
    per_hour: int, rate: float, alpha: float, detected: float, hour: float
) -> None:
    rng = np.random.default_rng(21)
    found = flagged(paths(rng, 4000, per_hour, (rate, 0.01)), 1.0, alpha, guarded=False)
    assert caught(found) == pytest.approx(detected, abs=POINTS)
    assert np.median(found[np.isfinite(found)]) == pytest.approx(hour, abs=2.5)


def test_a_ramp_into_a_busy_hour_is_no_finding() -> None:
    rng = np.random.default_rng(8)
    halves = [
        paths(rng, 1500, 20, (0.01, 0.01), share=0.1, windows=24),
        paths(rng, 1500, 400, (0.03, 0.03), share=0.5, windows=24),
    ]
    both = Paths(*(np.hstack([getattr(each, name) for each in halves])
                   for name in Paths.__annotations__))  # fmt: skip
    assert caught(flagged(both, 1.0, 0.01)) <= 1.2
    assert caught(naive_test(both)) > 50  # pooled counts see a difference that is not there


def test_shocks_of_one_side_need_the_tolerance() -> None:
    rng = np.random.default_rng(9)
    shocked = 0.05 * np.exp(rng.normal(0, 0.15, (1000, 48)))
    requests = rng.poisson(300, (1000, 48))
    stable = rng.poisson(2700, (1000, 48))
    counts = Paths(
        rng.binomial(requests, shocked).astype(float), requests.astype(float),
        rng.binomial(stable, 0.05).astype(float), stable.astype(float),
    )  # fmt: skip
    assert caught(flagged(counts, 1.25, 0.01)) < 3
    assert caught(flagged(counts, 1.0, 0.01)) > caught(flagged(counts, 1.25, 0.01))


@pytest.mark.parametrize(
    ("per_hour", "slower", "detected"),
    [
        (3, 1.2, 6),
        (30, 1.0, 0),
        (30, 1.2, 94),
        *long((3, 1.0, 0.2), (3, 2.0, 100), (30, 2.0, 100), (100, 1.0, 0), (300, 1.2, 100)),
    ],
)
def test_slowness_is_found_as_published_under_a_load_that_swings(
    per_hour: int, slower: float, detected: float
) -> None:
    rng = np.random.default_rng(60 + per_hour)
    drawn = latencies(rng, 1000, per_hour, slower)
    found = caught(flagged(drawn.slow, 1.0, 0.01, guarded=False))
    assert found == pytest.approx(detected, abs=POINTS)


def test_more_bad_events_are_more_evidence() -> None:
    values = [next(share_test([(bad, 100.0, 5.0, 900.0)], 1.25)) for bad in range(1, 30)]
    assert all(more > less for less, more in pairwise(values))


@pytest.mark.parametrize("per_hour", [3, 30])
def test_a_load_that_swings_fails_no_healthy_version_and_most_by_point_rules(
    per_hour: int,
) -> None:
    rng = np.random.default_rng(40 + per_hour)
    healthy = latencies(rng, 1500, per_hour, 1.0)
    assert caught(flagged(healthy.slow, 1.25, 0.01)) <= 1.2
    assert caught(point_rule(healthy.p95, 1.2)) > 85
    assert caught(point_rule(healthy.p95, 2.0)) > 10
    slower = latencies(rng, 500, per_hour, 2.0)
    found = flagged(slower.slow, 1.25, 0.01)
    assert caught(found) > 99
    assert np.median(found) <= 10
    assert caught(point_rule(slower.p95, 2.0, 3)) < 97
