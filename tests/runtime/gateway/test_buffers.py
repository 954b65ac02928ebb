"""The memory that a gateway keeps for answers that clients read slowly."""

import asyncio
import tracemalloc
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from runtime.gateway.request import state
from tests.runtime.gateway.sockets import answered, asked, connected, on, post, raw, settled, told
from tests.runtime.gateway.stage import ACME, HEAD, OLD, Stage, alias, stage, table, until

PART = 2**16
PARTS = 2000
MOST = 4 * 2**20
"""Bytes that a connection may take in this process, which plays client and server too."""
SOCKETS = 24 * 2**20
"""Most bytes that the kernel keeps of unread connections, before and behind us."""


@pytest.mark.usefixtures("serving_loop", "traced")
def test_a_stream_that_its_client_does_not_read_is_read_no_further(tmp_path: Path) -> None:
    sent = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        nonlocal sent
        await asked(reader)
        writer.write(HEAD % b"text/event-stream")
        event = b"data: " + b"x" * (PART - 8) + b"\n\n"
        for _ in range(PARTS):
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
            sent += PART

    async def scenario(ours: Stage) -> None:
        async with connected(ours) as (_, writer):
            writer.write(post(raw("hello", stream=True)))
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            await until(ours, 1)
            kept = await settled(ours, lambda: sent)
            assert kept < SOCKETS < PART * PARTS
            assert tracemalloc.get_traced_memory()[1] - before < MOST
        await until(ours, 0)

    on(tmp_path, script, scenario)


@pytest.mark.usefixtures("serving_loop", "traced")
def test_answers_to_requests_sent_ahead_are_made_no_faster_than_they_are_read(
    tmp_path: Path,
) -> None:
    count = 400
    page = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n\r\n" % ACME.encode()

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            entries = {f"acme-t{each}": alias("acme", (OLD, 100, ("s1",))) for each in range(200)}
            given = table(ours.servers, revision=2)
            await ours.gateways.publish(given.model_copy(update={"aliases": entries}))
            length = len((await ours.send(path="/v1/models", method="GET")).body)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            async with connected(ours) as (reader, writer):
                writer.write(page * count)
                await settled(ours, lambda: tracemalloc.get_traced_memory()[0] // 2**18)
                assert tracemalloc.get_traced_memory()[1] - before < MOST < length * count
                for _ in range(count):
                    head = await reader.readuntil(b"\r\n\r\n")
                    assert head.startswith(b"HTTP/1.1 200")
                    assert len(await reader.readexactly(length)) == length

    asyncio.run(scenario())


@pytest.mark.usefixtures("serving_loop", "traced")
def test_a_body_that_its_server_does_not_read_is_in_memory_twice_at_most(tmp_path: Path) -> None:
    large = 12_000_000

    async def script(reader: asyncio.StreamReader, _: asyncio.StreamWriter, __: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.Event().wait()

    async def scenario(ours: Stage) -> None:
        request = post(raw("x" * large))
        before = tracemalloc.get_traced_memory()[0]
        async with connected(ours) as (_, writer):
            writer.write(request)
            await until(ours, 1)
            await settled(ours, lambda: tracemalloc.get_traced_memory()[0] // 2**18)
            assert tracemalloc.get_traced_memory()[0] - before < 2.5 * large
        await until(ours, 0)

    on(tmp_path, script, scenario)


@pytest.mark.usefixtures("serving_loop")
def test_answers_that_nobody_reads_have_half_of_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = 12 * 2**20
    monkeypatch.setattr(state, "REQUEST_BYTES", 5 * large)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while True:
            await asked(reader)
            writer.write(told("x" * large))
            await writer.drain()

    async def scenario(ours: Stage) -> None:
        async with AsyncExitStack() as stack:
            ends = [await stack.enter_async_context(connected(ours)) for _ in range(6)]
            for number, (_, writer) in enumerate(ends, 1):
                writer.write(post(raw()))
                async with asyncio.timeout(60):
                    while len(ours.rows()) < number:  # noqa: ASYNC110 (written to a file)
                        await asyncio.sleep(0)
            whole = 0
            for reader, _ in ends:
                with suppress(ConnectionError, asyncio.IncompleteReadError):
                    status, body = await answered(reader)
                    whole += status == 200 and len(body) > large
            assert 2 <= whole < len(ends)

    on(tmp_path, script, scenario)
