"""Keep: bind versions where they are, as far as that is still valid, and relieve overload."""

import numpy as np

from fleet.placement.items import Ints, Item
from fleet.placement.servers import FULL, ServerDraft, percent
from fleet.placement.state import PlacementState, by_name


def keep(board: PlacementState) -> None:
    """Bind every version where it is, as far as rules, slots and rank still allow.

    Load is not asked here: a server that carries too much is relieved afterwards.
    """
    spare = board.fleet.policy.canary_slots
    for item in board.items.values():
        for name in item.prior:
            if len(board.bound[item.adapter]) >= item.replicas:
                break
            if name in board.live.unknown_servers:
                board.bound[item.adapter].append(name)
                continue
            bin_ = board.bins.get(name) or _reopen(board, name, item)
            if bin_ is None or bin_.base.name != item.base:
                continue
            if _leaves(bin_, board, item) or not board.admits(bin_, item):
                continue
            cut: tuple[int, int] | None = (bin_.slots, bin_.rank)
            if item.rank > bin_.rank or not bin_.has_room(item):
                cut = None if bin_.fixed else board.hardware.grown(bin_, item, spare)
            if cut is not None and not board.hardware.host_shortage(bin_, item, cut[0]):
                bin_.slots, bin_.rank = cut
                board.bind(item, bin_, "")


def _leaves(bin_: ServerDraft, board: PlacementState, item: Item) -> bool:
    """Say whether a version must leave because of its server's device, and note why."""
    if not bin_.leaving:
        return False
    where = f"{bin_.host}/{bin_.devices[0].name}" if bin_.devices else bin_.name
    board.forced.setdefault(item.adapter, f"`{where}` {bin_.leaving}")
    return True


def _reopen(board: PlacementState, name: str, item: Item) -> ServerDraft | None:
    """Put back a server that is gone, where its device still takes it."""
    base, host, device = board.places.get(name, ("", None, None))
    if host is None or device is None or base != item.base or device.state != "active":
        return None
    if item.pin not in (None, name, host.name) or board.fleet.bases[base].tensor_parallel:
        return None
    if board.hardware.waits_for(name, host, (device,)):
        return None
    bin_ = board.open(base, host, (device,))
    spare = board.fleet.policy.canary_slots
    cut = board.hardware.grown(bin_, item, spare) or board.hardware.grown(bin_, item, 0)
    if cut is None:
        board.close(bin_)
        return None
    bin_.slots, bin_.rank = cut
    board.opened[name] = "it is gone, and its adapters belong on it"
    return bin_


def relieve(board: PlacementState) -> None:
    """Take off what overloads a server, the fewest versions first; they look for another place.

    A running server is relieved only where it carries more than half-way between what a new
    placement may take and everything: a small change of demand moves nothing. One that is gone
    and starts again may take what a new one may.
    """
    slack = int(FULL * (1 + board.fleet.policy.utilization) / 2 / board.fleet.policy.utilization)
    for bin_ in by_name(board.bins.values()):
        limit = slack if bin_.live else FULL
        used = board.hardware.used(bin_)
        while int(used.max()) > limit:
            hour = int(used.argmax())
            item = _heaviest(bin_, hour)
            if item is None:
                break
            board.release(item, bin_)
            board.relieved[item.adapter] = bin_.name
            board.forced[item.adapter] = (
                f"`{bin_.name}` is overloaded at {hour:02}:00 UTC, "
                f"{_percent(board, used)} of its throughput"
            )
            used = board.hardware.used(bin_)


def put_back(board: PlacementState) -> None:
    """Leave versions on an overloaded server where no other place is found for them."""
    for item in board.missing():
        bin_ = board.bins.get(board.relieved.get(item.adapter, ""))
        if bin_ is None or item.adapter in bin_.residents or not bin_.has_room(item):
            continue
        if not bin_.live or board.hardware.host_shortage(bin_, item, bin_.slots):
            continue
        if item.rank <= bin_.rank and board.admits(bin_, item):
            board.bind(item, bin_, "")
            del board.forced[item.adapter]


def _percent(board: PlacementState, used: Ints) -> str:
    return percent(int(used.max()) * board.fleet.policy.utilization / FULL)


def _heaviest(bin_: ServerDraft, hour: int) -> Item | None:
    """Return the version whose leaving relieves an hour most; None where none does."""
    movable = [
        item
        for _, item in sorted(bin_.residents.items())
        if item.pin is None and bin_.aliases[item.alias] == 1 and int(item.asks.tokens[hour]) > 0
    ]
    if not movable:
        return None
    return movable[int(np.argmax([int(item.asks.tokens[hour]) for item in movable]))]


def close_empty(board: PlacementState) -> None:
    """Give back the devices of servers that hold nothing and whose base needs no room."""
    needed = {item.base for item in board.missing()}
    for name, bin_ in list(board.bins.items()):
        idle = not bin_.held and not bin_.names
        unneeded = bin_.base.name not in needed or bin_.closed
        if bin_.live and bin_.devices and idle and unneeded:
            board.hardware.drop(bin_)
            board.hardware.now.get(bin_.host, {}).pop(name, None)
            del board.bins[name]
