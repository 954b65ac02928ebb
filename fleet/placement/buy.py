"""Buy: open the cheapest servers that hold what found no room on those there are.

For each base, and each set of hosts that its versions may be on, the packer of mixed servers
chooses how many servers of which kind, as if there were enough of each; then they are stood on
real devices as far as there are any. What is left over goes round again without the kinds that
ran out. Prices come first; the group with the fewest kinds to choose from buys first.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fleet.capacity import NO_REQUEST_MIX, throughput_of
from fleet.hardware import BaseSpec
from fleet.names import server_name
from fleet.packing import PRICE_UNIT, Instance, pack
from fleet.placement.fill import fill
from fleet.placement.items import ACTIVE_UNIT, RATE_UNIT, Ints, Item
from fleet.placement.server_types import ServerType, cut_of, every_kind
from fleet.placement.servers import ServerDraft
from fleet.placement.state import PlacementState, SearchLimits, hosts_for, kinds_for
from fleet.vllm import RANKS, rank_bucket

MOST_SLOTS = 128
UNLIMITED = 1 << 40
"""Stands for a throughput that is not known."""


@dataclass(frozen=True, slots=True)
class ServerOrder:
    """Versions that may be packed together."""

    base: BaseSpec
    hosts: frozenset[str]
    party: str
    items: tuple[Item, ...]


def buy(board: PlacementState, search: SearchLimits, turn: int = 0) -> None:
    """Open servers until every version has its replicas, or no device is left that helps.

    Args:
        board: Everything.
        search: How hard to look.
        turn: How many groups go to the end of the queue; whoever comes first chooses first.
    """
    while True:
        lots = _lots(board)
        choices = [(lot, kinds_for(board, lot.base, _least_rank(lot), lot.hosts)) for lot in lots]
        choices = [(lot, kinds) for lot, kinds in choices if kinds]
        choices.sort(key=lambda each: (len(each[1]), -len(each[0].items), each[0].base.name))
        board.groups = max(board.groups, len(choices))
        first = turn % len(choices) if choices else 0
        opened: list[ServerDraft] = []
        bases = Counter(lot.base.name for lot, _ in choices)
        for lot, kinds in choices[first:] + choices[:first]:
            several = bases[lot.base.name] > 1
            if several:
                fill(board, lot.items)  # others have bought servers that may have room for these
            found = _open_lot(board, lot, kinds, search)
            while found:
                opened += found
                found = _open_lot(board, lot, kinds, search) if several else []
        _undivide(board, opened)
        if not opened:
            return


def _lots(board: PlacementState) -> list[ServerOrder]:
    """Group what is missing by base, allowed hosts and party."""
    grouped: dict[tuple[str, tuple[str, ...], str], list[Item]] = {}
    open_to: dict[tuple[frozenset[str], frozenset[str], str | None], tuple[str, ...]] = {}
    for item in board.missing():
        if item.rank == 0 or board.waits(item):
            continue
        if item.spread == "host":
            hosts = tuple(hosts_for(board, item))
        else:  # alike for all of a client, of whom there may be thousands
            alike = (item.groups, item.avoid, item.pin)
            if alike not in open_to:
                open_to[alike] = tuple(hosts_for(board, item))
            hosts = open_to[alike]
        grouped.setdefault((item.base, hosts, item.party), []).append(item)
    return [
        ServerOrder(board.fleet.bases[base], frozenset(hosts), party, tuple(items))
        for (base, hosts, party), items in sorted(grouped.items())
    ]


def _least_rank(lot: ServerOrder) -> int:
    return lot.base.max_lora_rank or min(rank_bucket(each.rank) or RANKS[-1] for each in lot.items)


def _open_lot(
    board: PlacementState, lot: ServerOrder, kinds: list[ServerType], search: SearchLimits
) -> list[ServerDraft]:
    """Pack a lot and stand its servers on devices; return what was opened."""
    kinds = [each for each in _fresh(board, lot, kinds) if each.seats]
    ranks = sorted({rank_bucket_of(lot.base, each) for each in lot.items})
    if not kinds or ranks[0] == 0 or not any(board_lacks(board, each) for each in lot.items):
        return []
    copies = [each for each in lot.items for _ in range(board_lacks(board, each))]
    table = np.array(
        [[_carried(board, lot, kind, rank, copies) for rank in ranks] for kind in kinds],
        dtype=np.int64,
    )
    fitting = [i for i, each in enumerate(copies) if _alone(table, ranks, lot.base, each)]
    copies = [copies[index] for index in fitting]
    if not copies:
        return []
    names = {name: index for index, name in enumerate(sorted({each.adapter for each in copies}))}
    instance = Instance(
        # A version without load counts a little, so that it too stays out of full servers.
        np.maximum(np.array([each.asks.tokens for each in copies], dtype=np.int64), 1),
        np.array([ranks.index(rank_bucket_of(lot.base, each)) for each in copies], dtype=np.int64),
        np.array([names[each.adapter] for each in copies], dtype=np.int64),
        table,
        prices([each.price for each in kinds]),
    )
    packing, floor = pack(instance, search.effort, 0)
    if _is_free(board, lot, kinds, len(copies)):
        board.floors[lot.base.name] = floor
    full = np.argsort(-np.bincount(packing.assignment, minlength=len(packing.gpus)), kind="stable")
    opened = []
    for server in full.tolist():
        members = [copies[index] for index in (packing.assignment == server).nonzero()[0].tolist()]
        bin_ = _stand(board, lot, kinds[int(packing.gpus[server])], members)
        if bin_ is not None:
            opened.append(bin_)
    return opened


def _is_free(board: PlacementState, lot: ServerOrder, kinds: list[ServerType], copies: int) -> bool:
    """Say whether a base is bought for as if nothing else were there, and in one number only."""
    mine = [each for each in board.items.values() if each.base == lot.base.name]
    every = {each.label for each in every_kind(board.fleet, lot.base)}
    whole = copies == sum(each.replicas for each in mine)
    return whole and not any(each.others for each in mine) and every <= {k.label for k in kinds}


def board_lacks(board: PlacementState, item: Item) -> int:
    """Return how many replicas of a version are still without a place."""
    return item.replicas - len(board.bound[item.adapter])


def _fresh(board: PlacementState, lot: ServerOrder, kinds: list[ServerType]) -> list[ServerType]:
    """Look at the stock again: another lot may have bought since."""
    del kinds
    return kinds_for(board, lot.base, _least_rank(lot), lot.hosts)


def rank_bucket_of(base: BaseSpec, item: Item) -> int:
    """Return `--max-lora-rank` of a server that is opened for a version; 0 where none will do."""
    rung = base.max_lora_rank or rank_bucket(item.rank) or 0
    return rung if rung >= item.rank else 0


def prices(given: Iterable[float]) -> Ints:
    """Return prices as the packer's integers; where nothing costs anything, servers count."""
    found = np.array([round(each * PRICE_UNIT) for each in given], dtype=np.int64)
    return found if found.any() else np.ones(len(found), dtype=np.int64)


