"""How many requests each server has room for: as many as it runs at a time, by what it says itself.

What waits in a server waits in the order in which it came, behind whoever sent most. So it waits
here, where clients take turns, and a server gets what it runs and a few more, which keep it busy.
Nobody can know that number beforehand: it depends on the server's flags, on its memory and on the
lengths of the requests of this moment. So a server that has much to do is looked at all the time.
"""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from runtime.gateway.inflight import InFlight

FIRST: Final = 16
"""Requests that a server is given before it was looked at."""
UNTOLD: Final = 256
"""Requests that a server is given which does not tell: the least that vLLM runs on a GPU."""
_SPARE: Final = 4
_SPARE_PART: Final = 4
"""Requests beside those that run: one for so many, and at least four. They keep a server busy where
the gateway, or what is between the two, is slow to send the next."""
_LOOK_AGAIN_S: Final = 1.0
_STALE_S: Final = 2.0
PATIENCE_S: Final = 2.0
"""For a server to answer a look; until then what it said before holds."""
_TIGHT_S: Final = 10.0
"""How long after somebody waited in a server it is given more by small steps only."""
_UNTOLD_S: Final = 10.0


class Load(NamedTuple):
    """What a server says of itself; requests of everybody, not of one gateway only."""

    running: int
    waiting: int


class _Room:
    """What is known of one server."""

    __slots__ = ("known", "most", "peak", "tight", "until")

    def __init__(self) -> None:
        self.most = FIRST
        """Requests of ours that it is given."""
        self.peak = 0
        """Most requests of ours that it had since it last told."""
        self.known = False
        """Whether it has ever told."""
        self.tight = 0.0
        """Until when it is given more by small steps only."""
        self.until = 0.0
        """Until when `most` holds."""


class Rooms:
    """What one gateway process knows of its servers' room."""

    def __init__(self, in_flight: InFlight, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without having looked; seconds of `clock` only count from one call to another."""
        self._busy = in_flight.servers
        self._clock = clock
        self._rooms: dict[str, _Room] = {}
        self.look: Callable[[str], None] = _nobody_looks
        """Looks at a server, unless somebody does already; then `told` or `untold` is called."""

    def has(self, server: str, most: int | None = None) -> bool:
        """Say whether a server has room for one more request.

        Args:
            server: Its name.
            most: Requests that the operator allows there; None: as many as it runs at a time.
        """
        busy = self._busy.get(server, 0)
        if most is not None:
            return busy < most
        room = self._rooms.get(server)
        if room is None:
            if busy < FIRST // 2:
                return True
            room = self._rooms[server] = _Room()
        if busy > room.peak:  # noqa: PLR1730 (a call less for each request)
            room.peak = busy
        now = self._clock()
        if now >= room.until:
            if busy >= FIRST // 2:
                self.look(server)
            return busy < FIRST
        if busy >= room.most:
            self.look(server)
            return False
        if now >= room.until - (_STALE_S - _LOOK_AGAIN_S) and busy >= FIRST // 2:
            room.until = now + PATIENCE_S + _STALE_S
            self.look(server)
        return True

    def told(self, server: str, load: Load) -> None:
        """Take what a server says of itself.

        Where nobody waits in it, as many again as it runs may come, or a few more if somebody
        did a moment ago. Where more than these few wait, nothing comes until they are fewer. Of
        several gateways each takes back the part that is its own, `ours / (running + waiting)`,
        and they come to that number together.

        Requests on their way are in `ours` and in nothing that the server says: so many fewer
        come at once. While nobody waits, what counts is the most that were there since the last
        look: many that end together are no reason to give it less.
        """
        now, ours = self._clock(), self._busy[server]
        room = self._rooms.setdefault(server, _Room())
        peak, room.peak = max(ours, room.peak), ours
        running, waiting = load
        spare = max(_SPARE, running // _SPARE_PART)
        if waiting:
            room.tight = now + _TIGHT_S
        if now >= room.tight:
            on_their_way = max(0, peak - running)
            room.most = max(FIRST, peak + max(spare, min(peak, running - on_their_way)))
        elif waiting <= spare:
            room.most = max(_SPARE, ours + spare - waiting)
        else:
            part = min(1.0, ours / (running + waiting))
            room.most = max(_SPARE, ours - round((waiting - spare) * part))
        room.known = True
        room.until = now + _STALE_S

    def untold(self, server: str, *, answered: bool) -> None:
        """A server has not told: it was not reached in time, or `answered` something else."""
        now = self._clock()
        room = self._rooms.setdefault(server, _Room())
        if answered or not room.known:
            room.known, room.most, room.until = False, UNTOLD, now + _UNTOLD_S
        else:
            room.until = now + _STALE_S

    def is_tight(self, server: str) -> bool:
        """Say whether somebody waited in a server a moment ago."""
        room = self._rooms.get(server)
        return room is not None and self._clock() < room.tight

    def document(self) -> dict[str, int]:
        """Return how many requests busy servers are given, as `GET /-/inflight` shows it."""
        now = self._clock()
        return {name: room.most for name, room in sorted(self._rooms.items()) if now < room.until}

    def forget(self, server: str) -> None:
        """Drop what is known of a server that has left the table."""
        self._rooms.pop(server, None)


def _nobody_looks(_: str) -> None:
    """Leave it at what is known."""
