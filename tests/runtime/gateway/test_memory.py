"""The memory that a gateway keeps for its clients' requests."""

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime.gateway.http.pool import ConnectionPool
from runtime.gateway.http.request_reader import RequestReader
from runtime.gateway.http.server import ClientConnection
from runtime.gateway.http.upstream import UpstreamConnection
from runtime.gateway.request import state
from runtime.gateway.traffic.accounting import UsageCounters, UsageWriter
from runtime.usage.log import UsageLog
from tests.ports import free_port
from tests.runtime.gateway.sockets import Script, answered, asked, connected, on, post, raw, told
from tests.runtime.gateway.stage import GLOBEX, Stage, chat, until

pytestmark = pytest.mark.usefixtures("serving_loop")
LARGE = 4_000_000


def silent() -> Script:
    async def script(reader: asyncio.StreamReader, _: asyncio.StreamWriter, __: int) -> None:
        at_end = False
        while not at_end:  # reads all, answers nothing
            at_end = not await reader.read(2**18)

    return script


@pytest.mark.usefixtures("traced")
def test_requests_that_clients_leave_stay_nowhere_in_memory(tmp_path: Path) -> None:
    request = post(raw("x" * LARGE))

    async def leave(ours: Stage) -> None:
        async with connected(ours) as (_, writer):
            writer.write(request)
            await writer.drain()
            await until(ours, 1)
        await until(ours, 0)

    async def scenario(ours: Stage) -> None:
        await leave(ours)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(3):
            await leave(ours)
        after, _ = tracemalloc.get_traced_memory()
        assert after - before < LARGE / 2

    on(tmp_path, silent(), scenario)


@pytest.mark.usefixtures("traced")
def test_a_connection_that_has_ended_leaves_no_cycle(tmp_path: Path) -> None:
    """A new routing table would keep the garbage that is there at that moment for good."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while True:
            await asked(reader)
            writer.write(told("well"))

    def left() -> int:
        kinds = (ClientConnection, RequestReader)
        return sum(isinstance(found, kinds) for found in gc.get_objects())

    async def scenario(ours: Stage) -> None:
        for _ in range(3):
            async with connected(ours) as (reader, writer):
                writer.write(post(raw("hello")))
                assert (await answered(reader))[0] == 200
                writer.write(post(raw("hello"), key="wrong"))
                assert (await answered(reader))[0] == 401
        async with asyncio.timeout(60):
            while left():  # noqa: ASYNC110 (nothing tells when an object goes)
                await asyncio.sleep(0)

    on(tmp_path, script, scenario)


@pytest.mark.usefixtures("traced")
def test_a_connection_to_a_server_that_has_ended_leaves_no_cycle(tmp_path: Path) -> None:
    """Servers are asked for their health every two seconds, on a new connection."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        await asked(reader)
        writer.write(told("well"))

    def left() -> int:
        return sum(isinstance(found, UpstreamConnection) for found in gc.get_objects())

    async def scenario(ours: Stage) -> None:
        (url,) = ours.servers.values()
        with UsageLog(tmp_path / "probes.jsonl") as log:
            loop = asyncio.get_running_loop()
            pool = ConnectionPool(loop, UsageWriter(log, UsageCounters()), lambda _, __: True)
            before = left()
            for _ in range(3):
                assert (await pool.get(url, "/health", 60))[0] == 200
                with pytest.raises(OSError, match="refused"):
                    await pool.get(f"http://127.0.0.1:{free_port()}", "/health", 60)
            async with asyncio.timeout(60):
                while left() > before:  # noqa: ASYNC110 (nothing tells when an object goes)
                    await asyncio.sleep(0)
            pool.close()

    on(tmp_path, script, scenario)


def test_bodies_have_so_much_room_and_one_client_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "REQUEST_BYTES", 1_000_000)
    large = "x" * 300_000

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, n: int) -> None:
        while True:
            await asked(reader)
            if n > 1:
                writer.write(told("well"))

    async def scenario(ours: Stage) -> None:
        async with connected(ours) as (_, working), connected(ours) as (reader, writer):
            working.write(post(raw(large)))
            await until(ours, 1)
            writer.write(post(b"", length="300000"))
            assert await answered(reader) == (503, (await ours.send(chat(text=large))).body)
            reply = await ours.send(_in_parts(raw(large)))
            assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
            assert reply.json["error"]["code"] == "overloaded"
            assert (await ours.send(chat())).status == 200
            assert (await ours.send(chat("globex-dates", text=large), secret=GLOBEX)).status == 200
            tight = await ours.send(chat("globex-dates", text=2 * large), secret=GLOBEX)
            assert tight.status == 503
        await until(ours, 0)
        for _ in range(4):
            assert (await ours.send(chat(text=large))).status == 200
            assert (await ours.send(_in_parts(raw(large)))).status == 200
        assert [row["status"] for row in ours.rows()].count(503) == 4

    on(tmp_path, script, scenario)


async def _in_parts(body: bytes) -> AsyncIterator[bytes]:
    """Give a body whose length is not told before."""
    for start in range(0, len(body), 50_000):
        yield body[start : start + 50_000]
