"""What a gateway keeps in memory of its clients' requests."""

import asyncio
import gc
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.gateway.sockets import Script, connected, on, post, raw
from tests.runtime.gateway.stage import Stage, until

pytestmark = pytest.mark.usefixtures("transport")
LARGE = 4_000_000


@pytest.fixture
def traced() -> Iterator[None]:
    """Count what is kept; a process that serves hardly looks for garbage in cycles."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


def silent() -> Script:
    async def script(reader: asyncio.StreamReader, _: asyncio.StreamWriter, __: int) -> None:
        while await reader.read(2**18):
            pass

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
