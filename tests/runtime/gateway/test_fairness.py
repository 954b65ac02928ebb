"""A batch client floods, by default, and a real-time client notices little of the flood."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.gateway.traffic import admission
from runtime.gateway.traffic.concurrency import FIRST_LIMIT
from tests.runtime.gateway.stage import (
    GLOBEX,
    NEW,
    OLD,
    OTHERS,
    Reply,
    Stage,
    alias,
    chat,
    long,
    stage,
    table,
)

pytestmark = pytest.mark.usefixtures("serving_loop")
AT_ONCE = 6
"""Requests that the server runs at a time, a number that the gateway was not told."""
ALIASES = ("acme-support", "acme-notes")


async def flood(ours: Stage, size: int) -> list["asyncio.Task[Reply]"]:
    """Have `size` requests of acme's under way on as many connections, until many wait."""
    aliases = {
        "acme-support": alias("acme", (OLD, 100, ("s1",))),
        "acme-notes": alias("acme", (NEW, 100, ("s1",))),
        "globex-dates": alias("globex", (OTHERS, 100, ("s1",))),
    }
    given = table(ours.servers, revision=2)
    await ours.gateways.publish(given.model_copy(update={"aliases": aliases}))
    memory = ours.replicas["s1"].memory
    memory.config = replace(memory.config, max_num_seqs=AT_ONCE)
    tasks = [
        asyncio.create_task(ours.send(long(60, model=ALIASES[number % 2])))
        for number in range(size)
    ]
    async with asyncio.timeout(60):
        while (await ours.gateways.statuses())[0].waiting < size // 4:  # noqa: ASYNC110 (over HTTP)
            await asyncio.sleep(0)
    return tasks


def test_a_batch_client_cannot_starve_a_real_time_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", token_seconds=0.005) as ours:
            batch = await flood(ours, 160)
            places, queues = [], []
            for _ in range(6):
                before = len(ours.asked)
                reply = await ours.send(chat("globex-dates", max_tokens=1), secret=GLOBEX)
                assert reply.status == 200
                places.append(ours.asked[before:].index(OTHERS))
                queues.append(len(ours.replicas["s1"].memory.waiting))
            assert not all(each.done() for each in batch)
            assert max(places) <= 3  # it came after a turn or two, whatever waited
            assert max(queues) <= FIRST_LIMIT  # and few were before it in the server
            ours.replicas["s1"].pace(0)
            assert {each.status for each in await asyncio.gather(*batch)} == {200}

    asyncio.run(scenario())


def test_a_flood_over_many_connections_and_aliases_refuses_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "MAX_WAITING", 40)

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", token_seconds=0.005) as ours:
            batch = await flood(ours, 120)
            others = [ours.send(chat("globex-dates"), secret=GLOBEX) for _ in range(12)]
            assert {each.status for each in await asyncio.gather(*others)} == {200}
            ours.replicas["s1"].pace(0)
            replies = await asyncio.gather(*batch)
            refused = [reply for reply in replies if reply.status != 200]
            assert len(refused) >= 120 - 40 - 2 * FIRST_LIMIT
            assert {(each.status, each.headers["Retry-After"]) for each in refused} == {(429, "1")}
            assert (await ours.send(chat())).status == 200

    asyncio.run(scenario())
