"""Limits and fair turns, on a clock of the test's own."""

from http import HTTPStatus

import pytest

from fleet.traffic import LimitPolicy, ShadowPolicy, TimeoutPolicy, TrafficPolicy
from runtime.gateway.body.errors import ApiError
from runtime.gateway.table.routing import RouteTarget
from runtime.gateway.traffic.admission import MAX_WAITING, Admission
from runtime.gateway.traffic.balancer import LoadBalancer
from runtime.gateway.traffic.concurrency import ConcurrencyLimiter, InFlight
from runtime.gateway.traffic.waiting import Ticket


def target(client: str, alias: str, policy: TrafficPolicy) -> RouteTarget:
    return RouteTarget(client, alias, "", ("s1",), policy)


class House:
    """An admission whose requests do nothing but begin and end."""

    def __init__(self) -> None:
        self.in_flight = InFlight()
        balancer = LoadBalancer(self.in_flight, ConcurrencyLimiter(self.in_flight.servers))
        self.admission = Admission(self.in_flight, balancer)
        self.order: list[str] = []
        """Clients in the order in which their requests began."""
        self.aliases: list[str] = []
        """Their aliases."""
        self.tickets: list[Ticket] = []

    def ask(self, client: str, policy: TrafficPolicy, now: float = 0.0, alias: str = "") -> bool:
        ticket = Ticket(target(client, alias or f"{client}-x", policy))
        ticket.proceed = lambda: self._begin(ticket)
        granted = self.admission.request(ticket, now)
        if granted:
            self._begin(ticket)
        return granted

    def _begin(self, ticket: Ticket) -> None:
        self.in_flight.add("s1", ticket.target.alias)
        self.order.append(ticket.target.client)
        self.aliases.append(ticket.target.alias)
        self.tickets.append(ticket)

    def end(self, tokens: int = 0) -> None:
        """End the request that began first."""
        ticket = self.tickets.pop(0)
        self.in_flight.remove("s1", ticket.target.alias)
        self.admission.release(ticket, tokens)


def refused(house: House, policy: TrafficPolicy, now: float, client: str = "acme") -> int | None:
    """Return Retry-After, or None where the request is let in."""
    try:
        house.ask(client, policy, now)
    except ApiError as error:
        return error.retry_after_s if error.status == HTTPStatus.TOO_MANY_REQUESTS else -1
    return None


@pytest.mark.parametrize(
    ("limits", "gateways", "at_once", "wait"),
    [
        (LimitPolicy(requests_per_minute=60), 1, 10, 1),  # ten seconds' worth at once
        (LimitPolicy(requests_per_minute=60), 2, 5, 2),  # each of two gateways allows half
        (LimitPolicy(requests_per_minute=1), 1, 1, 60),
        (LimitPolicy(requests_per_minute=6), 1, 1, 10),
        (LimitPolicy(requests_per_minute=6000), 1, 1000, 1),
    ],
)
def test_a_rate_allows_ten_seconds_worth_at_once_and_then_evenly(
    limits: LimitPolicy, gateways: int, at_once: int, wait: int
) -> None:
    policy, house = TrafficPolicy(limits=limits, gateways=gateways), House()
    found = [refused(house, policy, 5.0) for _ in range(at_once + 1)]
    assert found == [None] * at_once + [wait]
    interval = 60 * gateways / (limits.requests_per_minute or 1)
    assert refused(house, policy, 5.0 + interval * 0.99) is not None
    assert refused(house, policy, 5.0 + interval) is None
    assert refused(house, policy, 5.0 + interval) is not None


def test_a_limit_that_is_raised_helps_within_an_interval_of_its_own() -> None:
    house, raised = House(), TrafficPolicy(limits=LimitPolicy(requests_per_minute=60))
    assert refused(house, TrafficPolicy(limits=LimitPolicy(requests_per_minute=1)), 0.0) is None
    assert [refused(house, raised, now) for now in (5.0, 6.0, 6.5, 7.0)] == [1, None, 1, None]


def test_tokens_are_charged_when_they_are_known_and_debts_are_paid_by_waiting() -> None:
    policy, house = TrafficPolicy(client_limits=LimitPolicy(tokens_per_minute=600)), House()
    assert [refused(house, policy, 0.0) for _ in range(2)] == [None, None]
    house.end(tokens=500)
    assert refused(house, policy, 0.0) is None  # 100 are left
    house.end(tokens=400)  # one of those that ran: 300 too many
    assert refused(house, policy, 0.0) == 31
    assert refused(house, policy, 29.0) == 2
    assert refused(house, policy, 31.0) is None
    house.end()
    assert refused(house, policy, 1000.0) is None  # what was saved is a minute's worth at most
    house.end(tokens=601)
    assert refused(house, policy, 1000.0) is not None


def test_aliases_of_one_client_share_its_limit_and_no_other_client_notices() -> None:
    limit, house = LimitPolicy(concurrency=2), House()
    policy = TrafficPolicy(client_limits=limit)
    assert [house.ask("acme", policy, alias=f"acme-{each}") for each in "abc"] == [
        True,
        True,
        False,
    ]
    assert house.ask("globex", policy)
    house.end()
    assert house.order == ["acme", "acme", "globex", "acme"]


