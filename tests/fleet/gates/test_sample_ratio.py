"""A split that is not the wanted one voids the evidence, and a correct one seldom does."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fleet.gates.live import judge_live
from fleet.gates.recheck import recheck_verdict
from fleet.gates.sample_ratio import e_value
from fleet.gates.verdict import Verdict
from fleet.gates.windows import count_windows
from fleet.policies import GateSpec
from fleet.traffic import Sticky
from tests.fleet.gates.splitting import Crowd, naive, requests, users, voided
from tests.fleet.gates.test_live import ERRORS, hours
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
