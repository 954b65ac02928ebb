"""More requests than may be: who waits, who is refused, and who comes first."""

import asyncio
from pathlib import Path

import pytest

from fleet.traffic import LimitPolicy, TrafficPolicy
from runtime.gateway.admin.state_dir import SECRET_FILE
from tests.runtime.gateway.admin_side import admin_of
from tests.runtime.gateway.stage import (
    GLOBEX,
    LASTING,
    NEW,
    OLD,
    OTHERS,
    Stage,
    alias,
    chat,
    long,
    stage,
    table,
    until,
)

pytestmark = pytest.mark.usefixtures("serving_loop")


async def limit(ours: Stage, acme: TrafficPolicy, globex: TrafficPolicy | None = None) -> None:
    """Serve the usual table with these policies."""
    names = tuple(sorted(ours.servers))
    aliases = {
        "acme-support": alias("acme", (OLD, 100, names), policy=acme),
        "globex-dates": alias("globex", (OTHERS, 100, names), policy=globex),
    }
    given = table(ours.servers, revision=2)
    await ours.gateways.publish(given.model_copy(update={"aliases": aliases}))


async def waiting(ours: Stage, count: int) -> None:
    """Wait until `count` requests wait for their turn."""
    async with asyncio.timeout(60), admin_of(ours.state) as admin:
        while (await admin.get("/-/inflight"))["waiting"] != count:  # noqa: ASYNC110 (over HTTP)
            await asyncio.sleep(0)


def test_a_rate_is_kept_and_the_client_told_when_to_come_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            await limit(ours, TrafficPolicy(limits=LimitPolicy(requests_per_minute=1)))
            replies = [await ours.send(chat()) for _ in range(2)]
            assert [reply.status for reply in replies] == [200, 429]
            assert 30 < int(replies[1].headers["Retry-After"]) <= 60
            error = replies[1].json["error"]
            assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
            assert (await ours.send(chat("globex-dates"), secret=GLOBEX)).status == 200
            rows = ours.rows()
            assert [row["status"] for row in rows] == [200, 429, 200]
            assert (rows[1]["alias"], rows[1]["server"]) == ("acme-support", "")

    asyncio.run(scenario())


@pytest.mark.parametrize("streams", [False, True])
def test_tokens_are_charged_from_real_usage(tmp_path: Path, *, streams: bool) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            await limit(ours, TrafficPolicy(client_limits=LimitPolicy(tokens_per_minute=30)))
            clock = asyncio.get_running_loop().time
            began = clock()
            first = await ours.send(long(60, stream=streams))
            second = await ours.send(chat(max_tokens=1))
            assert (first.status, second.status) == (200, 429)
            (used, _) = ours.rows()
            owed = used["input_tokens"] + used["output_tokens"] - 30
            paid = 2 * (owed + 1) - int(second.headers["Retry-After"])  # by waiting meanwhile
            assert -2 <= paid <= 2 + clock() - began

    asyncio.run(scenario())


