"""I9: whenever and however often it is asked, a rollout gets where it should, and no further."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.gates.decide import Verdict
from fleet.rollouts.decide import decide_rollouts
from fleet.rollouts.targets import Phase
from tests.drawn import drawn, examples
from tests.fleet.planning.builders import NOON
from tests.fleet.rollouts.gate_trials import ALIAS, NEW, OLD, declared
from tests.fleet.rollouts.rollout_world import HOUR, World, happen


@drawn
@given(st.lists(st.integers(1, 40), min_size=12, max_size=40))
@settings(max_examples=examples(10, 20))
def test_a_healthy_version_is_through_in_time_however_irregular_the_ticks(
    waits: list[int],
) -> None:
    world = World()
    world.target = NEW
    world.tick()
    for hours in [*waits, *[25] * 12]:
        happen(world, "pass", None)
        world.tick()
        happen(world, "wait", hours)
    assert world.shares[NEW] == 100
    assert world.wanted().phase in (Phase.SOAKING, Phase.COMPLETE)


@given(st.lists(st.integers(1, 40), min_size=4, max_size=12), st.integers(1, 200))
@settings(max_examples=30)
def test_a_paused_version_goes_on_by_itself_when_its_time_is_over(
    waits: list[int], hours: int
) -> None:
    world = World()
    world.target = NEW
    for _ in range(2):  # loaded and judged, then at its first weight
        world.tick()
        happen(world, "pass", None)
    happen(world, "pause", hours)
    before, end = world.shares, world.now + hours * HOUR
    for wait in waits:
        happen(world, "pass", None)
        world.tick()
        assert world.now >= end or world.shares == before
        happen(world, "wait", wait)
    world.now = max(world.now, end)
    for _ in range(4):
        happen(world, "pass", None)
        world.tick()
        happen(world, "wait", 25)
    assert world.shares[NEW] == 100


@given(st.lists(st.integers(-40, 40), max_size=20))
@settings(max_examples=30)
def test_the_absence_of_data_moves_nothing(waits: list[int]) -> None:
    world = World()
    world.target = NEW
    for hours in waits:
        happen(world, "wait", hours)
        world.judge("errors", Verdict.INCONCLUSIVE)
        world.tick()
        assert world.shares[OLD] == 100


def test_ten_thousand_aliases_are_paced_by_the_rules_of_one() -> None:
    world = World()
    world.target = NEW
    one = declared()
    adapters = {ALIAS: one.adapters[ALIAS]}
    for number in range(3):
        name = replace(one.adapters[ALIAS].name, client=f"c{number}")
        adapters[name.alias] = replace(one.adapters[ALIAS], name=name)
    found = decide_rollouts(replace(one, adapters=adapters), world.state, world.history, NOON)
    assert {each.phase for alias, each in found.wanted.items() if alias != ALIAS} == {Phase.FIRST}
    assert found.wanted[ALIAS].phase is Phase.EVALUATING
