"""Waiting requests, and the choice of the request whose turn is next.

An alias waits in a lane for each server that may answer its first request. In a lane wait clients,
and within a client its aliases; each in a heap by its turn. So a turn costs as much with a thousand
waiting aliases as with one, save for steps of the heaps. What waits for a limit of its own is set
aside until that client, or alias, gives a turn back.
"""

import itertools
import math
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any, Final, Generic, TypeVar

from fleet.traffic import QUEUE_S, USUAL_TURNS
from runtime.gateway.table.routing import RouteTarget
from runtime.gateway.traffic.balancer import LoadBalancer

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


AllowsAnother = Callable[[RouteTarget], bool]
"""Returns whether a limit allows another request of a version at work."""


@dataclass(slots=True, eq=False)
class AliasQueue:
    """The requests that wait for a version of an alias, in the order of their arrival."""

    name: tuple[str, str]
    """Alias and full name of the version."""
    first: Ticket
    """The request that has waited longest."""
    tickets: OrderedDict[Ticket, None] = field(default_factory=OrderedDict)
    lanes: "list[_ClientLane]" = field(default_factory=list)
    """Where the first request waits."""


@dataclass(slots=True, eq=False)
class _ClientLane:
    """A client in a lane, with its aliases whose first requests the server may answer.

    Aliases whose requests came before the end of the client's last turn are ordered by the turns
    within the client, and the others by their arrival as well.
    """

    lane: "_Lane"
    client: str
    turns: Turns
    due: GrowingKeys[AliasQueue] = field(init=False)
    later: GrowingKeys[AliasQueue] = field(init=False)

    def __post_init__(self) -> None:
        key, ends = self.turns.key, self.turns.within(self.client).ends

        def key_within(queue: AliasQueue) -> Key:
            """Return `Turns.key_within` of the first request, without its call."""
            ticket = queue.first
            since, end = ticket.arrived[1], ends.get(ticket.target.alias, 0.0)
            start = since if since > end else end  # noqa: FURB136 (a call less for each look)
            return start, ticket.number or 0

        self.due = GrowingKeys(key_within)
        self.later = GrowingKeys(lambda queue: key(queue.first))

    def add(self, queue: AliasQueue) -> None:
        """Take an alias in."""
        is_due = queue.first.arrived[0] <= self.turns.between.end(self.client)
        (self.due if is_due else self.later).offer(queue)

    def remove(self, queue: AliasQueue) -> None:
        """Drop an alias."""
        self.due.remove(queue)
        self.later.remove(queue)

    def first_entry(self) -> tuple[Key, AliasQueue] | None:
        """Return the alias whose turn is next, with its sort key; None: no alias is left."""
        end = self.turns.between.ends.get(self.client, 0.0)
        if self.later:
            while (queue := self.later.first()) is not None and queue.first.arrived[0] <= end:
                self.later.remove(queue)
                self.due.offer(queue)
        found = self.due.first_entry()
        if found is None:
            return self.later.first_entry()
        (start, number), queue = found
        return (end, start, number), queue

    def first(self) -> AliasQueue | None:
        """Return the alias whose turn is next; None: no alias is left."""
        found = self.first_entry()
        return None if found is None else found[1]

    def key(self) -> Key | None:
        """Return the sort key of the client's next turn; None: no alias is left."""
        found = self.first_entry()
        return None if found is None else found[0]


@dataclass(slots=True, eq=False)
class _Lane:
    """The clients that wait for a server; `limit` as of `ConcurrencyLimiter.allows`."""

    server: str
    limit: int | None
    clients: dict[str, _ClientLane] = field(default_factory=dict)
    ready: GrowingKeys[_ClientLane] = field(default_factory=lambda: GrowingKeys(_ClientLane.key))
    """Clients that are not set aside."""


