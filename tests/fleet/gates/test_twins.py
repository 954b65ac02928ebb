"""What the simulations compute for many stages at once is what the gates' own rules say of each."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from fleet.gates.intervals import newcombe, wilson
from fleet.gates.live import judge_ratio, judge_rise
from fleet.gates.sequential import share_test
from fleet.gates.verdict import Finding, Verdict
from tests.fleet.gates.rollouts import LEAST, MARGIN, MIN_HOURS, RISE_MARGINS, World, ends, stage
from tests.fleet.gates.simulation import (
    Paths,
    e_values,
    flagged,
    newcombe_upper,
    paths,
    slow_or_late_fails,
    wilson_bounds,
)

CLOSE = 1e-9
LIMITS = {"margin": 0.02, "tolerate": 1.25, "alpha": 0.01, "least_requests": float(LEAST)}
SEEDS = range(6)


def series(drawn: Paths, row: int, until: int, late: Paths | None = None) -> dict[str, Any]:
    """Return the counts of one replication's first windows as a finding has them."""
    made: dict[str, Any] = {
        name: tuple(getattr(drawn, name)[row, :until].tolist()) for name in Paths.__annotations__
    }
    if late is not None:
        made["late"] = tuple(late.bad[row, :until].tolist())
        made["late_stable"] = tuple(late.bad_stable[row, :until].tolist())
    one = dict.fromkeys(("split", "split_stable"), (0.0,) * until)
    return made | one | {"percent": (-1.0,) * until}


def slow_and_late(rng: np.random.Generator, rows: int, windows: int) -> tuple[Paths, Paths]:
    """Draw windows in which either side may be empty, slow, or so slow as to be late."""
    drawn = paths(rng, rows, 20, (rng.uniform(0.02, 0.5), 0.1), windows=windows)
    drawn.requests_stable[:, 3] = drawn.bad_stable[:, 3] = 0
    drawn.requests[:, 5] = drawn.bad[:, 5] = 0
    share = rng.uniform(0.1, 1.0, 2)
    return drawn, Paths(
        rng.binomial(drawn.bad.astype(int), share[0]).astype(float), drawn.requests,
        rng.binomial(drawn.bad_stable.astype(int), share[1] / 4).astype(float),
        drawn.requests_stable,
    )  # fmt: skip


def until_failure(findings: Iterator[Finding]) -> tuple[list[float], float]:
    """Return the e-value after each window up to a failure, and the window of that."""
    values: list[float] = []
    for number, found in enumerate(findings, 1):
        values.append(found.value or 0.0)
        if found.verdict is Verdict.FAIL:
            return values, float(number)
    return values, float("inf")


@pytest.mark.parametrize("tolerated", [1.0, 1.25])
def test_the_share_test(tolerated: float) -> None:
    drawn = paths(np.random.default_rng(2), 8, 5, (0.2, 0.05), windows=10)
    drawn.requests_stable[:, 3] = drawn.bad_stable[:, 3] = 0  # a window without the other side
    expected = e_values(drawn, tolerated)
    for row in range(8):
        columns = (drawn.bad, drawn.requests, drawn.bad_stable, drawn.requests_stable)
        windows = zip(*(each[row].tolist() for each in columns), strict=True)
        assert list(share_test(windows, tolerated)) == pytest.approx(expected[row], rel=CLOSE)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_gate_of_a_rise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = paths(rng, 6, 20, (rng.uniform(0.02, 0.3), 0.03), windows=12)
    expected, when = e_values(drawn, 1.25), flagged(drawn, 1.25, 0.01)
    for row in range(6):
        each = (judge_rise("g", "error_rate_rise", series(drawn, row, n), LIMITS)
                for n in range(1, 13))  # fmt: skip
        values, failed = until_failure(each)
        assert failed == when[row]
        assert values == pytest.approx(expected[row, : len(values)], rel=CLOSE)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_gate_of_a_95th_percentile_slow_or_late(seed: int) -> None:
    slow, late = slow_and_late(np.random.default_rng(seed), 6, 12)
    expected, hit = slow_or_late_fails(slow, late, 0.01)
    for row in range(6):
        each = (judge_ratio("g", "p95_ratio", series(slow, row, n, late), LIMITS)
                for n in range(1, 13))  # fmt: skip
        values, failed = until_failure(each)
        assert failed == (hit[row].argmax() + 1 if hit[row].any() else np.inf)
        assert values == pytest.approx(expected[row, : len(values)], rel=CLOSE)


def test_the_random_windows_fail_and_pass_by_both_tests() -> None:
    seen: set[tuple[bool, bool]] = set()
    for seed in SEEDS:
        slow, late = slow_and_late(np.random.default_rng(seed), 6, 12)
        _, hit = slow_or_late_fails(slow, late, 0.01)
        excess = (e_values(late, 1.25) - e_values(slow, 1.25))[:, -1]
        seen |= {(bool(hit[row].any()), bool(excess[row] > 0)) for row in range(6)}
    assert {(True, True), (True, False), (False, False)} <= seen


def test_the_bounds_of_rates_and_of_their_difference() -> None:
    rng = np.random.default_rng(3)
    total, other = (rng.integers(1, 500, 60).astype(float) for _ in "ab")
    bad, bad_other = (rng.binomial(each.astype(int), 0.2).astype(float) for each in (total, other))
    lower, upper = wilson_bounds(bad, total)
    difference = newcombe_upper(bad, total, bad_other, other)
    for row in range(60):
        assert (lower[row], min(1, upper[row])) == pytest.approx(
            wilson(bad[row], total[row]), rel=CLOSE, abs=CLOSE
        )
        _, ours = newcombe(bad[row], total[row], bad_other[row], other[row])
        assert difference[row] == pytest.approx(ours, rel=CLOSE)


WORLDS = (World(), World(errors=0.05), World(format=0.1), World(slower=1.5))


def judged(drawn: Any, row: int, hour: int) -> Mapping[str, Verdict]:
    errors, form = (LIMITS | {"margin": each} for each in RISE_MARGINS)
    return {
        "errors": judge_rise("e", "m", series(drawn.errors, row, hour), errors).verdict,
        "format": judge_rise("f", "m", series(drawn.format, row, hour), form).verdict,
        "times": judge_ratio(
            "t", "p95_ratio", series(drawn.slow, row, hour, drawn.late), LIMITS | {"margin": MARGIN}
        ).verdict,
    }


@pytest.mark.parametrize("world", WORLDS)
def test_the_ends_of_a_stage(world: World) -> None:
    drawn = stage(np.random.default_rng(4), world, 5, 3, 0.1)
    fails, passes = ends(drawn, 0.01)
    for row in range(3):
        for hour in (*range(1, 6), *range(6, MIN_HOURS, 6), *range(MIN_HOURS, 49)):
            verdicts = judged(drawn, row, hour)
            assert (Verdict.FAIL in verdicts.values()) is bool(fails[row] <= hour)
            if hour >= MIN_HOURS and fails[row] > hour:
                done = {*verdicts.values()} == {Verdict.PASS}
                assert not done or passes[row] <= hour
                assert done or passes[row] != hour
