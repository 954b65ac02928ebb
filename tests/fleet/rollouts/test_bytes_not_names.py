"""I6: what was taken out, given up or said is about bytes: another name is no way past it, and
another version that has got the name does not suffer from it."""

from dataclasses import replace

import pytest

from fleet.history.blocks import FAILED, fallback_check, same_bytes
from fleet.history.values import Block, BlockKind, History, RolloutMark
from fleet.rollouts.evidence import due_gates
from fleet.rollouts.status import rollout_statuses
from fleet.rollouts.targets import Phase
from tests.fleet.planning.builders import DAY, NOON, digest_of, history, loaded, route, state
from tests.fleet.rollouts.gate_trials import (
    ALIAS,
    ALONE,
    FAIL,
    GATED,
    NEW,
    NEXT,
    OLD,
    declared,
    evidence,
    mark,
    past,
    shared,
    wanted,
)
from tests.fleet.rollouts.rollout_world import TWIN, World, happen

GIVEN_UP = replace(GATED, when_unsure="roll_back")
BEFORE = digest_of("what 2.2.0 was before")


def taken_out(how: str) -> World:
    """Return a world in which 2.2.0 had 10 % and has lost them."""
    world = World(target=NEW, rollout=GIVEN_UP if how == "given up" else GATED)
    world.tick()
    happen(world, "pass", None)
    world.tick()
    assert world.shares[NEW] == 10
    match how:
        case "failed":
            happen(world, "judge", ("errors", FAIL))
        case "given up":
            happen(world, "wait", 49)
        case "aborted":
            happen(world, "mark", "abort")
        case _:
            world.roll_back()
    world.tick()
    assert world.shares[NEW] == 0
    return world


@pytest.mark.parametrize("how", ["failed", "given up", "aborted", "rolled back"])
def test_what_lost_its_traffic_stays_out_under_another_name_until_it_is_released(how: str) -> None:
    world = taken_out(how)
    world.target = TWIN
    for _ in range(3):
        happen(world, "pass", None)
        happen(world, "wait", 25)
        made = world.wanted()
        assert (made.phase, dict(made.shares).get(TWIN, 0)) == (Phase.HELD, 0)
        world.tick()
    versions = world.fleet.versions
    assert same_bytes(world.history, versions, ALIAS, TWIN) == {NEW, TWIN}
    for name in sorted({NEW, TWIN}):
        world.write("released", alias=ALIAS, adapter=name, route=None)
    happen(world, "pass", None)
    world.tick()
    assert world.shares[TWIN] == 10
    assert world.wanted().phase is not Phase.ROLLED_BACK
    assert world.history.fell.get(ALIAS, {}).keys() <= {NEW}


def test_a_person_may_let_given_up_bytes_begin_under_their_new_name() -> None:
    world = taken_out("given up")
    world.target = TWIN
    world.tick()
    happen(world, "mark", "approve")
    happen(world, "pass", None)
    world.tick()
    assert world.shares[TWIN] == 10
    world.tick()
    assert world.shares[TWIN] == 10


HELD = Block(BlockKind.HELD, NEW, NOON, "ana", "wrong dates", "", BEFORE)
NAME_ONLY = {
    "rolled back": past(None, holds={ALIAS: {NEW: HELD}}),
    "aborted": past(None, marks=[replace(mark("abort"), digest=BEFORE)]),
    "failed": past(None, rejected={ALIAS: {BEFORE: evidence("errors", FAIL, adapter=NEW)}}),
    "given up": past(None, fell={ALIAS: {NEW: replace(HELD, kind=BlockKind.ROLLED_BACK)}}),
}


@pytest.mark.parametrize("how", NAME_ONLY)
def test_other_bytes_that_have_got_the_name_begin_like_any_other(how: str) -> None:
    before = NAME_ONLY[how]
    what = declared(rollout=replace(GIVEN_UP, gates=()))
    made = wanted(ALONE, before, what=what)
    assert (made.phase, made.shares) == (Phase.STARTED, ((NEW, 10), (OLD, 90)))
    assert wanted(shared(10, 90), replace(before, stages=past(10).stages), NOON, what).phase is (
        Phase.WAITING
    )
    there = state(shared(0, 100), loaded(NEW, "s"), loaded(OLD, "s"))
    gated = declared(rollout=GIVEN_UP)
    assert [each.adapter for each in due_gates(gated, there, before, NOON)] == [NEW]
    assert rollout_statuses(gated, {ALIAS: made}, before, there.routes())[ALIAS].released


@pytest.mark.parametrize("word", ["approve", "advance", "extend"])
def test_what_was_said_of_other_bytes_lets_nothing_go_on(word: str) -> None:
    said: RolloutMark = replace(mark("approve"), mark=word, digest=BEFORE)  # type: ignore[arg-type]
    live, late = shared(10, 90), NOON + 2 * DAY
    assert wanted(live, past(10, marks=[said]), late).phase is Phase.UNDECIDED
    same = replace(said, digest=digest_of(NEW), at=NOON + DAY)
    phase = Phase.EXTENDED if word == "extend" else Phase.ADVANCED
    assert wanted(live, past(10, marks=[same]), late).phase is phase


def test_a_hold_is_of_whatever_has_the_name() -> None:
    said = replace(mark("hold"), digest=BEFORE)
    assert wanted(shared(10, 90), past(10, marks=[said])).phase is Phase.PAUSED


def test_nobody_falls_back_on_bytes_that_were_taken_out_under_another_name() -> None:
    live = route(ALIAS, (NEXT, 100, "s"), (NEW, 0, "s"), (OLD, 0, "s"))
    before = past(
        100,
        evidence("errors", FAIL, adapter=NEXT, percent=100),
        adapter=NEXT,
        answered_all=frozenset({OLD, NEW}),
        cutovers={OLD: NOON, NEW: NOON},
    )
    assert dict(wanted(live, before, what=declared(NEXT)).shares)[NEW] == 100
    other = "acme-support-tiny-v2.0.0"
    out = Block(BlockKind.HELD, other, NOON, "ana", "bad", digest=digest_of(NEW))
    held = replace(before, holds={ALIAS: {other: out}})
    assert dict(wanted(live, held, what=declared(NEXT)).shares) == {NEXT: 0, NEW: 0, OLD: 100}


def test_a_rollback_passes_over_them_and_says_whose_they_are() -> None:
    digests = {name: digest_of(name) for name in (NEXT, NEW, OLD)}
    out = Block(BlockKind.HELD, NEXT, NOON, "ana", "bad", digest=digest_of(NEW))
    before: History = replace(
        history(holds=[out]), answered_all=frozenset({OLD, NEW}),
        rejected={ALIAS: {digest_of(OLD): evidence("errors", FAIL)}},
    )  # fmt: skip
    assert fallback_check(before, ALIAS, digests, (NEW, OLD)).unfit == {
        NEW: "it has the bytes of 2.3.0, which was taken out",
        OLD: FAILED,
    }
