"""Fleets on servers of mixed types, against brute force and an independent checker."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.packing import Effort, pack_servers
from fleet.packing.construct import WHOLE, construct
from fleet.packing.servers import Catalog, Replica, instances_of
from fleet.packing.solver import available
from tests.drawn import drawn, examples, long
from tests.fleet.packing.oracle import chance, cheapest, check_servers

HOURS = 4


def catalog(scale: int = 100, most: int = 12) -> Catalog:
    """Two bases and three GPU types; rank and number of adapters cost capacity."""

    def table(size: int) -> tuple[tuple[int, ...], ...]:
        return tuple(
            tuple(max(0, size - 8 * rank - 2 * count * (1 + rank)) for count in range(most + 1))
            for rank in range(3)
        )

    sizes = {"one": (scale, 2 * scale, 4 * scale), "two": (0, scale, 3 * scale)}
    return Catalog(
        tuple(sizes),
        ("small", "middle", "large"),
        (8_000, 13_000, 26_000),
        tuple(tuple(table(size) for size in each) for each in sizes.values()),
    )


def fleet(seed: int, adapters: int) -> list[Replica]:
    draw = chance(seed)
    found = []
    for adapter in range(adapters):
        base, rank = draw.randrange(2), draw.choice([0, 0, 1, 2])
        loads = tuple(draw.randint(0, 25) for _ in range(HOURS))
        found += [Replica(adapter, base, rank, loads)] * draw.choice([1, 1, 1, 2])
    return found


@st.composite
def tiny(draw: st.DrawFn) -> list[Replica]:
    replica = st.builds(
        Replica,
        st.integers(0, 4),
        st.just(0),
        st.integers(0, 2),
        st.tuples(*[st.integers(0, 60)] * HOURS),
    )
    return draw(st.lists(replica, min_size=1, max_size=6))


@drawn
@settings(deadline=None, max_examples=examples(10, 25))
@given(tiny())
def test_a_tiny_fleet_costs_what_trying_everything_finds(replicas: list[Replica]) -> None:
    least = cheapest(replicas, catalog())
    packing = pack_servers(replicas, catalog(), effort="proof")
    check_servers(packing, replicas, catalog())
    assert least is not None
    assert packing.bound <= least <= packing.price
    if available():
        assert packing.status == "optimal"


@pytest.mark.parametrize(
    ("effort", "seed", "adapters"),
    [("fast", 0, 40), ("balanced", 3, 20), *long(("fast", 1, 40), ("fast", 2, 40))],
)
def test_a_packing_is_valid_and_does_not_depend_on_order(
    effort: Effort, seed: int, adapters: int
) -> None:
    replicas = fleet(seed, adapters)
    prices = set()
    for shuffle in range(2):
        shuffled = chance(shuffle).sample(replicas, len(replicas))
        packing = pack_servers(shuffled, catalog(), effort=effort)
        check_servers(packing, shuffled, catalog())
        prices.add(packing.price)
    assert len(prices) == 1


def test_a_large_group_costs_less_than_first_fit_whatever_the_order() -> None:
    replicas = [replace(each, base=0) for each in fleet(seed=1, adapters=520)]
    sold = catalog(most=40)
    (_, _, instance), *_ = instances_of(replicas, sold)
    assert len(instance.rank) > WHOLE
    found = set()
    for shuffle in range(2):
        shuffled = chance(shuffle).sample(replicas, len(replicas))
        packing = pack_servers(shuffled, sold, effort="fast")
        check_servers(packing, shuffled, sold)
        held = (
            (each.gpu, tuple(sorted(shuffled[item].loads for item in each.items)))
            for each in packing.servers
        )
        found.add(tuple(sorted(held)))
    assert len(found) == 1
    assert packing.bound <= packing.price <= 0.97 * construct(instance).price(instance)


def test_replicas_of_one_adapter_stand_apart() -> None:
    packing = pack_servers([Replica(7, 0, 0, (1,) * HOURS)] * 3, catalog())
    assert [(each.gpu, len(each.items)) for each in packing.servers] == [("small", 1)] * 3
    assert packing.status == "optimal"


def test_an_adapter_that_fits_nowhere_is_named() -> None:
    replicas = [Replica(0, 0, 0, (1,) * HOURS), Replica(1, 1, 0, (301,) * HOURS)]
    with pytest.raises(ValueError, match="item 1 fits no GPU type, even alone"):
        pack_servers(replicas, catalog())


def test_loads_beyond_32_bits_are_added_up_exactly() -> None:
    sold = catalog(scale=10**10)
    replicas = [Replica(i, 0, 0, (3 * 10**9 + i,) * HOURS) for i in range(9)]
    packing = pack_servers(replicas, sold, effort="fast")
    check_servers(packing, replicas, sold)


@drawn
@settings(deadline=None, max_examples=examples(6, 15))
@given(tiny(), st.integers(2, 50))
def test_repeated_hours_and_another_unit_leave_the_packing_as_it_is(
    replicas: list[Replica], unit: int
) -> None:
    sold = catalog()
    plain = pack_servers(replicas, sold, effort="fast")
    longer = [replace(each, loads=each.loads * 2) for each in replicas]
    assert pack_servers(longer, sold, effort="fast") == plain
    capacity = tuple(
        tuple(tuple(tuple(unit * most for most in row) for row in gpu) for gpu in base)
        for base in sold.capacity
    )
    larger = [replace(each, loads=tuple(unit * load for load in each.loads)) for each in replicas]
    assert pack_servers(larger, replace(sold, capacity=capacity), effort="fast") == plain


@drawn
@settings(deadline=None, max_examples=examples(6, 15))
@given(tiny())
def test_one_replica_more_never_lowers_the_proven_price(replicas: list[Replica]) -> None:
    proven = [pack_servers(replicas[:count], catalog(), effort="proof")
              for count in range(1, len(replicas) + 1)]  # fmt: skip
    assert {each.status for each in proven} == {"optimal"} or not available()
    assert [each.price for each in proven] == sorted(each.price for each in proven)
