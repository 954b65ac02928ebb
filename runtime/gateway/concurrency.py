"""How many requests each server gets at a time: an adaptive limit, from the load that it reports.

Requests that wait inside a server wait in the order of their arrival, behind whichever client sent
most. So they wait in the gateway, where clients take turns, and a server gets what it runs and a
few more, which keep it busy. The right number depends on the server's flags, its memory and the
lengths of the requests of this moment: so a server with much to do is asked for its load again and
again.
"""

import time
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

FIRST_LIMIT: Final = 16
"""Limit of a server that has not reported its load yet, and lower bound while none waits in it."""
SILENT_LIMIT: Final = 256
"""Limit of a server that reports no load: the fewest requests that vLLM runs on a GPU."""
PROBE_TIMEOUT_S: Final = 2.0
"""Longest wait for a load report; until then the earlier report holds."""
_PROBE_PART: Final = 2
"""A server is asked for its load from `FIRST_LIMIT` divided by this on, requests in flight."""
_MIN_SPARE: Final = 4
_SPARE_PART: Final = 4
"""Requests beside those that run: one for every 4 that run, at least 4. They keep a server busy
while the next request is on its way."""
_REFRESH_S: Final = 1.0
"""Age of a load report at which the next one is asked for."""
_VALID_S: Final = 2.0
"""Longest time that a load report counts."""
_CAUTIOUS_S: Final = 10.0
"""Time after requests waited inside a server in which its limit grows by small steps only."""
_SILENT_S: Final = 10.0
"""Time for which `SILENT_LIMIT` holds before the server is asked again."""


class ServerLoad(NamedTuple):
    """Requests inside a server, from all gateways and other clients."""

    running: int
    waiting: int


class _ServerLimit:
    """The limit of one server, and what it rests on."""

    __slots__ = ("cautious_until", "has_reported", "limit", "peak", "running", "valid_until")

    def __init__(self) -> None:
        self.limit = FIRST_LIMIT
        """Requests of this gateway that the server gets."""
        self.peak = 0
        """Most requests of this gateway in flight since the last report."""
        self.running = 0
        """Requests that the server ran at its last report."""
        self.has_reported = False
        self.cautious_until = 0.0
        """End of the time in which the limit grows by small steps only."""
        self.valid_until = 0.0
        """End of the time in which `limit` holds."""


class ConcurrencyLimiter:
    """The limits of all servers, in one gateway process."""

    def __init__(
        self, in_flight: Counter[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin without a load report.

        Args:
            in_flight: Requests of clients in flight, by server.
            clock: Seconds; only differences count.
        """
        self._in_flight = in_flight
        self._clock = clock
        self._limits: dict[str, _ServerLimit] = {}
        self.probe: Callable[[str], None] = _no_probe
        """Asks a server for its load, unless a question is on its way; ends in `record_load` or
        `record_no_load`."""

    def allows(self, server: str, declared: int | None = None) -> bool:
        """Say whether a server may get one more request.

        Args:
            server: Its name.
            declared: Upper bound that the operator declared; None: as many as the server runs.
        """
        busy = self._in_flight.get(server, 0)
        if declared is not None:
            return busy < declared
        found = self._limits.get(server)
        if found is None:
            if busy < FIRST_LIMIT // _PROBE_PART:
                return True
            found = self._limits[server] = _ServerLimit()
        if busy > found.peak:  # noqa: PLR1730 (a call less for each request)
            found.peak = busy
        now = self._clock()
        if now >= found.valid_until:
            if busy >= FIRST_LIMIT // _PROBE_PART:
                self.probe(server)
            return busy < FIRST_LIMIT
        if busy >= found.limit:
            self.probe(server)
            return False
        is_old = now >= found.valid_until - (_VALID_S - _REFRESH_S)
        if is_old and busy >= FIRST_LIMIT // _PROBE_PART:
            found.valid_until = now + PROBE_TIMEOUT_S + _VALID_S
            self.probe(server)
        return True

    def record_load(self, server: str, load: ServerLoad) -> None:
        """Set a server's limit from its load report.

        With `peak` of our requests in flight since the last report, `spare` = max(4, running / 4)
        and `share` = ours / (running + waiting):

            none waits                        peak + max(spare, min(peak, running - on their way))
            waited within 10 s, few wait      ours + spare - waiting
            more than `spare` wait            ours - (waiting - spare) * share

        Requests on their way are in `peak` and not in the report yet. `share` makes several
        gateways give way in proportion. A server that runs more than at its last report is still
        taking in what waits, which is no reason for caution.
        """
        now, ours = self._clock(), self._in_flight[server]
        found = self._limits.setdefault(server, _ServerLimit())
        peak, found.peak = max(ours, found.peak), ours
        running, waiting = load
        spare = max(_MIN_SPARE, running // _SPARE_PART)
        if waiting and running <= found.running:
            found.cautious_until = now + _CAUTIOUS_S
        found.running = running
        if now >= found.cautious_until and waiting:
            found.limit = max(FIRST_LIMIT, ours + spare - waiting)
        elif now >= found.cautious_until:
            on_their_way = max(0, peak - running)
            growth = max(spare, min(peak, running - on_their_way))
            found.limit = max(FIRST_LIMIT, peak + growth)
        elif waiting <= spare:
            found.limit = max(_MIN_SPARE, ours + spare - waiting)
        else:
            share = min(1.0, ours / (running + waiting))
            found.limit = max(_MIN_SPARE, ours - round((waiting - spare) * share))
        found.has_reported = True
        found.valid_until = now + _VALID_S

    def record_no_load(self, server: str, *, answered: bool) -> None:
        """Note that a server reported no load: it was not reached in time, or `answered` without.

        The last report holds on where there is one and the server only was not reached.
        """
        now = self._clock()
        found = self._limits.setdefault(server, _ServerLimit())
        if answered or not found.has_reported:
            found.has_reported, found.limit = False, SILENT_LIMIT
            found.valid_until = now + _SILENT_S
        else:
            found.valid_until = now + _VALID_S

    def is_cautious(self, server: str) -> bool:
        """Say whether requests waited inside a server a moment ago."""
        found = self._limits.get(server)
        return found is not None and self._clock() < found.cautious_until

    def document(self) -> dict[str, int]:
        """Return the limits of busy servers, as `GET /-/inflight` shows them under `room`."""
        now = self._clock()
        return {
            name: found.limit
            for name, found in sorted(self._limits.items())
            if now < found.valid_until
        }

    def forget(self, server: str) -> None:
        """Drop the limit of a server that has left the table."""
        self._limits.pop(server, None)


def _no_probe(_: str) -> None:
    """Ask no server."""
