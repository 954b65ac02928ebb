"""FAIL by counts that no error of the split can explain wins over a split that is void."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.gates.counts import Tally, Window
from fleet.gates.live import judge_live
from fleet.gates.own_control import ByUser
from fleet.gates.recheck import recheck_verdict
from fleet.gates.verdict import Finding, Verdict
from fleet.policies import GateSpec
from tests.fleet.gates.test_live import ERRORS, LIMIT, NINE, hours

FAIL, UNSURE = Verdict.FAIL, Verdict.INCONCLUSIVE
WIDE = replace(ERRORS, alarm_at=None)
Side = tuple[int, int]
"""Bad requests, and all."""


def judged(mine: Side, other: Side, percent: int, gate: GateSpec = ERRORS) -> Finding:
    new, old = ((of, {"errors": bad}) for bad, of in (mine, other))
    return judge_live(gate, hours(1, new, old, percent))


@pytest.mark.parametrize("gate", [ERRORS, WIDE, LIMIT])
@pytest.mark.parametrize(
    ("mine", "other", "percent", "verdict"),
    [
        ((300, 300), (0, 700), 50, FAIL),  # half the requests passed a gateway that sends 10 %
        ((300, 300), (0, 700), 10, FAIL),
        ((300, 300), (0, 700), 20, FAIL),
        ((30, 30), (0, 970), 10, FAIL),
        ((300, 300), (0, 700), 1, UNSURE),  # all 300 may have come from elsewhere
        ((300, 300), (0, 700), 2, UNSURE),  # all but 4
        ((600, 600), (0, 1400), 2, FAIL),  # all but 16
        ((60, 300), (0, 700), 10, UNSURE),  # less than what may have come from elsewhere
        ((0, 300), (700, 700), 10, UNSURE),
        ((56, 56), (0, 0), 10, UNSURE),
    ],
)
def test_a_version_that_fails_all_requests_fails_by_a_wrong_split(
    gate: GateSpec, mine: Side, other: Side, percent: int, verdict: Verdict
) -> None:
    """300 of 300 bad beside 0 of 700 was INCONCLUSIVE, for the split was not the wanted one."""
    found = judged(mine, other, percent, gate)
    assert found.verdict is verdict
    text = (
        ", whatever is wrong with the split: the new version got"
        if verdict is FAIL
        else "void, for"
    )
    assert text in found.reason
    assert recheck_verdict(found.plain()) == found


def test_a_finding_of_an_earlier_release_keeps_its_verdict() -> None:
    found = judged((300, 300), (0, 700), 10)
    limits = {name: value for name, value in found.parameters.items() if name != "misplaced"}
    assert recheck_verdict(replace(found, parameters=limits).plain()).verdict is UNSURE


def window_by_users(mine: Side, other: Side, each: int, percent: int) -> Window:
    """Return a window in which some users of a side had bad requests alone.

    `each`: requests of a user.
    """
    sides = []
    for bad, users in (mine, other):
        usual = 0.01 * each
        user = ByUser(bad * each, users * each, users * usual, users * usual, bad, users)
        sides.append(Tally(users * each, {"errors": bad * each}, {}, {"errors": user}, users))
    return Window(NINE, NINE + timedelta(hours=1), sides[0], sides[1], percent)


def by_users(mine: Side, other: Side, each: int, percent: int) -> Finding:
    return judge_live(ERRORS, [window_by_users(mine, other, each, percent)])


@pytest.mark.parametrize("each", [1, 10, 30])
def test_a_user_who_asks_often_counts_once(each: int) -> None:
    assert by_users((300, 300), (0, 700), each, 10).verdict is FAIL
    # 40 users with 4000 bad requests may all have come from elsewhere.
    assert by_users((40, 300), (0, 700), each, 10).verdict is UNSURE


@given(
    total=st.integers(300, 3000), percent=st.sampled_from([5, 10, 25, 50, 75]),
    seen=st.floats(0.02, 0.9), bad=st.floats(0.3, 1), bad_other=st.floats(0, 0.1),
    gate=st.sampled_from([ERRORS, WIDE, LIMIT]), part=st.floats(0, 1),
)  # fmt: skip
def test_a_failure_by_a_wrong_split_is_one_wherever_the_misplaced_requests_belong(
    total: int, percent: int, seen: float, bad: float, bad_other: float, gate: GateSpec, part: float
) -> None:
    got = round(total * seen)
    mine, other = (round(got * bad), got), (round((total - got) * bad_other), total - got)
    found = judged(mine, other, percent, gate)
    if "split" not in found.reason:  # void, or the wanted one
        return
    assert found.verdict is FAIL
    moved = got - round(total * percent / 100)  # below zero: to the new version
    least, most = max(0, moved - got + mine[0]), min(mine[0], max(0, moved))
    moved_bad = (
        least + round(part * (most - least)) if moved > 0 else -round(part * min(-moved, other[0]))
    )
    right = judged(
        (mine[0] - moved_bad, got - moved), (other[0] + moved_bad, other[1] + moved), percent, gate
    )
    assert "void" not in right.reason
    assert right.verdict is FAIL


@pytest.mark.parametrize(("wanted", "stale"), [(10, 50), (50, 10), (10, 25)])
@pytest.mark.parametrize("harmful", [0.0, 1.0])
def test_a_healthy_version_is_not_failed_by_a_stale_gateway_however_bad_its_requests(
    wanted: int, stale: int, harmful: float
) -> None:
    """Of 500 stages none fails: a user of the stale gateway fails on either version."""
    rng = np.random.default_rng(wanted * stale)
    failed = 0
    for _ in range(500):
        through = rng.random(2000) < 0.5
        drawn = rng.random(2000) * 100
        mine = drawn < np.where(through, stale, wanted)
        misplaced = mine != (drawn < wanted)
        bad = rng.random(2000) < np.where(misplaced & mine, harmful, 0.01)
        new, old = ((int(bad[side].sum()), int(side.sum())) for side in (mine, ~mine))
        failed += judged(new, old, wanted).verdict is FAIL
    assert failed <= 5
