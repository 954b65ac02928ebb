"""Seats: one base's servers as arrays, and how much danger each promise is in on each of them.

Exchanges: who is promised quick answers goes where a step takes least of what is promised.

An answer of few tokens feels every slow step, a long one only their mean. So versions that are
new where they stand change places, or move into free slots, until fewer promises are in danger:
no server is opened or restarted, and nothing that runs already moves.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from fleet.capacity import speed_of
from fleet.hardware import Speed
from fleet.names import adapter_address
from fleet.placement.devices import Devices
from fleet.placement.host_memory import lacking
from fleet.placement.items import ACTIVE_UNIT, RATE_UNIT, Ints, Item
from fleet.placement.servers import FULL, ServerDraft
from fleet.placement.state import PlacementState, by_name

Floats = NDArray[np.float64]

READING = 2
"""Steps in which a prompt is read."""
PATIENCE = 3.0
"""A promise that not even an idle server keeps counts as kept within so many times its time."""
CALM, LATE = 0.6, 0.8
"""Parts of the promised time that the expected one may take, scatter included: up to the first a
promise is safe, from the second on it counts as broken. Of the simulated day of `tests/bench/peers`
7 % of the promises between 0.5 and 0.65, and 35 % of those above, are broken."""
DANGER = 1_000
"""What a broken promise counts."""


@dataclass(slots=True, eq=False)
class LatencyRisk:
    """Who is where; an item for each replica."""

    items: Sequence[Item]
    bins: Sequence[ServerDraft]
    home: Ints
    """Index of the server that each item is on."""
    movable: NDArray[np.bool_]
    """Whether an item is new where it stands, and may be elsewhere as well."""
    speeds: Sequence[Speed]
    limit: Floats
    """What each server may carry while one adapter is active, in `RATE_UNIT`ths."""
    rank: Ints
    """Of each item."""
    width: Ints
    """`max_lora_rank` of each server."""
    length: Floats
    """Steps of each item's usual answer."""
    promised: Floats
    """Seconds."""
    day: Ints
    """Index into `hours` of the hours in which each item is asked."""
    hours: NDArray[np.bool_]
    """Distinct sets of hours, shape `(sets, 24)`."""
    tokens: Ints
    """Of each server, shape `(servers, 24)`."""
    active: Ints
    danger: Ints
    """Of each item on each server as it is loaded now: 0, safe, to `DANGER`."""

    def look(self, server: int) -> None:
        """Take over what a server carries now."""
        bin_ = self.bins[server]
        self.tokens[server], self.active[server] = bin_.tokens, bin_.active
        every = np.arange(len(self.items))
        self.danger[:, server] = self.at(server, every, bin_.tokens, bin_.active)

    def at(self, server: int, who: Ints, tokens: Ints, active: Ints) -> Ints:
        """Return the danger of some items on a server that carries so much in each hour.

        A step as in `fleet.capacity.step_under_load`; servers that share a device take turns
        on it. The scatter of an answer's time falls with the root of its steps.
        """
        speed, parts = self.speeds[server], self.bins[server].parts
        step, request = speed.adapted
        crowd = 1 + speed.spread * np.maximum(active / ACTIVE_UNIT - 1, 0)
        spare = 1 - tokens / RATE_UNIT * parts * request * crowd
        taken = np.where(spare > 0, parts * step * crowd / np.maximum(spare, 1e-9), inf)
        worst = np.where(self.hours, taken[None, :], 0.0).max(axis=1)[self.day[who]]
        length = self.length[who]
        due = np.maximum(self.promised[who], PATIENCE * length * step)
        part = np.minimum(length * worst * (1 + 1 / np.sqrt(length)) / due, LATE)
        return np.asarray(np.maximum((part - CALM) / (LATE - CALM), 0) * DANGER).astype(np.int64)

    def bears(self, server: int, tokens: Ints, active: Ints) -> bool:
        """Say whether a server carries so much in each hour, or no more than it does now."""
        return self._taken(server, tokens, active) <= max(
            FULL, self._taken(server, self.tokens[server], self.active[server])
        )

    def _taken(self, server: int, tokens: Ints, active: Ints) -> int:
        crowd = 1 + self.speeds[server].spread * np.maximum(active / ACTIVE_UNIT - 1, 0)
        return int(np.ceil(tokens * crowd / self.limit[server] * FULL).max())

    def members(self, server: int) -> Ints:
        """Return the items on a server."""
        return np.flatnonzero(self.home == server)

    def here(self) -> Ints:
        """Return the danger of each item where it is."""
        return np.asarray(self.danger[np.arange(len(self.items)), self.home])


