"""A lower bound of what any placement costs, whatever runs now."""

import numpy as np

from fleet.capacity import NO_REQUEST_MIX, throughput_of
from fleet.packing import PRICE_UNIT, Instance
from fleet.packing import lower_bound as price_bound
from fleet.placement.buy import MOST_SLOTS, UNLIMITED, prices, rank_bucket_of
from fleet.placement.items import RATE_UNIT, Item
from fleet.placement.server_types import ServerType, cut_of, every_kind
from fleet.placement.state import PlacementState


def lower_bound(board: PlacementState) -> float:
    """Return an hourly price that no placement undercuts.

    Each base is priced on its own, as if every kind of device were there without end, no rule
    held and no two adapters ever slowed each other down; what is on servers of others is free.
    Where a base was bought for in one piece, what the packer proved counts if it is more. Its
    servers keep their canary slots free and carry the busiest adapters they might be given.
    """
    total = 0.0
    for name, base in board.fleet.bases.items():
        items = [
            each
            for each in board.items.values()
            if each.base == name and each.rank and rank_bucket_of(base, each)
        ]
        bought = [each for each in items if _on_devices(board, each)]
        kinds = every_kind(board.fleet, base)
        if bought and kinds:
            proved = board.floors.get(name, 0) / PRICE_UNIT
            total += max(_bound(board, bought, kinds), proved)
    return round(total, 6)


def _on_devices(board: PlacementState, item: Item) -> bool:
    return all(
        name in board.bins and bool(board.bins[name].devices) for name in board.bound[item.adapter]
    ) and bool(board.bound[item.adapter])


def _bound(board: PlacementState, items: list[Item], kinds: list[ServerType]) -> float:
    base = board.fleet.bases[items[0].base]
    price = prices([each.price for each in kinds])
    if not any(each.price for each in kinds):
        return 0.0
    habits = board.hardware.habits.get(base.name, NO_REQUEST_MIX)
    ranks = sorted({rank_bucket_of(base, each) for each in items})
    aliases = {each.alias: each for each in items}.values()  # versions of an alias share its load
    least = {each.alias: board.fleet.adapters[each.alias].replicas for each in aliases}
    copies = [each for each in aliases for _ in range(min(least[each.alias], each.replicas))]
    most = min(MOST_SLOTS, len(copies))
    table = np.zeros((len(kinds), len(ranks), most + 1), dtype=np.int64)
    for place, kind in enumerate(kinds):
        for width, rank in enumerate(ranks):
            for count in range(1, most + 1):
                shape = cut_of(board.fleet, base, kind, rank, count, spare=0)
                if shape is None:
                    break
                found = throughput_of(
                    shape, habits, board.fleet.profiles, board.fleet.policy.utilization
                )
                carried = found.limit * RATE_UNIT
                limit = int(carried) if np.isfinite(carried) else UNLIMITED
                table[place, width, count] = max(limit, 0)
    names = {name: index for index, name in enumerate(sorted({each.alias for each in copies}))}
    instance = Instance(
        # As few copies as are declared: what is divided further still adds up to the same.
        np.array(
            [each.asks.tokens * each.replicas // max(least[each.alias], 1) for each in copies],
            dtype=np.int64,
        ),
        np.array([ranks.index(rank_bucket_of(base, each)) for each in copies], dtype=np.int64),
        np.array([names[each.alias] for each in copies], dtype=np.int64),
        table,
        price,
    )
    return price_bound(instance) / PRICE_UNIT
