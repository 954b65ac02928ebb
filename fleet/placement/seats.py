"""Seats: one base's servers as arrays, and how much danger each promise is in on each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from fleet.placement.bins import FULL, Bin, Hardware
from fleet.placement.items import ACTIVE_UNIT, RATE_UNIT, Ints, Item
from fleet.profiles import Speed
from fleet.throughput import speed_of

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
class Seats:
    """Who is where; an item for each replica."""

    items: Sequence[Item]
    bins: Sequence[Bin]
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

        A step as in `fleet.throughput.step_under_load`; servers that share a device take turns
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


def seats_of(hardware: Hardware, bins: Sequence[Bin]) -> Seats | None:
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
    seats = Seats(
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


def is_movable(bin_: Bin, item: Item) -> bool:
    """Say whether a version is new where it stands, and may be elsewhere as well."""
    alone = bin_.aliases[item.alias] == 1
    return not item.prior and item.pin is None and alone and item.adapter not in bin_.held
