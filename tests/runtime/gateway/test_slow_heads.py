"""Clients that send a head slowly, or half a head: only `protocol` has a clock for them."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.gateway.http import timeouts
from tests.runtime.gateway.sockets import answered, connected, post, raw
from tests.runtime.gateway.stage import stage


def test_a_head_that_does_not_arrive_ends_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeouts, "HEAD_S", 0.5)
    monkeypatch.setattr(timeouts, "SWEEP_S", 0.05)

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, connected(ours) as (reader, writer):
            writer.write(post(raw()))
            assert (await answered(reader))[0] == 200
            writer.write(post(raw())[:40])
            with suppress(ConnectionError):
                assert await reader.read() == b""
            async with connected(ours) as (again, sending):  # a body has longer
                sending.write(post(raw())[:-1])
                await asyncio.sleep(0)
                assert (await ours.send(path="/healthz", method="GET")).status == 200
                sending.write(post(raw())[-1:])
                assert (await answered(again))[0] == 200

    asyncio.run(scenario())
