"""An upper bound of clients' connections, and the choice of the connection that ends for another.

A connection without a request at work is evicted: the longest idle connection of the address with
most idle connections. So connections on which nothing comes keep no client out, and an address
that opens thousands displaces its own.
"""

import asyncio
import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from runtime.gateway.body import errors
from runtime.gateway.http import messages
from runtime.gateway.request.app import error_response
from runtime.gateway.traffic.shares import CONNECTIONS, ClientWeights

_IPV6_NETWORK = 64
"""Bits of an IPv6 address that are the same for all addresses of a customer."""


@dataclass(slots=True, eq=False)
class Slot:
    """The place of a connection under the limit."""

    _limit: "ConnectionLimit"
    _source: "_Source"
    evict: Callable[[], bool]
    """Ends the connection unless a request is at work; returns whether it has ended."""

    client: str | None = None
    """The client whose request is at work; None: no request is."""

    def mark_busy(self, client: str) -> bool:
        """Note that a request is at work; return whether the client's share allows the request."""
        if self.client is None:
            if not self._limit.begin(client):
                return False
            self.client = client
            self._source.idle.pop(self, None)
        return True

    def mark_idle(self) -> None:
        """Note that no request is at work from now on."""
        client, self.client = self.client, None  # as `end`, for each request without its call
        if client is not None:
            self._limit.end(client)
        source, idle = self._source, self._source.idle
        idle.pop(self, None)
        idle[self] = None
        if len(idle) > source.rank:
            self._limit.rank(source)

    def mark_idle_again(self) -> None:
        """Note a connection as idle that could not be evicted a while ago."""
        if self.client is None and self not in self._source.idle:
            self.mark_idle()

    def end(self) -> None:
        """Count the client's request no longer."""
        client, self.client = self.client, None
        if client is not None:
            self._limit.end(client)

    def release(self) -> None:
        """Note that the connection has ended."""
        self.end()
        self._limit.release(self, self._source)


@dataclass(slots=True, eq=False)
class _Source:
    """The connections from an address."""

    address: str
    slots: set[Slot] = field(default_factory=set)
    idle: OrderedDict[Slot, None] = field(default_factory=OrderedDict)
    """Longest idle first; the first is found at once, whatever was removed before it."""
    rank: int = 0
    """Upper bound of the idle connections since the last `ConnectionLimit.rank`."""


@dataclass(slots=True)
class ConnectionLimit:
    """The connections of clients of a gateway process.

    A request moves its own slot only. Addresses are sorted where a connection has to end, in few
    steps whatever their number.
    """

    _max: int
    _weights: ClientWeights = field(default_factory=ClientWeights)
    _count: int = 0
    _busy: int = 0
    """Connections with a request at work."""
    _by_client: dict[str, int] = field(default_factory=dict)
    """Of these, by client; the operator has no name and no bound."""
    _sources: dict[str, _Source] = field(default_factory=dict)
    _ranks: dict[int, OrderedDict[_Source, None]] = field(default_factory=dict)

    def acquire(self, evict: Callable[[], bool], transport: asyncio.Transport) -> Slot | None:
        """Return a slot, perhaps an evicted connection's; None: all are at work, 503 was sent."""
        if self._count >= self._max and not self._evict():
            transport.set_protocol(asyncio.Protocol())  # which drops all that comes
            status, headers, body = error_response(errors.no_connection(), "")
            head = messages.response_head(status, headers, len(body), closing=True)
            transport.write(head + body)
            transport.close()
            return None
        address = address_of(transport)
        source = self._sources.setdefault(address, _Source(address))
        slot = Slot(self, source, evict)
        source.slots.add(slot)
        self._count += 1
        slot.mark_idle()
        return slot

    def release(self, slot: Slot, source: _Source) -> None:
        """Forget a connection; a second call changes nothing."""
        source.idle.pop(slot, None)
        if slot not in source.slots:
            return
        source.slots.remove(slot)
        self._count -= 1
        if not source.slots:
            self.rank(source)
            del self._sources[source.address]

    def begin(self, client: str) -> bool:
        """Count a connection at work; return whether the client's share allows another."""
        held, free = self._by_client.get(client, 0) + 1, self._max - self._busy - 1
        is_over = held > 1 and held > free and bool(client)
        if is_over and not self._weights.allows(client, held, free, CONNECTIONS):
            return False
        self._busy += 1
        self._by_client[client] = held
        return True

    def end(self, client: str) -> None:
        """Count a connection at work no longer."""
        self._busy -= 1
        if left := self._by_client[client] - 1:
            self._by_client[client] = left
        else:
            del self._by_client[client]

    def rank(self, source: _Source) -> None:
        """Sort an address among the others, by its idle connections."""
        before, now = source.rank, len(source.idle)
        source.rank = now
        if before:
            self._ranks[before].pop(source, None)
            if not self._ranks[before]:
                del self._ranks[before]
        if now:
            self._ranks.setdefault(now, OrderedDict())[source] = None

    def _evict(self) -> bool:
        """End an idle connection; return whether there was any."""
        while self._ranks:
            source = next(iter(self._ranks[max(self._ranks)]))
            if len(source.idle) < source.rank:
                self.rank(source)
                continue
            slot = next(iter(source.idle))
            source.idle.pop(slot)  # until the connection marks it idle
            if slot.evict():
                slot.release()
                return True
        return False


def address_of(transport: asyncio.BaseTransport) -> str:
    """Return the origin of a connection: an IPv4 address, or the network of an IPv6 address."""
    peer = cast("tuple[str, int] | None", transport.get_extra_info("peername"))
    if not peer:  # it has ended already
        return ""
    address = ipaddress.ip_address(peer[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), _IPV6_NETWORK), strict=False))
