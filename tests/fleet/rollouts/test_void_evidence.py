"""I2: what was found, and what a person said of it, is about the engine, golden set and limit of
then; once they are others it counts no more."""

import pytest

from fleet.gates.decide import Verdict
from fleet.history.fold import fold_entries
from fleet.rollouts.status import rollout_statuses
from fleet.rollouts.targets import Phase
from plans.reports.rollouts import render_one, rollout_document
from tests.fleet.rollouts.gate_trials import ALIAS, NEW
from tests.fleet.rollouts.rollout_world import World, happen

CHANGES = {
    "engine": "another engine, base or flags",
    "golden": "another golden set",
    "limit": "another limit",
}


def at(percent: int) -> World:
    """Return a world in which 2.2.0 has got so far, and is loaded."""
    world = World(target=NEW)
    world.tick()
    while world.shares[NEW] < percent:
        happen(world, "pass", None)
        happen(world, "wait", 25)
        world.tick()
    return world


@pytest.mark.parametrize("percent", [0, 10, 50])
@pytest.mark.parametrize("change", CHANGES)
def test_a_pass_counts_until_something_changes_and_again_once_it_is_judged_anew(
    change: str, percent: int
) -> None:
    world = at(percent)
    happen(world, "pass", None)
    happen(world, change, 1)
    happen(world, "wait", 25)
    made = world.wanted()
    if change == "limit" and not percent:  # of a gate that is not asked yet
        assert made.phase is Phase.ADVANCED
        return
    assert (dict(made.shares)[NEW], made.phase) == (
        percent,
        Phase.EXTENDED if percent else Phase.EVALUATING,
    )
    assert f"which was judged with {CHANGES[change]}" in made.held
    detail = {each.detail for each in made.gates if each.status == "no evidence"}
    assert f"judged with {CHANGES[change]}" in detail
    for _ in range(2):  # the first says that the stage begins anew
        happen(world, "pass", None)
        happen(world, "wait", 25)
    assert dict(world.wanted().shares)[NEW] > percent


@pytest.mark.parametrize("change", CHANGES)
def test_an_approval_is_of_what_was_found_and_not_of_what_is_there_now(change: str) -> None:
    world = at(10)
    world.judge("accuracy", Verdict.INCONCLUSIVE)
    world.judge("errors", Verdict.INCONCLUSIVE)
    happen(world, "mark", "approve")
    happen(world, "wait", 25)
    assert world.wanted().phase is Phase.ADVANCED
    happen(world, change, 1)
    assert world.wanted().phase is Phase.EXTENDED
    assert "which was judged with" in world.wanted().held


@pytest.mark.parametrize("word", ["approve", "advance"])
@pytest.mark.parametrize("change", ["engine", "golden"])
def test_what_was_said_before_a_stage_began_anew_counts_no_more_and_it_is_said(
    word: str, change: str
) -> None:
    world = at(10)
    for gate in ("accuracy", "errors"):
        world.judge(gate, Verdict.INCONCLUSIVE)
    happen(world, "mark", word)
    happen(world, change, None)
    for gate in ("accuracy", "errors"):
        world.judge(gate, Verdict.INCONCLUSIVE)
    happen(world, "wait", 25)
    made = world.wanted()
    assert (made.phase, dict(made.shares)[NEW]) == (Phase.EXTENDED, 10)
    said = "approval" if word == "approve" else word
    assert f"stays at 10 % (the {said} by ana of 2026-03-0" in made.held
    assert "counts no more: since 2026-03-0" in made.held
    routes = world.state.routes()
    status = rollout_statuses(world.fleet, {ALIAS: made}, world.history, routes)[ALIAS]
    shown = rollout_document(world.fleet, status)
    assert shown["marks"][0]["void"] == shown["since"]
    assert f"{word:12} void since 2026-03-0" in render_one(shown, world.now)
    happen(world, "mark", word)
    assert world.wanted().phase is Phase.ADVANCED
    assert "counts no more" not in world.wanted().held


def test_a_hold_and_an_abort_outlive_a_change_of_engine() -> None:
    for word, phase in (("hold", Phase.PAUSED), ("abort", Phase.ROLLED_BACK)):
        world = at(10)
        happen(world, "pass", None)
        happen(world, "mark", word)
        happen(world, "engine", None)
        happen(world, "pass", None)
        happen(world, "wait", 25)
        assert world.wanted().phase is phase


def test_the_order_of_the_ledger_counts_and_not_its_clocks() -> None:
    world = at(10)
    world.judge("accuracy", Verdict.INCONCLUSIVE)
    happen(world, "wait", -30)  # whoever approves has a clock that is behind
    happen(world, "mark", "approve")
    happen(world, "wait", 60)
    assert world.wanted().phase is Phase.ADVANCED
    assert fold_entries(world.entries).marks[ALIAS][0].void is None
