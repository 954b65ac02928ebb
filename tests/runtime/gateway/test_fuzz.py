"""Damaged requests: no defect of ours shows, and nothing reaches a server under a wrong name.

FUZZ_REQUESTS=100000 FUZZ_SEED=7 .venv/bin/python -m pytest tests/runtime/gateway/test_fuzz.py
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.runtime.gateway.sockets import answered, connected, post, raw
from tests.runtime.gateway.stage import NEW, OLD, Stage, chat, stage

pytestmark = [pytest.mark.usefixtures("transport"), pytest.mark.timeout(0)]
REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "150"))
SEED = int(os.environ.get("FUZZ_SEED", "20261125"))
HEADERS = {"host", "accept", "content-type", "content-length", "x-request-id"}

SEEDS = (
    post(raw()),
    post(raw(stream=True, max_tokens=2), "X-Session-Id: a", "Connection: close"),
    post(raw().replace(b"acme-support", b"globex-dates"), "Expect: 100-continue"),
    post(b"5\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked", length=None),
    post(raw(), "Connection: Upgrade", "Upgrade: h2c") + post(raw()),
    b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n" + post(raw(), version="1.0"),
)
PIECES: tuple[bytes, ...] = (
    b"\r\n",
    b"\n",
    b"\r\n\r\n",
    b"\x00",
    b":",
    b" ",
    b'"',
    b"}",
    b"\\u0022",
    b"\xff",
    b"0",
)
PIECES += (b"globex-dates", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"tiny")


def damaged(chance: random.Random) -> bytes:
    request = bytearray(chance.choice(SEEDS))
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(request))
        match chance.randrange(4):
            case 0:
                del request[place : place + chance.randint(1, 9)]
            case 1:
                request[place:place] = chance.choice(PIECES)
            case 2:
                request[place] = chance.randrange(256)
            case _:
                request[place:place] = request[: chance.randrange(len(request))]
    return bytes(request)


@asynccontextmanager
async def warmed(
    ours: Stage,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Give a connection on which a request was answered, so that its head is known."""
    async with connected(ours) as (reader, writer):
        writer.write(post(raw()))
        assert (await answered(reader))[0] == 200
        yield reader, writer


async def outcome(
    ours: Stage, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[bytes, int]:
    """Return the status of the first answer, and how many requests reached a server."""
    before = len(ours.asked)
    writer.write(request)
    assert (await ours.send(path="/healthz", method="GET")).status == 200  # it was read by now
    for adapter in (OLD, NEW):
        while await ours.gateways.in_flight("s1", adapter):
            pass
    writer.write_eof()
    came = await reader.read()
    assert b" 500 " not in came, request
    return came.partition(b"\r\n")[0][9:12], len(ours.asked) - before


def test_damaged_requests_do_no_harm(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(SEED)  # noqa: S311 (the same requests each time)

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", new=50) as ours:
            for _ in range(REQUESTS):
                request = damaged(chance)
                async with connected(ours) as (reader, writer):
                    fresh = await outcome(ours, request, reader, writer)
                async with warmed(ours) as (reader, writer):
                    assert await outcome(ours, request, reader, writer) == fresh, request
            assert set(ours.asked) <= {OLD, NEW}
            assert all(set(each) == HEADERS for each in ours.replicas["s1"].headers)
            assert (await ours.send(chat())).status == 200

    asyncio.run(scenario())
    assert "Traceback" not in capfd.readouterr().err