def test_a_place_is_free_again_however_its_request_ends() -> None:
    policy, house = TrafficPolicy(limits=LimitPolicy(concurrency=1)), House()
    assert house.ask("acme", policy)
    left = Ticket(target("acme", "acme-x", policy))
    assert not house.admission.request(left, 0.0)
    assert not house.ask("acme", policy)
    house.admission.release(left)  # its client did not want to wait
    assert house.admission.waiting == 1
    house.end()
    house.end()
    assert (house.admission.waiting, house.order) == (0, ["acme", "acme"])
    assert house.ask("acme", policy)


def test_a_queue_is_short() -> None:
    policy, house = TrafficPolicy(limits=LimitPolicy(concurrency=1)), House()
    found = [refused(house, policy, 0.0) for _ in range(MAX_WAITING + 2)]
    assert found == [None] * (MAX_WAITING + 1) + [1]
    assert refused(house, policy, 0.0, client="globex") is None


REAL_TIME = TrafficPolicy(server_in_flight=4, turns=4)
BATCH = TrafficPolicy(server_in_flight=4, turns=1)


def test_a_batch_client_does_not_starve_a_real_time_one() -> None:
    house = House()
    for _ in range(80):  # the batch client was first, and fills the server and the queue
        house.ask("batch", BATCH)
    for _ in range(8):
        assert not house.ask("live", REAL_TIME)
    while house.tickets:
        house.end()
    began = house.order[4:]
    assert began[0] == "live"  # after one answer, and not after eighty
    assert began[:10].count("live") >= 8
    assert house.order.count("batch") == 80


def test_whoever_waits_gets_turns_by_weight() -> None:
    house = House()
    for number in range(4):  # the server is full of somebody else's requests
        assert house.ask(f"other{number}", BATCH)
    for client, policy in (("a", BATCH), ("b", REAL_TIME)):
        for _ in range(40):
            house.ask(client, policy)
    while house.tickets:
        house.end()
    began = house.order[4:]
    assert began[:40].count("b") == pytest.approx(32, abs=2)  # four turns to one
    assert began[:40].count("a") >= 6  # and nobody is left out


def test_copies_keep_to_their_own_budget_and_give_way_under_load() -> None:
    policy = TrafficPolicy(server_in_flight=2, shadow=ShadowPolicy("v2", ("s1",), 100, 1))
    house = House()
    assert house.admission.begin_shadow(target("acme", "acme-x", policy))
    assert not house.admission.begin_shadow(target("acme", "acme-x", policy))  # one at a time
    house.admission.end_shadow("acme-x")
    assert house.ask("acme", policy)
    assert house.admission.begin_shadow(target("acme", "acme-x", policy))
    house.admission.end_shadow("acme-x")
    assert house.ask("acme", policy)
    assert not house.admission.begin_shadow(target("acme", "acme-x", policy))  # the server is full
    assert not house.ask("acme", policy)
    house.end()
    house.end()
    house.end()
    assert house.admission.begin_shadow(target("acme", "acme-x", policy))


def flood(house: House, policy: TrafficPolicy, aliases: int, each: int) -> None:
    """Fill the server and the queue for several aliases of a client."""
    for number in range(aliases * each):
        house.ask("batch", policy, alias=f"batch-{number % aliases}")


def test_a_flood_over_many_aliases_gets_no_more_turns() -> None:
    house = House()
    flood(house, BATCH, aliases=30, each=10)
    for _ in range(4):
        house.ask("live", BATCH)
    while house.tickets:
        house.end()
    assert [ticket for ticket, each in enumerate(house.order[4:]) if each == "live"] == [0, 2, 4, 6]


def test_aliases_of_one_client_take_turns_by_their_weight_too() -> None:
    house = House()
    flood(house, BATCH, aliases=1, each=84)
    for _ in range(16):
        house.ask("batch", REAL_TIME, alias="batch-live")
    while house.tickets:
        house.end()
    began = house.aliases[4:]
    assert began[:20].count("batch-live") == pytest.approx(16, abs=2)  # four turns to one
    assert began[:20].count("batch-0") >= 2


def test_who_waited_and_left_has_taken_no_turn() -> None:
    house = House()
    flood(house, BATCH, aliases=1, each=40)
    left = [Ticket(target("live", "live-x", BATCH)) for _ in range(50)]
    assert not any(house.admission.request(each, 0.0) for each in left)
    for each in left:
        house.admission.release(each)
    house.ask("live", BATCH)
    while house.tickets:
        house.end()
    assert house.order[4:].index("live") <= 1


@pytest.mark.parametrize(
    ("policy", "max_wait_s"),
    [
        (TrafficPolicy(limits=LimitPolicy(concurrency=1)), 1.0),
        (TrafficPolicy(limits=LimitPolicy(concurrency=1, queue_s=3.0)), 3.0),
        (TrafficPolicy(server_in_flight=1), 60.0),
        (TrafficPolicy(server_in_flight=1, limits=LimitPolicy(queue_s=1.0)), 1.0),
        (TrafficPolicy(server_in_flight=1, timeouts=TimeoutPolicy(first_byte_s=20.0)), 20.0),
        (TrafficPolicy(server_in_flight=1, client_limits=LimitPolicy(queue_s=2.0)), 2.0),
        (TrafficPolicy(server_in_flight=1, limits=LimitPolicy(concurrency=1)), 1.0),
    ],
)
def test_who_waits_for_a_server_is_patient_unless_it_is_declared(
    policy: TrafficPolicy, max_wait_s: float
) -> None:
    house = House()
    house.ask("acme", policy)
    ticket = Ticket(target("acme", "acme-x", policy))
    assert not house.admission.request(ticket, 0.0)
    assert ticket.max_wait_s == max_wait_s