def _alone(table: Ints, ranks: list[int], base: BaseSpec, item: Item) -> bool:
    limit = int(table[:, ranks.index(rank_bucket_of(base, item)), 1].max())
    return max(item.peak, 1) <= limit


def _carried(
    board: PlacementState, lot: ServerOrder, kind: ServerType, rank: int, copies: list[Item]
) -> list[int]:
    """Return what a server of a kind carries in any hour, by number of versions; 0: too many.

    Concurrency is bounded by that of the busiest versions, as many as there are, so that the
    figure depends on their number alone and holds for whichever they are.
    """
    shape = cut_of(board.fleet, lot.base, kind, rank, 1)
    most = min(MOST_SLOTS, len(copies))
    row = [0] * (most + 1)
    crowd = np.sort(np.array([each.asks.active for each in copies]), axis=0)[::-1].cumsum(axis=0)
    habits = board.hardware.habits.get(lot.base.name, NO_REQUEST_MIX)
    policy = board.fleet.policy
    for count in range(1, most + 1):
        cut = cut_of(board.fleet, lot.base, kind, rank, count)
        if cut is None:
            break
        shape = cut
        found = throughput_of(shape, habits, board.fleet.profiles, policy.utilization)
        active = float(crowd[count - 1].max()) / ACTIVE_UNIT
        carried = found.at(active) * RATE_UNIT
        row[count] = int(carried) if np.isfinite(carried) else UNLIMITED
    return row


def _stand(
    board: PlacementState, lot: ServerOrder, kind: ServerType, members: list[Item]
) -> ServerDraft | None:
    """Open one server on the seat that suits its versions best; None where none is left."""
    found = _seat(board, lot, kind, members)
    if found is None:
        return None
    host, devices = kind.seats.pop(found)
    bin_ = board.open(lot.base.name, host, devices, kind.parts)
    taken = [each for each in members if _takes(board, bin_, each)]
    if not taken:
        board.close(bin_)
        return None
    where = ", ".join(f"`{host.name}/{each.name}`" for each in devices)
    board.opened[bin_.name] = f"{where} is the cheapest that holds what is placed on it"
    return bin_


def _seat(
    board: PlacementState, lot: ServerOrder, kind: ServerType, members: list[Item]
) -> int | None:
    """Return the index of the seat that admits most versions, of those that most were on."""
    prior = {name for each in members for name in each.prior}
    best, chosen = (0, 0), None
    for index, (host, devices) in enumerate(kind.seats):
        name = server_name(lot.base.name, host.name, devices[0].name)
        if name in board.bins:
            continue
        spots = frozenset((host.name, each.name) for each in devices)
        admitted = sum(
            each.pin in (None, host.name, name)
            and name not in each.avoid
            and board.apart(each, host.name, spots)
            for each in members
        )
        score = (admitted, sum(name in each.prior for each in members) if prior else 0)
        if score > best:
            best, chosen = score, index
        if best[0] == len(members) and name not in prior and not prior:
            break
    return chosen


def _takes(board: PlacementState, bin_: ServerDraft, item: Item) -> bool:
    """Bind a version to a new server where rules, slots and load allow."""
    if not board.admits(bin_, item) or board_lacks(board, item) < 1:
        return False
    for kept in (board.fleet.policy.canary_slots, 0):
        if kept == 0 and bin_.residents:
            return False
        cut = board.hardware.grown(bin_, item, kept)
        if cut is not None and board.hardware.carries(bin_, item, cut):
            bin_.slots, bin_.rank = cut
            spot = ", ".join(f"`{bin_.host}/{each.name}`" for each in bin_.devices)
            board.bind(item, bin_, f"new server on {spot}, the cheapest that holds it")
            return True
    return False


def _undivide(board: PlacementState, opened: list[ServerDraft]) -> None:
    """Give a new server all of a device that was to be divided and is not."""
    for bin_ in opened:
        if bin_.parts > 1:
            beside = board.hardware.others(bin_)
            if all(each in opened for each in beside) and len(beside) + 1 < bin_.parts:
                for each in (bin_, *beside):
                    each.parts = len(beside) + 1
