"""Price bound: an hourly price that no placement undercuts, by the packer's bounds."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fleet.hardware import DeviceSpec, HostSpec
from fleet.packing import (
    PRICE_UNIT,
    Effort,
    Instance,
    PricedBase,
    Stock,
    configuration_bound,
    whole_servers_bound,
)
from fleet.packing import lower_bound as price_bound
from fleet.placement.items import ACTIVE_UNIT, Item
from fleet.placement.server_types import (
    DevicePool,
    ServerType,
    every_server_type,
    pool_of,
    prices,
    rank_bucket_of,
    server_table,
    stock_of,
)
from fleet.placement.state import PlacementState
from fleet.plan import BoundBasis
from fleet.spec import FleetSpec


def lower_bound(state: PlacementState, effort: Effort) -> tuple[float, BoundBasis]:
    """Return an hourly price that no placement undercuts, with its basis.

    No rule holds, and versions on attached servers are free. A base is priced on its own, as if
    every kind of device were there without end; with effort `fast`, as if no two adapters ever
    slowed each other down. Of few versions all bases share the devices that are declared, and their
    servers are whole. Where a base was bought for in a single order, the packer's proof counts if
    it is more. Servers of that proof keep their canary slots free. Promises do not count.
    """
    basis: BoundBasis = "resources" if effort == "fast" else "configurations"
    least, bases, kinds = 0, [], []
    for name, base in state.fleet.bases.items():
        bought = [
            item
            for item in state.items.values()
            if item.base == name and item.rank and rank_bucket_of(base, item)
            if (on := state.bound[item.adapter])
            if all(server in state.drafts and state.drafts[server].devices for server in on)
        ]
        wide = {len(its.devices) for its in state.drafts.values() if its.base is base}
        server_types = every_server_type(state.fleet, base, wide)
        if not bought or not any(server_type.price for server_type in server_types):
            continue
        priced = _priced(state, bought, server_types, effort)
        if any(item.cached for item in bought):
            basis = "resources"  # of one base at least
            least += priced.floor
        else:
            bases.append(priced)
            kinds.append(server_types)
    alone = sum(base.floor for base in bases)
    whole = 0 if effort == "fast" else whole_servers_bound(_sharing(state.fleet, bases, kinds))
    if whole and basis == "configurations":
        basis = "whole servers"
    return round((least + max(alone, whole)) / PRICE_UNIT, 6), basis


def _priced(
    state: PlacementState, items: list[Item], server_types: list[ServerType], effort: Effort
) -> PricedBase:
    """Return the items of a base, as few copies as are declared, with a bound of their own."""
    base = state.fleet.bases[items[0].base]
    ranks = sorted({rank_bucket_of(base, item) for item in items})
    aliases = {item.alias: item for item in items}.values()  # versions of an alias share its load
    least = {alias.alias: state.fleet.adapters[alias.alias].replicas for alias in aliases}
    copies = [alias for alias in aliases for _ in range(min(least[alias.alias], alias.replicas))]
    table, spread = server_table(state, base, server_types, ranks, len(copies), spare=0)
    names = {name: index for index, name in enumerate(sorted({item.alias for item in copies}))}
    divisible = np.array([item.others > 0 or item.replicas > least[item.alias] for item in copies])
    loads = [
        # Replicas' loads are rounded up; the parts of a load that is divided add up to this.
        np.maximum(item.load.tokens - int(apart), 0) * item.replicas // max(least[item.alias], 1)
        for item, apart in zip(copies, divisible, strict=True)
    ]
    instance = Instance(
        np.array(loads, dtype=np.int64),
        np.array([ranks.index(rank_bucket_of(base, item)) for item in copies], dtype=np.int64),
        np.array([names[item.alias] for item in copies], dtype=np.int64),
        table,
        prices([server_type.price for server_type in server_types]),
        np.array([item.load.active for item in copies]) / ACTIVE_UNIT,
        spread,
    )
    floor = max(price_bound(instance), state.floors.get(base.name, 0))
    if effort != "fast" and not any(item.cached for item in copies):
        floor = max(floor, configuration_bound(instance, divisible))
    return PricedBase(instance, divisible, floor)


def _sharing(
    fleet: FleetSpec, bases: Sequence[PricedBase], kinds: Sequence[list[ServerType]]
) -> list[PricedBase]:
    """Return the bases with all declared devices as their stock."""
    server_types = [server_type for own in kinds for server_type in own]
    places: dict[DevicePool, list[tuple[HostSpec, tuple[DeviceSpec, ...]]]] = defaultdict(list)
    for host in fleet.hosts.values():
        for device in host.devices:
            places[pool_of(device)].append((host, (device,)))
    for server_type in server_types:
        server_type.places = places[pool_of(server_type.device)]
    stock, first, shared = stock_of(server_types), 0, []
    for base, own in zip(bases, kinds, strict=True):
        mine = slice(first, first := first + len(own))
        part = Stock(stock.pool[mine], stock.units[mine], stock.free)
        shared.append(base._replace(instance=replace(base.instance, stock=part)))
    return shared
