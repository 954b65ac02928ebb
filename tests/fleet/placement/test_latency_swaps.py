"""Who is promised quick answers is where steps are quick, at no price and without a move."""

from dataclasses import replace

import numpy as np
import pytest

from fleet.capacity.decode_law import step_under_load
from fleet.placement.attempts import attempt
from fleet.placement.consolidate import cost
from fleet.placement.latency_swaps import DANGER, LatencyRisk, keep_promises, latency_risk_of
from fleet.placement.search import place
from fleet.placement.state import PlacementState, SearchLimits, by_name
from fleet.placement.verify import verify_placement
from fleet.resources import State
from fleet.rollouts.decide import decide_rollouts
from fleet.spec import FleetSpec
from tests.bench.peers.bench import synthetic
from tests.fleet.planning.builders import NOON, history
from tests.fleet.planning.simulator import World


@pytest.fixture(scope="module")
def fleet() -> FleetSpec:
    return synthetic(50, 16, 3)


def bought(fleet: FleetSpec) -> PlacementState:
    board, failed = attempt(
        fleet, decide_rollouts(fleet, State(), history(), NOON), State(), SearchLimits()
    )
    assert failed == []
    return board


def seated(board: PlacementState) -> list[LatencyRisk]:
    groups = {each.base.name for each in board.drafts.values()}
    bins = [[each for each in by_name(board.drafts.values()) if each.base.name == name]
            for name in sorted(groups)]  # fmt: skip
    found = [latency_risk_of(board.hardware, each) for each in bins]
    return [each for each in found if each is not None]


def in_danger(board: PlacementState) -> int:
    return sum(int(each.here().sum()) for each in seated(board))


def test_exchanges_lower_the_danger_and_change_neither_servers_nor_price(fleet: FleetSpec) -> None:
    board = bought(fleet)
    before, price = in_danger(board), cost(board)
    flags = {name: (each.slots, each.rank, each.devices) for name, each in board.drafts.items()}
    keep_promises(board)
    assert in_danger(board) < 0.9 * before
    assert cost(board) == price
    assert flags == {
        name: (each.slots, each.rank, each.devices) for name, each in board.drafts.items()
    }
    assert all(len(board.bound[name]) == each.replicas for name, each in board.items.items())
    wanted = decide_rollouts(fleet, State(), history(), NOON)
    assert verify_placement(fleet, wanted, State(), place(fleet, wanted, State())) == ()


def test_what_runs_stays_however_late_it_is(fleet: FleetSpec) -> None:
    """Half of the promises are ten times as strict: other places would be better for them."""
    world = World(NOON)
    world.apply(world.plan(fleet))
    strict = {
        alias: replace(each, slo_s=each.slo_s / 10) if number % 2 else each
        for number, (alias, each) in enumerate(fleet.adapters.items())
    }
    assert world.plan(replace(fleet, adapters=strict)).moves == ()


def test_the_danger_is_that_of_the_law(fleet: FleetSpec) -> None:
    """Of the answers' expected time by the law, without the scatter, none in danger is short."""
    for seats in seated(bought(fleet)):
        for server, bin_ in enumerate(seats.drafts):
            speed = seats.speeds[server]
            for item in seats.members(server).tolist():
                asked = seats.items[item].load.tokens > 0
                steps = [
                    step_under_load(speed, bin_.tokens[hour] / 10, bin_.active[hour] / 1e6)
                    for hour in np.flatnonzero(asked).tolist()
                ]
                part = max(steps, default=0.0) * seats.length[item]
                part /= max(seats.promised[item], 3 * seats.length[item] * speed.adapted[0])
                part *= 1 + seats.length[item] ** -0.5
                expected = DANGER * min(max((part - 0.6) / 0.2, 0), 1)
                assert abs(int(seats.danger[item, server]) - expected) <= 1


def test_a_first_placement_leaves_more_room_where_that_is_no_dearer() -> None:
    """Seven servers are needed for the slots and replicas alone; 70 % may be asked of each.

    Swaps for promised answers may then take a little of the room.
    """
    few = synthetic(100, 10, 3)
    plan = World(NOON).plan(few)
    assert plan.cost_after == pytest.approx(7 * 3.0)
    assert max(max(each.load) for each in plan.capacity) <= 0.87 * few.policy.utilization
