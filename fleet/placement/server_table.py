"""Server table: what a new server of each type carries, and what no placement undercuts."""

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
"""Upper bound of the versions that a new server is looked at with."""
UNLIMITED = 1 << 40
"""Stands for a throughput that is not known, in `RATE_UNIT`ths of a token per second."""


def server_table(
    state: PlacementState,
    base: BaseSpec,
    server_types: Sequence[ServerType],
    ranks: Sequence[int],
    busiest: Sequence[float],
    spare: int | None = None,
) -> Ints:
    """Return what a server carries in any hour, by type, rank and number of versions.

    0: as many versions find no room. The unit is that of loads.

    Args:
        state: With the fleet and its mix of requests.
        base: What the servers serve.
        server_types: Their types.
        ranks: Their `max_lora_rank`, ascending.
        busiest: By number of versions: how many of them are active at a time, from 1 on.
        spare: Slots that stay free; None: as many as the declarations keep for canaries.
    """
    mix = state.hardware.request_mixes.get(base.name, NO_REQUEST_MIX)
    most = min(MOST_SLOTS, len(busiest))
    table = np.zeros((len(server_types), len(ranks), most + 1), dtype=np.int64)
    for (place, server_type), (width, rank) in product(enumerate(server_types), enumerate(ranks)):
        for count in range(1, most + 1):
            shape = shape_for(state.fleet, base, server_type, rank, count, spare)
            if shape is None:
                break
            policy = state.fleet.policy
            found = throughput_of(shape, mix, state.fleet.profiles, policy.utilization)
            carried = found.at(busiest[count - 1]) * RATE_UNIT
            table[place, width, count] = int(carried) if np.isfinite(carried) else UNLIMITED
    return table


def rank_bucket_of(base: BaseSpec, item: Item) -> int:
    """Return `--max-lora-rank` of a server that is opened for a version; 0 where none will do."""
    bucket = base.max_lora_rank or rank_bucket(item.rank) or 0
    return bucket if bucket >= item.rank else 0


def prices(given: Iterable[float]) -> Ints:
    """Return prices as the packer's integers; where nothing costs anything, servers count."""
    found = np.array([round(price * PRICE_UNIT) for price in given], dtype=np.int64)
    return found if found.any() else np.ones(len(found), dtype=np.int64)


def lower_bound(state: PlacementState) -> float:
    """Return an hourly price that no placement undercuts.

    Each base is priced on its own, as if every kind of device were there without end, no rule
    held and no two adapters ever slowed each other down; what is on servers of others is free.
    Where a base was bought for in one piece, what the packer proved counts if it is more. Its
    servers keep their canary slots free and carry the busiest adapters they might be given.
    """
    total = 0.0
    for name, base in state.fleet.bases.items():
        items = [
            item
            for item in state.items.values()
            if item.base == name and item.rank and rank_bucket_of(base, item)
        ]
        bought = [item for item in items if _on_devices(state, item)]
        server_types = every_server_type(state.fleet, base)
        if bought and server_types:
            proved = state.floors.get(name, 0) / PRICE_UNIT
            total += max(_bound(state, bought, server_types), proved)
    return round(total, 6)


def _on_devices(state: PlacementState, item: Item) -> bool:
    return all(
        name in state.drafts and bool(state.drafts[name].devices)
        for name in state.bound[item.adapter]
    ) and bool(state.bound[item.adapter])


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
        # As few copies as are declared: what is divided further still adds up to the same.
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
