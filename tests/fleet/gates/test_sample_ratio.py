"""A split that is not the wanted one voids the evidence, and a correct one seldom does."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleet.gates.decide import Finding, Verdict
from fleet.gates.live import judge_live
from fleet.gates.own_control import ByUser
from fleet.gates.rows import Tally, Window
from fleet.gates.sample_ratio import e_value
from fleet.gates.soak import recheck_verdict
from fleet.gates.windows import count_windows
from fleet.policies import GateSpec
from fleet.traffic import Sticky
from tests.fleet.gates.splitting import Crowd, naive, requests, users, voided
from tests.fleet.gates.test_live import ERRORS, LIMIT, hours
from tests.fleet.gates.test_windows import HOUR, NINE, OLD, SIDE, row

FAIL, UNSURE = Verdict.FAIL, Verdict.INCONCLUSIVE


def share(first: np.ndarray) -> float:
    return float(100 * np.isfinite(first).mean())


@pytest.mark.parametrize(("per_hour", "percent"), [(15, 10), (300, 10), (3600, 10), (60, 50)])
def test_48_looks_void_no_more_correct_splits_than_promised(per_hour: int, percent: int) -> None:
    rng = np.random.default_rng(per_hour)
    drawn = requests(rng, 2000, per_hour, percent / 100)
    assert share(voided(drawn, percent)) <= 0.12
    assert share(naive(drawn, percent)) > 0.5  # the usual test at the same level


def test_heavy_users_void_nothing_where_users_are_what_is_split() -> None:
    rng = np.random.default_rng(1)
    arrived, asked = users(rng, 1500, Crowd(2000, 14_400), 0.1)
    assert share(voided(arrived, 10)) <= 0.12
    assert share(voided(asked, 10)) > 60  # were each of their requests a draw


@pytest.mark.parametrize(
    ("per_hour", "got", "within", "power"),
    [
        (300, 0.085, 48, (94, 100)),
        (300, 0.12, 48, (99, 100)),
        (300, 0.085, 24, (52, 65)),
        (300, 0.12, 24, (85, 95)),
        (3600, 0.085, 4, (90, 100)),
        (3600, 0.12, 4, (97, 100)),
    ],
)
def test_a_wrong_split_is_found_within_a_stage(
    per_hour: int, got: float, within: int, power: tuple[float, float]
) -> None:
    rng = np.random.default_rng(17)
    found = share(voided(requests(rng, 500, per_hour, got, within), 10))
    assert power[0] <= found <= power[1]


@pytest.mark.parametrize(
    ("mine", "other", "void"),
    [
        (100, 900, False),
        (150, 850, True),
        (60, 940, True),
        (8500, 91_500, True),
        (12_000, 88_000, True),
        (103_000, 897_000, False),  # a million requests, 0.3 points: too little to matter
        (106_000, 894_000, True),
        (3, 2, False),
        (56, 0, True),
    ],
)
def test_a_split_that_is_not_the_wanted_one_voids_the_evidence(
    mine: int,
    other: int,
    void: bool,  # noqa: FBT001
) -> None:
    stage = hours(1, (mine, {}), (other, {}), 10)
    found = judge_live(ERRORS, stage)
    assert ("void" in found.reason) is void
    if void:
        assert found.verdict is UNSURE
        assert f"got {mine / (mine + other) * 100:.3g} % of {mine + other} req" in found.reason
        assert found.reason.endswith("and not 10 %")
    assert recheck_verdict(found.plain()).verdict is found.verdict
    assert "void" not in judge_live(ERRORS, [replace(stage[0], percent=None)]).reason


def test_a_split_is_checked_by_users_where_they_are_known() -> None:
    def asked(*who: tuple[str, str | None, int]) -> list[dict[str, Any]]:
        return [row(n, version, unit=unit) for version, unit, many in who for n in range(many)]

    crowd = [(OLD, f"u{n}", 1) for n in range(180)]
    heavy = asked(*crowd, *((row()["version"], f"v{n}", 60) for n in range(20)))
    skewed = asked(*crowd, *((row()["version"], f"v{n}", 1) for n in range(120)))
    for rows, void in ((heavy, False), (skewed, True)):
        found = count_windows(rows, SIDE, (), {}, NINE, NINE + HOUR, percent=10, sticky=Sticky.USER)
        assert ("void" in judge_live(ERRORS, found).reason) is void


@pytest.mark.parametrize(("fields", "sticky"), [({}, Sticky.SESSION), ({"unit": None}, Sticky.KEY)])
def test_a_split_of_users_whom_nobody_tells_apart_is_not_checked_and_says_so(
    fields: dict[str, Any], sticky: Sticky
) -> None:
    rows = [row(n / 10, **fields) for n in range(300)]
    found = judge_live(
        ERRORS, count_windows(rows, SIDE, (), {}, NINE, NINE + HOUR, percent=10, sticky=sticky)
    )
    assert "void" not in found.reason
    assert "whose split is not checked" in found.reason
    by_chance = count_windows(rows, SIDE, (), {}, NINE, NINE + HOUR, percent=10)
    assert "void" in judge_live(ERRORS, by_chance).reason


def test_the_evidence_is_that_of_a_beta_mixture() -> None:
    from scipy import stats  # noqa: PLC0415

    for got, total, wanted in ((0, 1, 0.1), (7, 20, 0.1), (60, 100, 0.5), (3, 3, 0.02)):
        mixed = stats.betabinom.pmf(got, total, 100 * wanted, 100 * (1 - wanted))
        plain = stats.binom.pmf(got, total, wanted)
        assert e_value(got, total, wanted) == pytest.approx(mixed / plain, rel=1e-9)
    assert e_value(0, 0, 0.1) == 1.0


def test_a_neighbour_gate_has_no_split_to_check() -> None:
    gate = GateSpec("near", "neighbour_ratio", 1.25, "x")
    assert "split" not in judge_live(gate, hours(1, (500, {}), (500, {}))).reason


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
    for bad, asking in (mine, other):
        usual = 0.01 * each
        user = ByUser(bad * each, asking * each, asking * usual, asking * usual, bad, asking)
        sides.append(Tally(asking * each, {"errors": bad * each}, {}, {"errors": user}, asking))
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
@example(total=300, percent=50, seen=0.875, bad=1.0, bad_other=0.0, gate=ERRORS, part=0.0)
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
    # If the misplaced requests show the old version broken too, going back to it harms nobody.
    assert right.verdict is FAIL or "broken itself" in right.reason


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
