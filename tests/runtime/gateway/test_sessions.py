"""Sessions keep to a server that works and is not too busy; requests left early pay for prompts."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from fleet.traffic import LimitPolicy, TrafficPolicy
from runtime.gateway.table.routing import RouteTarget
from runtime.gateway.traffic.balancer import MIN_BOUND, LoadBalancer, in_order, session_hash
from runtime.gateway.traffic.concurrency import ConcurrencyLimiter, InFlight
from runtime.gateway.traffic.limits import least_tokens
from tests.runtime.gateway.stage import (
    LASTING,
    OLD,
    Stage,
    alias,
    chat,
    long,
    running,
    stage,
    table,
    until,
)

FOUR = ("s1", "s2", "s3", "s4")
TARGET = RouteTarget("acme", "acme-x", "v1", FOUR)


def made(**busy: int) -> LoadBalancer:
    in_flight = InFlight()
    in_flight.servers.update(busy)
    return LoadBalancer(in_flight, ConcurrencyLimiter(in_flight.servers))


def turn(balancer: LoadBalancer, user: bytes = b"user-1") -> str:
    """Play a request of a session that ends before the next; return its server."""
    server = balancer.acquire_free(TARGET, 0.0, user)
    assert server
    balancer._in_flight.remove(server, "v1")
    return server


def test_all_servers_get_sessions_and_as_many() -> None:
    homes = Counter(
        in_order(session_hash("acme-x", b"user-%d" % number), FOUR)[0] for number in range(4000)
    )
    assert all(abs(homes[server] - 1000) < 150 for server in FOUR)


def test_a_server_that_goes_moves_its_own_sessions_only() -> None:
    sessions = [session_hash("acme-x", b"user-%d" % number) for number in range(500)]
    for session in sessions:
        order = in_order(session, FOUR)
        assert in_order(session, FOUR[:3]) == [server for server in order if server != "s4"]


def test_a_session_meets_one_server_while_others_are_less_busy() -> None:
    home = turn(made())
    assert {turn(made(**{home: MIN_BOUND - 1})) for _ in range(20)} == {home}


def test_a_session_passes_over_a_busy_server_to_the_next_in_its_order() -> None:
    order = in_order(session_hash("acme-x", b"user-1"), FOUR)
    balancer = made(**{order[0]: MIN_BOUND})
    assert {turn(balancer) for _ in range(20)} == {order[1]}
    even = dict.fromkeys(FOUR, 15)  # a little more than the others is not too busy
    assert turn(made(**{**even, order[0]: 16 - 1})) == order[0]


def test_a_session_leaves_a_server_that_is_down_and_comes_back() -> None:
    order = in_order(session_hash("acme-x", b"user-1"), FOUR)
    balancer = made()
    balancer.record_health(order[0], healthy=False)
    assert {turn(balancer) for _ in range(5)} == {order[1]}
    balancer.record_health(order[0], healthy=True)
    assert {turn(balancer) for _ in range(5)} == {order[0]}


def test_twenty_turns_of_a_session_meet_one_replica(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", servers=4) as ours:
            for number in range(20):
                await ours.send(chat(text=f"turn {number}"), headers={"X-Session-Id": "one"})
            met = {name: len(replica.bodies) for name, replica in ours.replicas.items()}
            assert sorted(met.values()) == [0, 0, 0, 20]
            home = max(met, key=met.__getitem__)
            await ours.replicas[home].stop()
            for number in range(20):
                await ours.send(chat(text=f"turn {number}"), headers={"X-Session-Id": "one"})
            rest = [len(replica.bodies) for name, replica in ours.replicas.items() if name != home]
            assert sorted(rest) == [0, 0, 20]
            for number in range(60):  # requests of no session, or of many, are spread
                await ours.send(chat(user=f"user-{number}") if number % 2 else chat())
            assert min(len(r.bodies) for n, r in ours.replicas.items() if n != home) > 5

    asyncio.run(scenario())


async def limited(ours: Stage, tokens_per_minute: int) -> None:
    """Serve a table that limits acme's tokens."""
    policy = TrafficPolicy(client_limits=LimitPolicy(tokens_per_minute=tokens_per_minute))
    given = table(ours.servers, revision=2)
    entry = alias("acme", (OLD, 100, ("s1",)), policy=policy)
    await ours.publish(given.model_copy(update={"aliases": {"acme-support": entry}}))


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_is_left_early_is_charged_its_prompt(tmp_path: Path, stream: bool) -> None:  # noqa: FBT001
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", token_seconds=0.05) as ours:
            await limited(ours, 600)
            body = long(LASTING, stream=stream, text="word " * 2000)
            leaving = asyncio.create_task(ours.send(body))
            await until(ours, 1)
            async with asyncio.timeout(60):
                while not running(ours):  # noqa: ASYNC110 (in this loop)
                    await asyncio.sleep(0)
            leaving.cancel()
            await until(ours, 0)
            assert (await ours.send(chat())).status == 429

    asyncio.run(scenario())


def test_a_prompt_is_about_a_token_for_four_bytes_without_its_images() -> None:
    text = b'{"messages":[{"content":"%b"}]}'
    assert least_tokens(text % (b"word " * 800)) == pytest.approx(1000, abs=10)
    assert least_tokens(text % (b'"}, {"url":"data:image/png;base64,%b"}' % (b"A" * 80_000))) < 50
    assert least_tokens(b"") == 0
