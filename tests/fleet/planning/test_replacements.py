"""Servers are replaced one after another: while a version has replicas, one of them serves."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from random import Random

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from fleet.errors import PlacementError
from fleet.names import Address, adapter_address, alias_of, step_parts
from fleet.plan import Plan
from fleet.planning.upgrades import TargetPattern, select
from fleet.resources import Resource, Route, Server
from fleet.spec import AdapterSpec, FleetSpec
from fleet.steps import Step
from tests.drawn import drawn, examples
from tests.fleet.planning.builders import MIB, NOON, adapter, base, device, fleet, host
from tests.fleet.planning.simulator import World

SUPPORT, FAQ = "acme-support-tiny-v1.0.0", "birch-faq-tiny-v1.0.0"
HOSTS = tuple(host(f"h{number}", device(port=8100 + number)) for number in range(4))
A, B, C = (f"tiny-h{number}-cpu0" for number in range(3))


def declared(*adapters: AdapterSpec, servers: int = 2, slots: int | None = None) -> FleetSpec:
    return fleet(*adapters, hosts=HOSTS[:servers], bases=[base(slots=slots)])


def with_flags(made: FleetSpec, kv_cache: int = 48) -> FleetSpec:
    """Declare other flags for all servers."""
    changed = replace(made.bases["tiny"], kv_cache_bytes=kv_cache * MIB)
    return replace(made, bases={"tiny": changed})


def applied(made: FleetSpec) -> World:
    world = World(NOON)
    world.apply(world.plan(made))
    return world


def replaced(made: FleetSpec) -> Plan:
    return applied(made).plan(with_flags(made))


def served_by(resources: Mapping[Address, Resource], alias: str) -> dict[str, list[str]]:
    """Return by version with traffic the servers of its route that run and hold the version."""
    route = resources.get(Address(f"route/{alias}"))
    assert isinstance(route, Route)
    return {
        share.adapter: [
            server
            for server in share.servers
            if Address(f"server/{server}") in resources
            and adapter_address(share.adapter, server) in resources
        ]
        for share in route.shares
        if share.percent
    }


def replicated(world: World) -> set[str]:
    """Return the aliases of which every version with traffic has two servers or more."""
    return {
        alias
        for alias in world.live().routes()
        if all(len(found) > 1 for found in served_by(world.resources, alias).values())
    }


def watch(world: World, aliases: set[str]) -> None:
    """From now on, at each moment a server answers for every version with traffic of aliases."""

    def look(step: Step) -> None:
        for alias in aliases:
            for version, servers in served_by(world.resources, alias).items():
                assert servers, f"{version} has no server after `{step.id}`"

    world.watch = look


def test_two_servers_are_replaced_one_after_the_other() -> None:
    plan = replaced(declared(adapter(SUPPORT, replicas=2)))
    assert [step.id for step in plan.steps] == [
        "divert route/acme-support", f"drain adapter/{SUPPORT}@{A}", f"stop server/{A}",
        f"start server/{A}", f"load adapter/{SUPPORT}@{A}", f"smoke adapter/{SUPPORT}@{A}",
        "restore route/acme-support",
        "divert.2 route/acme-support", f"drain adapter/{SUPPORT}@{B}", f"stop server/{B}",
        f"start server/{B}", f"load adapter/{SUPPORT}@{B}", f"smoke adapter/{SUPPORT}@{B}",
        "set route/acme-support",
    ]  # fmt: skip
    assert plan.impacts == ()


def test_a_version_without_a_replica_is_called_interrupted_and_is_not_waited_for() -> None:
    plan = replaced(declared(adapter(SUPPORT, replicas=2), adapter(FAQ, pin="h1")))
    assert [(impact.alias, impact.interrupted) for impact in plan.impacts] == [("birch-faq", True)]
    drains = [step.id for step in plan.steps if step.id.startswith("drain")]
    assert drains == [f"drain adapter/{SUPPORT}@{A}", f"drain adapter/{SUPPORT}@{B}"]


def test_servers_that_share_no_version_are_replaced_at_the_same_time() -> None:
    plan = replaced(declared(adapter(SUPPORT, pin="h0"), adapter(FAQ, pin="h1")))
    needs = {step.id: step.needs for step in plan.steps}
    assert needs[f"stop server/{A}"] == needs[f"stop server/{B}"] == ()


def test_a_third_replica_is_never_away_with_another() -> None:
    made = declared(adapter(SUPPORT, replicas=3), servers=3)
    world = applied(made)
    away: list[int] = []

    def count(_: Step) -> None:
        away.append(3 - len(served_by(world.resources, "acme-support")[SUPPORT]))

    world.watch = count
    world.apply(world.plan(with_flags(made)))
    assert max(away) == 1


def test_one_server_may_be_selected_to_try_its_new_flags() -> None:
    made = declared(adapter(SUPPORT, replicas=2))
    world = applied(made)
    watch(world, {"acme-support"})
    before = dict(world.resources)
    part = select(world.plan(with_flags(made)), (TargetPattern("server", A),))
    assert {change.address for change in part.changes} == {f"server/{A}"}
    world.apply(part)
    assert {name for name in before if world.resources[name] != before[name]} == {f"server/{A}"}
    assert [step_parts(step.id)[0] for step in part.steps].count("divert") == 1


def test_a_server_that_loses_its_replica_is_replaced_last() -> None:
    made = declared(adapter(SUPPORT, replicas=2))
    world = applied(made)
    watch(world, {"acme-support"})
    fewer = declared(adapter(SUPPORT, pin="h1"), adapter(FAQ, pin="h0"))
    plan = world.plan(with_flags(fewer))
    assert not any(impact.interrupted for impact in plan.impacts)
    world.apply(plan, backwards=True)


def test_after_a_killed_apply_the_only_server_of_a_version_waits_for_another() -> None:
    world = applied(declared(adapter(SUPPORT, replicas=2)))
    watch(world, {"acme-support"})
    made = with_flags(declared(adapter(SUPPORT, replicas=2)))
    world.apply(world.plan(made), most=3)  # the first server has stopped
    assert Address(f"server/{A}") not in world.resources
    plan = world.plan(made)
    assert not any(impact.interrupted for impact in plan.impacts)
    world.apply(plan)


@st.composite
def fleets(draw: st.DrawFn) -> FleetSpec:
    servers = draw(st.integers(2, 4))
    adapters = []
    for alias in ("acme-a", "acme-b", "birch-a", "cedar-a", "dune-a"):
        replicas = draw(st.sampled_from((0, 1, 2, 2, 3)))
        pin = draw(st.sampled_from((None, "h0", "h1"))) if replicas == 1 else None
        if replicas:
            name = f"{alias}-tiny-v1.0.0"
            adapters.append(adapter(name, replicas=min(replicas, servers), pin=pin))
    return declared(*adapters, servers=servers, slots=draw(st.sampled_from((None, 3, 6))))


def held_alone(world: World) -> set[str]:
    """Return the aliases with a version that only one server has."""
    held = Counter(loaded.adapter for loaded in world.live().adapters().values())
    return {alias_of(version) for version, servers in held.items() if servers == 1}


@drawn
@settings(max_examples=examples(40, 150), suppress_health_check=[HealthCheck.too_slow])
@given(fleets(), st.randoms(use_true_random=False), st.one_of(st.none(), st.integers(0, 25)))
def test_in_no_order_that_lanes_allow_are_all_replicas_of_a_version_away(
    made: FleetSpec, chance: Random, killed: int | None
) -> None:
    """`killed`: after so many steps, and planned again. A version that has lost its other replicas
    by then may be on a server that has to go first for another version.
    """
    world = World(NOON)
    try:
        world.apply(world.plan(made))
        aliases = replicated(world)
        watch(world, aliases)
        plan = world.plan(with_flags(made))
    except PlacementError as error:
        event(error.diagnostics[0].code)
        return
    restarts = sum(isinstance(change.before, Server) for change in plan.changes)
    event(f"{restarts} servers, {len(aliases)} aliases with replicas")
    assert not any(impact.interrupted and impact.alias in aliases for impact in plan.impacts)
    world.apply(plan, chance=chance, most=killed)
    again = world.plan(with_flags(made))
    interrupted = {impact.alias for impact in again.impacts if impact.interrupted}
    assert interrupted & aliases <= held_alone(world)
    watch(world, aliases - interrupted)
    world.apply(again, chance=chance)
    assert world.plan(with_flags(made)).steps == ()
