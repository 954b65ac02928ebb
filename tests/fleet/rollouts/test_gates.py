"""What gates let a version do, stage by stage."""

from dataclasses import replace
from datetime import timedelta

import pytest

from fleet.history.values import GateEvidence, RolloutStage
from fleet.policies import GoldenFacts
from fleet.resources import Route
from fleet.rollouts.decide import decide_rollouts
from fleet.rollouts.targets import Phase
from fleet.spec import DemandSpec
from tests.fleet.planning.builders import DAY, NOON, loaded, route, state
from tests.fleet.rollouts.gate_trials import (
    ALIAS,
    ALONE,
    FAIL,
    GATED,
    GOLDEN,
    NEW,
    NEXT,
    OLD,
    UNSURE,
    declared,
    evidence,
    past,
    shared,
    wanted,
)

SECOND = timedelta(seconds=1)
BOTH = (evidence("accuracy"), evidence("errors"))
UNDECIDED = (evidence("accuracy"), evidence("errors", UNSURE))
TEN, FIFTY = ((NEW, 10), (OLD, 90)), ((NEW, 50), (OLD, 50))
NONE, WHOLE = ((NEW, 0), (OLD, 100)), ((NEW, 100), (OLD, 0))


@pytest.mark.parametrize(
    ("found", "after", "phase", "shares"),
    [
        (BOTH, DAY - SECOND, Phase.WAITING, TEN),
        (BOTH, DAY, Phase.ADVANCED, FIFTY),
        (BOTH, 30 * DAY, Phase.ADVANCED, FIFTY),
        (BOTH, -DAY, Phase.WAITING, TEN),  # the clock went back
        (UNDECIDED, DAY, Phase.EXTENDED, TEN),
        (UNDECIDED, 2 * DAY - SECOND, Phase.EXTENDED, TEN),
        (UNDECIDED, 2 * DAY, Phase.UNDECIDED, TEN),
        (BOTH[:1], DAY, Phase.EXTENDED, TEN),
        ((), 9 * DAY, Phase.UNDECIDED, TEN),
        ((evidence("accuracy"), evidence("errors", FAIL)), SECOND, Phase.ROLLED_BACK, NONE),
        ((evidence("accuracy", FAIL), evidence("errors")), 9 * DAY, Phase.ROLLED_BACK, NONE),
    ],
)
def test_a_stage_of_10_percent(
    found: tuple[GateEvidence, ...], after: timedelta, phase: Phase, shares: object
) -> None:
    made = wanted(shared(10, 90), past(10, *found), NOON + after)
    assert (made.phase, made.shares) == (phase, shares)


@pytest.mark.parametrize(
    ("change", "phase"),
    [
        ({}, Phase.ADVANCED),
        ({"since": NOON - DAY}, Phase.EXTENDED),
        ({"percent": 50}, Phase.EXTENDED),
        ({"stable": NEXT}, Phase.EXTENDED),
        ({"adapter": NEXT}, Phase.EXTENDED),
        ({"digests": {"adapter": "b" * 64, "stable": ""}}, Phase.EXTENDED),
        ({"digests": {}}, Phase.EXTENDED),
    ],
)
def test_live_evidence_is_of_this_stage_and_these_bytes(
    change: dict[str, object], phase: Phase
) -> None:
    errors = replace(evidence("errors"), **change)  # type: ignore[arg-type]
    assert wanted(shared(10, 90), past(10, BOTH[0], errors)).phase is phase


@pytest.mark.parametrize(
    ("digests", "phase"),
    [
        ({"golden": "9" * 64}, Phase.ADVANCED),
        ({"golden": "9" * 64, "terms": "accuracy_drop 9 pp, 1 x as set"}, Phase.EXTENDED),
        ({"golden": "8" * 64}, Phase.EXTENDED),
        ({"stable": "b" * 64}, Phase.EXTENDED),
    ],
)
def test_offline_evidence_holds_in_every_stage_for_the_same_golden_set(
    digests: dict[str, str], phase: Phase
) -> None:
    old = evidence("accuracy", percent=0, since=NOON - 9 * DAY)
    old = replace(old, digests={**old.digests, **digests})
    assert wanted(shared(10, 90), past(10, old, BOTH[1])).phase is phase


def test_a_version_that_is_only_kept_loaded_is_not_the_one_to_go_back_to() -> None:
    live = route(ALIAS, (NEW, 10, "s"), (OLD, 90, "s"), ("acme-support-tiny-v2.0.0", 0, "s"))
    assert dict(wanted(live, past(10, *BOTH)).shares)[OLD] == 50
    failed = wanted(live, past(10, evidence("errors", FAIL)))
    assert failed.shares == ((NEW, 0), (OLD, 100), ("acme-support-tiny-v2.0.0", 0))


