"""Admission of requests: a request begins now, waits for its turn, or is refused.

A request without limits comes here only while servers are busy or another request waits. Shadow
requests are copies for a version whose answers no client gets; none waits.
"""

import math
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, NamedTuple

from fleet.traffic import QUEUE_S
from runtime.gateway.body import errors
from runtime.gateway.body.body import RequestBody
from runtime.gateway.table.routing import RouteTable, RouteTarget
from runtime.gateway.traffic.balancer import LoadBalancer
from runtime.gateway.traffic.concurrency import InFlight
from runtime.gateway.traffic.limits import (
    UNCOUNTED_BYTES,
    MemoryBudget,
    MonthlyUse,
    RateLimiter,
    least_tokens,
    rate_headers,
)
from runtime.gateway.traffic.waiting import AliasQueue, Ticket, Turns, WaitingRequests

MAX_WAITING: Final = 1000
"""Upper bound of the waiting requests of a client; the next request gets 429 at once."""
RELOAD_S: Final = 30.0
"""Upper bound of the time for which requests wait for a version that is being loaded again. Seconds
from the first table that names no server for the version: longer than a usual reload, shorter than
clients wait for an answer."""


class ShadowSample(NamedTuple):
    """A request that is to be copied, kept until its copy begins."""

    target: RouteTarget
    body: RequestBody
    held: int
    """Bytes that count for the sample, in the name of the client."""

    def drop(self, memory: MemoryBudget) -> None:
        """Release the memory of the sample."""
        if self.held:
            memory.release(self.target.client, self.held)


def sample_shadow(
    memory: MemoryBudget, target: RouteTarget, body: RequestBody, size: int
) -> ShadowSample | None:
    """Return the sample of a request that is to be copied; None: not copied, or no memory."""
    shadow = target.policy.shadow
    if shadow is None or secrets.randbelow(100) >= shadow.percent:
        return None
    if size <= UNCOUNTED_BYTES:
        return ShadowSample(target, body, 0)
    try:
        memory.acquire(target.client, size)
    except errors.ApiError:
        return None
    return ShadowSample(target, body, size)


