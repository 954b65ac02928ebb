"""Copies of requests for a version that answers no client."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from fleet.traffic import LimitPolicy, ShadowPolicy, TrafficPolicy
from runtime.gateway.request import state
from tests.runtime.gateway.admin_side import metrics_of
from tests.runtime.gateway.sockets import Script, asked, scripted, settled
from tests.runtime.gateway.stage import (
    LASTING,
    NEW,
    OLD,
    Stage,
    alias,
    chat,
    long,
    stage,
    table,
    until,
)
from tests.runtime.usage.sums import summed

pytestmark = pytest.mark.usefixtures("serving_loop")


async def shadow(ours: Stage, *, server: str = "", percent: int = 100, at_once: int = 8) -> None:
    """Answer with the old version, and copy to the new version, on its own server if given."""
    servers = ours.servers | ({"x": server} if server else {})
    names = ("x",) if server else tuple(sorted(ours.servers))
    policy = TrafficPolicy(shadow=ShadowPolicy(NEW, names, percent, at_once))
    entry = alias("acme", (OLD, 100, ("s1",)), policy=policy)
    given = table(servers, revision=2)
    await ours.gateways.publish(given.model_copy(update={"aliases": {"acme-support": entry}}))


def silent(seen: list[bytes]) -> Script:
    """Return a server that keeps its requests in `seen`, and never answers."""

    async def script(reader: asyncio.StreamReader, _: asyncio.StreamWriter, __: int) -> None:
        seen.append(await asked(reader))
        await reader.read()

    return script


async def rows(ours: Stage, count: int) -> list[dict[str, Any]]:
    """Wait for `count` rows; no client waits for the answers to copies."""
    async with asyncio.timeout(60):
        while len(ours.rows()) < count:  # noqa: ASYNC110 (written by a gateway in this loop)
            await asyncio.sleep(0)
    return ours.rows()


@pytest.mark.parametrize("streams", [False, True])
def test_a_copy_is_counted_apart_and_never_billed(tmp_path: Path, *, streams: bool) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            await shadow(ours)
            reply = await ours.send(chat(stream=streams, user="ann"))
            assert (reply.status, reply.version) == (200, OLD)
            found = {row["purpose"]: row for row in await rows(ours, 2)}
            assert found["live"]["version"] == OLD
            copy = found["shadow"]
            assert (copy["version"], copy["status"], copy["client"]) == (NEW, 200, "acme")
            assert copy["output_tokens"] == found["live"]["output_tokens"]
            assert found["live"]["unit"] is not None
            assert copy["unit"] is None  # no client's, and nobody's first request
            assert copy["request_id"] != found["live"]["request_id"]
            assert sorted(ours.asked) == [OLD, NEW]
            assert [each["requests"] for each in summed(ours.state)] == [1]  # no demand
            metrics = await metrics_of(ours.state)
            assert NEW not in metrics.partition("fleetctl_in_flight")[0]
            assert 'fleetctl_other_requests_total{purpose="shadow",status="200"} 1' in metrics
            await until(ours, 0, NEW)

    asyncio.run(scenario())


def test_only_the_share_that_is_declared_is_copied(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            await shadow(ours, percent=0)
            for _ in range(10):
                await ours.send(chat())
            assert set(ours.asked) == {OLD}
            assert {row["purpose"] for row in ours.rows()} == {"live"}

    asyncio.run(scenario())


def test_a_shadow_that_never_answers_delays_nobody_and_keeps_to_its_budget(tmp_path: Path) -> None:
    copies: list[bytes] = []

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, scripted(silent(copies)) as url:
            await shadow(ours, server=url, at_once=2)
            for _ in range(6):
                assert (await ours.send(chat())).status == 200
            await until(ours, 2, NEW, "x")
            assert {row["purpose"] for row in ours.rows()} == {"live"}
        assert len(copies) == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"])
def test_a_shadow_that_fails_is_nobodys_trouble(tmp_path: Path, answer: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        await asked(reader)
        writer.write(answer)
        await writer.drain()

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, scripted(script) as url:
            await shadow(ours, server=url)
            assert (await ours.send(chat())).status == 200
            found = {row["purpose"]: row["status"] for row in await rows(ours, 2)}
            assert found == {"live": 200, "shadow": 500 if answer else 502}

    asyncio.run(scenario())


def test_a_version_is_drained_of_copies_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", token_seconds=0.01) as ours:
            await shadow(ours)
            request = asyncio.create_task(ours.send(long(LASTING)))
            await until(ours, 1, NEW)
            ours.replicas["s1"].pace(0)
            assert (await request).status == 200
            await until(ours, 0, NEW)

    asyncio.run(scenario())


def test_a_copy_that_runs_when_the_gateway_stops_has_a_row(tmp_path: Path) -> None:
    async def script(reader: asyncio.StreamReader, _: asyncio.StreamWriter, __: int) -> None:
        await asked(reader)
        await reader.read()

    async def scenario() -> Stage:
        async with stage(tmp_path / ".fleetctl") as ours, scripted(script) as url:
            await shadow(ours, server=url)
            assert (await ours.send(chat())).status == 200
            await until(ours, 1, NEW, "x")
        return ours

    found = {row["purpose"]: row["status"] for row in asyncio.run(scenario()).rows()}
    assert found == {"live": 200, "shadow": 499}


def test_a_copy_takes_no_place_of_a_client(tmp_path: Path) -> None:
    policy = TrafficPolicy(
        server_in_flight=2,
        shadow=ShadowPolicy(NEW, ("s1",), 100, 8),
        limits=LimitPolicy(queue_s=60.0),
    )

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", token_seconds=0.01) as ours:
            entry = alias("acme", (OLD, 100, ("s1",)), policy=policy)
            given = table(ours.servers, revision=2)
            own = given.model_copy(update={"aliases": {"acme-support": entry}})
            await ours.gateways.publish(own)
            first = asyncio.create_task(ours.send(long(LASTING)))
            await until(ours, 1, NEW)  # the copy of the first: two are on the server
            second = asyncio.create_task(ours.send(long(LASTING)))
            await until(ours, 2, OLD)
            assert (await ours.gateways.statuses())[0].waiting == 0
            assert await ours.gateways.in_flight("s1", NEW) == 1  # under load none begins
            ours.replicas["s1"].pace(0)
            assert [each.status for each in await asyncio.gather(first, second)] == [200, 200]

    asyncio.run(scenario())


def test_servers_are_told_to_do_copies_last(tmp_path: Path) -> None:
    policy = TrafficPolicy(shadow=ShadowPolicy(NEW, ("s1",), 100, 8), prioritized=True, turns=8)

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            entry = alias("acme", (OLD, 100, ("s1",)), policy=policy)
            given = table(ours.servers, revision=2)
            own = given.model_copy(update={"aliases": {"acme-support": entry}})
            await ours.gateways.publish(own)
            await ours.send(chat())
            await rows(ours, 2)
            told = map(json.loads, ours.replicas["s1"].bodies)
            assert {each["model"]: each["priority"] for each in told} == {OLD: -8, NEW: 1}

    asyncio.run(scenario())


def test_copies_have_room_for_their_bodies_or_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "REQUEST_BYTES", 500_000)
    monkeypatch.setattr(state, "SHADOW_BYTES", 900_000)
    copies: list[bytes] = []

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, scripted(silent(copies)) as url:
            await shadow(ours, server=url)
            for _ in range(4):  # two copies keep all that a client has
                assert (await ours.send(chat(suffix="x" * 200_000))).status == 200
            await until(ours, 2, NEW, "x")
            await settled(ours, lambda: len(copies))
            assert len(copies) == 2
            assert (await ours.send(chat(text="x"))).status == 200
            await until(ours, 3, NEW, "x")  # a small one is not counted

    asyncio.run(scenario())
