"""Counters of a real vLLM reach Prometheus by the addresses that the dashboard gives it."""

import asyncio
import math
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from tests.runtime.gateway.live import TEXTS, Served, in_front
from tests.runtime.gateway.stage import Stage, chat
from tests.runtime.web.stage import SERVER, project, reading, viewing
from tests.runtime.web.test_scraped import panels, watched

pytestmark = [pytest.mark.live, pytest.mark.long, pytest.mark.prometheus]
LONG = " ".join(TEXTS * 12)
"""Longer than a block of the KV cache: asked twice, a part of it is cached."""


async def samples(http: aiohttp.ClientSession, api: str, query: str) -> list[Any]:
    """Return the samples that are numbers; Prometheus may be starting yet."""
    try:
        async with http.get(f"{api}query?query={quote(query)}") as reply:
            answer = await reply.json()
    except aiohttp.ClientError:
        return []
    assert answer["status"] == "success", (query, answer)
    found = answer["data"]["result"]
    return [sample for sample in found if math.isfinite(float(sample["value"][1]))]


def test_every_panel_on_vllm_has_an_answer_of_the_server(vllm: Served, tmp_path: Path) -> None:
    workspace = project(tmp_path / "project")
    with viewing(workspace, reading(workspace)) as viewer:
        token = viewer.token("token")

    async def scenario(ours: Stage) -> None:
        out = tmp_path / "monitoring"
        async with watched(workspace, token, out) as api, asyncio.timeout(240):
            asked = {name: query for name, query in panels(out).items() if "vllm:" in query}
            assert len(asked) == 9
            while asked:
                assert (await ours.send(chat(text=LONG, max_tokens=3))).status == 200
                for name, query in [*asked.items()]:
                    if found := await samples(ours.http, api, query):
                        assert {sample["metric"]["server"] for sample in found} == {SERVER}
                        del asked[name]
            (up,) = await samples(ours.http, api, 'up{job="vllm"}')
            assert up["value"][1] == "1"
            (hits,) = await samples(ours.http, api, "vllm:prefix_cache_hits_total")
            assert float(hits["value"][1]) > 0

    in_front(vllm, workspace.state_dir, scenario)