@dataclass(slots=True)
class Admission:
    """The limits of a gateway process, and the requests that wait."""

    _in_flight: InFlight
    _balancer: LoadBalancer
    month: MonthlyUse = field(default_factory=MonthlyUse)
    _clients: dict[str, RateLimiter] = field(default_factory=dict)
    _aliases: dict[str, RateLimiter] = field(default_factory=dict)
    queues: dict[tuple[str, str], AliasQueue] = field(init=False)
    """Waiting requests by alias and version."""
    _waiting: WaitingRequests = field(init=False)
    _turns: Turns = field(default_factory=Turns)
    _shadows: Counter[str] = field(default_factory=Counter)
    """Shadow requests at work, by alias."""
    _reload_ends: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """By alias and version that is being loaded again: until when requests wait for the version."""

    def __post_init__(self) -> None:
        freed, limits = self._in_flight.freed, (self._client_allows, self._alias_allows)
        self._waiting = WaitingRequests(self._turns, self._balancer, freed, *limits)
        self.queues = self._waiting.queues

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return self._waiting.by_client.total()

    @property
    def queued(self) -> Counter[tuple[str, str]]:
        """Waiting requests by (server, full adapter name), on every server that may answer."""
        targets = (ticket.target for queue in self.queues.values() for ticket in queue.tickets)
        return Counter((server, target.adapter) for target in targets for server in target.servers)

    def request(self, ticket: Ticket, now: float) -> bool:
        """Claim a turn; return whether it is granted now, else the request waits for `proceed`.

        A request that is routed again keeps its place, and counts once.

        Raises:
            ApiError: 429, a rate is used up, or too many requests of the client wait. 503, the
                version is on no server, and is not being loaded or takes too long.
        """
        target = ticket.target
        policy = target.policy
        name = (target.alias, target.adapter)
        left_s = math.inf if target.servers else self._reload_ends.get(name, now) - now
        if left_s <= 0:
            raise errors.no_server()
        client = self._clients.setdefault(target.client, RateLimiter(now, now))
        alias = self._aliases.setdefault(target.alias, RateLimiter(now, now))
        limiters = ((client, policy.client_limits), (alias, policy.limits))
        wait_s = max(limiter.wait_s(limits, policy.gateways, now) for limiter, limits in limiters)
        if wait_s > 0 and ticket.number is None:
            raise errors.too_many(math.ceil(wait_s))
        if ticket.number is None and (spent_s := self.month.wait_s(target)):
            raise errors.budget_used_up(spent_s)
        is_allowed = self._client_allows(target) and self._alias_allows(target)
        is_ready = name not in self.queues and is_allowed and self._has_server(target)
        if not is_ready and self._waiting.by_client[target.client] >= MAX_WAITING:
            raise errors.too_many(1)
        if ticket.number is None:
            for limiter, limits in limiters:
                limiter.count_request(limits, policy.gateways, now)
            self._turns.number(ticket)
            if policy.has_rates:
                left = (limiter.left(its, policy.gateways, now) for limiter, its in limiters)
                ticket.rates = rate_headers(chain.from_iterable(left))
        if is_ready:
            self._grant(ticket)
            return True
        first_byte_s = policy.deadlines(stream=True).first_byte_s
        usual = first_byte_s if is_allowed else QUEUE_S  # for a server as long as for its answer
        declared = policy.limits.queue_s or policy.client_limits.queue_s or usual
        ticket.max_wait_s = min(declared, left_s)
        self._waiting.add(ticket)
        return False

    def release(
        self, ticket: Ticket, tokens: int = 0, left: bytes = b"", *, is_billed: bool = True
    ) -> None:
        """Give a turn back, or leave the queue; `tokens` are those of prompt and answer.

        `left`: the body of a request that its client has left. Without tokens known, the prompt is
        charged, for a server has worked on the prompt. `is_billed`: the month's budget counts it.
        """
        if ticket.is_granted:
            ticket.is_granted = False
            target = ticket.target
            for limiter in (self._clients[target.client], self._aliases[target.alias]):
                limiter.running -= 1
                limiter.charge(tokens or least_tokens(left))
            self._waiting.give_back(target)
            if is_billed:
                self.month.count(target, tokens)
        else:  # left the queue, or was routed again and needed no turn
            self._waiting.remove(ticket)
        self.serve_waiting()

    def take_limits(self) -> None:
        """Let waiting requests proceed once servers have reported their load."""
        self._waiting.take_limits()
        self.serve_waiting()

    def serve_waiting(self) -> None:
        """Let waiting requests proceed, turn by turn, for as long as servers are free."""
        while self.queues and (ticket := self._waiting.next()) is not None:
            self._waiting.remove(ticket)
            self._grant(ticket)
            if ticket.proceed is not None:
                ticket.proceed()

    def take_table(self, table: RouteTable, now: float) -> None:
        """Route waiting requests again whose version was on no server or was taken off a server.

        A version that left its alias keeps the requests that wait for the version.
        """
        before = self._reload_ends
        self._reload_ends = {name: before.get(name, now + RELOAD_S) for name in table.reloading}
        routed_again: list[Ticket] = []
        for name, queue in self.queues.items():
            route = table.routes.get(name[0])
            target = route.version(name[1]) if route is not None else None
            for ticket in queue.tickets:
                servers = ticket.target.servers
                stays = name in self._reload_ends
                if servers:
                    stays = target is None or set(servers).issubset(target.servers)
                if not stays:
                    routed_again.append(ticket)
        for ticket in routed_again:
            self._waiting.remove(ticket)
        for ticket in sorted(routed_again, key=self._turns.key):
            if ticket.proceed is not None:
                ticket.proceed()

    def begin_shadow(self, target: RouteTarget) -> bool:
        """Return whether a shadow request may begin, and count the request; under load none may."""
        shadow, alias = target.policy.shadow, target.alias
        if shadow is None or self.queues or self._shadows[alias] >= shadow.concurrency:
            return False
        limit = target.policy.server_in_flight
        if limit is None:
            is_free = self._balancer.has_capacity(shadow.servers, shadow.adapter, None)
        else:
            is_free = any(self._in_flight.on(server) < limit for server in shadow.servers)
        if not is_free:
            return False
        self._shadows[alias] += 1
        return True

    def end_shadow(self, alias: str) -> None:
        """Count a shadow request no longer."""
        self._shadows[alias] -= 1

    def _client_allows(self, target: RouteTarget) -> bool:
        """Return whether the limits of the client allow another request at work."""
        policy = target.policy
        return self._clients[target.client].allows_another(policy.client_limits, policy.gateways)

    def _alias_allows(self, target: RouteTarget) -> bool:
        """Return whether the limits of the alias allow another request at work."""
        policy = target.policy
        return self._aliases[target.alias].allows_another(policy.limits, policy.gateways)

    def _has_server(self, target: RouteTarget) -> bool:
        limit = target.policy.server_in_flight
        servers = target.servers
        has_capacity = self._balancer.has_capacity
        return bool(servers) and has_capacity(servers, target.adapter, limit, target.client)

    def _grant(self, ticket: Ticket) -> None:
        target = ticket.target
        self._turns.count(ticket)
        ticket.is_granted = True
        self._clients[target.client].running += 1
        self._aliases[target.alias].running += 1
