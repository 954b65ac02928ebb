"""Turns of waiting requests: between clients, and within a client between its aliases."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any, Final, Generic, TypeVar

from fleet.traffic import QUEUE_S, USUAL_TURNS
from runtime.gateway.routing import RouteTarget

Item = TypeVar("Item")
Key = tuple[Any, ...]
"""Sort key."""
_MIN_CLEANED: Final = 64
"""Fewest obsolete entries of a heap that are dropped together."""


@dataclass(slots=True)
class FairQueue:
    """Turns between names that send again and again, on a clock that moves as turns are taken.

    A turn begins where the last turn of the same name ended, or where the clock stood when the
    request came, and is the shorter the more turns a name has in a row. The earliest turn is next:
    a name with a thousand waiting requests delays a name with a single request by one turn.

    Source:
        Goyal, Vin and Cheng 1996, Start-time Fair Queueing, section 2.
    """

    now: float = 0.0
    ends: dict[str, float] = field(default_factory=dict)
    """By name, the end of its last turn; 0 for any other."""

    def end(self, name: str) -> float:
        """Return the end of a name's last turn."""
        return self.ends.get(name, 0.0)

    def start(self, name: str, since: float) -> float:
        """Return the begin of a name's next turn; the clock said `since` as the request came.

        Computed when needed: a request that left the queue has taken no turn.
        """
        end = self.ends.get(name, 0.0)
        return since if since > end else end  # noqa: FURB136 (a call less for each look)

    def count_turn(self, name: str, since: float, in_a_row: int) -> None:
        """Count a turn of a name that has `in_a_row` turns where other names have a single turn."""
        start = self.start(name, since)
        self.now = max(self.now, start)
        self.ends[name] = start + 1 / in_a_row


@dataclass(slots=True, eq=False)
class Ticket:
    """The claim of a request to be at work, from `Admission.request` until its release."""

    target: RouteTarget
    is_granted: bool = False
    proceed: Callable[[], None] | None = None
    """Called when the turn has come, or when a newer table routes the request; None: the request
    waits no longer."""
    arrived: tuple[float, float] = (0.0, 0.0)
    """Time of arrival, on the clock between clients and on the clock within the client."""
    number: int | None = None
    """Number of the request in the order of arrival; None: the limits have not seen the request."""
    max_wait_s: float = QUEUE_S
    rates: Mapping[str, str] | None = None
    """Headers for the client with the rest of its rates; None: it has no rates."""


@dataclass(slots=True)
class Turns:
    """The turns of all requests, waiting or not."""

    between: FairQueue = field(default_factory=FairQueue)
    """Between clients."""
    _within: defaultdict[str, FairQueue] = field(default_factory=lambda: defaultdict(FairQueue))
    """By client, between its aliases."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def number(self, ticket: Ticket) -> None:
        """Give a request its place in the order of arrival."""
        ticket.arrived = (self.between.now, self._within[ticket.target.client].now)
        ticket.number = next(self._numbers)

    def key(self, ticket: Ticket) -> tuple[float, float, int]:
        """Return the sort key of a request: turn of the client, turn of the alias, arrival."""
        client, since = ticket.target.client, ticket.arrived[0]
        end = self.between.ends.get(client, 0.0)  # `FairQueue.start`, without its call
        start = since if since > end else end  # noqa: FURB136 (a call less for each look)
        return start, *self.key_within(ticket)

    def key_within(self, ticket: Ticket) -> tuple[float, int]:
        """Return the sort key of a request within its client: turn of the alias, arrival."""
        target, since = ticket.target, ticket.arrived[1]
        end = self._within[target.client].ends.get(target.alias, 0.0)
        start = since if since > end else end  # noqa: FURB136 (a call less for each look)
        return start, ticket.number or 0

    def within(self, client: str) -> FairQueue:
        """Return the turns of a client's aliases."""
        return self._within[client]

    def count(self, ticket: Ticket) -> None:
        """Count the turn that a request takes."""
        target = ticket.target
        between, within = ticket.arrived
        in_a_row = target.policy.turns or USUAL_TURNS
        self.between.count_turn(target.client, between, in_a_row)
        self._within[target.client].count_turn(target.alias, within, in_a_row)


@dataclass(slots=True)
class GrowingKeys(Generic[Item]):
    """Items by keys that grow by themselves; the first item is found without looking at all.

    An entry of the heap has the key that an item had a while ago. The entry is set right when it
    comes first, so that growing keys cost nothing until they matter. A key that shrinks is offered
    anew.
    """

    _key: Callable[[Item], Key | None]
    """Returns the key of an item now; None: the item does not count any more."""
    _keys: dict[Item, Key] = field(default_factory=dict)
    """The key of the only entry of an item that counts."""
    _heap: list[tuple[Key, int, Item]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    """Of entries, which are never compared by their items."""

    def __bool__(self) -> bool:
        return bool(self._keys)

    def offer(self, item: Item) -> None:
        """Add an item, or move an item whose key has shrunk."""
        key, known = self._key(item), self._keys.get(item)
        if key is None or (known is not None and known <= key):
            return
        self._keys[item] = key
        heappush(self._heap, (key, next(self._numbers), item))
        if len(self._heap) > 2 * len(self._keys) + _MIN_CLEANED:
            self._heap = [(key, next(self._numbers), item) for item, key in self._keys.items()]
            heapify(self._heap)

    def remove(self, item: Item) -> None:
        """Drop an item; a second call changes nothing."""
        self._keys.pop(item, None)

    def first(self) -> Item | None:
        """Return the item with the least key; None: there is none."""
        found = self.first_entry()
        return None if found is None else found[1]

    def first_entry(self) -> tuple[Key, Item] | None:
        """Return the least key and its item; None: there is none."""
        heap, keys = self._heap, self._keys
        while heap:
            entered, number, item = heap[0]
            if keys.get(item) is not entered:
                heappop(heap)
                continue
            key = self._key(item)
            if key == entered:
                return entered, item
            if key is None:
                self.remove(item)
            else:
                keys[item] = key
                heapreplace(heap, (key, number, item))
                if heap[0][0] is key:  # still the first, by the key of this moment
                    return key, item
        return None
