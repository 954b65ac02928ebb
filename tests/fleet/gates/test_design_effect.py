"""Users who ask again and again: counted as what they are worth, in the long run and one by one."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.gates.design_effect import Clustered, SideCounts, Units, design_effects
from fleet.gates.live import judge_live, judge_rise
from fleet.gates.soak import judge_soaking, soaking
from fleet.gates.verdict import Verdict
from fleet.history.doubts import check_one
from fleet.history.rollout_events import GateJudged
from fleet.rollout_policy import GateSpec
from tests.fleet.gates.test_windows import NEW, OLD, counted, row
from tests.fleet.gates.users import ERRORS, LIMITS, Crowd, by_request, stages, verdicts

PASS, FAIL = Verdict.PASS, Verdict.FAIL
REPLICATIONS = 300


def test_counting_requests_fails_healthy_versions_and_counting_users_does_not() -> None:
    rng = np.random.default_rng(7)
    ours, naive = verdicts(rng, Crowd(1000, 50, 0.8), REPLICATIONS)
    assert ours[FAIL] <= 1.2
    assert naive[FAIL] > 10  # of healthy versions, at a promised 1 %


@pytest.mark.parametrize("crowd", [Crowd(1000, 50, 0.2), Crowd(1000, 50, 0.8)])
def test_counting_requests_passes_versions_at_the_margin_and_counting_users_seldom(
    crowd: Crowd,
) -> None:
    rng = np.random.default_rng(8)
    ours, naive = verdicts(rng, replace(crowd, rates=(0.03, 0.01)), REPLICATIONS)
    assert ours[PASS] < 7
    assert ours[PASS] < naive[PASS]
    if crowd.alike > 0.5:
        assert naive[PASS] > 15


@pytest.mark.parametrize("alike", [0.01, 0.2])
def test_harm_that_spares_first_requests_is_still_caught(alike: float) -> None:
    rng = np.random.default_rng(9)
    ours, _ = verdicts(rng, Crowd(1000, 50, alike, rates=(0.05, 0.01)), REPLICATIONS)
    assert ours[FAIL] > 95


def test_a_version_that_fails_each_of_few_users_fails() -> None:
    rng = np.random.default_rng(11)
    broken = Crowd(40, 144, 1.0, rates=(1.0, 0.0))
    for users, verdict in ((1, Verdict.INCONCLUSIVE), (2, FAIL), (4, FAIL)):
        ours, _ = verdicts(rng, replace(broken, share=users / 40), 5)
        assert ours[verdict] == 100
    ours, _ = verdicts(rng, replace(broken, alike=0.2, share=0.1, rates=(0.5, 0.001)), 20)
    assert ours[PASS] == 0
    unlucky, _ = verdicts(rng, Crowd(40, 144, 0.95, rates=(0.02, 0.02)), 300)
    assert unlucky[FAIL] <= 1


def test_users_who_ask_once_count_as_requests_do() -> None:
    rng = np.random.default_rng(10)
    for counts in stages(rng, Crowd(900, 1, 0.2, rates=(0.04, 0.01)), 20):
        by_user = judge_rise(ERRORS.name, ERRORS.metric, counts, LIMITS)
        plain = judge_rise(ERRORS.name, ERRORS.metric, by_request(counts), LIMITS)
        assert (by_user.verdict, by_user.upper) == (plain.verdict, plain.upper)
        assert by_user.value == pytest.approx(plain.value)


requests = st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=60)


@given(requests)
@settings(max_examples=60)
def test_the_sums_are_those_of_the_users_however_the_stage_is_cut(
    asked: list[tuple[int, bool]],
) -> None:
    units, parts = Units(), []
    for who, bad in asked:
        parts.append(Clustered(*units.add((str(who),) if who else None, "errors", bad=bad)))
    whole = sum(parts, start=Clustered())
    of: dict[object, list[bool]] = {}
    for number, (who, bad) in enumerate(asked):
        of.setdefault(who or f"nobody {number}", []).append(bad)
    assert whole.units == len(of)
    assert whole.first == sum(any(each) for each in of.values())
    assert whole.squares == sum(len(each) ** 2 for each in of.values())
    assert whole.bad_squares == sum(sum(each) ** 2 for each in of.values())
    assert whole.products == sum(sum(each) * len(each) for each in of.values())
    until = [each.index(True) + 1 if any(each) else len(each) for each in of.values()]
    assert whole.at_risk == sum(until)


@pytest.mark.parametrize(
    ("side", "effect"),
    [
        (SideCounts(10, 100, 100, 100, 10, 10, 10), 1.0),  # everybody asked once
        (SideCounts(0, 100, 10, 1000, 0, 0, 0), 10.0),  # nothing bad: all may be alike
        (
            SideCounts(1000, 10_000, 1000, 100_000, 10_000, 10_000, 100),
            10.0,
        ),  # 100 users, always bad
        (SideCounts(1000, 10_000, 1000, 100_000, 1900, 10_000, 700), 1.0),  # spread over 700 users
    ],
)
def test_what_a_users_requests_are_worth(side: SideCounts, effect: float) -> None:
    (found,) = design_effects((side,))
    assert found == pytest.approx(effect, abs=0.1)


def test_a_few_users_who_ask_all_day_pass_nothing() -> None:
    rng = np.random.default_rng(11)
    (counts,) = stages(rng, Crowd(200, 100, 0.0, rates=(1e-9, 1e-9)), 1)
    found = judge_rise(ERRORS.name, ERRORS.metric, counts, LIMITS)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "0 of 2000 bad" in found.reason
    assert "of 20 and 180 users" in found.reason
    assert found.reason.endswith("nothing passes on fewer than 50 independent requests")


def test_requests_that_name_nobody_are_said_in_the_finding() -> None:
    rng = np.random.default_rng(12)
    (counts,) = stages(rng, Crowd(2000, 5, 0.0), 1)
    found = judge_rise(ERRORS.name, ERRORS.metric, {**counts, "unnamed": 12.0}, LIMITS)
    assert "users (12 requests name no user and count one by one)" in found.reason
    nobody = judge_rise(ERRORS.name, ERRORS.metric, {**by_request(counts), "unnamed": 9.0}, LIMITS)
    assert ", 9 requests name no user and count one by one: " in nobody.reason


rows = st.lists(
    st.fixed_dictionaries(
        {
            "minute": st.integers(0, 179),
            "version": st.sampled_from([OLD, NEW]),
            "unit": st.sampled_from([None, "ana", "ben", "cara"]),
            "status": st.sampled_from([200, 500]),
            "latency_s": st.sampled_from([0.5, 5.0]),
            "format_ok": st.sampled_from([None, True, False]),
        }
    ),
    max_size=80,
)


@given(rows)
@settings(max_examples=40)
def test_every_verdict_by_user_follows_from_its_counts(asked: list[dict[str, Any]]) -> None:
    metrics = {"error_rate_rise": "pp", "format_drop": "pp", "p95_ratio": "x", "error_rate": "%",
               "baseline_ratio": "x"}  # fmt: skip
    gates = [GateSpec(name, name, 2, unit, min_requests=5) for name, unit in metrics.items()]
    found = counted(*(row(**each) for each in asked), gates=tuple(gates))
    for gate in gates:
        for finding in (
            judge_live(gate, found, missing=("b",)),
            judge_live(gate, found),
            judge_soaking(soaking(gate), found, found),
        ):
            document = json.loads(json.dumps(finding.plain()))
            assert check_one(1, GateJudged(gate=gate.name, finding=document)).differs == ""