def latency_risk_of(hardware: Devices, bins: Sequence[ServerDraft]) -> LatencyRisk | None:
    """Return one base's servers; None where it is not known how fast they are."""
    profiles = hardware.fleet.profiles
    found = [
        speed_of(profiles, each.base, each.devices[0], len(each.devices), each.rank)[0]
        for each in bins
    ]
    speeds = [each for each in found if each is not None]
    limits = [hardware.throughput(each, each.slots, each.rank).limit for each in bins]
    if len(speeds) < len(bins) or not all(0 < each < inf for each in limits):
        return None
    pairs = [(place, each) for place, bin_ in enumerate(bins)
             for _, each in sorted(bin_.residents.items())]  # fmt: skip
    items = [each for _, each in pairs]
    asked = np.array([each.asks.tokens > 0 for each in items])
    hours, day = np.unique(asked, axis=0, return_inverse=True)
    seats = LatencyRisk(
        items, bins,
        np.array([place for place, _ in pairs], dtype=np.int64),
        np.array([is_movable(bins[place], each) for place, each in pairs]),
        speeds, np.array(limits) * RATE_UNIT,
        np.array([each.rank for each in items], dtype=np.int64),
        np.array([each.rank for each in bins], dtype=np.int64),
        np.array([READING + each.answer for each in items], dtype=np.float64),
        np.array([each.promised_s for each in items], dtype=np.float64),
        day.reshape(-1).astype(np.int64), hours,
        np.array([each.tokens for each in bins], dtype=np.int64),
        np.array([each.active for each in bins], dtype=np.int64),
        np.zeros((len(items), len(bins)), dtype=np.int64),
    )  # fmt: skip
    for server in range(len(bins)):
        seats.look(server)
    return seats


def is_movable(bin_: ServerDraft, item: Item) -> bool:
    """Say whether a version is new where it stands, and may be elsewhere as well."""
    alone = bin_.aliases[item.alias] == 1
    return not item.prior and item.pin is None and alone and item.adapter not in bin_.held


WORK = 300_000
"""Versions of a base times exchanges that are looked for, after which the search gives up."""
LOOKED_AT = 6
"""Promising exchanges that are tried for one version, and as many free slots."""
REASON = "what it promises is kept more surely here than elsewhere"

Going = tuple[Item, ServerDraft, ServerDraft]
"""What goes, from where, and where to."""


def keep_promises(board: PlacementState) -> None:
    """Exchange newly placed versions of each base between its servers, for fewer late answers."""
    groups: dict[str, list[ServerDraft]] = defaultdict(list)
    for bin_ in by_name(board.bins.values()):
        if bin_.devices and not bin_.closed and bin_.residents:
            groups[bin_.base.name].append(bin_)
    for group in groups.values():
        new = any(is_movable(bin_, each) for bin_ in group for each in bin_.residents.values())
        seats = latency_risk_of(board.hardware, group) if new and len(group) > 1 else None
        if seats is not None:
            _settle(board, seats)


def _settle(board: PlacementState, seats: LatencyRisk) -> None:
    """Look for a better place for the version in the greatest danger, again and again."""
    waiting = seats.movable.copy()
    for _ in range(WORK // len(seats.items)):
        here = np.where(waiting, seats.here(), 0)
        item = int(here.argmax())
        if not here[item]:
            return
        waiting[item] = any(_tried(board, seats, item, *each) for each in _promising(seats, item))


def _promising(seats: LatencyRisk, item: int) -> Iterator[tuple[int, int | None]]:
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


def _tried(
    board: PlacementState, seats: LatencyRisk, item: int, server: int, other: int | None
) -> bool:
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


def _lowers(seats: LatencyRisk, item: int, server: int, other: int | None) -> bool:
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


def _exchanged(board: PlacementState, going: list[Going]) -> bool:
    """Move items where rules and slots allow; else leave all as it is and say so."""
    reasons = [board.why.get(adapter_address(each.adapter, at.name), "") for each, at, _ in going]
    for each, source, _ in going:
        board.release(each, source)
    placed: list[tuple[Item, ServerDraft]] = []
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
