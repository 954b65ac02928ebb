"""Ways back during an upgrade: every client's previous version stays on a server of its route."""

from dataclasses import replace
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.names import adapter_address
from fleet.plan import Plan
from fleet.policies import GoldenFacts
from fleet.resources import Server
from fleet.spec import FleetSpec
from fleet.steps import Step
from tests.drawn import drawn, examples
from tests.fleet.planning.builders import DAY, MIB, NOON, adapter, base, device, fleet, host
from tests.fleet.planning.simulator import World
from tests.fleet.planning.test_upgrades import BARE, GATE, GATED, mark, settings_of

ALIASES = ("acme-support", "birch-faq", "cedar-law")
OLD, NEW = ([f"{alias}-tiny-v1.{n}.0" for alias in ALIASES] for n in (0, 1))
LONG = 60 * DAY


def declared(versions: list[str], rollout: str, kv_cache: int = 64) -> FleetSpec:
    """Declare three clients on two servers of three, each with its version before in the lock."""
    support, faq, legal = versions
    made = fleet(
        adapter(support, golden="g.jsonl", rollout=rollout, replicas=2),
        adapter(faq, golden="g.jsonl", rollout=rollout),
        adapter(legal, rollout="bare"),
        rollouts=(replace(GATED, retain=LONG), replace(BARE, retain=LONG)),
        gates=(GATE,),
        hosts=[host("laptop", *(device(f"cpu{n}", port=8100 + n) for n in range(3)))],
        bases=[base(kv_cache_bytes=kv_cache * MIB)],
        known=[*OLD, *NEW],
    )
    return replace(made, golden={"g.jsonl": GoldenFacts("d" * 64, 100)})


def rolled_out() -> World:
    """Return a fleet in which every client was cut over, and its version before is kept."""
    world = World(NOON)
    world.apply(world.plan(declared(OLD, "bare")))
    for _ in range(4):
        world.apply(world.plan(declared(NEW, "bare")))
        world.pass_time(DAY)
    assert dict.fromkeys(OLD, 0).items() <= shares_of(world).items()
    world.watch = lambda step: is_warm(world, step)
    return world


def shares_of(world: World) -> dict[str, int]:
    routes = world.live().routes().values()
    return {share.adapter: share.percent for route in routes for share in route.shares}


def is_warm(world: World, step: Step) -> None:
    """Check that every version, with traffic or without, has a running server of its route."""
    found = {*shares_of(world)}
    assert found >= {*OLD, *NEW}, f"{ {*OLD, *NEW} - found } left its route after `{step.id}`"
    for route in world.live().routes().values():
        for share in route.shares:
            assert any(
                f"server/{server}" in world.resources
                and adapter_address(share.adapter, server) in world.resources
                for server in share.servers
            ), f"{share.adapter} has no server after `{step.id}`"


def moved(world: World, made: FleetSpec, chance: Random | None, killed: list[int]) -> list[Plan]:
    """Carry on an upgrade to its end; `killed`: steps of the first applies."""
    plans = []
    for number in range(14):
        plan = world.plan(made)
        assert not any(impact.interrupted for impact in plan.impacts)
        most = killed[number] if number < len(killed) else None
        world.apply(plan, chance=chance, most=most)
        world.pass_time(DAY / 2)
        plans.append(plan)
    return plans


def test_the_version_before_of_every_client_stays_warm_while_servers_follow_one_another() -> None:
    world, made = rolled_out(), declared(NEW, "standard", 48)
    world.apply(world.plan(made))
    mark(world, made, "approve")
    plans = moved(world, made, None, [])
    stops = [
        sum(isinstance(c.before, Server) and c.after is None for c in plan.changes)
        for plan in plans
    ]
    assert (max(stops), sum(stops)) == (1, 2)
    assert settings_of(world) == {48 * MIB}
    assert plans[-1].steps == ()


def test_a_client_that_is_rolled_back_during_an_upgrade_is_served_by_the_version_before() -> None:
    world, made = rolled_out(), declared(NEW, "standard", 48)
    world.apply(world.plan(made))
    mark(world, made, "approve")
    world.apply(world.plan(made))
    assert all(map(world.roll_back, ALIASES))
    moved(world, made, None, [])
    assert {name for name, percent in shares_of(world).items() if percent} == {*OLD}
    assert settings_of(world) == {48 * MIB}


@drawn
@settings(max_examples=examples(10, 100), suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=False), st.lists(st.integers(0, 20), max_size=5))
def test_ways_back_stay_warm_wherever_an_upgrade_is_killed(
    chance: Random, killed: list[int]
) -> None:
    world, made = rolled_out(), declared(NEW, "standard", 48)
    world.apply(world.plan(made))
    mark(world, made, "approve")
    moved(world, made, chance, killed)
    assert settings_of(world) == {48 * MIB}
    assert world.plan(made).steps == ()
