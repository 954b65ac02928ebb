"""A plan that is made from a live-state file is the plan that was made where the file was."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import Diagnostic, PlacementError
from fleet.history import GateEvidence, History
from fleet.plan import Plan
from fleet.planning.pipeline import make_plan
from fleet.resources import State
from fleet.rollouts.evidence import engine_of
from fleet.spec import FleetSpec
from plans.documents.live_file import KnownPast, dump, load_with_past
from tests.drawn import drawn
from tests.fleet.planning.builders import NOON
from tests.fleet.planning.simulator import World
from tests.fleet.planning.test_properties import fleets, usual
from tests.stories.test_stories import PLANNED, past_of

WITH_EVIDENCE = [story for story in PLANNED if past_of(story)[2].evidence]


def observed(live: State) -> State:
    """Return a live state with the facts that engines tell of managed servers."""
    servers = [server.name for server in live.servers().values() if server.digest]
    files = {name: f"{number:064x}" for number, name in enumerate(servers)}
    launches = {name: f"{number:012x}" for number, name in enumerate(servers)}
    return replace(live, bases=files, launches=launches, fleets=dict.fromkeys(servers, "f1"))


def judged(history: History, live: State) -> History:
    """Return a past in which the evidence was found on the servers that run now."""

    def on_these(evidence: GateEvidence) -> GateEvidence:
        name = evidence.adapter
        servers = tuple(a.server for a in live.adapters().values() if a.adapter == name)
        digests = {**evidence.digests, "base": engine_of(live, servers, ())}
        return replace(evidence, digests=digests)

    evidence = {alias: tuple(map(on_these, each)) for alias, each in history.evidence.items()}
    return replace(history, evidence=evidence)


@pytest.mark.parametrize("story", PLANNED, ids=lambda story: story.name)
def test_the_live_file_of_a_story_gives_its_plan(story: Path) -> None:
    """Without `bases` in the file, 8 of these plans differed: "judged with another engine"."""
    fleet, found, past, now = past_of(story)
    live = observed(found)
    history = judged(past, live)
    text = dump(live, KnownPast(history, fleet.hosts))
    there, known = load_with_past(text)
    assert (there, dump(there, known)) == (live, text)
    assert known.history is not None
    assert make_plan(fleet, there, known.history, now) == make_plan(fleet, live, history, now)


def test_there_are_stories_with_evidence() -> None:
    assert len(WITH_EVIDENCE) >= 5


@drawn
@usual
@given(st.lists(fleets(), min_size=2, max_size=2), st.sets(st.integers(0, 5), max_size=2))
def test_the_live_file_of_a_drawn_fleet_gives_its_plan(
    declared: list[FleetSpec], silent: set[int]
) -> None:
    world = World(NOON)
    first, second = declared
    try:
        world.apply(world.plan(first))
    except PlacementError:
        return
    names = list(world.live().servers())
    world.silent = {names[i]: "no answer in 3 s" for i in silent if i < len(names)}
    live = observed(world.live())
    there, _ = load_with_past(dump(live))
    assert outcome(second, there, world.history()) == outcome(second, live, world.history())


def outcome(fleet: FleetSpec, live: State, history: History) -> Plan | tuple[Diagnostic, ...]:
    """Return the plan, or why there is none."""
    try:
        return make_plan(fleet, live, history, NOON)
    except PlacementError as error:
        return error.diagnostics
