"""Servers whose items slow each other down, with few devices of some types."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.packing import Instance, Stock, configuration_bound, lower_bound, pack
from fleet.packing.construct import construct
from fleet.packing.problem import Packing, Rng
from fleet.packing.proofs import aggregate_bound
from fleet.packing.search import recreate
from fleet.packing.tabu import SlowdownTabu

HOURS = 6


def slowing(seed: int, items: int, free: tuple[int, int], hastes: int = 1) -> Instance:
    """Three types of server, two of which take from one pool; ranks and haste cost load and pace.

    The second type does not take items in haste.
    """
    rng = Rng(np.random.PCG64(seed))
    size, count = np.array([300, 500, 1_000]), np.arange(13)
    rank, haste = np.divmod(np.arange(3 * hastes), hastes)
    table = size[:, None, None] - 30 * rank[None, :, None] - 4 * count[None, None, :]
    table -= 60 * haste[None, :, None]
    table[1, haste > 0] = 0
    busy = rng.random((items, HOURS)) ** 2
    return Instance(
        rng.integers(1, 120, (items, HOURS)),
        rng.integers(0, 3 * hastes, items),
        rng.integers(0, items, items),
        np.maximum(table, 0),
        np.array([8_000, 13_000, 26_000]),
        busy,
        0.02 * (1 + rank[None, :] + np.zeros((3, 1))),
        Stock(np.array([0, 1, 1]), np.array([1, 1, 2]), np.array(free)),
        hastes,
    )


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 10_000),
    st.integers(1, 30),
    st.integers(0, 6),
    st.integers(0, 9),
    st.integers(1, 3),
)
def test_every_server_holds_its_items_and_no_pool_is_overdrawn(
    seed: int, items: int, small: int, large: int, hastes: int
) -> None:
    instance = slowing(seed, items, (small, large), hastes)
    packing, floor = pack(instance, "fast")
    assert (instance.stock.left(packing.gpus) >= 0).all()
    for server, gpu in enumerate(packing.gpus.tolist()):
        members = (packing.assignment == server).nonzero()[0]
        assert len(members)
        assert instance.fits(gpu, members)
    if (packing.assignment >= 0).all():
        assert floor <= packing.price(instance)


def test_with_devices_enough_nothing_is_left_out_and_the_search_saves_money() -> None:
    few, many = (pack(slowing(7, 60, free), "fast")[0] for free in ((0, 60), (60, 60)))
    instance = slowing(7, 60, (60, 60))
    assert (few.assignment >= 0).all()
    assert (many.assignment >= 0).all()
    assert many.price(instance) < few.price(instance)


@pytest.mark.parametrize(("free", "hastes"), [((60, 60), 1), ((4, 14), 1), ((60, 60), 3)])
def test_servers_emptied_and_filled_again_hold_all_for_less(
    free: tuple[int, int], hastes: int
) -> None:
    instance = slowing(3, 60, free, hastes)
    before = construct(instance)
    assert (before.assignment >= 0).all()
    found, again = (recreate(instance, before, 5_000, 0) for _ in range(2))
    assert found.price(instance) < before.price(instance)
    assert (found.assignment == again.assignment).all()
    assert (instance.stock.left(found.gpus) >= 0).all()
    assert np.unique(found.assignment).tolist() == [*range(len(found.gpus))]
    for server, gpu in enumerate(found.gpus.tolist()):
        assert instance.fits(gpu, (found.assignment == server).nonzero()[0])


@pytest.mark.parametrize("hastes", [1, 3])
def test_the_repair_counts_overload_by_the_law_of_the_instance(hastes: int) -> None:
    instance = slowing(3, 40, (99, 99), hastes)
    gpus = np.arange(6) % 3
    rng = Rng(np.random.PCG64(0))
    search = SlowdownTabu(instance, gpus, np.arange(40) % 6, rng)
    for _ in range(20):
        search.run(3, 3, rng)
        packing = Packing(gpus, search.assignment)
        load, rank, count = packing.totals(instance)
        strain = instance.strain(load, packing.busy(instance), gpus, rank)
        over = np.maximum(strain - instance.capacity[gpus, rank, count][:, None], 0).sum(axis=1)
        assert np.abs(search.over - over).max() <= 2


def partitions(items: list[int]) -> Iterator[list[list[int]]]:
    """Yield the ways to divide items among servers."""
    if not items:
        yield []
        return
    for rest in partitions(items[1:]):
        yield [[items[0]], *rest]
        for place, others in enumerate(rest):
            yield [*rest[:place], [items[0], *others], *rest[place + 1 :]]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 3))
def test_no_packing_costs_less_than_the_bounds(seed: int, items: int, hastes: int) -> None:
    instance = slowing(seed, items, (items, 2 * items), hastes)
    costs = []
    for servers in partitions(list(range(items))):
        fitting = [list(instance.holding(np.array(own), 0)) for own in servers]
        if all(fitting):
            costs.append(sum(int(instance.price[types].min()) for types in fitting))
    for divisible in (False, True):
        bound = configuration_bound(instance, np.full(items, divisible))
        assert bound <= min(costs)
    assert lower_bound(instance) <= min(costs)
    assert aggregate_bound(instance) <= min(costs)
