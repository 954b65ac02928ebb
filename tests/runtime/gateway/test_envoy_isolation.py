"""Through an Envoy, a client reaches its own aliases only, with any request."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from runtime.gateway.body.fields import DROPPED
from tests.drawn import examples
from tests.runtime.gateway.envoy_stage import envoy_stage, needs_envoy
from tests.runtime.gateway.fuzz_requests import drawn
from tests.runtime.gateway.probes import FORBIDDEN
from tests.runtime.gateway.sockets import connected
from tests.runtime.gateway.stage import NEW, OLD, TEXT, chat

pytestmark = needs_envoy
STRANGER = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer of-nobody\r\n"
    b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
)
"""A request of its own, as what is drawn depends on the modules that are loaded."""


def test_fields_that_cross_tenants_are_overwritten(tmp_path: Path) -> None:
    crossing: dict[str, Any] = dict.fromkeys(DROPPED, 7)

    async def scenario() -> None:
        async with envoy_stage(tmp_path) as ours:
            assert (await ours.send(chat(**crossing, temperature=0.5, stop=[]))).status == 200
            (sent,) = ours.replicas["s1"].bodies
            read = json.loads(sent)
            assert 7 not in read.values()
            assert (read["model"], read["cache_salt"], read["priority"]) == (OLD, "acme", 0)
            assert (read["temperature"], read["stop"]) == (0.5, [])
            refused = {"model": "acme-support", "prompt": "x", "echo": True, "logprobs": 0}
            for echo in (True, 1, "yes"):
                assert (await ours.send(refused | {"echo": echo}, path=TEXT)).status == 400
            for number in (17, 1e9, "99", -1, 0, True, [1]):
                assert (await ours.send(chat(n=number))).status == 400, number
            assert (await ours.send(chat(n=16))).status == 200
            for fine in ({"echo": False}, {"logprobs": None}):
                assert (await ours.send(refused | fine, path=TEXT)).status == 200
            kind = {"Content-Type": "application/json; charset=utf-8"}
            assert (await ours.send(chat(), headers=kind)).status == 200

    asyncio.run(scenario())


@pytest.mark.drawn
def test_damaged_requests_do_no_harm(tmp_path: Path) -> None:
    requests = [*drawn(examples(150, 400)), STRANGER]

    async def scenario() -> None:
        async with envoy_stage(tmp_path, new=50) as ours:
            at_once = asyncio.Semaphore(64)

            async def came_back(request: bytes) -> bytes:
                came = bytearray()

                async def read(reader: asyncio.StreamReader) -> None:
                    with suppress(OSError):  # Envoy ends a connection a second after its answer
                        while data := await reader.read(2**16):
                            came.extend(data)

                async with at_once, connected(ours) as (reader, writer):
                    reading = asyncio.create_task(read(reader))
                    writer.write(request)
                    for _ in range(2):  # what was sent before this has been read and answered
                        assert (await ours.send(chat(max_tokens=1))).status == 200
                    with suppress(OSError):  # it has been ended on the other side
                        writer.write_eof()  # many do not say where they end
                    await reading
                return bytes(came)

            answers = await asyncio.gather(*map(came_back, requests))
            assert ours.process.returncode is None
            assert set(ours.asked) == {OLD, NEW}
            said = b"".join((*answers, *(await ours.shown()).values()))
            assert [word for word in FORBIDDEN if word in said] == []
            assert {answer[9:12] for answer in answers} >= {b"200", b"400", b"401", b"404"}

    asyncio.run(scenario())
