"""Checkers and brute force that share nothing with the search."""

from collections.abc import Iterator, Sequence
from random import Random

from fleet.packing.servers import Catalog, Replica, ServerPacking


def chance(seed: int) -> Random:
    """Return chance for test data, not for secrets."""
    return Random(seed)  # noqa: S311


def partitions(items: Sequence[int]) -> Iterator[list[list[int]]]:
    """Yield every way to split items into groups."""
    if not items:
        yield []
        return
    first, *rest = items
    for smaller in partitions(rest):
        yield [[first], *smaller]
        for index, group in enumerate(smaller):
            yield [*smaller[:index], [first, *group], *smaller[index + 1 :]]


def fits(sizes: Sequence[Sequence[int]], capacity: Sequence[int], items: Sequence[int]) -> bool:
    return all(
        sum(sizes[item][dimension] for item in items) <= limit
        for dimension, limit in enumerate(capacity)
    )


def fewest_bins(sizes: Sequence[Sequence[int]], capacity: Sequence[int]) -> int:
    return min(
        len(groups)
        for groups in partitions(range(len(sizes)))
        if all(fits(sizes, capacity, group) for group in groups)
    )


def holds(replicas: Sequence[Replica], catalog: Catalog, gpu: int, items: Sequence[int]) -> bool:
    """Say whether a server of this type can hold these replicas of the same base."""
    chosen = [replicas[item] for item in items]
    table = catalog.capacity[chosen[0].base][gpu][max(each.rank for each in chosen)]
    return (
        len({each.base for each in chosen}) == 1
        and len({each.adapter for each in chosen}) == len(chosen)
        and len(chosen) < len(table)
        and all(
            sum(each.loads[hour] for each in chosen) <= table[len(chosen)]
            for hour in range(len(chosen[0].loads))
        )
    )


def cheapest(replicas: Sequence[Replica], catalog: Catalog) -> int | None:
    """Return the least price of servers for all replicas, by trying every partition."""
    best: int | None = None
    for groups in partitions(range(len(replicas))):
        price = 0
        for group in groups:
            fitting = [
                catalog.price[gpu]
                for gpu in range(len(catalog.gpus))
                if holds(replicas, catalog, gpu, group)
            ]
            if not fitting:
                break
            price += min(fitting)
        else:
            best = price if best is None else min(best, price)
    return best


def check_servers(packing: ServerPacking, replicas: Sequence[Replica], catalog: Catalog) -> None:
    """Fail unless the packing is valid and its price is the sum of its servers' prices."""
    placed = sorted(item for server in packing.servers for item in server.items)
    assert placed == list(range(len(replicas)))
    price = 0
    for server in packing.servers:
        gpu = catalog.gpus.index(server.gpu)
        assert catalog.bases[replicas[server.items[0]].base] == server.base
        assert holds(replicas, catalog, gpu, server.items)
        price += catalog.price[gpu]
    assert price == packing.price
    assert packing.bound <= packing.price
    assert (packing.status == "optimal") == (packing.bound == packing.price)
