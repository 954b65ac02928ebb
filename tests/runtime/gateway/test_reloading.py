"""Requests for a version that is being loaded again wait in the gateway."""

import asyncio
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

import pytest

from fleet.traffic import LimitPolicy, TimeoutPolicy, TrafficPolicy
from runtime.gateway.body.errors import ApiError
from runtime.gateway.table.routing import DEFAULT_POLICY, RouteTable
from runtime.gateway.table.table import RoutingTable
from runtime.gateway.table.table_loader import build_routes
from runtime.gateway.traffic.admission import MAX_WAITING, RELOAD_S, Admission
from runtime.gateway.traffic.balancer import LoadBalancer
from runtime.gateway.traffic.concurrency import ConcurrencyLimiter, InFlight
from runtime.gateway.traffic.waiting import Ticket
from tests.runtime.gateway.stage import (
    ACME,
    GLOBEX,
    LASTING,
    NEW,
    OLD,
    OTHERS,
    Reply,
    Stage,
    alias,
    chat,
    key,
    long,
    stage,
    table,
    until,
)


def split(ours: Stage, revision: int, *shares: tuple[str, int, tuple[str, ...]]) -> RoutingTable:
    """Return the stage's table with other shares of acme's alias."""
    before = table(ours.servers, revision=revision)
    return before.model_copy(
        update={"aliases": {**before.aliases, "acme-support": alias("acme", *shares)}}
    )


async def waiting(ours: Stage, count: int) -> None:
    """Wait until so many requests wait in the gateway."""
    async with asyncio.timeout(60):
        while (await ours.gateways.statuses())[0].waiting != count:  # noqa: ASYNC110 (over HTTP)
            await asyncio.sleep(0)


def ask(ours: Stage, *, stream: bool = False) -> "asyncio.Task[Reply]":
    return asyncio.create_task(ours.send(chat(stream=stream)))


def test_requests_wait_until_the_version_is_on_a_server_again_and_others_go_on(
    tmp_path: Path,
) -> None:
    async def play() -> None:
        async with stage(tmp_path) as ours:
            await ours.publish(split(ours, 2, (OLD, 100, ())))
            held = [ask(ours) for _ in range(8)] + [ask(ours, stream=True)]
            await waiting(ours, 9)
            other = await ours.send(chat("globex-dates"), secret=GLOBEX)
            assert (other.status, ours.asked) == (200, [OTHERS])
            assert await ours.gateways.in_flight("s1", OLD) == 0  # nothing to drain
            await ours.publish(split(ours, 3, (OLD, 100, ())))  # another alias moves meanwhile
            await ours.publish(split(ours, 4, (OLD, 100, ("s1",))))
            replies = await asyncio.gather(*held)
            assert {(reply.status, reply.version) for reply in replies} == {(200, OLD)}
            await waiting(ours, 0)
            rows = [row for row in ours.rows() if row["alias"] == "acme-support"]
            assert {(row["status"], row["revision"]) for row in rows} == {(200, 4)}
            assert len(rows) == 9

    asyncio.run(play())


def test_a_request_that_waits_goes_where_a_rollback_sends_its_alias(tmp_path: Path) -> None:
    async def play() -> None:
        async with stage(tmp_path) as ours:
            await ours.publish(split(ours, 2, (NEW, 100, ()), (OLD, 0, ("s1",))))
            held = ask(ours)
            await waiting(ours, 1)
            await ours.publish(split(ours, 3, (NEW, 0, ()), (OLD, 100, ("s1",))))
            assert ((await held).version, ours.asked) == (OLD, [OLD])
            await ours.publish(split(ours, 4, (NEW, 100, ())))
            gone = ask(ours)
            await waiting(ours, 1)
            without = split(ours, 5)
            aliases = {"globex-dates": without.aliases["globex-dates"]}
            await ours.publish(without.model_copy(update={"aliases": aliases}))
            assert (await gone).status == HTTPStatus.NOT_FOUND

    asyncio.run(play())


@pytest.mark.parametrize("goes_to", ["s2", ""], ids=["another replica", "none yet"])
def test_a_request_in_the_queue_of_a_server_is_sent_elsewhere_once_the_version_is_taken_off(
    tmp_path: Path, goes_to: str
) -> None:
    async def play() -> None:
        async with stage(tmp_path, servers=2, token_seconds=0.01) as ours:
            policy = TrafficPolicy(server_in_flight=1)
            on_first = alias("acme", (OLD, 100, ("s1",)), policy=policy)
            tables = table(ours.servers, revision=2)
            aliases = {**tables.aliases, "acme-support": on_first}
            await ours.publish(tables.model_copy(update={"aliases": aliases}))
            running = asyncio.create_task(ours.send(long(LASTING)))
            await until(ours, 1)
            held = ask(ours)
            await waiting(ours, 1)
            servers = (goes_to,) if goes_to else ()
            aliases["acme-support"] = alias("acme", (OLD, 100, servers), policy=policy)
            await ours.publish(tables.model_copy(update={"aliases": aliases, "revision": 3}))
            if not goes_to:
                await waiting(ours, 1)
                aliases["acme-support"] = alias("acme", (OLD, 100, ("s2",)), policy=policy)
                await ours.publish(tables.model_copy(update={"aliases": aliases, "revision": 4}))
            assert (await held).status == HTTPStatus.OK
            assert [len(ours.replicas[name].models) for name in ("s1", "s2")] == [1, 1]
            ours.replicas["s1"].pace(0)
            assert (await running).status == HTTPStatus.OK

    asyncio.run(play())


