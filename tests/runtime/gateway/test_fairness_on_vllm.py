"""A batch client floods a real vLLM, of which nothing is declared."""

import asyncio
from pathlib import Path

import pytest

from runtime.engines.vllm_api import ServerMetrics, parse_metrics
from runtime.gateway.traffic.probes import LOAD_PATH
from tests.runtime.gateway.live import AT_ONCE, CORVID, Served, in_front
from tests.runtime.gateway.stage import Stage, long

pytestmark = [pytest.mark.live, pytest.mark.long, pytest.mark.usefixtures("serving_loop")]
SIZE = 12 * AT_ONCE


def test_it_tells_what_is_asked_of_its_load_and_nothing_else(vllm: Served, tmp_path: Path) -> None:
    async def scenario(ours: Stage) -> None:
        async with ours.http.get(vllm.url + LOAD_PATH) as reply:
            page = await reply.read()
        found = parse_metrics(page.decode())
        assert found == ServerMetrics(running=0, waiting=0, tokens=found.tokens)
        assert isinstance(found.tokens, int)
        assert page.count(b"# TYPE") == 4

    in_front(vllm, tmp_path / ".fleetctl", scenario)


def test_a_batch_client_cannot_starve_a_real_time_one(vllm: Served, tmp_path: Path) -> None:
    async def scenario(ours: Stage) -> None:
        batch = [asyncio.create_task(ours.send(long(40 + n % 40))) for n in range(SIZE)]
        async with asyncio.timeout(60):
            while (await ours.gateways.statuses())[0].waiting < SIZE // 2:  # noqa: ASYNC110 (over HTTP)
                await asyncio.sleep(0)
        before = sum(each.done() for each in batch)
        for _ in range(2):
            reply = await ours.send(long(4, model="corvid-dates"), secret=CORVID)
            assert reply.status == 200
            after = sum(each.done() for each in batch)
            assert after - before <= 3 * AT_ONCE  # not after all that had come before it
            before = after
        for each in batch:
            each.cancel()

    in_front(vllm, tmp_path / ".fleetctl", scenario)
