"""Whether a request may begin now, must wait for its turn, or is refused: limits and fair turns.

Counts live here and not in a routing table, so that a new table forgets nobody's requests.
What is not limited never comes here.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final

from fleet.traffic import QUEUE_S, Limits, Policy
from runtime.gateway import refusals
from runtime.gateway.inflight import InFlight

WAITING: Final = 100
"""Most requests of one client that wait at a time; more are refused at once."""
BURST_S: Final = 10.0
"""A rate allows at once what it allows in this time, and at least one."""
_MINUTE: Final = 60.0
_TURNS: Final = 2
"""Of whom no turns are told, which is what a usual client has."""


class Meter:
    """What one client, or one alias, uses of its limits."""

    __slots__ = ("_level", "_refilled", "_theoretical", "working")

    def __init__(self, now: float) -> None:
        """Begin with nothing used."""
        self.working = 0
        """Requests at work."""
        self._theoretical = now
        """When the next request would come if they came evenly (GCRA), seconds."""
        self._level: float | None = None
        """Tokens that may still be used; below zero where answers took more. None: all."""
        self._refilled = now

    def wait(self, limits: Limits, parts: int, now: float) -> float:
        """Return the seconds until limits on rates allow another request; 0 where they do."""
        wait = 0.0
        if limits.requests_per_minute is not None:
            interval = _MINUTE * parts / limits.requests_per_minute
            slack = max(0.0, BURST_S - interval)
            # Under a lower limit it may have gone further ahead than this one ever lets it.
            self._theoretical = min(self._theoretical, now + slack + interval)
            wait = self._theoretical - slack - now
        if limits.tokens_per_minute is not None:
            most = limits.tokens_per_minute / parts
            rate = most / _MINUTE
            level = most if self._level is None else self._level
            self._level = min(most, level + rate * (now - self._refilled))
            self._refilled = now
            if self._level <= 0:
                wait = max(wait, (1 - self._level) / rate)
        return max(wait, 0.0)

    def take(self, limits: Limits, parts: int, now: float) -> None:
        """Count one request towards the rate."""
        if limits.requests_per_minute is not None:
            interval = _MINUTE * parts / limits.requests_per_minute
            self._theoretical = max(self._theoretical, now) + interval

    def charge(self, tokens: int) -> None:
        """Count what an answer took."""
        if self._level is not None:
            self._level -= tokens

    def has_room(self, limits: Limits, parts: int) -> bool:
        """Say whether one more request may work."""
        return limits.concurrency is None or self.working < math.ceil(limits.concurrency / parts)


class Place:
    """One request's claim to be at work, from `Admission.ask` until it is given back."""

    __slots__ = ("adapter", "alias", "client", "granted", "policy", "proceed", "servers", "start")

    def __init__(
        self,
        client: str,
        alias: str,
        policy: Policy,
        servers: Sequence[str],
        adapter: str = "",
    ) -> None:
        """Prepare; `servers` hold the version that answers, `adapter` is its full name."""
        self.client = client
        self.alias = alias
        self.policy = policy
        self.servers = servers
        self.adapter = adapter
        self.granted = False
        self.proceed: Callable[[], None] | None = None
        """Called when its turn has come; None: nobody waits any longer."""
        self.start = 0.0
        """Its turn, on a clock that moves as turns are taken."""

    @property
    def patience_s(self) -> float:
        """How long it waits for its turn at most."""
        own = self.policy.limits.queue_s
        return own if own != QUEUE_S else self.policy.client_limits.queue_s


