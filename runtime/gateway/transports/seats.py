"""Which connections of clients there are, and which of them ends where another one comes.

One that waits for its client's next request gives way, so that connections of which nothing comes
keep nobody out. It is the longest idle one of the address that has most idle ones: who opens
thousands displaces its own.
"""

import asyncio
import ipaddress
from collections import OrderedDict
from typing import Protocol, cast

from runtime.gateway.transports.capacity import Full

_IPV6_NETWORK = 64
"""Bits of an IPv6 address that one customer of a provider has in common."""


class Guest(Protocol):
    """A connection of a client."""

    def give_way(self) -> bool:
        """End, unless a request is at work; say whether it has."""
        ...


class Seat:
    """The place of one connection."""

    __slots__ = ("_guest", "_seats", "_source")

    def __init__(self, seats: "Seats", source: "_Source", guest: Guest) -> None:
        """Begin as one that is idle; its `Seats` make it."""
        self._seats, self._source, self._guest = seats, source, guest

    def work(self) -> None:
        """A request is at work."""
        self._source.idle.pop(self, None)

    def rest(self) -> None:
        """Nothing is at work from now on."""
        source, idle = self._source, self._source.idle
        idle.pop(self, None)
        idle[self] = None
        if len(idle) > source.rank:
            self._seats.rank(source)

    def rest_again(self) -> None:
        """Nothing is at work, perhaps for long; one that did not give way is idle again."""
        if self not in self._source.idle:
            self.rest()

    def leave(self) -> None:
        """The connection has ended."""
        self._seats.leave(self, self._source)

    def give_way(self) -> bool:
        """End the connection unless a request is at work."""
        return self._guest.give_way()


class _Source:
    """The connections that come from one address."""

    __slots__ = ("address", "idle", "rank", "seats")

    def __init__(self, address: str) -> None:
        self.address = address
        self.seats: set[Seat] = set()
        self.idle: OrderedDict[Seat, None] = OrderedDict()
        """The longest idle one first, found at once whatever was taken from before it."""
        self.rank = 0
        """As many as were idle at some time since this was last looked at, or more."""


class Seats:
    """The connections of clients of one gateway process.

    Requests only move their own seat. Addresses are brought into order where a connection has
    to end, at the cost of few steps, whatever their number.
    """

    def __init__(self, most: int) -> None:
        """Begin empty; `most` connections are let in."""
        self._most = most
        self._count = 0
        self._sources: dict[str, _Source] = {}
        self._ranks: dict[int, OrderedDict[_Source, None]] = {}

    def enter(self, guest: Guest, transport: asyncio.Transport) -> Seat | None:
        """Let a connection in, in the place of another one where there is no more room.

        Returns:
            None: all the others are at work, and the client has been told so.
        """
        if self._count >= self._most and not self._make_way():
            full = Full()
            transport.set_protocol(full)
            full.connection_made(transport)
            return None
        address = address_of(transport)
        source = self._sources.setdefault(address, _Source(address))
        seat = Seat(self, source, guest)
        source.seats.add(seat)
        self._count += 1
        seat.rest()
        return seat

    def leave(self, seat: Seat, source: _Source) -> None:
        """Forget a connection; a second time is no harm."""
        source.idle.pop(seat, None)
        if seat not in source.seats:
            return
        source.seats.remove(seat)
        self._count -= 1
        if not source.seats:
            self.rank(source)
            del self._sources[source.address]

    def rank(self, source: _Source) -> None:
        """Bring an address into order among the others."""
        before, now = source.rank, len(source.idle)
        source.rank = now
        if before:
            self._ranks[before].pop(source, None)
            if not self._ranks[before]:
                del self._ranks[before]
        if now:
            self._ranks.setdefault(now, OrderedDict())[source] = None

    def _make_way(self) -> bool:
        """End one connection that is idle; say whether there was one."""
        while self._ranks:
            source = next(iter(self._ranks[max(self._ranks)]))
            if len(source.idle) < source.rank:
                self.rank(source)
                continue
            seat = next(iter(source.idle))
            seat.work()  # until it says that it rests
            if seat.give_way():
                seat.leave()
                return True
        return False


def address_of(transport: asyncio.BaseTransport) -> str:
    """Return where a connection comes from: an IPv4 address, or the network of an IPv6 one."""
    peer = cast("tuple[str, int] | None", transport.get_extra_info("peername"))
    if not peer:  # it has ended already
        return ""
    address = ipaddress.ip_address(peer[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), _IPV6_NETWORK), strict=False))
