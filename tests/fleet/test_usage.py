"""Figures of requests: sketches within one percent, and sums that do not depend on the order."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.usage import ACCURACY, COUNTS, SKETCHES, Sketch, UsageFigures

seconds = st.floats(1e-6, 1e5)
DRAW = random.Random(3)  # noqa: S311
GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
SHARES = (0.0, 0.001, 0.01, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)


@given(values=st.lists(seconds, min_size=1, max_size=200), share=st.floats(0, 1))
def test_a_quantile_is_within_one_percent_of_the_value_of_that_rank(
    values: list[float], share: float
) -> None:
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    assert Sketch.of_values(values).quantile(share) == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize(
    "values",
    [
        [0.7],
        [2.0] * 1_000,
        [1e-6] * 949 + [1e6] * 51,  # two modes, p95 at the edge
        [DRAW.paretovariate(0.7) for _ in range(5_000)],
        [DRAW.lognormvariate(-0.5, 2) for _ in range(5_000)],
        [DRAW.expovariate(1e-3) for _ in range(5_000)],
        [GAMMA**power * step for power in range(-400, 400) for step in (1, 1 - 1e-12, 1 + 1e-12)],
        [10.0**power for power in range(-15, 16)],
        [0.0, -3.0, *(n / 1000 for n in range(1, 1_000))],  # a clock was put back
    ],
)
def test_quantiles_are_those_of_the_sorted_values(values: list[float]) -> None:
    whole, exact = Sketch.of_values(values), sorted(max(0.0, value) for value in values)
    for share in SHARES:
        expected = exact[max(1, math.ceil(share * len(exact))) - 1]
        assert whole.quantile(share) == pytest.approx(expected, rel=ACCURACY + 1e-9, abs=0)
    parts = [Sketch.of_values(values[start::7]) for start in range(7)]
    assert sum(parts, Sketch()) == whole
    assert whole.count == len(values)


@given(parts=st.lists(st.lists(st.floats(-1, 1e5), max_size=20), max_size=6))
def test_sketches_add_up_in_any_order(parts: list[list[float]]) -> None:
    sketches = [Sketch.of_values(part) for part in parts]
    whole = Sketch.of_values(value for part in parts for value in part)
    assert sum(sketches, Sketch()) == sum(reversed(sketches), Sketch()) == whole


def test_no_values_have_no_quantile_and_odd_values_count_as_zero() -> None:
    assert Sketch().quantile(0.5) is None
    odd = Sketch.of_values([0, -3, 1])
    assert (odd.quantile(0.5), odd.count, odd.above(0), odd.above(2)) == (0.0, 3, 1, 0)


def test_figures_add_up_name_by_name() -> None:
    one = UsageFigures(
        *range(len(COUNTS)), *(Sketch.of_values([n]) for n in range(1, 1 + len(SKETCHES)))
    )
    double = one + one
    assert [getattr(double, name) for name in COUNTS] == [2 * n for n in range(len(COUNTS))]
    assert all(getattr(double, name).count == 2 for name in SKETCHES)
    assert one + UsageFigures() == one
    figures = replace(UsageFigures(), requests=9, errors=1, refused=1, rejected=1, left=1)
    assert figures.answered == 5
