"""How many requests a server has room for, on a clock of the test's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engines.vllm_api import parse_metrics
from runtime.gateway.traffic.balancer import LoadBalancer
from runtime.gateway.traffic.concurrency import (
    FIRST_LIMIT,
    SILENT_LIMIT,
    ConcurrencyLimiter,
    InFlight,
)


class Server:
    """A server `s` that is given whatever there is room for."""

    def __init__(self) -> None:
        self.now = 0.0
        self.in_flight = InFlight()
        self.limiter = ConcurrencyLimiter(self.in_flight.servers, lambda: self.now)
        self.looks: list[str] = []
        self.limiter.probe = self.looks.append

    def flood(self) -> int:
        """Give the server as many requests as the limit allows; return their number."""
        while self.limiter.allows("s"):
            self.in_flight.add("s", "v1")
        return self.in_flight.servers["s"]

    def end(self, count: int) -> None:
        for _ in range(count):
            self.in_flight.remove("s", "v1")

    def told(self, running: int, waiting: int) -> int:
        """Let the server report its load, then flood again; return the number of requests."""
        self.now += 0.1
        self.limiter.record_load("s", running, waiting)
        return self.flood()


def test_a_server_gets_few_requests_before_it_was_looked_at() -> None:
    server = Server()
    assert server.flood() == FIRST_LIMIT
    assert set(server.looks) == {"s"}


def test_while_nobody_waits_in_a_server_as_many_again_come() -> None:
    server = Server()
    server.flood()
    assert [server.told(each, 0) for each in (16, 32, 64, 128)] == [32, 64, 128, 256]
    assert server.told(200, 0) == 400  # 56 are on their way
    assert server.told(200, 0) == 450  # and now so many that it is given a few only


def test_a_server_that_is_still_taking_in_what_waits_is_not_full() -> None:
    server = Server()
    server.flood()
    assert [server.told(4, 12), server.told(9, 7)] == [FIRST_LIMIT, FIRST_LIMIT]
    assert [server.told(16, 0), server.told(32, 0)] == [32, 64]


def test_many_requests_that_end_together_are_no_reason_to_give_a_server_less() -> None:
    server = Server()
    server.flood()
    server.told(16, 0)
    server.end(30)
    assert server.told(32, 0) == 64
    server.end(60)
    assert server.told(1, 0) == 68  # but one that runs next to nothing gets a few more only


def test_a_server_in_which_somebody_waits_gets_what_it_runs_and_a_few() -> None:
    server = Server()
    server.flood()
    assert server.told(8, 8) == FIRST_LIMIT  # four too many are in it already
    server.end(3)
    assert server.told(8, 5) == 13
    assert server.limiter.document() == {"s": 12}
    server.end(1)
    assert server.told(8, 4) == 12  # four that wait are the few
    assert server.told(12, 0) == 16  # and if it could do more, four more
    server.end(16)
    assert server.told(0, 0) == 4


def test_after_a_while_without_anybody_waiting_it_is_tried_out_anew() -> None:
    server = Server()
    server.flood()
    server.told(8, 8)
    server.told(8, 8)
    server.end(12)
    assert server.told(4, 0) == 8
    server.now += 10
    assert server.told(8, 0) == 16
    assert server.told(16, 0) == 32


def test_what_a_server_said_holds_for_two_seconds_and_it_is_asked_again_before() -> None:
    server = Server()
    server.flood()
    server.told(16, 0)
    server.end(22)
    server.looks.clear()
    assert (server.limiter.allows("s"), server.looks) == (True, [])
    server.now += 1.1
    assert (server.limiter.allows("s"), server.looks) == (True, ["s"])
    server.now += 2.9  # it takes its time, which is no reason to give it less
    assert server.flood() == 32
    server.now += 2
    server.end(12)
    assert not server.limiter.allows("s")  # that was another time


def test_several_gateways_come_to_what_the_server_runs_together() -> None:
    now = 0.0
    gateways = [
        (each, ConcurrencyLimiter(each.servers, lambda: now))
        for each in (InFlight(), InFlight(), InFlight())
    ]
    for in_flight, limiter in gateways:
        while limiter.allows("s"):
            in_flight.add("s", "v1")
    for _ in range(60):  # it runs 30; 48 are in it
        now += 0.1
        total = sum(each.servers["s"] for each, _ in gateways)
        running, waiting = min(total, 30), max(0, total - 30)
        for in_flight, limiter in gateways:
            limiter.record_load("s", running, waiting)
            if in_flight.servers["s"]:
                in_flight.remove("s", "v1")
            while limiter.allows("s"):
                in_flight.add("s", "v1")
    counts = [each.servers["s"] for each, _ in gateways]
    assert 30 <= sum(counts) <= 30 + 3 * 4
    assert min(counts) >= 4


@given(ours=st.integers(0, 300), running=st.integers(0, 300), waiting=st.integers(0, 2000))
def test_whatever_others_do_a_gateway_may_always_have_a_few_at_work(
    ours: int, running: int, waiting: int
) -> None:
    server = Server()
    for _ in range(ours):
        server.in_flight.add("s", "v1")
    room = server.told(running, waiting)
    assert room >= 4
    assert room <= max(16, 2 * ours, ours + running // 4 + 4)


def test_a_server_that_tells_nothing_gets_what_most_of_them_run() -> None:
    server = Server()
    server.flood()
    server.limiter.record_no_load("s", answered=True)
    assert server.flood() == SILENT_LIMIT


def test_a_server_that_was_not_reached_in_time_keeps_what_it_had() -> None:
    server = Server()
    server.flood()
    server.told(10, 6)
    server.told(10, 6)
    server.end(8)
    server.limiter.record_no_load("s", answered=False)
    assert server.flood() == 14


def test_what_the_operator_allows_holds_as_it_is() -> None:
    server = Server()
    for _ in range(300):
        assert server.limiter.allows("s", 300)
        server.in_flight.add("s", "v1")
    assert not server.limiter.allows("s", 300)
    assert server.looks == []


def test_the_server_with_room_is_asked_though_another_has_fewer_requests() -> None:
    in_flight = InFlight()
    limiter = ConcurrencyLimiter(in_flight.servers, lambda: 5.0)
    balancer = LoadBalancer(in_flight, limiter, lambda: 5.0)
    for server, count in (("full", 12), ("fast", 30)):
        for _ in range(count):
            in_flight.add(server, "v1")
    limiter.record_load("full", 8, 8)
    limiter.record_load("full", 8, 8)
    limiter.record_load("fast", 30, 0)
    assert {balancer.choose(("fast", "full"), "v1", (), 5.0) for _ in range(4)} == {"fast"}
    assert balancer.has_capacity(("full", "fast"), "v1", None)
    assert not balancer.has_capacity(("full",), "v1", None)
    balancer.record_health("fast", healthy=False)  # what is down has room for nobody
    assert not balancer.has_capacity(("full", "fast"), "v1", None)
    assert balancer.has_capacity(("fast",), "v1", None)  # unless no other is left
    assert balancer.has_capacity((), "v1", None)


@pytest.mark.parametrize(
    ("page", "load"),
    [
        (b"vllm:num_requests_running 3.0\nvllm:num_requests_waiting 12.0\n", (3, 12)),
        (
            (
                b'vllm:num_requests_running{engine="0",model_name="m"} 3.0\n'
                b'vllm:num_requests_running{engine="1",model_name="m"} 4.0\n'
                b'vllm:num_requests_waiting{engine="0",model_name="m"} 0.0\n'
                b'vllm:num_requests_waiting{engine="1",model_name="m"} 1.0\n'
                b'vllm:num_requests_waiting_by_reason{reason="capacity"} 9.0\n'
            ),
            (7, 1),
        ),
        (b"# TYPE vllm:num_requests_running gauge\n", None),
        (b"vllm:num_requests_running 3.0\n", None),
        (b'{"choices":[]}', None),
        (b"", None),
    ],
)
def test_a_page_of_metrics_tells_of_all_engines_or_nothing(
    page: bytes, load: tuple[int, int] | None
) -> None:
    metrics = parse_metrics(page.decode())
    parsed = (metrics.running, metrics.waiting)
    assert (None if None in parsed else parsed) == load
