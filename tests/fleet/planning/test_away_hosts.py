"""What a machine held that is gone, as its engine says, moves where others have room."""

from dataclasses import replace

import pytest

from fleet.errors import PlacementError
from fleet.names import server_address
from fleet.plan import Plan
from fleet.planning.drift import classify_drift
from fleet.planning.drift_cause import DriftAction
from fleet.planning.pipeline import make_plan
from fleet.resources import Route
from fleet.spec import FleetSpec
from tests.fleet.planning.builders import NOON, adapter, device, fleet, host
from tests.fleet.planning.simulator import World

SUPPORT, FAQ = "acme-support-tiny-v1.0.0", "birch-faq-tiny-v1.0.0"
HOSTS = tuple(host(f"h{number}", device(port=8100 + number)) for number in range(2))
A, B = "tiny-h0-cpu0", "tiny-h1-cpu0"
GONE = "Ray says of node 10.0.0.12: DEAD"


def gone(made: FleetSpec) -> World:
    """Return a world whose second machine is gone after an apply."""
    world = World(NOON)
    world.apply(world.plan(made))
    world.lose(B, process=True)
    return world


def planned(world: World, made: FleetSpec) -> Plan:
    world.fleet = made
    live = replace(world.live(), away_hosts={"h1": GONE})
    return make_plan(made, live, world.history(), NOON)


def servers_of(world: World, alias: str) -> list[str]:
    route = world.live().routes()[alias]
    assert isinstance(route, Route)
    return [server for share in route.shares if share.percent for server in share.servers]


def test_versions_of_a_machine_that_is_gone_move_and_stay_when_it_is_back() -> None:
    world = gone(fleet(adapter(FAQ), hosts=HOSTS[1:]))
    made = fleet(adapter(FAQ), hosts=HOSTS)
    plan = planned(world, made)
    assert [step.id for step in plan.steps if step.id.startswith(("start", "load"))] == [
        f"start server/{A}",
        f"load adapter/{FAQ}@{A}",
    ]
    assert f"host `h1` is away, nothing is placed on it ({GONE})" in [
        note.text for note in plan.warnings
    ]
    world.apply(plan)
    assert servers_of(world, "birch-faq") == [A]
    assert planned(world, made).steps == ()
    assert world.plan(made).steps == ()


def test_what_has_no_room_elsewhere_waits_and_the_rest_is_served() -> None:
    made = fleet(adapter(SUPPORT, replicas=2), adapter(FAQ), hosts=HOSTS)
    world = gone(made)
    plan = planned(world, made)
    assert not [step.id for step in plan.steps if step.id.startswith(("start", "stop"))]
    world.apply(plan)
    assert servers_of(world, "acme-support") == servers_of(world, "birch-faq") == [A]
    (waits,) = (note.text for note in plan.held if "is away" in note.text)
    why = "lacks a further server: `h1` is away, and no other server of `tiny` has room"
    assert waits == f"{SUPPORT} {why}"
    world.apply(world.plan(made))
    assert sorted(servers_of(world, "acme-support")) == [A, B]


def test_what_fits_nowhere_is_refused_as_ever() -> None:
    made = fleet(adapter(SUPPORT), hosts=HOSTS)
    world = gone(made)
    with pytest.raises(PlacementError, match="rank"):
        planned(world, fleet(adapter(SUPPORT), adapter(FAQ), hosts=HOSTS, ranks={FAQ: 10_000}))


def test_drift_leaves_a_machine_that_is_gone_to_a_plan() -> None:
    world = gone(fleet(adapter(FAQ), hosts=HOSTS[1:]))
    live = replace(world.live(), away_hosts={"h1": GONE})
    (cause,) = classify_drift(world.history(), live)
    assert (cause.remedy, cause.subject) == (DriftAction.PLAN, server_address(B))
    assert cause.summary == f"its machine is away ({GONE}); 1 adapter is gone with it"
