"""The laws of a rollout, each by itself, over stories of whatever may be found, said and declared.

Where a law is about something else than shares its test stands elsewhere: the hash chain and the
lease in `tests/runtime/apply/test_ledger.py`, what a rollback may import in `pyproject.toml`,
that steps name what is loaded in `test_properties.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.conditions import UNITS, Gate
from fleet.gates import Tally, Verdict, Window, judge_live, judge_soaking, soaking
from fleet.history import History, Hold
from fleet.pace import Phase, Wanted, pace
from fleet.retention import retained
from tests.fleet.planning.builders import (
    DAY,
    NOON,
    adapter,
    digest_of,
    fleet,
    history,
    state,
)
from tests.fleet.planning.test_pace_invariants import (
    HOUR,
    WEIGHTS,
    World,
    events,
    halted,
    happen,
    permitted,
    ways_back,
)
from tests.fleet.planning.trials import ALIAS, GATED, NEW, NEXT, OLD

WhenUnsure = Literal["hold", "roll_back"]


@dataclass(frozen=True)
class Tick:
    """What stood, what was asked, and what the pace said."""

    world: World
    shares: dict[str, int]
    history: History
    said: Wanted

    @property
    def target(self) -> str:
        return self.world.target

    @property
    def before(self) -> int:
        return self.shares.get(self.target, 0)

    @property
    def after(self) -> int:
        return dict(self.said.shares).get(self.target, 0)

    @property
    def staged(self) -> bool:
        """Whether the version goes up by its stages, and is not simply the one that stays."""
        return self.after > self.before and self.said.phase in (Phase.STARTED, Phase.ADVANCED)


def weights_are_whole(tick: Tick) -> None:
    """I1: shares sum to 100 and name only versions that the lock knows."""
    assert sum(percent for _, percent in tick.said.shares) == 100
    assert {name for name, _ in tick.said.shares} <= {*tick.world.fleet.versions}


def no_rise_without_a_pass(tick: Tick) -> None:
    """I2: more traffic takes a PASS of every gate for these bytes, or a person."""
    if tick.staged:
        assert permitted(tick.world, tick.history)


def no_rise_while_it_is_kept(tick: Tick) -> None:
    """A hold keeps a version where it is until it is resumed, a pause until its time."""
    if tick.staged:
        assert not halted(tick.world, tick.history)


def a_way_back_stays(tick: Tick) -> None:
    """I3: the version before stays loaded through the rollout and its retention."""
    served = {name for name, percent in tick.shares.items() if percent}
    kept = {name for name, _ in tick.said.shares}
    for name in {*tick.shares} - kept:
        since = tick.history.cutovers.get(name)
        hold = tick.history.holds.get(ALIAS, {}).get(name)
        idle = since or (hold.at if hold else None)
        assert name not in served
        assert idle is not None
        assert tick.world.now - idle >= GATED.retain


def one_rollout_at_a_time(tick: Tick) -> None:
    """I4: at most one version is on its way beside the one that answers the rest."""
    assert sum(percent > 0 for _, percent in tick.said.shares) <= 2


def rejected_bytes_stay_out(tick: Tick) -> None:
    """I6: bytes that a gate has failed get nothing more without an override."""
    rejected = digest_of(tick.target) in tick.history.rejected.get(ALIAS, {})
    if rejected and not tick.world.overridden:
        assert tick.after <= tick.before
        assert not tick.staged


def an_abort_lasts_until_it_is_released(tick: Tick) -> None:
    """Whatever is declared, said of other versions and found in between."""
    out: set[str] = set()
    for each in tick.world.entries:
        if each.kind == "released":
            out.clear()
        elif each.kind == "rollout_marked" and each.data["mark"] == "abort":
            out.add(each.data["adapter"])
    assert tick.target not in out or tick.after <= tick.before


def what_was_taken_back_waits_for_a_person(tick: Tick) -> None:
    """By whatever it was taken back, and whatever was declared in between."""
    world, marks = tick.world, tick.history.marks.get(ALIAS, ())
    said = {each.mark for each in marks if each.adapter == tick.target}
    answered = (world.overridden and tick.target == NEW) or said & {"approve", "advance"}
    assert answered or not (tick.staged and tick.target in world.taken)


def no_stage_is_skipped(tick: Tick) -> None:
    """I7: shares rise by one declared stage at a time; they may fall at any time."""
    if tick.staged:
        assert tick.after == WEIGHTS[WEIGHTS.index(tick.before) + 1]


def the_same_question_has_the_same_answer(tick: Tick) -> None:
    """I9: the pace is a function of its arguments, and asking again at once changes nothing."""
    assert tick.world.wanted() == tick.said
    earlier = pace(tick.world.fleet, tick.world.state, tick.history, NOON - 99 * DAY).wanted[ALIAS]
    said = {each.mark for each in tick.history.marks.get(ALIAS, ()) if each.adapter == tick.target}
    if not said & {"advance", "approve"} and earlier.phase is not Phase.RETURNED:
        assert dict(earlier.shares).get(tick.target, 0) <= max(tick.before, tick.after)


LAWS = (
    weights_are_whole,
    no_rise_without_a_pass,
    no_rise_while_it_is_kept,
    a_way_back_stays,
    one_rollout_at_a_time,
    rejected_bytes_stay_out,
    an_abort_lasts_until_it_is_released,
    what_was_taken_back_waits_for_a_person,
    no_stage_is_skipped,
    the_same_question_has_the_same_answer,
)
stories = st.lists(events, min_size=4, max_size=20)


def play(
    story: list[tuple[str, Any]], law: Callable[[Tick], None], when_unsure: WhenUnsure = "hold"
) -> World:
    world = World(rollout=replace(GATED, when_unsure=when_unsure))
    world.target = NEXT
    for kind, what in story:
        happen(world, kind, what)
        law(Tick(world, world.shares, world.history, world.wanted()))
        world.tick()
    return world


@pytest.mark.parametrize("law", LAWS)
@given(story=stories, when_unsure=st.sampled_from(["hold", "roll_back"]))
@settings(max_examples=25)
def test_a_law_holds_in_every_story(
    law: Callable[[Tick], None], story: list[tuple[str, Any]], when_unsure: WhenUnsure
) -> None:
    play(story, law, when_unsure)


@given(story=stories)
@settings(max_examples=40)
def test_a_failure_takes_the_traffic_back_from_every_state(story: list[tuple[str, Any]]) -> None:
    world = play(story, weights_are_whole)
    world.overridden = False
    back = ways_back(world.shares, world.target, world.history)
    if not world.shares.get(world.target) or not back or world.target == OLD:
        return
    world.judge("errors", Verdict.FAIL)
    world.tick()
    assert world.shares[world.target] == 0
    assert world.wanted().phase is Phase.HELD


@given(story=stories, silence=st.integers(1, 9))
@settings(max_examples=40)
def test_the_absence_of_evidence_raises_nothing_from_any_state(
    story: list[tuple[str, Any]], silence: int
) -> None:
    """I5, of the pace: what was said and overridden ends, and time alone moves no stage up."""
    world = play(story, weights_are_whole)
    world.overridden = False
    world.write("released", alias=ALIAS, adapter=None, route=None)
    world.tick()
    for _ in range(silence):
        world.now += timedelta(hours=30)
        tick = Tick(world, world.shares, world.history, world.wanted())
        if tick.staged and tick.before:
            stage = world.history.stages[ALIAS]
            evidence = world.history.evidence.get(ALIAS, ())
            of_stage = {each.gate for each in evidence if each.since == stage.since}
            assert "errors" in of_stage
        world.tick()


@given(
    declared_minor=st.integers(0, 8),
    rolled_back=st.sets(st.integers(0, 8), max_size=3),
    replaced=st.dictionaries(st.integers(0, 8), st.integers(0, 400)),
    answered=st.sets(st.integers(0, 8)),
)
@settings(max_examples=80)
def test_three_earlier_versions_are_never_deleted(
    declared_minor: int, rolled_back: set[int], replaced: dict[int, int], answered: set[int]
) -> None:
    """I3, of the library: three to go back to stay, and none counts that was rolled back or, as
    far as the ledger knows of any, never had all traffic."""
    names = [f"acme-support-tiny-v1.{minor}.0" for minor in range(9)]
    what = fleet(adapter(names[declared_minor]), known=names)
    past = history(
        holds=[Hold(names[each], NOON, "ana", "") for each in sorted(rolled_back)],
        cutovers={names[each]: NOON - hours * HOUR for each, hours in replaced.items()},
    )
    past = replace(past, answered_all=frozenset(names[each] for each in answered))
    found = retained(what, state(), past, NOON, copies=(), busy={})
    kept = {each.name for each in found.versions if each.needed}
    good = {names[each] for each in range(declared_minor) if each not in rolled_back}
    assert len(kept & good) >= min(3, len(good))
    proven = good & past.answered_all
    assert kept & proven >= {*sorted(proven)[-3:]}
    everything_counts = retained(what, state(), history(), NOON, copies=(), busy={}).versions
    assert {each.name for each in everything_counts if each.needed} <= kept
    assert {names[each] for each, hours in replaced.items() if hours < 7 * 24} <= kept
    assert names[declared_minor] in kept


@given(
    metric=st.sampled_from(sorted({*UNITS} - {"accuracy_drop", "hallucination_rise"})),
    windows=st.integers(0, 30),
    requests=st.integers(0, 3),
)
@settings(max_examples=80)
def test_the_absence_of_data_is_neither_pass_nor_fail(
    metric: str, windows: int, requests: int
) -> None:
    """I5, of the gates: few requests, or many of which nothing is known, tell nothing."""
    gate = Gate("g", metric, 2, UNITS[metric][0], min_requests=100)
    seen = [
        Window(NOON + at * DAY, NOON + (at + 1) * DAY, Tally(requests), Tally(requests * 9))
        for at in range(windows)
    ]
    assert judge_live(gate, seen).verdict is Verdict.INCONCLUSIVE
    if metric != "neighbour_ratio":
        assert judge_soaking(soaking(gate), seen, seen).verdict is Verdict.INCONCLUSIVE
    unknown = [replace(each, canary=Tally(5000), stable=Tally(5000)) for each in seen]
    if metric not in ("error_rate", "error_rate_rise"):
        assert judge_live(gate, unknown).verdict is Verdict.INCONCLUSIVE
    away = judge_live(gate, unknown, missing=("a gateway",))
    assert away.verdict is Verdict.INCONCLUSIVE
