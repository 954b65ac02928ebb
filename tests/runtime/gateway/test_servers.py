"""Servers that end or break the connections that a gateway keeps."""

import asyncio
from pathlib import Path

import pytest

from runtime.gateway.traffic import probes
from tests.runtime.gateway.sockets import asked, connected, on, post, raw, scripted, told
from tests.runtime.gateway.stage import EVENT, GLOBEX, HEAD, OLD, Stage, chat, stage, table, until

pytestmark = pytest.mark.usefixtures("serving_loop")


def test_a_connection_to_a_server_is_used_again(tmp_path: Path) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, n: int) -> None:
        while True:
            await asked(reader)
            for byte in told(f"connection {n}"):  # byte by byte, which is nobody's business
                writer.write(bytes([byte]))
                await asyncio.sleep(0)

    async def scenario(ours: Stage) -> None:
        for _ in range(3):
            assert (await ours.send(chat())).json == {"text": "connection 1"}

    on(tmp_path, script, scenario)


def test_a_connection_that_ended_under_a_request_is_replaced_once(
    tmp_path: Path,
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, n: int) -> None:
        await asked(reader)
        writer.write(told(f"connection {n}"))
        await asked(reader)  # and goes without a word, as if it had been too late

    async def scenario(ours: Stage) -> None:
        replies = [await ours.send(chat()) for _ in range(3)]
        texts = [reply.json["text"] for reply in replies]
        assert texts == ["connection 1", "connection 2", "connection 3"]
        assert [row["retries"] for row in ours.rows()] == [0, 1, 1]

    on(tmp_path, script, scenario)


def test_a_second_answer_that_nobody_asked_for_is_never_given_to_the_next(tmp_path: Path) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, n: int) -> None:
        while True:
            await asked(reader)
            writer.write(told(f"connection {n}") + told("somebody else's"))

    async def scenario(ours: Stage) -> None:
        texts = [(await ours.send(chat())).json["text"] for _ in range(3)]
        assert "somebody else's" not in texts

    on(tmp_path, script, scenario)


def test_answers_that_announce_another_are_skipped(tmp_path: Path) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, n: int) -> None:
        while True:
            await asked(reader)
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" + told(f"connection {n}"))

    async def scenario(ours: Stage) -> None:
        for _ in range(3):
            assert (await ours.send(chat())).json == {"text": "connection 1"}

    on(tmp_path, script, scenario)


def test_an_answer_may_end_with_its_connection(tmp_path: Path) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        await asked(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}")
        writer.close()
        await writer.wait_closed()

    async def scenario(ours: Stage) -> None:
        reply = await ours.send(chat())
        assert (reply.status, reply.json, reply.version) == (200, {}, OLD)

    on(tmp_path, script, scenario)


def test_what_a_client_does_not_read_is_not_read_from_the_server(tmp_path: Path) -> None:
    sent, most, part = 0, 2000, b"8000\r\n" + b"data: " + b"x" * 32760 + b"\n\n\r\n"

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        nonlocal sent
        await asked(reader)
        writer.write(HEAD % b"text/event-stream" + EVENT)
        while sent < most:
            writer.write(part)
            await writer.drain()
            sent += 1
        writer.write(b"0\r\n\r\n")
        await reader.read()

    async def scenario(ours: Stage) -> None:
        async with connected(ours) as (reader, writer):
            writer.write(post(raw(stream=True), "Connection: close"))
            await reader.readuntil(b"data: x\n\n")
            still, before = 0, -1
            async with asyncio.timeout(60):
                while still < 50:
                    still, before = (still + 1, sent) if sent == before else (0, sent)
                    assert await ours.gateways.in_flight("s1", OLD) == 1
            assert sent < most  # 64 MB are more than all buffers on the way
            total = 0
            async with asyncio.timeout(60):
                while data := await reader.read(2**20):
                    total += data.count(b"data: ")
            assert total >= most - 64  # but for those split between two reads
        assert [row["status"] for row in ours.rows()] == [200]

    on(tmp_path, script, scenario)


def test_half_a_line_of_a_stream_that_nobody_asked_for_is_not_given_to_the_next(
    tmp_path: Path,
) -> None:
    half = b'data: {"choices":[{"delta":{"content":"for acme"}}]}'

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, n: int) -> None:
        await asked(reader)
        writer.write(HEAD % b"text/event-stream")
        if n == 1:
            writer.write(EVENT + b"%x\r\n%b\r\n" % (len(half), half))
            await reader.read()
            return
        writer.write(EVENT + b"0\r\n\r\n")
        await writer.drain()
        await reader.read()

    async def scenario(ours: Stage) -> None:
        async with connected(ours) as (reader, writer):
            writer.write(post(raw()))
            await reader.readuntil(b"data: x\n\n")
        await until(ours, 0)
        reply = await ours.send(chat("globex-dates"), secret=GLOBEX)
        assert reply.body == b"data: x\n\n"

    on(tmp_path, script, scenario)


def test_the_health_of_all_servers_is_asked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "HEALTH_EVERY_S", 0.01)
    count, asking, all_ask = 110, 0, asyncio.Event()

    async def script(reader: asyncio.StreamReader, _: asyncio.StreamWriter, __: int) -> None:
        nonlocal asking
        await reader.readuntil(b"\r\n\r\n")
        asking += 1
        if asking == count:
            all_ask.set()
        try:
            await reader.read()
        finally:
            asking -= 1

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, scripted(script) as url:
            servers = ours.servers | {f"x{number}": url for number in range(count)}
            await ours.publish(table(servers, revision=2))
            async with asyncio.timeout(60):
                await all_ask.wait()

    asyncio.run(scenario())
