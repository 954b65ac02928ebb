"""Whether a request may begin now, must wait for its turn, or is refused: limits and fair turns.

Counts live here and not in a routing table, so that a new table forgets nobody's requests.
What nothing limits comes here only while servers are busy or somebody waits.
"""

import itertools
import math
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from typing import Final

from fleet.traffic import QUEUE_S, USUAL_TURNS, LimitPolicy, TrafficPolicy
from runtime.gateway import refusals
from runtime.gateway.inflight import InFlight
from runtime.gateway.replicas import Replicas
from runtime.gateway.routing import USUAL_PATIENCE
from runtime.gateway.turns import Turns

WAITING: Final = 1000
"""Most requests of one client that wait at a time; more are refused at once."""
BURST_S: Final = 10.0
"""A rate allows at once what it allows in this time, and at least one."""
_MINUTE: Final = 60.0


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

    def wait(self, limits: LimitPolicy, parts: int, now: float) -> float:
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

    def take(self, limits: LimitPolicy, parts: int, now: float) -> None:
        """Count one request towards the rate."""
        if limits.requests_per_minute is not None:
            interval = _MINUTE * parts / limits.requests_per_minute
            self._theoretical = max(self._theoretical, now) + interval

    def charge(self, tokens: int) -> None:
        """Count what an answer took."""
        if self._level is not None:
            self._level -= tokens

    def has_room(self, limits: LimitPolicy, parts: int) -> bool:
        """Say whether one more request may work."""
        return limits.concurrency is None or self.working < math.ceil(limits.concurrency / parts)


class Place:
    """One request's claim to be at work, from `Admission.ask` until it is given back."""

    __slots__ = (
        "adapter", "alias", "client", "granted", "number", "patience_s", "policy", "proceed",
        "servers", "since",
    )  # fmt: skip

    def __init__(
        self,
        client: str,
        alias: str,
        policy: TrafficPolicy,
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
        self.since = (0.0, 0.0)
        """When it came, on the clocks of turns between clients and between those of its client."""
        self.number = 0
        """Its place among all that came."""
        self.patience_s = QUEUE_S
        """How long it waits for its turn at most."""

    def wait(self, *, for_server: bool) -> None:
        """Find out how long it waits: as declared, else for a server as long as for its answer."""
        policy, usual = self.policy, QUEUE_S
        if for_server:
            usual = policy.timeouts.first_byte_s or USUAL_PATIENCE.first_byte_s
        self.patience_s = policy.limits.queue_s or policy.client_limits.queue_s or usual


class Admission:
    """The limits of one gateway process, and who waits for what."""

    def __init__(self, in_flight: InFlight, replicas: Replicas) -> None:
        """Begin with nobody at work."""
        self._in_flight = in_flight
        self._replicas = replicas
        self._clients: dict[str, Meter] = {}
        self._aliases: dict[str, Meter] = {}
        self._waiting: dict[tuple[str, str], OrderedDict[Place, None]] = {}
        """By alias and version, in the order in which they came."""
        self._queued: Counter[str] = Counter()
        """By client."""
        self._numbers = itertools.count()
        self._turns = Turns()
        """Between clients."""
        self._own_turns: defaultdict[str, Turns] = defaultdict(Turns)
        """By client, between its aliases."""
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

    def passes(self, servers: Sequence[str], adapter: str) -> bool:
        """Say whether who has no limits may begin without asking, which most may."""
        return not self._waiting and self._replicas.have_room(servers, adapter, None)

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
        allowed = self._allowed(place)
        queue = self._waiting.get((place.alias, place.adapter))
        ready = queue is None and allowed and self._has_server(place)
        if not ready and self._queued[place.client] >= WAITING:
            raise refusals.too_many(1)
        for meter, limits in meters:
            meter.take(limits, policy.gateways, now)
        place.since = (self._turns.now, self._own_turns[place.client].now)
        place.number = next(self._numbers)
        if ready:
            self._grant(place)
            return True
        place.wait(for_server=allowed)
        if queue is None:
            queue = self._waiting[place.alias, place.adapter] = OrderedDict()
        queue[place] = None
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

    def freed(self) -> None:
        """A server has room that no place of ours was for: somebody may have waited for it."""
        if self._waiting:
            self.let_in()

    def let_in(self) -> None:
        """Let in who waits and fits, turn by turn."""
        while self._waiting:
            heads = (next(iter(queue)) for queue in self._waiting.values())
            fitting = (each for each in heads if self._allowed(each) and self._has_server(each))
            found = min(fitting, key=self._turn, default=None)
            if found is None:
                return
            self._leave_queue(found)
            self._grant(found)
            if found.proceed is not None:
                found.proceed()

    def copy(self, alias: str, policy: TrafficPolicy) -> bool:
        """Say whether a shadow request may begin, and count it; under load none may."""
        shadow = policy.shadow
        if shadow is None or self._waiting or self._copies[alias] >= shadow.concurrency:
            return False
        most = policy.server_in_flight
        if most is None:
            has_room = self._replicas.have_room(shadow.servers, shadow.adapter, None)
        else:
            has_room = any(self._in_flight.on(each) < most for each in shadow.servers)
        if not has_room:
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

    def _allowed(self, place: Place) -> bool:
        """Say whether its own limits, and those of its client, let it work."""
        policy, parts = place.policy, place.policy.gateways
        return self._clients[place.client].has_room(policy.client_limits, parts) and self._aliases[
            place.alias
        ].has_room(policy.limits, parts)

    def _has_server(self, place: Place) -> bool:
        most = place.policy.server_in_flight
        return self._replicas.have_room(place.servers, place.adapter, most)

    def _turn(self, place: Place) -> tuple[float, float, int]:
        """Return what whoever is next has the least of: client's turn, alias's turn, number."""
        between, within = place.since
        return (
            self._turns.start(place.client, between),
            self._own_turns[place.client].start(place.alias, within),
            place.number,
        )

    def _grant(self, place: Place) -> None:
        between, within = place.since
        in_a_row = place.policy.turns or USUAL_TURNS
        self._turns.take(place.client, between, in_a_row)
        self._own_turns[place.client].take(place.alias, within, in_a_row)
        place.granted = True
        self._clients[place.client].working += 1
        self._aliases[place.alias].working += 1

    def _leave_queue(self, place: Place) -> None:
        name = (place.alias, place.adapter)
        queue = self._waiting.get(name)
        if queue is None or place not in queue:
            return
        del queue[place]
        self._queued[place.client] -= 1
        if not queue:
            del self._waiting[name]
