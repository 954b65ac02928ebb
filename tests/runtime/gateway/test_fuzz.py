"""Damaged requests: no defect of ours shows, and nothing reaches a server under a wrong name."""

import asyncio
import json
import random
from pathlib import Path

import pytest

from tests.runtime.gateway.sockets import connected, post, raw
from tests.runtime.gateway.stage import NEW, OLD, chat, stage

pytestmark = pytest.mark.usefixtures("transport")

SEEDS = (
    post(raw()),
    post(raw(stream=True, max_tokens=2), "X-Session-Id: a", "Connection: close"),
    post(json.dumps(chat("globex-dates")).encode(), "Expect: 100-continue"),
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


def test_damaged_requests_do_no_harm(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(20_261_125)  # noqa: S311 (the same requests each time)

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", new=50) as ours:
            for _ in range(400):
                async with connected(ours) as (reader, writer):
                    writer.write(damaged(chance))
                    writer.write_eof()
                    assert b" 500 " not in await reader.read()
            assert set(ours.asked) <= {OLD, NEW}
            assert (await ours.send(chat())).status == 200
            assert await ours.gateways.in_flight("s1", OLD) == 0
            assert await ours.gateways.in_flight("s1", NEW) == 0

    asyncio.run(scenario())
    assert "Traceback" not in capfd.readouterr().err
