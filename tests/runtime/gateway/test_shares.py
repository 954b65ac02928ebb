"""Shares of clients in places of servers, in memory and in connections."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.traffic import TrafficPolicy
from runtime.gateway.body.errors import ApiError
from runtime.gateway.table.routing import RouteTarget
from runtime.gateway.traffic.admission import Admission
from runtime.gateway.traffic.balancer import LoadBalancer
from runtime.gateway.traffic.concurrency import FIRST_LIMIT, ConcurrencyLimiter, InFlight
from runtime.gateway.traffic.limits import MemoryBudget
from runtime.gateway.traffic.shares import (
    CONNECTIONS,
    MEMORY,
    PLACES,
    SILENT_PLACES,
    UNSHARED,
    ClientWeights,
)
from runtime.gateway.traffic.waiting import Ticket
from tests.runtime.gateway.stage import (
    GLOBEX,
    LASTING,
    OLD,
    OTHERS,
    alias,
    chat,
    long,
    running,
    stage,
    table,
)

ROOM = 64


class Server:
    """A server that runs so many requests at a time, with clients that want all they get."""

    def __init__(self, runs: int = ROOM) -> None:
        self.now, self.runs = 0.0, runs
        self.in_flight = InFlight()
        limiter = ConcurrencyLimiter(self.in_flight.servers, lambda: self.now)
        self.limiter = limiter
        self.balancer = LoadBalancer(self.in_flight, limiter, lambda: self.now)
        self.balancer.shares.shared = {"s"}
        limiter.probe = lambda _: None

    def report(self) -> None:
        """Take a load report, a fifth of a second after the one before."""
        self.now += 0.2
        busy = self.in_flight.servers["s"]
        load = min(busy, self.runs), max(0, busy - self.runs)
        self.limiter.record_load("s", *load)
        self.balancer.shares.record_load("s", *load)

    def take(self, client: str, most: int = 1000) -> int:
        """Take places for a client until it may have no more, or has `most` more."""
        target = RouteTarget(client, f"{client}-x", "v1", ("s",))
        return next((n for n in range(most) if not self.balancer.acquire_free(target, 0.0)), most)

    def end(self, client: str, count: int) -> None:
        for _ in range(count):
            self.in_flight.remove("s", "v1", client)

    @property
    def held(self) -> Counter[str]:
        return +Counter(self.in_flight.clients["s"])


def test_a_client_leaves_an_eighth_of_what_a_server_runs_to_others() -> None:
    server = Server()
    for _ in range(200):
        server.take("batch")
        server.report()
        server.end("batch", min(8, server.held["batch"]))  # its answers take some reports each
    server.take("batch")
    assert ROOM // 2 < server.held["batch"] <= ROOM * 7 // 8
    assert server.take("live", 4) == 4  # and others begin at once, inside the server too
    assert server.in_flight.servers["s"] <= ROOM


def test_clients_that_want_all_come_to_equal_parts() -> None:
    server = Server()
    for _ in range(100):
        for client in ("a", "b"):
            server.take(client, 1)
        server.report()
        server.end("a", min(2, server.held["a"]))
        server.end("b", min(2, server.held["b"]))
        server.take("a")
    for _ in range(200):
        server.end("a", 1)
        server.take("b")
        server.take("a")
    assert server.held["b"] >= server.held["a"] / 2


def test_a_server_of_one_client_keeps_no_place_free() -> None:
    server = Server()
    server.balancer.shares.shared = frozenset()
    server.take("only")
    assert server.held["only"] == FIRST_LIMIT


@pytest.mark.parametrize(("declared", "most"), [(1, 1), (UNSHARED, UNSHARED), (4, 3), (16, 14)])
def test_a_declared_number_of_places_is_shared_as_well(declared: int, most: int) -> None:
    server = Server()
    admission = Admission(server.in_flight, server.balancer)
    policy = TrafficPolicy(server_in_flight=declared)
    target = RouteTarget("batch", "batch-x", "v1", ("s",), policy)
    for _ in range(20):
        if admission.request(Ticket(target), 0.0):
            server.balancer.acquire(target, (), 0.0)
    assert server.held["batch"] == most


def test_a_server_that_reports_nothing_has_few_places_for_one_client() -> None:
    server = Server()
    for _ in range(5):
        server.take("batch")
        server.limiter.record_no_load("s", answered=True)
        server.balancer.shares.record_no_load("s")
    server.take("batch")
    assert server.held["batch"] == SILENT_PLACES * 7 // 8


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 400)), max_size=80))
def test_a_newcomer_always_finds_memory(wanted: list[tuple[str, int]]) -> None:
    budget = MemoryBudget(10_000)
    for client, size in wanted:
        try:
            budget.acquire(client, size)
        except ApiError:
            continue
    budget.acquire("newcomer", 100)


@pytest.mark.parametrize("weight", [1, 2, 4, 40])
@pytest.mark.parametrize("times", [MEMORY, CONNECTIONS, PLACES])
def test_a_client_alone_holds_a_part_by_its_weight(weight: int, times: int) -> None:
    weights, room = ClientWeights({"a": weight}), 100_000
    held = next(n for n in range(room + 1) if not weights.allows("a", n + 1, room - n - 1, times))
    multiple = times * weight / 2
    assert held == pytest.approx(room * multiple / (multiple + 1), abs=2)


@pytest.mark.usefixtures("serving_loop")
def test_a_short_request_does_not_wait_for_another_clients_long_answers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", token_seconds=0.01) as ours:
            eight, given = TrafficPolicy(server_in_flight=8), table(ours.servers, revision=2)
            aliases = {
                "acme-support": alias("acme", (OLD, 100, ("s1",)), policy=eight),
                "globex-dates": alias("globex", (OTHERS, 100, ("s1",)), policy=eight),
            }
            await ours.publish(given.model_copy(update={"aliases": aliases}))
            flood = [asyncio.create_task(ours.send(long(LASTING))) for _ in range(100)]
            async with asyncio.timeout(60):
                while running(ours) < 7:  # noqa: ASYNC110 (in this loop)
                    await asyncio.sleep(0)
            body = chat("globex-dates", max_tokens=1)
            for _ in range(5):
                assert (await ours.send(body, secret=GLOBEX)).status == 200
            assert not any(task.done() for task in flood)
            assert running(ours) == 7
            for task in flood:
                task.cancel()
            await asyncio.gather(*flood, return_exceptions=True)

    asyncio.run(scenario())
