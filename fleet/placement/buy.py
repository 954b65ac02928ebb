"""Buy: open the cheapest servers that hold the versions without a place.

For each base, and each set of hosts that its versions may be on, the packer chooses how many
servers of which type, as if there were enough devices of each; then the servers are opened on
real devices as far as there are any. Versions left over go round again without the types that
ran out. Prices come first; the group with the fewest types to choose from buys first.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from fleet.hardware import BaseSpec
from fleet.packing import Instance, pack
from fleet.placement.fill import fill
from fleet.placement.free_devices import hosts_for, server_types_for
from fleet.placement.items import ACTIVE_UNIT, Ints, Item
from fleet.placement.server_table import prices, rank_bucket_of, server_table
from fleet.placement.server_types import ServerType, every_server_type
from fleet.placement.servers import ServerDraft
from fleet.placement.state import PlacementState, SearchLimits
from fleet.vllm import RANKS, rank_bucket


@dataclass(frozen=True, slots=True)
class ServerOrder:
    """Versions of a base that may be packed together."""

    base: BaseSpec
    hosts: frozenset[str]
    isolation_group: str
    items: tuple[Item, ...]


def buy(state: PlacementState, search: SearchLimits, first_group: int = 0) -> None:
    """Open servers until every version has its replicas, or no device is left that helps.

    Args:
        state: Everything.
        search: How hard to look.
        first_group: Index of the group that buys first, and so chooses first.
    """
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
            found = _open_order(state, order, search)
            while found:
                opened += found
                found = _open_order(state, order, search) if several else []
        _undivide(state, opened)
        if not opened:
            return


def _orders(state: PlacementState) -> list[ServerOrder]:
    """Group the missing versions by base, allowed hosts and isolation group."""
    grouped: dict[tuple[str, tuple[str, ...], str], list[Item]] = {}
    open_to: dict[tuple[frozenset[str], frozenset[str], str | None], tuple[str, ...]] = {}
    for item in state.missing():
        if item.rank == 0 or state.waits(item):
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
    """Return the types of server that can be opened now for the versions of an order."""
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
    if (
        not server_types
        or ranks[0] == 0
        or not any(missing_replicas(state, item) for item in order.items)
    ):
        return []
    copies = [item for item in order.items for _ in range(missing_replicas(state, item))]
    # Concurrency is bounded by that of the busiest versions, as many as there are, so that the
    # figure depends on their number alone and holds for whichever they are.
    crowd = np.sort(np.array([item.load.active for item in copies]), axis=0)[::-1].cumsum(axis=0)
    busiest = (crowd.max(axis=1) / ACTIVE_UNIT).tolist()
    table = server_table(state, order.base, server_types, ranks, busiest)
    fitting = [i for i, item in enumerate(copies) if _alone(table, ranks, order.base, item)]
    copies = [copies[index] for index in fitting]
    if not copies:
        return []
    names = {name: index for index, name in enumerate(sorted({item.adapter for item in copies}))}
    instance = Instance(
        # A version without load counts a little, so that it too stays out of full servers.
        np.maximum(np.array([item.load.tokens for item in copies], dtype=np.int64), 1),
        np.array(
            [ranks.index(rank_bucket_of(order.base, item)) for item in copies], dtype=np.int64
        ),
        np.array([names[item.adapter] for item in copies], dtype=np.int64),
        table,
        prices([server_type.price for server_type in server_types]),
    )
    packing, floor = pack(instance, search.effort, 0)
    if _is_free(state, order, server_types, len(copies)):
        state.floors[order.base.name] = floor
    full = np.argsort(-np.bincount(packing.assignment, minlength=len(packing.gpus)), kind="stable")
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
    every = {server_type.label for server_type in every_server_type(state.fleet, order.base)}
    whole = copies == sum(item.replicas for item in mine)
    return (
        whole and not any(item.others for item in mine) and every <= {k.label for k in server_types}
    )


def missing_replicas(state: PlacementState, item: Item) -> int:
    """Return the number of replicas of a version that are still without a place."""
    return item.replicas - len(state.bound[item.adapter])


def _alone(table: Ints, ranks: list[int], base: BaseSpec, item: Item) -> bool:
    limit = int(table[:, ranks.index(rank_bucket_of(base, item)), 1].max())
    return max(item.peak, 1) <= limit


def _open_server(
    state: PlacementState, order: ServerOrder, server_type: ServerType, members: list[Item]
) -> ServerDraft | None:
    """Open a server on the place that suits its versions best; None where none is left."""
    found = _best_place(state, order, server_type, members)
    if found is None:
        return None
    host, devices = server_type.places.pop(found)
    draft = state.open(order.base.name, host, devices, server_type.parts)
    taken = [item for item in members if _bind_if_it_fits(state, draft, item)]
    if not taken:
        state.close(draft)
        return None
    where = ", ".join(f"`{host.name}/{device.name}`" for device in devices)
    state.opened[draft.name] = f"{where} is the cheapest that holds what is placed on it"
    return draft


def _best_place(
    state: PlacementState, order: ServerOrder, server_type: ServerType, members: list[Item]
) -> int | None:
    """Return the index of the place that allows most versions, of those that most were on."""
    prior = {name for item in members for name in item.prior}
    best, chosen = (0, 0), None
    for index, (host, devices) in enumerate(server_type.places):
        name = f"{order.base.name}-{host.name}-{devices[0].name}"
        if name in state.drafts:
            continue
        device_ids = frozenset((host.name, device.name) for device in devices)
        admitted = sum(
            item.pin in (None, host.name, name)
            and name not in item.avoid
            and state.apart(item, host.name, device_ids)
            for item in members
        )
        score = (admitted, sum(name in item.prior for item in members) if prior else 0)
        if score > best:
            best, chosen = score, index
        if best[0] == len(members) and name not in prior and not prior:
            break
    return chosen


def _bind_if_it_fits(state: PlacementState, draft: ServerDraft, item: Item) -> bool:
    """Bind a version to a new server where rules, slots and load allow."""
    if not state.allows(draft, item) or missing_replicas(state, item) < 1:
        return False
    for kept in (state.fleet.policy.canary_slots, 0):
        if kept == 0 and draft.residents:
            return False
        shape = state.hardware.shape_with(draft, item, kept)
        if shape is not None and state.hardware.carries(draft, item, shape):
            draft.slots, draft.rank = shape
            places = ", ".join(f"`{draft.host}/{device.name}`" for device in draft.devices)
            state.bind(item, draft, f"new server on {places}, the cheapest that holds it")
            return True
    return False


def _undivide(state: PlacementState, opened: list[ServerDraft]) -> None:
    """Give a new server all of a device that was to be divided and is not."""
    for draft in opened:
        if draft.parts > 1:
            beside = state.hardware.others(draft)
            if all(draft in opened for draft in beside) and len(beside) + 1 < draft.parts:
                for server in (draft, *beside):
                    server.parts = len(beside) + 1
