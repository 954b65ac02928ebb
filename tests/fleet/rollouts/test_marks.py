"""What people and the calendar let a version do, whatever its gates say."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from fleet.history.values import Block, BlockKind, GateEvidence, RolloutMark, RolloutStage
from fleet.rollouts.targets import Phase
from tests.fleet.planning.builders import DAY, NOON, digest_of, route
from tests.fleet.rollouts.gate_trials import (
    ALIAS,
    ALONE,
    DECEMBER,
    FAIL,
    GATED,
    NEW,
    NEXT,
    OLD,
    PASS,
    UNSURE,
    declared,
    evidence,
    mark,
    override,
    past,
    shared,
    wanted,
)
from tests.fleet.rollouts.rollout_world import World, happen

SECOND = timedelta(seconds=1)
BOTH = (evidence("accuracy"), evidence("errors"))
UNDECIDED = (evidence("accuracy"), evidence("errors", UNSURE))
TEN, NONE = ((NEW, 10), (OLD, 90)), ((NEW, 0), (OLD, 100))


@pytest.mark.parametrize(
    ("said", "found", "after", "phase"),
    [
        (mark("hold"), BOTH, DAY, Phase.PAUSED),
        (mark("pause"), BOTH, 9 * DAY, Phase.PAUSED),  # without an end it waits for `resume`
        (mark("pause", until=NOON + 2 * DAY), BOTH, 2 * DAY - SECOND, Phase.PAUSED),
        (mark("pause", until=NOON + 2 * DAY), BOTH, 2 * DAY, Phase.ADVANCED),
        (mark("pause", until=NOON + 2 * DAY), BOTH, -DAY, Phase.PAUSED),
        (mark("pause", until=NOON), BOTH, SECOND, Phase.WAITING),
        (mark("pause", until=NOON + 9 * DAY), UNDECIDED, 8 * DAY, Phase.PAUSED),
        (mark("pause", until=NOON + 9 * DAY, who=NEXT), BOTH, DAY, Phase.ADVANCED),
        (mark("pause", until=NOON + 9 * DAY), (evidence("errors", FAIL),), DAY, Phase.ROLLED_BACK),
        (mark("hold", who=NEXT), BOTH, DAY, Phase.ADVANCED),
        (mark("hold"), (evidence("errors", FAIL),), DAY, Phase.ROLLED_BACK),
        (mark("approve"), UNDECIDED, DAY - SECOND, Phase.WAITING),
        (mark("approve"), UNDECIDED, DAY, Phase.ADVANCED),
        (mark("approve"), (), 9 * DAY, Phase.ADVANCED),
        (mark("approve", since=NOON - DAY), UNDECIDED, 9 * DAY, Phase.UNDECIDED),
        (mark("approve"), (evidence("errors", FAIL),), DAY, Phase.ROLLED_BACK),
        (mark("advance"), (), SECOND, Phase.ADVANCED),
        (mark("advance", since=None), (), SECOND, Phase.WAITING),
        (mark("advance", percent=50), (), SECOND, Phase.WAITING),
        (mark("advance"), (evidence("errors", FAIL),), DAY, Phase.ROLLED_BACK),
        (mark("extend", at=NOON + 3 * DAY), UNDECIDED, 5 * DAY - SECOND, Phase.EXTENDED),
        (mark("extend", at=NOON + 3 * DAY), UNDECIDED, 5 * DAY, Phase.UNDECIDED),
        (mark("extend", at=NOON + SECOND), UNDECIDED, 2 * DAY, Phase.EXTENDED),
        (mark("extend"), BOTH, DAY, Phase.ADVANCED),
        (mark("extend", since=NOON - DAY), UNDECIDED, 2 * DAY, Phase.UNDECIDED),
        (mark("extend"), (evidence("errors", FAIL),), DAY, Phase.ROLLED_BACK),
        (mark("abort"), BOTH, DAY, Phase.ROLLED_BACK),
        (mark("abort", who=NEXT), BOTH, DAY, Phase.ADVANCED),
    ],
)
def test_what_people_say(
    said: RolloutMark, found: tuple[GateEvidence, ...], after: timedelta, phase: Phase
) -> None:
    assert wanted(shared(10, 90), past(10, *found, marks=[said]), NOON + after).phase is phase


def test_a_golden_set_that_cannot_tell_is_approved_once_for_all_stages() -> None:
    unsure = evidence("accuracy", UNSURE, percent=0, at=NOON - DAY)
    said = mark("approve", since=NOON - DAY, at=NOON - SECOND, percent=0)
    begun = past(0, unsure, marks=[said], entered=NOON - DAY)
    made = wanted(shared(0, 100), begun, NOON)
    assert (made.phase, made.why) == (
        Phase.ADVANCED, "2.2.0 begins at 10 %: approved by ana, accuracy INCONCLUSIVE"
    )  # fmt: skip
    accepts = declared(overrides=(override(),))
    failed = past(0, replace(unsure, finding=evidence("accuracy", FAIL).finding), entered=NOON)
    over = wanted(shared(0, 100), failed, NOON, accepts).why
    assert over.startswith("2.2.0 begins at 10 %: accuracy accepted by ben until 2026-")
    passed = past(0, replace(unsure, finding=evidence("accuracy", PASS).finding), entered=NOON)
    assert "has passed its golden sets" in wanted(shared(0, 100), passed, NOON).why
    later = past(10, unsure, BOTH[1], marks=[said])
    assert wanted(shared(10, 90), later).phase is Phase.ADVANCED
    newer = past(10, replace(unsure, seq=19), BOTH[1], marks=[said])
    assert wanted(shared(10, 90), newer).phase is Phase.EXTENDED


def test_an_abort_outlives_that_of_the_next_version() -> None:
    world = World(target=NEW)
    for version in (NEW, NEXT):
        world.target = version
        happen(world, "mark", "abort")
        world.tick()
    world.target = NEW
    happen(world, "pass", None)
    assert (world.wanted().phase, world.shares) == (Phase.HELD, {OLD: 100})
    world.write("released", alias=ALIAS, adapter=NEW, route=None)
    happen(world, "pass", None)
    assert world.wanted().phase is Phase.STARTED
    world.target = NEXT
    assert world.wanted().phase is Phase.HELD


def test_who_holds_it_and_why_is_said() -> None:
    made = wanted(shared(10, 90), past(10, *BOTH, marks=[mark("hold")]))
    assert made.held == ("2.2.0 stays at 10 %: held by ana since 2026-03-02 12:00 UTC (we looked)")


def test_a_pause_says_until_when_and_a_hold_beside_it_lasts_longer() -> None:
    pause, hold = mark("pause", until=NOON + 2 * DAY), mark("hold")
    made = wanted(shared(10, 90), past(10, *BOTH, marks=[pause]))
    assert made.held == (
        "2.2.0 stays at 10 %: paused by ana until 2026-03-04 12:00 UTC (we looked), then it goes on"
    )
    early = wanted(ALONE, past(None, evidence("accuracy", percent=0), marks=[pause]))
    assert (early.phase, early.shares) == (Phase.PAUSED, NONE)
    assert "2.2.0 waits at 0 %: paused by ana until" in early.held
    for marks in ([pause, hold], [hold, pause]):
        both = wanted(shared(10, 90), past(10, *BOTH, marks=marks), NOON + 3 * DAY)
        assert (both.phase, "held by ana since" in both.held) == (Phase.PAUSED, True)


# --- rejected bytes


def test_rejected_bytes_stay_out_whoever_asks_for_them() -> None:
    failed = evidence("errors", FAIL)
    made = wanted(shared(0, 100), past(0, failed), NOON + 300 * DAY)
    assert made.phase is Phase.HELD
    assert made.held.startswith(
        "2.2.0 held: digest 61636d652d73 rejected by evidence #17, gate errors "
        "(FAIL said). To accept it all the same, declare an override"
    )
    renamed = past(None, rejected={ALIAS: {failed.digests["adapter"]: failed}})
    versions = {**declared(NEXT).versions, NEXT: declared().versions[NEW]}
    again = wanted(ALONE, renamed, what=replace(declared(NEXT), versions=versions))
    assert (again.phase, again.shares) == (Phase.HELD, ((OLD, 100),))
    assert wanted(ALONE, renamed, what=declared(NEXT)).phase is Phase.EVALUATING


def test_a_canary_gets_no_more_because_the_version_beside_it_has_failed() -> None:
    failed = replace(evidence("accuracy", FAIL), adapter=OLD, digests={"adapter": digest_of(OLD)})
    rejected = {ALIAS: {digest_of(OLD): failed}}
    made = wanted(shared(10, 90), past(10, rejected=rejected), what=declared(OLD))
    assert (made.phase, made.shares) == (Phase.HELD, TEN)


def test_what_was_kept_out_is_no_way_back() -> None:
    failed = evidence("errors", FAIL, percent=100)
    bad = replace(failed, adapter=NEXT, digests={"adapter": digest_of(NEXT)})
    both = {digest_of(NEW): failed, digest_of(NEXT): bad}
    live = route(ALIAS, (NEW, 100, "s"), (NEXT, 0, "s"), (OLD, 0, "s"))
    before = past(
        100, failed, rejected={ALIAS: both}, answered_all=frozenset({OLD, NEXT}),
        cutovers={OLD: NOON, NEXT: NOON},
    )  # fmt: skip
    assert dict(wanted(live, before).shares) == {NEW: 0, NEXT: 0, OLD: 100}


def test_a_failure_after_the_cut_over_takes_it_back_while_the_old_version_is_loaded() -> None:
    failed = evidence("errors", FAIL, percent=100)
    assert wanted(shared(100, 0), past(100)).phase is Phase.SOAKING
    assert wanted(shared(100, 0), past(100, failed)).shares == NONE
    alone = route(ALIAS, (NEW, 100, "s"))
    given_up = route(ALIAS, (NEW, 100, "s"), (NEXT, 0, "s"))  # never had all of the traffic
    for live in (alone, given_up):
        made = wanted(live, past(100, failed))
        assert (made.phase, dict(made.shares)[NEW]) == (Phase.HELD, 100)
    assert made.held == ("2.2.0 is out, and keeps its traffic, for none to go back to is loaded")


@pytest.mark.parametrize(
    ("given", "phase"),
    [
        (override(), Phase.ADVANCED),
        (override(date(2026, 3, 3)), Phase.ADVANCED),
        (override(date(2026, 3, 2)), Phase.ROLLED_BACK),
        (override(date(2026, 12, 1), "errors"), Phase.ADVANCED),
        (override(date(2026, 12, 1), "accuracy"), Phase.ROLLED_BACK),
        (override(accept="b" * 12), Phase.ROLLED_BACK),
        (override(alias="acme-faq"), Phase.ROLLED_BACK),
    ],
)
def test_an_override_accepts_one_digest_until_a_day(given: object, phase: Phase) -> None:
    what = declared(overrides=(given,))  # type: ignore[arg-type]
    before = past(10, BOTH[0], evidence("errors", FAIL))
    made = wanted(shared(10, 90), before, what=what)
    assert made.phase is phase
    if phase is Phase.ADVANCED:
        status = {each.gate: each.status for each in made.gates}
        assert status["errors"].startswith("accepted by ben until 2026-")


def test_an_override_lifts_a_gates_hold_and_never_a_persons() -> None:
    what = declared(overrides=(override(),))
    for gate, phase in (("errors", Phase.STARTED), ("", Phase.HELD)):
        hold = Block(BlockKind.HELD, NEW, NOON, "ana", "went wrong", gate)
        before = past(0, evidence("errors", FAIL), holds={ALIAS: {NEW: hold}})
        accepted = replace(what, rollouts={"standard": replace(GATED, gates=("errors",))})
        assert wanted(shared(0, 100), before, what=accepted).phase is phase


def test_an_undecided_rollout_may_be_declared_to_end_by_itself() -> None:
    what = declared(rollout=replace(GATED, when_unsure="roll_back"))
    late = NOON + 2 * DAY
    made = wanted(shared(10, 90), past(10, *UNDECIDED), late, what)
    assert (made.phase, made.shares) == (Phase.ROLLED_BACK, NONE)
    fell = past(
        0, *UNDECIDED, entered=late, fell={ALIAS: {NEW: Block(BlockKind.ROLLED_BACK, NEW, NOON)}}
    )
    again = wanted(shared(0, 100), fell, late + DAY, what)
    assert (again.phase, again.shares) == (Phase.HELD, NONE)
    assert "could not tell in the time they had" in again.held
    later = replace(
        fell, stages={ALIAS: RolloutStage(NEXT, 0, late)}
    )  # another one was declared since
    assert wanted(shared(0, 100), later, late + DAY, what).phase is Phase.HELD
    assert wanted(shared(0, 100), later, late + DAY).phase is Phase.STARTED  # no longer declared so
    for gates, phase in (((), Phase.STARTED), (("accuracy",), Phase.HELD)):
        answered = replace(what, overrides=(override(DECEMBER, *gates),))
        assert wanted(shared(0, 100), later, late + DAY, answered).phase is phase
    said = [mark("approve", since=None, percent=None)]
    begun = replace(later, marks={ALIAS: tuple(said)})
    assert wanted(shared(0, 100), begun, late + DAY, what).phase is Phase.STARTED


def test_what_was_given_up_does_not_begin_again_after_another_version() -> None:
    world = World(target=NEW, rollout=replace(GATED, when_unsure="roll_back"))
    for _ in range(2):  # loaded and judged, then at its first weight
        world.tick()
        happen(world, "judge", ("accuracy", PASS))
    assert world.shares[NEW] == 10
    happen(world, "wait", 49)
    world.tick()
    assert world.shares[NEW] == 0
    world.target = NEXT
    for _ in range(2):
        world.tick()
        happen(world, "judge", ("accuracy", PASS))
    assert world.shares[NEXT] == 10
    world.target = NEW
    happen(world, "judge", ("accuracy", PASS))
    assert (world.wanted().phase, dict(world.wanted().shares)[NEW]) == (Phase.HELD, 0)
    happen(world, "release", None)
    assert world.wanted().phase is Phase.STARTED
