"""A version that has all traffic is judged by how the old one did before the rollout."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.gates.decide import Verdict
from fleet.gates.own_control import Usual
from fleet.gates.rows import Tally, Window
from fleet.gates.soak import blameless, judge_soaking, recheck_verdict, soaking, spared
from fleet.gates.windows import Baseline
from fleet.policies import GateSpec

NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
ERRORS = GateSpec("errors", "error_rate_rise", 2, "pp")
LATENCY = GateSpec("latency", "p95_ratio", 1.5, "x")
LIMIT = GateSpec("limit", "error_rate", 2, "%")
PASS, FAIL, UNSURE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def before(requests: int, errors: int) -> Baseline:
    """Return weeks in which the old version had so many errors, of users who are all alike."""
    mean = (errors + 0.5) / (requests + 1)
    return Baseline(usual={"errors": Usual(mean, dispersion=1.0, requests=requests)})


BEFORE = before(4000, 40)
"""Weeks in which the old version had 1 % errors."""


def hours(number: int, requests: int, **bad: int) -> tuple[Window, ...]:
    kinds = {kind.replace("_", ":"): each for kind, each in bad.items()}
    mine = Tally(requests, kinds, {kind: requests for kind in kinds if kind != "errors"})
    return tuple(
        Window(NINE + each * HOUR, NINE + (each + 1) * HOUR, mine, Tally())
        for each in range(number)
    )


@pytest.mark.parametrize(
    ("gate", "windows", "verdict"),
    [
        (ERRORS, (), UNSURE),
        (ERRORS, hours(20, 30), PASS),
        (ERRORS, hours(20, 100, errors=1), PASS),
        (ERRORS, hours(20, 100, errors=8), FAIL),
        (ERRORS, hours(3, 10, errors=1), UNSURE),
        (LATENCY, hours(20, 100, late_latency=3), PASS),
        (LATENCY, hours(20, 100, late_latency=15), FAIL),
        (LATENCY, hours(20, 100), UNSURE),  # what slow means is not known
        (LIMIT, hours(20, 100, errors=8), FAIL),
        (LIMIT, hours(20, 100), PASS),
    ],
)
def test_a_version_that_has_all_traffic(
    gate: GateSpec, windows: tuple[Window, ...], verdict: Verdict
) -> None:
    found = judge_soaking(soaking(gate), windows, BEFORE)
    assert found.verdict is verdict
    assert recheck_verdict(found.plain()).verdict is verdict


def test_a_rise_is_above_what_the_old_version_surely_had_and_it_is_said() -> None:
    found = judge_soaking(ERRORS, hours(20, 100, errors=8), BEFORE)
    assert found.parameters["limit"] == pytest.approx(found.parameters["usual"] + 0.02)
    assert 0.01 < found.parameters["usual"] < 0.014
    assert found.reason.endswith("the old version had 40 of 4000 before the rollout")


def test_without_a_past_nothing_is_said() -> None:
    found = judge_soaking(ERRORS, hours(20, 100, errors=50), Baseline())
    assert (found.verdict, recheck_verdict(found.plain()).verdict) == (UNSURE, UNSURE)
    assert found.reason == "nothing to compare with; the old version had 0 of 0 before the rollout"


def test_a_time_may_be_twice_the_old_one_after_the_cut_over() -> None:
    assert soaking(LATENCY).margin == 2.0
    assert soaking(replace(LATENCY, threshold=3)).margin == 3.0
    assert soaking(ERRORS) is ERRORS
    near = GateSpec("near", "neighbour_ratio", 1.25, "x")
    assert soaking(near) is near


def test_an_hour_in_which_everybody_fails_says_nothing_about_the_version() -> None:
    good, outage = hours(10, 100, errors=1), hours(12, 100, errors=40)[10:]
    windows = (*good, *outage)
    others = tuple(
        Window(each.start, each.end, Tally(300, {"errors": 120 if each in outage else 3}), Tally())
        for each in windows
    )
    found = judge_soaking(ERRORS, windows, BEFORE)
    assert found.verdict is FAIL
    kept = blameless(ERRORS, found, windows, others)
    assert kept == good
    again = spared(found, judge_soaking(ERRORS, kept, BEFORE), len(windows) - len(kept))
    assert again.verdict is PASS
    assert "without 2 windows in which others on its servers fared as badly" in again.reason
    assert recheck_verdict(again.plain()).verdict is PASS


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(0, 4000))
@settings(max_examples=50)
def test_requests_without_fault_never_fail_a_version(requests: list[int], asked: int) -> None:
    past = before(asked, 0)
    windows = tuple(
        Window(NINE + at * HOUR, NINE + (at + 1) * HOUR, Tally(each), Tally())
        for at, each in enumerate(requests)
    )
    for gate in (ERRORS, LATENCY, LIMIT):
        found = judge_soaking(soaking(gate), windows, past, missing=("one is away",))
        assert found.verdict is UNSURE
        assert judge_soaking(soaking(gate), windows, past).verdict is not FAIL


def test_a_good_week_hides_no_bad_day() -> None:
    week = hours(160, 30)
    bad = tuple(
        replace(each, start=each.start + 160 * HOUR, end=each.end + 160 * HOUR)
        for each in hours(8, 30, errors=4)
    )
    assert judge_soaking(ERRORS, week, BEFORE).verdict is PASS
    assert judge_soaking(ERRORS, (*week, *bad), BEFORE).verdict is FAIL


def test_many_looks_fail_no_healthy_version_and_every_harmful_one() -> None:
    rng = np.random.default_rng(3)
    ends = {}
    for rate in (0.01, 0.08):
        failed = 0
        for _ in range(100):
            past = before(2000, int(rng.binomial(2000, 0.01)))
            days = tuple(
                Window(
                    NINE + at * HOUR,
                    NINE + (at + 1) * HOUR,
                    Tally(30, {"errors": int(rng.binomial(30, rate))}),
                    Tally(),
                )
                for at in range(60)
            )
            failed += judge_soaking(ERRORS, days, past).verdict is FAIL
        ends[rate] = failed
    assert ends[0.01] <= 1
    assert ends[0.08] > 95
