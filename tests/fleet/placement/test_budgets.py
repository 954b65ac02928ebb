"""Moves: nothing optional beyond what was asked for, and each that happens is told."""

from dataclasses import replace

from hypothesis import assume, event, given
from hypothesis import strategies as st

from fleet.errors import PlacementError
from fleet.history.fold import fold_entries
from fleet.placement.model.state import SearchLimits
from fleet.plan import Plan
from fleet.planning.pipeline import make_plan
from fleet.resources import LoadedAdapter, State
from fleet.spec import FleetSpec
from tests.drawn import drawn
from tests.fleet.planning.builders import NOON
from tests.fleet.planning.simulator import World
from tests.fleet.planning.test_properties import fleets, usual

halves = st.sampled_from((0.25, 0.5, 1.0))


def shrunk(of: FleetSpec, part: float) -> FleetSpec:
    return replace(of, adapters={
        alias: replace(each, demand=replace(each.demand, peak_rpm=part * each.demand.peak_rpm))
        if each.demand else each
        for alias, each in of.adapters.items()
    })  # fmt: skip


def left(live: State, plan: Plan) -> set[str]:
    """Return the versions that go from a server to another one."""
    gone = {each.before.adapter for each in plan.changes
            if isinstance(each.before, LoadedAdapter) and each.after is None}  # fmt: skip
    came = {each.after.adapter for each in plan.changes
            if isinstance(each.after, LoadedAdapter) and each.before is None}  # fmt: skip
    there = {each.adapter for each in live.adapters().values()}
    return gone & came & there


@drawn
@usual
@given(fleets(), halves, st.sampled_from((0, 1, 3)))
def test_optional_moves_are_within_their_budget_and_every_move_is_told(
    declared: FleetSpec, part: float, most: int
) -> None:
    world = World(NOON)
    try:
        world.apply(world.plan(declared))
    except PlacementError:
        assume(False)
    after, live = shrunk(declared, part), world.live()
    plan = make_plan(after, live, fold_entries(world.entries), NOON, SearchLimits(max_moves=most))
    optional = [each for each in plan.moves if not each.forced]
    assert len(optional) <= most
    assert left(live, plan) <= {each.adapter for each in plan.moves}
    event(f"{len(optional)} optional, {len(plan.moves) - len(optional)} forced")
    world.apply(plan)
    assert world.plan(after).moves == ()


@drawn
@usual
@given(fleets(), halves)
def test_packing_afresh_is_never_dearer(declared: FleetSpec, part: float) -> None:
    world = World(NOON)
    try:
        world.apply(world.plan(declared))
    except PlacementError:
        assume(False)
    after, live, past = shrunk(declared, part), world.live(), fold_entries(world.entries)
    kept = make_plan(after, live, past, NOON)
    afresh = make_plan(after, live, past, NOON, SearchLimits(repack=True))
    assert kept.cost_after is not None
    assert afresh.cost_after is not None
    assert afresh.cost_after <= kept.cost_after + 1e-9
    event("cheaper" if afresh.cost_after < kept.cost_after - 1e-9 else "the same")
    world.apply(afresh)
    assert world.plan(after).changes == ()
