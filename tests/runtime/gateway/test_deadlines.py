"""Servers that are slow, full, ill or without the version: what a client sees of it."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from fleet.traffic import TimeoutPolicy, TrafficPolicy
from runtime.gateway.traffic import probes
from tests.runtime.gateway.admin_side import ask_admin
from tests.runtime.gateway.sockets import asked, scripted
from tests.runtime.gateway.stage import (
    EVENT,
    HEAD,
    OLD,
    Stage,
    alias,
    chat,
    raw_server,
    stage,
    table,
    until,
)

pytestmark = pytest.mark.usefixtures("serving_loop")


async def serve(
    ours: Stage, servers: dict[str, str], timeouts: TimeoutPolicy | None = None, revision: int = 2
) -> None:
    policy = TrafficPolicy(timeouts=timeouts) if timeouts else None
    entry = alias("acme", (OLD, 100, tuple(servers)), policy=policy)
    given = table(servers, revision=revision)
    await ours.gateways.publish(given.model_copy(update={"aliases": {"acme-support": entry}}))


SOON = 0.3
"""Longer than a busy machine lets a process wait for its turn."""


@pytest.mark.parametrize(
    ("timeouts", "answer"),
    [
        (TimeoutPolicy(first_byte_s=SOON), b""),
        (TimeoutPolicy(total_s=SOON), b""),
        (TimeoutPolicy(idle_s=SOON), HEAD % b"application/json" + b'5\r\n{"id"\r\n'),
    ],
    ids=["nothing", "in all", "half an answer"],
)
def test_an_answer_that_does_not_come_in_time_is_504(
    tmp_path: Path, timeouts: TimeoutPolicy, answer: bytes
) -> None:
    async def scenario() -> None:
        async with (
            stage(tmp_path / ".fleetctl") as ours,
            raw_server(answer, waits=True) as (url, seen),
        ):
            await serve(ours, {"s1": url, "s2": url}, timeouts)
            reply = await ours.send(chat())
            assert (reply.status, reply.json["error"]["code"]) == (504, "timeout")
            await until(ours, 0)
            async with asyncio.timeout(60):
                while seen[-1] != b"left":  # noqa: ASYNC110 (written by a server in this loop)
                    await asyncio.sleep(0)
            assert len(seen) == 2  # it may have worked on it: no other server is asked
            assert [row["status"] for row in ours.rows()] == [504]

    asyncio.run(scenario())


@pytest.mark.parametrize("timeouts", [TimeoutPolicy(idle_s=SOON), TimeoutPolicy(total_s=SOON)])
def test_a_stream_that_stands_still_is_cut(tmp_path: Path, timeouts: TimeoutPolicy) -> None:
    async def scenario() -> None:
        async with (
            stage(tmp_path / ".fleetctl") as ours,
            raw_server(HEAD % b"text/event-stream" + EVENT, waits=True) as (url, _),
        ):
            await serve(ours, {"s1": url}, timeouts)
            with pytest.raises(aiohttp.ClientError):
                await ours.send(chat(stream=True))
            assert [row["status"] for row in ours.rows()] == [504]
            await until(ours, 0)

    asyncio.run(scenario())


def test_a_stream_may_take_as_long_for_its_first_token_as_an_answer_for_its_first_byte(
    tmp_path: Path,
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while True:
            await asked(reader)
            writer.write(HEAD % b"text/event-stream")
            await asyncio.sleep(4 * SOON)  # it is busy with what came before
            writer.write(EVENT + b"0\r\n\r\n")

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, scripted(script) as url:
            await serve(ours, {"s1": url}, TimeoutPolicy(idle_s=SOON))
            assert (await ours.send(chat(stream=True))).body == b"data: x\n\n"
            await serve(ours, {"s1": url}, TimeoutPolicy(first_byte_s=SOON), revision=3)
            with pytest.raises(aiohttp.ClientError):
                await ours.send(chat(stream=True))
            assert [row["status"] for row in ours.rows()] == [200, 504]

    asyncio.run(scenario())


async def config(ours: Stage) -> dict[str, Any]:
    found: dict[str, Any] = await ask_admin(ours.state, "/-/config")
    return found


FULL = b"HTTP/1.1 %d Later\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_is_full_is_passed_over_while_there_is_another(
    tmp_path: Path, status: int
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while True:
            await asked(reader)
            writer.write(FULL % status)

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, scripted(script) as full:
            await serve(ours, {"full": full, "s1": ours.servers["s1"]})
            assert [(await ours.send(chat())).status for _ in range(6)] == [200] * 6
            seems = "up" if status == 429 else "resting"  # one that says 503 may be ill
            assert (await config(ours))["servers"] == {"full": seems, "s1": "up"}
            await ours.gateways.publish(table({"s1": full}, revision=3))
            assert (await ours.send(chat())).status == status  # its own answer, as it is

    asyncio.run(scenario())


def test_a_row_of_errors_puts_a_server_to_rest(tmp_path: Path) -> None:
    count = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        nonlocal count
        while True:
            await asked(reader)
            count += 1
            writer.write(FULL % 500)

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, scripted(script) as ill:
            await serve(ours, {"ill": ill, "s1": ours.servers["s1"]})
            statuses = [(await ours.send(chat())).status for _ in range(20)]
            assert statuses.count(500) == count == 3  # passed on, and not tried elsewhere
            assert (await config(ours))["servers"] == {"ill": "resting", "s1": "up"}

    asyncio.run(scenario())


def test_a_lost_version_is_marked_and_seen_from_outside(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", servers=2) as ours:
            ours.replicas["s1"].memory.listed.clear()
            assert [(await ours.send(chat())).status for _ in range(6)] == [200] * 6
            (mark,) = (await config(ours))["missing"]
            assert (mark["server"], mark["adapter"]) == ("s1", OLD)
            assert (await ours.gateways.observe()).missing == ((OLD, "s1"),)
            assert len(ours.replicas["s1"].bodies) == 1  # once was enough

    asyncio.run(scenario())


def test_servers_are_asked_for_their_health(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "HEALTH_EVERY_S", 0.01)

    async def ill(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(FULL % 503)

    async def play(ours: Stage, url: str) -> None:
        await serve(ours, {"gone": "http://127.0.0.1:9", "ill": url, "s1": ours.servers["s1"]})
        async with asyncio.timeout(60):
            while [*(shown := (await config(ours))["servers"]).values()].count("up") > 1:  # noqa: ASYNC110 (over HTTP)
                await asyncio.sleep(0)
        assert shown["s1"] == "up"
        assert shown["ill"] == "down (/health answers 503)"
        assert shown["gone"].startswith("down (")
        assert [(await ours.send(chat())).status for _ in range(6)] == [200] * 6
        assert len(ours.replicas["s1"].bodies) == 6

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, scripted(ill) as url:
            await play(ours, url)

    asyncio.run(scenario())
