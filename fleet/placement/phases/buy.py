"""Buy: open the cheapest servers that hold the versions without a place.

Versions of a base that may be on the same hosts are an order. The packer chooses the number of
servers of every type for an order, as if there were enough devices; then the servers are opened on
real devices as far as there are any. Versions left over go round again without the types that
ran out. Prices come first; the order with the fewest types to choose from buys first.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from fleet.capacity import NO_REQUEST_MIX
from fleet.hardware import BaseSpec
from fleet.names import server_name
from fleet.packing import Instance, pack
from fleet.placement.model.items import ACTIVE_UNIT, Item
from fleet.placement.model.rules import replica_rules, server_rules
from fleet.placement.model.server_types import (
    ServerType,
    every_server_type,
    prices,
    rank_bucket_of,
    server_table,
    stock_of,
)
from fleet.placement.model.servers import ServerDraft
from fleet.placement.model.state import PlacementState, SearchLimits
from fleet.placement.phases.fill import bind_if_it_fits, fill, hosts_for, server_types_for
from fleet.vllm import RANKS, rank_bucket


@dataclass(frozen=True, slots=True)
class ServerOrder:
    """Versions of a base that may be packed together: on the same hosts, of an isolation group."""

    base: BaseSpec
    hosts: frozenset[str]
    isolation_group: str
    items: tuple[Item, ...]


def buy(state: PlacementState, search: SearchLimits, first_group: int = 0) -> None:
    """Open servers until every version has its replicas, or no device is left that helps.

    The order with the index `first_group` buys first, and so chooses first. Devices that break a
    promise come last.
    """
    _buy(state, search, first_group)
    in_reach = state.hardware.in_reach
    if in_reach and state.missing():
        state.hardware.in_reach = frozenset()
        fill(state)
        _buy(state, search, first_group)
        if not state.missing():
            state.hardware.in_reach = in_reach


def _buy(state: PlacementState, search: SearchLimits, first_group: int) -> None:
    while True:
        choices = [
            (len(server_types), order)
            for order in _orders(state)
            if (server_types := _server_types(state, order))
        ]
        choices.sort(key=lambda choice: (choice[0], -len(choice[1].items), choice[1].base.name))
        state.groups = max(state.groups, len(choices))
        first = first_group % len(choices) if choices else 0
        opened: list[ServerDraft] = []
        bases = Counter(order.base.name for _, order in choices)
        for _, order in choices[first:] + choices[:first]:
            several = bases[order.base.name] > 1
            if several:
                fill(state, order.items)  # another order may have opened servers with free slots
            while new := _open_order(state, order, search):
                opened += new
                if not several:
                    break
        _undivide(state, opened)
        if not opened:
            return


def _orders(state: PlacementState) -> list[ServerOrder]:
    """Return the missing versions by base, allowed hosts and isolation group."""
    grouped: dict[tuple[str, tuple[str, ...], str], list[Item]] = {}
    open_to: dict[tuple[frozenset[str], frozenset[str], str | None], tuple[str, ...]] = {}
    for item in state.missing():
        if item.rank == 0 or state.awaits(item):
            continue
        if item.spread == "host":
            hosts = tuple(hosts_for(state, item))
        else:  # the same for all versions of a client, often thousands
            alike = (item.groups, item.avoid, item.pin)
            if alike not in open_to:
                open_to[alike] = tuple(hosts_for(state, item))
            hosts = open_to[alike]
        grouped.setdefault((item.base, hosts, item.isolation_group), []).append(item)
    return [
        ServerOrder(state.fleet.bases[base], frozenset(hosts), isolation_group, tuple(items))
        for (base, hosts, isolation_group), items in sorted(grouped.items())
    ]


def _server_types(state: PlacementState, order: ServerOrder) -> list[ServerType]:
    least_rank = order.base.max_lora_rank or min(
        rank_bucket(item.rank) or RANKS[-1] for item in order.items
    )
    return server_types_for(state, order.base, least_rank, order.hosts)


def _open_order(
    state: PlacementState, order: ServerOrder, search: SearchLimits
) -> list[ServerDraft]:
    """Pack an order and open its servers on devices; return those servers."""
    server_types = _server_types(state, order)
    ranks = sorted({rank_bucket_of(order.base, item) for item in order.items})
    copies = [item for item in order.items for _ in range(state.missing_replicas(item))]
    if not server_types or ranks[0] == 0 or not copies:
        return []
    mix = state.hardware.request_mixes.get(order.base.name, NO_REQUEST_MIX)
    promises = [promise for promise in mix.targets
                if (order.base.name, promise) in state.hardware.in_reach]  # fmt: skip
    hastes = len(promises) + 1
    table, spread = server_table(state, order.base, server_types, ranks, len(copies), promises)
    widths = {
        item: ranks.index(rank_bucket_of(order.base, item)) * hastes
        + (promises.index(item.promise) + 1 if item.promise in promises else 0)
        for item in order.items
    }
    alone = table[:, :, 1].max(axis=0)  # by rank: the largest load of a server with 1 version
    copies = [item for item in copies if max(item.peak, 1) <= alone[widths[item]]]
    if not copies:
        return []
    surcharges = dict(search.surcharges)
    names = {name: index for index, name in enumerate(sorted({item.adapter for item in copies}))}
    instance = Instance(
        # A version without load counts a little, so that it too stays out of full servers.
        np.maximum(np.array([item.load.tokens for item in copies], dtype=np.int64), 1),
        np.array([widths[item] for item in copies], dtype=np.int64),
        np.array([names[item.adapter] for item in copies], dtype=np.int64),
        table,
        prices(
            [
                server_type.price * (1 + surcharges.get(server_type.device.kind, 0))
                for server_type in server_types
            ]
        ),
        np.array([item.load.active for item in copies]) / ACTIVE_UNIT,
        spread,
        stock_of(server_types),
        hastes,
    )
    packing, floor = pack(instance, search.effort)
    if not promises and not surcharges and _is_free(state, order, server_types, len(copies)):
        state.floors[order.base.name] = floor
    placed = packing.assignment[packing.assignment >= 0]
    full = np.argsort(-np.bincount(placed, minlength=len(packing.gpus)), kind="stable")
    opened = []
    for server in full.tolist():
        members = [copies[index] for index in (packing.assignment == server).nonzero()[0].tolist()]
        draft = _open_server(state, order, server_types[int(packing.gpus[server])], members)
        if draft is not None:
            opened.append(draft)
    return opened


def _is_free(
    state: PlacementState, order: ServerOrder, server_types: list[ServerType], copies: int
) -> bool:
    """Say whether all versions of a base are in the order, with every type of server to choose."""
    mine = [item for item in state.items.values() if item.base == order.base.name]
    if copies != sum(item.replicas for item in mine) or any(item.retries for item in mine):
        return False
    every = {server_type.label for server_type in every_server_type(state.fleet, order.base)}
    return every <= {server_type.label for server_type in server_types}


def _open_server(
    state: PlacementState, order: ServerOrder, server_type: ServerType, members: list[Item]
) -> ServerDraft | None:
    """Open a server on the place that suits its versions best; None where no place is left."""
    index = _best_place(state, order, server_type, members)
    if index is None:
        return None
    host, devices = server_type.places.pop(index)
    draft = state.open(order.base.name, host, devices, server_type.parts)
    where = ", ".join(f"`{host.name}/{device.name}`" for device in devices)
    why = f"new server on {where}, the cheapest that holds it"
    canaries = state.fleet.policy.canary_slots
    for item in members:
        if state.missing_replicas(item) > 0:
            spares = [spare for spare in (canaries, 0) if spare or not draft.residents]
            bind_if_it_fits(state, draft, item, spares, why)
    if not draft.residents:
        state.close(draft)
        return None
    state.opened[draft.name] = f"{where} is the cheapest that holds what is placed on it"
    return draft


def _best_place(
    state: PlacementState, order: ServerOrder, server_type: ServerType, members: list[Item]
) -> int | None:
    """Return the index of the place that allows most versions, of those that most were on.

    A part of a device that is in use already costs nothing more, and so comes before these.
    """
    prior = {name for item in members for name in item.prior}
    best = (0, False, 0)
    chosen = None
    on_device = state.hardware.on_device
    for index, (host, devices) in enumerate(server_type.places):
        name = server_name(order.base.name, host.name, devices[0].name)
        if name in state.drafts:
            continue
        device_ids = frozenset((host.name, device.name) for device in devices)
        admitted = sum(
            not any(server_rules(item, host, name))
            and not any(replica_rules(item, state.device_ids(item), host.name, device_ids))
            for item in members
        )
        were_there = sum(name in item.prior for item in members) if prior else 0
        score = (admitted, any(map(on_device.get, device_ids)), were_there)
        if score > best:
            best, chosen = score, index
        if best[0] == len(members) and name not in prior and not prior:
            break
    return chosen


def _undivide(state: PlacementState, opened: list[ServerDraft]) -> None:
    """Give a new server all of a device that was to be divided and is not."""
    for draft in opened:
        if draft.parts > 1:
            beside = state.hardware.neighbours(draft)
            if all(draft in opened for draft in beside) and len(beside) + 1 < draft.parts:
                for server in (draft, *beside):
                    server.parts = len(beside) + 1
