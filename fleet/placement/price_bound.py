"""Price bound: an hourly price that no placement undercuts, by the packer's bounds."""

import numpy as np

from fleet.packing import PRICE_UNIT, Effort, Instance, configuration_bound
from fleet.packing import lower_bound as price_bound
from fleet.placement.items import ACTIVE_UNIT, Item
from fleet.placement.server_types import (
    ServerType,
    every_server_type,
    prices,
    rank_bucket_of,
    server_table,
)
from fleet.placement.state import PlacementState
from fleet.prospects import BoundBasis


def lower_bound(state: PlacementState, effort: Effort) -> tuple[float, BoundBasis]:
    """Return an hourly price that no placement undercuts, with its basis.

    A base is priced on its own, as if every kind of device were there without end and no rule
    held; versions on attached servers are free. With effort `fast`, as if no two adapters ever
    slowed each other down. Where a base was bought for in a single order, the packer's proof counts
    if it is more. Servers of that proof keep their canary slots free. Promises do not count.
    """
    total = 0.0
    basis: BoundBasis = "resources" if effort == "fast" else "configurations"
    for name, base in state.fleet.bases.items():
        bought = [
            item
            for item in state.items.values()
            if item.base == name and item.rank and rank_bucket_of(base, item)
            if (on := state.bound[item.adapter])
            if all(server in state.drafts and state.drafts[server].devices for server in on)
        ]
        server_types = every_server_type(state.fleet, base)
        if bought and server_types:
            proved = state.floors.get(name, 0) / PRICE_UNIT
            if any(item.cached for item in bought):
                basis = "resources"  # of one base at least
            total += max(_bound(state, bought, server_types, effort), proved)
    return round(total, 6), basis


def _bound(
    state: PlacementState, items: list[Item], server_types: list[ServerType], effort: Effort
) -> float:
    base = state.fleet.bases[items[0].base]
    price = prices([server_type.price for server_type in server_types])
    if not any(server_type.price for server_type in server_types):
        return 0.0
    ranks = sorted({rank_bucket_of(base, item) for item in items})
    aliases = {item.alias: item for item in items}.values()  # versions of an alias share its load
    least = {alias.alias: state.fleet.adapters[alias.alias].replicas for alias in aliases}
    copies = [alias for alias in aliases for _ in range(min(least[alias.alias], alias.replicas))]
    table, spread = server_table(state, base, server_types, ranks, len(copies), spare=0)
    names = {name: index for index, name in enumerate(sorted({item.alias for item in copies}))}
    instance = Instance(
        # As few copies as are declared: the parts of a load that is divided further add up to it.
        np.array(
            [item.load.tokens * item.replicas // max(least[item.alias], 1) for item in copies],
            dtype=np.int64,
        ),
        np.array([ranks.index(rank_bucket_of(base, item)) for item in copies], dtype=np.int64),
        np.array([names[item.alias] for item in copies], dtype=np.int64),
        table,
        price,
        np.array([item.load.active for item in copies]) / ACTIVE_UNIT,
        spread,
    )
    least_price = price_bound(instance)
    if effort != "fast" and not any(item.cached for item in copies):
        divisible = np.array(
            [item.others > 0 or item.replicas > least[item.alias] for item in copies]
        )
        least_price = max(least_price, configuration_bound(instance, divisible))
    return least_price / PRICE_UNIT
