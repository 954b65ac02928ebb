"""Level: even out the peaks of servers, with versions that are new where they stand."""

from collections import defaultdict

from fleet.names import adapter_address
from fleet.placement.bins import Bin
from fleet.placement.items import Item
from fleet.placement.listing import lacking
from fleet.placement.search import Board, by_name

TRIES = 4
"""Moves that are looked for on each server, on average, before the search gives up."""
GAIN = 20_000
"""Least improvement of the higher of two peaks, in millionths of a server."""


def level(board: Board) -> None:
    """Move newly placed versions from the busiest servers to quieter ones of the same base.

    Kept versions stay, flags stay, and no server is opened; so neither cost nor moves grow.
    """
    groups: dict[str, list[Bin]] = defaultdict(list)
    for bin_ in by_name(board.bins.values()):
        if bin_.devices and not bin_.closed and bin_.residents:
            groups[bin_.base.name].append(bin_)
    for group in groups.values():
        peaks = {each.name: _peak(board, each) for each in group}
        settled: set[str] = set()
        for _ in range(TRIES * len(group)):
            busiest = max(
                (each for each in group if each.name not in settled),
                key=lambda each: (peaks[each.name], each.name),
                default=None,
            )
            if busiest is None or not peaks[busiest.name]:
                break
            if not _relieved(board, busiest, group, peaks):
                settled.add(busiest.name)


def _relieved(board: Board, busiest: Bin, group: list[Bin], peaks: dict[str, int]) -> bool:
    """Move the one version whose move lowers the higher of two peaks most; say whether any."""
    quiet = sorted(group, key=lambda each: (peaks[each.name], each.name))[:8]
    best: tuple[int, str, str] | None = None
    hour = int(board.hardware.used(busiest).argmax())
    movable = [
        each
        for name, each in sorted(busiest.residents.items())
        if not each.prior and busiest.aliases[each.alias] == 1 and int(each.asks.tokens[hour]) > 0
        and each.pin is None and name not in busiest.held
    ]  # fmt: skip
    movable.sort(key=lambda each: (-int(each.asks.tokens[hour]), each.adapter))
    for item in movable[:8]:
        before = peaks[busiest.name]
        for other in quiet:
            if other is busiest or peaks[other.name] >= before - GAIN:
                continue
            after = int(board.hardware.used(other, item).max())
            fits = item.rank <= other.rank and other.has_room(item, _kept(board, other))
            fits = fits and not lacking(board.hardware, other, item, other.slots)
            if after < before - GAIN and fits and _admitted(board, busiest, other, item):
                found = (after, item.adapter, other.name)
                best = found if best is None or found < best else best
    if best is None:
        return False
    item, other = board.items[best[1]], board.bins[best[2]]
    why = board.why.get(adapter_address(item.adapter, busiest.name), "")
    board.release(item, busiest)
    board.bind(item, other, why and "evens out the servers' busiest hours")
    peaks[busiest.name], peaks[other.name] = _peak(board, busiest), _peak(board, other)
    return True


def _kept(board: Board, bin_: Bin) -> int:
    return 0 if bin_.fixed else board.fleet.policy.canary_slots


def _peak(board: Board, bin_: Bin) -> int:
    return int(board.hardware.used(bin_).max())


def _admitted(board: Board, source: Bin, other: Bin, item: Item) -> bool:
    """Say whether rules let a version change over, its replica on `source` left out."""
    board.bound[item.adapter].remove(source.name)
    allowed = board.admits(other, item)
    board.bound[item.adapter].append(source.name)
    return allowed
