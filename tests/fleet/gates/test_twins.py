"""What the simulations compute for many stages at once is what the gates' own rules say of each."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fleet.gates.decide import Finding, Verdict
from fleet.gates.intervals import Z, newcombe, wilson
from fleet.gates.live import judge_rise
from fleet.gates.sequential import share_test
from fleet.rollouts.stage_traffic import newcombe_uppers, wilson_bounds
from tests.fleet.gates.simulation import (
    Paths,
    e_values,
    failed,
    paths,
    rise_values,
)

CLOSE, USUAL = 1e-9, 0.03
LIMITS = {
    "margin": 0.02, "tolerate": 1.25, "alpha": 0.01, "least_requests": 50.0, "alarm": 0.0075,
    "z": 1.645,
}  # fmt: skip
SEEDS = range(6)


def series(drawn: Paths, row: int, until: int) -> dict[str, Any]:
    """Return the counts of one replication's first windows as a finding has them."""
    made: dict[str, Any] = {
        name: tuple(getattr(drawn, name)[row, :until].tolist()) for name in Paths.__annotations__
    }
    for side in ("", "_stable"):
        made[f"hits{side}"] = made[f"people{side}"] = made[f"bad{side}"]
        made[f"at_risk{side}"] = made[f"requests{side}"]
        for name in ("exposure", "expected"):
            made[f"{name}{side}"] = tuple(USUAL * asked for asked in made[f"requests{side}"])
        made |= {f"units{side}": math.fsum(made[f"requests{side}"]), f"spread{side}": 0.0}
    one = dict.fromkeys(("split", "split_stable"), (0.0,) * until)
    return made | one | {"percent": (-1.0,) * until, "usual": USUAL}


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
    rise = 1.25, LIMITS["alarm"]
    expected, when = rise_values(drawn, *rise), failed(drawn, *rise, LIMITS["alpha"])
    for row in range(6):
        each = (judge_rise("g", "error_rate_rise", series(drawn, row, n), LIMITS)
                for n in range(1, 13))  # fmt: skip
        values, window = until_failure(each)
        assert window == when[row]
        assert values == pytest.approx(expected[row, : len(values)], rel=CLOSE)


def test_the_bounds_of_rates_and_of_their_difference() -> None:
    rng = np.random.default_rng(3)
    total, other = (rng.integers(1, 500, 60).astype(float) for _ in "ab")
    bad, bad_other = (rng.binomial(each.astype(int), 0.2).astype(float) for each in (total, other))
    lower, upper = wilson_bounds(bad, total, Z)
    difference = newcombe_uppers(bad, total, bad_other, other, Z)
    for row in range(60):
        assert (lower[row], min(1, upper[row])) == pytest.approx(
            wilson(bad[row], total[row]), rel=CLOSE, abs=CLOSE
        )
        _, ours = newcombe(bad[row], total[row], bad_other[row], other[row])
        assert difference[row] == pytest.approx(ours, rel=CLOSE)
