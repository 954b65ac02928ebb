"""Properties of limits and turns under any requests in any order."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fleet.traffic import LimitPolicy, TrafficPolicy
from runtime.gateway.table.routing import RouteTarget
from runtime.gateway.traffic.admission import Admission
from runtime.gateway.traffic.balancer import LoadBalancer
from runtime.gateway.traffic.concurrency import ConcurrencyLimiter, InFlight
from runtime.gateway.traffic.waiting import Ticket

CLIENT, ALIAS, SERVER = 3, 2, 4
POLICIES = {
    f"{client}-{task}": TrafficPolicy(
        limits=LimitPolicy(concurrency=ALIAS),
        client_limits=LimitPolicy(concurrency=CLIENT),
        server_in_flight=SERVER,
        turns=turns,
    )
    for client, turns in (("a", 1), ("b", 4))
    for task in ("x", "y")
}
STEPS = st.lists(
    st.tuples(st.sampled_from(("ask", "end", "leave")), st.sampled_from(sorted(POLICIES)),
              st.integers(0, 9)),
    max_size=60,
)  # fmt: skip


class House:
    """An admission beside a count of the requests that work and wait."""

    def __init__(self) -> None:
        self.in_flight = InFlight()
        balancer = LoadBalancer(self.in_flight, ConcurrencyLimiter(self.in_flight.servers))
        self.admission = Admission(self.in_flight, balancer)
        self.working: list[Ticket] = []
        self.waiting: list[Ticket] = []

    def ask(self, alias: str) -> None:
        ticket = Ticket(RouteTarget(alias[0], alias, "", ("s",), POLICIES[alias]))
        ticket.proceed = lambda: self._begin(ticket)
        if self.admission.request(ticket, 0.0):
            self._begin(ticket)
        else:
            self.waiting.append(ticket)

    def _begin(self, ticket: Ticket) -> None:
        if ticket in self.waiting:
            self.waiting.remove(ticket)
        self.working.append(ticket)
        self.in_flight.add("s", ticket.target.alias)

    def end(self, which: int) -> None:
        if self.working:
            ticket = self.working.pop(which % len(self.working))
            self.in_flight.remove("s", ticket.target.alias)
            self.admission.release(ticket)

    def leave(self, which: int) -> None:
        if self.waiting:
            self.admission.release(self.waiting.pop(which % len(self.waiting)))

    def check(self) -> None:
        aliases = Counter(each.target.alias for each in self.working)
        clients = Counter(each.target.client for each in self.working)
        assert max(aliases.values(), default=0) <= ALIAS
        assert max(clients.values(), default=0) <= CLIENT
        assert len(self.working) <= SERVER
        assert self.admission.waiting == len(self.waiting)
        for each in self.waiting:  # something that it needs is used up
            full = (aliases[each.target.alias] == ALIAS, clients[each.target.client] == CLIENT)
            assert any(full) or len(self.working) == SERVER


@given(STEPS)
def test_no_limit_is_passed_nobody_waits_in_vain_and_nothing_is_lost(
    steps: list[tuple[str, str, int]],
) -> None:
    house = House()
    for what, alias, which in steps:
        match what:
            case "ask":
                house.ask(alias)
            case "end":
                house.end(which)
            case _:
                house.leave(which)
        house.check()
    while house.working:
        house.end(0)
    assert (house.waiting, house.admission.waiting) == ([], 0)
    for alias in POLICIES:  # and everything that was used is free again
        house.ask(alias)
        assert len(house.working) == 1
        house.end(0)