def test_a_request_waits_for_its_turn_and_not_for_long(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", token_seconds=0.01) as ours:
            await limit(ours, TrafficPolicy(limits=LimitPolicy(concurrency=1, queue_s=30)))
            first = asyncio.create_task(ours.send(long(LASTING)))
            await until(ours, 1)
            second = asyncio.create_task(ours.send(chat(max_tokens=1)))
            await waiting(ours, 1)
            ours.replicas["s1"].pace(0)
            assert [(await each).status for each in (first, second)] == [200, 200]
            ours.replicas["s1"].pace(0.01)
            await limit_again(ours, LimitPolicy(concurrency=1, queue_s=0.01))
            running = asyncio.create_task(ours.send(long(LASTING)))
            await until(ours, 1)
            refused = await ours.send(chat())
            assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
            assert not running.done()
            running.cancel()
            await until(ours, 0)
            assert (await ours.send(chat(max_tokens=1))).status == 200

    async def limit_again(ours: Stage, limits: LimitPolicy) -> None:
        entry = alias("acme", (OLD, 100, ("s1",)), policy=TrafficPolicy(limits=limits))
        given = table(ours.servers, revision=3)
        await ours.gateways.publish(given.model_copy(update={"aliases": {"acme-support": entry}}))

    asyncio.run(scenario())


def test_a_client_that_leaves_the_queue_takes_no_turn(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", token_seconds=0.01) as ours:
            await limit(ours, TrafficPolicy(limits=LimitPolicy(concurrency=1, queue_s=30)))
            first = asyncio.create_task(ours.send(long(LASTING)))
            await until(ours, 1)
            leaving = asyncio.create_task(ours.send(long(LASTING)))
            await waiting(ours, 1)
            leaving.cancel()
            await waiting(ours, 0)
            last = asyncio.create_task(ours.send(chat(max_tokens=1)))
            ours.replicas["s1"].pace(0)
            assert [(await each).status for each in (first, last)] == [200, 200]
            assert len(ours.asked) == 2
            assert sorted(row["status"] for row in ours.rows()) == [200, 200, 499]

    asyncio.run(scenario())


def test_who_waits_for_a_server_gets_the_room_that_the_operator_leaves(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", token_seconds=0.01) as ours:
            await limit(ours, TrafficPolicy(server_in_flight=1, limits=LimitPolicy(queue_s=30)))
            secret = (ours.state / SECRET_FILE).read_text(encoding="utf-8").strip()
            evaluation = asyncio.create_task(ours.send(long(LASTING), secret=secret))
            await until(ours, 1)
            request = asyncio.create_task(ours.send(chat(max_tokens=1)))
            await waiting(ours, 1)
            ours.replicas["s1"].pace(0)
            assert [(await each).status for each in (evaluation, request)] == [200, 200]

    asyncio.run(scenario())


def test_a_batch_client_does_not_starve_a_real_time_one(tmp_path: Path) -> None:
    batch = TrafficPolicy(server_in_flight=2, turns=1, client_limits=LimitPolicy(queue_s=60))
    live = TrafficPolicy(server_in_flight=2, turns=4, client_limits=LimitPolicy(queue_s=60))

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", token_seconds=0.01) as ours:
            await limit(ours, batch, live)
            first = [asyncio.create_task(ours.send(long(LASTING))) for _ in range(2)]
            await until(ours, 2)
            heavy = [*first, *(asyncio.create_task(ours.send(long(10))) for _ in range(28))]
            await waiting(ours, 28)
            quick = [
                asyncio.create_task(ours.send(chat("globex-dates", max_tokens=1), secret=GLOBEX))
                for _ in range(4)
            ]
            await waiting(ours, 32)
            ours.replicas["s1"].pace(0)
            replies = await asyncio.gather(*quick, *heavy)
            assert {reply.status for reply in replies} == {200}
            places = [place for place, model in enumerate(ours.asked) if model == OTHERS]
            assert len(places) == 4
            assert max(places) < 20  # it came last, and did not wait for the thirty

    asyncio.run(scenario())


def test_a_version_that_somebody_waits_for_is_not_drained(tmp_path: Path) -> None:
    policy = TrafficPolicy(client_limits=LimitPolicy(concurrency=1, queue_s=60.0))

    async def route(ours: Stage, revision: int, *shares: tuple[str, int]) -> None:
        entry = alias("acme", *((name, share, ("s1",)) for name, share in shares), policy=policy)
        given = table(ours.servers, revision=revision)
        await ours.gateways.publish(given.model_copy(update={"aliases": {"acme-support": entry}}))

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", token_seconds=0.01) as ours:
            await route(ours, 2, (NEW, 50), (OLD, 50))
            users: dict[str, str] = {}
            while len(users) < 2:
                user = f"user-{len(ours.asked)}"
                reply = await ours.send(chat(user=user, max_tokens=1))
                users.setdefault(reply.version, user)
            first = asyncio.create_task(ours.send(long(LASTING, user=users[NEW])))
            await until(ours, 1, NEW)
            second = asyncio.create_task(ours.send(chat(user=users[OLD])))
            await waiting(ours, 1)
            await route(ours, 3, (NEW, 100))
            assert await ours.gateways.in_flight("s1", OLD) == 1
            ours.replicas["s1"].pace(0)
            assert (await first).version == NEW
            assert ((await second).status, (await second).version) == (200, OLD)
            await until(ours, 0, OLD)

    asyncio.run(scenario())
