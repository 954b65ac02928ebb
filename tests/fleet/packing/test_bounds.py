"""Bounds of whole servers of several bases that share a stock: beside every packing there is."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.packing import Instance, PricedBase, configuration_bound, whole_servers_bound
from fleet.packing.problem import Stock
from tests.drawn import drawn, examples
from tests.fleet.packing.test_slowdown import partitions, slowing

pytest.importorskip("highspy", reason="the bound of whole servers needs the extra `proof`")


def packings(instance: Instance) -> Iterator[tuple[int, ...]]:
    """Yield the servers by type of every packing."""
    items = list(range(len(instance.rank)))
    seen = set()
    for servers in partitions(items):
        fitting = [list(instance.holding(np.array(own), 0)) for own in servers]
        seen |= {tuple(sorted(gpus)) for gpus in product(*fitting)}
    yield from sorted(seen)


def divided(instance: Instance, copies: int) -> Instance:
    """Return the instance with as many alike items in place of each owner's."""
    owners, first = np.unique(instance.owner, return_index=True)
    loads = [instance.loads[instance.owner == owner].sum(axis=0) for owner in owners]
    assert instance.busy is not None
    return replace(
        instance,
        loads=np.repeat(-(-np.array(loads) // copies), copies, axis=0),
        rank=np.repeat(instance.rank[first], copies),
        owner=np.repeat(owners, copies),
        busy=np.repeat(instance.busy[first], copies, axis=0),
    )


def alike(instance: Instance) -> Instance:
    """Return the instance with equal items of an owner, as the replicas of an adapter are."""
    owners, counts = np.unique(instance.owner, return_counts=True)
    once = divided(instance, 1)
    places = np.repeat(np.arange(len(owners)), counts)
    loads = -(-once.loads[places] // counts[places][:, None])
    assert once.busy is not None
    return replace(
        once, loads=loads, rank=once.rank[places], owner=owners[places], busy=once.busy[places]
    )


def least(stock: Stock, prices: np.ndarray, *bases: list[tuple[int, ...]]) -> float:
    """Return the price of the cheapest packings that a stock has the devices for."""
    found = float("inf")
    for choice in product(*bases):
        gpus = np.array([gpu for own in choice for gpu in own], dtype=np.int64)
        if (stock.left(gpus) >= 0).all():
            found = min(found, float(prices[gpus].sum()))
    return found


@drawn
@settings(deadline=None, max_examples=examples(10, 30))
@given(
    st.integers(0, 10_000),
    st.integers(1, 4),
    st.integers(1, 3),
    st.tuples(st.integers(0, 4), st.integers(0, 5)),
    st.sampled_from([(99, 99), None]),
    st.sampled_from([0, 2]),
)
def test_no_packings_of_two_bases_cost_less_than_their_bound(
    seed: int,
    items: int,
    others: int,
    free: tuple[int, int],
    endless: tuple[int, int] | None,
    divided_up_to: int,
) -> None:
    first, second = alike(slowing(seed, items, free)), alike(slowing(seed + 1, others, free))
    first = replace(first, loads=first.loads * 4)
    stock = replace(first.stock, free=np.array(endless or free))
    ways = [[list(packings(first))], [list(packings(second))]]
    if items <= divided_up_to:
        copies = range(first.copies() + 1, 4)
        ways[0] += [list(packings(divided(first, number))) for number in copies]
    cheapest = min(least(stock, first.price, one, other) for one in ways[0] for other in ways[1])
    bound = whole_servers_bound(
        [
            PricedBase(
                replace(its, stock=stock),
                np.full(len(its.rank), divided_up_to > 0 and its is first),
                0,
            )
            for its in (first, second)
        ]
    )
    assert bound <= cheapest


def priced(instance: Instance, small: int, large: int) -> PricedBase:
    """Return a base whose stock has as many devices of the first type, and of the others."""
    stock = replace(instance.stock, free=np.array([small, large]))
    return PricedBase(replace(instance, stock=stock), np.full(len(instance.rank), False), 0)


def test_servers_are_whole_and_come_from_the_stock_of_all_bases() -> None:
    one, other = alike(slowing(1, 6, (0, 0))), alike(slowing(2, 6, (0, 0)))
    nothing = np.full(6, False)
    parts = sum(configuration_bound(its, nothing) for its in (one, other))
    whole, scarce = (
        whole_servers_bound([priced(one, *free), priced(other, *free)]) for free in ((9, 9), (1, 9))
    )
    assert parts < whole < scarce
    assert scarce == least(
        priced(one, 1, 9).instance.stock, one.price, list(packings(one)), list(packings(other))
    )


def test_the_known_bound_of_a_base_counts() -> None:
    base = priced(alike(slowing(1, 4, (0, 0))), 9, 9)
    found = whole_servers_bound([base])
    assert whole_servers_bound([base._replace(floor=found + 1)]) > found