def test_a_client_that_leaves_waits_no_longer_and_the_operator_does_not_wait(
    tmp_path: Path,
) -> None:
    async def play() -> None:
        async with stage(tmp_path) as ours:
            await ours.publish(split(ours, 2, (OLD, 100, ())))
            held = ask(ours)
            await waiting(ours, 1)
            held.cancel()
            await waiting(ours, 0)
            secret = (tmp_path / "operator.secret").read_text("utf-8").strip()
            assert (await ours.send(chat(), secret=secret)).status == HTTPStatus.SERVICE_UNAVAILABLE
            await ours.publish(split(ours, 3, (OLD, 100, ("s1",))))
            assert (await ours.send(chat())).status == HTTPStatus.OK
            assert [row["status"] for row in ours.rows()] == [499, 503, 200]

    asyncio.run(play())


class Gate:
    """An admission on a clock of the test's own, with a table whose version may be away."""

    def __init__(self, policy: TrafficPolicy = DEFAULT_POLICY) -> None:
        in_flight = InFlight()
        balancer = LoadBalancer(in_flight, ConcurrencyLimiter(in_flight.servers))
        self.admission, self.policy = Admission(in_flight, balancer), policy
        self.revision = 0
        self.routed: list[Ticket] = []

    def serve(self, now: float, *servers: str, other: tuple[str, ...] = ()) -> RouteTable:
        self.revision += 1
        made = build_routes(
            RoutingTable(
                revision=self.revision,
                servers={"s1": "http://127.0.0.1:1"},
                aliases={
                    "acme-support": alias("acme", (OLD, 100, servers), policy=self.policy),
                    "acme-triage": alias(
                        "acme", ("acme-triage-tiny-v1.0.0", 100, other), policy=self.policy
                    ),
                },
                keys=key("acme", ACME),
            )
        )
        self.admission.take_table(made, now)
        self.table = made
        return made

    def ask(self, now: float) -> Ticket | ApiError:
        ticket = Ticket(self.table.routes["acme-support"].arms[0].target)
        ticket.proceed = lambda: self.routed.append(ticket)
        try:
            self.admission.request(ticket, now)
        except ApiError as error:
            return error
        return ticket

    def wait_s(self, now: float) -> float | int:
        """Return the longest wait of a request, or the status of its refusal."""
        answer = self.ask(now)
        return answer.max_wait_s if isinstance(answer, Ticket) else int(answer.status)


def test_the_wait_ends_a_fixed_time_after_the_version_was_taken_off() -> None:
    gate = Gate()
    gate.serve(100.0)
    assert gate.wait_s(100.0) == RELOAD_S
    assert gate.wait_s(110.0) == RELOAD_S - 10
    gate.serve(115.0)  # a newer table is no new begin
    assert gate.wait_s(120.0) == RELOAD_S - 20
    assert gate.wait_s(100.0 + RELOAD_S) == HTTPStatus.SERVICE_UNAVAILABLE
    assert not gate.routed
    gate.serve(200.0, "s1")
    gate.serve(300.0)
    assert gate.wait_s(300.0) == RELOAD_S


@pytest.mark.parametrize(
    ("policy", "longest"),
    [
        (TrafficPolicy(timeouts=TimeoutPolicy(first_byte_s=5.0)), 5.0),
        (TrafficPolicy(limits=LimitPolicy(queue_s=2.0)), 2.0),
        (TrafficPolicy(limits=LimitPolicy(queue_s=500.0)), RELOAD_S),
    ],
)
def test_no_request_waits_longer_than_is_declared(policy: TrafficPolicy, longest: float) -> None:
    gate = Gate(policy)
    gate.serve(0.0)
    assert gate.wait_s(0.0) == longest


def test_a_version_whose_servers_have_no_address_is_not_waited_for() -> None:
    gate = Gate()
    gate.serve(0.0, "s9")
    assert gate.wait_s(0.0) == HTTPStatus.SERVICE_UNAVAILABLE


def test_a_request_that_is_routed_again_keeps_its_place_and_counts_once() -> None:
    gate = Gate(TrafficPolicy(limits=LimitPolicy(requests_per_minute=6)))
    gate.serve(0.0)
    (held,) = [gate.ask(0.0)]
    assert isinstance(held, Ticket)
    place = held.number
    gate.serve(1.0, "s1")
    assert gate.routed == [held]
    held.target = gate.table.routes["acme-support"].arms[0].target
    assert gate.admission.request(held, 1.0)  # at a rate of one in ten seconds
    assert held.number == place
    assert gate.wait_s(1.0) == HTTPStatus.TOO_MANY_REQUESTS
    gate.admission.release(held)
    assert gate.admission.waiting == 0


def test_as_many_wait_as_may_and_a_further_one_is_refused() -> None:
    gate = Gate(replace(TrafficPolicy(), turns=1))
    gate.serve(0.0)
    answers = [gate.wait_s(0.0) for _ in range(MAX_WAITING + 1)]
    assert answers == [RELOAD_S] * MAX_WAITING + [HTTPStatus.TOO_MANY_REQUESTS]
    gate.serve(1.0, "s1")
    assert len(gate.routed) == MAX_WAITING
