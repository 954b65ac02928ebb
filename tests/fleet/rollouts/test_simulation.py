"""The forecast of a rollout beside rollouts that were played request by request."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.gates.decide import Verdict
from fleet.gates.intervals import Z
from fleet.gates.live import judge_live
from fleet.gates.own_control import Usual
from fleet.gates.power import UsualRate, healthy_rate
from fleet.gates.rows import Tally, Window, kind_of
from fleet.gates.sequential import Z_EARLY, Z_ONE
from fleet.gates.windows import Baseline
from fleet.policies import GateSpec
from fleet.rollouts.stage_traffic import LiveStages, requests_needed, simulate
from tests.bench.forecasts import PLAYED, SETTINGS, setting_of
from tests.drawn import drawn, examples

POINTS = 7
BAKE, LONGEST = 24.0, 48.0
REPLICATIONS = 800
ERRORS = GateSpec("errors", "error_rate_rise", 2, "pp")
FORMAT = GateSpec("format", "format_drop", 3, "pp")
LATENCY = GateSpec("latency", "p95_ratio", 1.5, "x")


def usual(gate: GateSpec, effect: float = 1.0) -> UsualRate:
    return UsualRate(healthy_rate(gate), effect)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_rollout_is_promoted_as_often_as_foretold(name: str) -> None:
    played = json.loads(PLAYED.read_text())[name]
    foretold = 100 * simulate(setting_of(SETTINGS[name])).chance()
    assert foretold == pytest.approx(played, abs=POINTS)


@pytest.mark.parametrize(
    ("gate", "requests"),
    [(ERRORS, 100), (ERRORS, 300), (ERRORS, 1000), (FORMAT, 300), (LATENCY, 100), (LATENCY, 300)],
)
def test_a_single_look_passes_as_often_as_the_judge_says(gate: GateSpec, requests: int) -> None:
    kind, known = kind_of(gate), usual(gate)
    baseline = Baseline(usual={kind: Usual(known.rate, dispersion=1.0, requests=5000)})
    rng, begin = np.random.default_rng(3), datetime(2026, 3, 2, 9, tzinfo=UTC)
    passed = 0
    for _ in range(REPLICATIONS):
        mine, other = (
            Tally(asked, {kind: int(rng.binomial(asked, known.rate))}, {kind: asked})
            for asked in (requests, 9 * requests)
        )
        window = Window(begin, begin + timedelta(hours=1), mine, other, percent=10)
        passed += judge_live(gate, [window], known=baseline, z=Z).verdict is Verdict.PASS
    once = LiveStages(((gate, known),), ((10, Z),), requests / 4.8, LONGEST, LONGEST)
    assert 100 * simulate(once).of_gate(0) == pytest.approx(100 * passed / REPLICATIONS, abs=8)


FEW = LiveStages(((ERRORS, usual(ERRORS, 1.3)),), ((10, Z),), 60.0, BAKE, LONGEST)


def test_less_confidence_more_traffic_and_more_looks_make_a_pass_likelier() -> None:
    by_sureness = [simulate(replace(FEW, stages=((10, z),))).chance() for z in (Z_EARLY, Z, Z_ONE)]
    assert by_sureness == sorted(by_sureness, reverse=True)
    by_traffic = [simulate(replace(FEW, hourly=hourly)).chance() for hourly in (20, 60, 200)]
    assert by_traffic == sorted(by_traffic)
    assert simulate(replace(FEW, bake=LONGEST)).chance() < simulate(FEW).chance()
    by_bake = [simulate(FEW).of_gate(0, times) for times in (1, 2, 4)]
    assert by_bake == sorted(by_bake)


def test_a_few_people_may_all_stay_on_the_old_version() -> None:
    busy = replace(FEW, hourly=1000.0)
    assert simulate(busy).chance() > 0.99
    assert simulate(replace(busy, users=10)).chance() < 0.75


def test_the_requests_that_are_needed_pass_four_times_in_five() -> None:
    stage = FEW.stages[0]
    needed = requests_needed(FEW.gates, stage, 1.0, 0, 0.8)
    assert needed is not None
    once = replace(FEW, hourly=10 * needed / LONGEST, bake=LONGEST)
    assert simulate(once).chance() == pytest.approx(0.8, abs=0.15)
    assert requests_needed(FEW.gates, stage, 1.0, 10, 0.8) is None


def test_the_same_setting_gives_the_same_answer() -> None:
    again = simulate.__wrapped__(FEW)
    assert again.together.tolist() == simulate(FEW).together.tolist()


@drawn
@settings(max_examples=examples(40, 400), deadline=None)
@given(
    users=st.one_of(st.integers(1, 12), st.integers(1, 1100)),
    share=st.integers(1, 99),
    hourly=st.floats(0.01, 1e5),
)
def test_any_number_of_users_has_a_chance(users: int, share: int, hourly: float) -> None:
    """2 to 7 and 9 users ended in an error: their parts summed to more than 1 by rounding."""
    setting = replace(FEW, users=users, hourly=hourly, stages=((share, Z),))
    assert 0 <= simulate.__wrapped__(setting).chance() <= 1