def test_evidence_says_nothing_about_other_bytes_under_the_same_name() -> None:
    for name in (NEW, OLD):  # beside altered bytes nothing is shown either
        live = state(shared(10, 90), replace(loaded(name, "s"), digest="e" * 64))
        made = decide_rollouts(declared(), live, past(10, *BOTH), NOON + DAY).wanted[ALIAS]
        assert made.phase is Phase.EXTENDED


def test_a_stage_begins_anew_when_the_engine_changed() -> None:
    restarted = RolloutStage(NEW, 10, NOON, restarted=NOON + 3 * DAY)
    fresh = evidence("errors", since=NOON + 3 * DAY)
    before = past(10, BOTH[0], fresh, stages={ALIAS: restarted})
    assert wanted(shared(10, 90), before, NOON + 4 * DAY - SECOND).phase is Phase.WAITING
    assert wanted(shared(10, 90), before, NOON + 4 * DAY).phase is Phase.ADVANCED
    stale = replace(before, evidence={ALIAS: BOTH})
    assert wanted(shared(10, 90), stale, NOON + 4 * DAY).phase is Phase.EXTENDED


# --- before the first request


@pytest.mark.parametrize(
    ("live", "found", "phase", "shares"),
    [
        (ALONE, (), Phase.EVALUATING, NONE),
        (shared(0, 100), (), Phase.EVALUATING, NONE),
        (shared(0, 100), (evidence("accuracy", UNSURE, percent=0),), Phase.UNDECIDED, NONE),
        (shared(0, 100), (evidence("accuracy", FAIL, percent=0),), Phase.HELD, NONE),
        (shared(0, 100), (evidence("accuracy", percent=0),), Phase.ADVANCED, TEN),
        (ALONE, (evidence("accuracy", percent=0),), Phase.STARTED, TEN),
    ],
)
def test_a_version_is_judged_before_it_gets_traffic(
    live: Route, found: tuple[GateEvidence, ...], phase: Phase, shares: object
) -> None:
    made = wanted(live, past(None if live is ALONE else 0, *found))
    assert (made.phase, made.shares) == (phase, shares)
    assert made.salt == (NEW if phase in (Phase.STARTED, Phase.ADVANCED) else "salt")


def test_a_version_that_supersedes_another_takes_its_traffic_to_the_stable_one_first() -> None:
    made = wanted(shared(50, 50), past(50, *BOTH), what=declared(NEXT))
    assert (made.phase, made.shares) == (Phase.EVALUATING, ((NEXT, 0), (NEW, 0), (OLD, 100)))


def test_no_rollout_begins_that_could_not_be_taken_back() -> None:
    live = route(ALIAS, ("acme-support-tiny-v1.0.0", 100, "s"))
    ready = evidence("accuracy", stable="acme-support-tiny-v1.0.0", percent=0)
    made = wanted(live, past(None, ready))
    assert made.shares == (("acme-support-tiny-v1.0.0", 100),)
    assert "1.0.0 is not in the lock" in made.held


@pytest.mark.parametrize(
    ("peak_rpm", "low", "weight"), [(1.0, 25, 25), (50.0, 25, 10), (1.0, None, 10), (None, 25, 10)]
)
def test_little_traffic_begins_with_a_larger_share(
    peak_rpm: float | None, low: int | None, weight: int
) -> None:
    demand = None if peak_rpm is None else DemandSpec(peak_rpm, (9, 18))
    what = declared(rollout=replace(GATED, low_traffic=low), demand=demand)
    made = wanted(ALONE, past(None, evidence("accuracy", percent=0)), what=what)
    assert made.shares == ((NEW, weight), (OLD, 100 - weight))


def test_the_plan_shows_what_each_gate_said() -> None:
    made = wanted(shared(10, 90), past(10, *UNDECIDED))
    assert [(each.gate, each.threshold, each.status, each.detail) for each in made.gates] == [
        ("accuracy", "3 pp", "PASS", "PASS said"),
        ("errors", "2 pp", "INCONCLUSIVE", "INCONCLUSIVE said"),
    ]
    assert made.held == (
        "2.2.0 stays at 10 %: gate errors is INCONCLUSIVE (INCONCLUSIVE said); "
        "goes on until 2026-03-04 12:00 UTC"
    )


def test_a_golden_set_that_is_not_there_yet_is_no_evidence() -> None:
    what = replace(declared(), golden={GOLDEN: GoldenFacts("7" * 64, 10)})
    found = evidence("accuracy", percent=0, golden="9" * 64)
    assert wanted(shared(0, 100), past(0, found), what=what).phase is Phase.EVALUATING
