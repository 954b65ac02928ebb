"""How many servers hold an adapter: as few as carry it, and no other number without need."""

from dataclasses import replace

import pytest

from fleet.capacity.demand import HOURS, Load
from fleet.placement.model.items import ReplicaSlot, ReplicaSteps, replicas_for
from fleet.placement.model.state import SearchLimits
from fleet.placement.search import place
from fleet.resources import State
from fleet.rollouts.decide import decide_rollouts
from fleet.spec import FleetSpec
from tests.fleet.placement.test_choices import applied, asked, declared, gpu, many, rack
from tests.fleet.planning.builders import NOON, adapter, history
from tests.fleet.planning.simulator import World

SEVEN = [100.0] * 4 + [30.0] * 3
"""Tokens a second of four strong servers and three weak ones."""


@pytest.mark.parametrize(
    ("peak", "limits", "least", "now", "numbers"),
    [
        (0, SEVEN, 2, 0, [2]),  # idle: as declared
        (90, [], 1, 0, [1]),  # nothing is known of what a server carries
        (100, SEVEN, 1, 0, [1, 4]),  # one carries it; else four weak ones
        (101, SEVEN, 1, 0, [2, 4, 3]),  # parts of which two fit on a strong one come last
        (101, SEVEN, 3, 0, [3, 4]),  # more are declared than are needed
        (301, SEVEN, 1, 0, [4, 7]),
        (999, SEVEN, 1, 0, [7]),  # too few all the same
        (40, [100.0, 10.0, 10.0], 2, 0, [3, 2]),  # half a load fits, and never less than declared
        (90, [100.0], 1, 3, [1]),  # more than there are places now
        # What runs stays while it carries the load, half-way to everything included ...
        (110, SEVEN, 1, 1, [1, 2, 4, 3]),
        (121, SEVEN, 1, 1, [2, 5, 3]),
        # ... and while no replica carries less than half of the weakest server.
        (90, SEVEN, 1, 2, [2, 1, 3]),
        (31, SEVEN, 1, 3, [3, 1, 2]),
        (30, SEVEN, 1, 3, [1]),
    ],
)
def test_the_fewest_come_first_then_what_fits_weaker_servers(
    peak: float, limits: list[float], least: int, now: int, numbers: list[int]
) -> None:
    load = Load((peak,) + (0.0,) * (HOURS - 1), (0.5,) * HOURS)
    places = [ReplicaSlot(each, each * (2 if each < 100 else 1)) for each in limits]
    found = replicas_for(
        adapter("acme-a-llama-v1.0.0", replicas=least), load, ReplicaSteps.of(places), now, 1.2
    )
    assert found == numbers


def test_where_weak_servers_carry_more_for_their_price_a_load_is_divided_at_once() -> None:
    load = Load((90.0,) + (0.0,) * (HOURS - 1), (0.5,) * HOURS)
    places = ReplicaSteps.of(
        [ReplicaSlot(100.0, 4.0), *[ReplicaSlot(50.0, 0.5)] * 3, ReplicaSlot(20.0, 0.4)]
    )
    asked_ = adapter("acme-a-llama-v1.0.0")
    assert replicas_for(asked_, load, places) == [2, 5, 1]
    assert replicas_for(asked_, load, places, now=1) == [1, 2, 5]


def replicas(world: World) -> int:
    (servers,) = {each.servers for each in world.live().routes()["c0-a"].shares}
    return len(servers)


@pytest.mark.parametrize(
    ("rpm", "count"), [(3000, 2), (3300, 2), (5000, 3), (1800, 2), (300, 1), (0, 1)]
)
def test_replicas_come_with_need_and_go_when_they_are_a_waste(rpm: float, count: int) -> None:
    world = World(NOON)
    world.apply(world.plan(declared(many(1, 3000))))
    assert replicas(world) == 2
    after = declared(many(1, rpm))
    world.apply(world.plan(after))
    assert replicas(world) == count
    assert world.plan(after).changes == ()


def test_where_strong_servers_are_taken_a_load_is_divided_among_weak_ones() -> None:
    """Two ask for the one strong device; either would fit there alone, and on no weak one."""
    weak = [replace(gpu(each), kind="l40s_48g", memory_bytes=48 << 30) for each in range(5)]
    hosts = [rack("strong", 1), replace(rack("weak", 5), devices=tuple(weak))]
    both: FleetSpec = declared(
        [asked("c0-a-llama-v1.0.0", 1500), asked("c1-a-llama-v1.0.0", 1500)], hosts
    )
    found = [len(each.shares[0].servers) for each in applied(both).routes().values()]
    assert sorted(found) == [1, 5]


def test_loads_are_divided_into_halves_of_a_server_where_fewer_servers_hold_those() -> None:
    """Of the fewest parts no two fit on a server, nor does the third adapter beside a part."""
    demands = {"c0-a-llama-v1.0.0": 3740, "c1-a-llama-v1.0.0": 2380, "c2-a-llama-v1.0.0": 850}
    fleet = declared([asked(*own) for own in demands.items()], [rack("r", 8)])
    wanted = decide_rollouts(fleet, State(), history(), NOON)
    found = place(fleet, wanted, State(), SearchLimits(effort="balanced"))
    assert sorted(map(len, found.bindings.values())) == [1, 3, 5]
    assert len(found.servers) == 5
    assert found.status == "optimal"