class Admission:
    """The limits of one gateway process, and who waits for what."""

    def __init__(self, in_flight: InFlight) -> None:
        """Begin with nobody at work."""
        self._in_flight = in_flight
        self._clients: dict[str, Meter] = {}
        self._aliases: dict[str, Meter] = {}
        self._waiting: dict[str, deque[Place]] = {}
        """By alias, in the order in which they came."""
        self._queued: Counter[str] = Counter()
        """By client."""
        self._clock = 0.0
        self._finish: dict[str, float] = {}
        """By client: when the last turn it was given is over, on the clock of turns."""
        self._copies: Counter[str] = Counter()
        """Shadow requests at work, by alias."""

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return self._queued.total()

    @property
    def queued(self) -> Counter[tuple[str, str]]:
        """Requests that wait, by each (server, full adapter name) that may answer them.

        Which version answers is decided before a request waits, so that its user stays there.
        """
        places = (place for queue in self._waiting.values() for place in queue)
        return Counter((server, each.adapter) for each in places for server in each.servers)

    def ask(self, place: Place, now: float) -> bool:
        """Ask for a place; return whether it is granted now, else it waits for `proceed`.

        Raises:
            RefusalError: 429: a rate is used up, or too many wait already.
        """
        client, alias = self._meters(place, now)
        policy = place.policy
        meters = ((client, policy.client_limits), (alias, policy.limits))
        wait = max(meter.wait(limits, policy.gateways, now) for meter, limits in meters)
        if wait > 0:
            raise refusals.too_many(math.ceil(wait))
        ready = place.alias not in self._waiting and self._fits(place, client, alias)
        if not ready and self._queued[place.client] >= WAITING:
            raise refusals.too_many(1)
        for meter, limits in meters:
            meter.take(limits, policy.gateways, now)
        place.start = max(self._clock, self._finish.get(place.client, 0.0))
        self._finish[place.client] = place.start + 1 / (policy.turns or _TURNS)
        if ready:
            self._grant(place, client, alias)
            return True
        self._waiting.setdefault(place.alias, deque()).append(place)
        self._queued[place.client] += 1
        return False

    def give_back(self, place: Place, tokens: int = 0) -> None:
        """Give a place back, or no longer wait for it; whoever is next proceeds."""
        if not place.granted:
            self._leave_queue(place)
            return
        place.granted = False
        client, alias = self._clients[place.client], self._aliases[place.alias]
        for meter in (client, alias):
            meter.working -= 1
            meter.charge(tokens)
        self.let_in()

    def charge(self, place: Place, tokens: int) -> None:
        """Count what an answer took beyond what was known when its place was given back."""
        for meter in (self._clients[place.client], self._aliases[place.alias]):
            meter.charge(tokens)

    def freed(self) -> None:
        """A server has room that no place of ours was for: somebody may have waited for it."""
        if self._waiting:
            self.let_in()

    def let_in(self) -> None:
        """Let in who waits and fits, turn by turn."""
        while self._waiting:
            heads = sorted((queue[0] for queue in self._waiting.values()), key=_by_turn)
            found = next((each for each in heads if self._fits(each)), None)
            if found is None:
                return
            self._leave_queue(found)
            self._grant(found, self._clients[found.client], self._aliases[found.alias])
            if found.proceed is not None:
                found.proceed()

    def copy(self, alias: str, policy: Policy) -> bool:
        """Say whether a shadow request may begin, and count it; under load none may."""
        shadow = policy.shadow
        if shadow is None or self._waiting or self._copies[alias] >= shadow.concurrency:
            return False
        busy, most = self._in_flight, policy.server_in_flight
        if most is not None and all(busy.on(each) >= most for each in shadow.servers):
            return False
        self._copies[alias] += 1
        return True

    def copied(self, alias: str) -> None:
        """Count one shadow request less."""
        self._copies[alias] -= 1

    def _meters(self, place: Place, now: float) -> tuple[Meter, Meter]:
        client = self._clients.get(place.client)
        if client is None:
            client = self._clients[place.client] = Meter(now)
        alias = self._aliases.get(place.alias)
        if alias is None:
            alias = self._aliases[place.alias] = Meter(now)
        return client, alias

    def _fits(self, place: Place, client: Meter | None = None, alias: Meter | None = None) -> bool:
        policy, parts = place.policy, place.policy.gateways
        client = client or self._clients[place.client]
        alias = alias or self._aliases[place.alias]
        return (
            client.has_room(policy.client_limits, parts)
            and alias.has_room(policy.limits, parts)
            and self._has_server(place.servers, policy.server_in_flight)
        )

    def _has_server(self, servers: Sequence[str], most: int | None) -> bool:
        """Say whether a server has room; where there is no server, waiting helps nobody."""
        if most is None or not servers:
            return True
        return any(self._in_flight.servers[each] < most for each in servers)

    def _grant(self, place: Place, client: Meter, alias: Meter) -> None:
        self._clock = max(self._clock, place.start)
        place.granted = True
        client.working += 1
        alias.working += 1

    def _leave_queue(self, place: Place) -> None:
        queue = self._waiting.get(place.alias)
        if queue is None or place not in queue:
            return
        queue.remove(place)
        self._queued[place.client] -= 1
        if not queue:
            del self._waiting[place.alias]


def _by_turn(place: Place) -> float:
    return place.start
