"""A plan never takes the last copy that answers, nor moves traffic to a server that does not."""

from collections.abc import Iterable
from dataclasses import replace
from random import Random

from hypothesis import event, given, settings
from hypothesis import strategies as st

from fleet.errors import PlacementError
from fleet.hardware import HostSpec
from fleet.spec import FleetSpec
from tests.drawn import drawn, examples
from tests.fleet.planning.builders import NOON, adapter, device, fleet, host
from tests.fleet.planning.plan_checks import AnswersCheck
from tests.fleet.planning.simulator import World
from tests.fleet.planning.test_properties import EXAMPLES, fleets, usual

SUPPORT, FAQ, TRIAGE = (f"{alias}-tiny-v1.0.0" for alias in ("acme-a", "birch-a", "corvid-a"))
HOSTS = [host(f"metal{number}", device(port=8100 + number)) for number in (1, 2)]
DEAD, ALIVE = (f"tiny-metal{number}-cpu0" for number in (1, 2))
SILENT = {DEAD: "timed out after 2 s"}


def removed(declared: FleetSpec, names: Iterable[str]) -> FleetSpec:
    """Return a fleet without some hosts, which fleetctl knows of its earlier applies."""
    gone = {name: declared.hosts[name].drained() for name in names}
    return replace(declared, hosts={**declared.hosts, **gone}, removed=frozenset(gone))


def with_replicas(declared: FleetSpec, replicas: int) -> FleetSpec:
    adapters = {a: replace(each, replicas=replicas) for a, each in declared.adapters.items()}
    return replace(declared, adapters=adapters)


def three_clients(replicas: int, *hosts: HostSpec) -> FleetSpec:
    names = (SUPPORT, FAQ, TRIAGE)
    return fleet(*(adapter(name, replicas=replicas) for name in names), hosts=hosts)


def servers_of(world: World) -> dict[str, list[str]]:
    return {
        alias: [server for share in route.shares if share.percent for server in share.servers]
        for alias, route in world.live().routes().items()
    }


def all_on(*servers: str) -> dict[str, list[str]]:
    return {alias: [*servers] for alias in ("acme-a", "birch-a", "corvid-a")}


def test_a_dead_box_that_is_removed_gets_no_traffic_of_fewer_replicas() -> None:
    """It got all of it: 3 healthy copies of 3 were unloaded, and clients got 503."""
    world = World(NOON)
    world.apply(world.plan(three_clients(2, *HOSTS)))
    assert servers_of(world) == all_on(DEAD, ALIVE)
    world.silent = SILENT
    plan = world.plan(removed(three_clients(1, *HOSTS), ("metal1",)))
    assert [step.id for step in plan.steps if "unload" in step.id] == []
    assert plan.untouched_clients == ()
    world.apply(plan)
    assert servers_of(world) == all_on(ALIVE)


def test_fewer_replicas_keep_the_copies_that_answer_of_a_declared_box_too() -> None:
    world = World(NOON)
    world.apply(world.plan(three_clients(2, *HOSTS)))
    world.silent = SILENT
    world.apply(world.plan(three_clients(1, *HOSTS)))
    assert servers_of(world) == all_on(ALIVE)
    world.silent = {}
    plan = world.plan(three_clients(1, *HOSTS))
    assert {step.lane for step in plan.steps} == {DEAD}, "back again, it is cleared"


def test_a_version_leaves_a_box_that_does_not_answer_by_a_rule() -> None:
    world = World(NOON)
    made = fleet(adapter(SUPPORT), adapter(FAQ, pin="metal2"), hosts=HOSTS)
    world.apply(world.plan(made))
    assert servers_of(world) == {"acme-a": [DEAD], "birch-a": [ALIVE]}
    world.silent = SILENT
    assert world.plan(made).steps == ()
    avoids = replace(made.adapters["acme-a"], avoid=("metal1",))
    world.apply(world.plan(replace(made, adapters={**made.adapters, "acme-a": avoids})))
    assert servers_of(world) == {"acme-a": [ALIVE], "birch-a": [ALIVE]}


def test_a_client_of_which_a_copy_goes_is_not_untouched() -> None:
    """A copy that no route names was unloaded, and its client was "untouched"."""
    world = World(NOON)
    world.apply(world.plan(three_clients(2, *HOSTS)))
    route = world.live().routes()["acme-a"]
    fewer = replace(route, shares=(replace(route.shares[0], servers=(ALIVE,)),))
    world.resources[route.address] = fewer
    made = three_clients(2, *HOSTS)
    one = {**made.adapters, "acme-a": replace(made.adapters["acme-a"], replicas=1)}
    plan = world.plan(replace(made, adapters=one))
    assert [change.address for change in plan.changes] == [f"adapter/{SUPPORT}@{DEAD}"]
    assert plan.untouched_clients == ("birch", "corvid")


def test_what_was_on_a_removed_dead_box_alone_is_placed_where_there_is_room() -> None:
    world = World(NOON)
    world.apply(world.plan(three_clients(1, HOSTS[0])))
    world.silent = SILENT
    plan = world.plan(removed(three_clients(1, *HOSTS), ("metal1",)))
    world.apply(plan)
    assert servers_of(world) == all_on(ALIVE)


def test_without_room_elsewhere_all_stays_as_it_is_and_says_why() -> None:
    """The one copy that answers is to leave its box, and the other box does not answer."""
    world = World(NOON)
    world.apply(world.plan(three_clients(2, *HOSTS)))
    world.silent = SILENT
    draining = three_clients(1, HOSTS[0], HOSTS[1].drained())
    before = servers_of(world)
    plan = world.plan(draining)
    assert (plan.steps, servers_of(world)) == ((), before)
    why = f"`{DEAD}` does not answer, and no other server of `tiny` has room"
    assert all(why in note.text for note in plan.held if note.subject == "acme-a")
    world.silent = {}
    world.apply(world.plan(draining))
    assert servers_of(world) == all_on(DEAD)


@drawn
@settings(parent=usual, max_examples=EXAMPLES or examples(60, 200))
@given(
    fleets(),
    st.sampled_from((1, 2, 2, 3)),
    st.sampled_from((1, 1, 2)),
    st.sets(st.integers(0, 9), min_size=1, max_size=4),
    st.sets(st.integers(0, 3), max_size=2),
    st.sets(st.integers(0, 3), max_size=1),
    st.randoms(use_true_random=False),
)
def test_what_answers_goes_on_to_after_every_step(
    declared: FleetSpec,
    before: int,
    after: int,
    silent: set[int],
    leaving: set[int],
    draining: set[int],
    chance: Random,
) -> None:
    """Of drawn fleets with silent servers, removed and draining hosts, and fewer replicas."""
    world = World(NOON)
    try:
        world.apply(world.plan(with_replicas(declared, before)))
    except PlacementError:
        return
    names = list(world.live().servers())
    hosts = list(declared.hosts)
    world.silent = {names[i]: "no answer" for i in silent if i < len(names)}
    drained = {hosts[i]: declared.hosts[hosts[i]].drained() for i in draining if i < len(hosts)}
    asked = replace(with_replicas(declared, after), hosts={**declared.hosts, **drained})
    asked = removed(asked, [hosts[i] for i in leaving if i < len(hosts)])
    try:
        plan = world.plan(asked)
    except PlacementError as error:
        event(error.diagnostics[0].code)
        return
    check = AnswersCheck(world, plan, asked)
    world.watch = check.after
    world.apply(plan, chance=chance)
    check.at_the_end()
    event(f"steps: {bool(plan.steps)}, aliases that answered: {bool(check.before)}")
