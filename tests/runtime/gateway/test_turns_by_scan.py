"""The order of turns, beside a plain reference that looks at every waiting alias."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from fleet.traffic import LimitPolicy, TrafficPolicy
from runtime.gateway.table.routing import RouteTarget
from runtime.gateway.traffic.admission import Admission
from runtime.gateway.traffic.balancer import LoadBalancer
from runtime.gateway.traffic.concurrency import ConcurrencyLimiter, InFlight
from runtime.gateway.traffic.waiting import Ticket, Turns

SERVERS = ("s1", "s2", "s3")
PLACES = (("s1",), ("s1", "s2"), ("s2", "s3"), SERVERS, ("s3",))
CLIENTS = ("a", "b", "c")
LIMITS = (LimitPolicy(), LimitPolicy(concurrency=2))
ALIASES = tuple(
    RouteTarget(
        client,
        f"{client}-{number}",
        f"{client}-{number}-v1",
        PLACES[(number + place) % len(PLACES)],
        TrafficPolicy(
            server_in_flight=1 if place == 1 else 2,
            turns=(None, 1, 4)[number % 3],
            limits=LIMITS[number % 2],
            client_limits=LimitPolicy(concurrency=3) if client == "b" else LimitPolicy(),
        ),
    )
    for place, client in enumerate(CLIENTS)
    for number in range(5)
)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(("ask", "ask", "ask", "end", "end", "leave", "down", "up", "missing")),
        st.integers(0, len(ALIASES) - 1),
    ),
    min_size=20,
    max_size=150,
)


@dataclass
class Events:
    """A stream of arrivals and completions, and the order in which requests began."""

    now: float = 0.0
    began: list[int] = field(default_factory=list)
    """Numbers of requests."""
    working: list[Ticket] = field(default_factory=list)
    waiting: list[Ticket] = field(default_factory=list)
    in_flight: InFlight = field(default_factory=InFlight)
    balancer: LoadBalancer = field(init=False)
    admission: Admission = field(init=False)
    servers: dict[Ticket, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        limiter = ConcurrencyLimiter(self.in_flight.servers, lambda: self.now)
        self.balancer = LoadBalancer(self.in_flight, limiter, lambda: self.now)
        self.admission = Admission(self.in_flight, self.balancer)

    def play(self, event: str, which: int) -> None:
        self.now += 0.4
        match event:
            case "ask":
                self.ask(Ticket(ALIASES[which]))
            case "end" if self.working:
                ticket = self.working.pop(which % len(self.working))
                self.in_flight.remove(self.servers.pop(ticket), ticket.target.adapter)
                self.release(ticket)
            case "leave" if self.waiting:
                self.release(self.waiting.pop(which % len(self.waiting)))
            case "down" | "up":
                self.balancer.record_health(SERVERS[which % 3], healthy=event == "up")
                self.serve()
            case "missing":
                target = ALIASES[which]
                self.balancer.record_missing(target.servers[0], target.adapter, self.now)
                self.serve()
            case _:
                pass

    def ask(self, ticket: Ticket) -> None:
        ticket.proceed = lambda: self.begin(ticket)
        if self.admission.request(ticket, self.now):
            self.begin(ticket)
        else:
            self.waiting.append(ticket)

    def begin(self, ticket: Ticket) -> None:
        if ticket in self.waiting:
            self.waiting.remove(ticket)
        self.working.append(ticket)
        self.servers[ticket] = self.balancer.acquire(ticket.target, (), self.now)
        assert ticket.number is not None
        self.began.append(ticket.number)

    def release(self, ticket: Ticket) -> None:
        self.admission.release(ticket)

    def serve(self) -> None:
        self.admission.serve_waiting()


@dataclass
class Scanned(Events):
    """The same with the rule that the queue is to follow, in its plainest form.

    Of the first requests of all aliases that a free server may answer and that their limits allow,
    the request with the earliest turn begins.
    """

    queues: dict[str, list[Ticket]] = field(default_factory=dict)
    running: list[RouteTarget] = field(default_factory=list)
    turns: Turns = field(default_factory=Turns)

    def ask(self, ticket: Ticket) -> None:
        self.turns.number(ticket)
        queue = self.queues.setdefault(ticket.target.alias, [])
        queue.append(ticket)
        if len(queue) == 1 and self.may_begin(ticket.target):
            self.start(ticket)
        else:
            self.waiting.append(ticket)

    def release(self, ticket: Ticket) -> None:
        if ticket.is_granted:
            self.running.remove(ticket.target)
        else:
            self.queues[ticket.target.alias].remove(ticket)
        self.serve()

    def serve(self) -> None:
        while ready := [ticket for ticket in self.firsts() if self.may_begin(ticket.target)]:
            self.start(min(ready, key=self.turns.key))

    def firsts(self) -> Iterator[Ticket]:
        return (queue[0] for queue in self.queues.values() if queue)

    def may_begin(self, target: RouteTarget) -> bool:
        own = [working for working in self.running if working.client == target.client]
        same = [working for working in own if working.alias == target.alias]
        policy = target.policy
        for limit, count in (
            (policy.client_limits.concurrency, len(own)),
            (policy.limits.concurrency, len(same)),
        ):
            if limit is not None and count >= limit:
                return False
        return self.balancer.has_capacity(target.servers, target.adapter, policy.server_in_flight)

    def start(self, ticket: Ticket) -> None:
        self.queues[ticket.target.alias].remove(ticket)
        self.turns.count(ticket)
        ticket.is_granted = True
        self.running.append(ticket.target)
        self.begin(ticket)


@given(EVENTS)
def test_turns_are_those_of_a_scan_of_all_waiting_aliases(events: list[tuple[str, int]]) -> None:
    found, expected = Events(), Scanned()
    for event, which in events:
        found.play(event, which)
        expected.play(event, which)
        assert found.began == expected.began
    for _ in range(len(events)):  # until all have begun
        found.play("end", 0)
        expected.play("end", 0)
        assert found.began == expected.began
    assert (found.admission.waiting, found.admission.queues) == (0, {})
    assert not expected.waiting