@dataclass(slots=True)
class WaitingRequests:
    """The waiting requests of a gateway process."""

    _turns: Turns
    _balancer: LoadBalancer
    _freed: set[str]
    """Servers that have had a place free since the last look."""
    _client_allows: AllowsAnother
    _alias_allows: AllowsAnother
    queues: dict[tuple[str, str], AliasQueue] = field(default_factory=dict)
    """By alias and version."""
    by_client: Counter[str] = field(default_factory=Counter)
    _lanes: dict[tuple[str, int | None], _Lane] = field(default_factory=dict)
    _open: dict[_Lane, None] = field(default_factory=dict)
    """Lanes whose servers may have a place free."""
    _full: dict[str, set[_Lane]] = field(default_factory=dict)
    """The other lanes, by server."""
    _clients_aside: dict[str, set[_ClientLane]] = field(default_factory=dict)
    """Clients whose limit is used up, in their lanes."""
    _aliases_aside: dict[str, set[AliasQueue]] = field(default_factory=dict)
    """Aliases whose limit is used up, in no lane."""
    _marks: int = 0
    """`LoadBalancer.marks` for which the lanes are right."""

    def add(self, ticket: Ticket) -> None:
        """Take in a request, behind those of its version."""
        target = ticket.target
        name = (target.alias, target.adapter)
        queue = self.queues.get(name)
        if queue is None:
            queue = self.queues[name] = AliasQueue(name, ticket)
        queue.tickets[ticket] = None
        self.by_client[target.client] += 1
        if len(queue.tickets) == 1:
            self._list(queue)

    def remove(self, ticket: Ticket) -> None:
        """Drop a request, unless the request waits no longer."""
        target = ticket.target
        queue = self.queues.get((target.alias, target.adapter))
        if queue is None or ticket not in queue.tickets:
            return
        del queue.tickets[ticket]
        self.by_client[target.client] -= 1
        if not queue.tickets:
            self._unlist(queue)
            del self.queues[queue.name]
        elif queue.first is ticket:
            queue.first = next(iter(queue.tickets))
            self._list(queue)

    def next(self) -> Ticket | None:
        """Return the request whose turn is next, of those that a free server may answer."""
        marks = self._balancer.marks()
        if marks != self._marks:  # seldom: another server seems down, or seems up again
            self._marks = marks
            for queue in self.queues.values():
                self._list(queue)
        best: Ticket | None = None
        best_key: Key = (math.inf,)
        while self._freed:
            self._open.update(dict.fromkeys(self._full.pop(self._freed.pop(), ())))
        for lane in [*self._open]:
            if not self._balancer.allows(lane.server, lane.limit):
                if lane in self._open:  # else the look at another lane has dropped this lane
                    del self._open[lane]
                    self._full.setdefault(lane.server, set()).add(lane)
                continue
            ticket = self._first(lane)
            if ticket is not None and (key := self._turns.key(ticket)) < best_key:
                best, best_key = ticket, key
        return best

    def take_limits(self) -> None:
        """Look at all servers again: limits of servers may have changed."""
        self._open = dict.fromkeys(self._lanes.values())
        self._full.clear()

    def give_back(self, target: RouteTarget) -> None:
        """Look again at aliases that waited for a limit of this client or alias."""
        for client in self._clients_aside.pop(target.client, ()):
            client.lane.ready.offer(client)
        for queue in self._aliases_aside.pop(target.alias, ()):
            if queue.tickets:
                self._list(queue)

    def _first(self, lane: _Lane) -> Ticket | None:
        """Return the next request of a lane, and set aside those that wait for their own limits."""
        found: Ticket | None = None
        over: list[_ClientLane] = []
        """Clients whose share of the server is used up: few, since each holds many places."""
        while (client := lane.ready.first()) is not None:
            queue = client.first()
            assert queue is not None, "the client has a key"
            ticket = queue.first
            if not self._client_allows(ticket.target):
                lane.ready.remove(client)
                self._clients_aside.setdefault(client.client, set()).add(client)
            elif not self._alias_allows(ticket.target):
                self._unlist(queue)
                self._aliases_aside.setdefault(ticket.target.alias, set()).add(queue)
            elif not self._balancer.allows(lane.server, lane.limit, client.client):
                lane.ready.remove(client)
                over.append(client)
            else:
                found = ticket
                break
        for client in over:
            lane.ready.offer(client)
        return found

    def _list(self, queue: AliasQueue) -> None:
        """Put an alias into the lanes of its first request."""
        self._unlist(queue)
        target = queue.first.target
        limit = target.policy.server_in_flight
        for server in self._balancer.preferred(target.servers, target.adapter, target.client):
            lane = self._lanes.get((server, limit))
            if lane is None:
                lane = self._lanes[server, limit] = _Lane(server, limit)
                self._open[lane] = None
            client = lane.clients.get(target.client)
            if client is None:
                client = _ClientLane(lane, target.client, self._turns)
                lane.clients[target.client] = client
            client.add(queue)
            lane.ready.offer(client)
            queue.lanes.append(client)

    def _unlist(self, queue: AliasQueue) -> None:
        """Take an alias out of its lanes, and drop empty lanes."""
        for client in queue.lanes:
            client.remove(queue)
            if not client.due and not client.later:
                lane = client.lane
                lane.ready.remove(client)
                lane.clients.pop(client.client, None)
                if not lane.clients:
                    self._lanes.pop((lane.server, lane.limit), None)
                    self._open.pop(lane, None)
                    self._full.get(lane.server, set()).discard(lane)
        queue.lanes.clear()
