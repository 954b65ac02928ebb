"""Exchanges: who is promised quick answers goes where a step takes least of what is promised.

An answer of few tokens feels every slow step, a long one only their mean. So versions that are
new where they stand change places, or move into free slots, until fewer promises are in danger:
no server is opened or restarted, and nothing that runs already moves.
"""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from fleet.names import adapter_address
from fleet.placement.bins import Bin
from fleet.placement.items import Item
from fleet.placement.listing import lacking
from fleet.placement.search import Board, by_name
from fleet.placement.seats import Seats, is_movable, seats_of

WORK = 300_000
"""Versions of a base times exchanges that are looked for, after which the search gives up."""
LOOKED_AT = 6
"""Promising exchanges that are tried for one version, and as many free slots."""
REASON = "what it promises is kept more surely here than elsewhere"

Going = tuple[Item, Bin, Bin]
"""What goes, from where, and where to."""


def keep_promises(board: Board) -> None:
    """Exchange newly placed versions of each base between its servers, for fewer late answers."""
    groups: dict[str, list[Bin]] = defaultdict(list)
    for bin_ in by_name(board.bins.values()):
        if bin_.devices and not bin_.closed and bin_.residents:
            groups[bin_.base.name].append(bin_)
    for group in groups.values():
        new = any(is_movable(bin_, each) for bin_ in group for each in bin_.residents.values())
        seats = seats_of(board.hardware, group) if new and len(group) > 1 else None
        if seats is not None:
            _settle(board, seats)


def _settle(board: Board, seats: Seats) -> None:
    """Look for a better place for the version in the greatest danger, again and again."""
    waiting = seats.movable.copy()
    for _ in range(WORK // len(seats.items)):
        here = np.where(waiting, seats.here(), 0)
        item = int(here.argmax())
        if not here[item]:
            return
        waiting[item] = any(_tried(board, seats, item, *each) for each in _promising(seats, item))


def _promising(seats: Seats, item: int) -> Iterator[tuple[int, int | None]]:
    """Yield servers to go to, each with an item that comes instead, or None; best ones first."""
    at, there = int(seats.home[item]), seats.danger[item]
    wide = seats.width >= seats.rank[item]
    able = seats.movable & (seats.home != at) & wide[seats.home] & (seats.rank <= seats.width[at])
    gain = there[at] - there[seats.home] + seats.here() - seats.danger[:, at]
    gain = np.where(able, gain, 0)
    for other in np.argsort(-gain, kind="stable")[:LOOKED_AT].tolist():
        if gain[other] > 0:
            yield int(seats.home[other]), other
    gain = np.where(wide, there[at] - there, 0)
    for server in np.argsort(-gain, kind="stable")[:LOOKED_AT].tolist():
        if gain[server] > 0 and server != at:
            yield server, None


def _tried(board: Board, seats: Seats, item: int, server: int, other: int | None) -> bool:
    """Let an item change places, or go alone, if that is allowed and lowers the danger."""
    at = int(seats.home[item])
    if not _lowers(seats, item, server, other):
        return False
    going = [(seats.items[item], seats.bins[at], seats.bins[server])]
    if other is not None:
        going.append((seats.items[other], seats.bins[server], seats.bins[at]))
    if not _exchanged(board, going):
        return False
    seats.home[item] = server
    if other is not None:
        seats.home[other] = at
    seats.look(at)
    seats.look(server)
    return True


def _lowers(seats: Seats, item: int, server: int, other: int | None) -> bool:
    """Say whether both servers carry what they then have, in less danger altogether."""
    at, comes = int(seats.home[item]), [] if other is None else [other]
    before = after = 0
    for place, gone, new in ((at, [item], comes), (server, comes, [item])):
        tokens, active = seats.tokens[place], seats.active[place]
        for each in gone:
            asks = seats.items[each].asks
            tokens, active = tokens - asks.tokens, active - asks.active
        for each in new:
            asks = seats.items[each].asks
            tokens, active = tokens + asks.tokens, active + asks.active
        if not seats.bears(place, tokens, active):
            return False
        members = seats.members(place)
        before += int(seats.danger[members, place].sum())
        stays = members if not gone else members[members != gone[0]]
        staying = np.append(stays, new).astype(np.int64)
        after += int(seats.at(place, staying, tokens, active).sum())
    return after < before


def _exchanged(board: Board, going: list[Going]) -> bool:
    """Move items where rules and slots allow; else leave all as it is and say so."""
    reasons = [board.why.get(adapter_address(each.adapter, at.name), "") for each, at, _ in going]
    for each, source, _ in going:
        board.release(each, source)
    placed: list[tuple[Item, Bin]] = []
    for each, _, target in going:
        kept = 0 if target.fixed else board.fleet.policy.canary_slots
        room = target.has_room(each, kept) and not lacking(
            board.hardware, target, each, target.slots
        )
        if room and board.admits(target, each):
            board.bind(each, target, REASON)
            placed.append((each, target))
    if len(placed) == len(going):
        return True
    for each, target in placed:
        board.release(each, target)
    for (each, source, _), reason in zip(going, reasons, strict=True):
        board.bind(each, source, reason)
    return False
