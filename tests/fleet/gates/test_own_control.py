"""Users are their own control: what is usual of each, and what a stage says beside that."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.gates.decide import Verdict
from fleet.gates.live import judge_live
from fleet.gates.own_control import (
    ALIKE,
    CONSTANTS,
    DISPERSION,
    LEAST_KNOWN,
    Beliefs,
    Usual,
    believed_of,
    usual_of,
)
from fleet.gates.sequential import Z_EARLY, Z_ONE, confidence
from fleet.gates.windows import Baseline, arms, baseline, count_windows, with_usual
from fleet.policies import GateSpec
from tests.fleet.gates.test_windows import HOUR, NEW, NINE, OLD, row

ERRORS = GateSpec("errors", "error_rate_rise", 2, "pp", alarm_at=0.25)
SIDE = arms("acme-support", NEW, OLD)
PASS, FAIL, UNSURE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def asked(user: str, days: int, each: int, bad: int) -> list[tuple[str, int, bool]]:
    return [(user, day, number < bad) for day in range(days) for number in range(each)]


def test_users_differ_by_what_was_seen_of_them_and_the_unknown_are_as_all_are() -> None:
    usual = usual_of([*asked("ann", 20, 50, 5), *asked("bo", 20, 50, 0)])
    assert usual.mean == pytest.approx(0.05, rel=0.02)
    rates = {name: usual.rate(name)[0] for name in ("ann", "bo", "new")}
    assert rates["ann"] > 0.09
    assert rates["bo"] < 0.01
    assert rates["new"] == pytest.approx(usual.mean)
    assert usual.rate("new")[1] > 10 * usual.rate("bo")[1]
    assert (usual.knows("ann"), usual.knows("new")) == (True, False)
    assert usual_of(asked("ann", 1, LEAST_KNOWN, 0)).knows("ann")
    assert not usual_of(asked("ann", 1, LEAST_KNOWN - 1, 0)).knows("ann")


def test_without_requests_it_is_what_is_believed() -> None:
    empty = usual_of([])
    assert (empty.mean, empty.alike, empty.dispersion) == (0.01, ALIKE, DISPERSION)
    nameless = usual_of(asked("", 10, 100, 3))
    assert nameless.mean == pytest.approx(0.03, rel=0.02)
    assert (nameless.users, nameless.dispersion) == ({}, DISPERSION)


def counted(alike: float, dispersion: float, bad: int) -> dict[str, float]:
    return {
        "usual": 0.01, "usual_requests": 100.0 * bad, "alike": alike, "dispersion": dispersion
    }  # fmt: skip


@pytest.mark.parametrize(
    ("others", "alike", "dispersion"),
    [
        ((), ALIKE, DISPERSION),
        ((counted(0.2, 3.0, 0),), ALIKE, DISPERSION),
        ((counted(0.2, 3.0, 5),), 0.2, 3.0),
        ((counted(0.2, 3.0, 2000), counted(0.1, 1.0, 2000)), 0.15, 2.0),
        ((counted(0.2, 3.0, 20), counted(0.0, 0.5, 2000)), 0.067, 1.34),
        ((counted(0.0, 0.5, 9), {"bad": 7.0}), 0.001, 1.0),
    ],
)
def test_of_an_alias_hardly_seen_is_believed_what_was_seen_of_others(
    others: tuple[dict[str, float], ...], alike: float, dispersion: float
) -> None:
    assert believed_of(others) == pytest.approx((alike, dispersion), abs=0.01)


def test_the_less_is_known_of_users_the_more_is_believed() -> None:
    rough = Beliefs(0.2, 3.0)
    empty, few, many = (
        usual_of([told for n in range(users) for told in asked(f"u{n}", 20, 10, n % 2)], rough)
        for users in (0, 2, 60)
    )
    assert (empty.alike, empty.dispersion) == rough
    plain = [usual_of([told for n in range(users) for told in asked(f"u{n}", 20, 10, n % 2)])
             for users in (2, 60)]  # fmt: skip
    assert few.alike > plain[0].alike + 0.05
    assert few.dispersion > plain[0].dispersion + 0.5
    assert many.alike == pytest.approx(plain[1].alike, abs=0.01)
    assert many.dispersion == pytest.approx(plain[1].dispersion, abs=0.1)


def test_a_client_without_a_past_is_believed_to_be_as_others_are() -> None:
    believed = {"error_rate_rise": Beliefs(0.3, 2.0)}
    known = with_usual(Baseline(), (), (ERRORS,), NINE, believed)
    strangers = {f"u{n}": (NEW if n % 2 else OLD, 30, 1) for n in range(40)}
    alike, unknown = stage(strangers, known), stage(strangers, Baseline())
    assert alike.counts["spread"] > 10 * unknown.counts["spread"]
    assert alike.upper > unknown.upper
    names = ("believed_alike", "believed_dispersion")
    assert [alike.counts.get(name) for name in names] == [0.3, 2.0]
    assert not {"usual", "dispersion", *names} & unknown.counts.keys()
    assert usual_of([], CONSTANTS) == usual_of([])


def test_bad_days_of_users_count_as_fewer_requests_than_bad_requests_by_chance() -> None:
    rng = np.random.default_rng(1)

    def drawn(days_alike: bool) -> Usual:  # noqa: FBT001
        return usual_of(
            (f"u{user}", day, bool(bad))
            for user in range(40)
            for day in range(20)
            for rate in [rng.choice([0.0, 0.5], p=[0.96, 0.04]) if days_alike else 0.02]
            for bad in rng.random(15) < rate
        )

    assert drawn(days_alike=False).dispersion == pytest.approx(1.0, abs=0.15)
    assert drawn(days_alike=True).dispersion > 4


rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.booleans()), max_size=60)


@given(rows)
@settings(max_examples=60)
def test_what_is_usual_does_not_depend_on_the_order(
    drawn: list[tuple[int, int, bool]],
) -> None:
    told = [(f"u{user}" if user else "", day, bad) for user, day, bad in drawn]
    one, other = usual_of(told), usual_of(reversed(told))
    assert one.users == other.users
    assert (one.mean, one.alike) == (other.mean, other.alike)
    assert math.isclose(one.dispersion, other.dispersion, rel_tol=1e-9)
    assert 0 < one.mean < 1
    assert one.dispersion >= 1


def stage(users: dict[str, tuple[str, int, int]], known: Baseline, hours: int = 12) -> Any:
    """Judge a stage: by user its version, and requests and bad ones of every hour."""
    found = [
        row(60 * hour + 60 * n / many, version, unit=user, status=500 if n < bad else 200)
        for user, (version, many, bad) in users.items()
        for hour in range(hours)
        for n in range(many)
    ]
    windows = count_windows(
        found, SIDE, (ERRORS,), {"acme-support": known}, NINE, NINE + hours * HOUR
    )
    return judge_live(ERRORS, windows, known=known, z=Z_EARLY)


def past(users: dict[str, tuple[int, int]]) -> Baseline:
    told = [each for user, (many, bad) in users.items() for each in asked(user, 20, many, bad)]
    return Baseline(usual={"errors": usual_of(told)}, hourly=1.0)


def test_a_version_that_happens_to_have_the_unlucky_user_is_not_worse() -> None:
    crowd = {f"u{n}": (30, 0) for n in range(9)}
    known = past({"unlucky": (30, 3), **crowd})
    same = dict.fromkeys(crowd, (OLD, 30, 0))
    found = stage({"unlucky": (NEW, 30, 3), **same}, known)
    assert found.verdict is PASS
    assert abs(found.estimate) < 0.02
    assert stage({"unlucky": (NEW, 30, 3), **same}, past(dict.fromkeys(crowd, (30, 0)))).verdict \
        is not PASS  # fmt: skip


def test_a_few_users_who_fare_far_worse_than_ever_fail_the_version_within_the_hour() -> None:
    crowd = {f"u{n}": (10, 0) for n in range(12)}
    known = past(crowd)
    three = {f"u{n}": (NEW, 10, 8) for n in range(3)}
    found = stage({**dict.fromkeys(crowd, (OLD, 10, 0)), **three}, known, hours=1)
    assert found.verdict is FAIL
    assert "most of its requests are bad" in found.reason or "e-value" in found.reason


def test_one_user_nobody_knows_fails_no_version() -> None:
    known = past({f"u{n}": (10, 0) for n in range(12)})
    others = {f"u{n}": (OLD, 10, 0) for n in range(12)}
    assert stage({"stranger": (NEW, 10, 10), **others}, known).verdict is UNSURE


def before(*made: dict[str, Any]) -> Baseline:
    return with_usual(baseline(made), made, (ERRORS,), NINE)


@pytest.mark.parametrize(
    "made",
    [
        (),  # empty weeks
        tuple(row(-60 * n) for n in range(1, 500)),  # no row names a user
        tuple(row(-60 * n, unit="one") for n in range(1, 500)),  # a single user
        tuple(row(-60 * n, unit=None) for n in range(1, 500)),  # an Envoy's
        tuple(row(-n / 10, unit="robot", status=500) for n in range(1, 9000)),  # a robot's alone
        (row(-(10**7)), row(-1)),  # a clock of 19 years ago
        tuple(row(-60 * n, status=400) for n in range(1, 500)),  # only refused requests
    ],
)
def test_weeks_of_any_kind_are_usable_and_pass_nothing_by_themselves(
    made: tuple[dict[str, Any], ...],
) -> None:
    known = before(*made)
    few = stage({f"u{n}": (NEW if n < 2 else OLD, 3, 0) for n in range(12)}, known, hours=2)
    assert few.verdict is UNSURE
    broken = stage({f"u{n}": (NEW if n < 6 else OLD, 6, 6 * (n < 6)) for n in range(12)}, known)
    assert broken.verdict is FAIL


def test_an_alias_of_whom_nothing_is_known_is_still_judged() -> None:
    healthy = {f"u{n}": (NEW if n < 50 else OLD, 2, 0) for n in range(500)}
    assert stage(healthy, Baseline()).verdict is PASS
    harmful = {f"u{n}": (NEW if n < 50 else OLD, 2, n % 2 if n < 50 else 0) for n in range(500)}
    assert stage(harmful, Baseline()).verdict is FAIL


def test_a_pass_asks_for_more_confidence_the_more_is_at_stake() -> None:
    stages = [confidence(percent, (10, 50, 100)) for percent in (10, 50)]
    assert stages == sorted(stages)
    assert confidence(50, (50, 100)) == Z_ONE > stages[-1]
    assert confidence(5, (5, 10, 50, 100)) == confidence(10, (10, 50, 100)) == Z_EARLY


def test_hours_of_usual_traffic_are_counted_from_the_first_request() -> None:
    made = [row(-60 * n) for n in range(1, 241)]
    assert before(*made).hourly == pytest.approx(1.0)
    assert before(row(-1)).hourly == 0.0
