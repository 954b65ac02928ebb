"""Clients that are set aside keep servers, versions, routes and keys, whatever else is declared."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from fleet.errors import FleetError
from fleet.hardware import HostSpec
from fleet.names import alias_of, client_of
from fleet.plan import Action
from fleet.planning.pipeline import make_plan
from fleet.resources import Server, State, client_in
from fleet.spec import ClientKey, DemandSpec, FleetSpec
from fleet.steps import LoadAdapter, StopServer
from tests.fleet.planning.builders import NOON, adapter, device, fleet, host
from tests.fleet.planning.simulator import World

WHY = {"birch": "Version is not quoted [FC1103] at clients/birch.yaml:10:18"}
KEYS = {"birch": (ClientKey("prod", "file:keys/birch", "0123456789ab"),)}
TWO = (host("a", device("gpu0")), host("b", device("gpu0")))


def declared(
    *, hosts: tuple[HostSpec, ...] = TWO, acme: float = 30.0, birch: float = 30.0
) -> FleetSpec:
    """Two clients with their requests a minute; birch has two replicas."""
    return fleet(
        adapter("acme-support-tiny-v1.0.0", demand=DemandSpec(acme)),
        adapter("birch-units-tiny-v1.0.0", replicas=2, demand=DemandSpec(birch)),
        hosts=hosts, keys=KEYS, known=("birch-units-tiny-v2.0.0",),
    )  # fmt: skip


def applied() -> World:
    world = World(NOON)
    world.apply(world.plan(declared()))
    return world


def draining(spec: FleetSpec) -> FleetSpec:
    return replace(spec, hosts={**spec.hosts, "a": host("a", device("gpu0", state="draining"))})


def without_keys(spec: FleetSpec) -> FleetSpec:
    return replace(spec, clients={n: replace(c, keys=()) for n, c in spec.clients.items()})


def more_replicas(spec: FleetSpec) -> FleetSpec:
    units = replace(spec.adapters["birch-units"], replicas=1)
    return replace(spec, adapters={**spec.adapters, "birch-units": units})


def other_bytes(spec: FleetSpec) -> FleetSpec:
    name = "birch-units-tiny-v1.0.0"
    return replace(
        spec, versions={**spec.versions, name: replace(spec.versions[name], digest="f" * 64)}
    )


@pytest.mark.parametrize("change", [without_keys, more_replicas, other_bytes])
def test_nothing_of_the_client_changes(change: Callable[[FleetSpec], FleetSpec]) -> None:
    world = applied()
    plan = make_plan(
        replace(change(declared()), set_aside=WHY), world.live(), world.history(), NOON
    )
    assert [str(note) for note in plan.set_aside] == [f"birch: {WHY['birch']}"]
    assert not [c for c in plan.changes if "birch" in map(client_in, c.resources)]
    assert not [c for c in plan.changes if isinstance(c.before, Server)]


@pytest.mark.parametrize(("aside", "moves"), [({}, "birch"), (WHY, "acme")])
def test_another_client_leaves_an_overloaded_server(aside: dict[str, str], moves: str) -> None:
    three = (*TWO, host("c", device("gpu0")))
    world = World(NOON)
    world.apply(world.plan(declared(birch=2_300)))
    spec = replace(declared(hosts=three, acme=1_000, birch=2_300), set_aside=aside)
    plan = make_plan(spec, world.live(), world.history(), NOON)
    moved = {client_of(alias_of(move.adapter)) for move in plan.moves}
    assert moved == {moves}


def test_a_server_that_restarts_gets_the_versions_of_the_client_again() -> None:
    world = applied()
    spec = declared()
    bases = {name: replace(base, extra=(("swap-space", "1"),)) for name, base in spec.bases.items()}
    spec = replace(spec, bases=bases, set_aside=WHY)
    plan = make_plan(spec, world.live(), world.history(), NOON)
    restarts = [c.address for c in plan.changes if c.action is Action.REPLACE]
    loads = [s.operation.adapter for s in plan.steps if isinstance(s.operation, LoadAdapter)]
    assert len(restarts) == len([load for load in loads if load.adapter.startswith("birch")]) == 2
    world.apply(plan)
    assert {client_of(alias_of(its.adapter)) for its in world.live().adapters().values()} == {
        "acme", "birch",
    }  # fmt: skip


def test_where_the_client_cannot_stay_nothing_is_planned() -> None:
    world = applied()
    three = (*TWO, host("c", device("gpu0")))
    spec = replace(draining(declared(hosts=three)), set_aside=WHY)
    with pytest.raises(FleetError) as caught:
        make_plan(spec, world.live(), world.history(), NOON)
    assert [problem.code for problem in caught.value.diagnostics] == ["FC2012"]
    assert make_plan(replace(spec, set_aside={}), world.live(), world.history(), NOON).moves


def test_a_rollout_of_the_client_stays_at_its_stage() -> None:
    world = applied()
    spec = declared()
    units = adapter("birch-units-tiny-v2.0.0", replicas=2, demand=DemandSpec(30.0))
    spec = replace(spec, adapters={**spec.adapters, "birch-units": units})
    world.apply(world.plan(spec))
    world.now += 3 * (NOON - NOON.replace(day=1))
    live: State = world.live()
    assert [c.address for c in world.plan(spec).changes] == ["route/birch-units"]
    plan = world.plan(replace(spec, set_aside=WHY))
    assert (plan.changes, plan.gates, plan.steps) == ((), (), ())
    assert not [step for step in plan.steps if isinstance(step.operation, StopServer)]
    assert live.routes()["birch-units"].split == (
        "birch-units-tiny-v2.0.0 10 %, birch-units-tiny-v1.0.0 90 %"
    )
