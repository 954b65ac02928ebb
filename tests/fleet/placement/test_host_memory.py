"""A host that declares its memory lists no more adapters than it holds."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import PlacementError
from fleet.placement.alternatives import weigh
from fleet.placement.search import place
from fleet.placement.verify import verify_placement
from fleet.placement.verify.steps import verify_steps
from fleet.placement.verify.view import Constraint
from fleet.plan import Plan
from fleet.planning.pipeline import make_plan
from fleet.resources import Server, State
from fleet.spec import FleetSpec
from fleet.vllm.flags import cpu_loras_for
from tests.drawn import drawn, examples
from tests.fleet.placement.placements import A0, ACME, GOOD, HOSTS, LLAMA, PLAIN, card, declared
from tests.fleet.placement.test_verify import paced
from tests.fleet.planning.builders import NOON, adapter, history, host, loaded, state
from tests.fleet.planning.simulator import World

FILE = 65_536
"""Bytes of every adapter of these fleets."""
TWO = host("a", card("gpu0"), card("gpu1", 8001)), host("b", card("gpu0"))


def limited(of: FleetSpec, amount: int, *, name: str = "a") -> FleetSpec:
    hosts = {**of.hosts, name: replace(of.hosts[name], memory_bytes=amount)}
    return replace(of, hosts=hosts)


def planned(of: FleetSpec, live: State | None = None) -> Plan:
    return make_plan(of, live or state(), history(), NOON)


def servers(plan: Plan) -> list[Server]:
    return [each.after for each in plan.changes if isinstance(each.after, Server)]


def spread_over_two() -> FleetSpec:
    """Two versions that must not share a server, and hosts for three of them."""
    acme = adapter(ACME, isolation="client")
    birch = adapter("birch-faq-llama-v1.0.0", isolation="client")
    return replace(declared(acme, birch), hosts={each.name: each for each in TWO})


def test_a_second_server_goes_to_a_host_that_can_list_what_it_holds() -> None:
    both = servers(planned(spread_over_two()))
    assert [each.host for each in both] == ["a", "a"]
    least = [each.flags.max_cpu_loras * FILE for each in both if each.flags]
    apart = servers(planned(limited(spread_over_two(), sum(least) - 1)))
    assert [each.host for each in apart] == ["a", "b"]
    assert servers(planned(limited(spread_over_two(), sum(least)))) == both


def test_what_does_not_fit_anywhere_is_refused_with_numbers() -> None:
    of = declared(adapter(ACME))
    large = {name: replace(each, bytes=100 << 20) for name, each in of.versions.items()}
    of = replace(of, versions=large, bases={"llama": replace(LLAMA, slots=8)})
    with pytest.raises(PlacementError) as caught:
        planned(limited(limited(of, 1 << 30), 1 << 30, name="b"))
    [found] = caught.value.diagnostics
    assert found.code == "FC2009"
    assert (
        "host `a` declares 1.0 GiB of memory for listed adapters, and needs 1.6 GiB for a server "
        "that lists it: 576 MiB short"
    ).lower() in found.detail.lower()


def test_every_device_of_a_server_has_its_own_copies() -> None:
    wide = replace(LLAMA, tensor_parallel=2)
    of = replace(declared(adapter(ACME)), bases={"llama": wide})
    [pair] = servers(planned(of))
    assert pair.flags is not None
    assert len(pair.devices) == 2
    need = pair.flags.max_cpu_loras * FILE * 2
    assert servers(planned(limited(limited(of, need), need, name="b"))) == [pair]
    with pytest.raises(PlacementError, match="main memory"):
        planned(limited(limited(of, need - 1), need - 1, name="b"))


def test_the_check_finds_a_host_whose_servers_list_too_much() -> None:
    of = limited(PLAIN, 16 * FILE - 1)
    found = verify_placement(of, paced(of, state()), state(), GOOD)
    assert Constraint.HOST_MEMORY in {each.constraint for each in found}
    enough = limited(PLAIN, 64 * FILE)
    assert not verify_placement(enough, paced(enough, state()), state(), GOOD)


def test_what_runs_already_stays_though_its_host_has_too_little() -> None:
    of = limited(replace(declared(adapter(ACME)), hosts={each.name: each for each in HOSTS}), FILE)
    live = state(A0, loaded(ACME, A0.name))
    plan = planned(of, live)
    assert not [each for each in plan.changes if isinstance(each.after or each.before, Server)]
    assert not plan.moves


@pytest.mark.parametrize(
    ("slots", "listed", "rung"), [(8, 3, 16), (8, 17, 32), (4, 8, 8), (4, 3000, 3000)]
)
def test_a_server_may_list_twice_its_slots_or_what_it_must(
    slots: int, listed: int, rung: int
) -> None:
    assert cpu_loras_for(slots, listed) == rung


EIGHT = replace(LLAMA, slots=8)
"""Its servers list up to 16 versions."""
FOUR = [card(f"gpu{each}", 8000 + each) for each in range(4)]
LARGE = 64 << 20
SERVER = 16 * LARGE
"""What one of those servers may list, where all versions are of the usual size."""


def racked(
    memory: int, *names: str, slots: int = 8, sizes: dict[str, int] | None = None
) -> FleetSpec:
    """Declare one host with four devices, and a server of its own for each client."""
    bases = [replace(EIGHT, slots=slots), replace(EIGHT, name="mini")]
    own = [adapter(name, isolation="client") for name in names]
    of = declared(*own, bases=bases, hosts=[host("a", *FOUR)], known=[*names, *(sizes or ())])
    versions = {
        name: replace(each, bytes=(sizes or {}).get(name, LARGE))
        for name, each in of.versions.items()
    }
    return limited(replace(of, versions=versions), memory)


def drained(memory: int, *names: str, **fields: object) -> FleetSpec:
    of = racked(memory, *names, **fields)  # type: ignore[arg-type]
    cards = (replace(FOUR[0], state="draining"), *FOUR[1:])
    return replace(of, hosts={"a": replace(of.hosts["a"], devices=cards)})


def removed(memory: int, *names: str, **fields: object) -> FleetSpec:
    of = racked(memory, *names, **fields)  # type: ignore[arg-type]
    return replace(of, hosts={"a": replace(of.hosts["a"], devices=tuple(FOUR[1:]))})


def paired(memory: int, *names: str) -> FleetSpec:
    """Declare that each server stands on two devices, and has its versions in memory twice."""
    of = racked(memory, *names)
    return replace(of, bases={**of.bases, "llama": replace(EIGHT, tensor_parallel=2)})


OLD, NEW = "acme-support-llama-v1.0.0", "acme-support-mini-v2.0.0"
OTHER = "birch-support-mini-v1.0.0"


@pytest.mark.parametrize(
    ("servers", "before", "after", "text"),
    [
        (1, racked(SERVER, OLD), racked(SERVER, OTHER, sizes={OLD: LARGE}), ""),
        (2, racked(SERVER, OLD), racked(2 * SERVER, NEW, sizes={OLD: LARGE}), ""),
        (1, racked(SERVER, OLD), racked(3 * SERVER // 2, NEW, sizes={OLD: LARGE}),
         "a server that lists it and 1.0 GiB for its other servers: 512 MiB short"),
        (1, racked(SERVER, OLD), drained(2 * SERVER, OLD), ""),
        (1, racked(SERVER, OLD), removed(2 * SERVER, OLD), ""),
        (1, racked(SERVER, OLD), removed(3 * SERVER // 2, OLD),
         "lists it and 1.0 GiB until `llama-a-gpu0` has stopped or started again: 512 MiB short"),
        (1, racked(SERVER, OLD), paired(2 * SERVER, OLD), ""),
        (1, racked(SERVER, OLD), racked(SERVER, OLD, slots=4), ""),
        (1, racked(SERVER, OLD), racked(2 * SERVER, OLD, slots=16), ""),
        (1, racked(SERVER, OLD), racked(3 * SERVER // 2, OLD, slots=16), "needs 2.0 GiB for a"),
        (2, racked(SERVER, OLD), racked(2 * SERVER - 1, OLD, OTHER, slots=4), "and 512 MiB until"),
        (2, racked(SERVER, OLD), racked(2 * SERVER, OLD, OTHER, slots=4), ""),
    ],
)  # fmt: skip
def test_old_and_new_servers_are_listed_side_by_side_until_the_old_have_gone(
    servers: int, before: FleetSpec, after: FleetSpec, text: str
) -> None:
    world = World(NOON)
    world.apply(world.plan(before))
    if text:
        with pytest.raises(PlacementError) as caught:
            world.plan(after)
        [found] = caught.value.diagnostics
        assert found.code == "FC2009"
        assert text in found.detail
        return
    plan = world.plan(after)
    world.apply(plan, backwards=True)
    assert len(world.live().servers()) <= servers
    assert world.plan(after).changes == ()


@pytest.mark.parametrize(("memory", "free"), [(2 * SERVER, True), (3 * SERVER // 2, False)])
def test_explaining_names_the_memory_of_a_host_where_it_forbids_another_place(
    memory: int,
    free: bool,  # noqa: FBT001 (a column of the table)
) -> None:
    of = racked(memory, OLD, "acme-triage-llama-v1.0.0")
    wanted = paced(of, state())
    placement = place(of, wanted, state())
    [other] = weigh(of, wanted, state(), placement, OLD, "llama-a-gpu0").alternatives
    assert bool(other.obstacles) != free
    assert free or "declares 1.5 GiB for listed adapters" in other.obstacles[0]


CLIENTS, KINDS = ("acme", "birch", "cedar"), ("llama", "mini")
declared_ones = st.sets(
    st.tuples(st.sampled_from(CLIENTS), st.sampled_from(KINDS), st.sampled_from((1, 1, 2))),
    min_size=1, max_size=2,
).filter(lambda some: len({client for client, _, _ in some}) == len(some))  # fmt: skip
rounds = st.lists(
    st.tuples(
        declared_ones, st.sampled_from((8, 8, 16)), st.sampled_from((racked, drained, removed))
    ),
    min_size=2, max_size=4,
)  # fmt: skip


@drawn
@settings(max_examples=examples(20, 60))
@given(rounds, st.integers(1, 4), st.booleans())
def test_no_step_of_an_apply_lists_more_than_a_host_holds(
    wanted: list[tuple[set[tuple[str, str, int]], int, Callable[..., FleetSpec]]],
    halves: int,
    backwards: bool,  # noqa: FBT001 (drawn by hypothesis)
) -> None:
    """The simulated fleet checks every step, in the listed order or in the opposite one."""
    world, codes = World(NOON), set[str]()
    sizes = {f"{client}-a-{kind}-v{half}.0.0": half * LARGE // 2
             for client in CLIENTS for kind in KINDS for half in (1, 2)}  # fmt: skip
    for some, slots, made in wanted:
        names = [f"{client}-a-{kind}-v{half}.0.0" for client, kind, half in sorted(some)]
        of = made(halves * SERVER // 2, *names, slots=slots, sizes=sizes)
        live = world.live()
        try:
            plan = world.plan(of)
        except PlacementError as error:
            codes.add(error.diagnostics[0].code)
            continue
        assert verify_steps(plan, of, live) == ()
        world.apply(plan, backwards=backwards)
        assert world.plan(of).changes == ()
    assert codes <= {"FC2001", "FC2007", "FC2008", "FC2009"}
