"""Figures of requests: sketches within one percent, and sums that do not depend on the order."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.usage import COUNTS, SKETCHES, Sketch, UsageFigures

seconds = st.floats(1e-6, 1e5)


@given(values=st.lists(seconds, min_size=1, max_size=200), share=st.floats(0, 1))
def test_a_quantile_is_within_one_percent_of_the_value_of_that_rank(
    values: list[float], share: float
) -> None:
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    assert Sketch.of_values(values).quantile(share) == pytest.approx(exact, rel=0.01)


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
    one = UsageFigures(*range(len(COUNTS)), *(Sketch.of_values([n]) for n in range(1, 5)))
    double = one + one
    assert [getattr(double, name) for name in COUNTS] == [2 * n for n in range(len(COUNTS))]
    assert all(getattr(double, name).count == 2 for name in SKETCHES)
    assert one + UsageFigures() == one
    figures = replace(UsageFigures(), requests=9, errors=1, refused=1, rejected=1, left=1)
    assert figures.answered == 5
