"""Server table: loads that new servers carry by type, and the lower bound of the price."""

from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np

from fleet.capacity import NO_REQUEST_MIX, throughput_of
from fleet.hardware import BaseSpec
from fleet.packing import PRICE_UNIT, Instance
from fleet.packing import lower_bound as price_bound
from fleet.placement.items import RATE_UNIT, Ints, Item
from fleet.placement.server_types import ServerType, every_server_type, shape_for
from fleet.placement.state import PlacementState
from fleet.vllm import rank_bucket

MOST_SLOTS = 128
"""Upper bound of the versions on a new server in the table."""
UNLIMITED = 1 << 40
"""Load in place of an unknown throughput, in `RATE_UNIT`ths of a token per second."""


def server_table(
    state: PlacementState,
    base: BaseSpec,
    server_types: Sequence[ServerType],
    ranks: Sequence[int],
    busiest: Sequence[float],
    spare: int | None = None,
) -> Ints:
    """Return the load that a server carries in any hour, by type, rank and number of versions.

    0: as many versions find no room. The unit is that of loads.

    Args:
        state: With the fleet and its mix of requests.
        base: The base of the servers.
        server_types: Their types.
        ranks: Their `max_lora_rank`, ascending.
        busiest: By number of versions, from 1 on: the number that is active at a time.
        spare: Slots that stay free; None: as many as the declarations keep for canaries.
    """
    mix = state.hardware.request_mixes.get(base.name, NO_REQUEST_MIX)
    utilization, profiles = state.fleet.policy.utilization, state.fleet.profiles
    most = min(MOST_SLOTS, len(busiest))
    table = np.zeros((len(server_types), len(ranks), most + 1), dtype=np.int64)
    for (row, server_type), (width, rank) in product(enumerate(server_types), enumerate(ranks)):
        for count, active in enumerate(busiest[:most], 1):
            shape = shape_for(state.fleet, base, server_type, rank, count, spare)
            if shape is None:
                break
            load = throughput_of(shape, mix, profiles, utilization).at(active) * RATE_UNIT
            table[row, width, count] = int(load) if np.isfinite(load) else UNLIMITED
    return table


def rank_bucket_of(base: BaseSpec, item: Item) -> int:
    """Return `--max-lora-rank` of a new server for a version; 0 where no rank will do."""
    bucket = base.max_lora_rank or rank_bucket(item.rank) or 0
    return bucket if bucket >= item.rank else 0


def prices(given: Iterable[float]) -> Ints:
    """Return prices as the packer's integers; where all are 0, the number of servers counts."""
    units = np.array([round(price * PRICE_UNIT) for price in given], dtype=np.int64)
    return units if units.any() else np.ones(len(units), dtype=np.int64)


def lower_bound(state: PlacementState) -> float:
    """Return an hourly price that no placement undercuts.

    A base is priced on its own, as if every kind of device were there without end, no rule
    held and no two adapters ever slowed each other down; versions on attached servers are free.
    Where a base was bought for in a single order, the packer's proof counts if it is more. Servers
    of that proof keep their canary slots free and carry the busiest adapters they might be given.
    """
    total = 0.0
    for name, base in state.fleet.bases.items():
        items = [
            item
            for item in state.items.values()
            if item.base == name and item.rank and rank_bucket_of(base, item)
        ]
        bought = [
            item
            for item in items
            if (on := state.bound[item.adapter])
            and all(name in state.drafts and state.drafts[name].devices for name in on)
        ]
        server_types = every_server_type(state.fleet, base)
        if bought and server_types:
            proved = state.floors.get(name, 0) / PRICE_UNIT
            total += max(_bound(state, bought, server_types), proved)
    return round(total, 6)


def _bound(state: PlacementState, items: list[Item], server_types: list[ServerType]) -> float:
    base = state.fleet.bases[items[0].base]
    price = prices([server_type.price for server_type in server_types])
    if not any(server_type.price for server_type in server_types):
        return 0.0
    ranks = sorted({rank_bucket_of(base, item) for item in items})
    aliases = {item.alias: item for item in items}.values()  # versions of an alias share its load
    least = {alias.alias: state.fleet.adapters[alias.alias].replicas for alias in aliases}
    copies = [alias for alias in aliases for _ in range(min(least[alias.alias], alias.replicas))]
    alone = [0.0] * len(copies)
    table = np.maximum(server_table(state, base, server_types, ranks, alone, spare=0), 0)
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
    )
    return price_bound(instance) / PRICE_UNIT
