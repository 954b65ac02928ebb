"""Shares of clients: the part of a room that a client may hold while others may want a place.

A client may hold a multiple of the free part of a room, by its weight. So the more a client holds
the more stays free, a newcomer always finds a place, and clients that all want more come to equal
parts by their weights.

Source:
    Choudhury and Hahne 1998, Dynamic queue length thresholds for shared-memory packet switches.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Final

from fleet.traffic import USUAL_TURNS
from runtime.gateway.traffic.concurrency import FIRST_LIMIT

MEMORY: Final = 1
"""Bytes that a client of usual weight may hold for a free byte: half of all at most."""
CONNECTIONS: Final = 2
"""The same for connections at work: two thirds at most."""
PLACES: Final = 7
"""The same for the places of a server: seven eighths at most."""
SILENT_PLACES: Final = 32
"""Places of a server that reports no load, for shares: fewer are run by few servers."""
UNSHARED: Final = 3
"""Places of a server up to which none is kept free: one would be too large a part."""
_ABOUT_S: Final = 10.0
"""Time after requests of two clients in which the places of a server grow by small steps."""
_STEP_S: Final = 1.0
"""Least time between two of the small steps. So requests that fill a server have begun at different
moments, and end so."""
_HOLD_S: Final = 30.0
"""Time for which the number of places holds after requests waited inside the server."""


@dataclass(slots=True)
class ClientWeights:
    """The weights of clients, by the newest table."""

    of: Mapping[str, int] = field(default_factory=dict)
    """A client that is not there has `USUAL_TURNS`."""

    def allows(self, client: str, held: int, free: int, times: int) -> bool:
        """Return whether a client may hold `held` places where `free` places stay free.

        `times`: the multiple of the free part for a client of usual weight.
        """
        return held <= times * self.of.get(client, USUAL_TURNS) / USUAL_TURNS * free


@dataclass(slots=True)
class _Places:
    """The places of a server, as found by its load reports; times on the clock of shares."""

    count: int = FIRST_LIMIT
    others: int = 0
    """Requests of other gateways at the last report."""
    waited: bool = False
    """Whether requests waited inside at the last report."""
    running: int = 0
    """Requests at work at the last report."""
    grows_at: float = 0.0
    """Earliest time of the next growth."""
    shared_until: float = 0.0
    """End of the time in which two clients are about."""


@dataclass(slots=True)
class ServerShares:
    """The shares of clients in the places of servers.

    The number of places is what a server runs at a time: known once requests waited inside, and
    looked for again after a while by small steps, since it depends on the requests of the moment.
    """

    _busy: Mapping[str, int]
    """Requests of clients, by server."""
    clients: dict[str, defaultdict[str, int]]
    """By server and client; with clients of none that were there since the last report."""
    weights: ClientWeights = field(default_factory=ClientWeights)
    shared: Container[str] = frozenset()
    """Servers that the routing table gives to two clients or more."""
    _clock: Callable[[], float] = time.monotonic
    _places: dict[str, _Places] = field(default_factory=dict)

    def allows(self, server: str, client: str, limit: int | None = None) -> bool:
        """Return whether a client may have another place; `limit`: the declared number."""
        if server not in self.shared:
            return True
        count = limit
        if count is None:
            places = self._places.get(server)
            count = FIRST_LIMIT if places is None else places.count - places.others
        busy = self._busy[server]
        if (
            count <= UNSHARED or 2 * busy < count
        ):  # half is free: the share of any client, of any weight
            return True
        held = self.clients[server][client] if server in self.clients else 0
        return not held or self.weights.allows(client, held + 1, count - busy - 1, PLACES)

    def record_load(self, server: str, running: int, waiting: int) -> None:
        """Take a load report, which counts the requests of all clients and gateways."""
        now, places = self._clock(), self._places.setdefault(server, _Places())
        ours = self._busy[server]
        places.others = max(0, running + waiting - ours)
        self._look_who_is_about(server, places, now)
        waits = waiting > max(1, running // 16) and running <= places.running
        if waits and places.waited:  # at two reports: what just came waits for a step too
            places.count = max(running, places.count * 3 // 4)
            places.grows_at = now + _HOLD_S
        elif running > places.count:
            places.count = running
        elif not waiting and 4 * running >= 3 * places.count and now >= places.grows_at:
            is_shared = now < places.shared_until
            places.count += max(2, places.count // 8) if is_shared else places.count
            places.grows_at = now + _STEP_S if is_shared else now
        places.waited, places.running = waits, running

    def record_no_load(self, server: str) -> None:
        """Note that a server reports no load: a fixed number while two clients are about."""
        now, places = self._clock(), self._places.setdefault(server, _Places())
        self._look_who_is_about(server, places, now)
        places.others, places.count = 0, SILENT_PLACES

    def retain(self, servers: Container[str]) -> None:
        """Forget all but these servers, as `LoadBalancer.retain`."""
        for known in (self._places, self.clients):
            for server in [*known]:
                if server not in servers and not self._busy.get(server):
                    known.pop(server, None)

    def _look_who_is_about(self, server: str, places: _Places, now: float) -> None:
        clients = self.clients.get(server) or defaultdict[str, int](int)
        if len(clients) > 1:
            places.shared_until = now + _ABOUT_S
        for client in [client for client, count in clients.items() if not count]:
            del clients[client]
